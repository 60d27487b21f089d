//! Experiments: reads the caches into one view, asks the engine, carries out the plan, writes the status once.
//!
//! Absent on purpose: any decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use serin_api::analysis::{
    AnalysisRun, AnalysisRunSpec, AnalysisTemplate, ClusterAnalysisTemplate,
};
use serin_api::experiment::Experiment;
use serin_api::keys::annotation;
use serin_engine::analysis::TemplateSource;
use serin_engine::experiment::{
    Action, Observed, RunView, Seen, SetView, broken_rules, plan, run_name, service_name, set_name,
};
use serin_engine::rollout::Note;
use serin_engine::workload::{self, ReplicaSetView};

use crate::clock::Clock;
use crate::events;
use crate::shell::{
    Cache, Error, Kind, Next, Reconcile, Triggers, create, delete, merge, write_status,
};

/// After a refused plan, the next look comes this soon: the view may have been behind.
const AFTER_REFUSAL: SignedDuration = SignedDuration::from_secs(5);

/// The controller of Experiments.
#[derive(Clone)]
pub(crate) struct Experiments {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) experiments: Cache<Experiment>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) services: Cache<Service>,
    pub(crate) runs: Cache<AnalysisRun>,
    pub(crate) templates: Cache<AnalysisTemplate>,
}

impl Reconcile for Experiments {
    type Object = Experiment;
    const NAME: &'static str = "experiment";

    async fn reconcile(&self, experiment: Arc<Experiment>) -> Result<Next, Error> {
        let uid = experiment.uid().unwrap_or_default();
        if experiment.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Change);
        }
        let current = self.experiments.is_current(&uid)
            && self.replica_sets.is_current(&uid)
            && self.services.is_current(&uid)
            && self.runs.is_current(&uid);
        if !current {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let observed = self.observe(&experiment).await?;
        let plan = plan(&experiment.spec, &observed, now);
        let broken = broken_rules(&observed, &plan);
        if !broken.is_empty() {
            let note = Note {
                warning: true,
                reason: "PlanRefused",
                message: format!("a plan was refused: {}", broken.join("; ")),
            };
            tracing::error!(experiment = experiment.name_any(), note.message);
            events::tell(&self.client, &experiment.object_ref(&()), &note, now).await;
            return Ok(Next::At(now + AFTER_REFUSAL));
        }
        for action in &plan.actions {
            self.apply(&experiment, action).await?;
        }
        if experiment.status.as_ref() != Some(&plan.status) {
            let mut next = (*experiment).clone();
            next.status = Some(plan.status);
            let written = write_status(&self.api(&experiment), &next).await?;
            self.experiments.wrote(&uid, &written);
        }
        for note in &plan.notes {
            events::tell(&self.client, &experiment.object_ref(&()), note, now).await;
        }
        Ok(Next::wake(plan.wake_at))
    }
}

impl Experiments {
    async fn observe(&self, experiment: &Experiment) -> Result<Observed, Error> {
        let namespace = experiment.namespace().unwrap_or_default();
        let uid = experiment.uid().unwrap_or_default();
        let name = experiment.name_any();
        let spec = &experiment.spec;
        let sets = spec.templates.iter().filter_map(|version| {
            let set = self
                .replica_sets
                .get(&namespace, &set_name(&name, &version.name))?;
            Some((set.name_any(), seen(&*set, &uid, set_view)))
        });
        let services = spec.templates.iter().filter_map(|version| {
            let service = self
                .services
                .get(&namespace, &service_name(&name, version)?)?;
            Some((service.name_any(), seen(&*service, &uid, |_| ())))
        });
        let runs = spec.analyses.iter().filter_map(|analysis| {
            let run = self
                .runs
                .get(&namespace, &run_name(&name, &analysis.name))?;
            Some((run.name_any(), seen(&*run, &uid, run_view)))
        });
        Ok(Observed {
            status: experiment.status.clone().unwrap_or_default(),
            sets: sets.collect(),
            services: services.collect(),
            runs: runs.collect(),
            templates: self.templates_of(experiment, &namespace).await?,
            in_routes: experiment.annotations().contains_key(annotation::IN_ROUTES),
            name,
        })
    }

    async fn templates_of(
        &self,
        experiment: &Experiment,
        namespace: &str,
    ) -> Result<TemplateSource, Error> {
        let local = self.templates.list(namespace);
        let local = local
            .iter()
            .map(|t| ((false, t.name_any()), t.spec.clone()));
        let mut source: TemplateSource = local.collect();
        let api: Api<ClusterAnalysisTemplate> = Api::all(self.client.clone());
        let analyses = experiment.spec.analyses.iter();
        for analysis in analyses.filter(|a| a.cluster_scope == Some(true)) {
            let name = &analysis.template_name;
            let found = api.get_opt(name).await;
            let found =
                found.map_err(|e| Error::api(format!("read ClusterAnalysisTemplate {name}"), e))?;
            if let Some(template) = found {
                let spec = serde_json::to_value(&template.spec).and_then(serde_json::from_value);
                source.extend(spec.ok().map(|spec| ((true, name.clone()), spec)));
            }
        }
        Ok(source)
    }

