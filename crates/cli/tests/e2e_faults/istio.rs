//! A canary behind a VirtualService of Istio, which our gateway serves and acknowledges, while users send requests.

use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use serin_api::istio::VirtualService;
use serin_api::keys::annotation;
use serin_api::rollout::Rollout;

use crate::apps::{self, HOST, is_healthy, pods, rollout_until, served_percent};
use crate::support::{Platform, Visitors, until};

/// Requests of which the shares are counted. All of them are: of a part, taken at fixed times, one side may get more.
const COUNTED: u64 = 600;
/// How far a share may be from what was asked for, in percent of the requests: what is in flight when the count begins.
const NEAR: f64 = 2.0;

fn manifest(version: &str) -> String {
    let steps = json!([{"setWeight": 30}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]);
    apps::rollout_of_istio(pods(version, &[]), steps)
}

async fn weights(platform: &Platform) -> Value {
    let get = ["get", "virtualservice", "shop", "-o", "json"];
    let service: Value = serde_json::from_str(&platform.serin(&get).await).unwrap();
    let places = service["spec"]["http"][0]["route"].as_array().unwrap();
    places.iter().map(|place| place["weight"].clone()).collect()
}

/// Waits until the gateway serves so many percent, and counts what comes then.
async fn splits(platform: &Platform, visitors: &Visitors, percent: i32) {
    let what = format!("{percent} %");
    rollout_until(platform, &what, |s| {
        s.controller_pause && served_percent(s) == Some(percent)
    })
    .await;
    assert_eq!(weights(platform).await, json!([100 - percent, percent]));
    visitors.forget().assert_none_failed();
    visitors.await_more(COUNTED).await;
    let seen = visitors.forget();
    seen.assert_none_failed();
    let share = 100.0 * seen.of("v2") as f64 / seen.requests() as f64;
    println!(
        "{percent} % were asked for: {share:.1} % of {}",
        seen.requests()
    );
    assert!((share - f64::from(percent)).abs() < NEAR, "{seen:?}");
}

#[tokio::test]
async fn a_virtual_service_splits_as_asked_and_an_abort_goes_back_with_nothing_lost() {
    let platform = apps::started(&manifest("v1")).await;
    let visitors = Visitors::start(platform.gateway().await, HOST);
    platform.apply(&manifest("v2")).await;
    splits(&platform, &visitors, 30).await;
    platform.serin(&["rollout", "promote", "shop"]).await;
    splits(&platform, &visitors, 60).await;

    platform.serin(&["rollout", "abort", "shop"]).await;
    rollout_until(&platform, "the way back", |s| {
        s.abort && served_percent(s) == Some(0)
    })
    .await;
    assert_eq!(weights(&platform).await, json!([100, 0]));
    visitors.assert_answered_by("v1").await;

    platform.serin(&["rollout", "retry", "shop"]).await;
    splits(&platform, &visitors, 30).await;
    let full = ["rollout", "promote", "shop", "--full"];
    platform.serin(&full).await;
    rollout_until(&platform, "all users on v2", is_healthy).await;
    visitors.assert_answered_by("v2").await;
    visitors.stop().await.assert_none_failed();
}

/// The instances stay, as `kubectl delete --cascade=orphan` leaves them.
#[tokio::test]
async fn a_rollout_that_is_deleted_gives_its_route_back_with_nothing_lost() {
    let platform = apps::started(&manifest("v1")).await;
    let visitors = Visitors::start(platform.gateway().await, HOST);
    platform.apply(&manifest("v2")).await;
    splits(&platform, &visitors, 30).await;
    let client = platform.client().await;
    let services: Api<VirtualService> = Api::default_namespaced(client.clone());
    let split = services.get("shop").await.unwrap();
    assert!(split.annotations().contains_key(annotation::SPLIT_BY));
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let rollouts: Api<Rollout> = Api::default_namespaced(client);
    rollouts.delete("shop", &orphan).await.unwrap();
    let free = |service: &VirtualService| {
        let annotations = service.annotations();
        !annotations.contains_key(annotation::SPLIT_BY)
    };
    until(&services, "shop", "given back", free).await;
    assert_eq!(weights(&platform).await, json!([100, 0]));
    // Its Services are let go as well, and find the instances of both versions.
    visitors.await_more(COUNTED).await;
    visitors.stop().await.assert_none_failed();
}
