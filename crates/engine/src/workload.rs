//! The facts about pods and ReplicaSets on which every workload decides, read once from their objects.
//!
//! Absent on purpose: any decision. A view is total: a field that an object does not carry has the value that its doc names.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serin_api::conditions;
use serin_api::keys::{annotation, label};
use serin_api::units::RevisionHash;

pub use selector::Selector;

mod selector;

/// On a pod, an integer: of two pods that are equally good, the cheaper one goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The life of a pod, in the order in which pods are given up: the first go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all containers have started yet.
    #[default]
    Pending,
    /// Its node does not answer.
    Unknown,
    /// Its containers have started.
    Running,
    /// All containers ended well and none will be started again.
    Succeeded,
    /// All containers ended, one of them badly, and none will be started again.
    Failed,
}

/// What of a pod counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The uid of its controller; `None` for an orphan.
    pub owner_uid: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The version it runs; empty when it carries none.
    pub revision: RevisionHash,
    /// `spec.nodeName`; `None` while it has no node.
    pub node: Option<String>,
    /// `metadata.creationTimestamp`; the epoch when it carries none.
    pub created: Timestamp,
    /// Whether its condition `Ready` is `True`.
    pub ready: bool,
    /// Since when it is ready; `None` when it is not, or does not say.
    pub ready_since: Option<Timestamp>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// How often its containers were started again: the highest count of them.
    pub restarts: u32,
    /// What its loss costs; 0 unless an annotation says so.
    pub deletion_cost: i32,
}

impl PodView {
    /// Reads a pod.
    pub fn from_pod(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref());
        let ready = conditions
            .and_then(|c| conditions::get(c, "Ready"))
            .filter(|c| c.status == "True");
        let containers = status.and_then(|s| s.container_statuses.as_deref());
        let restarts = containers.into_iter().flatten().map(|c| c.restart_count);
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owner_uid: controller_of(meta).map(|o| o.uid.clone()),
            labels: meta.labels.clone().unwrap_or_default(),
            revision: revision_of(meta),
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            created: created_at(meta),
            ready: ready.is_some(),
            ready_since: ready
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|t| t.0),
            terminating: meta.deletion_timestamp.is_some(),
            phase: phase_of(status.and_then(|s| s.phase.as_deref())),
            restarts: restarts.map(count).max().unwrap_or(0),
            deletion_cost: annotation_of(meta, DELETION_COST)
                .and_then(|cost| cost.parse().ok())
                .unwrap_or(0),
        }
    }

    /// Whether its containers have ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it counts as a replica: neither finished nor on its way out.
    pub fn is_live(&self) -> bool {
        !self.terminating && !self.is_finished()
    }
}

/// Whether users can be sent to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has been ready for long enough.
    Available,
    /// It is ready, and available from then on if it stays so.
    At(Timestamp),
    /// It is not ready, or on its way out.
    No,
}

/// Whether a pod has been ready for `min_ready`.
pub fn available(pod: &PodView, min_ready: SignedDuration, now: Timestamp) -> Availability {
    if !pod.is_live() || !pod.ready {
        return Availability::No;
    }
    if min_ready.is_zero() {
        return Availability::Available;
    }
    let Some(since) = pod.ready_since else {
        return Availability::No;
    };
    let at = since.checked_add(min_ready).unwrap_or(Timestamp::MAX);
    if at <= now {
        Availability::Available
    } else {
        Availability::At(at)
    }
}

/// What of a ReplicaSet counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSetView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The uid of its controller; `None` for an orphan.
    pub owner_uid: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// The hash in its labels; empty when it carries none.
    pub hash: RevisionHash,
    /// The number of its revision; 0 when it carries none.
    pub revision: u64,
    /// `spec.replicas`.
    pub desired: u32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// Pods that are there and not on their way out, as of its status.
    pub replicas: u32,
    /// Of these, the ready ones.
    pub ready: u32,
    /// Of these, the available ones. Its status may be older than its spec: see [`Self::settled`].
    pub available: u32,
    /// Whether its status knows its present spec, so that the counts include every pod that was given up for it.
    pub settled: bool,
    /// `metadata.creationTimestamp`; the epoch when it carries none.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its condition `ReplicaFailure`: why pods could not be made or deleted.
    pub failure: Option<ReplicaSetCondition>,
    /// `spec.template`.
    pub template: PodTemplateSpec,
}

