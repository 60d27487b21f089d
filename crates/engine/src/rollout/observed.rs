//! What is seen of a Rollout and of everything it names, at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{ManagedRule, PodMetadata, Pointer, RolloutStatus, Route};
use serin_api::units::{RevisionHash, Weight};

use super::configuration::Configuration;
use super::group::Group;
use super::{Governed, History};
use crate::analysis::TemplateSource;
use crate::hash::short;

/// What is seen. It may be behind the truth; a decision on an old view is corrected by the next.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The name of the Rollout.
    pub name: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The Rollout as JSON, for arguments of analyses that name a field.
    pub object: Value,
    /// Its status as it was last written, with what clients have set in it.
    pub status: RolloutStatus,
    /// Its ReplicaSets.
    pub revisions: Vec<Revision>,
    /// The Services that the spec names and that exist.
    pub services: BTreeMap<String, ServiceView>,
    /// The subsets of the DestinationRule that the spec names; `None` when there is no such object, or none is named.
    pub subsets: Option<BTreeMap<String, ServiceView>>,
    /// The routes that the spec names and that exist.
    pub routes: BTreeMap<Route, RouteView>,
    /// Its AnalysisRuns.
    pub runs: Vec<RunView>,
    /// Its Experiments.
    pub experiments: Vec<ExperimentView>,
    /// The AnalysisTemplates that exist.
    pub templates: TemplateSource,
    /// What governs its releases beyond its spec.
    pub governed: Governed,
    /// The ConfigMaps and Secrets that are part of its revisions.
    pub configuration: Configuration,
    /// The group whose releases go step by step together; `None` when it belongs to none.
    pub group: Option<Group>,
    /// The workload that `workloadRef` names; `None` when there is none, or it is not there.
    pub workload: Option<WorkloadView>,
    /// An older Rollout whose selector takes the same pods.
    pub overlaps: Option<String>,
    /// Its pods; only needed when a restart is asked for.
    pub pods: Vec<PodAge>,
}

/// One ReplicaSet of the Rollout.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The hash in its name and labels.
    pub hash: RevisionHash,
    /// Its number, from 1; 0 when it has none yet.
    pub number: u64,
    /// The instances it is to have.
    pub desired: u32,
    /// The instances it has, those that are not ready too.
    pub replicas: u32,
    /// Ready instances.
    pub ready: u32,
    /// Instances that have been ready long enough.
    pub available: u32,
    /// Its pod template as it was written: without what is only set for a time.
    pub template: Arc<PodTemplateSpec>,
    /// The digest of the template that it was made from ([`crate::hash::template_digest`]); `None` when somebody else made it.
    pub source: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Seconds for which an instance must be ready to be available.
    pub min_ready_seconds: u32,
    /// What is set for a time on its template and on all of its pods; `None` when they differ.
    pub metadata: Option<PodMetadata>,
    /// Until when its instances are kept though nothing needs them.
    pub keep_until: Option<Timestamp>,
    /// What became of it so far.
    pub history: History,
}

/// One Experiment of the Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentView {
    /// Its name.
    pub name: String,
    /// The revision on trial when it was made.
    pub revision: RevisionHash,
    /// Where it stands.
    pub phase: AnalysisPhase,
    /// Why.
    pub message: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it has been told to end.
    pub terminating: bool,
    /// The Services of its versions that have one, by the names of the versions.
    pub services: BTreeMap<String, String>,
    /// Whether its versions stay until it is said that no route leads to them.
    pub in_routes: bool,
}

/// A workload whose template is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadView {
    /// The generation of its spec.
    pub generation: i64,
    /// The instances it is to have; `None` when it has none of its own.
    pub replicas: Option<u32>,
}

/// A Service, or a subset of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// The revision in its selector or labels; `None` when it selects whatever has the other labels.
    pub revision: Option<RevisionHash>,
    /// Whether the data plane serves it as it is, or nobody is there to say so.
    pub acknowledged: bool,
    /// Another living Rollout that sets it.
    pub taken_by: Option<String>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// The share of the canary, the largest where rules differ; `None` when no rule names both sides.
    pub canary: Option<Weight>,
    /// Why the route cannot carry the split though it is there, one sentence each, where there is more to say than that no rule
    /// names both sides.
    pub problems: Vec<String>,
    /// Whether every rule that names both sides has exactly this share, and all of them have the same `additional`.
    pub exact: bool,
    /// The shares of versions of an experiment, by their Services.
    pub additional: Vec<(String, Weight)>,
    /// The managed rules before the others, in their order, each with the digest of what it does ([`digest`]).
    pub managed: Vec<(String, String)>,
    /// Whether the data plane serves the route as it is, or nobody is there to say so.
    pub acknowledged: bool,
}

/// Tells apart what managed rules of one name do.
pub fn digest(rule: &ManagedRule) -> String {
    short(&[&serde_json::to_string(rule).unwrap_or_default()])
}

/// What an analysis is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A step of a canary.
    Step(usize),
    /// The background of a canary.
    Background,
    /// Before a blue-green switch.
    PrePromotion,
    /// After it.
    PostPromotion,
    /// While the old revision stands by.
    Bake,
}

/// One AnalysisRun of the Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The revision that it analyses.
    pub revision: RevisionHash,
    /// Where it stands.
    pub phase: AnalysisPhase,
    /// Why.
    pub message: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it has been told to end.
    pub terminating: bool,
}

/// One pod of the Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAge {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether it is ready.
    pub ready: bool,
}

impl Observed {
    /// The ReplicaSet of a revision.
    pub fn revision(&self, hash: &RevisionHash) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.hash == *hash)
    }

    /// What a Service or a subset leads to; `None` when there is none.
    pub fn pointer(&self, pointer: Pointer<'_>) -> Option<&ServiceView> {
        match pointer {
            Pointer::Service(name) => self.services.get(name),
            Pointer::Subset(name) => self.subsets.as_ref()?.get(name),
        }
    }

    /// Available instances of a revision; 0 when there is no such revision.
    pub fn available(&self, hash: &RevisionHash) -> u32 {
        self.revision(hash).map_or(0, |r| r.available)
    }

    /// The revision that the users are on.
    pub fn stable(&self) -> Option<RevisionHash> {
        self.status
            .stable_rs
            .as_deref()
            .filter(|s| !s.is_empty())
            .map(RevisionHash::new)
    }
}
