//! The value that a plan is made on: what is wanted, what is seen, and what has been decided so far.

use jiff::{SignedDuration, Timestamp};
use serin_api::conditions::time;
use serin_api::rollout::{Desired, RolloutStatus, Strategy};
use serin_api::units::RevisionHash;
use serin_api::waiting::WaitingOn;

use super::holds::Hold;
use super::observed::{Observed, Revision};
use super::{Action, Note};
use crate::hash::{short, templates_equal, text_hash};

pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    /// The revision that is wanted.
    pub(super) current: RevisionHash,
    /// The status as it will be.
    pub(super) next: RolloutStatus,
    pub(super) actions: Vec<Action>,
    /// What a policy holds the release for.
    pub(super) hold: Option<Hold>,
    /// What is remembered of revisions; done after all else, as nobody waits for it.
    pub(super) memories: Vec<Action>,
    pub(super) notes: Vec<Note>,
    pub(super) waiting: WaitingOn,
    /// An old revision that is kept for a while, told only when nothing else is awaited.
    pub(super) keeping: Option<WaitingOn>,
    /// What is wrong with objects that the spec names: nothing new begins, but the way back stays open.
    pub(super) problems: Vec<String>,
    pub(super) wake_at: Option<Timestamp>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(desired: &'a Desired, observed: &'a Observed, now: Timestamp) -> Self {
        let (current, collisions) = wanted_revision(desired, observed);
        let mut next = observed.status.clone();
        next.collision_count = (collisions > 0)
            .then(|| i32::try_from(collisions).ok())
            .flatten();
        Self {
            desired,
            observed,
            now,
            current,
            next,
            actions: Vec::new(),
            hold: None,
            memories: Vec::new(),
            notes: Vec::new(),
            waiting: WaitingOn::Nothing,
            keeping: None,
            problems: Vec::new(),
            wake_at: None,
        }
    }

    /// Whether all there is to do is to take a release back, or to bring the stable revision in order.
    pub(super) fn goes_back(&self) -> bool {
        let same = self.next.current_pod_hash.as_deref() == Some(self.current.as_str());
        self.stable().as_ref() == Some(&self.current)
            || (self.next.abort && same)
            || self.may_return_at_once()
    }

    /// Takes in a new template or new steps, and the verbs that clients have put into the status.
    pub(super) fn take_in_changes(&mut self) {
        let steps_hash = short(&[&self.desired.steps_text]);
        let same_template = self.next.current_pod_hash.as_deref() == Some(self.current.as_str());
        let known_steps = self.next.current_step_hash.replace(steps_hash.clone());
        // A status that never told its steps is of somebody else's making: what it says stands.
        if !same_template || known_steps.is_some_and(|known| known != steps_hash) {
            let left = self.next.current_pod_hash.take().map(RevisionHash::new);
            self.next.current_pod_hash = Some(self.current.as_str().to_owned());
            self.begin_again();
            self.next.promote_full = !same_template
                && (self.is_kept_warm() || self.is_within_window() || self.may_return_at_once());
            if !same_template {
                self.leave(left);
            }
        }
        let settled = self.stable().is_none_or(|stable| stable == self.current);
        if settled && self.next.abort {
            // There is nothing to take back.
            self.next.abort = false;
            self.next.aborted_at = None;
        }
        match (self.next.abort, self.next.aborted_at.is_some()) {
            (true, false) => self.abort_as_asked(),
            (false, true) => {
                self.begin_again();
                self.forgive();
                self.note(
                    false,
                    "RolloutRetry",
                    "the release begins again at its first step".to_owned(),
                );
            }
            _ => {}
        }
        self.hold_if_rejected();
        self.take_in_step(settled);
    }

    fn take_in_step(&mut self, settled: bool) {
        let last = i32::try_from(self.steps().len()).unwrap_or(i32::MAX);
        let mut index = self.next.current_step_index.unwrap_or(0).clamp(0, last);
        if settled || self.next.promote_full {
            index = last;
        }
        let paused_step = self.next.canary.paused_step;
        if self.next.controller_pause && paused_step.is_some_and(|step| step != index) {
            // A client has gone on to another step: what paused at the one before says nothing of this one.
            self.next.pause_conditions = None;
            self.next.controller_pause = false;
        }
        if self.next.promote_full {
            // All further steps are skipped, and what paused at one of them goes on.
            self.next.pause_conditions = None;
            self.next.controller_pause = false;
        }
        let canary = matches!(self.desired.strategy, Strategy::Canary(_));
        self.next.current_step_index = canary.then_some(index);
    }

    fn begin_again(&mut self) {
        self.next.abort = false;
        self.next.aborted_at = None;
        self.next.promote_full = false;
        self.next.current_step_index = Some(0);
        self.next.pause_conditions = None;
        self.next.controller_pause = false;
        self.next.canary.current_step_analysis_run_status = None;
        self.next.canary.current_background_analysis_run_status = None;
        self.next.canary.current_experiment = None;
        self.next.blue_green.pre_promotion_analysis_run_status = None;
        self.next.blue_green.post_promotion_analysis_run_status = None;
        self.next.blue_green.scale_up_preview_check_point = false;
        self.next.bake = None;
        self.next.gates.clear();
        self.begin_in_group();
    }

    /// Whether the revision that is wanted is the one that was there before a blue-green switch and is still complete: going
    /// back to it is one switch, with no analysis and no pause.
    fn is_kept_warm(&self) -> bool {
        let blue_green = matches!(self.desired.strategy, Strategy::BlueGreen(_));
        let warm = |r: &Revision| {
            r.keep_until.is_some_and(|until| until > self.now)
                && r.available >= self.desired.replicas
        };
        blue_green && self.revision().is_some_and(warm)
    }

    /// Whether the revision that is wanted is older than the stable one, with fewer revisions between them than
    /// `rollbackWindow` says: going back to it skips the steps.
    fn is_within_window(&self) -> bool {
        let stable = self.stable().and_then(|s| self.observed.revision(&s));
        let (Some(wanted), Some(stable)) = (self.revision(), stable) else {
            return false;
        };
        let between = |r: &&Revision| wanted.created < r.created && r.created < stable.created;
        let passed = self.observed.revisions.iter().filter(between).count();
        wanted.created < stable.created && passed < self.desired.rollback_window
    }

    /// Makes the ReplicaSet of the revision that is wanted. `false` while there is none yet.
    pub(super) fn make_revision(&mut self) -> bool {
        let highest = self
            .observed
            .revisions
            .iter()
            .map(|r| r.number)
            .max()
            .unwrap_or(0);
        let revision = self.current.clone();
        match self.revision() {
            None => {
                self.note(
                    false,
                    "NewRevision",
                    format!("revision {} is {revision}", highest + 1),
                );
                self.actions.push(Action::Create {
                    revision: revision.clone(),
                    number: highest + 1,
                    apart_from: self.apart_from(),
                });
                self.wait(WaitingOn::Ready {
                    revision,
                    have: 0,
                    want: self.desired.replicas,
                });
                false
            }
            Some(known) if known.number < highest || known.number == 0 => {
                self.actions.push(Action::Renumber {
                    revision,
                    number: highest + 1,
                });
                true
            }
            Some(_) => true,
        }
    }

    /// The ReplicaSet of the revision that is wanted.
    pub(super) fn revision(&self) -> Option<&'a Revision> {
        self.observed.revision(&self.current)
    }

    /// The revision that the users are on, as decided so far.
    pub(super) fn stable(&self) -> Option<RevisionHash> {
        self.next
            .stable_rs
            .as_deref()
            .filter(|s| !s.is_empty())
            .map(RevisionHash::new)
    }

    /// Available instances of a revision.
    pub(super) fn available(&self, revision: &RevisionHash) -> u32 {
        self.observed.available(revision)
    }

    /// Sets the instances of a revision that is in use.
    pub(super) fn scale(&mut self, revision: &RevisionHash, to: u32) {
        let Some(seen) = self.observed.revision(revision) else {
            return;
        };
        if *revision == self.current && self.is_held_from_the_start() {
            return;
        }
        if seen.keep_until.is_some() && to > 0 {
            self.actions.push(Action::KeepUntil {
                revision: revision.clone(),
                until: None,
            });
        }
        if seen.desired != to {
            self.actions.push(Action::Scale {
                revision: revision.clone(),
                to,
            });
        }
    }

    /// Waits until a revision has so many available instances. `true` when it has.
    pub(super) fn await_available(&mut self, revision: &RevisionHash, want: u32) -> bool {
        let have = self.available(revision);
        if have >= want {
            return true;
        }
        self.wait(WaitingOn::Ready {
            revision: revision.clone(),
            have,
            want,
        });
        false
    }

    /// Points a Service at a revision that has available instances, and waits until that is served. `true` when it is.
    pub(super) fn select(&mut self, service: &str, revision: &RevisionHash) -> bool {
        let Some(seen) = self.observed.services.get(service) else {
            return true;
        };
        if seen.revision.as_ref() != Some(revision) {
            self.actions.push(Action::Select {
                service: service.to_owned(),
                revision: revision.clone(),
            });
        } else if seen.acknowledged {
            return true;
        }
        self.wait(WaitingOn::Acknowledgement {
            kind: "Service".into(),
            name: service.to_owned(),
        });
        false
    }

    /// Whether a Service points at a revision, as it is served.
    pub(super) fn is_selected(&self, service: Option<&String>, revision: &RevisionHash) -> bool {
        let seen = service.and_then(|s| self.observed.services.get(s));
        seen.is_some_and(|s| s.revision.as_ref() == Some(revision))
    }

    /// The users are on the revision that is wanted: from now on it is the stable one.
    pub(super) fn promote(&mut self, keep_old_for: SignedDuration) {
        if let Some(old) = self.stable().filter(|old| *old != self.current) {
            self.keep_old(old, keep_old_for);
        }
        self.next.bake = None;
        self.next.stable_rs = Some(self.current.as_str().to_owned());
        self.next.current_step_index = self
            .next
            .current_step_index
            .and(i32::try_from(self.steps().len()).ok());
        self.next.promote_full = false;
        self.next.pause_conditions = None;
        self.next.controller_pause = false;
        self.note(
            false,
            "RolloutCompleted",
            format!("the users are on {}", self.current),
        );
        self.wake(self.now);
    }

    /// Scales a revision that nothing uses to 0, once its time is over, or when newer ones take all places for old ones.
    pub(super) fn reclaim(&mut self, revision: &Revision, limit: Option<usize>) {
        let kept = |r: &&Revision| {
            r.desired > 0
                && r.number > revision.number
                && r.keep_until.is_some_and(|until| until > self.now)
        };
        let newer = self.observed.revisions.iter().filter(kept).count();
        let has_place = limit.is_none_or(|limit| newer < limit);
        let keep_until = revision.keep_until.filter(|until| *until > self.now);
        match keep_until.filter(|_| has_place) {
            Some(until) if revision.desired > 0 => {
                self.wake(until);
                self.resize_warm(revision);
                let kept = WaitingOn::ScaleDown {
                    revision: revision.hash.clone(),
                    until,
                };
                self.keeping.get_or_insert(kept);
            }
            _ if revision.desired > 0 => self.actions.push(Action::Scale {
                revision: revision.hash.clone(),
                to: 0,
            }),
            _ => {}
        }
    }

    /// Says why nothing more happens; the first reason counts.
    pub(super) fn wait(&mut self, reason: WaitingOn) {
        if self.waiting == WaitingOn::Nothing {
            self.waiting = reason;
        }
    }

    /// Looks again at that time; the earliest counts.
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    pub(super) fn note(&mut self, warning: bool, reason: &'static str, message: String) {
        self.notes.push(Note {
            warning,
            reason,
            message,
        });
    }

    /// From now on the stable revision is where all goes.
    pub(super) fn take_back(&mut self, why: &str) {
        self.next.abort = true;
        self.next.aborted_at = Some(time(self.now));
        self.next.message = Some(format!("taken back: {why}"));
        self.next.current_step_index = self.next.current_step_index.map(|_| 0);
        self.next.promote_full = false;
        self.next.pause_conditions = None;
        self.next.controller_pause = false;
        self.tell_group();
        // Whatever was awaited, the way back does not wait for it; what was to be done for the release is not done any more.
        self.waiting = WaitingOn::Nothing;
        self.actions.retain(|action| {
            matches!(
                action,
                Action::CopyConfiguration(_) | Action::Create { .. } | Action::Renumber { .. }
            )
        });
        self.note(
            true,
            "RolloutAborted",
            format!("{} is taken back: {why}", self.current),
        );
    }
}

