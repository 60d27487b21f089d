//! Canaries behind VirtualServices of Istio, over the embedded API.

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisPhase;
use serin_api::experiment::Experiment;
use serin_api::istio::{DestinationRule, VirtualService};
use serin_api::keys::{annotation, label};
use serin_api::rollout::{Rollout, RolloutPhase};

use crate::rollouts::{
    counted, delete, image_counts, is, release, rollout, selected, service, until, verb,
};
use crate::world::World;

fn with_steps(steps: Value, istio: Value, more: Value) -> Value {
    let mut strategy = json!({"canary": {
        "scaleDownDelaySeconds": 5, "steps": steps,
        "trafficRouting": {"managedRoutes": [{"name": "testers"}], "istio": istio},
    }});
    let fields = strategy["canary"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    strategy
}

fn services() -> Value {
    json!({"stableService": "stable", "canaryService": "canary"})
}

async fn virtual_service(world: &World, name: &str, http: Value) {
    let spec = json!({"hosts": [format!("{name}.example")], "http": http});
    let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name}, "spec": spec});
    world.create::<VirtualService>(object).await;
}

fn to(host: &str, weight: i32) -> Value {
    json!({"destination": {"host": host}, "weight": weight})
}

async fn weights(world: &World, name: &str, route: usize) -> Vec<i32> {
    let service: VirtualService = world.get(name).await;
    let places = service.spec.http[route].route.iter();
    places.map(|place| place.weight.unwrap_or(0)).collect()
}

