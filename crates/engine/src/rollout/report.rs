//! The status that a plan ends with: counts, conditions, the phase in one word and why.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serin_api::conditions::{self, time, word};
use serin_api::keys::label;
use serin_api::rollout::{RolloutCondition, RolloutPhase, RolloutStatus, Strategy};
use serin_api::waiting::WaitingOn;

use super::observed::Observed;
use super::planner::Planner;
use super::{Note, Plan};
use crate::invariants::Violation;

const PROGRESSING: &str = "Progressing";
/// How soon it is looked again whether what was missing is there.
const AFTER_INVALID: SignedDuration = SignedDuration::from_secs(10);
const REFUSED: &str = "PlanRefused";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The plan for a spec that cannot be carried out: nothing is touched, so the last good revision keeps serving.
pub(super) fn invalid(observed: &Observed, problems: &[String], now: Timestamp) -> Plan {
    let mut status = observed.status.clone();
    status.conditions.retain(|c| c.type_ != REFUSED);
    let told = problems.join("; ");
    let message = format!("The Rollout \"{}\" is invalid: {told}", observed.name);
    let fresh = conditions::get(&status.conditions, "InvalidSpec")
        .is_none_or(|c| c.status != "True" || c.message != message);
    set(
        &mut status,
        now,
        "InvalidSpec",
        true,
        "InvalidSpec",
        &message,
    );
    status.observed_generation = Some(observed.generation.to_string());
    status.phase = Some(RolloutPhase::Degraded);
    status.message = Some(message.clone());
    let waiting_on = WaitingOn::ValidSpec { problems: told };
    status.waiting_on = Some(waiting_on.clone());
    let note = Note {
        warning: true,
        reason: "InvalidSpec",
        message,
    };
    Plan {
        actions: Vec::new(),
        status,
        waiting_on,
        // Objects of the whole cluster are not watched: one that was missing may be there.
        wake_at: Some(now + AFTER_INVALID),
        notes: if fresh { vec![note] } else { Vec::new() },
    }
}

/// The status of a Rollout whose plan would break what is promised: nothing of it is done. The next plan that is sound takes the
/// word back.
pub fn refused(observed: &Observed, broken: &[Violation], now: Timestamp) -> RolloutStatus {
    let mut status = observed.status.clone();
    let told: Vec<_> = broken.iter().map(ToString::to_string).collect();
    let message = format!("a plan was refused: {}", told.join("; "));
    set(&mut status, now, REFUSED, true, REFUSED, &message);
    status
}

