//! The rights that are installed are those that a release needs: the controllers go through one with nothing else.

#[path = "../../../controllers/tests/support/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, StatusCode};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use serin_api::analysis::AnalysisTemplate;
use serin_api::gateway_api::HTTPRoute;
use serin_api::release::ReleasePolicy;
use serin_api::rollout::{Rollout, RolloutPhase};
use serin_apiserver::{ApiServer, Store, User};
use serin_controllers::{Clock, Config};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use node::{let_go, node};

/// Method and path of requests that were refused.
type Refused = Arc<Mutex<BTreeSet<(String, String)>>>;

/// Installs everything, and answers a client that is the service account of the controllers, with a list of what it was refused.
async fn installed(server: &ApiServer) -> (Client, Refused) {
    let router = server.router();
    for object in manifests("serin-system", &arguments()) {
        let answer = router.clone().oneshot(creation(&object)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{object}");
    }
    let account = User {
        name: format!("system:serviceaccount:serin-system:{NAME}"),
        groups: vec![
            "system:serviceaccounts".into(),
            "system:authenticated".into(),
        ],
        ..User::default()
    };
    as_user(server, account)
}

fn arguments() -> InstallArgs {
    InstallArgs {
        image: "serin:test".to_owned(),
        replicas: 1,
        namespaced: false,
        metrics_host: Vec::new(),
        analysis_templates: false,
        gateway: false,
        gateway_tls: false,
        gateway_replicas: 1,
        without_crds: true,
    }
}

/// A client that is this user, with a list of what it was refused.
fn as_user(server: &ApiServer, user: User) -> (Client, Refused) {
    let refused = Refused::default();
    let (router, told) = (server.router_of(user), Arc::clone(&refused));
    let service = tower::service_fn(move |request: Request<Body>| {
        let asked = (request.method().to_string(), request.uri().to_string());
        let (answer, told) = (router.clone().oneshot(request), Arc::clone(&told));
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::FORBIDDEN {
                told.lock().unwrap().insert(asked);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    (Client::new(service, "default"), refused)
}

fn creation(object: &Value) -> Request<axum::body::Body> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap();
    let (group, version) = match text("/apiVersion").split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", text("/apiVersion")),
    };
    let kind = serin_api::kinds::find(group, version, text("/kind")).unwrap();
    let start = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let within = match object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
    {
        Some(namespace) => format!("/namespaces/{namespace}"),
        None => String::new(),
    };
    Request::post(format!("{start}{within}/{}", kind.plural))
        .header("content-type", "application/json")
        .body(object.to_string().into())
        .unwrap()
}

/// Says of every pod that it is ready, or that its Job is done, and lets every pod go that is to go.
async fn tend(api: Api<Pod>, pod: Pod) {
    if pod.metadata.deletion_timestamp.is_some() {
        return let_go(&api, &pod).await;
    }
    let ends = pod.labels().contains_key("job-name");
    let phase = if ends { "Succeeded" } else { "Running" };
    let status = json!({"status": {"phase": phase, "podIP": "127.0.0.2", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": pod.metadata.creation_timestamp}]}});
    let (name, params) = (pod.name_any(), PatchParams::default());
    let _ = api
        .patch_status(&name, &params, &Patch::Merge(status))
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
    // What it reads is copied for each revision.
    let map = object(json!({"metadata": {"name": "shop"}, "data": {"greeting": "hello"}}));
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    api.create(&post, &map).await.unwrap();
    let spec = json!({"selector": {}, "configuration": {}});
    let policy = object(json!({"metadata": {"name": "versioned"}, "spec": spec}));
    let api: Api<ReleasePolicy> = Api::default_namespaced(client.clone());
    api.create(&post, &policy).await.unwrap();
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
                "spec": {"containers": [{"name": "shop", "image": format!("shop:{version}"),
                    "envFrom": [{"configMapRef": {"name": "shop"}}]}]},
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

/// Waits for something to be seen of an object.
async fn until<K>(client: &Client, name: &str, refused: &Refused, seen: impl Fn(&K) -> bool)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    let waiting = await_condition(api.clone(), name, |found: Option<&K>| {
        found.is_some_and(&seen)
    });
    if tokio::time::timeout(Duration::from_secs(600), waiting)
        .await
        .is_err()
    {
        let last = api.get(name).await;
        let refused = refused.lock().unwrap();
        panic!("{name} never came so far; refused: {refused:?}; {last:#?}");
    }
}

async fn until_healthy(client: &Client, image: &str, refused: &Refused) {
    let healthy = |rollout: &Rollout| {
        let status = rollout.status.clone().unwrap_or_default();
        let seen = rollout.metadata.generation.map(|g| g.to_string());
        let template = serde_json::to_string(&rollout.spec.template).unwrap();
        status.phase == Some(RolloutPhase::Healthy)
            && status.observed_generation == seen
            && template.contains(image)
    };
    until(client, "shop", refused, healthy).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_needs_no_right_that_is_not_installed() {
    let server = ApiServer::new(Store::in_memory());
    let anybody = Client::new(server.router(), "default");
    let (controllers, refused) = installed(&server).await;
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
        tokio::spawn(node(anybody.clone(), 8, tend)),
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

/// What is installed for the gateway is taken by the API, and its command line by the parser. That its rights are enough is shown where
/// they are written down, in the crate of the gateway.
#[tokio::test]
async fn a_gateway_can_be_installed() {
    use clap::Parser;

    let router = ApiServer::new(Store::in_memory()).router();
    let args = InstallArgs {
        gateway_tls: true,
        ..arguments()
    };
    let objects = super::gateway::manifests("default", &args);
    for object in &objects {
        let answer = router.clone().oneshot(creation(object)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{object}");
    }
    let words = words_of_the_gateway(&objects);
    let command =
        crate::args::Cli::try_parse_from(std::iter::once("serin".to_owned()).chain(words));
    assert!(matches!(
        command.unwrap().command,
        crate::args::Command::Gateway(crate::gateway_command::GatewayCommand::Serve(_))
    ));
}

fn words_of_the_gateway(objects: &[Value]) -> Vec<String> {
    let deployment = objects.iter().find(|o| o["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let words = container["args"].as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_gateway_without_tls_reads_no_secret() {
    for tls in [false, true] {
        let args = InstallArgs {
            gateway_tls: tls,
            ..arguments()
        };
        let objects = super::gateway::manifests("default", &args);
        let text = json!(objects).to_string();
        assert_eq!(text.contains("secrets"), tls);
        assert_eq!(text.contains("https"), tls);
        let words = words_of_the_gateway(&objects);
        let has_tls = words.iter().any(|word| word.starts_with("--tls-listen"));
        assert_eq!(has_tls, tls);
    }
}

async fn create<K>(client: &Client, value: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    let made: K = object(value);
    api.create(&PostParams::default(), &made).await.unwrap();
}

/// One object for each controller of Kubernetes' own kinds.
async fn create_built_in(client: &Client) {
    let labels = json!({"app": "web"});
    let container = json!({"name": "web", "image": "web:1"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
    create::<Deployment>(client, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": labels}});
    create::<PodDisruptionBudget>(client, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let spec = json!({"selector": labels, "ports": [{"port": 80}]});
    create::<Service>(client, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let pod =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    let spec = json!({"schedule": "* * * * *", "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": pod}}});
    create::<CronJob>(client, json!({"metadata": {"name": "often"}, "spec": spec})).await;
    let spec = json!({"ttlSecondsAfterFinished": 900, "template": pod});
    create::<Job>(client, json!({"metadata": {"name": "once"}, "spec": spec})).await;
}

#[tokio::test(start_paused = true)]
async fn the_controllers_of_one_machine_need_no_right_that_they_do_not_have() {
    use crate::platform::identities::{Part, Tls, give_roles};
    let server = ApiServer::new(Store::in_memory());
    let anybody = Client::new(server.router(), "default");
    give_roles(&anybody, Tls::Absent).await.unwrap();
    let (controllers, refused) = as_user(&server, Part::Controllers.user());
    let shutdown = CancellationToken::new();
    let config = Config {
        clock: Clock::starting_at(jiff::Timestamp::now()),
        ..Config::default()
    };
    let tasks = [
        tokio::spawn(serin_controllers::run(
            controllers,
            config,
            shutdown.clone(),
        )),
        tokio::spawn(node(anybody.clone(), 8, tend)),
    ];
    create_around(&anybody).await;
    create::<Rollout>(&anybody, json!(rollout("v1"))).await;
    until_healthy(&anybody, "shop:v1", &refused).await;

    create_built_in(&anybody).await;
    until(&anybody, "web", &refused, |web: &Deployment| {
        web.status.as_ref().and_then(|s| s.available_replicas) == Some(2)
    })
    .await;
    until(&anybody, "web", &refused, |web: &PodDisruptionBudget| {
        web.status
            .as_ref()
            .is_some_and(|s| s.disruptions_allowed == 1)
    })
    .await;
    until(&anybody, "web", &refused, |web: &Endpoints| {
        web.subsets.is_some()
    })
    .await;
    until(&anybody, "once", &refused, |once: &Job| {
        once.status.as_ref().and_then(|s| s.succeeded) == Some(1)
    })
    .await;
    until(&anybody, "often", &refused, |often: &CronJob| {
        often
            .status
            .as_ref()
            .is_some_and(|s| s.last_successful_time.is_some())
    })
    .await;
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
    shutdown.cancel();
    for task in tasks {
        task.abort();
    }
}
