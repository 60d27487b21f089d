//! What `serin analyze --record` writes down of a gateway under load is what `serin analyze` then judges.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::apps::{self, HOST, pods, rollout_until, served_percent};
use crate::support::{Platform, Visitors};

/// Of v2, the share of requests that fail.
const BAD: &str = "0.2";

/// Records the route for some seconds.
async fn recorded(platform: &Platform, name: &str) -> PathBuf {
    let record = [
        "analyze",
        "--record",
        "httproute/shop",
        "--every",
        "1s",
        "--for",
        "4s",
    ];
    let lines = platform.serin(&record).await;
    let file = platform.dir().join(name);
    std::fs::write(&file, lines).unwrap();
    file
}

/// The exit code of `serin analyze`, and what it says of the questions that it asks of itself.
async fn judged(platform: &Platform, file: &Path) -> (Option<i32>, Value) {
    let file = file.to_str().unwrap();
    let analyze = ["analyze", file, "--min-requests", "50", "-o", "json"];
    let told = platform.try_serin(&analyze).await;
    (told.code, serde_json::from_str(&told.stdout).unwrap())
}

fn verdicts(told: &Value) -> Vec<&str> {
    let answers = told["answers"].as_array().unwrap().iter();
    answers.map(|a| a["verdict"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_recording_of_the_gateway_is_judged_like_the_release_itself() {
    let manifest = |version: &str, rate: &str| {
        let steps = json!([{"setWeight": 50}, {"pause": {}}]);
        apps::rollout(pods(version, &[("ERROR_RATE", rate)]), steps)
    };
    let platform = apps::started(&manifest("v1", "0")).await;
    let visitors = Visitors::start(platform.gateway().await, HOST);
    visitors.await_more(200).await;
    let alone = recorded(&platform, "alone.jsonl").await;
    let (code, told) = judged(&platform, &alone).await;
    assert_eq!(code, Some(0), "{told:#}");
    assert!(!verdicts(&told).contains(&"bad"), "{told:#}");

    platform.apply(&manifest("v2", BAD)).await;
    let paused = rollout_until(&platform, "the pause", |s| {
        s.controller_pause && served_percent(s) == Some(50)
    })
    .await;
    let both = recorded(&platform, "both.jsonl").await;
    let (code, told) = judged(&platform, &both).await;
    println!("{told:#}");
    assert_eq!(code, Some(2), "{told:#}");
    // It is found by itself which one is on trial.
    assert_eq!(told["canary"].as_str(), paused.current_pod_hash.as_deref());
    assert_eq!(told["stable"].as_str(), paused.stable_rs.as_deref());
    assert_eq!(verdicts(&told)[0], "bad", "more than 1 % errors");
    let last = told["answers"][0]["looks"].as_array().unwrap().last();
    let (canary, stable) = (&last.unwrap()["canary"], &last.unwrap()["stable"]);
    assert_eq!(stable["events"], 0, "{told:#}");
    assert!(canary["events"].as_u64() > Some(0), "{told:#}");

    // Both files after each other are a longer recording: spans may be joined.
    let joined = platform.dir().join("joined.jsonl");
    let texts = [&alone, &both].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&joined, texts.concat()).unwrap();
    let (code, _) = judged(&platform, &joined).await;
    assert_eq!(code, Some(2));
    platform.serin(&["rollout", "abort", "shop"]).await;
    visitors.stop().await;
}