impl Planner<'_> {
    pub(super) fn finish(mut self) -> Plan {
        self.count();
        self.next.observed_generation = Some(self.observed.generation.to_string());
        self.tell_problems();
        self.settle_waiting();
        self.watch_progress();
        self.tell_phase();
        self.next.waiting_on = Some(self.waiting.clone());
        self.next.conditions.retain(|c| c.type_ != REFUSED);
        self.actions.append(&mut self.memories);
        if self.actions.is_empty() && self.next == self.observed.status {
            self.end_emergency();
        }
        Plan {
            actions: self.actions,
            status: self.next,
            waiting_on: self.waiting,
            wake_at: self.wake_at,
            notes: self.notes,
        }
    }

    /// What is wrong with the objects that the spec names, while a release is taken back all the same.
    fn tell_problems(&mut self) {
        if self.problems.is_empty() {
            self.next.conditions.retain(|c| c.type_ != "InvalidSpec");
            return;
        }
        let told = self.problems.join("; ");
        set(
            &mut self.next,
            self.now,
            "InvalidSpec",
            true,
            "InvalidSpec",
            &told,
        );
    }

    /// `spec.paused` is the reason that counts while a release is under way; what is only kept for a while counts last.
    fn settle_waiting(&mut self) {
        let updating = self.stable().is_some_and(|stable| stable != self.current);
        if self.desired.paused && updating && !self.next.abort && self.waiting != WaitingOn::Nothing
        {
            self.waiting = WaitingOn::Paused;
        }
        if self.waiting == WaitingOn::Nothing
            && let Some(kept) = self.keeping.take()
        {
            self.waiting = kept;
        }
    }

    fn count(&mut self) {
        let all = &self.observed.revisions;
        let sum = |of: fn(&super::Revision) -> u32| {
            let sum: u64 = all.iter().map(of).map(u64::from).sum();
            i32::try_from(sum).ok()
        };
        self.next.replicas = sum(|r| r.replicas);
        self.next.ready_replicas = sum(|r| r.ready);
        self.next.available_replicas = sum(|r| r.available);
        self.next.updated_replicas = i32::try_from(self.revision().map_or(0, |r| r.replicas)).ok();
        self.tell_autoscaler();
    }

    /// What an autoscaler counts: all instances of a canary, of a blue-green release those that the users reach.
    fn tell_autoscaler(&mut self) {
        self.next.hpa_replicas = self.next.replicas;
        let mut selector = selector_text(&self.desired.selector);
        if let Strategy::BlueGreen(sides) = &self.desired.strategy {
            let active = self.observed.services.get(&sides.active_service);
            let active = active.and_then(|s| s.revision.as_ref());
            if let Some(active) = active.and_then(|hash| self.observed.revision(hash)) {
                self.next.hpa_replicas = i32::try_from(active.replicas).ok();
                selector = format!(
                    "{selector},{}={}",
                    label::ROLLOUT_POD_TEMPLATE_HASH,
                    active.hash
                );
            }
        }
        self.next.selector = Some(selector);
    }

    /// Keeps the `Progressing` condition: its `lastUpdateTime` is when something last got on. The clock of the deadline runs
    /// only while instances or the data plane are awaited: time, a person or a measurement make nothing late.
    fn watch_progress(&mut self) {
        let before = &self.observed.status;
        let moved = before.updated_replicas != self.next.updated_replicas
            || before.available_replicas != self.next.available_replicas
            || before.current_step_index != self.next.current_step_index
            || before.current_pod_hash != self.next.current_pod_hash
            || before.canary.weights != self.next.canary.weights
            || before.blue_green.active_selector != self.next.blue_green.active_selector
            || before.observed_generation != self.next.observed_generation
            || before.abort != self.next.abort;
        let ran = !before.controller_pause && before.waiting_on.as_ref().is_some_and(is_work);
        let runs = !self.next.controller_pause && is_work(&self.waiting);
        let known = conditions::get(&self.next.conditions, PROGRESSING);
        let known = known.and_then(|c| c.last_update_time.as_ref()).map(|t| t.0);
        let since = known
            .filter(|_| !moved && (ran || !runs))
            .unwrap_or(self.now);
        if let Some(deadline) = self.desired.progress_deadline.filter(|_| runs) {
            if since + deadline <= self.now {
                self.time_out(since);
                return;
            }
            self.wake(since + deadline);
        }
        let on_current = self.stable().as_ref() == Some(&self.current);
        let (reason, message) = if self.next.abort {
            let why = self.next.message.clone().unwrap_or_default();
            ("RolloutAborted", why)
        } else if on_current && !runs {
            (
                "NewReplicaSetAvailable",
                format!("{} is complete", self.current),
            )
        } else {
            ("ReplicaSetUpdated", format!("waits for {}", self.waiting))
        };
        self.tell_progress(!self.next.abort, reason, &message, since);
    }

    fn tell_progress(&mut self, truth: bool, reason: &str, message: &str, since: Timestamp) {
        let mut told = condition(self.now, PROGRESSING, truth, reason, message);
        told.last_update_time = Some(time(since));
        conditions::set(&mut self.next.conditions, told);
    }

    fn time_out(&mut self, since: Timestamp) {
        let message = format!(
            "{} did not get on in time: it waits for {}",
            self.current, self.waiting
        );
        let known = conditions::get(&self.next.conditions, PROGRESSING)
            .is_some_and(|c| c.reason == TIMED_OUT);
        if !known {
            self.note(true, TIMED_OUT, message.clone());
            let updating = self.stable().is_some_and(|stable| stable != self.current);
            if self.desired.progress_deadline_abort && updating && !self.next.abort {
                self.abort(&message);
                self.wake(self.now);
            }
        }
        self.tell_progress(false, TIMED_OUT, &message, since);
    }

    fn tell_phase(&mut self) {
        let on_current = self.stable().as_ref() == Some(&self.current);
        let at_rest = matches!(
            self.waiting,
            WaitingOn::Nothing | WaitingOn::ScaleDown { .. }
        );
        let complete = on_current && at_rest;
        let holds = matches!(
            self.waiting,
            WaitingOn::Paused | WaitingOn::Freeze { .. } | WaitingOn::Gate { .. }
        );
        let paused = self.next.controller_pause || holds;
        let phase = self.phase(complete, paused);
        self.tell_conditions(complete, paused, phase);
        self.next.phase = Some(phase);
        // The reason of an abort stays until the next revision; everything else is derived anew.
        if !self.next.abort {
            let waits = self.waiting != WaitingOn::Nothing;
            self.next.message = waits.then(|| format!("waits for {}", self.waiting));
        }
    }

    fn phase(&self, complete: bool, paused: bool) -> RolloutPhase {
        let progressing = conditions::get(&self.next.conditions, PROGRESSING);
        let late = progressing.is_some_and(|c| c.reason == TIMED_OUT) && !complete;
        if self.next.abort || late {
            RolloutPhase::Degraded
        } else if paused {
            RolloutPhase::Paused
        } else if complete {
            RolloutPhase::Healthy
        } else {
            RolloutPhase::Progressing
        }
    }

    fn tell_conditions(&mut self, complete: bool, paused: bool, phase: RolloutPhase) {
        let available = self.observed.revisions.iter();
        let available = available.fold(0_u32, |sum, r| sum.saturating_add(r.available));
        let enough = available >= self.desired.replicas;
        let healthy = phase == RolloutPhase::Healthy;
        let told = [
            (
                "Available",
                enough,
                "AvailableReason",
                [
                    "too few instances are available",
                    "enough instances are available",
                ],
            ),
            ("Paused", paused, "RolloutPaused", ["not paused", "paused"]),
            (
                "Completed",
                complete,
                "RolloutCompleted",
                ["under way", "the users are on the wanted revision"],
            ),
            (
                "Healthy",
                healthy,
                "RolloutHealthy",
                ["not healthy", "healthy"],
            ),
        ];
        for (kind, truth, reason, [no, yes]) in told {
            let message = if truth { yes } else { no };
            set(&mut self.next, self.now, kind, truth, reason, message);
        }
    }
}

