use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::workload::Phase;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn desired(replicas: u32) -> Desired {
    let rs: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "web-abc", "uid": "rs", "generation": 3},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 5,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}, "annotations": {"a": "b"}},
                "spec": {"containers": [{"name": "web", "image": "nginx"}]},
            },
        },
    }))
    .unwrap();
    lower(&rs).unwrap()
}

/// A pod that has been available for long.
fn good(name: &str) -> PodView {
    PodView {
        name: name.into(),
        uid: format!("uid-{name}"),
        resource_version: "7".into(),
        owner_uid: Some("rs".into()),
        labels: BTreeMap::from([
            ("app".into(), "web".into()),
            ("tier".into(), "front".into()),
        ]),
        revision: serin_api::units::RevisionHash::new(""),
        node: Some("local".into()),
        created: at(100),
        ready: true,
        ready_since: Some(at(110)),
        terminating: false,
        phase: Phase::Running,
        restarts: 0,
        deletion_cost: 0,
    }
}

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for batch in &plan.batches {
        let line: Vec<_> = batch
            .iter()
            .map(|action| match action {
                Action::Create(pod) => {
                    format!("create {}", pod.metadata.name.as_deref().unwrap())
                }
                Action::Delete { name, .. } => format!("delete {name}"),
                Action::Adopt { name, .. } => format!("adopt {name}"),
                Action::Release { name, .. } => format!("release {name}"),
            })
            .collect();
        writeln!(out, "{}", line.join(", ")).unwrap();
    }
    let s = &plan.status;
    writeln!(
        out,
        "replicas {} labeled {} ready {} available {} generation {}",
        s.replicas,
        s.fully_labeled_replicas.unwrap(),
        s.ready_replicas.unwrap(),
        s.available_replicas.unwrap(),
        s.observed_generation.unwrap()
    )
    .unwrap();
    if let Some(at) = plan.wake_at {
        writeln!(out, "look again at {}", at.as_second()).unwrap();
    }
    out
}

fn check(desired: &Desired, pods: Vec<PodView>, now: i64, expected: &Expect) {
    let observed = Observed {
        pods,
        ..Observed::default()
    };
    expected.assert_eq(&show(&plan(desired, &observed, at(now))));
}

#[test]
fn missing_pods_are_made_in_growing_batches() {
    check(
        &desired(6),
        vec![],
        200,
        &expect![[r#"
        create web-abc-s6xvh
        create web-abc-8wd5l, create web-abc-dkb2l
        create web-abc-ltmx2, create web-abc-wwl6p, create web-abc-68w46
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]],
    );
}

#[test]
fn a_plan_made_twice_on_an_old_view_names_the_same_pods() {
    let observed = Observed::default();
    let once = plan(&desired(4), &observed, at(200));
    assert_eq!(once, plan(&desired(4), &observed, at(201)));
}

#[test]
fn a_slot_is_free_only_when_its_pod_is_gone() {
    let observed = Observed::default();
    let Some(Action::Create(first)) = plan(&desired(1), &observed, at(0)).batches[0]
        .first()
        .cloned()
    else {
        panic!("a pod must be made");
    };
    let leaving = PodView {
        terminating: true,
        ..good(first.metadata.name.as_deref().unwrap())
    };
    check(
        &desired(1),
        vec![leaving],
        200,
        &expect![[r#"
        create web-abc-8wd5l
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]],
    );
    // Somebody else's pod has the name.
    let observed = Observed {
        taken: BTreeSet::from([first.metadata.name.clone().unwrap()]),
        ..Observed::default()
    };
    expect![[r#"
        create web-abc-8wd5l
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]]
    .assert_eq(&show(&plan(&desired(1), &observed, at(0))));
}

#[test]
fn a_new_pod_is_made_from_the_template() {
    let plan = plan(&desired(1), &Observed::default(), at(0));
    let Action::Create(pod) = &plan.batches[0][0] else {
        panic!("a pod must be made");
    };
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "annotations": {
              "a": "b"
            },
            "labels": {
              "app": "web",
              "tier": "front"
            },
            "name": "web-abc-s6xvh",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "ReplicaSet",
                "name": "web-abc",
                "uid": "rs"
              }
            ]
          },
          "spec": {
            "containers": [
              {
                "image": "nginx",
                "name": "web"
              }
            ]
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(pod).unwrap());
}

