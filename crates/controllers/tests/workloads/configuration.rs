//! ConfigMaps and Secrets as part of a revision, over the embedded API, on a virtual clock.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use serin_api::release::ReleasePolicy;
use serin_api::rollout::{Rollout, RolloutPhase};

use crate::rollouts::{is, rollout, until, verb};
use crate::world::{Object, World};

async fn policy(world: &World) {
    let spec = json!({"selector": {}, "configuration": {}});
    let object = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "ReleasePolicy", "metadata": {"name": "versioned"}, "spec": spec});
    world.create::<ReleasePolicy>(object).await;
}

async fn config_map(world: &World, greeting: &str) {
    let object = json!({"metadata": {"name": "app"}, "data": {"greeting": greeting}});
    world.create::<ConfigMap>(object).await;
}

/// A canary by replicas that waits for a person after its first step, and reads a ConfigMap and a Secret.
fn reading() -> Value {
    let strategy = json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}});
    let mut object = rollout("v1", strategy);
    object["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
        {"configMapRef": {"name": "app"}}, {"secretRef": {"name": "password", "optional": true}},
    ]);
    object
}

/// The names that the live pods read, and how many pods read each.
async fn read_by_pods(world: &World, kind: &str) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    let pods = world.list::<Pod>().await.into_iter();
    for pod in pods.filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let spec = serde_json::to_value(pod.spec).unwrap();
        for from in spec["containers"][0]["envFrom"].as_array().unwrap() {
            if let Some(name) = from[kind]["name"].as_str() {
                *counts.entry(name.to_owned()).or_insert(0) += 1;
            }
        }
    }
    counts.into_iter().collect()
}

/// The greetings of the copies that exist.
async fn greetings(world: &World) -> BTreeSet<String> {
    let all = ListParams::default().labels("serin.dev/configuration-copy");
    let copies = world.api::<ConfigMap>().list(&all).await.unwrap();
    let data = copies.items.into_iter().map(|copy| {
        assert_eq!(copy.immutable, Some(true));
        copy.data.unwrap()["greeting"].clone()
    });
    data.collect()
}

