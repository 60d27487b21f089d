//! Updates, rollbacks, sizes, pauses, and what happens when something goes wrong on the way.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use serin_api::keys::annotation;

use crate::world::{BAD, Bounds, NOWHERE, World};

/// The rolling example of the documents: six, two more, one less.
pub(crate) fn web(image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "annotations": {"kubernetes.io/change-cause": image}},
        "spec": {
            "replicas": 6,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
        },
    })
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 80}]}]},
    })
}

pub(crate) fn set_image(image: &str) -> Value {
    json!({
        "metadata": {"annotations": {"kubernetes.io/change-cause": image}},
        "spec": {"template": template(image)},
    })
}

/// As `kubectl rollout status` sees it.
pub(crate) fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some((spec, status, meta)) =
        deployment.and_then(|d| Some((d.spec.as_ref()?, d.status.as_ref()?, &d.metadata)))
    else {
        return false;
    };
    status.observed_generation == meta.generation
        && status.updated_replicas == spec.replicas
        && status.replicas == spec.replicas
        && status.available_replicas == spec.replicas
        && reason(status.conditions.as_deref()) == Some("NewReplicaSetAvailable")
}

fn reason(conditions: Option<&[DeploymentCondition]>) -> Option<&str> {
    serin_api::conditions::get(conditions?, "Progressing")?
        .reason
        .as_deref()
}

pub(crate) async fn rolled_out(world: &World) -> Deployment {
    let done = world.until("web", "rolled out", is_rolled_out).await;
    done.unwrap()
}

async fn images(world: &World) -> BTreeMap<String, usize> {
    let mut images = BTreeMap::new();
    for pod in world.list::<Pod>().await {
        if pod.metadata.deletion_timestamp.is_none() {
            let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
            *images.entry(image).or_insert(0) += 1;
        }
    }
    images
}

fn check_example(bounds: Bounds) {
    assert!(bounds.events > 0);
    assert!(bounds.most <= 8, "{bounds:?}");
    assert!(bounds.fewest_available >= 5, "{bounds:?}");
}