#[test]
fn surplus_pods_go_worst_first() {
    let pods = vec![
        good("good"),
        PodView {
            node: None,
            phase: Phase::Pending,
            ready: false,
            ..good("homeless")
        },
        PodView {
            phase: Phase::Pending,
            ready: false,
            ..good("pending")
        },
        PodView {
            ready: false,
            ready_since: None,
            ..good("unready")
        },
        PodView {
            ready_since: Some(at(150)),
            ..good("fresh")
        },
        PodView {
            restarts: 4,
            ..good("restarted")
        },
        PodView {
            created: at(105),
            ..good("young")
        },
        PodView {
            deletion_cost: -1,
            ..good("cheap")
        },
    ];
    let mut order = Vec::new();
    let mut rest = pods;
    while rest.len() > 1 {
        let keep = u32::try_from(rest.len()).unwrap() - 1;
        let observed = Observed {
            pods: rest.clone(),
            ..Observed::default()
        };
        let plan = plan(&desired(keep), &observed, at(200));
        let Action::Delete { name, .. } = &plan.batches[0][0] else {
            panic!("a pod must go");
        };
        rest.retain(|p| p.name != *name);
        order.push(name.clone());
    }
    expect!["homeless pending unready cheap fresh restarted young"].assert_eq(&order.join(" "));
}

#[test]
fn a_pod_that_is_given_up_no_longer_counts() {
    let pods = vec![good("a"), good("b"), good("c")];
    check(
        &desired(1),
        pods,
        200,
        &expect![[r#"
        delete a, delete b
        replicas 1 labeled 1 ready 1 available 1 generation 3
    "#]],
    );
}

#[test]
fn a_pod_is_available_only_after_its_time() {
    let pods = vec![
        good("a"),
        PodView {
            ready_since: Some(at(197)),
            ..good("b")
        },
        PodView {
            ready: false,
            ready_since: None,
            ..good("c")
        },
        PodView {
            labels: BTreeMap::from([("app".into(), "web".into())]),
            ..good("d")
        },
    ];
    check(
        &desired(4),
        pods,
        200,
        &expect![[r#"
        replicas 4 labeled 3 ready 3 available 2 generation 3
        look again at 202
    "#]],
    );
}

#[test]
fn finished_pods_are_replaced_but_not_in_a_busy_loop() {
    let failed = |name, created| PodView {
        phase: Phase::Failed,
        ready: false,
        created: at(created),
        ..good(name)
    };
    let pods = vec![failed("old", 100), failed("new", 195)];
    check(
        &desired(2),
        pods.clone(),
        200,
        &expect![[r#"
        create web-abc-s6xvh
        replicas 0 labeled 0 ready 0 available 0 generation 3
        look again at 205
    "#]],
    );
    check(
        &desired(2),
        pods,
        205,
        &expect![[r#"
        create web-abc-s6xvh
        create web-abc-8wd5l
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]],
    );
    let many = vec![failed("a", 1), failed("b", 2), failed("c", 3)];
    check(
        &desired(1),
        many,
        200,
        &expect![[r#"
        delete b, delete a
        create web-abc-s6xvh
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]],
    );
}

#[test]
fn orphans_are_taken_over_and_strays_let_go() {
    let pods = vec![
        PodView {
            owner_uid: None,
            ..good("orphan")
        },
        PodView {
            labels: BTreeMap::new(),
            ..good("stray")
        },
        PodView {
            owner_uid: Some("other".into()),
            ..good("foreign")
        },
    ];
    check(
        &desired(1),
        pods.clone(),
        200,
        &expect![[r#"
        adopt orphan, release stray
        replicas 1 labeled 1 ready 1 available 1 generation 3
    "#]],
    );
    let deleting = Desired {
        deleting: true,
        ..desired(1)
    };
    check(
        &deleting,
        pods,
        200,
        &expect![[r#"
        replicas 0 labeled 0 ready 0 available 0 generation 3
    "#]],
    );
}

#[test]
fn a_failure_is_a_condition_until_it_is_over() {
    let first = plan(&desired(1), &Observed::default(), at(200));
    let before = ReplicaSetStatus::default();
    let status = failed(&first, &before, "FailedCreate", "quota", at(200));
    let again = Observed {
        status: status.clone(),
        ..Observed::default()
    };
    let second = plan(&desired(1), &again, at(300));
    assert_eq!(
        failed(&second, &status, "FailedCreate", "quota", at(300)),
        status
    );
    assert_eq!(second.status.conditions, None);
}

#[test]
fn a_spec_that_makes_no_sense_is_refused() {
    let rs: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "web", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "api"}}}},
    }))
    .unwrap();
    let problems = lower(&rs).unwrap_err();
    expect![[r#"
        ReplicaSetStatus {
            available_replicas: None,
            conditions: Some(
                [
                    ReplicaSetCondition {
                        last_transition_time: Some(
                            Time(
                                1970-01-01T00:00:00Z,
                            ),
                        ),
                        message: Some(
                            "spec.template.metadata.labels: Invalid value: labels: `selector` does not match template `labels`",
                        ),
                        reason: Some(
                            "InvalidSpec",
                        ),
                        status: "True",
                        type_: "ReplicaFailure",
                    },
                ],
            ),
            fully_labeled_replicas: None,
            observed_generation: Some(
                2,
            ),
            ready_replicas: None,
            replicas: 0,
            terminating_replicas: None,
        }"#]].assert_eq(&format!("{:#?}", refused(&rs, &problems, at(0))));
}
