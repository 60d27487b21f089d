//! What becomes of a revision that was taken back.

use jiff::SignedDuration;
use serin_api::waiting::WaitingOn;

use super::Action;
use super::planner::Planner;

impl Planner<'_> {
    /// Keeps the instances of the aborted revision for a while, so that they can be looked at, then scales them to 0. To be
    /// called only when no request reaches them. `None` keeps them for ever.
    pub(super) fn retire_aborted(&mut self, delay: Option<SignedDuration>) {
        let Some(revision) = self.revision() else {
            return;
        };
        let why = self
            .next
            .message
            .clone()
            .unwrap_or_else(|| "it was taken back".to_owned());
        let since = self.next.aborted_at.as_ref().map_or(self.now, |t| t.0);
        if let Some(delay) = delay
            && revision.desired > 0
        {
            let until = since + delay;
            if until <= self.now {
                self.actions.push(Action::Scale {
                    revision: revision.hash.clone(),
                    to: 0,
                });
            } else {
                if revision.keep_until != Some(until) {
                    self.actions.push(Action::KeepUntil {
                        revision: revision.hash.clone(),
                        until: Some(until),
                    });
                }
                self.wake(until);
            }
        }
        self.wait(WaitingOn::NewRevision { why });
    }
}
