//! What holds of releases that go in lockstep with others, and of those that go in batches.

use serin_api::rollout::{Batch, Desired, Step, Strategy};
use serin_api::units::RevisionHash;

use super::{View, Violation};
use crate::rollout::Action;
use crate::rollout::batches::batched;
use crate::rollout::group::{Place, awaited};

impl View<'_> {
    /// The step that the actions of the plan are for, of how many: the one that was reached before, or the first when the
    /// release begins, or begins again.
    fn place(&self) -> (usize, usize) {
        let (before, after) = (&self.observed.status, &self.plan.status);
        let desired = self.batched();
        let steps = match &desired.strategy {
            Strategy::Canary(canary) => canary.steps.len(),
            Strategy::BlueGreen(_) => 0,
        };
        let retried = before.aborted_at.is_some() && !before.abort;
        let goes_on = before.current_pod_hash == after.current_pod_hash
            && before.current_step_hash == after.current_step_hash
            && !retried;
        let index = before.current_step_index.filter(|_| goes_on).unwrap_or(0);
        (usize::try_from(index).unwrap_or(0).min(steps), steps)
    }

    fn batched(&self) -> std::borrow::Cow<'_, Desired> {
        batched(self.desired, self.observed.governed.policy.batches.as_ref())
    }

    /// The revision that is on trial in this plan, unless all steps of it are skipped.
    fn on_trial(&self) -> Option<RevisionHash> {
        let status = &self.plan.status;
        let skipped = self.observed.status.promote_full || status.promote_full;
        let stable = self.observed.stable()?;
        let current = RevisionHash::new(status.current_pod_hash.as_deref()?);
        (stable != current && !status.abort && !skipped).then_some(current)
    }

    /// Nobody is sent to a revision before the other members of its group have come as far.
    pub(super) fn keeps_pace_with_its_group(&self, action: &Action) -> Option<Violation> {
        let group = self.observed.group.as_ref()?;
        let current = self.on_trial()?;
        let by_replicas = matches!(
            &self.desired.strategy,
            Strategy::Canary(canary) if canary.routes.is_empty()
        );
        // Where the numbers of instances make the split, an instance more is users more.
        let grows = by_replicas
            && matches!(action, Action::Scale { revision, to }
                if *revision == current && *to > self.observed.revision(&current).map_or(0, |r| r.desired));
        if !grows && !self.sends_more_users(action) {
            return None;
        }
        let (index, steps) = self.place();
        let place = if index < steps {
            Place::Step(index)
        } else {
            Place::End
        };
        let behind = awaited(group.release.as_deref(), place, &group.others)?;
        Some(Violation::AheadOfItsGroup {
            member: behind.name.clone(),
        })
    }

    /// No release is complete before all users of the other members are where theirs leads.
    pub(super) fn completes_with_its_group(&self) -> Option<Violation> {
        let group = self.observed.group.as_ref()?;
        let current = self.on_trial()?;
        let completes = self.plan.status.stable_rs.as_deref() == Some(current.as_str());
        if !completes || self.desired.replicas == 0 {
            return None;
        }
        let release = group.release.as_deref();
        let behind = awaited(release, Place::Completion, &group.others)?;
        Some(Violation::AheadOfItsGroup {
            member: behind.name.clone(),
        })
    }

    /// A batch gets no instance more than it has.
    pub(super) fn stays_within_its_batch(&self, action: &Action) -> Option<Violation> {
        let Action::Scale { revision, to } = action else {
            return None;
        };
        let has = self.observed.revision(revision)?.desired;
        if self.on_trial()? != *revision || *to <= has {
            return None;
        }
        let desired = self.batched();
        let Strategy::Canary(canary) = &desired.strategy else {
            return None;
        };
        let parts = canary.steps.get(self.place().0)?.parts().iter();
        let batch = parts.filter_map(|part| match part {
            Step::Batch(Batch { instances, .. }) => Some(*instances),
            _ => None,
        });
        let ceiling = batch.max()?;
        (*to > ceiling).then_some(Violation::BeyondItsBatch { to: *to, ceiling })
    }
}