#[tokio::test(start_paused = true)]
async fn virtual_services_carry_the_split_between_two_services() {
    let world = World::start();
    service(&world, "stable").await;
    service(&world, "canary").await;
    let primary = json!({"name": "primary", "route": [to("stable", 100), to("canary", 0)]});
    let other = json!({"name": "other", "route": [to("elsewhere", 100)]});
    virtual_service(&world, "web", json!([other, primary])).await;
    virtual_service(
        &world,
        "inner",
        json!([{"route": [to("stable", 100), to("canary", 0)]}]),
    )
    .await;
    let istio =
        json!({"virtualServices": [{"name": "web", "routes": ["primary"]}, {"name": "inner"}]});
    let header = json!({"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "1"}}]});
    let steps = json!([{"setWeight": 20}, {"setHeaderRoute": header}, {"pause": {}}]);
    let strategy = with_steps(steps, istio, services());
    world.create::<Rollout>(rollout("v1", strategy)).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let seen: VirtualService = world.get("web").await;
    let names = seen.spec.http.iter().map(|r| r.name.as_deref().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["testers", "other", "primary"]);
    assert_eq!(weights(&world, "web", 1).await, [100]);
    assert_eq!(weights(&world, "web", 2).await, [80, 20]);
    assert_eq!(weights(&world, "inner", 1).await, [80, 20]);
    verb(&world, json!({"status": {"abort": true}})).await;
    until(&world, "the abort", |s| {
        s.abort && s.updated_replicas == Some(1)
    })
    .await;
    assert_eq!(weights(&world, "web", 1).await, [100, 0]);
    assert_eq!(weights(&world, "inner", 0).await, [100, 0]);
    verb(&world, json!({"status": {"abort": false}})).await;
    until(&world, "the pause again", is(RolloutPhase::Paused)).await;
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert_eq!(weights(&world, "web", 1).await, [100, 0]);
    assert_eq!(
        selected(&world, "stable").await,
        selected(&world, "canary").await
    );
    world.stop().await;
}

async fn subset_labels(world: &World) -> Vec<Option<String>> {
    let rule: DestinationRule = world.get("web").await;
    let subsets = rule.spec.subsets.iter();
    let hash =
        |s: &serin_api::istio::Subset| s.labels.get(label::ROLLOUT_POD_TEMPLATE_HASH).cloned();
    subsets.map(hash).collect()
}

#[tokio::test(start_paused = true)]
async fn the_subsets_of_a_destination_rule_follow_their_sides() {
    let world = World::start();
    service(&world, "web").await;
    let subset = |name: &str, weight: i32| json!({"destination": {"host": "web", "subset": name}, "weight": weight});
    let http = json!([{"route": [subset("stable", 100), subset("canary", 0)]}]);
    virtual_service(&world, "web", http).await;
    let subsets = json!([{"name": "stable", "labels": {"app": "web"}}, {"name": "canary"}, {"name": "all", "labels": {"app": "web"}}]);
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "web"},
        "spec": {"host": "web", "subsets": subsets}});
    world.create::<DestinationRule>(rule).await;
    let istio = json!({"virtualService": {"name": "web"},
        "destinationRule": {"name": "web", "stableSubsetName": "stable", "canarySubsetName": "canary"}});
    let strategy = with_steps(json!([{"setWeight": 40}, {"pause": {}}]), istio, json!({}));
    world.create::<Rollout>(rollout("v1", strategy)).await;
    let first = until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let first = first.stable_rs;
    assert_eq!(
        subset_labels(&world).await,
        [first.clone(), first.clone(), None]
    );
    release(&world, "v2").await;
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let second = paused.current_pod_hash;
    assert_eq!(subset_labels(&world).await, [first, second.clone(), None]);
    assert_eq!(weights(&world, "web", 0).await, [60, 40]);
    verb(&world, json!({"status": {"pauseConditions": null}})).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert_eq!(subset_labels(&world).await, [second.clone(), second, None]);
    assert_eq!(weights(&world, "web", 0).await, [100, 0]);
    let one = |images: &[(String, usize)]| images == counted(&[("web:v2", 5)]);
    until(&world, "one revision", |s| s.replicas == Some(5)).await;
    assert!(one(&image_counts(&world).await));
    // A Rollout that goes lets the DestinationRule go.
    let rollouts = world.api::<Rollout>();
    rollouts
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let free = |rule: Option<&DestinationRule>| {
        rule.is_some_and(|rule| {
            let key = label::ROLLOUT_POD_TEMPLATE_HASH;
            let mut subsets = rule.spec.subsets.iter();
            let labelled = rule
                .annotations()
                .contains_key(annotation::MANAGED_BY_ROLLOUTS);
            !labelled && subsets.all(|s| !s.labels.contains_key(key))
        })
    };
    world
        .until::<DestinationRule>("web", "without a hash", free)
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_virtual_service_that_cannot_carry_the_split_is_named() {
    let world = World::start();
    service(&world, "stable").await;
    service(&world, "canary").await;
    virtual_service(
        &world,
        "web",
        json!([{"name": "a", "route": [to("stable", 100)]}]),
    )
    .await;
    let istio = json!({"virtualService": {"name": "web", "routes": ["a", "b"]}});
    let strategy = with_steps(json!([]), istio, services());
    world.create::<Rollout>(rollout("v1", strategy)).await;
    let invalid = until(&world, "the problems", is(RolloutPhase::Degraded)).await;
    let message = invalid.message.unwrap();
    for part in [
        "has no HTTP route \"b\"",
        "has an HTTP route \"a\" whose destinations do not name both sides",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // Once it can, the release goes on.
    let route = [to("stable", 100), to("canary", 0)];
    let http = json!([{"name": "a", "route": route}, {"name": "b", "route": route}]);
    world
        .merge::<VirtualService>("web", json!({"spec": {"http": http}}))
        .await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    world.stop().await;
}

/// A release of which 15 % go to an experiment and 20 % to the canary; its name.
async fn experiment_in_routes(world: &World) -> String {
    service(world, "stable").await;
    service(world, "canary").await;
    virtual_service(
        world,
        "web",
        json!([{"route": [to("stable", 100), to("canary", 0)]}]),
    )
    .await;
    let templates = json!([{"name": "base", "specRef": "stable", "weight": 15, "service": {"name": "baseline"}}]);
    let header = json!({"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "1"}}]});
    let steps = json!([{"setHeaderRoute": header}, {"setWeight": 20}, {"experiment": {"templates": templates}}, {"pause": {}}]);
    let strategy = with_steps(
        steps,
        json!({"virtualService": {"name": "web"}}),
        services(),
    );
    let ports = json!([{"containerPort": 8080}]);
    let mut made = rollout("v1", strategy);
    made["spec"]["template"]["spec"]["containers"][0]["ports"] = ports.clone();
    world.create::<Rollout>(made).await;
    until(world, "v1", is(RolloutPhase::Healthy)).await;
    let containers = json!([{"name": "web", "image": "web:v2", "ports": ports}]);
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
    world
        .merge::<Rollout>("web", json!({"spec": {"template": template}}))
        .await;
    let shared = |service: Option<&VirtualService>| {
        let places = service.and_then(|s| Some(s.spec.http.last()?.route.as_slice()));
        let places = places.unwrap_or_default().iter();
        let seen: Vec<_> = places
            .map(|p| (p.destination.as_ref().unwrap().host.as_str(), p.weight))
            .collect();
        seen == [
            ("stable", Some(65)),
            ("canary", Some(20)),
            ("baseline", Some(15)),
        ]
    };
    world.until::<VirtualService>("web", "shared", shared).await;
    let experiments = world.list::<Experiment>().await;
    let name = experiments[0].name_any();
    assert_eq!(experiments[0].annotations()[annotation::IN_ROUTES], "web");
    name
}

fn is_in_routes(experiment: &Experiment) -> bool {
    let annotations = experiment.annotations();
    annotations.contains_key(annotation::IN_ROUTES)
}

#[tokio::test(start_paused = true)]
async fn an_experiment_gets_its_share_of_a_virtual_service() {
    let world = World::start();
    let name = experiment_in_routes(&world).await;
    world
        .merge::<Experiment>(&name, json!({"spec": {"terminate": true}}))
        .await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    assert_eq!(weights(&world, "web", 1).await, [80, 20]);
    let free = |x: Option<&Experiment>| {
        x.is_some_and(|x| {
            let over = x.status.as_ref().and_then(|s| s.phase) == Some(AnalysisPhase::Successful);
            over && !is_in_routes(x)
        })
    };
    world.until(&name, "let go", free).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_deleted_leaves_nothing_in_a_virtual_service() {
    for while_away in [false, true] {
        let mut world = World::start();
        let name = experiment_in_routes(&world).await;
        // The pods stay, and with them the requests have to be answered.
        let orphan = DeleteParams {
            propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        delete(&mut world, &orphan, while_away).await;
        let clean = |service: Option<&VirtualService>| {
            service.is_some_and(|s| s.spec.http.len() == 1 && s.annotations().is_empty())
        };
        world.until("web", "clean", clean).await;
        assert_eq!(weights(&world, "web", 0).await, [100, 0]);
        let free = |x: Option<&Experiment>| x.is_some_and(|x| !is_in_routes(x));
        world.until(&name, "let go", free).await;
        world.stop().await;
    }
}
