//! The applications under test, as a person would write them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use serin_api::rollout::{Rollout, RolloutPhase, RolloutStatus};

use crate::support::{Platform, until};

/// The host of every application here; there is one for each platform.
pub(crate) const HOST: &str = "shop.example.com";

/// Instances of each application.
pub(crate) const REPLICAS: u32 = 2;

/// The pods of the demo application at a version, with switches in its environment.
pub(crate) fn pods(version: &str, switches: &[(&str, &str)]) -> Value {
    let env: Vec<_> = switches
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({
        "metadata": {"labels": {"app": "shop"}},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": "shop",
                "image": format!("serin.dev/demo:{version}"),
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": env,
                "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "http"}, "periodSeconds": 1},
            }],
        },
    })
}

/// A Deployment `shop` of these pods, its Service and its route.
pub(crate) fn deployment(template: Value) -> String {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "shop"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    });
    manifest(&[service("shop"), route(&["shop"]), deployment])
}

/// A Rollout `shop` of these pods that goes through these steps, its Services, its route and an analysis `errors`.
pub(crate) fn rollout(template: Value, steps: Value) -> String {
    let routing = json!({"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "shop", "namespace": "default"}}});
    let services = ["shop-stable", "shop-canary"];
    rollout_behind(route(&services), routing, template, steps)
}

/// The same behind a VirtualService `shop` of Istio.
pub(crate) fn rollout_of_istio(template: Value, steps: Value) -> String {
    let to = |host: &str, weight: i32| json!({"destination": {"host": host, "port": {"number": 80}}, "weight": weight});
    let split = [to("shop-stable", 100), to("shop-canary", 0)];
    let service = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "shop"},
        "spec": {"hosts": [HOST], "http": [{"name": "primary", "route": split}]},
    });
    let routing = json!({"istio": {"virtualService": {"name": "shop", "routes": ["primary"]}}});
    rollout_behind(service, routing, template, steps)
}

fn rollout_behind(route: Value, routing: Value, template: Value, steps: Value) -> String {
    let services = ["shop-stable", "shop-canary"];
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "shop"}}, "template": template,
            "strategy": {"canary": {
                "stableService": services[0], "canaryService": services[1], "steps": steps,
                "scaleDownDelaySeconds": 1, "abortScaleDownDelaySeconds": 1, "trafficRouting": routing,
            }},
        },
    });
    let objects = [
        service(services[0]),
        service(services[1]),
        route,
        analysis(),
        rollout,
    ];
    manifest(&objects)
}

/// The step that measures the errors of the new version five times.
pub(crate) fn analysis_step() -> Value {
    let args = json!([{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}]);
    json!({"analysis": {"templates": [{"templateName": "errors"}], "args": args}})
}

fn analysis() -> Value {
    let provider = json!({"serin": {
        "metric": "error-ratio", "revision": "{{args.revision}}", "window": "2s", "minRequests": 5,
    }});
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "errors"},
        "spec": {"args": [{"name": "revision"}], "metrics": [{
            "name": "error-ratio", "initialDelay": "1s", "interval": "1s", "count": 5, "inconclusiveLimit": 5,
            "failureCondition": "result > 0.01", "provider": provider,
        }]},
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

fn route(services: &[&str]) -> Value {
    let backends: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(i, service)| json!({"name": service, "port": 80, "weight": if i == 0 { 100 } else { 0 }}))
        .collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "shop"},
        "spec": {"hostnames": [HOST], "rules": [{"backendRefs": backends}]},
    })
}

fn manifest(objects: &[Value]) -> String {
    let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

/// Waits until `shop` is whole at what is wanted of it.
pub(crate) async fn healthy(platform: &Platform) {
    let arguments = ["rollout", "status", "shop", "--timeout", "50s"];
    platform.serin(&arguments).await;
}

/// A platform on which `shop` is healthy, with what its manifest says.
pub(crate) async fn started(manifest: &str) -> Platform {
    let platform = Platform::start(&[]).await;
    platform.apply(manifest).await;
    healthy(&platform).await;
    platform
}

pub(crate) async fn pods_of(platform: &Platform) -> Vec<Pod> {
    let api: Api<Pod> = Api::default_namespaced(platform.client().await);
    let params = ListParams::default().labels("app=shop");
    api.list(&params).await.unwrap().items
}

/// The present state of the Rollout, once a condition holds of it.
pub(crate) async fn rollout_until(
    platform: &Platform,
    what: &str,
    holds: impl Fn(&RolloutStatus) -> bool,
) -> RolloutStatus {
    let api: Api<Rollout> = Api::default_namespaced(platform.client().await);
    let is_so = |rollout: &Rollout| {
        let generation = rollout.metadata.generation.map(|g| g.to_string());
        let status = rollout.status.as_ref();
        status.is_some_and(|s| s.observed_generation == generation && holds(s))
    };
    let rollout = until(&api, "shop", what, is_so).await;
    rollout.status.unwrap()
}

/// The share of the canary that the gateway serves, in percent; `None` while that is not sure.
pub(crate) fn served_percent(status: &RolloutStatus) -> Option<i32> {
    let weights = status.canary.weights.as_ref()?;
    (weights.verified == Some(true)).then_some(weights.canary.weight)
}

pub(crate) fn is_healthy(status: &RolloutStatus) -> bool {
    status.phase == Some(RolloutPhase::Healthy)
}

/// The present state of the Deployment, once a condition holds of it.
pub(crate) async fn deployment_until(
    platform: &Platform,
    what: &str,
    holds: impl Fn(&Deployment) -> bool,
) -> Deployment {
    let api: Api<Deployment> = Api::default_namespaced(platform.client().await);
    until(&api, "shop", what, holds).await
}
