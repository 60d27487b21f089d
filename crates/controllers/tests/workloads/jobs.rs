//! Jobs, CronJobs and budgets over the embedded API.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::EvictParams;
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use crate::world::{DONE, FAILS, World};

fn job(name: &str, image: &str, spec: Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}}}});
    for (name, value) in spec.as_object().unwrap() {
        job["spec"][name] = value.clone();
    }
    job
}

fn is(kind: &'static str) -> impl Fn(Option<&Job>) -> bool {
    move |job| {
        let status = job.and_then(|job| job.status.as_ref());
        let conditions = status
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        serin_api::conditions::is_true(conditions, kind)
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_end() {
    let world = World::start();
    let spec = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 600});
    world.create::<Job>(job("sum", DONE, spec)).await;
    let done = world
        .until::<Job>("sum", "complete", is("Complete"))
        .await
        .unwrap();
    let status = done.status.unwrap();
    assert_eq!(
        (
            status.succeeded,
            status.active,
            status.completed_indexes.as_deref()
        ),
        (Some(3), None, Some("0-2"))
    );
    let pods = world.list::<Pod>().await;
    let name = pods[0].labels()["batch.kubernetes.io/job-name"].clone();
    assert_eq!((pods.len(), name.as_str()), (3, "sum"));
    world
        .until::<Job>("sum", "forgotten", |job| job.is_none())
        .await;
    for pod in pods {
        world
            .until::<Pod>(&pod.name_any(), "gone", |pod| pod.is_none())
            .await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_gives_up_in_the_end() {
    let world = World::start();
    let spec = json!({"backoffLimit": 1});
    world.create::<Job>(job("bad", FAILS, spec)).await;
    let failed = world
        .until::<Job>("bad", "failed", is("Failed"))
        .await
        .unwrap();
    assert_eq!(failed.status.unwrap().failed, Some(2));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_makes_a_job_each_time() {
    let world = World::start();
    let template = job("x", DONE, json!({}))["spec"].clone();
    let object = json!({"metadata": {"name": "tidy"}, "spec": {"schedule": "*/5 * * * *", "successfulJobsHistoryLimit": 2,
        "jobTemplate": {"spec": template}}});
    world.create::<CronJob>(object).await;
    // The world begins at midnight of 1 January 2026, UTC.
    let third = "tidy-29453775";
    world.until::<Job>(third, "complete", is("Complete")).await;
    let first = "tidy-29453765";
    world
        .until::<Job>(first, "forgotten", |job| job.is_none())
        .await;
    let object = world.get::<CronJob>("tidy").await;
    assert!(object.status.unwrap().last_successful_time.is_some());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_stands_in_the_way_of_an_eviction() {
    let world = World::start();
    let labels = json!({"app": "web"});
    let replica_set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "web"}]}}}});
    world.create::<ReplicaSet>(replica_set).await;
    let budget = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}}});
    world.create::<PodDisruptionBudget>(budget).await;
    let allows = |many: i32| {
        move |budget: Option<&PodDisruptionBudget>| {
            let status = budget.and_then(|b| b.status.as_ref());
            status.is_some_and(|s| s.disruptions_allowed == many && s.expected_pods == 3)
        }
    };
    world.until("web", "ready to let one go", allows(1)).await;
    let pods = world.list::<Pod>().await;
    let api = world.api::<Pod>();
    api.evict(&pods[0].name_any(), &EvictParams::default())
        .await
        .unwrap();
    let second = api
        .evict(&pods[1].name_any(), &EvictParams::default())
        .await;
    assert!(
        matches!(&second, Err(Error::Api(s)) if s.code == 429),
        "{second:?}"
    );
    // The one that went is replaced, and then another one may go.
    world
        .until("web", "ready to let another one go", allows(1))
        .await;
    api.evict(&pods[1].name_any(), &EvictParams::default())
        .await
        .unwrap();
    world.stop().await;
}
