//! Pods that an earlier node left, and what their status says.

use std::time::Duration;

use expect_test::expect;
use k8s_openapi::api::core::v1::PodStatus;

use super::{PLAIN, PRE_STOP, PROBES, Play, at, end, identity, plan};
use crate::pod::Input;
use crate::pod::probe::ProbeKind;
use crate::pod::resume::{FoundRun, FoundWhat};
use crate::pod::status::{merge, render};

fn status_of(play: &Play) -> PodStatus {
    merge(
        &render(&play.state, &identity()),
        &PodStatus::default(),
        at(play.now).wall,
    )
}

#[test]
fn after_a_restart_of_the_node_what_was_ready_is_ready() {
    let mut before = Play::new(PROBES);
    before
        .started(0.0, 0, 0)
        .probed(0.1, 0, ProbeKind::Startup, true)
        .probed(0.2, 0, ProbeKind::Readiness, true);
    let found = FoundRun {
        run: 0,
        what: FoundWhat::Alive {
            started_at: at(0.0).wall,
            age: Duration::from_secs(60),
        },
    };
    let status = status_of(&before);
    let after = Play::resume(plan(PROBES), &status, vec![Some(found)]);
    after.expect(expect![[r#"
        0.0 begin [Running, ready]
            probe Liveness
            probe Readiness
    "#]]);
    assert_eq!(
        merge(&render(&after.state, &identity()), &status, at(99.0).wall),
        status,
        "nothing is written anew"
    );
}

#[test]
fn what_ended_while_no_node_looked_is_taken_in() {
    let found = |run, what| vec![Some(FoundRun { run, what })];
    let running = status_of(Play::new(PLAIN).started(0.0, 0, 0));
    let crashed = found(0, FoundWhat::Ended(end(1, 3)));
    Play::resume(plan(PLAIN), &running, crashed).expect(expect![[r#"
        0.0 begin [Running]
            start web#1
    "#]]);
    let often = found(4, FoundWhat::Ended(end(1, 3)));
    Play::resume(plan(PLAIN), &running, often).expect(expect![[r#"
        0.0 begin [Running] (wake at 80.0)
            event BackOff: Back-off restarting failed container web
    "#]]);
    let unused = found(2, FoundWhat::Unused);
    Play::resume(plan(PLAIN), &running, unused).expect(expect![[r#"
        0.0 begin [Pending]
            start web#3
    "#]]);
    // The machine was set up anew: only the object knows that there was a run.
    Play::resume(plan(PLAIN), &running, vec![None]).expect(expect![[r#"
        0.0 begin [Pending]
            start web#1
    "#]]);
}

#[test]
fn a_deletion_goes_on_where_the_last_node_left_it() {
    let deleted = || Input::Observed {
        deleted: Some(Duration::from_secs(12)),
        drained: true,
        closed_gates: Vec::new(),
    };
    let status = status_of(Play::new(PRE_STOP).started(0.0, 0, 0));
    let found = |what| vec![Some(FoundRun { run: 0, what })];
    let alive = found(FoundWhat::Alive {
        started_at: at(0.0).wall,
        age: Duration::from_secs(60),
    });
    Play::resume_with(plan(PRE_STOP), &status, alive, deleted()).expect(expect![[r#"
        0.0 begin [Running] (wake at 12.0)
            event Killing: Stopping container web
            hook PreStop within 12s
    "#]]);
    let ended = found(FoundWhat::Ended(end(0, 60)));
    Play::resume_with(plan(PRE_STOP), &status, ended, deleted()).expect(expect![[r#"
        0.0 begin [Succeeded]
            finish
    "#]]);
    // Everything is cleaned up and only the object is left: it is not started again.
    Play::resume_with(plan(PRE_STOP), &status, vec![None], deleted()).expect(expect![[r#"
        0.0 begin [Pending]
            finish
    "#]]);
}

#[test]
fn a_pod_that_is_done_is_not_done_again() {
    let spec = r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#;
    let mut before = Play::new(spec);
    before.started(0.1, 0, 0).ended(1.0, 0, 0, 0, 1);
    let status = status_of(&before);
    Play::resume(plan(spec), &status, vec![None]).expect(expect![[r#"
        0.0 begin [Succeeded]
    "#]]);
}

#[test]
fn the_status_says_all_that_a_person_asks() {
    let mut play = Play::new(PLAIN);
    play.started(0.0, 0, 0).ended(1.0, 0, 0, 1, 1);
    play.started(2.0, 0, 1).ended(3.0, 0, 1, 1, 1);
    let base = PodStatus {
        conditions: serde_json::from_str(
            r#"[{"type":"serin.dev/Drained","status":"True"},
                {"type":"PodScheduled","status":"True","lastTransitionTime":"2020-01-01T00:00:00Z"}]"#,
        )
        .unwrap(),
        ..PodStatus::default()
    };
    let mut status = merge(&render(&play.state, &identity()), &base, at(3.0).wall);
    let mut shown = String::new();
    for condition in status.conditions.take().unwrap() {
        shown += &serde_json::to_string(&condition).unwrap();
        shown += "\n";
    }
    let container = status.container_statuses.take().unwrap().remove(0);
    shown += &serde_json::to_string_pretty(&container).unwrap();
    shown += "\n";
    shown += &serde_json::to_string(&status).unwrap();
    expect![[r#"
        {"status":"True","type":"serin.dev/Drained"}
        {"lastTransitionTime":"2020-01-01T00:00:00Z","status":"True","type":"PodScheduled"}
        {"lastTransitionTime":"2023-11-14T22:13:23Z","status":"True","type":"Initialized"}
        {"lastTransitionTime":"2023-11-14T22:13:23Z","message":"containers with unready status: [web]","reason":"ContainersNotReady","status":"False","type":"ContainersReady"}
        {"lastTransitionTime":"2023-11-14T22:13:23Z","message":"containers with unready status: [web]","reason":"ContainersNotReady","status":"False","type":"Ready"}
        {
          "containerID": "serin://u/web/1",
          "image": "host",
          "imageID": "host",
          "lastState": {
            "terminated": {
              "containerID": "serin://u/web/1",
              "exitCode": 1,
              "finishedAt": "2023-11-14T22:13:21Z",
              "message": "last words",
              "reason": "Error",
              "startedAt": "2023-11-14T22:13:20Z"
            }
          },
          "name": "web",
          "ready": false,
          "restartCount": 1,
          "started": false,
          "state": {
            "waiting": {
              "message": "back-off 10s restarting failed container web",
              "reason": "CrashLoopBackOff"
            }
          }
        }
        {"hostIP":"127.0.0.1","hostIPs":[{"ip":"127.0.0.1"}],"observedGeneration":1,"phase":"Running","podIP":"127.64.0.1","podIPs":[{"ip":"127.64.0.1"}],"qosClass":"BestEffort","startTime":"2023-11-14T22:13:20Z"}"#]].assert_eq(&shown);
}
