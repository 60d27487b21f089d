//! A server that is killed at each point of each write has kept what it acknowledged, and at most the one write under way.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::process::Command;

use super::*;
use crate::waiting::soon;

const POINT: &str = "SERIN_TEST_CRASH_POINT";
const PASS: &str = "SERIN_TEST_CRASH_PASS";
const STATE: &str = "SERIN_TEST_CRASH_STATE";
const OPERATIONS: usize = 9;
const ACKNOWLEDGED: &str = "acknowledged";

/// The points in order, and whether a write that came so far is on disk.
const POINTS: [(&str, bool); 5] = [
    ("before the transaction", false),
    ("before the commit", false),
    ("after the commit", true),
    ("after the head", true),
    ("before the answer", true),
];

/// Called at every point: ends the process at the one and the time that the environment names.
pub(in crate::store) fn pass(name: &str) {
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    if std::env::var(POINT).is_ok_and(|point| point == name) {
        let passed = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
        if std::env::var(PASS).is_ok_and(|pass| pass == passed.to_string()) {
            std::process::abort();
        }
    }
}

/// Three objects are made, changed and removed in turn.
fn operation(n: usize) -> (String, Option<String>) {
    let name = format!("n{}", n % 3);
    (name, (n % 4 != 3).then(|| n.to_string()))
}

/// What is there after the first `count` operations.
fn model(count: usize) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    for (name, text) in (0..count).map(operation) {
        match text {
            Some(text) => objects.insert(name, text),
            None => objects.remove(&name),
        };
    }
    objects
}

fn objects(store: &Store) -> BTreeMap<String, String> {
    let page = store.shared().list("/configmaps/", None);
    let text = |r: &Record| r.value()["data"]["text"].as_str().unwrap().to_owned();
    page.records
        .iter()
        .map(|r| (r.key.name().to_owned(), text(r)))
        .collect()
}

async fn carry_out(store: &Store, n: usize) {
    let (name, text) = operation(n);
    let version = store.get(&key(&name)).map(|record| record.rv);
    let write = match (text, version) {
        (Some(text), None) => put(&name, Expect::Absent, &text),
        (Some(text), Some(rv)) => put(&name, Expect::Version(rv), &text),
        (None, Some(rv)) => remove(&name, rv),
        (None, None) => unreachable!("only what is there is removed"),
    };
    store.write(write).await.unwrap();
}

#[tokio::test]
#[ignore = "run by the test below in a process of its own, which it ends"]
async fn the_killed_one() {
    let store = Store::open(std::env::var(STATE).unwrap().as_ref()).unwrap();
    for n in 0..OPERATIONS {
        carry_out(&store, n).await;
        writeln!(std::io::stdout(), "{ACKNOWLEDGED} {n}").unwrap();
    }
}

/// Runs the operations in a process that is ended at this pass of this point; how many it acknowledged, and whether it
/// lived to the end.
async fn run(path: &Path, point: &str, pass: usize) -> (usize, bool) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::the_killed_one"])
        .args(["--ignored", "--nocapture"])
        .env(POINT, point)
        .env(PASS, pass.to_string())
        .env(STATE, path)
        .kill_on_drop(true)
        .output();
    let output = soon("the end of the process", output).await;
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let acknowledged = told.lines().filter(|l| l.contains(ACKNOWLEDGED)).count();
    (acknowledged, output.status.success())
}

#[tokio::test]
async fn a_kill_at_any_point_of_any_write_keeps_what_was_acknowledged() {
    for (point, on_disk) in POINTS {
        let mut kills = 0;
        for pass in 1.. {
            let (_dir, path) = state_file();
            let (acknowledged, ended) = run(&path, point, pass).await;
            if ended {
                assert_eq!(acknowledged, OPERATIONS);
                break;
            }
            kills += 1;
            let store = Store::open(&path).unwrap();
            // The first pass is that of the namespaces, before any operation.
            let under_way = usize::from(on_disk && pass > 1);
            let expected = model(acknowledged + under_way);
            assert_eq!(objects(&store), expected, "{point}, pass {pass}");
            store.write(put("next", Expect::Absent, "1")).await.unwrap();
        }
        assert_eq!(kills, 1 + OPERATIONS, "{point}");
    }
}
