//! The documents of users, unmodified, on real processes and real requests: they apply and do what they say.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]

mod istio;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use serin_api::analysis::{AnalysisPhase, AnalysisRun};
use serin_api::rollout::{Rollout, RolloutPhase};
use support::{PATIENCE, Platform, Seen, Visitors, get, poll, skip, until};
use tokio::time::timeout;

/// What the images of the documents stand for.
const IMAGES: [&str; 4] = [
    "--image",
    "nginx=serin.dev/demo",
    "--image",
    "web-app=serin.dev/demo",
];

/// A document as it was handed in.
fn document(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../api/tests/documents")
        .join(name)
}

async fn start() -> (Platform, Client) {
    let platform = Platform::start(&IMAGES).await;
    let client = platform.client().await;
    (platform, client)
}

/// Whether port 80, which the documents use, may be taken; says why not.
fn port_80_is_free_for_all(test: &str) -> bool {
    match TcpListener::bind("127.0.0.2:80") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            skip(test, "the document uses port 80, which only root may take");
            false
        }
        _ => true,
    }
}

async fn change<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = Patch::Merge(patch);
    let changed = api.patch(name, &PatchParams::default(), &patch).await;
    changed.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The addresses of the pods with a label, once all of them answer.
async fn answering(client: &Client, label: &str, port: u16) -> Vec<SocketAddr> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let found = pods
        .list(&ListParams::default().labels(label))
        .await
        .unwrap();
    // One that is ending need not answer any more.
    let lives = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    let addresses: Vec<SocketAddr> = found
        .iter()
        .filter(lives)
        .map(|pod| {
            let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).unwrap();
            format!("{ip}:{port}").parse().unwrap()
        })
        .collect();
    for address in &addresses {
        let works = async || get(*address, "pod", "/").await.ok();
        poll(&format!("an answer of {address}"), works).await;
    }
    addresses
}

/// Waits until visitors meet one version alone. What was asked before the change may still be answered by the other.
async fn settles_on(visitors: &Visitors, version: &str) -> Seen {
    let mut before = Seen::default();
    let alone = async || {
        visitors.await_more(20).await;
        let seen = visitors.forget();
        before.failed += seen.failed;
        before.failures.extend(seen.failures.clone());
        (seen.of(version) > 0 && seen.of(version) + seen.failed == seen.requests()).then_some(())
    };
    poll(&format!("{version} alone to answer"), alone).await;
    assert_eq!(before.failed, 0, "{before:#?}");
    visitors.await_more(100).await;
    let seen = visitors.forget();
    assert_eq!(seen.versions.keys().collect::<Vec<_>>(), [version]);
    seen.assert_none_failed();
    seen
}

/// The most and the fewest that were seen of a rolling update, in the words of its limits.
#[derive(Debug)]
struct Extremes {
    most_in_all: usize,
    fewest_available: usize,
}

/// Looks at every change of the pods and of the Deployment until the update is complete.
async fn watch_update(client: &Client, name: &str, generation: i64) -> Extremes {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of = |field: &str| watcher::Config::default().fields(field);
    let own = watcher::Config::default().labels(&format!("app={name}"));
    let deployment = watcher(deployments, of(&format!("metadata.name={name}")));
    let mut changes = pin!(stream::select(
        watcher(pods, own).map(|event| Change::Pod(Box::new(event.unwrap()))),
        deployment.map(|event| Change::Deployment(Box::new(event.unwrap()))),
    ));
    let (mut known, mut complete, mut listed) = (BTreeMap::new(), false, false);
    let mut extremes = Extremes {
        most_in_all: 0,
        fewest_available: usize::MAX,
    };
    while let Some(change) = changes.next().await {
        match change {
            Change::Pod(event) => match *event {
                Event::Apply(pod) | Event::InitApply(pod) => {
                    known.insert(pod.name_any(), pod);
                }
                Event::Delete(pod) => {
                    known.remove(&pod.name_any());
                }
                Event::InitDone => listed = true,
                Event::Init => {}
            },
            Change::Deployment(event) => {
                if let Event::Apply(found) | Event::InitApply(found) = *event {
                    complete = is_updated(&found, generation);
                }
            }
        }
        if !listed {
            continue;
        }
        let living = known
            .values()
            .filter(|p| p.metadata.deletion_timestamp.is_none());
        let available = living.clone().filter(|pod| is_ready(pod)).count();
        extremes.most_in_all = extremes.most_in_all.max(living.count());
        extremes.fewest_available = extremes.fewest_available.min(available);
        if complete {
            return extremes;
        }
    }
    panic!("the watch ended");
}

