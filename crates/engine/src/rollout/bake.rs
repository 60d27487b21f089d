//! Bake: all users are on the new revision, and the old one stands by at full size until time and a measurement have shown
//! that it is not needed. Until then the old one is the stable revision, so whatever is found leads back to it as from any step.

use serin_api::conditions::micro_time;
use serin_api::waiting::WaitingOn;

use super::analyses::Outcome;
use super::observed::Role;
use super::planner::Planner;

impl Planner<'_> {
    /// Whether the old revision may go. To be asked when all users are on the new one: it has been watched for long enough, nothing
    /// was found, and the other members of the group are as far.
    pub(super) fn may_complete(&mut self) -> bool {
        self.baked() && self.all_arrived()
    }

    /// Whether the new revision has been watched for long enough and nothing was found.
    fn baked(&mut self) -> bool {
        let observed = self.observed;
        let Some(bake) = observed.governed.policy.bake.as_ref() else {
            return true;
        };
        if self.next.promote_full {
            return true;
        }
        let now = self.now;
        let baking = self.next.bake.get_or_insert_default();
        let until = baking.since.get_or_insert(micro_time(now)).0 + bake.duration;
        let analysed = match &bake.analysis {
            Some(analysis) => self.analyse(Role::Bake, analysis),
            None => Outcome::Passed,
        };
        if analysed == Outcome::Failed {
            return false;
        }
        if until > now {
            self.wake(until);
            self.wait(WaitingOn::Bake { until });
            return false;
        }
        analysed == Outcome::Passed
    }
}
