//! An emergency is one patch: it works on a release that gets on, waits, is held by a person, was taken back, or is stuck.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::rollout::{Rollout, RolloutPhase};
use serin_api::waiting::WaitingOn;

use crate::deployments;
use crate::rollouts::{
    counted, image_counts, is, release, rollout, route, selected, service, template, until, verb,
};
use crate::world::{BAD, World};

/// Where a release is when somebody presses the button.
#[derive(Clone, Copy, Debug)]
enum State {
    Progressing,
    Waiting,
    Held,
    TakenBack,
    Stuck,
}

const ALL: [State; 5] = [
    State::Progressing,
    State::Waiting,
    State::Held,
    State::TakenBack,
    State::Stuck,
];

/// Begins a release and lets it come to a state.
async fn bring(world: &World, state: State) {
    match state {
        State::Stuck => {
            let containers = json!([{"name": "web", "image": BAD}]);
            let template =
                json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
            world
                .merge::<Rollout>("web", json!({"spec": {"template": template}}))
                .await;
            until(world, "an instance that never comes", |s| {
                s.updated_replicas > Some(0)
            })
            .await;
        }
        State::Progressing => {
            release(world, "v2").await;
            until(world, "its first instance", |s| {
                s.updated_replicas > Some(0)
            })
            .await;
        }
        State::Waiting | State::Held | State::TakenBack => {
            release(world, "v2").await;
            until(world, "the pause", is(RolloutPhase::Paused)).await;
        }
    }
    match state {
        State::Held => {
            world
                .merge::<Rollout>("web", json!({"spec": {"paused": true}}))
                .await;
            until(world, "the hold", |s| {
                s.waiting_on == Some(WaitingOn::Paused)
            })
            .await;
        }
        State::TakenBack => {
            verb(world, json!({"status": {"abort": true}})).await;
            until(world, "the abort", |s| s.abort).await;
        }
        _ => {}
    }
}

/// What `serin rollout emergency` sends, all in one patch, but for what it notes for people.
async fn emergency(world: &World, revision: &str) {
    let annotations = json!({annotation::EMERGENCY: revision});
    let patch = json!([
        {"op": "replace", "path": "/spec/template", "value": template("v1")},
        {"op": "add", "path": "/spec/paused", "value": false},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let api = world.api::<Rollout>();
    api.patch("web", &PatchParams::default(), &Patch::<()>::Json(patch))
        .await
        .unwrap();
}

async fn from_every_state(strategy: Value, users: &str) {
    for state in ALL {
        // Boxed, as it is large: the thread of a test has no large stack.
        Box::pin(from(state, strategy.clone(), users)).await;
    }
}

async fn from(state: State, strategy: Value, users: &str) {
    let world = World::start();
    route(&world).await;
    service(&world, "active").await;
    world.create::<Rollout>(rollout("v1", strategy)).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let first = first.stable_rs.unwrap();
    Box::pin(bring(&world, state)).await;
    emergency(&world, &first).await;
    let over = until(&world, "the way back", |s| {
        let wanted = s.current_pod_hash.as_deref() == Some(&first);
        let back = wanted && s.stable_rs == s.current_pod_hash;
        back && s.phase == Some(RolloutPhase::Healthy) && !s.abort
    })
    .await;
    assert_eq!(over.pause_conditions, None, "{state:?}");
    assert_eq!(selected(&world, users).await, Some(first), "{state:?}");
    until(&world, "only v1", |s| s.replicas == Some(5)).await;
    let images = image_counts(&world).await;
    assert_eq!(images, counted(&[("web:v1", 5)]), "{state:?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_emergency_works_on_a_canary_in_every_state() {
    let canary = json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 5,
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
        "steps": [{"setWeight": 40}, {"pause": {}}],
    }});
    from_every_state(canary, "stable").await;
}

#[tokio::test(start_paused = true)]
async fn an_emergency_works_on_a_blue_green_release_in_every_state() {
    let blue_green = json!({"blueGreen": {
        "activeService": "active", "autoPromotionEnabled": false, "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 5,
    }});
    from_every_state(blue_green, "active").await;
}

#[tokio::test(start_paused = true)]
async fn an_emergency_works_on_a_deployment_in_every_state() {
    for (state, image) in [
        ("progressing", "web:2"),
        ("paused", "web:2"),
        ("stuck", BAD),
    ] {
        Box::pin(from_deployment(state, image)).await;
    }
}

async fn from_deployment(state: &str, image: &str) {
    let world = World::start();
    world.create::<Deployment>(deployments::web("web:1")).await;
    let rolled_out = deployments::is_rolled_out;
    world.until("web", "rolled out", rolled_out).await;
    world
        .merge::<Deployment>("web", deployments::set_image(image))
        .await;
    let begun = |d: Option<&Deployment>| {
        let status = d.and_then(|d| d.status.as_ref());
        status.is_some_and(|s| s.updated_replicas > Some(0) && s.updated_replicas < Some(6))
    };
    world.until("web", "under way", begun).await;
    if state == "paused" {
        world
            .merge::<Deployment>("web", json!({"spec": {"paused": true}}))
            .await;
    }
    let mut back = deployments::set_image("web:1");
    back["spec"]["paused"] = json!(false);
    world.merge::<Deployment>("web", back).await;
    world.until("web", "rolled out", rolled_out).await;
    let images = image_counts(&world).await;
    assert_eq!(images, counted(&[("web:1", 6)]), "{state}");
    world.stop().await;
}
