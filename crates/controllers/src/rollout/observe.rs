//! From the caches to the one value that the engine decides on.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service};
use kube::{Api, Resource, ResourceExt};
use serin_api::FieldPath;
use serin_api::analysis::{AnalysisRun, ClusterAnalysisTemplate};
use serin_api::conditions;
use serin_api::experiment::Experiment;
use serin_api::keys::{annotation, condition, label};
use serin_api::release::Policy;
use serin_api::rollout::{Desired, PodMetadata, Rollout, Step, Strategy};
use serin_api::units::RevisionHash;
use serin_engine::analysis::TemplateSource;
use serin_engine::rollout::configuration::Configuration;
use serin_engine::rollout::group::{Group, Member, membership};
use serin_engine::rollout::{
    ExperimentView, Governed, History, Observed, PodAge, Revision, Role, RunView, ServiceView,
    TakenBack, WorkloadView, desired, govern,
};
use serin_engine::workload::{self, PodView, ReplicaSetView, Selector};

use super::{Rollouts, affinity, metadata};
use crate::shell::Error;

impl Rollouts {
    pub(super) async fn observe(
        &self,
        rollout: &Rollout,
        workload: Option<WorkloadView>,
        governed: Governed,
    ) -> Result<Observed, Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let uid = rollout.uid().unwrap_or_default();
        let status = rollout.status.clone().unwrap_or_default();
        let desired = desired(&rollout.spec, &status).ok();
        let sets = self.replica_sets.controlled_by(&uid);
        let runs = self.runs.controlled_by(&uid);
        Ok(Observed {
            name: rollout.name_any(),
            generation: rollout.metadata.generation.unwrap_or(0),
            object: object_fields(rollout),
            status,
            revisions: sets
                .iter()
                .map(|set| revision(set, self.metadata_of(set)))
                .collect(),
            services: desired
                .as_ref()
                .map(|d| self.services_of(d, rollout))
                .unwrap_or_default(),
            subsets: desired.as_ref().and_then(|d| self.subsets_of(d, rollout)),
            routes: desired
                .as_ref()
                .map(|d| self.routes_of(d, rollout))
                .unwrap_or_default(),
            runs: runs.iter().filter_map(|run| run_view(run)).collect(),
            experiments: self
                .experiments
                .controlled_by(&uid)
                .iter()
                .map(|experiment| experiment_view(experiment))
                .collect(),
            templates: self
                .templates_of(desired.as_ref(), &governed.policy, &namespace)
                .await?,
            governed,
            configuration: Configuration::default(),
            group: self.group_of(rollout),
            workload,
            overlaps: desired.as_ref().and_then(|d| self.overlaps(d, rollout)),
            pods: self.pods_of(&sets, desired.as_ref()),
        })
    }

    pub(super) fn governed(&self, rollout: &Rollout) -> Governed {
        let namespace = rollout.namespace().unwrap_or_default();
        let policies = self.policies.list(&namespace);
        let named: Vec<_> = policies.iter().map(|p| (p.name_any(), &p.spec)).collect();
        let named = named.iter().map(|(name, spec)| (name.as_str(), *spec));
        govern(&rollout.metadata, named)
    }

    fn group_of(&self, rollout: &Rollout) -> Option<Group> {
        let (name, release) = membership(&rollout.metadata)?;
        Some(Group {
            others: self
                .others_in(rollout, &name)
                .map(|other| Member::of(&other))
                .collect(),
            name,
            release,
        })
    }

    /// The other living Rollouts of a group.
    pub(super) fn others_in(
        &self,
        rollout: &Rollout,
        group: &str,
    ) -> impl Iterator<Item = Arc<Rollout>> + use<> {
        let (own, group) = (rollout.name_any(), group.to_owned());
        let namespace = rollout.namespace().unwrap_or_default();
        let others = self.rollouts.select(&namespace, |other| {
            let theirs = membership(&other.metadata).map(|(name, _)| name);
            let living = other.metadata.deletion_timestamp.is_none();
            living && other.name_any() != own && theirs.as_ref() == Some(&group)
        });
        others.into_iter()
    }

    fn services_of(&self, desired: &Desired, rollout: &Rollout) -> BTreeMap<String, ServiceView> {
        let namespace = rollout.namespace().unwrap_or_default();
        let named = match &desired.strategy {
            Strategy::Canary(c) => vec![c.stable_service.as_ref(), c.canary_service.as_ref()],
            Strategy::BlueGreen(b) => vec![Some(&b.active_service), b.preview_service.as_ref()],
        };
        let found = named.into_iter().flatten().filter_map(|name| {
            let service = self.services.get(&namespace, name)?;
            let mut view = self.service_view(&service);
            view.taken_by = self.other_owner(&*service, rollout);
            Some((name.clone(), view))
        });
        found.collect()
    }

    /// Another Rollout that sets a Service or a DestinationRule and still names it.
    pub(super) fn other_owner<K: Resource>(&self, object: &K, rollout: &Rollout) -> Option<String> {
        let namespace = rollout.namespace().unwrap_or_default();
        let owner = object.annotations().get(annotation::MANAGED_BY_ROLLOUTS)?;
        let other = self
            .rollouts
            .get(&namespace, owner)
            .filter(|_| *owner != rollout.name_any())?;
        let strategy = serde_json::to_string(&other.spec.strategy).ok()?;
        strategy
            .contains(&format!("{:?}", object.name_any()))
            .then(|| owner.clone())
    }

    fn service_view(&self, service: &Service) -> ServiceView {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        let revision = selector.and_then(|s| s.get(label::ROLLOUT_POD_TEMPLATE_HASH));
        let told = service
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        let served = conditions::get(told, condition::SERVED).filter(|c| c.status == "True");
        let served = served.and_then(|c| c.observed_generation);
        ServiceView {
            revision: revision.map(RevisionHash::new),
            acknowledged: !self.acknowledged || served >= service.metadata.generation,
            taken_by: None,
        }
    }

    /// An older Rollout whose selector takes the pods of this one.
    fn overlaps(&self, desired: &Desired, rollout: &Rollout) -> Option<String> {
        let metadata = desired.template.metadata.as_ref();
        let labels = metadata.and_then(|m| m.labels.clone()).unwrap_or_default();
        let age = |rollout: &Rollout| {
            let created = rollout.creation_timestamp().map(|t| t.0);
            (created, rollout.uid().unwrap_or_default())
        };
        let ours = age(rollout);
        let path = FieldPath::new("spec.selector");
        let namespace = rollout.namespace().unwrap_or_default();
        let taking = self.rollouts.select(&namespace, |other| {
            // Each look asks about every Rollout, and nearly all differ in a label: that needs no parser.
            let equal = other.spec.selector.match_labels.iter().flatten();
            let mut differs = equal.filter(|(key, value)| labels.get(*key) != Some(value));
            if differs.next().is_some() {
                return false;
            }
            let selector = Selector::parse(&other.spec.selector, &path);
            let takes = selector.is_ok_and(|s| !s.is_empty() && s.matches(&labels));
            takes && age(other) < ours && other.metadata.deletion_timestamp.is_none()
        });
        taking.first().map(|other| other.name_any())
    }

    async fn templates_of(
        &self,
        desired: Option<&Desired>,
        policy: &Policy,
        namespace: &str,
    ) -> Result<TemplateSource, Error> {
        let local = self.templates.list(namespace);
        let mut source: TemplateSource = local
            .iter()
            .map(|t| ((false, t.name_any()), t.spec.clone()))
            .collect();
        let named = desired
            .map(|d| cluster_templates(d, policy))
            .unwrap_or_default();
        let api: Api<ClusterAnalysisTemplate> = Api::all(self.client.clone());
        for name in named {
            let found = api.get_opt(&name).await;
            let found =
                found.map_err(|e| Error::api(format!("read ClusterAnalysisTemplate {name}"), e))?;
            if let Some(template) = found {
                let spec = serde_json::to_value(&template.spec).and_then(serde_json::from_value);
                source.extend(spec.ok().map(|spec| ((true, name), spec)));
            }
        }
        Ok(source)
    }

    fn pods_of(&self, sets: &[Arc<ReplicaSet>], desired: Option<&Desired>) -> Vec<PodAge> {
        // Only a restart looks at single pods.
        if desired.and_then(|d| d.restart_at).is_none() {
            return Vec::new();
        }
        let ours = sets.iter().filter_map(|set| set.uid());
        let pods = ours.flat_map(|uid| self.pods.controlled_by(&uid));
        pods.map(|pod| pod_age(&pod)).collect()
    }
}

