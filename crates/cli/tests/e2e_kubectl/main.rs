//! The matrix of kubectl: every command of `data/kubectl/matrix.txt` with every kubectl that this machine has, against the real
//! binary with real pods. `UPDATE_EXPECT=1` writes the matrix and its page in the documentation anew.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends at what it did not expect; its modules are its own"
)]

mod mask;
mod page;
mod scripts;
#[path = "../support/mod.rs"]
mod support;
mod transcript;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use mask::Mask;
use serde_json::Value;
use support::{Platform, program, run, skip};
use transcript::Transcript;

/// Platforms at one time.
const AT_ONCE: usize = 4;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubectl")
}

fn page_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubectl.md")
}

fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1")
}

/// Every kubectl of this machine by its version: those beside the one of the PATH that have their version in their names, or that one.
async fn installed() -> BTreeMap<String, PathBuf> {
    let Some(kubectl) = program("kubectl") else {
        return BTreeMap::new();
    };
    let beside = fs::canonicalize(&kubectl).unwrap();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(beside.parent().unwrap()).unwrap().flatten() {
        let name = entry.file_name();
        if let Some(version) = name.to_str().and_then(|name| name.strip_prefix("kubectl."))
            && version.starts_with("1.")
        {
            found.insert(version.to_owned(), entry.path());
        }
    }
    if found.is_empty() {
        let mut command = std::process::Command::new(&kubectl);
        command.args(["version", "--client", "-o", "json"]);
        let told: Value = serde_json::from_str(&run(command).await.stdout).unwrap();
        let part = |name| told["clientVersion"][name].as_str().unwrap().to_owned();
        let version = format!("{}.{}", part("major"), part("minor"));
        found.insert(version.trim_end_matches('+').to_owned(), kubectl);
    }
    found
}

/// The PATH of commands for which `kubectl` is a certain one.
fn path_with(platform: &Platform, kubectl: &Path) -> String {
    let bin = platform.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(kubectl, bin.join("kubectl")).unwrap();
    format!("{}:{}", bin.display(), support::search_path())
}

/// What every command of the transcript tells with one kubectl, on a platform of its own.
async fn ask(transcript: &Transcript, kubectl: &Path) -> Vec<String> {
    let platform = Platform::new();
    let arguments = ["up", "--detach", "--listen", "127.0.0.1:0", "--no-gateway"];
    platform.serin(&arguments).await;
    let path = path_with(&platform, kubectl);
    let mask = Mask::new();
    let mut told = Vec::new();
    for entry in transcript.entries() {
        let mut command = platform.command("sh", &["-c", &format!("{} 2>&1", entry.command)]);
        if entry.command.contains('|') {
            command = platform.command("sh", &["-c", &entry.command]);
        }
        command.env("PATH", &path).current_dir(data());
        let answer = run(command).await;
        let mut text = mask.apply(&(answer.stdout + &answer.stderr));
        if answer.code != Some(0) {
            text += &format!("exit code {}\n", answer.code.unwrap());
        }
        told.push(text);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_with_every_kubectl() {
    let found = installed().await;
    if found.is_empty() {
        return skip("the matrix of kubectl", "kubectl is not on the PATH");
    }
    let path = data().join("matrix.txt");
    let mut transcript = Transcript::parse(&fs::read_to_string(&path).unwrap());
    let known = found
        .iter()
        .filter(|(version, _)| updating() || transcript.versions.contains(version));
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        let why = format!("kubectl {} is not in the matrix", names.join(", "));
        return skip("the matrix of kubectl", &why);
    }
    let asked = transcript.clone();
    let answers: Vec<_> = stream::iter(known)
        .map(async |(version, kubectl)| (version.clone(), ask(&asked, kubectl).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    if updating() {
        transcript.versions = found.keys().cloned().collect();
    }
    let before = transcript.render();
    for (version, told) in answers {
        let entries = transcript.sections.iter_mut().flat_map(|s| &mut s.entries);
        for (entry, told) in entries.zip(told) {
            entry.told.insert(version.clone(), told);
        }
    }
    let now = transcript.render();
    if updating() {
        fs::write(&path, now).unwrap();
        fs::write(page_path(), page::render(&transcript)).unwrap();
    } else if now != before {
        panic!(
            "commands tell something else than the matrix says:\n{}",
            difference(&before, &now)
        );
    }
}

/// The lines that are in one text alone.
fn difference(before: &str, now: &str) -> String {
    let mut told = String::new();
    let (before, now): (Vec<_>, Vec<_>) =
        (before.split("\n$ ").collect(), now.split("\n$ ").collect());
    for (before, now) in before.iter().zip(&now).filter(|(a, b)| a != b) {
        told += &format!("--- the matrix\n$ {before}\n--- now\n$ {now}\n");
    }
    told
}

#[test]
fn the_page_tells_what_the_matrix_says() {
    let text = fs::read_to_string(data().join("matrix.txt")).unwrap();
    let transcript = Transcript::parse(&text);
    assert_eq!(Transcript::parse(&transcript.render()), transcript);
    // The other test writes it.
    if !updating() {
        let page = page::render(&transcript);
        let kept = fs::read_to_string(page_path()).unwrap();
        assert!(
            kept == page,
            "docs/kubectl.md is stale: run with UPDATE_EXPECT=1"
        );
    }
}
