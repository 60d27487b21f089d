//! What is done beside the release: restarts that were asked for, and forgetting what is old.

use jiff::SignedDuration;
use serin_api::conditions::time;
use serin_api::rollout::Strategy;
use serin_api::units::Rounding;

use super::Action;
use super::planner::Planner;

/// How soon it is looked again while pods are restarted.
const RESTART_LOOK: SignedDuration = SignedDuration::from_secs(1);

impl Planner<'_> {
    /// Replaces pods that are older than `restartAt`, no more at a time than may be missing.
    pub(super) fn restart_old_pods(&mut self) {
        let Some(at) = self.desired.restart_at else {
            return;
        };
        if self
            .next
            .restarted_at
            .as_ref()
            .is_some_and(|done| done.0 == at)
        {
            return;
        }
        if at > self.now {
            self.wake(at);
            return;
        }
        let observed = self.observed;
        let mut old: Vec<_> = observed.pods.iter().filter(|p| p.created < at).collect();
        if old.is_empty() {
            self.next.restarted_at = Some(time(at));
            return;
        }
        self.wake(self.now + RESTART_LOOK);
        old.retain(|p| !p.terminating);
        old.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let picked = old.into_iter().take(self.restart_room());
        let restarts: Vec<_> = picked
            .map(|p| Action::Restart {
                pod: p.name.clone(),
                uid: p.uid.clone(),
            })
            .collect();
        self.actions.extend(restarts);
    }

    /// How many more pods may be missing: counted from the pods themselves, as the counts of a ReplicaSet lag behind.
    fn restart_room(&self) -> usize {
        let replicas = self.desired.replicas;
        let may_miss = match &self.desired.strategy {
            Strategy::Canary(canary) => canary.max_unavailable.resolve(replicas, Rounding::Down),
            Strategy::BlueGreen(sides) => sides.max_unavailable.resolve(replicas, Rounding::Down),
        };
        let wanted = self.observed.revisions.iter();
        let wanted = wanted.fold(0_u32, |sum, r| sum.saturating_add(r.desired));
        let serving = self
            .observed
            .pods
            .iter()
            .filter(|p| p.ready && !p.terminating)
            .count();
        let missing = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .saturating_sub(serving);
        usize::try_from(may_miss.max(1))
            .unwrap_or(usize::MAX)
            .saturating_sub(missing)
    }

    /// Forgets old revisions without instances and old finished analyses, beyond what is to be kept.
    pub(super) fn clean_up(&mut self) {
        self.stop_idle_runs();
        self.clean_up_experiments();
        let stable = self.stable();
        let mut old: Vec<_> = self
            .observed
            .revisions
            .iter()
            .filter(|r| r.hash != self.current && Some(&r.hash) != stable.as_ref())
            .collect();
        old.retain(|r| r.desired == 0 && r.replicas == 0);
        old.sort_by_key(|r| std::cmp::Reverse(r.number));
        let surplus = old.into_iter().skip(self.desired.revision_history_limit);
        let deletes: Vec<_> = surplus
            .map(|r| Action::DeleteRevision {
                revision: r.hash.clone(),
            })
            .collect();
        self.actions.extend(deletes);
        self.forget_runs();
        self.forget_configuration();
    }

    fn forget_runs(&mut self) {
        use serin_api::analysis::AnalysisPhase::Successful;
        let mut finished: Vec<_> = self
            .observed
            .runs
            .iter()
            .filter(|r| r.phase.is_completed() && r.revision != self.current)
            .collect();
        finished.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
        let (good, bad): (Vec<_>, Vec<_>) =
            finished.into_iter().partition(|r| r.phase == Successful);
        let (keep_good, keep_bad) = self.desired.analysis_history;
        let surplus = good
            .into_iter()
            .skip(keep_good)
            .chain(bad.into_iter().skip(keep_bad));
        let deletes: Vec<_> = surplus
            .map(|r| Action::DeleteRun {
                name: r.name.clone(),
            })
            .collect();
        self.actions.extend(deletes);
    }
}
