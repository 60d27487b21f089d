//! What a Deployment says of itself: counts and the conditions that kubectl reads.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use serin_api::keys::condition::HELD;
use serin_api::{Problem, conditions};

use super::revisions::{Family, collisions};
use super::{Desired, Observed, Plan, Turn};
use crate::workload::{ReplicaSetView, as_i32};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const INVALID_SPEC: &str = "InvalidSpec";

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// The status and when it may change by time alone.
pub(super) struct Report {
    pub(super) status: DeploymentStatus,
    pub(super) wake_at: Option<Timestamp>,
}

pub(super) fn report(
    desired: &Desired,
    observed: &Observed,
    family: &Family<'_>,
    (turn, hold): (Turn, Option<&str>),
    now: Timestamp,
) -> Report {
    let mut status = counts(desired, observed, family, turn);
    let mut all = observed.status.conditions.clone().unwrap_or_default();
    all.retain(|c| c.type_ != INVALID_SPEC && c.type_ != REPLICA_FAILURE);
    all.retain(|c| c.type_ != HELD || hold.is_some());
    if let Some(why) = hold {
        set(&mut all, condition(HELD, "True", "TakenBack", why), now);
    }
    all.extend(failure(family));
    if let Some(available) = available(desired, &status) {
        set(&mut all, available, now);
    }
    let before = conditions::get(&all, PROGRESSING).cloned();
    let wake_at = if desired.progress_deadline.is_none() {
        all.retain(|c| c.type_ != PROGRESSING);
        None
    } else {
        let progress = Progress {
            desired,
            family,
            before: before.as_ref(),
            old: &observed.status,
            new: &status,
        };
        if let Some(next) = progress.next(desired, observed, turn, now) {
            renew(&mut all, next, now);
        }
        deadline(desired, conditions::get(&all, PROGRESSING)).filter(|at| *at > now)
    };
    status.conditions = Some(all);
    Report { status, wake_at }
}

/// The status of a Deployment whose spec makes no sense: nothing is done, what runs goes on, and it says why.
pub fn refused(deployment: &Deployment, problems: &[Problem], now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.observed_generation = deployment.metadata.generation;
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let mut all = status.conditions.take().unwrap_or_default();
    let told = condition(INVALID_SPEC, "True", "InvalidSpec", text.join("; "));
    set(&mut all, told, now);
    status.conditions = Some(all);
    status
}

/// The status after a ReplicaSet could not be made, for example because its template is refused.
pub fn failed(
    plan: &Plan,
    before: &DeploymentStatus,
    message: &str,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = plan.status.clone();
    let mut all = status.conditions.take().unwrap_or_default();
    // The plan said that it was made; what was said before keeps its times.
    all.retain(|c| c.type_ != PROGRESSING);
    let said = before.conditions.as_deref().unwrap_or_default();
    all.extend(conditions::get(said, PROGRESSING).cloned());
    let told = condition(PROGRESSING, "False", "ReplicaSetCreateError", message);
    set(&mut all, told, now);
    status.conditions = Some(all);
    status
}

fn counts(
    desired: &Desired,
    observed: &Observed,
    family: &Family<'_>,
    turn: Turn,
) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSetView) -> u32| family.all().map(of).fold(0, u32::saturating_add);
    let available = sum(|rs| rs.available);
    let unavailable = sum(|rs| rs.desired).saturating_sub(available);
    let some = |count: u32| Some(as_i32(count));
    let collision_count = match turn {
        Turn::Created => Some(collisions(desired, observed)).filter(|c| *c > 0),
        Turn::None | Turn::Found => None,
    };
    DeploymentStatus {
        replicas: some(sum(|rs| rs.replicas)),
        updated_replicas: some(family.new.map_or(0, |rs| rs.replicas)),
        ready_replicas: some(sum(|rs| rs.ready)),
        available_replicas: some(available),
        unavailable_replicas: some(unavailable),
        observed_generation: Some(desired.generation),
        collision_count: collision_count
            .map(as_i32)
            .or(observed.status.collision_count),
        conditions: None,
        terminating_replicas: None,
    }
}

fn available(desired: &Desired, status: &DeploymentStatus) -> Option<DeploymentCondition> {
    let enough = status.available_replicas? >= as_i32(desired.bounds().floor);
    Some(if enough {
        let message = "Deployment has minimum availability.";
        condition(AVAILABLE, "True", "MinimumReplicasAvailable", message)
    } else {
        let message = "Deployment does not have minimum availability.";
        condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
    })
}