/// Revision and cause of every ReplicaSet, as `kubectl rollout history` shows them.
async fn history(world: &World) -> Vec<(u64, String)> {
    let sets = world.list::<ReplicaSet>().await;
    let mut lines: Vec<_> = sets
        .iter()
        .map(|rs| {
            let notes = rs.annotations();
            let revision = notes[annotation::DEPLOYMENT_REVISION].parse().unwrap();
            (revision, notes[annotation::CHANGE_CAUSE].clone())
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn an_update_of_six_stays_in_its_bounds() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world.watch_bounds();
    world.merge::<Deployment>("web", set_image("v2")).await;
    let deployment = rolled_out(&world).await;
    check_example(world.bounds());
    assert_eq!(images(&world).await, BTreeMap::from([("v2".into(), 6)]));
    assert_eq!(
        deployment.annotations()[annotation::DEPLOYMENT_REVISION],
        "2"
    );
    let told = world.list::<Event>().await;
    let told = told.iter().filter_map(|e| e.message.as_deref());
    assert!(
        told.clone().any(|m| m.contains("from 0 to 2")),
        "{:?}",
        told.collect::<Vec<_>>()
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_undo_gets_the_next_number_and_the_old_pods_back() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    for image in ["v2", "v3"] {
        world.merge::<Deployment>("web", set_image(image)).await;
        rolled_out(&world).await;
    }
    let causes = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
        list.iter()
            .map(|(n, cause)| (*n, (*cause).to_owned()))
            .collect()
    };
    assert_eq!(
        history(&world).await,
        causes(&[(1, "v1"), (2, "v2"), (3, "v3")])
    );
    // What `kubectl rollout undo --to-revision=2` sends.
    world.watch_bounds();
    let undo = json!([
        {"op": "replace", "path": "/spec/template", "value": template("v2")},
        {"op": "replace", "path": "/metadata/annotations", "value": {"kubernetes.io/change-cause": "v2"}},
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(undo).unwrap());
    let api = world.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let deployment = rolled_out(&world).await;
    check_example(world.bounds());
    assert_eq!(
        history(&world).await,
        causes(&[(1, "v1"), (3, "v3"), (4, "v2")])
    );
    assert_eq!(
        deployment.annotations()[annotation::DEPLOYMENT_REVISION],
        "4"
    );
    assert_eq!(images(&world).await, BTreeMap::from([("v2".into(), 6)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_never_gets_ready_leaves_the_old_one_serving() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world.watch_bounds();
    world.merge::<Deployment>("web", set_image(BAD)).await;
    let late = world.until("web", "late", |d: Option<&Deployment>| {
        let status = d.and_then(|d| d.status.as_ref());
        reason(status.and_then(|s| s.conditions.as_deref())) == Some("ProgressDeadlineExceeded")
    });
    late.await;
    check_example(world.bounds());
    world.merge::<Deployment>("web", set_image("v3")).await;
    rolled_out(&world).await;
    check_example(world.bounds());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_controllers_in_the_middle_loses_nothing() {
    let mut world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world.watch_bounds();
    world.merge::<Deployment>("web", set_image("v2")).await;
    for updated in 1..=5 {
        let moved = world.until("web", "moved", move |d: Option<&Deployment>| {
            let status = d.and_then(|d| d.status.as_ref());
            status.and_then(|s| s.updated_replicas) >= Some(updated)
        });
        moved.await;
        world.kill_controllers().await;
        world.start_controllers();
    }
    rolled_out(&world).await;
    check_example(world.bounds());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_can_be_scaled_and_paused() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world
        .merge::<Deployment>("web", json!({"spec": {"replicas": 9}}))
        .await;
    rolled_out(&world).await;
    assert_eq!(images(&world).await, BTreeMap::from([("v1".into(), 9)]));
    world
        .merge::<Deployment>("web", json!({"spec": {"replicas": 2}}))
        .await;
    rolled_out(&world).await;
    assert_eq!(images(&world).await, BTreeMap::from([("v1".into(), 2)]));
    let mut paused = set_image("v2");
    paused["spec"]["paused"] = json!(true);
    world.merge::<Deployment>("web", paused).await;
    world
        .until("web", "paused", |d: Option<&Deployment>| {
            let status = d.and_then(|d| d.status.as_ref());
            reason(status.and_then(|s| s.conditions.as_deref())) == Some("DeploymentPaused")
        })
        .await;
    assert_eq!(images(&world).await, BTreeMap::from([("v1".into(), 2)]));
    world
        .merge::<Deployment>("web", json!({"spec": {"paused": false}}))
        .await;
    rolled_out(&world).await;
    assert_eq!(images(&world).await, BTreeMap::from([("v2".into(), 2)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_minimum_readiness_is_kept() {
    let world = World::start();
    let mut slow = web("v1");
    slow["spec"]["minReadySeconds"] = json!(60);
    let before = world.now();
    world.create::<Deployment>(slow).await;
    rolled_out(&world).await;
    assert!(world.now().duration_since(before).as_secs() >= 60);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleted_and_made_again_under_the_same_name_leaves_no_orphan() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world.merge::<Deployment>("web", set_image("v2")).await;
    let api = world.api::<Deployment>();
    api.delete("web", &DeleteParams::background())
        .await
        .unwrap();
    let deployment = world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    let sets = world.list::<ReplicaSet>().await;
    let pods = world.list::<Pod>().await;
    let live = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    assert_eq!(pods.iter().filter(live).count(), 6);
    for rs in sets
        .iter()
        .filter(|rs| rs.status.as_ref().is_some_and(|s| s.replicas > 0))
    {
        assert_eq!(rs.owner_references()[0].uid, deployment.uid().unwrap());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_takes_everything_with_it() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    let pod = world.list::<Pod>().await[0].name_any();
    let api = world.api::<Deployment>();
    api.delete("web", &DeleteParams::background())
        .await
        .unwrap();
    world
        .until("web", "gone", |d: Option<&Deployment>| d.is_none())
        .await;
    world
        .until(&pod, "gone", |p: Option<&Pod>| p.is_none())
        .await;
    assert_eq!(world.list::<ReplicaSet>().await, []);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_pod_is_replaced_and_a_relabelled_one_let_go() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    let pods = world.list::<Pod>().await;
    let (lost, kept) = (pods[0].name_any(), pods[1].name_any());
    let api = world.api::<Pod>();
    api.delete(&lost, &DeleteParams::default()).await.unwrap();
    world
        .merge::<Pod>(&kept, json!({"metadata": {"labels": {"app": "debug"}}}))
        .await;
    let free = world.until(&kept, "free", |p: Option<&Pod>| {
        p.is_some_and(|p| p.owner_references().is_empty())
    });
    free.await;
    let short = |d: Option<&Deployment>| !is_rolled_out(d);
    world.until("web", "short of pods", short).await;
    rolled_out(&world).await;
    assert_eq!(images(&world).await, BTreeMap::from([("v1".into(), 7)]));
    // And back: a pod too many, one goes.
    world
        .merge::<Pod>(&kept, json!({"metadata": {"labels": {"app": "web"}}}))
        .await;
    let owned = world.until(&kept, "owned", |p: Option<&Pod>| {
        p.is_none_or(|p| !p.owner_references().is_empty())
    });
    owned.await;
    let wanted = BTreeMap::from([("v1".into(), 6)]);
    world.until_seen(&wanted, images).await;
    world.stop().await;
}

/// The same in real time and on several threads: one update overtakes the other, and the controllers crash on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hurried_updates_stay_in_their_bounds() {
    let mut world = World::start_with(std::time::Duration::from_millis(20));
    world.create::<Deployment>(web("v1")).await;
    rolled_out(&world).await;
    world.watch_bounds();
    for round in 2..12 {
        let image = if round % 4 == 0 {
            BAD.to_owned()
        } else {
            format!("v{round}")
        };
        let generation = world
            .merge::<Deployment>("web", set_image(&image))
            .await
            .metadata
            .generation;
        let begun = world.until("web", "begun", move |d: Option<&Deployment>| {
            let status = d.and_then(|d| d.status.as_ref());
            status.is_some_and(|s| {
                s.observed_generation >= generation && s.updated_replicas >= Some(1)
            })
        });
        begun.await;
        if round % 3 == 0 {
            world.kill_controllers().await;
            world.start_controllers();
        }
    }
    rolled_out(&world).await;
    check_example(world.bounds());
    assert_eq!(images(&world).await, BTreeMap::from([("v11".into(), 6)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_node_go_at_once() {
    let world = World::start();
    world.create::<Deployment>(web(NOWHERE)).await;
    for replicas in [40, 1] {
        world
            .merge::<Deployment>("web", json!({"spec": {"replicas": replicas}}))
            .await;
        let counted = world.until("web", "scaled", |d: Option<&Deployment>| {
            let status = d.and_then(|d| d.status.as_ref());
            status.is_some_and(|s| s.replicas == Some(replicas))
        });
        counted.await;
        let all = world.list::<Pod>().await.len();
        assert_eq!(i32::try_from(all), Ok(replicas), "none is left that ends");
    }
    world.stop().await;
}