enum Change {
    Pod(Box<Event<Pod>>),
    Deployment(Box<Event<Deployment>>),
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn is_updated(deployment: &Deployment, generation: i64) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas);
    status.observed_generation >= Some(generation)
        && [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ] == [wanted; 3]
}

#[tokio::test]
async fn a_rolling_update_keeps_its_limits() {
    if !port_80_is_free_for_all("2.2-1") {
        return;
    }
    let (platform, client) = start().await;
    platform.apply_file(&document("2.2-1.yaml")).await;
    platform
        .serin(&["rollout", "status", "web-app", "--timeout", "60s"])
        .await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let first = until(&deployments, "web-app", "6 available", |d| is_updated(d, 1)).await;

    let generation = first.metadata.generation.unwrap() + 1;
    let watch = timeout(PATIENCE, watch_update(&client, "web-app", generation));
    let release = platform.serin(&["rollout", "set-image", "deploy/web-app", "web=nginx:1.21"]);
    let (seen, _) = tokio::join!(watch, release);
    let seen = seen.unwrap();
    assert!(
        seen.most_in_all <= 8 && seen.fewest_available >= 5,
        "{seen:?}"
    );
    assert!(
        seen.most_in_all > 6,
        "nothing was seen of the update: {seen:?}"
    );
    let addresses = answering(&client, "app=web-app", 80).await;
    assert!(addresses.len() >= 6);
    platform
        .serin(&["rollout", "status", "web-app", "--timeout", "60s"])
        .await;
    for address in answering(&client, "app=web-app", 80).await {
        assert_eq!(get(address, "pod", "/").await.unwrap().version(), "1.21");
    }
}

#[tokio::test]
async fn a_selector_moves_all_requests_to_the_other_colour() {
    if !port_80_is_free_for_all("3.2-1") {
        return;
    }
    let (platform, client) = start().await;
    platform.apply_file(&document("3.2-1.yaml")).await;
    for colour in ["blue", "green"] {
        let name = format!("web-app-{colour}");
        platform
            .serin(&["rollout", "status", &name, "--timeout", "60s"])
            .await;
        let label = format!("version={colour}");
        assert_eq!(answering(&client, &label, 80).await.len(), 3);
    }
    let gateway = platform.gateway().await;
    let blue = async || {
        let answer = get(gateway, "web-app-service.default", "/").await.ok()?;
        (answer.version() == "1.20").then_some(())
    };
    poll("blue to answer", blue).await;

    let visitors = Visitors::start(gateway, "web-app-service.default");
    settles_on(&visitors, "1.20").await;
    let services: Api<Service> = Api::default_namespaced(client);
    for (colour, version) in [("green", "1.21"), ("blue", "1.20")] {
        let selector = json!({"spec": {"selector": {"version": colour}}});
        change(&services, "web-app-service", selector).await;
        settles_on(&visitors, version).await;
    }
    visitors.stop().await.assert_none_failed();
}

/// The two versions that the canary Ingress splits between, which the document leaves to its reader.
fn two_versions() -> String {
    let one = |version: &str| {
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web-app-{version}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web-app, version: {version}}}}}
  template:
    metadata: {{labels: {{app: web-app, version: {version}}}}}
    spec:
      containers:
      - name: web
        image: web-app:{version}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health/ready, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web-app-{version}}}
spec:
  selector: {{app: web-app, version: {version}}}
  ports: [{{port: 80, targetPort: http}}]
"
        )
    };
    format!("{}---\n{}", one("v1"), one("v2"))
}

