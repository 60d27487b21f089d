//! New versions that are bad in every way that a program can be: the old one serves on, the cause is told, and it can be taken
//! back.

use k8s_openapi::api::core::v1::{ContainerState, Pod};
use serde_json::{Value, json};

use crate::apps::{self, deployment_until, healthy, is_healthy, pods, rollout_until};
use crate::load::Load;
use crate::support::{Platform, poll};

/// A version that never becomes available.
struct Bad {
    version: &'static str,
    template: Value,
    /// Stands in the cause that the pod tells.
    cause: &'static str,
    /// The word for the pod in `serin rollout get`.
    word: &'static str,
    /// Stands in its status or in an event.
    evidence: &'static str,
}

fn all() -> Vec<Bad> {
    let mut absent = pods("absent", &[]);
    absent["spec"]["containers"][0]["image"] = "host".into();
    absent["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    let mut unknown = pods("unknown", &[]);
    unknown["spec"]["containers"][0]["image"] = "nowhere.example/shop:v9".into();
    let mut not_live = pods(
        "not-live",
        &[("NOT_LIVE_AFTER_MS", "0"), ("UNREADY", "true")],
    );
    not_live["spec"]["terminationGracePeriodSeconds"] = 1.into();
    not_live["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"path": "/health/live", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
    let bad = |version, template, cause, word, evidence| Bad {
        version,
        template,
        cause,
        word,
        evidence,
    };
    vec![
        bad(
            "absent",
            absent,
            "/no/such/program",
            "RunContainerError",
            "/no/such/program",
        ),
        bad(
            "crashing",
            pods("crashing", &[("EXIT_CODE", "3")]),
            "CrashLoopBackOff",
            "CrashLoopBackOff",
            "\"exitCode\": 3",
        ),
        bad(
            "unready",
            pods("unready", &[("UNREADY", "true")]),
            "ContainersNotReady",
            "ready 0/1",
            "Readiness probe failed",
        ),
        bad(
            "not-live",
            not_live,
            "CrashLoopBackOff",
            "CrashLoopBackOff",
            "Liveness probe failed",
        ),
        bad(
            "unknown",
            unknown,
            "nowhere.example/shop:v9",
            "ErrImagePull",
            "serin up --image",
        ),
    ]
}

/// What keeps a pod from being ready, as its status tells: `REASON: MESSAGE`.
pub(crate) fn cause(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let waiting = |state: &ContainerState| {
        let waiting = state.waiting.as_ref()?;
        Some((
            waiting.reason.clone()?,
            waiting.message.clone().unwrap_or_default(),
        ))
    };
    let of_containers = containers
        .filter_map(|c| waiting(c.state.as_ref()?))
        .find(|(reason, _)| reason != "ContainerCreating");
    let of_conditions = || {
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready" && c.status == "False")?;
        Some((
            ready.reason.clone()?,
            ready.message.clone().unwrap_or_default(),
        ))
    };
    let (reason, message) = of_containers.or_else(of_conditions)?;
    Some(format!("{reason}: {message}"))
}

/// Waits until a pod of the version tells why it is not ready.
async fn told_cause(platform: &Platform, bad: &Bad) -> String {
    let wanted = async || {
        let causes: Vec<_> = apps::pods_of(platform)
            .await
            .iter()
            .filter_map(cause)
            .collect();
        causes.into_iter().find(|cause| cause.contains(bad.cause))
    };
    poll(
        &format!("{} in the cause of {}", bad.cause, bad.version),
        wanted,
    )
    .await
}

/// Waits until the tree of the release shows the word.
async fn told_tree(platform: &Platform, bad: &Bad) {
    let shown = async || {
        let tree = platform.serin(&["rollout", "get", "shop"]).await;
        tree.contains(bad.word).then_some(tree)
    };
    poll(
        &format!("{} in the tree of {}", bad.word, bad.version),
        shown,
    )
    .await;
}

/// Waits until the pods or their events tell what happened.
async fn told_evidence(platform: &Platform, bad: &Bad) {
    let told = async || {
        let arguments = ["get", "pods,events", "-o", "json"];
        let all = platform.serin(&arguments).await;
        all.contains(bad.evidence).then_some(())
    };
    let what = format!("{} of {}", bad.evidence, bad.version);
    poll(&what, told).await;
}

/// Releases each bad version under load, and takes it back.
async fn each_is_taken_back(
    platform: &Platform,
    manifest: impl Fn(Value) -> String,
    abort_first: bool,
) {
    let load = Load::start(platform).await;
    for bad in all() {
        platform.apply(&manifest(bad.template.clone())).await;
        let cause = told_cause(platform, &bad).await;
        told_tree(platform, &bad).await;
        told_evidence(platform, &bad).await;
        println!("{}: {cause}", bad.version);
        if abort_first {
            platform.serin(&["rollout", "abort", "shop"]).await;
            rollout_until(platform, "the abort", |status| {
                status.abort && apps::served_percent(status) == Some(0)
            })
            .await;
        }
        platform.serin(&["rollout", "undo", "shop"]).await;
        healthy(platform).await;
    }
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert_eq!(
        report.answers_of("v1"),
        report.requests(),
        "the old version answers everybody"
    );
    println!("five bad versions: {}", report.told());
}

#[tokio::test]
async fn a_deployment_serves_the_old_version() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    each_is_taken_back(&platform, apps::deployment, false).await;
    deployment_until(&platform, "v1", |deployment| {
        let status = deployment.status.as_ref();
        status.and_then(|s| s.available_replicas) == Some(apps::REPLICAS.cast_signed())
    })
    .await;
}

#[tokio::test]
async fn a_rollout_serves_the_old_version() {
    let steps = json!([{"setWeight": 20}, {"pause": {}}]);
    let manifest = |template| apps::rollout(template, steps.clone());
    let platform = apps::started(&manifest(pods("v1", &[]))).await;
    each_is_taken_back(&platform, manifest, true).await;
    rollout_until(&platform, "v1", is_healthy).await;
}

#[tokio::test]
async fn a_release_that_does_not_get_on_fails_at_its_deadline() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    let patch = json!([{"op": "add", "path": "/spec/progressDeadlineSeconds", "value": 3}]);
    edit(&platform, "deployments", "apps/v1", &patch).await;
    platform
        .apply(&apps::deployment(pods("v2", &[("UNREADY", "1")])))
        .await;
    let told = platform
        .try_serin(&["rollout", "status", "shop", "--timeout", "50s"])
        .await;
    assert_eq!(told.code, Some(2), "{told:?}");
    println!("deployment past its deadline: {told:?}");
    platform.serin(&["rollout", "undo", "shop"]).await;
    healthy(&platform).await;
}

