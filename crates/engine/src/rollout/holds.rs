//! What a policy holds a release for: times in which nothing goes on, and gates at which a person is asked. A way back is
//! never held.

use jiff::Timestamp;
use serin_api::release::{Before, Gate};
use serin_api::rollout::GateAnswer;
use serin_api::waiting::WaitingOn;

use super::planner::Planner;

/// Why a release does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    why: WaitingOn,
    /// Whether not even its first instance may be made.
    from_the_start: bool,
}

impl Planner<'_> {
    /// Finds what holds the release, and takes in what was said at gates. To be asked when it is known which step it is at.
    pub(super) fn take_in_holds(&mut self) {
        let current = self.current.as_str();
        self.next
            .gates
            .retain(|_, answer| answer.revision == current);
        let updating = self.stable().is_some_and(|stable| stable != self.current);
        if !updating || self.next.abort || self.returns() {
            return;
        }
        let observed = self.observed;
        let gates = &observed.governed.policy.gates;
        if let Some(why) = gates.iter().find_map(|gate| self.rejection(gate)) {
            let (by, why) = why;
            self.abort_by(&by, &why);
            return;
        }
        self.hold = self.freeze().or_else(|| {
            let mut shut = gates.iter().filter(|gate| self.is_reached(gate));
            let gate = shut.find(|gate| !self.is_open(gate))?;
            Some(Hold {
                why: WaitingOn::Gate {
                    name: gate.name.clone(),
                },
                from_the_start: gate.before == Before::Start,
            })
        });
        if let Some(Hold { why, .. }) = self.hold.clone() {
            if let WaitingOn::Freeze { until, .. } = &why {
                self.wake(*until);
            }
            self.wait(why);
        }
    }

    /// The window that `now` is in, of several the one that ends last. A release that has begun keeps its instances.
    fn freeze(&self) -> Option<Hold> {
        let windows = self.observed.governed.policy.freeze.iter();
        let open = windows.filter_map(|window| Some((window.until(self.now)?, &window.name)));
        let (until, window): (Timestamp, &String) = open.max()?;
        Some(Hold {
            why: WaitingOn::Freeze {
                window: window.clone(),
                until,
            },
            from_the_start: true,
        })
    }

    fn is_reached(&self, gate: &Gate) -> bool {
        match gate.before {
            Before::Start => true,
            Before::Step(step) => self.step_index() >= step.min(self.steps().len()),
            Before::Promotion => self.step_index() >= self.steps().len(),
        }
    }

    fn answer(&self, gate: &Gate) -> Option<&GateAnswer> {
        let answer = self.next.gates.get(&gate.name)?;
        (answer.revision == self.current.as_str()).then_some(answer)
    }

    fn is_open(&self, gate: &Gate) -> bool {
        self.answer(gate).is_some_and(|answer| answer.approved)
    }

    /// Who rejected the release at this gate, and why.
    fn rejection(&self, gate: &Gate) -> Option<(String, String)> {
        let answer = self.answer(gate).filter(|answer| !answer.approved)?;
        let mut why = format!("{} was rejected", gate.name);
        if !answer.why.is_empty() {
            why = format!("{why}: {}", answer.why);
        }
        Some((answer.by.clone(), why))
    }

    /// Whether nothing may go on: `spec.paused` or a policy says so.
    pub(super) fn is_held(&self) -> bool {
        self.desired.paused || self.hold.is_some()
    }

    /// Whether the release is held and has no instance yet: then it gets none.
    pub(super) fn is_held_from_the_start(&self) -> bool {
        let none = self.revision().is_none_or(|r| r.desired == 0);
        none && self.hold.as_ref().is_some_and(|hold| hold.from_the_start)
    }
}
