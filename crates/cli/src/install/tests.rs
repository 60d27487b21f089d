//! The rights that are installed are those that a release needs: the controllers go through one with nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serin_api::analysis::AnalysisTemplate;
use serin_api::gateway_api::HTTPRoute;
use serin_api::rollout::{Rollout, RolloutPhase};
use serin_apiserver::{ApiServer, Store};
use serin_controllers::{Clock, Config};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;

/// A verb on a resource of a group.
type Right = (String, String, String);

fn granted() -> BTreeSet<Right> {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule.get(field).and_then(Value::as_array).unwrap();
        list.iter()
            .map(|w| w.as_str().unwrap().to_owned())
            .collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules().as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    all.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    all
}

/// What a request asks for, as a cluster reads it: `/api/v1/namespaces/x/pods/y/status`.
fn asked(request: &Request<Body>) -> Right {
    let parts: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let (resource, is_named) = match rest {
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, part] => (format!("{resource}/{part}"), true),
        other => panic!("{other:?}"),
    };
    let watches = request
        .uri()
        .query()
        .is_some_and(|q| q.contains("watch=true"));
    let verb = match *request.method() {
        Method::GET if watches => "watch",
        Method::GET if is_named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        ref other => panic!("{other}"),
    };
    (verb.to_owned(), group.to_owned(), resource)
}

/// A client that may do what is granted, and a list of what it was refused.
fn limited(server: &ApiServer) -> (Client, Arc<Mutex<BTreeSet<Right>>>) {
    let refused = Arc::new(Mutex::new(BTreeSet::new()));
    let (granted, router, told) = (granted(), server.router(), Arc::clone(&refused));
    let service = tower::service_fn(move |request: Request<Body>| {
        let right = asked(&request);
        let is_granted = granted.contains(&right);
        if !is_granted {
            told.lock().unwrap().insert(right);
        }
        let answer = router.clone().oneshot(request);
        async move {
            if is_granted {
                return answer.await;
            }
            let body = axum::body::Body::from(
                r#"{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}"#,
            );
            let mut forbidden = Response::new(body);
            *forbidden.status_mut() = StatusCode::FORBIDDEN;
            Ok(forbidden)
        }
    });
    (Client::new(service, "default"), refused)
}

async fn node(client: Client) {
    let api: Api<Pod> = Api::default_namespaced(client);
    let pods = watcher(api.clone(), watcher::Config::default()).default_backoff();
    let pods = pods.applied_objects();
    pods.for_each_concurrent(8, |pod| {
        let api = api.clone();
        async move {
            let pod = pod.unwrap();
            let name = pod.name_any();
            if pod.metadata.deletion_timestamp.is_some() {
                let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
            } else if pod.status.is_none_or(|s| s.conditions.is_none()) {
                let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.2", "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": pod.metadata.creation_timestamp}]}});
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
    })
    .await;
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn create_around(client: &Client) {
    let post = PostParams::default();
    for name in ["shop", "shop-canary"] {
        let service = object(
            json!({"metadata": {"name": name}, "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}}),
        );
        let api: Api<Service> = Api::default_namespaced(client.clone());
        api.create(&post, &service).await.unwrap();
    }
    let backends = json!([{"name": "shop", "port": 80}, {"name": "shop-canary", "port": 80}]);
    let route = object(
        json!({"metadata": {"name": "shop"}, "spec": {"rules": [{"backendRefs": backends}]}}),
    );
    let api: Api<HTTPRoute> = Api::default_namespaced(client.clone());
    api.create(&post, &route).await.unwrap();
    // A source that is down: whatever comes of it, the run is made, written and read.
    let prometheus = json!({"address": "http://127.0.0.1:1", "query": "up"});
    let metric = json!({"name": "up", "provider": {"prometheus": prometheus}});
    let spec = json!({"metrics": [metric], "dryRun": [{"metricName": "up"}]});
    let template = object(json!({"metadata": {"name": "up"}, "spec": spec}));
    let api: Api<AnalysisTemplate> = Api::default_namespaced(client.clone());
    api.create(&post, &template).await.unwrap();
}

fn rollout(version: &str) -> Rollout {
    object(json!({
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": format!("shop:{version}")}]},
            },
            "strategy": {"canary": {
                "stableService": "shop", "canaryService": "shop-canary",
                "analysis": {"templates": [{"templateName": "up"}]},
                "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "shop"}}},
                "steps": [{"setWeight": 20}, {"pause": {"duration": "5s"}}],
            }},
        },
    }))
}

async fn until_healthy(client: &Client, image: &str, refused: &Mutex<BTreeSet<Right>>) {
    let api: Api<Rollout> = Api::default_namespaced(client.clone());
    let healthy = |found: Option<&Rollout>| {
        found.is_some_and(|rollout| {
            let status = rollout.status.clone().unwrap_or_default();
            let seen = rollout.metadata.generation.map(|g| g.to_string());
            let template = serde_json::to_string(&rollout.spec.template).unwrap();
            status.phase == Some(RolloutPhase::Healthy)
                && status.observed_generation == seen
                && template.contains(image)
        })
    };
    let waiting = await_condition(api.clone(), "shop", healthy);
    if tokio::time::timeout(Duration::from_secs(600), waiting)
        .await
        .is_err()
    {
        let last = api.get("shop").await.unwrap().status;
        let refused = refused.lock().unwrap();
        panic!("{image} never became healthy; refused: {refused:?}; {last:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_needs_no_right_that_is_not_installed() {
    let server = ApiServer::new(Store::in_memory());
    let anybody = Client::new(server.router(), "default");
    let (controllers, refused) = limited(&server);
    let shutdown = CancellationToken::new();
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let clusters_own = Config {
        clock: clock.clone(),
        rollouts: false,
        ..Config::default()
    };
    let ours = Config {
        clock,
        built_in_kinds: false,
        ..Config::default()
    };
    let tasks = [
        tokio::spawn(serin_controllers::run(
            anybody.clone(),
            clusters_own,
            shutdown.clone(),
        )),
        tokio::spawn(serin_controllers::run(controllers, ours, shutdown.clone())),
        tokio::spawn(node(anybody.clone())),
    ];
    create_around(&anybody).await;
    let api: Api<Rollout> = Api::default_namespaced(anybody.clone());
    api.create(&PostParams::default(), &rollout("v1"))
        .await
        .unwrap();
    until_healthy(&anybody, "shop:v1", &refused).await;
    let patch = json!({"spec": {"template": rollout("v2").spec.template}});
    let params = PatchParams::default();
    api.patch("shop", &params, &Patch::Merge(patch))
        .await
        .unwrap();
    until_healthy(&anybody, "shop:v2", &refused).await;
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
    shutdown.cancel();
    for task in tasks {
        task.abort();
    }
}
