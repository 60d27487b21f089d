//! A state file that is not what it should be: it is refused or repaired, never believed; and what runs, runs on.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::apps::{self, HOST, pods};
use crate::load::Load;
use crate::processes::{kill_control_plane, lives, pid_in};
use crate::support::{Platform, get, poll};

/// Ends the control plane as Ctrl-C does; the state file is whole then.
async fn stop_control_plane(platform: &Platform) {
    let pid = pid_in(platform, "serin.json", "pid").await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    poll("the end of the control plane", async || {
        (!lives(pid)).then_some(())
    })
    .await;
}

fn state_db(platform: &Platform) -> PathBuf {
    platform.home().join("state.db")
}

fn content(home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let names = ["state.db", "state.db-wal"].map(|name| home.join(name));
    let read = |path: PathBuf| Some((path.clone(), std::fs::read(path).ok()?));
    names.into_iter().filter_map(read).collect()
}

/// Starts, which must be refused for the state file; nothing else may change by it.
async fn refused(platform: &Platform, what: &str) -> String {
    let before = content(&platform.home());
    let processes = platform.processes();
    let free = "127.0.0.1:0";
    let told = platform
        .try_serin(&["up", "--detach", "--listen", free, "--gateway-listen", free])
        .await;
    assert_eq!(told.code, Some(74), "{what}: {told:?}");
    let path = state_db(platform);
    assert!(
        told.stderr.contains(path.to_str().unwrap()),
        "{what}: {told:?}"
    );
    let remedies = ["put back a copy", "move this file away"];
    assert!(
        remedies.iter().any(|remedy| told.stderr.contains(remedy)),
        "{what}: {told:?}"
    );
    assert_eq!(
        platform.processes(),
        processes,
        "{what}: what runs, runs on"
    );
    let gateway = platform.gateway().await;
    assert_eq!(
        get(gateway, HOST, "/").await.unwrap().version(),
        "v1",
        "{what}"
    );
    assert!(
        content(&platform.home()) == before,
        "{what}: the files are as they were"
    );
    println!("{what}: {}", told.stderr.trim());
    told.stderr
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_and_nothing_is_lost() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    stop_control_plane(&platform).await;
    let path = state_db(&platform);
    let whole = std::fs::read(&path).unwrap();
    assert!(
        content(&platform.home()).len() == 1,
        "an ended control plane leaves one file"
    );
    let half = whole.len() / 2;
    let mut garbage = whole.clone();
    garbage[..64].fill(0x55);
    let mut zeroed = whole.clone();
    zeroed[half..half + 8192].fill(0);
    let cases = [
        ("empty", Vec::new()),
        ("truncated", whole[..half].to_vec()),
        ("truncated in its header", whole[..10].to_vec()),
        ("a garbage header", garbage),
        ("zeroes in the middle", zeroed),
        ("another file", b"these are my notes\n".repeat(100)),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        refused(&platform, what).await;
    }
    std::fs::write(&path, whole).unwrap();
    platform.up(&[]).await;
    apps::healthy(&platform).await;
}

/// The places of a text in the file: the object's own row, the recent changes, and what is left of earlier states.
fn places(bytes: &[u8], text: &str) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    let found: Vec<_> = windows
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty(), "{text} is not in the file");
    found
}

/// Starts on whatever stands in the file, which may be refused for the state file alone.
async fn up_or_refused(platform: &Platform, what: &str) -> bool {
    let free = "127.0.0.1:0";
    let arguments = ["up", "--detach", "--listen", free, "--gateway-listen", free];
    let told = platform.try_serin(&arguments).await;
    println!("{what}: exit code {:?} {}", told.code, told.stderr.trim());
    assert!([Some(0), Some(74)].contains(&told.code), "{what}: {told:?}");
    told.code == Some(0)
}