    async fn apply(&self, experiment: &Experiment, action: &Action) -> Result<(), Error> {
        tracing::info!(experiment = experiment.name_any(), "{}", told(action));
        match action {
            Action::CreateSet(set) => {
                self.create(experiment, (**set).clone(), &self.replica_sets)
                    .await
            }
            Action::CreateService(service) => {
                self.create(experiment, (**service).clone(), &self.services)
                    .await
            }
            Action::StartRun { name, spec } => {
                let run = run(experiment, name, spec);
                self.create(experiment, run, &self.runs).await
            }
            Action::Scale { set, to } => {
                let patch = json!({"spec": {"replicas": to}});
                self.change(experiment, set, &patch, &self.replica_sets)
                    .await
            }
            Action::KeepUntil { set, until } => {
                let annotations = json!({annotation::SCALE_DOWN_DEADLINE: until.to_string()});
                let patch = json!({"metadata": {"annotations": annotations}});
                self.change(experiment, set, &patch, &self.replica_sets)
                    .await
            }
            Action::StopRun { name } => {
                let patch = json!({"spec": {"terminate": true}});
                self.change(experiment, name, &patch, &self.runs).await
            }
            Action::DeleteService { name } => {
                let namespace = experiment.namespace().unwrap_or_default();
                let Some(service) = self.services.get(&namespace, name) else {
                    return Ok(());
                };
                let uid = service.uid().unwrap_or_default();
                delete(&self.api::<Service>(experiment), name, &uid)
                    .await
                    .map(drop)
            }
        }
    }

    async fn create<K: Kind + serde::Serialize>(
        &self,
        experiment: &Experiment,
        mut object: K,
        cache: &Cache<K>,
    ) -> Result<(), Error> {
        let meta = object.meta_mut();
        meta.namespace = experiment.namespace();
        meta.owner_references = experiment
            .controller_owner_ref(&())
            .map(|owner| vec![owner]);
        if let Some(created) = create(&self.api(experiment), &object).await? {
            cache.wrote(&experiment.uid().unwrap_or_default(), &created);
        }
        Ok(())
    }

    async fn change<K: Kind>(
        &self,
        experiment: &Experiment,
        name: &str,
        patch: &Value,
        cache: &Cache<K>,
    ) -> Result<(), Error> {
        let changed = merge(&self.api::<K>(experiment), name, patch).await?;
        cache.wrote(&experiment.uid().unwrap_or_default(), &changed);
        Ok(())
    }

    fn api<K>(&self, experiment: &Experiment) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let namespace = experiment.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    /// Whose changes concern which Experiments.
    pub(crate) fn triggers(&self) -> Vec<Triggers<Experiment>> {
        let all = self.experiments.clone();
        let templates =
            self.templates
                .triggers(&self.experiments, move |template: &AnalysisTemplate| {
                    let namespace = template.namespace().unwrap_or_default();
                    let all = all.list(&namespace).into_iter();
                    all.map(|experiment| ObjectRef::from_obj(&*experiment))
                        .collect()
                });
        vec![
            self.replica_sets.triggers(&self.experiments, owner),
            self.services.triggers(&self.experiments, owner),
            self.runs.triggers(&self.experiments, owner),
            templates,
        ]
    }
}

/// An object of a name that an experiment asks for: its own, or somebody else's.
fn seen<K: Resource, V>(object: &K, uid: &str, view: impl FnOnce(&K) -> V) -> Seen<V> {
    if workload::controller_of(object.meta()).is_some_and(|owner| owner.uid == uid) {
        Seen::Ours(view(object))
    } else {
        Seen::Foreign
    }
}

fn set_view(set: &ReplicaSet) -> SetView {
    let view = ReplicaSetView::from_replica_set(set);
    let until = view.annotations.get(annotation::SCALE_DOWN_DEADLINE);
    SetView {
        desired: view.desired,
        replicas: view.replicas,
        ready: view.ready,
        available: view.lasting(),
        keep_until: until.and_then(|at| at.parse().ok()),
    }
}

fn run_view(run: &AnalysisRun) -> RunView {
    let status = run.status.clone().unwrap_or_default();
    RunView {
        phase: status.phase,
        message: status.message,
        terminating: run.spec.terminate == Some(true),
    }
}

/// The AnalysisRun of an analysis, with the labels and annotations that the experiment gives to its runs.
fn run(experiment: &Experiment, name: &str, spec: &AnalysisRunSpec) -> AnalysisRun {
    let mut run = AnalysisRun::new(name, spec.clone());
    let given = experiment
        .spec
        .analysis_run_metadata
        .clone()
        .unwrap_or_default();
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    run.metadata.labels = some(given.labels);
    run.metadata.annotations = some(given.annotations);
    run
}

/// The Experiment that an object belongs to.
fn owner<K: Resource>(object: &K) -> Vec<ObjectRef<Experiment>> {
    let meta = object.meta();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let owner = workload::controller_of(meta).filter(|owner| owner.kind == "Experiment");
    owner
        .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
        .into_iter()
        .collect()
}

fn told(action: &Action) -> String {
    match action {
        Action::CreateSet(set) => format!("make ReplicaSet {}", set.name_any()),
        Action::Scale { set, to } => format!("scale {set} to {to}"),
        Action::KeepUntil { set, until } => format!("keep {set} until {until:.0}"),
        Action::CreateService(service) => format!("make Service {}", service.name_any()),
        Action::DeleteService { name } => format!("delete Service {name}"),
        Action::StartRun { name, .. } => format!("start analysis {name}"),
        Action::StopRun { name } => format!("stop analysis {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_of_an_experiment_have_the_labels_that_it_gives_them() {
        let metadata = json!({"labels": {"team": "a"}, "annotations": {"why": "b"}});
        let spec = json!({"analysisRunMetadata": metadata});
        let experiment = Experiment::new("x", serde_json::from_value(spec).unwrap());
        let run = run(&experiment, "x-t", &AnalysisRunSpec::default());
        assert_eq!(run.labels().get("team").map(String::as_str), Some("a"));
        assert_eq!(run.annotations().get("why").map(String::as_str), Some("b"));
    }
}
