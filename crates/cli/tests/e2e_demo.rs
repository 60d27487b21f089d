//! The demo as a person runs it: real processes, real requests. What it counted is checked here, what it timed is not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]

mod support;

use serde_json::Value;

use support::{Platform, run};

async fn demo(arguments: &[&str]) -> (Value, String) {
    // It makes its platform in here, which ends with this value should the demo not come to it.
    let place = Platform::new();
    std::fs::create_dir(place.home()).unwrap();
    let mut command = place.command(env!("CARGO_BIN_EXE_serin"), &["demo"]);
    command.args(arguments).env("TMPDIR", place.home());
    let told = run(command).await;
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
