mod model;
mod properties;

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::hash;
use crate::workload::as_i32;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use model::World;
use serin_api::conditions;
use serin_api::keys::annotation as key;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deployment(spec: Value) -> Deployment {
    let mut value = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "d", "generation": 7,
            "annotations": {
                "kubernetes.io/change-cause": "faster search",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "deployment.kubernetes.io/revision": "1",
            },
        },
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "v2"}]},
            },
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn desired(spec: Value) -> Desired {
    lower(&deployment(spec)).unwrap()
}

/// A ReplicaSet of the version `image` with the revision of its number, all of whose pods are available.
fn rs(image: &str, size: u32) -> ReplicaSetView {
    let mut template = desired(json!({})).template;
    let spec = template.spec.as_mut().unwrap();
    spec.containers[0].image = Some(image.into());
    let revision: u64 = image.trim_start_matches('v').parse().unwrap();
    let hash = hash::template_hash(&template, 0);
    ReplicaSetView {
        name: format!("web-{image}"),
        uid: format!("uid-{image}"),
        resource_version: "5".into(),
        owner_uid: Some("d".into()),
        labels: BTreeMap::from([("app".into(), "web".into())]),
        annotations: BTreeMap::from([
            (key::DEPLOYMENT_REVISION.into(), revision.to_string()),
            (key::DEPLOYMENT_DESIRED_REPLICAS.into(), "6".into()),
            (key::CHANGE_CAUSE.into(), "faster search".into()),
        ]),
        hash,
        revision,
        desired: size,
        min_ready_seconds: 0,
        replicas: size,
        ready: size,
        available: size,
        settled: true,
        created: at(i64::try_from(revision).unwrap()),
        deleting: false,
        failure: None,
        template,
    }
}

fn with(replica_sets: Vec<ReplicaSetView>) -> Observed {
    Observed {
        replica_sets,
        ..Observed::default()
    }
}

fn show_action(action: &Action) -> String {
    let name = |t: &Target| t.name.clone();
    match action {
        Action::Create(rs) => {
            let size = rs.spec.as_ref().unwrap().replicas.unwrap();
            let notes = rs.metadata.annotations.as_ref().unwrap();
            format!(
                "create as revision {} with {size}",
                notes[key::DEPLOYMENT_REVISION]
            )
        }
        Action::Update(update) => {
            let mut text = name(&update.target);
            if let Some(to) = update.replicas {
                write!(text, " {} -> {to}", update.from).unwrap();
            }
            if let Some(seconds) = update.min_ready_seconds {
                write!(text, " minReady {seconds}").unwrap();
            }
            for (key, value) in &update.annotations {
                write!(text, " {}={value}", key.rsplit('/').next().unwrap()).unwrap();
            }
            text
        }
        Action::Adopt(target) => format!("adopt {}", name(target)),
        Action::Release(target) => format!("release {}", name(target)),
        Action::Delete(target) => format!("delete {}", name(target)),
        Action::Number { revision } => format!("number {revision}"),
    }
}

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for action in &plan.actions {
        writeln!(out, "{}", show_action(action)).unwrap();
    }
    writeln!(out, "waits for {}", plan.waiting_on).unwrap();
    out
}

fn check(spec: Value, replica_sets: Vec<ReplicaSetView>, expected: &Expect) {
    let mut observed = with(replica_sets);
    observed
        .annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "2".into());
    expected.assert_eq(&show(&plan(&desired(spec), &observed, at(100))));
}

#[test]
fn the_first_version_is_made_whole() {
    let plan = plan(
        &desired(json!({"minReadySeconds": 5})),
        &Observed::default(),
        at(100),
    );
    expect![[r#"
        create as revision 1 with 6
        number 1
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]]
    .assert_eq(&show(&plan));
    let Action::Create(rs) = &plan.actions[0] else {
        panic!("a ReplicaSet must be made");
    };
    expect![[r#"
        {
          "apiVersion": "apps/v1",
          "kind": "ReplicaSet",
          "metadata": {
            "annotations": {
              "deployment.kubernetes.io/desired-replicas": "6",
              "deployment.kubernetes.io/revision": "1",
              "kubernetes.io/change-cause": "faster search"
            },
            "labels": {
              "app": "web",
              "pod-template-hash": "58d5dfc74f"
            },
            "name": "web-58d5dfc74f",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Deployment",
                "name": "web",
                "uid": "d"
              }
            ]
          },
          "spec": {
            "minReadySeconds": 5,
            "replicas": 6,
            "selector": {
              "matchLabels": {
                "app": "web",
                "pod-template-hash": "58d5dfc74f"
              }
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "web",
                  "pod-template-hash": "58d5dfc74f"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "v2",
                    "name": "web"
                  }
                ]
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(rs).unwrap());
}

