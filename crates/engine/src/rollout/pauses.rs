//! Pauses: those of steps, and those in which a person is asked.

use jiff::SignedDuration;
use serin_api::conditions::micro_time;
use serin_api::rollout::{PauseCondition, PauseReason};
use serin_api::waiting::WaitingOn;

use super::planner::Planner;

impl Planner<'_> {
    /// Pauses for a reason, for a time or (`None`) until a person goes on. `true` when the pause is over; it stays over until
    /// [`Self::end_pause`].
    ///
    /// The two fields of the contract: a pause of ours that has no condition left was ended by a person.
    pub(super) fn pause(&mut self, reason: PauseReason, duration: Option<SignedDuration>) -> bool {
        let conditions = self.next.pause_conditions.clone().unwrap_or_default();
        let Some(condition) = conditions.iter().find(|c| c.reason == reason) else {
            if self.next.controller_pause && conditions.is_empty() {
                return true;
            }
            self.next.pause_conditions = Some(vec![PauseCondition {
                reason,
                start_time: micro_time(self.now),
            }]);
            self.next.controller_pause = true;
            self.next.canary.paused_step = self.next.current_step_index;
            self.note(false, "RolloutPaused", format!("paused: {}", why(reason)));
            self.wait_in_pause(reason, duration.map(|d| self.now + d));
            return false;
        };
        let until = duration.map(|d| condition.start_time.0 + d);
        if until.is_some_and(|until| until <= self.now) {
            return true;
        }
        self.wait_in_pause(reason, until);
        false
    }

    fn wait_in_pause(&mut self, reason: PauseReason, until: Option<jiff::Timestamp>) {
        match until {
            Some(until) => {
                self.wake(until);
                self.wait(WaitingOn::Pause { until });
            }
            None => self.wait(WaitingOn::Decision {
                why: why(reason).to_owned(),
            }),
        }
    }

    pub(super) fn end_pause(&mut self) {
        self.next.pause_conditions = None;
        self.next.controller_pause = false;
        self.next.canary.paused_step = None;
        self.note(false, "RolloutResumed", "the pause is over".to_owned());
    }

    /// Whether nothing may go on; says why.
    pub(super) fn held(&mut self) -> bool {
        if self.desired.paused {
            self.wait(WaitingOn::Paused);
        }
        self.is_held()
    }
}

fn why(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::CanaryPauseStep => "a pause step",
        PauseReason::BlueGreenPause => "the switch must be promoted",
        PauseReason::InconclusiveAnalysisRun => {
            "an analysis was inconclusive: promote to measure again, or abort"
        }
        PauseReason::InconclusiveExperiment => "an experiment was inconclusive",
    }
}