async fn change<K: Object>(world: &World, name: &str, patch: Value) {
    world.merge::<K>(name, patch).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_map_is_released_step_by_step_and_undone() {
    let world = World::start();
    policy(&world).await;
    config_map(&world, "hello").await;
    world.create::<Rollout>(reading()).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let hello = read_by_pods(&world, "configMapRef").await;
    assert_eq!(hello.len(), 1);
    assert!(
        hello[0].0.starts_with("app-") && hello[0].1 == 5,
        "{hello:?}"
    );

    change::<ConfigMap>(&world, "app", json!({"data": {"greeting": "hi"}})).await;
    let on_trial = until(&world, "the pause", |s| s.controller_pause).await;
    assert_ne!(on_trial.current_pod_hash, first.current_pod_hash);
    assert_eq!(on_trial.stable_rs, first.stable_rs);
    let both = read_by_pods(&world, "configMapRef").await;
    assert_eq!(both.iter().map(|(_, n)| n).sum::<usize>(), 5);
    assert!(both.contains(&(hello[0].0.clone(), 4)), "{both:?}");
    assert_eq!(
        greetings(&world).await,
        ["hello".into(), "hi".into()].into()
    );

    // An abort brings the old content back, though the ConfigMap still has the new one, and though it goes.
    verb(&world, json!({"status": {"abort": true}})).await;
    world
        .api::<ConfigMap>()
        .delete("app", &DeleteParams::default())
        .await
        .unwrap();
    until(&world, "the way back", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;
    assert_eq!(read_by_pods(&world, "configMapRef").await, hello);

    // An undo writes the template of the old revision, which names its copy.
    let sets = world.list::<ReplicaSet>().await;
    let old = sets.iter().find(|set| {
        set.name_any()
            .ends_with(first.stable_rs.as_deref().unwrap())
    });
    let template = old.unwrap().spec.clone().unwrap().template.unwrap();
    change::<Rollout>(&world, "web", json!({"spec": {"template": template}})).await;
    let undone = until(&world, "the undo", is(RolloutPhase::Healthy)).await;
    assert_eq!(undone.current_pod_hash, first.current_pod_hash);
    assert_eq!(read_by_pods(&world, "configMapRef").await, hello);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_in_mid_release_begins_again_and_old_copies_go() {
    let world = World::start();
    policy(&world).await;
    config_map(&world, "0").await;
    let mut object = reading();
    object["spec"]["revisionHistoryLimit"] = json!(1);
    world.create::<Rollout>(object).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let mut copies = vec![read_by_pods(&world, "configMapRef").await[0].0.clone()];
    for greeting in ["1", "2", "3"] {
        change::<ConfigMap>(&world, "app", json!({"data": {"greeting": greeting}})).await;
        until(&world, "the pause", |s| {
            s.controller_pause && s.current_step_index == Some(1)
        })
        .await;
        // What is on trial is what the ConfigMap says now.
        assert!(greetings(&world).await.contains(greeting));
        let read = read_by_pods(&world, "configMapRef").await.into_iter();
        copies.extend(
            read.map(|(name, _)| name)
                .find(|name| !copies.contains(name)),
        );
    }
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "3", is(RolloutPhase::Healthy)).await;
    // The history holds one old revision, so one old content is left beside the new one: the copies of the first two go.
    for copy in &copies[..2] {
        world
            .until::<ConfigMap>(copy, "forgotten", |found| found.is_none())
            .await;
    }
    assert_eq!(greetings(&world).await, ["2".into(), "3".into()].into());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_named_and_what_is_optional_is_not() {
    let world = World::start();
    policy(&world).await;
    world.create::<Rollout>(reading()).await;
    let held = until(&world, "the problem", is(RolloutPhase::Degraded)).await;
    let message = held.message.unwrap();
    assert!(
        message.contains(r#"ConfigMap "app" not found"#),
        "{message}"
    );
    assert!(!message.contains("password"), "{message}");
    assert_eq!(world.list::<ReplicaSet>().await.len(), 0);
    config_map(&world, "hello").await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_released_too_and_its_value_is_told_to_nobody() {
    let world = World::start();
    policy(&world).await;
    config_map(&world, "hello").await;
    let left_out = json!({"metadata": {"name": "left-out", "annotations": {"serin.dev/versioned": "false"}}, "data": {}});
    world.create::<ConfigMap>(left_out).await;
    let secret = json!({"metadata": {"name": "password"}, "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
    world.create::<Secret>(secret).await;
    let mut object = reading();
    let sources = &mut object["spec"]["template"]["spec"]["containers"][0]["envFrom"];
    sources
        .as_array_mut()
        .unwrap()
        .push(json!({"configMapRef": {"name": "left-out"}}));
    world.create::<Rollout>(object).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let read = read_by_pods(&world, "secretRef").await;
    assert!(read[0].0.starts_with("password-"), "{read:?}");
    let maps = read_by_pods(&world, "configMapRef").await;
    assert!(maps.contains(&("left-out".into(), 5)), "{maps:?}");

    change::<ConfigMap>(&world, "left-out", json!({"data": {"a": "b"}})).await;
    change::<Secret>(
        &world,
        "password",
        json!({"data": {"password": "c3dvcmRmaXNo"}}),
    )
    .await;
    let second = until(&world, "the pause", |s| s.controller_pause).await;
    assert_ne!(first.current_pod_hash, second.current_pod_hash);
    let told = serde_json::to_string(&world.list::<Event>().await).unwrap();
    let told = told + &serde_json::to_string(&world.get::<Rollout>("web").await).unwrap();
    for hidden in ["aHVudGVyMg==", "c3dvcmRmaXNo", "hunter2", "swordfish"] {
        assert!(!told.contains(hidden));
    }
    world.stop().await;
}
