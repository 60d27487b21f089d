//! What a Deployment says of itself.

use std::fmt::Write as _;

use expect_test::expect;
use k8s_openapi::api::apps::v1::DeploymentCondition;
use serde_json::{Value, json};
use serin_api::conditions;

use super::*;
use crate::workload::as_i32;

/// The conditions after each of a series of views, with their times.
fn story(spec: &Value, scenes: Vec<(i64, Vec<ReplicaSetView>)>) -> String {
    let desired = desired(spec.clone());
    let mut status = DeploymentStatus::default();
    let mut out = String::new();
    for (second, replica_sets) in scenes {
        let observed = Observed {
            replica_sets,
            status: status.clone(),
            ..Observed::default()
        };
        let plan = plan(&desired, &observed, at(second));
        status = plan.status;
        let line = |c: &DeploymentCondition| {
            let time = |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                t.as_ref().unwrap().0.as_second()
            };
            format!(
                "  {}={} {} ({}, {}) {}\n",
                c.type_,
                c.status,
                c.reason.as_deref().unwrap(),
                time(&c.last_transition_time),
                time(&c.last_update_time),
                c.message.as_deref().unwrap()
            )
        };
        let wake = plan.wake_at.map(|at| at.as_second());
        writeln!(out, "at {second}, again {wake:?}").unwrap();
        out.extend(status.conditions.iter().flatten().map(line));
    }
    out
}

