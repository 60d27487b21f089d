//! Pictures of workloads in the states that matter.

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisRun;

use super::*;
use crate::rollout::render::{Look, render, summary};

const NOW: &str = "2026-01-01T00:10:00Z";

fn look() -> Look {
    Look {
        colours: false,
        unicode: true,
        columns: 110,
    }
}

fn picture(objects: &Objects, look: Look) -> String {
    let tree = view(objects, NOW.parse::<Timestamp>().unwrap());
    format!("{}\n{}\n", render(&tree, look).trim_end(), summary(&tree))
}

fn check(objects: &Objects, expected: &Expect) {
    expected.assert_eq(&picture(objects, look()));
}

fn rollout(strategy: Value, status: Value) -> Workload {
    let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "prod", "uid": "ro", "generation": 7,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": 3, "selector": {}, "strategy": strategy}, "status": status});
    Workload::Rollout(serde_json::from_value(object).unwrap())
}

fn set(name: &str, revision: i64, wanted: i32, available: i32, annotations: Value) -> ReplicaSet {
    let mut object = json!({
        "metadata": {"name": format!("shop-{name}"), "uid": name, "creationTimestamp": "2026-01-01T00:05:00Z",
            "labels": {"rollouts-pod-template-hash": name},
            "annotations": {"rollout.argoproj.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "x", "kind": "Rollout", "name": "shop", "uid": "ro"}]},
        "spec": {"replicas": wanted, "selector": {}, "template": {"spec": {"containers": [
            {"name": "app", "image": format!("shop:v{revision}")}]}}},
        "status": {"replicas": wanted, "availableReplicas": available}});
    if let (Some(Value::Object(own)), Value::Object(more)) =
        (object.pointer_mut("/metadata/annotations"), annotations)
    {
        own.extend(more);
    }
    serde_json::from_value(object).unwrap()
}

fn pod(owner: &str, name: &str, status: Value) -> Pod {
    let object = json!({
        "metadata": {"name": format!("shop-{owner}-{name}"), "creationTimestamp": "2026-01-01T00:09:18Z",
            "ownerReferences": [{"apiVersion": "x", "kind": "ReplicaSet", "name": owner, "uid": owner}]},
        "spec": {"containers": [{"name": "app"}]}, "status": status});
    serde_json::from_value(object).unwrap()
}

fn running(ip: &str) -> Value {
    json!({"phase": "Running", "podIP": ip, "containerStatuses": [
        {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]})
}

fn crashing() -> Value {
    json!({"phase": "Running", "podIP": "127.64.0.9", "containerStatuses": [
        {"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 4,
         "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "exit code 3"}}}]})
}

fn analysis() -> AnalysisRun {
    serde_json::from_value(json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun",
        "metadata": {"name": "shop-new-2-2", "creationTimestamp": "2026-01-01T00:09:30Z",
            "labels": {"rollouts-pod-template-hash": "new"},
            "ownerReferences": [{"apiVersion": "x", "kind": "Rollout", "name": "shop", "uid": "ro"}]},
        "spec": {}, "status": {"phase": "Running", "metricResults": [
            {"name": "success-rate", "phase": "Running", "successful": 4, "failed": 1, "measurements": [
                {"phase": "Successful", "value": "0.91"}, {"phase": "Successful", "value": "0.98"},
                {"phase": "Failed", "value": "0.99"}, {"phase": "Successful", "value": "1"}]}]}}))
    .unwrap()
}

fn steps() -> Value {
    json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {"duration": "1h30m"}},
        {"analysis": {"templates": [{"templateName": "success-rate"}]}}, {"setWeight": 60}, {"pause": {}}]}})
}

fn canary() -> Objects {
    let status = json!({"phase": "Progressing", "message": "more replicas need to be updated",
        "observedGeneration": "7", "currentPodHash": "new", "stableRS": "old", "currentStepIndex": 2,
        "replicas": 4, "updatedReplicas": 1, "readyReplicas": 4, "availableReplicas": 4,
        "waitingOn": {"type": "Analysis", "name": "shop-new-2-2"},
        "canary": {"weights": {"canary": {"weight": 20}, "stable": {"weight": 80}, "verified": true}}});
    Objects {
        workload: rollout(steps(), status),
        replica_sets: vec![
            set("old", 1, 3, 3, json!({})),
            set(
                "new",
                2,
                1,
                1,
                json!({"kubernetes.io/change-cause": "faster checkout"}),
            ),
        ],
        pods: vec![
            pod("old", "b", running("127.64.0.3")),
            pod("old", "a", running("127.64.0.2")),
            pod("new", "c", running("127.64.0.4")),
        ],
        analysis_runs: vec![analysis()],
    }
}

