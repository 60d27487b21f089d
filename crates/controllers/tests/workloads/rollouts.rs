//! Rollouts over the embedded API, on a virtual clock. Nobody acknowledges here: there is no gateway.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use serin_api::analysis::{AnalysisPhase, AnalysisRun, AnalysisTemplate};
use serin_api::gateway_api::HTTPRoute;
use serin_api::keys::label;
use serin_api::rollout::{Rollout, RolloutPhase, RolloutStatus};

use crate::world::{World, is_ready};

pub(crate) fn rollout(version: &str, strategy: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": {
            "replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": template(version),
        },
    })
}

pub(crate) fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": format!("web:{version}")}]},
    })
}

pub(crate) async fn release(world: &World, version: &str) {
    let patch = json!({"spec": {"template": template(version)}});
    world.merge::<Rollout>("web", patch).await;
}

pub(crate) async fn service(world: &World, name: &str) {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    let object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    world.create::<Service>(object).await;
}

/// Deletes the Rollout, if asked for while the controllers are away.
pub(crate) async fn delete(world: &mut World, params: &DeleteParams, while_away: bool) {
    if while_away {
        world.kill_controllers().await;
    }
    world.api::<Rollout>().delete("web", params).await.unwrap();
    if while_away {
        world
            .until::<Rollout>("web", "gone", |rollout| rollout.is_none())
            .await;
        world.start_controllers();
    }
}

