//! What a ReleasePolicy adds to a Rollout, over the embedded API, on a virtual clock.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::release::ReleasePolicy;
use serin_api::rollout::{Rollout, RolloutPhase};

use crate::rollouts::{is, pod_uids, release, rollout, route, selected, until, verb};
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