/// The part of a Rollout that arguments of analyses may name.
fn object_fields(rollout: &Rollout) -> serde_json::Value {
    let mut fields = serde_json::to_value(rollout).unwrap_or_default();
    if let Some(object) = fields.as_object_mut() {
        object.remove("status");
    }
    fields
}

fn cluster_templates(desired: &Desired, policy: &Policy) -> Vec<String> {
    let analyses: Vec<_> = match &desired.strategy {
        Strategy::Canary(c) => {
            let parts = c.steps.iter().flat_map(Step::parts);
            let steps = parts.filter_map(|part| match part {
                Step::Analysis(analysis) => Some(analysis),
                _ => None,
            });
            steps
                .chain(c.background.as_ref().map(|b| &b.analysis))
                .collect()
        }
        Strategy::BlueGreen(b) => b.pre_promotion.iter().chain(&b.post_promotion).collect(),
    };
    let baking = policy.bake.iter().flat_map(|bake| &bake.analysis);
    let batches = policy.batches.iter().flat_map(|b| &b.analysis);
    let named = analyses
        .into_iter()
        .chain(baking)
        .chain(batches)
        .flat_map(|analysis| &analysis.templates);
    let of_cluster = named.filter(|template| template.cluster_scope == Some(true));
    of_cluster
        .map(|template| template.template_name.clone())
        .collect()
}