#[tokio::test]
async fn a_flipped_bit_in_an_object_is_never_believed() {
    let platform = Platform::start(&[]).await;
    let rate = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: rate}\ndata: {percent: is-it-10-or-11}\n";
    platform.apply(rate).await;
    stop_control_plane(&platform).await;
    let path = state_db(&platform);
    let whole = std::fs::read(&path).unwrap();
    let head_file = platform.home().join("state.db-head");
    let head = std::fs::read(&head_file).unwrap();
    let places = places(&whole, "is-it-10-or-11");
    let mut cases: Vec<_> = places.iter().map(|place| vec![*place]).collect();
    cases.push(places);
    for flipped in cases {
        let mut bytes = whole.clone();
        for place in &flipped {
            bytes[place + 7] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(&head_file, &head).unwrap();
        if !up_or_refused(&platform, &format!("a bit flipped at {flipped:?}")).await {
            continue;
        }
        let arguments = ["get", "configmap", "rate", "-o", "json"];
        let value = platform.try_serin(&arguments).await;
        let is_right = value.stdout.contains("is-it-10-or-11");
        let is_refused = flipped.len() > 1 && value.code == Some(1);
        assert!(is_right || is_refused, "{flipped:?}: {value:?}");
        stop_control_plane(&platform).await;
    }
}

#[tokio::test]
async fn instances_of_an_object_that_cannot_be_read_run_on() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    let before = platform.serin(&["get", "pods", "-o", "name"]).await;
    stop_control_plane(&platform).await;
    // The first byte of the ReplicaSet's own JSON, wherever it stands, so that it is none any more.
    let path = state_db(&platform);
    let mut bytes = std::fs::read(&path).unwrap();
    let json = "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\"";
    for place in places(&bytes, json) {
        bytes[place] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let load = Load::start(&platform).await;
    let starts = up_or_refused(&platform, "a ReplicaSet that is no JSON").await;
    assert!(starts, "one object is no reason to refuse all others");
    apps::healthy(&platform).await;
    Load::during(&platform, "2s").await.assert_nothing_lost();
    let now = platform.serin(&["get", "pods", "-o", "name"]).await;
    for pod in before.lines() {
        assert!(now.contains(pod), "{pod} is gone: {now}");
    }
    load.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let platform = Platform::start(&[]).await;
    for n in 0..5 {
        let name = format!("kept-{n}");
        let object = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        platform.apply(&object).await;
        kill_control_plane(&platform).await;
        platform.up(&[]).await;
        platform.serin(&["get", "configmap", &name]).await;
    }
}

#[tokio::test]
async fn a_killed_control_plane_never_forgets_in_silence() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    let backup = platform.home().join("backup");
    for n in 0..5 {
        if n == 3 {
            platform.serin(&["backup", backup.to_str().unwrap()]).await;
        }
        let name = format!("kept-{n}");
        platform
            .apply(&format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n"
            ))
            .await;
    }
    kill_control_plane(&platform).await;
    let log = platform.home().join("state.db-wal");
    let whole_log = std::fs::read(&log).unwrap();
    let len = whole_log.len();
    // In the header, in the first frame, in the middle and in the last page: SQLite takes each for the end of the log.
    for place in [9, 40, len / 2, len - 7] {
        let mut flipped = whole_log.clone();
        flipped[place] ^= 1;
        std::fs::write(&log, flipped).unwrap();
        let told = refused(&platform, &format!("a bit flipped at {place} of {len}")).await;
        assert!(told.contains("has lost acknowledged writes"), "{told}");
    }
    for cut in [0, len / 2, len - 1] {
        std::fs::write(&log, &whole_log[..cut]).unwrap();
        refused(&platform, &format!("cut to {cut} of {len}")).await;
    }
    // A backup brings the objects back, with the instances that ran all the while.
    platform.serin(&["restore", backup.to_str().unwrap()]).await;
    platform.up(&[]).await;
    for n in 0..5 {
        let kept = platform
            .try_serin(&["get", "configmap", &format!("kept-{n}")])
            .await;
        assert_eq!(kept.code == Some(0), n < 3, "{kept:?}");
    }
    apps::healthy(&platform).await;
}

#[tokio::test]
async fn a_damaged_head_is_mended() {
    let platform = Platform::start(&[]).await;
    platform
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\n")
        .await;
    kill_control_plane(&platform).await;
    let head = platform.home().join("state.db-head");
    let whole_head = std::fs::read(&head).unwrap();
    // Damage to the head alone is mended: the state file is whole.
    std::fs::write(&head, &whole_head[..5]).unwrap();
    platform.up(&[]).await;
    platform.serin(&["get", "configmap", "kept"]).await;
}