/// Whether something is awaited that should come by itself and soon.
fn is_work(waiting: &WaitingOn) -> bool {
    matches!(
        waiting,
        WaitingOn::Ready { .. } | WaitingOn::Gone { .. } | WaitingOn::Acknowledgement { .. }
    )
}

fn condition(
    now: Timestamp,
    kind: &str,
    truth: bool,
    reason: &str,
    message: &str,
) -> RolloutCondition {
    RolloutCondition {
        type_: kind.to_owned(),
        status: word(truth),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// Sets a condition, and keeps its times when nothing of it has changed.
fn set(
    status: &mut RolloutStatus,
    now: Timestamp,
    kind: &str,
    truth: bool,
    reason: &str,
    message: &str,
) {
    let mut new = condition(now, kind, truth, reason, message);
    if let Some(known) = conditions::get(&status.conditions, kind)
        && known.status == new.status
        && known.reason == new.reason
        && known.message == new.message
    {
        new.last_update_time = known.last_update_time.clone();
    }
    conditions::set(&mut status.conditions, new);
}

/// A selector as an autoscaler reads it: `app=web,tier in (a,b)`.
fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_deref().unwrap_or_default().join(",");
        match e.operator.as_str() {
            "In" => format!("{} in ({values})", e.key),
            "NotIn" => format!("{} notin ({values})", e.key),
            "DoesNotExist" => format!("!{}", e.key),
            _ => e.key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}
