//! Experiments over the embedded API, on a virtual clock.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::analysis::{AnalysisPhase, AnalysisRun, AnalysisTemplate};
use serin_api::experiment::{Experiment, ExperimentStatus, TemplatePhase};
use serin_api::rollout::{Rollout, RolloutPhase};

use crate::rollouts::{is, release, rollout, until};
use crate::world::{BAD, DONE, FAILS, World};

/// A template whose measurement is a Job with this image.
async fn measured_by(world: &World, image: &str) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]});
    let job = json!({"spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    let spec =
        json!({"args": [{"name": "hash"}], "metrics": [{"name": "m", "provider": {"job": job}}]});
    let template = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "t"}, "spec": spec});
    world.create::<AnalysisTemplate>(template).await;
}

fn version(name: &str, image: &str) -> Value {
    let container = json!({"name": "a", "image": image, "ports": [{"containerPort": 8080}]});
    json!({
        "name": name, "replicas": 2, "service": {}, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
    })
}

async fn experiment(world: &World, more: Value) {
    let mut spec = json!({"templates": [version("a", "web:v1"), version("b", "web:v2")]});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Experiment", "metadata": {"name": "x"}, "spec": spec});
    world.create::<Experiment>(object).await;
}

async fn until_phase(world: &World, phase: AnalysisPhase) -> ExperimentStatus {
    let what = format!("{phase:?}");
    let seen = world.until("x", &what, |x: Option<&Experiment>| {
        x.and_then(|x| x.status.as_ref()).and_then(|s| s.phase) == Some(phase)
    });
    seen.await.unwrap().status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_experiment_runs_its_versions_side_by_side_and_leaves_nothing_behind() {
    let world = World::start();
    measured_by(&world, DONE).await;
    let hash = json!([{"name": "hash", "value": "{{templates.b.podTemplateHash}}"}]);
    let compare = json!([{"name": "compare", "templateName": "t", "requiredForCompletion": true, "args": hash}]);
    experiment(&world, json!({"duration": "1m", "analyses": compare})).await;
    until_phase(&world, AnalysisPhase::Running).await;
    let services: Vec<_> = world.list::<Service>().await;
    let names: Vec<_> = services.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["x-a", "x-b"]);
    // Each Service leads to its own version alone.
    let pods = world.list::<Pod>().await;
    for service in &services {
        let selector = service.spec.as_ref().unwrap().selector.clone().unwrap();
        let reached = pods.iter().filter(|pod| {
            selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
        });
        assert_eq!(reached.count(), 2, "{selector:?}");
    }
    let status = until_phase(&world, AnalysisPhase::Successful).await;
    let phases: Vec<_> = status.template_statuses.iter().map(|t| t.status).collect();
    assert_eq!(phases, [Some(TemplatePhase::Successful); 2]);
    let run: AnalysisRun = world.get("x-compare").await;
    let told = run.spec.args[0].value.clone();
    assert_eq!(told, status.template_statuses[1].pod_template_hash);

    for set in ["x-a", "x-b"] {
        let empty = |set: Option<&ReplicaSet>| {
            set.and_then(|s| s.status.as_ref())
                .is_some_and(|s| s.replicas == 0)
        };
        world.until::<ReplicaSet>(set, "empty", empty).await;
        world.until::<Service>(set, "gone", |s| s.is_none()).await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_come_fails_the_experiment() {
    let world = World::start();
    let versions = json!([version("a", "web:v1"), version("b", BAD)]);
    experiment(
        &world,
        json!({"templates": versions, "progressDeadlineSeconds": 60}),
    )
    .await;
    let status = until_phase(&world, AnalysisPhase::Failed).await;
    assert!(status.message.unwrap().contains("\"b\" has 0 of 2"));
    world.stop().await;
}

/// A step with an experiment of the stable and the new version, measured by a Job with this image.
fn comparing() -> Value {
    let templates =
        json!([{"name": "old", "specRef": "stable"}, {"name": "new", "specRef": "canary"}]);
    let hash = json!([{"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}]);
    let analyses = json!([{"name": "compare", "templateName": "t", "requiredForCompletion": true, "args": hash}]);
    json!({"canary": {"steps": [{"experiment": {"templates": templates, "analyses": analyses}}, {"pause": {}}]}})
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_the_experiment_of_its_step() {
    let world = World::start();
    measured_by(&world, DONE).await;
    world.create::<Rollout>(rollout("v1", comparing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    assert_eq!(paused.current_step_index, Some(1));
    let experiments = world.list::<Experiment>().await;
    let images = experiments[0].spec.templates.iter().map(|t| {
        let pod = t.template.spec.as_ref().unwrap();
        pod.containers[0].image.clone().unwrap()
    });
    assert_eq!(images.collect::<Vec<_>>(), ["web:v1", "web:v2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_experiment_takes_the_release_back() {
    let world = World::start();
    measured_by(&world, FAILS).await;
    world.create::<Rollout>(rollout("v1", comparing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    let aborted = until(&world, "the abort", |s| s.abort).await;
    let why = aborted.message.unwrap();
    assert!(
        why.contains("experiment") && why.contains("Failed"),
        "{why}"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_the_experiment() {
    let world = World::start();
    let templates = json!([{"name": "new", "specRef": "canary"}]);
    let steps = json!([{"experiment": {"templates": templates}}]);
    world
        .create::<Rollout>(rollout("v1", json!({"canary": {"steps": steps}})))
        .await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    let name = until(&world, "the experiment", |s| {
        s.canary.current_experiment.is_some()
    })
    .await;
    let name = name.canary.current_experiment.unwrap();
    let running = |x: Option<&Experiment>| {
        x.and_then(|x| x.status.as_ref()).and_then(|s| s.phase) == Some(AnalysisPhase::Running)
    };
    world.until(&name, "running", running).await;
    crate::rollouts::verb(&world, json!({"status": {"abort": true}})).await;
    let ended = |x: Option<&Experiment>| {
        let phase = x.and_then(|x| x.status.as_ref()).and_then(|s| s.phase);
        phase.is_some_and(AnalysisPhase::is_completed)
    };
    world.until(&name, "ended", ended).await;
    world.stop().await;
}
