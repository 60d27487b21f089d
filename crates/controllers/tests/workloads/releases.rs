//! What a ReleasePolicy adds to a Rollout, over the embedded API, on a virtual clock.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::keys::{annotation, condition};
use serin_api::release::ReleasePolicy;
use serin_api::rollout::{Rollout, RolloutPhase};

use crate::deployments;
use crate::rollouts::{
    counted, image_counts, is, pod_uids, release, rollout, route, selected, until, verb,
};
use crate::world::World;

async fn policy(world: &World, spec: Value) {
    let metadata = json!({"name": "careful"});
    let object = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "ReleasePolicy", "metadata": metadata, "spec": spec});
    world.create::<ReleasePolicy>(object).await;
}

/// A canary with a route whose release takes one step and no analysis.
fn routed() -> Value {
    json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5,
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web", "namespace": "default"}}},
        "steps": [{"setWeight": 20}, {"pause": {"duration": 3}}],
    }})
}

/// The annotation of the ReplicaSet with this image.
async fn remembered(world: &World, image: &str, key: &str) -> Option<String> {
    let sets = world.list::<ReplicaSet>().await.into_iter();
    let mut found = sets.filter(|set| {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let pod = template.and_then(|t| t.spec.as_ref());
        pod.is_some_and(|p| p.containers[0].image.as_deref() == Some(image))
    });
    found.next()?.annotations().get(key).cloned()
}

