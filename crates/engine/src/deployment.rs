//! A Deployment: pods of one template, replaced step by step by those of the next.
//!
//! Each version is a ReplicaSet. A plan makes the ReplicaSet of the wanted version, moves pods from the old ones to it inside
//! the bounds of the strategy, numbers the versions, forgets the oldest and says in the status how far it is.
//!
//! The bounds hold at every instant, not only between plans: as long as a ReplicaSet has not answered to its last size, its
//! counts may be older than that, and no size is changed.
//!
//! Absent on purpose: pods, which are the business of the ReplicaSets, and taking back a version that does not come up: a
//! Rollout does that.

mod history;
mod resize;
mod revisions;
mod spec;
mod status;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSet};
use serin_api::waiting::WaitingOn;

use crate::rollout::Note;
use crate::workload::{Claim, PodView, ReplicaSetView, claim, count};
use revisions::Family;

pub use revisions::owner;
pub use spec::{Desired, Strategy, lower};
pub use status::{failed, refused};
pub use waiting::waiting_on;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// At least the ReplicaSets that it controls and the orphans that it selects; others are passed over.
    pub replica_sets: Vec<ReplicaSetView>,
    /// The names of all ReplicaSets of the namespace, or at least those that begin with its own name.
    pub taken: BTreeSet<String>,
    /// At least the pods of its ReplicaSets. Only the strategy `Recreate` looks at them.
    pub pods: Vec<PodView>,
    /// The annotations of the Deployment as it is stored.
    pub annotations: BTreeMap<String, String>,
    /// Its status.
    pub status: DeploymentStatus,
    /// Whether a version that was taken back is not rolled out again until a person retries it.
    pub hold_rejected: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// To carry out in this order; when one fails, the rest is left for the next look.
    pub actions: Vec<Action>,
    /// The status once all is carried out. After a failure to create, [`failed`] gives it.
    pub status: DeploymentStatus,
    /// What it waits for.
    pub waiting_on: WaitingOn,
    /// When to look again, if nothing changes before.
    pub wake_at: Option<Timestamp>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a ReplicaSet. One of this name that is already there is the one that was wanted.
    Create(Box<ReplicaSet>),
    /// Change a ReplicaSet, if it has not changed.
    Update(Update),
    /// Become the controller of a ReplicaSet that has none, if it has not changed.
    Adopt(Target),
    /// No longer be the controller of a ReplicaSet, if it has not changed.
    Release(Target),
    /// Delete a ReplicaSet, if it has not changed.
    Delete(Target),
    /// Note the number of the present revision on the Deployment itself.
    Number {
        /// The value of `deployment.kubernetes.io/revision`.
        revision: u64,
    },
}

impl Action {
    /// What it means for people, once it is carried out; `None` for what only we need to know.
    pub fn note(&self) -> Option<Note> {
        let (name, from, to) = match self {
            Self::Create(rs) => {
                let size = rs.spec.as_ref().and_then(|s| s.replicas).map_or(0, count);
                (rs.metadata.name.as_deref().unwrap_or_default(), 0, size)
            }
            Self::Update(update) => (update.target.name.as_str(), update.from, update.replicas?),
            Self::Adopt(_) | Self::Release(_) | Self::Delete(_) | Self::Number { .. } => {
                return None;
            }
        };
        let way = if to >= from { "up" } else { "down" };
        Some(Note {
            warning: false,
            reason: "ScalingReplicaSet",
            message: format!("Scaled {way} replica set {name} from {from} to {to}"),
        })
    }
}

/// One ReplicaSet, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
    /// As it was seen.
    pub resource_version: String,
}

/// A change of one ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which.
    pub target: Target,
    /// Its size before.
    pub from: u32,
    /// Its new size; `None` leaves it.
    pub replicas: Option<u32>,
    /// Its new `minReadySeconds`; `None` leaves it.
    pub min_ready_seconds: Option<i32>,
    /// Annotations to set, or to take away where there is no value; others stay.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl Target {
    fn of(rs: &ReplicaSetView) -> Self {
        Self {
            name: rs.name.clone(),
            uid: rs.uid.clone(),
            resource_version: rs.resource_version.clone(),
        }
    }
}

/// Decides what a Deployment does next.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::default();
    let members = draft.claim(desired, observed);
    let family = Family::of(desired, &members);
    let hold = history::hold(observed, &family);
    // What is held keeps its sizes, as what is paused does.
    let desired = &Desired {
        paused: desired.paused || hold.is_some(),
        ..desired.clone()
    };
    // A ReplicaSet that is being taken over may be the wanted one: what it is comes first.
    if !desired.deleting && draft.ownership.is_empty() {
        draft.leave(observed, &family, now);
        draft.number(desired, observed, &family);
        draft.resize(desired, observed, &family);
        draft.remember(desired, &family, now);
        draft.forget(desired, &family);
    }
    let report = status::report(
        desired,
        observed,
        &family,
        (draft.turn, hold.as_deref()),
        now,
    );
    Plan {
        actions: draft.finish(),
        waiting_on: match hold {
            Some(why) => WaitingOn::NewRevision { why },
            None => waiting::reason(desired, &family),
        },
        status: report.status,
        wake_at: report.wake_at,
    }
}

/// What a plan means for the wanted version, as the condition `Progressing` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// Nothing new.
    #[default]
    None,
    /// Its ReplicaSet is made.
    Created,
    /// The ReplicaSet of an earlier revision is it again.
    Found,
}

#[derive(Default)]
struct Draft {
    ownership: Vec<Action>,
    created: Option<Action>,
    /// By uid: one patch for each ReplicaSet, as a second one would be refused for the version it names.
    updates: BTreeMap<String, Update>,
    /// The order in which sizes were decided, by uid.
    order: Vec<String>,
    numbered: Option<Action>,
    forgotten: Vec<Action>,
    turn: Turn,
}

impl Draft {
    /// The ReplicaSets that count as its own, orphans included, which are taken over first.
    fn claim<'a>(&mut self, desired: &Desired, observed: &'a Observed) -> Vec<&'a ReplicaSetView> {
        let mut own = Vec::new();
        for rs in &observed.replica_sets {
            let owner = rs.owner_uid.as_deref();
            match claim(&desired.pods, &desired.uid, &rs.labels, owner) {
                Claim::Owned => own.push(rs),
                // It counts from the next look on: a change of one that is being taken over would be refused.
                Claim::Orphan if !rs.deleting && !desired.deleting => {
                    self.ownership.push(Action::Adopt(Target::of(rs)));
                }
                Claim::Stray if !desired.deleting => {
                    self.ownership.push(Action::Release(Target::of(rs)));
                }
                Claim::Orphan | Claim::Stray | Claim::Foreign => {}
            }
        }
        own
    }

    /// The patch of a ReplicaSet, begun if need be.
    fn update(&mut self, rs: &ReplicaSetView) -> &mut Update {
        if !self.updates.contains_key(&rs.uid) {
            self.order.push(rs.uid.clone());
        }
        self.updates
            .entry(rs.uid.clone())
            .or_insert_with(|| Update {
                target: Target::of(rs),
                from: rs.desired,
                replicas: None,
                min_ready_seconds: None,
                annotations: BTreeMap::new(),
            })
    }

    fn finish(mut self) -> Vec<Action> {
        let mut actions = self.ownership;
        actions.extend(self.created);
        for uid in &self.order {
            actions.extend(self.updates.remove(uid).map(Action::Update));
        }
        actions.extend(self.numbered);
        actions.extend(self.forgotten);
        actions
    }
}

#[cfg(test)]
mod tests;
