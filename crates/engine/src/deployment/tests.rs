mod model;
mod properties;
mod revisions;
mod spec;
mod status;

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::hash;
use k8s_openapi::api::apps::v1::Deployment;
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
            (
                key::PROMOTED_AT.into(),
                at(i64::try_from(revision).unwrap()).to_string(),
            ),
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
                let key = key.rsplit('/').next().unwrap();
                let value = value.as_deref().unwrap_or("(none)");
                write!(text, " {key}={value}").unwrap();
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
fn a_deployment_that_is_being_deleted_is_left_alone() {
    let wanted = Desired {
        deleting: true,
        ..desired(json!({}))
    };
    let plan = plan(&wanted, &with(vec![rs("v1", 6)]), at(100));
    assert_eq!(plan.actions, []);
}
