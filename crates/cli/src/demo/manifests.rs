//! The objects of the demo, as a person would write them.

use serde_json::{Value, json};

use super::DemoArgs;
use std::time::Duration;

/// Instances of each application.
pub(super) const REPLICAS: u32 = 3;
/// The host of the application that is released as a canary.
pub(super) const SHOP_HOST: &str = "shop.example.com";
/// The host of the application that is released blue-green.
pub(super) const CART_HOST: &str = "cart.example.com";

/// Everything that stands before the first release.
pub(super) fn first(args: &DemoArgs) -> Vec<Value> {
    vec![
        service("shop-stable", "shop"),
        service("shop-canary", "shop"),
        service("cart-active", "cart"),
        service("cart-preview", "cart"),
        route("shop", SHOP_HOST, &["shop-stable", "shop-canary"]),
        route("cart", CART_HOST, &["cart-active"]),
        template(args),
        shop(args),
        cart(),
    ]
}

/// What changes with a release: the pods of a version.
pub(super) fn version(app: &str, version: &str, error_rate: f64) -> Value {
    let errors =
        (error_rate > 0.0).then(|| json!({"name": "ERROR_RATE", "value": error_rate.to_string()}));
    let probe = json!({"httpGet": {"path": "/health/ready", "port": "http"}, "periodSeconds": 1});
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": app,
                "image": format!("serin.dev/demo:{version}"),
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": errors.into_iter().collect::<Vec<_>>(),
                "readinessProbe": probe,
            }],
        },
    })
}

fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

fn route(name: &str, host: &str, services: &[&str]) -> Value {
    let backends: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(i, service)| json!({"name": service, "port": 80, "weight": if i == 0 { 100 } else { 0 }}))
        .collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "default"},
        "spec": {"hostnames": [host], "rules": [{"backendRefs": backends}]},
    })
}

/// What is measured at each step: errors of the new revision over the last two intervals, three times good in a row. Where
/// there are too few requests to tell, it is looked again.
fn template(args: &DemoArgs) -> Value {
    let millis = |usual| format!("{}ms", args.paced(Duration::from_millis(usual)).as_millis());
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "errors", "namespace": "default"},
        "spec": {
            "args": [{"name": "revision"}],
            "metrics": [{
                "name": "error-ratio",
                "initialDelay": millis(1000), "interval": millis(1000),
                "consecutiveSuccessLimit": 3, "inconclusiveLimit": 30,
                "failureCondition": "result > 0.01",
                "provider": {"serin": {
                    "metric": "error-ratio", "revision": "{{args.revision}}", "window": millis(2000),
                    "minRequests": least_requests(args),
                }},
            }],
        },
    })
}

/// A quarter of what the first step brings in a window, and at least two.
fn least_requests(args: &DemoArgs) -> u64 {
    let share = f64::from(args.steps.first().copied().unwrap_or(100)) / 100.0;
    let window = args.paced(Duration::from_secs(2)).as_secs_f64();
    (f64::from(args.rate) * share * window / 4.0).max(2.0) as u64
}

fn shop(args: &DemoArgs) -> Value {
    let analysis = json!({
        "templates": [{"templateName": "errors"}],
        "args": [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}],
    });
    let steps: Vec<_> = args
        .steps
        .iter()
        .flat_map(|percent| [json!({"setWeight": percent}), json!({"analysis": analysis})])
        .collect();
    rollout(
        "shop",
        json!({"canary": {
            "stableService": "shop-stable", "canaryService": "shop-canary", "steps": steps,
            "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 5,
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "shop", "namespace": "default"}}},
        }}),
    )
}

fn cart() -> Value {
    rollout(
        "cart",
        json!({"blueGreen": {"activeService": "cart-active", "previewService": "cart-preview", "scaleDownDelaySeconds": 60}}),
    )
}

fn rollout(app: &str, strategy: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": app, "namespace": "default"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": app}},
            "template": version(app, "v1", 0.0), "strategy": strategy,
        },
    })
}