/// The failure of the wanted version, else of any other.
fn failure(family: &Family<'_>) -> Option<DeploymentCondition> {
    let cause = family.all().find_map(|rs| rs.failure.as_ref())?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.into(),
        status: cause.status.clone(),
        reason: cause.reason.clone(),
        message: cause.message.clone(),
        last_transition_time: cause.last_transition_time.clone(),
        last_update_time: cause.last_transition_time.clone(),
    })
}

/// What the condition `Progressing` is decided on.
struct Progress<'a> {
    desired: &'a Desired,
    family: &'a Family<'a>,
    before: Option<&'a DeploymentCondition>,
    old: &'a DeploymentStatus,
    new: &'a DeploymentStatus,
}

impl Progress<'_> {
    /// The condition in the place of the present one; `None` leaves that, with its times.
    fn next(
        &self,
        desired: &Desired,
        observed: &Observed,
        turn: Turn,
        now: Timestamp,
    ) -> Option<DeploymentCondition> {
        let reason = self.before.and_then(|c| c.reason.as_deref());
        let name = self.family.new.map_or_else(
            || format!("{}-{}", desired.name, self.hash(observed)),
            |rs| rs.name.clone(),
        );
        let told = |status: &str, reason: &str, message: String| {
            Some(condition(PROGRESSING, status, reason, message))
        };
        match (desired.paused, reason) {
            (true, Some(TIMED_OUT | PAUSED)) => return None,
            (true, _) => return told("Unknown", PAUSED, "Deployment is paused".into()),
            (false, Some(PAUSED)) => {
                return told("Unknown", RESUMED, "Deployment is resumed".into());
            }
            (false, _) => {}
        }
        match turn {
            Turn::Created => {
                let message = format!("Created new replica set {name:?}");
                return told("True", "NewReplicaSetCreated", message);
            }
            Turn::Found => {
                let message = format!("Found new replica set {name:?}");
                return told("True", "FoundNewReplicaSet", message);
            }
            Turn::None => {}
        }
        if self.is_complete() {
            let message = format!("ReplicaSet {name:?} has successfully progressed.");
            return told("True", NEW_AVAILABLE, message).filter(|_| reason != Some(NEW_AVAILABLE));
        }
        // Changing the number of pods of a version that is complete is no update.
        if reason == Some(NEW_AVAILABLE) && self.new.replicas == self.new.updated_replicas {
            return None;
        }
        if self.before.is_none() || self.has_moved() {
            let message = format!("ReplicaSet {name:?} is progressing.");
            return told("True", "ReplicaSetUpdated", message);
        }
        let late = deadline(desired, self.before).is_some_and(|at| at <= now);
        if late && reason != Some(TIMED_OUT) {
            let message = format!("ReplicaSet {name:?} has timed out progressing.");
            return told("False", TIMED_OUT, message);
        }
        None
    }

    fn hash(&self, observed: &Observed) -> String {
        let collisions = collisions(self.desired, observed);
        crate::hash::template_hash(&self.desired.template, collisions).to_string()
    }

    fn is_complete(&self) -> bool {
        let want = Some(as_i32(self.desired.replicas));
        self.family.new.is_some()
            && self.new.updated_replicas == want
            && self.new.replicas == want
            && self.new.available_replicas == want
    }

    /// More new pods, fewer old ones, or more available ones. Pods that only became ready do not count: a version whose
    /// readiness comes and goes would get on for ever.
    fn has_moved(&self) -> bool {
        let count = |value: Option<i32>| value.unwrap_or(0);
        let old_pods = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
        count(self.new.updated_replicas) > count(self.old.updated_replicas)
            || old_pods(self.new) < old_pods(self.old)
            || count(self.new.available_replicas) > count(self.old.available_replicas)
    }
}

/// When the update is late, if it does not get on before; `None` when none is under way.
fn deadline(desired: &Desired, progressing: Option<&DeploymentCondition>) -> Option<Timestamp> {
    let current = progressing?;
    let over = [NEW_AVAILABLE, TIMED_OUT, PAUSED];
    if desired.paused || over.contains(&current.reason.as_deref()?) {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    since.checked_add(desired.progress_deadline?).ok()
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: None,
        last_update_time: None,
    }
}

/// Sets a condition; one that says the same already keeps its times.
fn set(all: &mut Vec<DeploymentCondition>, new: DeploymentCondition, now: Timestamp) {
    let same = conditions::get(all, &new.type_).is_some_and(|old| {
        (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message)
    });
    if !same {
        renew(all, new, now);
    }
}

/// Sets a condition as of now, also when it says the same.
fn renew(all: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, now: Timestamp) {
    new.last_update_time = Some(conditions::time(now));
    new.last_transition_time = Some(conditions::time(now));
    conditions::set(all, new);
}