#[tokio::test]
async fn a_canary_ingress_gets_its_share() {
    let (platform, client) = start().await;
    platform.apply(&two_versions()).await;
    platform.apply_file(&document("4.3-1.yaml")).await;
    for name in ["web-app-v1", "web-app-v2"] {
        platform
            .serin(&["rollout", "status", name, "--timeout", "60s"])
            .await;
    }
    let gateway = platform.gateway().await;
    let both = async || {
        let mut met = Vec::new();
        for _ in 0..20 {
            let answer = get(gateway, "app.example.com", "/").await.ok()?;
            met.push(answer.version().to_owned());
        }
        ["v1", "v2"]
            .iter()
            .all(|v| met.iter().any(|m| m == v))
            .then_some(())
    };
    poll("both versions to answer", both).await;
    let elsewhere = get(gateway, "other.example.com", "/").await.unwrap();
    assert_eq!(elsewhere.status, 404, "{elsewhere:?}");

    let visitors = Visitors::start(gateway, "app.example.com");
    visitors.await_more(2_000).await;
    let seen = visitors.forget();
    seen.assert_none_failed();
    let share = seen.of("v2") as f64 / seen.requests() as f64;
    assert!((0.09..=0.11).contains(&share), "{seen:?}");

    let ingresses: Api<Ingress> = Api::default_namespaced(client);
    let key = "nginx.ingress.kubernetes.io/canary-weight";
    let none = json!({"metadata": {"annotations": {key: "0"}}});
    change(&ingresses, "web-app-canary", none).await;
    settles_on(&visitors, "v1").await;
    visitors.stop().await.assert_none_failed();
}

/// What the blue-green document needs of its reader: its two Services, and the template `success-rate`.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web-app-active}
spec:
  selector: {app: web-app}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web-app-preview}
spec:
  selector: {app: web-app}
  ports: [{port: 80, targetPort: 8080}]
";
const SUCCESS_RATE: &str = r#"
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: success-rate}
spec:
  args: [{name: service-name}]
  metrics:
  - name: success-rate
    initialDelay: 2s
    interval: 1s
    count: 3
    successCondition: result < 0.05
    provider:
      serin: {metric: error-ratio, service: "{{args.service-name}}", window: 1s, minRequests: 5}
"#;

const OLD: &str = "v1.2.0";
const NEW: &str = "v1.3.0";

fn condition(rollout: &Rollout, kind: &str) -> Option<String> {
    let status = rollout.status.as_ref()?;
    let found = status.conditions.iter().find(|c| c.type_ == kind)?;
    (found.status == "True").then(|| found.message.clone())
}

fn is_healthy(rollout: &Rollout) -> bool {
    rollout.status.as_ref().is_some_and(|s| {
        s.phase == Some(RolloutPhase::Healthy)
            && s.observed_generation == rollout.metadata.generation.map(|g| g.to_string())
    })
}

/// The ReplicaSet of a version.
async fn replica_set(client: &Client, version: &str) -> ReplicaSet {
    let sets: Api<ReplicaSet> = Api::default_namespaced(client.clone());
    let image = format!("web-app:{version}");
    let is_of = |set: &ReplicaSet| {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let pod = template.and_then(|t| t.spec.as_ref());
        pod.is_some_and(|p| {
            p.containers
                .iter()
                .any(|c| c.image.as_ref() == Some(&image))
        })
    };
    let all = sets.list(&ListParams::default()).await.unwrap();
    all.into_iter().find(is_of).unwrap()
}