impl ReplicaSetView {
    /// Reads a ReplicaSet.
    pub fn from_replica_set(rs: &ReplicaSet) -> Self {
        let meta = &rs.metadata;
        let spec = rs.spec.as_ref();
        let status = rs.status.clone().unwrap_or_default();
        let annotations = meta.annotations.clone().unwrap_or_default();
        let revision = [
            annotation::DEPLOYMENT_REVISION,
            annotation::ROLLOUT_REVISION,
        ]
        .iter()
        .find_map(|key| annotations.get(*key)?.parse().ok());
        let failure = status.conditions.as_deref().unwrap_or_default();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owner_uid: controller_of(meta).map(|o| o.uid.clone()),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations,
            hash: revision_of(meta),
            revision: revision.unwrap_or(0),
            desired: count(spec.and_then(|s| s.replicas).unwrap_or(1)),
            min_ready_seconds: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
            replicas: count(status.replicas),
            ready: count(status.ready_replicas.unwrap_or(0)),
            available: count(status.available_replicas.unwrap_or(0)),
            settled: status.observed_generation.unwrap_or(0) >= meta.generation.unwrap_or(0)
                && rs.status.is_some(),
            created: created_at(meta),
            deleting: meta.deletion_timestamp.is_some(),
            failure: conditions::get(failure, "ReplicaFailure")
                .filter(|c| c.status == "True")
                .cloned(),
            template: spec.and_then(|s| s.template.clone()).unwrap_or_default(),
        }
    }

    /// Available pods that are there now and will still be there once every surplus pod is given up: the unavailable ones
    /// go first. None of a ReplicaSet that is being deleted.
    pub fn lasting(&self) -> u32 {
        if self.deleting {
            return 0;
        }
        self.available.min(self.desired)
    }

    /// Pods that are there or may be made at any moment.
    pub fn reserved(&self) -> u32 {
        self.desired.max(self.replicas)
    }
}

/// How an object stands to one that may be its controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is controlled by it, and selected.
    Owned,
    /// It is controlled by nobody, and selected: it can be taken over.
    Orphan,
    /// It is controlled by it, and no longer selected: it is to be let go.
    Stray,
    /// It is somebody else's business.
    Foreign,
}

/// How an object with these labels and this controller stands to the controller `uid`.
pub fn claim(
    selector: &Selector,
    uid: &str,
    labels: &BTreeMap<String, String>,
    owner_uid: Option<&str>,
) -> Claim {
    match (owner_uid, selector.matches(labels)) {
        (Some(owner), true) if owner == uid => Claim::Owned,
        (Some(owner), false) if owner == uid => Claim::Stray,
        (None, true) => Claim::Orphan,
        _ => Claim::Foreign,
    }
}

/// The one owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true))
}

/// The version that an object's labels name; empty when they name none.
pub fn revision_of(meta: &ObjectMeta) -> RevisionHash {
    let labels = meta.labels.as_ref();
    let hash = labels.and_then(|l| {
        l.get(label::ROLLOUT_POD_TEMPLATE_HASH)
            .or_else(|| l.get(label::POD_TEMPLATE_HASH))
    });
    RevisionHash::new(hash.map_or("", String::as_str))
}

/// A count of an object; what is negative counts as 0.
pub fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// A count as objects carry it.
pub fn as_i32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn created_at(meta: &ObjectMeta) -> Timestamp {
    let created = meta.creation_timestamp.as_ref();
    created.map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

fn annotation_of<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn phase_of(phase: Option<&str>) -> Phase {
    match phase {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready_pod() -> PodView {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "web-1", "uid": "u1", "creationTimestamp": "1970-01-01T00:00:05Z",
                "labels": {"pod-template-hash": "abc"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "other"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true},
                ],
            },
            "spec": {"nodeName": "local", "containers": []},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:10Z"}],
                "containerStatuses": [
                    {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 1},
                    {"name": "b", "image": "", "imageID": "", "ready": true, "restartCount": 3},
                ],
            },
        }))
        .unwrap();
        PodView::from_pod(&pod)
    }

    #[test]
    fn a_pod_is_read_once() {
        let pod = ready_pod();
        assert_eq!(pod.owner_uid.as_deref(), Some("rs"));
        assert_eq!(pod.revision.as_str(), "abc");
        assert_eq!((pod.restarts, pod.phase), (3, Phase::Running));
        assert_eq!((pod.created, pod.ready_since), (at(5), Some(at(10))));
    }

    #[test]
    fn a_pod_is_available_after_its_time() {
        let pod = ready_pod();
        let min_ready = SignedDuration::from_secs(5);
        let check = |pod: &PodView, now| available(pod, min_ready, at(now));
        assert_eq!(check(&pod, 12), Availability::At(at(15)));
        assert_eq!(check(&pod, 15), Availability::Available);
        let terminating = PodView {
            terminating: true,
            ..pod.clone()
        };
        assert_eq!(check(&terminating, 60), Availability::No);
        let silent = PodView {
            ready_since: None,
            ..pod
        };
        assert_eq!(check(&silent, 60), Availability::No);
        assert_eq!(
            available(&silent, SignedDuration::ZERO, at(0)),
            Availability::Available
        );
    }

    #[test]
    fn an_empty_replica_set_has_a_view() {
        let view = ReplicaSetView::from_replica_set(&ReplicaSet::default());
        assert_eq!((view.desired, view.revision, view.settled), (1, 0, false));
    }
}
