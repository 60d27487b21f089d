//! The demo as a person runs it: real processes, real requests. What it counted is checked here, what it timed is not.

#![expect(clippy::panic, reason = "a test ends at what it did not expect")]

mod support;

use std::process::{Command, Stdio};

use serde_json::Value;

async fn demo(arguments: &[&str]) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    let told = support::run(command).await;
    let facts = serde_json::from_str(&told.stdout);
    (
        facts.unwrap_or_else(|error| panic!("{error}: {told:?}")),
        told.stderr,
    )
}

#[tokio::test]
async fn no_request_is_lost_in_four_releases() {
    let (facts, told) = demo(&[
        "--json", "--speed", "2", "--steps", "20,100", "--rate", "150",
    ])
    .await;
    assert_eq!(facts["lost"], 0, "{}\n{told}", facts["losses"]);
    let outcomes: Vec<_> = facts["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| {
            (
                release["version"].as_str().unwrap(),
                release["aborted"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [("v2", false), ("v3", true), ("v2", false), ("v1", false)],
        "{told}"
    );
    assert!(facts["requests"].as_u64().unwrap() > 1_000);
    assert!(facts["takenBack"]["errors"].as_u64().unwrap() > 0);
}