/// What a client does: a patch of the status alone.
pub(crate) async fn verb(world: &World, patch: Value) {
    let params = PatchParams::default();
    let api = world.api::<Rollout>();
    api.patch_status("web", &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

pub(crate) async fn until(
    world: &World,
    what: &str,
    holds: impl Fn(&RolloutStatus) -> bool,
) -> RolloutStatus {
    until_status(world, "web", what, holds).await
}

/// Waits until the status of the present spec is like this.
pub(crate) async fn until_status(
    world: &World,
    name: &str,
    what: &str,
    holds: impl Fn(&RolloutStatus) -> bool,
) -> RolloutStatus {
    let seen = world.until(name, what, |rollout: Option<&Rollout>| {
        let Some(rollout) = rollout else { return false };
        let status = rollout.status.clone().unwrap_or_default();
        let generation = rollout.metadata.generation.map(|g| g.to_string());
        status.observed_generation == generation && holds(&status)
    });
    let rollout = Box::pin(seen).await;
    rollout.and_then(|r| r.status).unwrap_or_default()
}

pub(crate) fn is(phase: RolloutPhase) -> impl Fn(&RolloutStatus) -> bool {
    move |status| status.phase == Some(phase)
}

pub(crate) async fn image_counts(world: &World) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    let pods = world.list::<Pod>().await.into_iter();
    let staying = pods.filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
    for pod in staying {
        let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
        *counts.entry(image).or_default() += 1;
    }
    counts.into_iter().collect()
}

pub(crate) fn counted(counts: &[(&str, usize)]) -> Vec<(String, usize)> {
    counts
        .iter()
        .map(|(image, n)| ((*image).to_owned(), *n))
        .collect()
}

pub(crate) fn pausing() -> Value {
    json!({"canary": {"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "30m"}}]}})
}

#[tokio::test(start_paused = true)]
async fn a_canary_by_replicas_waits_for_a_person_and_for_time() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    assert_eq!(paused.current_step_index, Some(1));
    assert_eq!(
        image_counts(&world).await,
        counted(&[("web:v1", 4), ("web:v2", 1)])
    );

    verb(&world, json!({"status": {"pauseConditions": null}})).await;
    let before = world.now();
    until(&world, "the second pause", |s| {
        s.current_step_index == Some(3) && s.phase == Some(RolloutPhase::Paused)
    })
    .await;
    assert_eq!(
        image_counts(&world).await,
        counted(&[("web:v1", 2), ("web:v2", 3)])
    );
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert!(world.now().duration_since(before).as_mins() >= 30);
    assert_eq!(image_counts(&world).await, counted(&[("web:v2", 5)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_goes_back_and_a_retry_begins_again() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    verb(&world, json!({"status": {"abort": true}})).await;
    let aborted = until(&world, "the abort", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;
    assert_eq!(aborted.phase, Some(RolloutPhase::Degraded));
    until(&world, "all of v1", |s| s.available_replicas == Some(5)).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:v1", 5)]));
    verb(&world, json!({"status": {"abort": false}})).await;
    until(&world, "the pause again", |s| {
        s.current_step_index == Some(1) && s.phase == Some(RolloutPhase::Paused)
    })
    .await;
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:v2", 5)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn killed_controllers_go_on_at_the_same_step() {
    let mut world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let sets = world.list::<ReplicaSet>().await.len();
    world.kill_controllers().await;
    verb(&world, json!({"status": {"pauseConditions": null}})).await;
    world.start_controllers();
    let next = until(&world, "the second pause", |s| {
        s.current_step_index == Some(3)
    })
    .await;
    assert!(!next.abort);
    assert_eq!(world.list::<ReplicaSet>().await.len(), sets);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_release_waits_for_a_person_and_its_undo_starts_nothing() {
    let world = World::start();
    service(&world, "active").await;
    service(&world, "preview").await;
    let strategy = json!({"blueGreen": {"activeService": "active", "previewService": "preview", "autoPromotionEnabled": false, "scaleDownDelaySeconds": 600}});
    world.create::<Rollout>(rollout("v1", strategy)).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy))
        .await
        .stable_rs;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    assert_eq!(selected(&world, "active").await, first);
    assert_ne!(selected(&world, "preview").await, first);

    verb(&world, json!({"status": {"pauseConditions": null}})).await;
    let second = until(&world, "v2", is(RolloutPhase::Healthy))
        .await
        .stable_rs;
    assert_eq!(selected(&world, "active").await, second);
    let before: Vec<_> = pod_uids(&world).await;
    release(&world, "v1").await;
    until(&world, "v1 again", |s| {
        s.stable_rs == first && s.phase == Some(RolloutPhase::Healthy)
    })
    .await;
    assert_eq!(selected(&world, "active").await, first);
    assert!(
        pod_uids(&world)
            .await
            .iter()
            .all(|uid| before.contains(uid))
    );
    world.stop().await;
}

pub(crate) async fn selected(world: &World, service: &str) -> Option<String> {
    let service: Service = world.get(service).await;
    service
        .spec?
        .selector?
        .get(label::ROLLOUT_POD_TEMPLATE_HASH)
        .cloned()
}

pub(crate) async fn pod_uids(world: &World) -> Vec<String> {
    world
        .list::<Pod>()
        .await
        .iter()
        .filter_map(ResourceExt::uid)
        .collect()
}

pub(crate) fn routed() -> Value {
    let analysis = json!({"templates": [{"templateName": "errors"}]});
    json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5,
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web", "namespace": "default"}}},
        "steps": [{"setWeight": 20}, {"analysis": analysis}],
    }})
}

pub(crate) async fn route(world: &World) {
    service(world, "stable").await;
    service(world, "canary").await;
    let refs = json!([{"name": "stable", "port": 80, "weight": 100}, {"name": "canary", "port": 80, "weight": 0}]);
    let spec = json!({"rules": [{"backendRefs": refs}]});
    let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": spec});
    world.create::<HTTPRoute>(object).await;
}

pub(crate) async fn weights(world: &World) -> Vec<i32> {
    let route: HTTPRoute = world.get("web").await;
    route.spec.rules[0]
        .backend_refs
        .iter()
        .map(|b| b.weight.unwrap_or(1))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_named_and_nothing_is_touched() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", routed())).await;
    let invalid = until(&world, "the problems", is(RolloutPhase::Degraded)).await;
    let message = invalid.message.unwrap();
    for missing in [
        "service \"stable\" not found",
        "service \"canary\" not found",
        "HTTPRoute \"web\" not found",
        "AnalysisTemplate \"errors\" not found",
    ] {
        assert!(message.contains(missing), "{message}");
    }
    assert_eq!(world.list::<ReplicaSet>().await.len(), 0);
    // Once everything is there it goes on by itself.
    route(&world).await;
    let metric = json!({"name": "m", "provider": {"serin": {"metric": "requests"}}});
    let template = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "errors"}, "spec": {"metrics": [metric]}});
    world.create::<AnalysisTemplate>(template).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_of_metrics_that_is_down_never_promotes() {
    let world = World::start();
    route(&world).await;
    let metric = json!({"name": "m", "interval": "5s", "count": 3, "provider": {"serin": {"metric": "error-ratio"}}, "successCondition": "result < 0.01"});
    let template = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "errors"}, "spec": {"metrics": [metric]}});
    world.create::<AnalysisTemplate>(template).await;
    world.create::<Rollout>(rollout("v1", routed())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    assert_eq!(weights(&world).await, [100, 0]);
    release(&world, "v2").await;
    until(&world, "the analysis", |s| s.current_step_index == Some(1)).await;
    assert_eq!(weights(&world).await, [80, 20]);

    let aborted = until(&world, "the abort", |s| s.abort).await;
    assert!(aborted.message.unwrap().contains("could not be taken"));
    until(&world, "the way back", |s| {
        s.canary
            .weights
            .as_ref()
            .is_some_and(|w| w.canary.weight == 0 && w.verified == Some(true))
    })
    .await;
    assert_eq!(weights(&world).await, [100, 0]);
    let runs: Vec<AnalysisRun> = world.list().await;
    assert_eq!(
        runs.iter()
            .map(|r| r.status.as_ref().unwrap().phase)
            .collect::<Vec<_>>(),
        [AnalysisPhase::Error]
    );
    assert_eq!(image_counts(&world).await[0], ("web:v1".to_owned(), 5));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_missing_is_named_and_is_an_error() {
    let world = World::start();
    let from = json!({"secretKeyRef": {"name": "gone", "key": "token"}});
    let web = json!({"web": {"url": "http://127.0.0.1:1/?token={{args.token}}"}});
    let spec = json!({"args": [{"name": "token", "valueFrom": from}], "metrics": [{"name": "m", "provider": web}]});
    let run = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun", "metadata": {"name": "x"}, "spec": spec});
    world.create::<AnalysisRun>(run).await;
    let ended = |run: Option<&AnalysisRun>| {
        let status = run.and_then(|run| run.status.as_ref());
        status.is_some_and(|status| status.phase == AnalysisPhase::Error)
    };
    let run = world.until("x", "an error", ended).await.unwrap();
    let message = run.status.unwrap().message.unwrap();
    assert!(
        message.contains("Secret default/gone not found"),
        "{message}"
    );
    world.stop().await;
}

/// The ReplicaSet of a Rollout as Argo Rollouts leaves it on a cluster: its own hash, defaults written out, no digest of ours.
async fn left_by_argo(world: &World, hash: &str) -> Rollout {
    let labels = json!({"app": "web", label::ROLLOUT_POD_TEMPLATE_HASH: hash});
    let mut pods = template("v1");
    pods["metadata"]["labels"] = labels.clone();
    pods["spec"]["restartPolicy"] = "Always".into();
    pods["spec"]["dnsPolicy"] = "ClusterFirst".into();
    pods["spec"]["terminationGracePeriodSeconds"] = 30.into();
    pods["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
    let owner: Rollout = world.create(rollout("v1", pausing())).await;
    let uid = owner.metadata.uid.clone();
    let owned = json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": uid, "controller": true}]);
    let metadata = json!({
        "name": format!("web-{hash}"), "labels": labels, "ownerReferences": owned,
        "annotations": {"rollout.argoproj.io/revision": "3", "rollout.argoproj.io/desired-replicas": "5"},
    });
    let spec = json!({"replicas": 5, "selector": {"matchLabels": labels}, "template": pods});
    let set =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec});
    world.create::<ReplicaSet>(set).await;
    owner
}

