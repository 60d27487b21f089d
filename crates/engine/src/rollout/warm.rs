//! The way back after a release is complete: the last good revision is kept with instances, and going back to one that the
//! users were on before takes no steps.

use jiff::SignedDuration;
use serin_api::rollout::Strategy;
use serin_api::units::{RevisionHash, Rounding};

use super::Action;
use super::observed::Revision;
use super::planner::Planner;

impl Planner<'_> {
    /// Whether the template that is wanted is that of an older revision which has proved itself, and the policy or an
    /// emergency lets it have the users without steps.
    pub(super) fn may_return_at_once(&self) -> bool {
        let Some(revision) = self.revision() else {
            return false;
        };
        let newest = self.observed.revisions.iter().map(|r| r.number).max();
        let older = newest.is_some_and(|newest| revision.number < newest);
        self.is_emergency(revision)
            || (self.observed.governed.policy.instant && older && revision.is_good())
    }

    /// Whether the release under way leads back to a revision that the users were on before. To be asked when all steps are
    /// behind: the status remembers that they are skipped.
    pub(super) fn returns(&self) -> bool {
        let proved = |r: &Revision| r.is_good() || self.is_emergency(r);
        self.next.promote_full && self.revision().is_some_and(proved)
    }

    /// Whether an emergency leads to this revision: one that was not found bad since.
    fn is_emergency(&self, revision: &Revision) -> bool {
        self.observed.governed.emergency.as_ref() == Some(&revision.hash)
            && revision.history.taken_back.is_none()
    }

    /// Once the users are where the emergency leads, or something else is wanted, its word is taken away: a later release to
    /// that revision takes its steps.
    pub(super) fn end_emergency(&mut self) {
        let Some(leads_to) = &self.observed.governed.emergency else {
            return;
        };
        if *leads_to != self.current || self.stable().as_ref() == Some(leads_to) {
            self.actions.push(Action::EndEmergency);
        }
    }

    /// Keeps the instances of the revision that the users were on, for `delay` and, when it is good, for as long as the policy
    /// says. Those of the ones before it are no longer needed.
    pub(super) fn keep_old(&mut self, old: RevisionHash, delay: SignedDuration) {
        let observed = self.observed;
        let warm = observed.governed.policy.warm.filter(|_| self.can_be_warm());
        let good = observed
            .revision(&old)
            .is_some_and(|r| r.history.taken_back.is_none());
        let keep = warm
            .filter(|_| good)
            .map_or(delay, |w| w.duration.max(delay));
        if !keep.is_zero() {
            self.keep_until(&old, keep);
        }
        for other in &observed.revisions {
            if other.hash == old || other.hash == self.current {
                continue;
            }
            let longer = other.keep_until.is_some_and(|at| at > self.now + delay);
            if longer && warm.is_some() && good {
                self.keep_until(&other.hash, delay);
            }
        }
    }

    fn keep_until(&mut self, revision: &RevisionHash, keep: SignedDuration) {
        let until = self.now.checked_add(keep).unwrap_or(self.now);
        self.actions.push(Action::KeepUntil {
            revision: revision.clone(),
            until: Some(until),
        });
    }

    /// A revision that is kept warm has the size that the policy says, once the delay of the strategy is over.
    pub(super) fn resize_warm(&mut self, revision: &Revision) {
        let Some(warm) = self.observed.governed.policy.warm else {
            return;
        };
        let settled = self.stable().as_ref() == Some(&self.current);
        let promoted = self.revision().and_then(|r| r.history.promoted_at);
        let Some(promoted) = promoted.filter(|_| settled && self.can_be_warm()) else {
            return;
        };
        let full_until = promoted + self.scale_down_delay();
        if full_until > self.now {
            self.wake(full_until);
            return;
        }
        let to = warm.replicas.resolve(self.desired.replicas, Rounding::Up);
        let to = to.min(self.desired.replicas);
        if revision.is_good() && revision.desired != to {
            self.actions.push(Action::Scale {
                revision: revision.hash.clone(),
                to,
            });
        }
    }

    /// Without routes every instance that is there gets requests: none can be kept aside.
    fn can_be_warm(&self) -> bool {
        match &self.desired.strategy {
            Strategy::Canary(canary) => !canary.routes.is_empty(),
            Strategy::BlueGreen(_) => true,
        }
    }

    fn scale_down_delay(&self) -> SignedDuration {
        match &self.desired.strategy {
            Strategy::Canary(canary) => canary.scale_down_delay,
            Strategy::BlueGreen(blue_green) => blue_green.scale_down_delay,
        }
    }
}
