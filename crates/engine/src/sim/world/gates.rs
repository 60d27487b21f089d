//! What people say at gates.

use serin_api::rollout::GateAnswer;
use serin_api::waiting::WaitingOn;

use super::World;

impl World {
    /// Somebody has an answer at the gate that is waited for, if any.
    pub(super) fn answer_gate(&mut self, approved: bool) {
        let Some(WaitingOn::Gate { name }) = self.status.waiting_on.clone() else {
            return;
        };
        let answer = GateAnswer {
            revision: self.status.current_pod_hash.clone().unwrap_or_default(),
            approved,
            by: "anna".into(),
            why: String::new(),
        };
        self.status.gates.insert(name, answer);
        self.changed = true;
    }
}