#[test]
fn a_canary_in_its_analysis() {
    check(
        &canary(),
        &expect![[r#"
        Name:        shop
        Namespace:   prod
        Kind:        Rollout, Canary
        Status:      ◌ Progressing
        Message:     more replicas need to be updated
        Waits for:   analysis shop-new-2-2
        Step:        2/5
        Weights:     canary 20 %, stable 80 % (served)
        Images:      shop:v2 (canary), shop:v1 (stable)
        Replicas:    desired 3, current 4, updated 1, ready 4, available 4

        Steps
          ✔ 1 setWeight 20
          ✔ 2 pause 1h30m
          ▶ 3 analysis success-rate
          · 4 setWeight 60
          · 5 pause until promoted

        NAME                   KIND         STATUS         AGE  INFO
        shop                   Rollout      ◌ Progressing  10m
        ├─ revision 2                                           faster checkout
        │  ├─ shop-new         ReplicaSet   ✔ Healthy      5m   canary, 1/1 available
        │  │  └─ shop-new-c    Pod          ✔ Running      42s  ready 1/1, 127.64.0.4
        │  └─ shop-new-2-2     AnalysisRun  ◌ Running      30s
        │     └─ success-rate  Metric       ◌ Running           4 ok, 1 failed, last 0.98 0.99 1
        └─ revision 1
           └─ shop-old         ReplicaSet   ✔ Healthy      5m   stable, 3/3 available
              ├─ shop-old-a    Pod          ✔ Running      42s  ready 1/1, 127.64.0.2
              └─ shop-old-b    Pod          ✔ Running      42s  ready 1/1, 127.64.0.3
        Progressing, step 2/5, canary 20 %, stable 80 % (served), 1/3 updated, 4 available: waits for analysis shop-new-2-2
    "#]],
    );
}

#[test]
fn the_same_in_ascii_and_narrow() {
    let narrow = Look {
        colours: false,
        unicode: false,
        columns: 60,
    };
    expect![[r#"
        Name:        shop
        Namespace:   prod
        Kind:        Rollout, Canary
        Status:      Progressing
        Message:     more replicas need to be updated
        Waits for:   analysis shop-new-2-2
        Step:        2/5
        Weights:     canary 20 %, stable 80 % (served)
        Images:      shop:v2 (canary), shop:v1 (stable)
        Replicas:    desired 3, current 4, updated 1, ready 4,
                     available 4

        Steps
          + 1 setWeight 20
          + 2 pause 1h30m
          > 3 analysis success-rate
          . 4 setWeight 60
          . 5 pause until promoted

        NAME                   KIND         STATUS       AGE  INFO
        shop                   Rollout      Progressing  10m
        |- revision 2                                         faste~
        |  |- shop-new         ReplicaSet   Healthy      5m   canar~
        |  |  `- shop-new-c    Pod          Running      42s  ready~
        |  `- shop-new-2-2     AnalysisRun  Running      30s
        |     `- success-rate  Metric       Running           4 ok,~
        `- revision 1
           `- shop-old         ReplicaSet   Healthy      5m   stabl~
              |- shop-old-a    Pod          Running      42s  ready~
              `- shop-old-b    Pod          Running      42s  ready~
        Progressing, step 2/5, canary 20 %, stable 80 % (served), 1/3 updated, 4 available: waits for analysis shop-new-2-2
    "#]].assert_eq(&picture(&canary(), narrow));
}

#[test]
fn colours_are_on_states_alone() {
    let mut objects = canary();
    objects.pods.clear();
    objects.analysis_runs.clear();
    let coloured = Look {
        colours: true,
        ..look()
    };
    let text = picture(&objects, coloured);
    assert!(text.contains("\x1b[36m◌ Progressing\x1b[0m"), "{text}");
    let plain = anstream::adapter::strip_str(&text).to_string();
    assert_eq!(plain, picture(&objects, look()));
}

#[test]
fn a_canary_that_was_taken_back() {
    let status = json!({"phase": "Degraded", "message": "analysis failed", "abort": true,
        "observedGeneration": "7", "currentPodHash": "new", "stableRS": "old", "currentStepIndex": 0,
        "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3,
        "waitingOn": {"type": "NewRevision", "why": "analysis failed"},
        "canary": {"weights": {"canary": {"weight": 20}, "stable": {"weight": 80}, "verified": false}}});
    let objects = Objects {
        workload: rollout(steps(), status),
        replica_sets: vec![
            set(
                "new",
                2,
                1,
                0,
                json!({"scale-down-deadline": "2026-01-01T00:10:20Z"}),
            ),
            set("old", 1, 3, 3, json!({})),
            set("gone", 3, 0, 0, json!({})),
        ],
        pods: vec![pod("new", "c", crashing())],
        analysis_runs: Vec::new(),
    };
    check(
        &objects,
        &expect![[r#"
            Name:        shop
            Namespace:   prod
            Kind:        Rollout, Canary
            Status:      ✖ Degraded
            Message:     analysis failed
            Waits for:   a new revision or a retry
            Step:        0/5
            Weights:     canary 20 %, stable 80 % (not yet served, 0 % asked)
            Images:      shop:v2 (canary), shop:v1 (stable)
            Replicas:    desired 3, current 4, updated 1, ready 3, available 3

            Steps
              · 1 setWeight 20
              · 2 pause 1h30m
              · 3 analysis success-rate
              · 4 setWeight 60
              · 5 pause until promoted

            NAME                 KIND        STATUS              AGE  INFO
            shop                 Rollout     ✖ Degraded          10m
            ├─ revision 3
            │  └─ shop-gone      ReplicaSet  · ScaledDown        5m
            ├─ revision 2
            │  └─ shop-new       ReplicaSet  ◌ Progressing       5m   canary, 0/1 available, scales down in 20s
            │     └─ shop-new-c  Pod         ✖ CrashLoopBackOff  42s  ready 0/1, 4 restarts, 127.64.0.9, exit code 3
            └─ revision 1
               └─ shop-old       ReplicaSet  ✔ Healthy           5m   stable, 3/3 available
            Degraded, step 0/5, canary 20 %, stable 80 % (not yet served, 0 % asked), 1/3 updated, 3 available: analysis failed; waits for a new revision or a retry
        "#]],
    );
}

#[test]
fn blue_green_before_the_switch() {
    let status = json!({"phase": "Paused", "message": "BlueGreenPause", "observedGeneration": "7",
        "currentPodHash": "new", "stableRS": "old", "replicas": 6, "updatedReplicas": 3,
        "readyReplicas": 6, "availableReplicas": 6, "waitingOn": {"type": "Decision", "why": "promote or abort"},
        "blueGreen": {"activeSelector": "old", "previewSelector": "new"}});
    let objects = Objects {
        workload: rollout(json!({"blueGreen": {"activeService": "shop"}}), status),
        replica_sets: vec![
            set("new", 2, 3, 3, json!({})),
            set("old", 1, 3, 3, json!({})),
        ],
        pods: Vec::new(),
        analysis_runs: Vec::new(),
    };
    check(
        &objects,
        &expect![[r#"
        Name:        shop
        Namespace:   prod
        Kind:        Rollout, BlueGreen
        Status:      ⏸ Paused
        Message:     BlueGreenPause
        Waits for:   a decision: promote or abort
        Images:      shop:v2 (preview), shop:v1 (stable, active)
        Replicas:    desired 3, current 6, updated 3, ready 6, available 6

        NAME            KIND        STATUS     AGE  INFO
        shop            Rollout     ⏸ Paused   10m
        ├─ revision 2
        │  └─ shop-new  ReplicaSet  ✔ Healthy  5m   preview, 3/3 available
        └─ revision 1
           └─ shop-old  ReplicaSet  ✔ Healthy  5m   stable, active, 3/3 available
        Paused, 3/3 updated, 6 available: waits for a decision: promote or abort
    "#]],
    );
}

#[test]
fn a_rollout_that_nobody_has_looked_at() {
    let objects = Objects {
        workload: rollout(steps(), Value::Null),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        analysis_runs: Vec::new(),
    };
    check(
        &objects,
        &expect![[r#"
            Name:        shop
            Namespace:   prod
            Kind:        Rollout, Canary
            Status:      ◌ Progressing
            Message:     the controller has not looked at the last change yet
            Step:        0/5
            Replicas:    desired 3, current 0, updated 0, ready 0, available 0

            Steps
              · 1 setWeight 20
              · 2 pause 1h30m
              · 3 analysis success-rate
              · 4 setWeight 60
              · 5 pause until promoted

            NAME  KIND     STATUS         AGE  INFO
            shop  Rollout  ◌ Progressing  10m
            Progressing, step 0/5, 0/3 updated, 0 available: the controller has not looked at the last change yet
        "#]],
    );
}

#[test]
fn a_rolling_update_in_batches() {
    let status = json!({"phase": "Paused", "observedGeneration": "7", "currentPodHash": "new", "stableRS": "old",
        "currentStepIndex": 1, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3, "availableReplicas": 3,
        "canary": {"batches": {"count": 2, "size": 2}},
        "waitingOn": {"type": "Pause", "until": "2026-01-01T00:11:00Z"}});
    let objects = Objects {
        workload: rollout(json!({"canary": {}}), status),
        replica_sets: vec![
            set("new", 2, 2, 2, json!({})),
            set("old", 1, 1, 1, json!({})),
        ],
        pods: Vec::new(),
        analysis_runs: Vec::new(),
    };
    let steps = view(&objects, NOW.parse::<Timestamp>().unwrap())
        .steps
        .unwrap();
    assert_eq!(steps.done, 1);
    let lines: Vec<_> = steps.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        lines,
        [
            "batch 1/2: 2 of 3 instances are new",
            "batch 2/2: 3 of 3 instances are new"
        ]
    );
}