#[tokio::test(start_paused = true)]
async fn live_replica_sets_of_argo_rollouts_are_taken_over() {
    let mut world = World::start();
    // Nobody looks after Rollouts until all is as another controller left it.
    world.kill_controllers().await;
    left_by_argo(&world, "6f9c7d8b5c").await;
    let told = json!({
        "stableRS": "6f9c7d8b5c", "currentPodHash": "6f9c7d8b5c", "currentStepIndex": 4, "phase": "Healthy",
        "observedGeneration": "1", "replicas": 5, "readyReplicas": 5, "availableReplicas": 5, "updatedReplicas": 5,
    });
    verb(&world, json!({"status": told})).await;
    world.start_controllers();
    let full = |set: Option<&ReplicaSet>| {
        let status = set.and_then(|set| set.status.as_ref());
        status.is_some_and(|status| status.available_replicas == Some(5))
    };
    world.until("web-6f9c7d8b5c", "full", full).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let uids = |pods: Vec<Pod>| {
        let uids = pods.into_iter().filter_map(|pod| pod.metadata.uid);
        uids.collect::<std::collections::BTreeSet<_>>()
    };
    let before = uids(world.list().await);
    assert_eq!(before.len(), 5);
    // The next release goes from the set that was found to one of our own; none of its pods was started again before.
    release(&world, "v2").await;
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    assert_eq!(paused.stable_rs.as_deref(), Some("6f9c7d8b5c"));
    assert_eq!(world.list::<ReplicaSet>().await.len(), 2);
    let counts = counted(&[("web:v1", 4), ("web:v2", 1)]);
    assert_eq!(image_counts(&world).await, counts);
    let after = uids(world.list().await);
    assert!(before.intersection(&after).count() >= 4);
    world.stop().await;
}