#[test]
fn progress_is_told_as_kubectl_reads_it() {
    let new = |available| ReplicaSetView {
        available,
        ..rs("v2", 6)
    };
    let scenes = vec![
        (100, vec![]),
        (
            101,
            vec![ReplicaSetView {
                replicas: 0,
                ..new(0)
            }],
        ),
        (102, vec![new(0)]),
        (110, vec![new(4)]),
        (120, vec![new(5)]),
        (130, vec![new(6)]),
        (140, vec![new(6)]),
        (150, vec![new(5)]),
    ];
    expect![[r#"
        at 100, again Some(700)
          Available=False MinimumReplicasUnavailable (100, 100) Deployment does not have minimum availability.
          Progressing=True NewReplicaSetCreated (100, 100) Created new replica set "web-58d5dfc74f"
        at 101, again Some(700)
          Available=False MinimumReplicasUnavailable (100, 100) Deployment does not have minimum availability.
          Progressing=True NewReplicaSetCreated (100, 100) Created new replica set "web-58d5dfc74f"
        at 102, again Some(702)
          Available=False MinimumReplicasUnavailable (100, 100) Deployment does not have minimum availability.
          Progressing=True ReplicaSetUpdated (100, 102) ReplicaSet "web-v2" is progressing.
        at 110, again Some(710)
          Available=False MinimumReplicasUnavailable (100, 100) Deployment does not have minimum availability.
          Progressing=True ReplicaSetUpdated (100, 110) ReplicaSet "web-v2" is progressing.
        at 120, again Some(720)
          Available=True MinimumReplicasAvailable (120, 120) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (100, 120) ReplicaSet "web-v2" is progressing.
        at 130, again None
          Available=True MinimumReplicasAvailable (120, 120) Deployment has minimum availability.
          Progressing=True NewReplicaSetAvailable (100, 130) ReplicaSet "web-v2" has successfully progressed.
        at 140, again None
          Available=True MinimumReplicasAvailable (120, 120) Deployment has minimum availability.
          Progressing=True NewReplicaSetAvailable (100, 130) ReplicaSet "web-v2" has successfully progressed.
        at 150, again None
          Available=True MinimumReplicasAvailable (120, 120) Deployment has minimum availability.
          Progressing=True NewReplicaSetAvailable (100, 130) ReplicaSet "web-v2" has successfully progressed.
    "#]].assert_eq(&story(&json!({}), scenes));
}

#[test]
fn an_update_that_does_not_get_on_is_late() {
    let new = |ready, available| ReplicaSetView {
        ready,
        available,
        ..rs("v2", 2)
    };
    let spec = json!({"progressDeadlineSeconds": 60});
    // Readiness that comes and goes is no progress.
    let scenes = vec![
        (100, vec![rs("v1", 6)]),
        (101, vec![rs("v1", 6), new(0, 0)]),
        (120, vec![rs("v1", 6), new(2, 0)]),
        (140, vec![rs("v1", 6), new(0, 0)]),
        (160, vec![rs("v1", 6), new(2, 0)]),
        (161, vec![rs("v1", 6), new(2, 0)]),
        (400, vec![rs("v1", 6), new(2, 1)]),
    ];
    expect![[r#"
        at 100, again Some(160)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True NewReplicaSetCreated (100, 100) Created new replica set "web-58d5dfc74f"
        at 101, again Some(161)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (100, 101) ReplicaSet "web-v2" is progressing.
        at 120, again Some(161)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (100, 101) ReplicaSet "web-v2" is progressing.
        at 140, again Some(161)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (100, 101) ReplicaSet "web-v2" is progressing.
        at 160, again Some(161)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (100, 101) ReplicaSet "web-v2" is progressing.
        at 161, again None
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=False ProgressDeadlineExceeded (161, 161) ReplicaSet "web-v2" has timed out progressing.
        at 400, again Some(460)
          Available=True MinimumReplicasAvailable (100, 100) Deployment has minimum availability.
          Progressing=True ReplicaSetUpdated (400, 400) ReplicaSet "web-v2" is progressing.
    "#]].assert_eq(&story(&spec, scenes));
}

#[test]
fn a_failure_of_a_replica_set_is_shown() {
    let failure = serde_json::from_value(json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota",
        "lastTransitionTime": "1970-01-01T00:00:09Z",
    }))
    .unwrap();
    let new = ReplicaSetView {
        failure: Some(failure),
        available: 0,
        ready: 0,
        replicas: 0,
        ..rs("v2", 6)
    };
    expect![[r#"
        at 100, again None
          ReplicaFailure=True FailedCreate (9, 9) quota
          Available=False MinimumReplicasUnavailable (100, 100) Deployment does not have minimum availability.
          Progressing=Unknown DeploymentPaused (100, 100) Deployment is paused
    "#]].assert_eq(&story(&json!({"paused": true}), vec![(100, vec![new])]));
}

#[test]
fn a_template_that_is_refused_is_told() {
    let before = DeploymentStatus::default();
    let plan = plan(&desired(json!({})), &Observed::default(), at(100));
    let first = failed(&plan, &before, "spec.containers: Required value", at(100));
    let again = failed(&plan, &first, "spec.containers: Required value", at(200));
    assert_eq!(first, again);
    expect![[r#"
        Some(
            DeploymentCondition {
                last_transition_time: Some(
                    Time(
                        1970-01-01T00:01:40Z,
                    ),
                ),
                last_update_time: Some(
                    Time(
                        1970-01-01T00:01:40Z,
                    ),
                ),
                message: Some(
                    "spec.containers: Required value",
                ),
                reason: Some(
                    "ReplicaSetCreateError",
                ),
                status: "False",
                type_: "Progressing",
            },
        )"#]]
    .assert_eq(&format!(
        "{:#?}",
        conditions::get(first.conditions.as_deref().unwrap(), "Progressing")
    ));
}

#[test]
fn a_refused_spec_keeps_what_runs_and_says_why_until_it_is_mended() {
    let problems = lower(&deployment(json!({"selector": {}}))).unwrap_err();
    let mut broken = deployment(json!({"selector": {}}));
    broken.status = Some(DeploymentStatus {
        replicas: Some(6),
        ..DeploymentStatus::default()
    });
    let status = refused(&broken, &problems, at(100));
    assert_eq!(status.replicas, Some(6));
    assert_eq!(status.observed_generation, Some(7));
    broken.status = Some(status.clone());
    assert_eq!(refused(&broken, &problems, at(200)), status);
    let observed = Observed {
        status,
        ..Observed::default()
    };
    let mended = plan(&desired(json!({})), &observed, at(300)).status;
    assert!(conditions::get(mended.conditions.as_deref().unwrap(), "InvalidSpec").is_none());
    assert!(matches!(
        waiting_on(&broken, &[]),
        WaitingOn::ValidSpec { .. }
    ));
}

#[test]
fn counts_add_up() {
    let new = ReplicaSetView {
        ready: 2,
        available: 1,
        ..rs("v2", 3)
    };
    let status = plan(&desired(json!({})), &with(vec![rs("v1", 5), new]), at(100)).status;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.unavailable_replicas,
    ];
    assert_eq!(counts, [8, 3, 7, 6, 2].map(|c: u32| Some(as_i32(c))));
    assert_eq!(status.observed_generation, Some(7));
}
