//! A ReplicaSet: so many pods of one template.
//!
//! Every pod fills a slot, and its name follows from the ReplicaSet's uid and the slot. So a plan that was made on an old view
//! and carried out twice makes nothing twice: the name is already there. Surplus pods go in Kubernetes' order, and always the
//! same ones for the same view.
//!
//! Absent on purpose: starting and stopping containers again, which is the business of a node.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serin_api::{FieldPath, Problem, conditions};

use crate::hash;
use crate::workload::{Availability, Claim, PodView, Selector, available, claim, count};

/// The most pods that one plan makes or deletes.
const MAX_CHANGES: usize = 500;
/// A name of 57 bytes, a hyphen and five letters are a host name of 63 bytes.
const MAX_PREFIX: usize = 57;
/// A pod that finished is replaced when it is at least so old, so that a pod that fails at once is not made in a busy loop.
const FINISHED_HOLD: SignedDuration = SignedDuration::from_secs(10);
const FAILURE: &str = "ReplicaFailure";

/// What a ReplicaSet wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether it is being deleted: its pods are then the business of the garbage collector.
    pub deleting: bool,
    /// Pods.
    pub replicas: u32,
    /// For how long a pod must be ready to be available.
    pub min_ready: SignedDuration,
    /// Its pods.
    pub selector: Selector,
    /// What they are made from.
    pub template: PodTemplateSpec,
}

/// Checks a ReplicaSet and fills in its defaults.
///
/// # Errors
/// Every problem of its spec.
pub fn lower(rs: &ReplicaSet) -> Result<Desired, Vec<Problem>> {
    let root = FieldPath::new("spec");
    let spec = rs.spec.clone().unwrap_or_default();
    let selector = Selector::parse(&spec.selector, &root.field("selector"))?;
    let template = spec.template.unwrap_or_default();
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
    if selector.is_empty() {
        let hint = "name the labels of the template's pods in matchLabels";
        return Err(vec![Problem::required(root.field("selector"), hint)]);
    }
    if !selector.matches(&labels.unwrap_or_default()) {
        let path = root.field("template").field("metadata").field("labels");
        let why = "`selector` does not match template `labels`";
        return Err(vec![Problem::invalid(path, "labels", why)]);
    }
    let min_ready = spec.min_ready_seconds.map_or(0, count);
    Ok(Desired {
        name: rs.metadata.name.clone().unwrap_or_default(),
        uid: rs.metadata.uid.clone().unwrap_or_default(),
        generation: rs.metadata.generation.unwrap_or(0),
        deleting: rs.metadata.deletion_timestamp.is_some(),
        replicas: spec.replicas.map_or(1, count),
        min_ready: SignedDuration::from_secs(i64::from(min_ready)),
        selector,
        template,
    })
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// At least the pods that it controls and the orphans that it selects; others are passed over.
    pub pods: Vec<PodView>,
    /// The names of all pods of the namespace, or at least those that begin with its own name.
    pub taken: BTreeSet<String>,
    /// Its status.
    pub status: ReplicaSetStatus,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// One batch after the other; a batch is carried out when every action of the one before it went well. Its actions may
    /// be carried out at the same time.
    pub batches: Vec<Vec<Action>>,
    /// The status once all is carried out. After a failure to create, [`failed`] gives it; after a failure to delete it
    /// must not be written, for it no longer counts the pods that should be gone.
    pub status: ReplicaSetStatus,
    /// When to look again, if nothing changes before.
    pub wake_at: Option<Timestamp>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a pod. A pod of this name that is already there is the one that was wanted.
    Create(Box<Pod>),
    /// Delete a pod, if it is still this one.
    Delete {
        /// Its name.
        name: String,
        /// Which one of that name.
        uid: String,
    },
    /// Become the controller of a pod that has none, if it has not changed.
    Adopt {
        /// Its name.
        name: String,
        /// Which one of that name.
        uid: String,
        /// As it was seen.
        resource_version: String,
    },
    /// No longer be the controller of a pod, if it has not changed.
    Release {
        /// Its name.
        name: String,
        /// Which one of that name.
        uid: String,
        /// As it was seen.
        resource_version: String,
    },
}

