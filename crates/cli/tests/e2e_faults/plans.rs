//! What is foretold of a release, and what it then is: batches with a gate in between.

use serde_json::{Value, json};

use crate::apps::{self, pods, rollout_until};

const POLICY: &str = "\n---\n{apiVersion: serin.dev/v1alpha1, kind: ReleasePolicy, metadata: {name: batches}, \
    spec: {selector: {}, batches: {size: 1}, gates: [{name: half-way, before: step, step: 2}]}}";

/// A Rollout that is updated in two batches.
fn manifest(version: &str) -> String {
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "annotations": {"serin.dev/release-group": "all"}},
        "spec": {
            "replicas": apps::REPLICAS, "selector": {"matchLabels": {"app": "shop"}},
            "template": pods(version, &[]), "strategy": {"canary": {}},
        },
    });
    rollout.to_string() + POLICY
}

#[tokio::test]
async fn a_plan_changes_nothing_and_the_release_goes_as_foretold() {
    let platform = apps::started(&manifest("v1")).await;
    let before = platform
        .serin(&["get", "rollout", "shop", "-o", "json"])
        .await;
    let file = platform.dir().join("next.yaml");
    std::fs::write(&file, manifest("v2")).unwrap();
    let plan = ["plan", file.to_str().unwrap()];
    let told = platform.serin(&plan).await;
    println!("{told}");
    for part in [
        "batch 1 of 2",
        "batch 2 of 2",
        "gate \"half-way\"",
        "alone in release group \"all\"",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let json = platform.serin(&[plan[0], plan[1], "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let mut planned = json.as_array().unwrap().iter();
    let shop = planned.find(|entry| entry["object"] == "rollout.argoproj.io/shop");
    let release = &shop.unwrap()["release"];
    assert_eq!(release["personsAsked"], 1, "{json:#}");
    let steps = release["stages"].as_array().unwrap().iter();
    let steps: Vec<_> = steps.filter_map(|s| s["step"].as_u64()).collect();
    assert_eq!(steps, [1, 2], "{json:#}");
    let after = platform
        .serin(&["get", "rollout", "shop", "-o", "json"])
        .await;
    assert_eq!(before, after);

    platform.apply(&manifest("v2")).await;
    rollout_until(&platform, "the gate", |s| s.current_step_index == Some(1)).await;
    let tree = platform.serin(&["rollout", "get", "shop"]).await;
    println!("{tree}");
    assert!(tree.contains("Step:        1/2"), "{tree}");
    assert!(
        tree.contains("batch 2/2: 2 of 2 instances are new"),
        "{tree}"
    );
    platform.serin(&["rollout", "approve", "shop"]).await;
    rollout_until(&platform, "v2", apps::is_healthy).await;
}