fn revision(set: &ReplicaSet, metadata: Option<PodMetadata>) -> Revision {
    let view = ReplicaSetView::from_replica_set(set);
    let template = template_of(set);
    let annotations = set.annotations();
    let number = annotations
        .get(annotation::ROLLOUT_REVISION)
        .and_then(|n| n.parse().ok());
    let keep_until = annotations
        .get(annotation::SCALE_DOWN_DEADLINE)
        .and_then(|at| at.parse().ok());
    Revision {
        hash: RevisionHash::new(
            set.labels()
                .get(label::ROLLOUT_POD_TEMPLATE_HASH)
                .cloned()
                .unwrap_or_default(),
        ),
        number: number.unwrap_or(0),
        desired: view.desired,
        replicas: view.replicas,
        ready: view.ready,
        // Those that a deletion which is under way does not take.
        available: view.lasting(),
        template: Arc::new(template),
        source: annotations.get(annotation::TEMPLATE_DIGEST).cloned(),
        created: view.created,
        min_ready_seconds: workload::count(view.min_ready_seconds),
        metadata,
        keep_until,
        history: history(annotations),
    }
}

/// The template of a ReplicaSet as it was asked for.
pub(super) fn template_of(set: &ReplicaSet) -> PodTemplateSpec {
    let spec = set.spec.as_ref();
    let mut template = spec.and_then(|s| s.template.clone()).unwrap_or_default();
    affinity::strip(&mut template);
    metadata::strip(&mut template, set);
    template
}

fn history(annotations: &BTreeMap<String, String>) -> History {
    let time = |key: &str| annotations.get(key).and_then(|at| at.parse().ok());
    let text = |key: &str| annotations.get(key).cloned().unwrap_or_default();
    History {
        promoted_at: time(annotation::PROMOTED_AT),
        taken_back: time(annotation::TAKEN_BACK_AT).map(|at| TakenBack {
            at,
            by: text(annotation::TAKEN_BACK_BY),
            why: text(annotation::TAKEN_BACK_WHY),
        }),
    }
}

fn run_view(run: &AnalysisRun) -> Option<RunView> {
    let labels = run.labels();
    let role = match labels.get(ROLE)?.as_str() {
        "Step" => Role::Step(labels.get(STEP_INDEX)?.parse().ok()?),
        "Background" => Role::Background,
        "PrePromotion" => Role::PrePromotion,
        "PostPromotion" => Role::PostPromotion,
        "Bake" => Role::Bake,
        _ => return None,
    };
    let status = run.status.clone().unwrap_or_default();
    Some(RunView {
        name: run.name_any(),
        role,
        revision: RevisionHash::new(labels.get(label::ROLLOUT_POD_TEMPLATE_HASH)?.clone()),
        phase: status.phase,
        message: status.message,
        created: run
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        terminating: run.spec.terminate == Some(true),
    })
}

fn experiment_view(experiment: &Experiment) -> ExperimentView {
    let status = experiment.status.clone().unwrap_or_default();
    let hash = experiment.labels().get(label::ROLLOUT_POD_TEMPLATE_HASH);
    ExperimentView {
        name: experiment.name_any(),
        revision: RevisionHash::new(hash.cloned().unwrap_or_default()),
        phase: status.phase.unwrap_or_default(),
        message: status.message,
        created: experiment
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        terminating: experiment.spec.terminate == Some(true),
        services: status
            .template_statuses
            .into_iter()
            .filter_map(|version| Some((version.name, version.service_name?)))
            .collect(),
        in_routes: experiment.annotations().contains_key(annotation::IN_ROUTES),
    }
}

fn pod_age(pod: &Pod) -> PodAge {
    PodAge {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        created: pod
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        ready: PodView::from_pod(pod).ready,
    }
}

/// What an AnalysisRun of a Rollout is for, as Argo Rollouts labels it.
pub(super) const ROLE: &str = "rollout-type";
/// The step of an AnalysisRun of a step, from 0.
pub(super) const STEP_INDEX: &str = "step-index";
