//! Who gets requests: readiness, selectors and generations.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde_json::json;
use serin_api::keys::{annotation, label};

use crate::deployments::{rolled_out, web};
use crate::world::{World, is_ready};

/// Revision, generation and number of ready addresses of each slice.
async fn slices(world: &World) -> Vec<(String, String, usize)> {
    let slices = world.list::<EndpointSlice>().await;
    let mut shown: Vec<_> = slices
        .iter()
        .map(|slice| {
            let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
                e.conditions.as_ref().and_then(|c| c.ready) == Some(true)
            };
            (
                slice.labels()[label::REVISION].clone(),
                slice.annotations()[annotation::SERVICE_GENERATION].clone(),
                slice.endpoints.iter().filter(ready).count(),
            )
        })
        .collect();
    shown.sort();
    shown
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_the_pods_and_the_selector() {
    let world = World::start();
    world.create::<Deployment>(web("v1")).await;
    let deployment = rolled_out(&world).await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]},
    });
    let service = world.create::<Service>(service).await;
    let full = |e: Option<&Endpoints>| {
        let subsets = e.and_then(|e| e.subsets.as_deref()).unwrap_or_default();
        let ready = subsets.iter().flat_map(|s| s.addresses.iter().flatten());
        ready.count() == 6
    };
    world.until("web", "full", full).await;
    let ready: BTreeSet<_> = world
        .list::<Pod>()
        .await
        .iter()
        .filter(|p| is_ready(p))
        .map(|p| p.status.as_ref().unwrap().pod_ip.clone().unwrap())
        .collect();
    let endpoints: Endpoints = world.get("web").await;
    let subset = &endpoints.subsets.unwrap()[0];
    let listed: BTreeSet<_> = subset
        .addresses
        .iter()
        .flatten()
        .map(|a| a.ip.clone())
        .collect();
    assert_eq!(listed, ready);
    let hash = &world.list::<ReplicaSet>().await[0].labels()[label::POD_TEMPLATE_HASH].clone();
    let generation = service.metadata.generation.unwrap();
    assert_eq!(
        slices(&world).await,
        [(hash.clone(), generation.to_string(), 6)]
    );
    assert_eq!(deployment.name_any(), "web");

    // As a switch of blue and green: the selector names a revision, here one that has no pods.
    let flip = json!({"spec": {"selector": {"app": "web", "version": "green"}}});
    let service = world.merge::<Service>("web", flip).await;
    world
        .until("web", "empty", |e: Option<&Endpoints>| {
            e.is_some_and(|e| e.subsets.is_none())
        })
        .await;
    let generation = service.metadata.generation.unwrap().to_string();
    let wanted = vec![(String::new(), generation, 0)];
    world.until_seen(&wanted, slices).await;
    world.stop().await;
}