/// Decides what a ReplicaSet does next.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::default();
    let pods = draft.claim(desired, observed);
    if !desired.deleting {
        draft.discard_finished(desired, &pods);
        let live = draft.shrink(desired, &pods);
        draft.grow(desired, observed, live, &pods, now);
    }
    let status = draft.status(desired, observed, &pods, now);
    Plan {
        batches: draft.batches,
        status,
        wake_at: draft.wake_at,
    }
}

/// The status after an action failed for a `reason` such as `FailedCreate`; the counts are the planned ones.
pub fn failed(
    plan: &Plan,
    before: &ReplicaSetStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> ReplicaSetStatus {
    let mut status = plan.status.clone();
    // The condition was left out of the plan; what was there before keeps its time.
    let mut all = before.conditions.clone().unwrap_or_default();
    let condition = ReplicaSetCondition {
        type_: FAILURE.into(),
        status: conditions::word(true),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(conditions::time(now)),
    };
    conditions::set(&mut all, condition);
    status.conditions = Some(all);
    status
}

/// The status of a ReplicaSet whose spec makes no sense: nothing is done, and it says why.
pub fn refused(rs: &ReplicaSet, problems: &[Problem], now: Timestamp) -> ReplicaSetStatus {
    let before = rs.status.clone().unwrap_or_default();
    let plan = Plan {
        batches: Vec::new(),
        status: ReplicaSetStatus {
            observed_generation: rs.metadata.generation,
            ..before.clone()
        },
        wake_at: None,
    };
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    failed(&plan, &before, "InvalidSpec", &text.join("; "), now)
}

#[derive(Default)]
struct Draft {
    batches: Vec<Vec<Action>>,
    /// The uids of pods that this plan gives up.
    given_up: BTreeSet<String>,
    wake_at: Option<Timestamp>,
}

impl Draft {
    /// The pods that count as its own, orphans included, which are taken over first.
    fn claim<'a>(&mut self, desired: &Desired, observed: &'a Observed) -> Vec<&'a PodView> {
        let mut own = Vec::new();
        let mut changes = Vec::new();
        for pod in &observed.pods {
            let owner = pod.owner_uid.as_deref();
            match claim(&desired.selector, &desired.uid, &pod.labels, owner) {
                Claim::Owned => own.push(pod),
                Claim::Orphan if pod.is_live() && !desired.deleting => {
                    changes.push(Action::Adopt {
                        name: pod.name.clone(),
                        uid: pod.uid.clone(),
                        resource_version: pod.resource_version.clone(),
                    });
                    own.push(pod);
                }
                Claim::Stray if !desired.deleting => changes.push(Action::Release {
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                    resource_version: pod.resource_version.clone(),
                }),
                Claim::Orphan | Claim::Stray | Claim::Foreign => {}
            }
        }
        self.push(changes);
        own
    }

    /// Keeps the newest finished pods, as many as there are replicas, for whoever asks why; deletes the others.
    fn discard_finished(&mut self, desired: &Desired, pods: &[&PodView]) {
        let mut finished: Vec<_> = pods
            .iter()
            .filter(|p| p.is_finished() && !p.terminating)
            .collect();
        finished.sort_by_key(|p| (std::cmp::Reverse(p.created), &p.name));
        let surplus = finished.into_iter().skip(desired.replicas as usize);
        self.delete(surplus.copied().take(MAX_CHANGES));
    }

    /// Gives up surplus pods. The number of live pods that stay.
    fn shrink(&mut self, desired: &Desired, pods: &[&PodView]) -> u32 {
        let mut live: Vec<_> = pods.iter().copied().filter(|p| p.is_live()).collect();
        let surplus = live.len().saturating_sub(desired.replicas as usize);
        live.sort_by_key(|pod| worth(pod));
        self.delete(live.iter().copied().take(surplus.min(MAX_CHANGES)));
        u32::try_from(live.len() - surplus.min(MAX_CHANGES)).unwrap_or(u32::MAX)
    }

    /// Makes missing pods in batches of 1, 2, 4 …, so that a template that cannot be made is tried once and not 500 times.
    fn grow(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        live: u32,
        pods: &[&PodView],
        now: Timestamp,
    ) {
        let mut held = 0;
        for pod in pods.iter().filter(|p| p.is_finished() && !p.terminating) {
            let until = pod.created.checked_add(FINISHED_HOLD);
            if let Some(until) = until.ok().filter(|until| *until > now) {
                held += 1;
                self.wake(until);
            }
        }
        let missing = desired.replicas.saturating_sub(live).saturating_sub(held) as usize;
        let mut names = free_names(desired, observed).take(missing.min(MAX_CHANGES));
        let mut size = 1;
        loop {
            let batch: Vec<_> = names
                .by_ref()
                .take(size)
                .map(|name| Action::Create(Box::new(pod(desired, name))))
                .collect();
            if batch.is_empty() {
                return;
            }
            self.batches.push(batch);
            size *= 2;
        }
    }

    fn status(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        pods: &[&PodView],
        now: Timestamp,
    ) -> ReplicaSetStatus {
        let wanted = Selector::from_labels(template_labels(&desired.template));
        let (mut replicas, mut labeled, mut ready, mut ok) = (0, 0, 0, 0);
        for pod in pods {
            if !pod.is_live() || self.given_up.contains(&pod.uid) {
                continue;
            }
            replicas += 1;
            labeled += i32::from(wanted.matches(&pod.labels));
            ready += i32::from(pod.ready);
            match available(pod, desired.min_ready, now) {
                Availability::Available => ok += 1,
                Availability::At(at) => self.wake(at),
                Availability::No => {}
            }
        }
        let mut conditions = observed.status.conditions.clone().unwrap_or_default();
        conditions.retain(|c| c.type_ != FAILURE);
        ReplicaSetStatus {
            replicas,
            fully_labeled_replicas: Some(labeled),
            ready_replicas: Some(ready),
            available_replicas: Some(ok),
            observed_generation: Some(desired.generation),
            conditions: Some(conditions).filter(|c| !c.is_empty()),
            terminating_replicas: None,
        }
    }

    fn delete<'a>(&mut self, pods: impl Iterator<Item = &'a PodView>) {
        let mut batch = Vec::new();
        for pod in pods {
            self.given_up.insert(pod.uid.clone());
            batch.push(Action::Delete {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            });
        }
        self.push(batch);
    }

    fn push(&mut self, batch: Vec<Action>) {
        if !batch.is_empty() {
            self.batches.push(batch);
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What a pod is worth; the least goes first. No node, not started, not ready, cheap, ready for less time, started again more
/// often, younger; at last the name, so that there is always one answer.
fn worth(pod: &PodView) -> impl Ord + use<> {
    let seconds = |t: Timestamp| t.as_second();
    (
        pod.node.is_some(),
        pod.phase,
        pod.ready,
        pod.deletion_cost,
        std::cmp::Reverse(pod.ready_since.map_or(i64::MAX, seconds)),
        std::cmp::Reverse(pod.restarts),
        std::cmp::Reverse(seconds(pod.created)),
        pod.name.clone(),
    )
}

/// The names of the lowest free slots.
fn free_names(desired: &Desired, observed: &Observed) -> impl Iterator<Item = String> {
    let mut used: BTreeSet<String> = observed.taken.clone();
    used.extend(observed.pods.iter().map(|p| p.name.clone()));
    let prefix: String = desired.name.chars().take(MAX_PREFIX).collect();
    // Two slots in a few million share a name; the later one is passed over.
    (0_u64..).filter_map(move |slot| {
        let name = format!(
            "{prefix}-{}",
            hash::short(&[&desired.uid, &slot.to_string()])
        );
        used.insert(name.clone()).then_some(name)
    })
}

fn template_labels(template: &PodTemplateSpec) -> impl Iterator<Item = (&String, &String)> {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    labels.into_iter().flatten()
}

fn pod(desired: &Desired, name: String) -> Pod {
    let meta = desired.template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: desired.template.spec.clone(),
        status: None,
    }
}

/// The reference that makes this ReplicaSet the controller of a pod.
pub fn owner(desired: &Desired) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: desired.name.clone(),
        uid: desired.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests;