#[tokio::test(start_paused = true)]
async fn a_completed_release_is_undone_without_a_start_and_then_held() {
    let world = World::start();
    route(&world).await;
    let rollback = json!({"holdRejected": true, "keepWarm": {"duration": "1h"}});
    policy(&world, json!({"selector": {}, "rollback": rollback})).await;
    world.create::<Rollout>(rollout("v1", routed())).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy))
        .await
        .stable_rs;
    release(&world, "v2").await;
    let second = until(&world, "v2", is(RolloutPhase::Healthy))
        .await
        .stable_rs;
    assert_ne!(first, second);
    assert!(
        remembered(&world, "web:v2", annotation::PROMOTED_AT)
            .await
            .is_some()
    );

    let before = pod_uids(&world).await;
    release(&world, "v1").await;
    until(&world, "v1 again", |s| {
        s.stable_rs == first && s.phase == Some(RolloutPhase::Healthy)
    })
    .await;
    assert_eq!(selected(&world, "stable").await, first);
    let after = pod_uids(&world).await;
    assert!(
        after.iter().all(|uid| before.contains(uid)),
        "something was started"
    );
    let why = remembered(&world, "web:v2", annotation::TAKEN_BACK_WHY).await;
    assert_eq!(why.as_deref(), Some("undone: back to revision 1"));

    // The same version again, as a tool that syncs from Git would ask: it is held, until a person retries it.
    release(&world, "v2").await;
    let held = until(&world, "the hold", |s| s.abort).await;
    assert!(held.message.unwrap().contains("held: taken back at"));
    assert_eq!(selected(&world, "canary").await, first);
    verb(&world, json!({"status": {"abort": false}})).await;
    until(&world, "v2 after the retry", |s| {
        s.stable_rs == second && s.phase == Some(RolloutPhase::Healthy)
    })
    .await;
    assert_eq!(
        remembered(&world, "web:v2", annotation::TAKEN_BACK_AT).await,
        None
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_in_the_bake_goes_back_to_instances_that_never_left() {
    let world = World::start();
    route(&world).await;
    policy(&world, json!({"selector": {}, "bake": {"duration": "1h"}})).await;
    world.create::<Rollout>(rollout("v1", routed())).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy))
        .await
        .stable_rs;
    release(&world, "v2").await;
    until(&world, "the bake", |s| s.bake.is_some()).await;
    assert_ne!(selected(&world, "stable").await, first);
    let before = pod_uids(&world).await;
    let decision = json!({"by": "anna", "why": "errors at the checkout"});
    verb(
        &world,
        json!({"status": {"abort": true, "decision": decision}}),
    )
    .await;
    let aborted = until(&world, "the way back", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;
    assert_eq!(
        aborted.message.as_deref(),
        Some("taken back: errors at the checkout")
    );
    assert_eq!(selected(&world, "stable").await, first);
    assert!(
        pod_uids(&world)
            .await
            .iter()
            .all(|uid| before.contains(uid))
    );
    let by = remembered(&world, "web:v2", annotation::TAKEN_BACK_BY).await;
    assert_eq!(by.as_deref(), Some("anna"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_pods_that_were_tested_are_the_ones_that_stay() {
    let world = World::start();
    route(&world).await;
    world.create::<Rollout>(rollout("v1", routed())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let tested = |pods: Vec<Pod>| -> BTreeSet<String> {
        let of_v2 = pods.into_iter().filter(|pod| {
            let spec = pod.spec.as_ref().unwrap();
            spec.containers[0].image.as_deref() == Some("web:v2")
        });
        of_v2.filter_map(|pod| pod.uid()).collect()
    };
    let before = tested(world.list().await);
    assert_eq!(before.len(), 1);
    let end = until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert_eq!(end.stable_rs, end.current_pod_hash);
    let after = tested(world.list().await);
    assert_eq!(after.len(), 5);
    assert!(before.is_subset(&after), "{before:?} in {after:?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_a_release_is_told_once() {
    let mut world = World::start();
    route(&world).await;
    world.create::<Rollout>(rollout("v1", routed())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    world.kill_controllers().await;
    world.start_controllers();
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    // It looks many times more, also after another start, and has nothing to tell.
    for replicas in [4, 6] {
        world
            .merge::<Rollout>("web", json!({"spec": {"replicas": replicas}}))
            .await;
        until(&world, "its size", |s| {
            s.available_replicas == Some(replicas)
        })
        .await;
        world.kill_controllers().await;
        world.start_controllers();
    }
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in world.list::<Event>().await {
        let about = event.involved_object.kind.as_deref() == Some("Rollout");
        if about && let (Some(reason), Some(message)) = (event.reason, event.message) {
            *told.entry((reason, message)).or_default() += 1;
        }
    }
    let completed = told
        .keys()
        .filter(|(reason, _)| reason == "RolloutCompleted");
    assert_eq!(completed.count(), 2, "{told:#?}");
    assert!(told.values().all(|times| *times == 1), "{told:#?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_was_taken_back_is_held_until_a_person_retries() {
    let mut world = World::start();
    policy(
        &world,
        json!({"selector": {}, "rollback": {"holdRejected": true}}),
    )
    .await;
    world.create::<Deployment>(deployments::web("web:1")).await;
    deployments::rolled_out(&world).await;
    for image in ["web:2", "web:1"] {
        let change = deployments::set_image(image);
        world.merge::<Deployment>("web", change).await;
        deployments::rolled_out(&world).await;
    }
    // The same version again is held, also by a controller that has just started and when its size changes.
    world
        .merge::<Deployment>("web", deployments::set_image("web:2"))
        .await;
    let held = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|d| d.status.as_ref());
        let conditions = status.and_then(|s| s.conditions.as_deref());
        let held = conditions.and_then(|all| conditions::get(all, condition::HELD));
        held.is_some_and(|c| {
            c.status == "True"
                && c.message
                    .as_deref()
                    .unwrap_or_default()
                    .contains("taken back")
        })
    };
    world.until("web", "held", held).await;
    world.kill_controllers().await;
    world.start_controllers();
    world
        .merge::<Deployment>("web", json!({"spec": {"replicas": 7}}))
        .await;
    let seven = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|d| d.status.as_ref());
        held(deployment) && status.is_some_and(|s| s.available_replicas == Some(7))
    };
    world.until("web", "held with seven", seven).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:1", 7)]));
    // What `serin rollout retry deploy/web` writes.
    let retried =
        json!({"metadata": {"annotations": {annotation::RETRIED_AT: world.now().to_string()}}});
    world.merge::<Deployment>("web", retried).await;
    deployments::rolled_out(&world).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:2", 7)]));
    world.stop().await;
}