#[tokio::test]
async fn a_blue_green_rollout_analyses_its_preview_and_waits_for_a_person() {
    let (platform, client) = start().await;
    let rollouts: Api<Rollout> = Api::default_namespaced(client.clone());
    let name = "web-app-rollout";
    platform.apply(SERVICES).await;
    platform.apply_file(&document("8.4-1.yaml")).await;
    let refused = |r: &Rollout| condition(r, "InvalidSpec").is_some();
    let refused = until(&rollouts, name, "InvalidSpec", refused).await;
    let told = condition(&refused, "InvalidSpec").unwrap();
    assert!(told.contains("\"success-rate\" not found"), "{told}");

    platform.apply(SUCCESS_RATE).await;
    until(&rollouts, name, "the first version", is_healthy).await;
    let label = "app=web-app";
    assert_eq!(answering(&client, label, 8080).await.len(), 5);
    let gateway = platform.gateway().await;
    let active = Visitors::start(gateway, "web-app-active.default");
    let preview = Visitors::start(gateway, "web-app-preview.default");
    settles_on(&active, OLD).await;

    let image = format!("web=web-app:{NEW}");
    platform
        .serin(&["rollout", "set-image", name, &image])
        .await;
    let waits = |r: &Rollout| {
        let status = r.status.clone().unwrap_or_default();
        let analysed = status.blue_green.pre_promotion_analysis_run_status.as_ref();
        status.phase == Some(RolloutPhase::Paused)
            && analysed.is_some_and(|run| run.status == AnalysisPhase::Successful)
    };
    let waiting = until(&rollouts, name, "the analysis of the preview", waits).await;
    // The document has no readiness probe: only from here on nobody meets an instance that does not listen yet.
    preview.forget();
    settles_on(&preview, NEW).await;
    let on_the_old = settles_on(&active, OLD).await;
    assert_eq!(on_the_old.of(NEW), 0);
    let runs: Api<AnalysisRun> = Api::default_namespaced(client.clone());
    let run = runs.get(&analysis_name(&waiting)).await.unwrap();
    assert_eq!(run.spec.args[0].value.as_deref(), Some("web-app-preview"));

    platform.serin(&["rollout", "promote", name]).await;
    settles_on(&active, NEW).await;
    until(&rollouts, name, "the release", is_healthy).await;
    the_old_ones_stay_for_a_while(&client).await;
    active.stop().await.assert_none_failed();
    preview.stop().await.assert_none_failed();
}

fn analysis_name(rollout: &Rollout) -> String {
    let status = rollout.status.clone().unwrap();
    status
        .blue_green
        .pre_promotion_analysis_run_status
        .unwrap()
        .name
}

/// All of them serve until their time is up, and none is there afterwards.
async fn the_old_ones_stay_for_a_while(client: &Client) {
    let sets: Api<ReplicaSet> = Api::default_namespaced(client.clone());
    let old = replica_set(client, OLD).await.name_any();
    let key = serin_api::keys::annotation::SCALE_DOWN_DEADLINE;
    let dated = |set: &ReplicaSet| set.annotations().contains_key(key);
    let dated = until(&sets, &old, "its time to be set", dated).await;
    let deadline: Timestamp = dated.annotations()[key].parse().unwrap();
    assert_eq!(dated.status.and_then(|s| s.available_replicas), Some(5));
    let gone = |set: &ReplicaSet| set.status.as_ref().is_some_and(|s| s.replicas == 0);
    until(&sets, &old, "its end", gone).await;
    assert!(Timestamp::now() >= deadline, "gone before {deadline}");
}

#[tokio::test]
async fn a_wrong_manifest_is_refused_with_all_its_mistakes() {
    let platform = Platform::start(&[]).await;
    let path = document("6.2-1.yaml");
    let arguments = ["apply", "-f", path.to_str().unwrap()];
    let mistakes = [
        "spec.template.spec.containers[0].terminationGracePeriodSeconds: unknown field here, it belongs to spec.template.spec",
        "spec.selector: Required value",
    ];
    let told = platform.try_serin(&arguments).await;
    assert_eq!(told.code, Some(65), "{told:?}");
    assert!(mistakes.iter().all(|m| told.stderr.contains(m)), "{told:?}");
    match platform.try_kubectl(&arguments).await {
        Some(told) => {
            assert_eq!(told.code, Some(1), "{told:?}");
            assert!(mistakes.iter().all(|m| told.stderr.contains(m)), "{told:?}");
        }
        None => skip("6.2-1 by kubectl", "kubectl is not installed"),
    }
    assert_eq!(platform.serin(&["get", "deployments"]).await, "");
}