#[test]
fn the_example_of_six_rolls_over() {
    let mut world = World::new(json!({
        "replicas": 6,
        "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
    }));
    world.settle(|_| {});
    world.image("v2");
    let mut out = String::new();
    world.settle(|world| {
        let sizes: Vec<_> = world
            .truth
            .sets
            .values()
            .map(|rs| {
                let spec = rs.spec.as_ref().unwrap();
                let image = spec.template.as_ref().unwrap().spec.as_ref().unwrap();
                let image = image.containers[0].image.clone().unwrap();
                format!("{image}: {}", spec.replicas.unwrap())
            })
            .collect();
        let (total, good) = world.totals();
        let status = world.status();
        let progressing = conditions::get(status.conditions.as_deref().unwrap(), "Progressing");
        let reason = progressing.and_then(|c| c.reason.clone()).unwrap();
        let line = format!(
            "{}; {total} pods, {good} available, {reason}\n",
            sizes.join(", ")
        );
        if !out.ends_with(&line) {
            out.push_str(&line);
        }
    });
    expect![[r#"
        v2: 2, v1: 6; 8 pods, 8 available, NewReplicaSetCreated
        v2: 2, v1: 5; 7 pods, 7 available, NewReplicaSetCreated
        v2: 3, v1: 5; 8 pods, 8 available, ReplicaSetUpdated
        v2: 3, v1: 3; 6 pods, 6 available, ReplicaSetUpdated
        v2: 5, v1: 3; 8 pods, 8 available, ReplicaSetUpdated
        v2: 5, v1: 2; 7 pods, 7 available, ReplicaSetUpdated
        v2: 6, v1: 2; 8 pods, 8 available, ReplicaSetUpdated
        v2: 6, v1: 0; 6 pods, 6 available, ReplicaSetUpdated
        v2: 6, v1: 0; 6 pods, 6 available, NewReplicaSetAvailable
    "#]]
    .assert_eq(&out);
}

#[test]
fn nothing_moves_before_every_size_is_answered() {
    let unsettled = ReplicaSetView {
        settled: false,
        ..rs("v1", 5)
    };
    check(
        json!({}),
        vec![unsettled.clone(), rs("v2", 2)],
        &expect![[r#"
            waits for 2 of 6 instances of 58d5dfc74f to become available
        "#]],
    );
    check(
        json!({}),
        vec![unsettled.clone()],
        &expect![[r#"
        create as revision 2 with 0
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
    check(
        json!({"replicas": 9}),
        vec![unsettled, rs("v2", 2)],
        &expect![[r#"
            waits for 2 of 9 instances of 58d5dfc74f to become available
        "#]],
    );
}

#[test]
fn a_manual_size_is_put_right() {
    check(
        json!({}),
        vec![rs("v2", 9)],
        &expect![[r#"
        web-v2 9 -> 6 desired-replicas=6
        waits for nothing
    "#]],
    );
    check(
        json!({}),
        vec![rs("v2", 4)],
        &expect![[r#"
        web-v2 4 -> 6 desired-replicas=6
        waits for 4 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn unavailable_old_pods_go_first() {
    let sick = ReplicaSetView {
        available: 1,
        ..rs("v1", 3)
    };
    let new = ReplicaSetView {
        available: 2,
        ..rs("v2", 3)
    };
    let mut older = rs("v1", 2);
    (older.name, older.uid) = ("web-v0".into(), "uid-v0".into());
    older.template.spec.as_mut().unwrap().containers[0].image = Some("v0".into());
    older.created = at(0);
    check(
        json!({}),
        vec![sick, new, older],
        &expect![[r#"
        web-v1 3 -> 1 desired-replicas=6
        waits for 2 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn a_good_old_version_is_not_used_up_while_it_is_unready() {
    let unready = ReplicaSetView {
        available: 0,
        ..rs("v1", 6)
    };
    let new = ReplicaSetView {
        available: 0,
        ..rs("v2", 2)
    };
    check(
        json!({}),
        vec![unready, new],
        &expect![[r#"
        web-v1 6 -> 5 desired-replicas=6
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn bounds_that_round_to_nothing_let_one_pod_go() {
    let bounds = json!({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "10%"}});
    check(
        json!({"strategy": bounds}),
        vec![rs("v1", 6), rs("v2", 0)],
        &expect![[r#"
            web-v1 6 -> 5 desired-replicas=6
            waits for 0 of 6 instances of 58d5dfc74f to become available
        "#]],
    );
}

#[test]
fn a_new_number_of_pods_is_shared_out_in_the_middle_of_an_update() {
    let middle = || vec![rs("v1", 5), rs("v2", 3)];
    check(
        json!({"replicas": 12}),
        middle(),
        &expect![[r#"
        web-v2 3 -> 5 desired-replicas=12
        web-v1 5 -> 9 desired-replicas=12
        waits for 3 of 12 instances of 58d5dfc74f to become available
    "#]],
    );
    check(
        json!({"replicas": 3}),
        middle(),
        &expect![[r#"
        web-v2 3 -> 1 desired-replicas=3
        web-v1 5 -> 4 desired-replicas=3
        waits for 5 instances of 6df5ccb844 to become 0
    "#]],
    );
    check(
        json!({"replicas": 0}),
        middle(),
        &expect![[r#"
        web-v2 3 -> 0 desired-replicas=0
        web-v1 5 -> 0 desired-replicas=0
        waits for 5 instances of 6df5ccb844 to become 0
    "#]],
    );
    // The only available pods are old ones: they stay.
    let sick = ReplicaSetView {
        available: 0,
        ..rs("v2", 6)
    };
    check(
        json!({"replicas": 3}),
        vec![rs("v1", 2), sick],
        &expect![[r#"
            web-v2 6 -> 3 desired-replicas=3
            web-v1 desired-replicas=3
            waits for 0 of 3 instances of 58d5dfc74f to become available
        "#]],
    );
    check(
        json!({"replicas": 9}),
        vec![rs("v2", 6)],
        &expect![[r#"
        web-v2 6 -> 9 desired-replicas=9
        waits for 6 of 9 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn a_paused_deployment_keeps_its_state() {
    let paused = |more: Value| {
        let mut spec = json!({"paused": true});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    check(
        paused(json!({})),
        vec![rs("v1", 6)],
        &expect![[r#"
        waits for resume: it is paused
    "#]],
    );
    check(
        paused(json!({})),
        vec![rs("v1", 4), rs("v2", 3)],
        &expect![[r#"
            waits for resume: it is paused
        "#]],
    );
    check(
        paused(json!({"replicas": 8})),
        vec![rs("v1", 6)],
        &expect![[r#"
            web-v1 6 -> 8 desired-replicas=8
            waits for resume: it is paused
        "#]],
    );
    check(
        paused(json!({"replicas": 8})),
        vec![rs("v1", 4), rs("v2", 4)],
        &expect![[r#"
            web-v2 4 -> 5 desired-replicas=8
            web-v1 4 -> 5 desired-replicas=8
            waits for resume: it is paused
        "#]],
    );
}

#[test]
fn recreate_ends_the_old_pods_first() {
    let spec = || json!({"strategy": {"type": "Recreate"}});
    check(
        spec(),
        vec![rs("v1", 6)],
        &expect![[r#"
        web-v1 6 -> 0 desired-replicas=6
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
    let leaving = PodView {
        terminating: true,
        owner_uid: Some("uid-v1".into()),
        ..PodView::from_pod(&k8s_openapi::api::core::v1::Pod::default())
    };
    let mut observed = with(vec![rs("v1", 0)]);
    observed.pods = vec![leaving];
    expect![[r#"
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]]
    .assert_eq(&show(&plan(&desired(spec()), &observed, at(100))));
    check(
        spec(),
        vec![rs("v1", 0)],
        &expect![[r#"
        create as revision 2 with 6
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
    check(
        spec(),
        vec![rs("v1", 0), rs("v2", 0)],
        &expect![[r#"
        web-v2 0 -> 6 desired-replicas=6
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn a_rollback_gets_the_next_number() {
    let mut old = rs("v2", 0);
    old.revision = 1;
    old.annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "1".into());
    let mut current = rs("v1", 6);
    current.revision = 3;
    check(
        json!({}),
        vec![old, current],
        &expect![[r#"
        web-v2 0 -> 2 desired-replicas=6 revision=4
        number 4
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn a_taken_name_is_passed_over() {
    let wanted = desired(json!({}));
    let name = |collisions| format!("web-{}", hash::template_hash(&wanted.template, collisions));
    let observed = Observed {
        taken: BTreeSet::from([name(0), name(1)]),
        ..Observed::default()
    };
    let plan = plan(&wanted, &observed, at(100));
    let Action::Create(rs) = &plan.actions[0] else {
        panic!("a ReplicaSet must be made");
    };
    assert_eq!(rs.metadata.name, Some(name(2)));
    assert_eq!(plan.status.collision_count, Some(2));
}

#[test]
fn replica_sets_are_claimed_by_uid() {
    // Deleted and made again under the same name: the ReplicaSet of the old one is not ours.
    let foreign = ReplicaSetView {
        owner_uid: Some("gone".into()),
        ..rs("v2", 6)
    };
    let orphan = ReplicaSetView {
        owner_uid: None,
        ..rs("v1", 6)
    };
    let stray = ReplicaSetView {
        labels: BTreeMap::new(),
        ..rs("v3", 1)
    };
    check(
        json!({}),
        vec![foreign, rs("v1", 6)],
        &expect![[r#"
        create as revision 2 with 2
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
    // Nothing is made before it is known what the orphan is.
    check(
        json!({}),
        vec![orphan, stray],
        &expect![[r#"
        adopt web-v1
        release web-v3
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn the_oldest_versions_are_forgotten() {
    let all = || vec![rs("v2", 6), rs("v1", 0), rs("v0", 0), rs("v3", 0)];
    let mut newest = rs("v2", 6);
    newest.revision = 9;
    newest
        .annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "9".into());
    let mut sets = all();
    sets[0] = newest;
    check(
        json!({"revisionHistoryLimit": 1}),
        sets.clone(),
        &expect![[r#"
            number 9
            delete web-v0
            delete web-v1
            waits for nothing
        "#]],
    );
    sets[0].available = 5;
    check(
        json!({"revisionHistoryLimit": 1}),
        sets,
        &expect![[r#"
        number 9
        waits for 5 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

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
fn every_problem_of_a_spec_is_named() {
    let raw = |spec: Value| {
        let mut d = deployment(json!({}));
        d.spec = serde_json::from_value(spec).unwrap();
        d
    };
    let template = json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": []}});
    let cases = [
        json!({"selector": {}, "template": template}),
        json!({
            "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}},
            "minReadySeconds": 600,
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": "many", "maxUnavailable": -1}},
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"type": "Recreate", "rollingUpdate": {}},
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"type": "Shuffle"},
        }),
    ];
    let mut out = String::new();
    for case in cases {
        for problem in lower(&raw(case)).unwrap_err() {
            writeln!(out, "{problem}").unwrap();
        }
        writeln!(out).unwrap();
    }
    expect![[r#"
        spec.selector: Required value: an empty one would select every pod; name the labels of the template's pods in matchLabels

        spec.template.metadata.labels: Invalid value: {"app":"api"}: `selector` does not match template `labels`
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
        spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds, or no version is ever in time

        spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": must be a number from 0, or a percentage such as "25%"
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be a number from 0, or a percentage such as "25%"

        spec.strategy.rollingUpdate: Forbidden: may not be given when strategy `type` is Recreate

        spec.strategy.type: Unsupported value: "Shuffle": supported values: "RollingUpdate", "Recreate"

    "#]].assert_eq(&out);
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

#[test]
fn a_deployment_that_is_being_deleted_is_left_alone() {
    let wanted = Desired {
        deleting: true,
        ..desired(json!({}))
    };
    let plan = plan(&wanted, &with(vec![rs("v1", 6)]), at(100));
    assert_eq!(plan.actions, []);
}