/// The revision that is wanted, and how often its name was taken by another template. A template that has been here before
/// keeps its revision, whatever hashed it: a takeover of live ReplicaSets restarts nothing.
fn wanted_revision(desired: &Desired, observed: &Observed) -> (RevisionHash, u32) {
    let known = u32::try_from(observed.status.collision_count.unwrap_or(0)).unwrap_or(0);
    let hash = text_hash(&desired.template_text, known);
    let is_it = |r: &Revision| match &r.source {
        Some(source) => *source == desired.template_digest,
        None => templates_equal(&r.template, &desired.template),
    };
    // Nearly always the hash says it. Without a digest it is believed: an API may have written out more defaults than we know.
    if observed
        .revision(&hash)
        .is_some_and(|r| r.source.is_none() || is_it(r))
    {
        return (hash, known);
    }
    let same = observed.revisions.iter().filter(|r| is_it(r));
    if let Some(known_by) = same.max_by_key(|r| r.number) {
        return (known_by.hash.clone(), known);
    }
    // Of one name more than there are revisions, one is free.
    let tries = u32::try_from(observed.revisions.len()).unwrap_or(u32::MAX);
    let free = (known..=known.saturating_add(tries))
        .map(|collisions| (text_hash(&desired.template_text, collisions), collisions))
        .find(|(hash, _)| observed.revision(hash).is_none());
    free.unwrap_or((hash, known))
}