#[tokio::test]
async fn a_rollout_that_does_not_get_on_is_taken_back_at_its_deadline() {
    let manifest = |template| apps::rollout(template, json!([{"setWeight": 50}]));
    let platform = apps::started(&manifest(pods("v1", &[]))).await;
    let patch = json!([
        {"op": "add", "path": "/spec/progressDeadlineSeconds", "value": 3},
        {"op": "add", "path": "/spec/progressDeadlineAbort", "value": true},
    ]);
    edit(&platform, "rollouts", "argoproj.io/v1alpha1", &patch).await;
    let load = Load::start(&platform).await;
    platform
        .apply(&manifest(pods("v2", &[("EXIT_CODE", "1")])))
        .await;
    let told = platform
        .try_serin(&["rollout", "status", "shop", "--timeout", "50s"])
        .await;
    assert_eq!(told.code, Some(2), "{told:?}");
    println!("rollout past its deadline: {told:?}");
    rollout_until(&platform, "0 %", |status| {
        status.abort && apps::served_percent(status) == Some(0)
    })
    .await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert_eq!(report.answers_of("v1"), report.requests());
}

/// Changes `shop` by a JSON patch.
async fn edit(platform: &Platform, plural: &str, api_version: &str, patch: &Value) {
    let uri = format!("/apis/{api_version}/namespaces/default/{plural}/shop");
    let request = http::Request::patch(uri)
        .header("content-type", "application/json-patch+json")
        .body(patch.to_string().into_bytes())
        .unwrap();
    let client = platform.client().await;
    let _: Value = client.request(request).await.unwrap();
}
