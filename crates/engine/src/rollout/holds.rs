//! What a policy holds a release for: times in which nothing goes on, and gates at which a person is asked. A way back is
//! never held.

use jiff::Timestamp;
use serin_api::release::{Before, Gate, Webhook};
use serin_api::rollout::GateAnswer;
use serin_api::units::RevisionHash;
use serin_api::waiting::WaitingOn;

use super::Action;
use super::planner::Planner;

/// Why a release does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) why: WaitingOn,
    /// Whether not even its first instance may be made.
    pub(super) from_the_start: bool,
}

/// What the service of a gate is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The gate.
    pub gate: String,
    /// The revision that is to pass it.
    pub revision: RevisionHash,
    /// The revision that the users are on.
    pub stable: Option<RevisionHash>,
    /// The step that is to begin, from 1; `None` after the last.
    pub step: Option<usize>,
    /// Who is asked.
    pub webhook: Webhook,
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
        if self.follow_group_back() {
            return;
        }
        let observed = self.observed;
        let gates = &observed.governed.policy.gates;
        if let Some(why) = gates.iter().find_map(|gate| self.rejection(gate)) {
            let (by, why) = why;
            self.abort_by(&by, &why);
            return;
        }
        let mut question = None;
        let hold = self.freeze().or_else(|| self.group_hold());
        self.hold = hold.or_else(|| {
            let mut shut = gates.iter().filter(|gate| self.is_reached(gate));
            let gate = shut.find(|gate| !self.is_open(gate))?;
            question = self.question(gate);
            Some(Hold {
                why: WaitingOn::Gate {
                    name: gate.name.clone(),
                },
                from_the_start: gate.before == Before::Start,
            })
        });
        self.memories.extend(question.map(Action::Ask));
        if let Some(Hold { why, .. }) = self.hold.clone() {
            if let WaitingOn::Freeze { until, .. } = &why {
                self.wake(*until);
            }
            self.wait(why);
        }
    }

    /// The window that `now` is in, of several the one that ends last. A release that has begun keeps its instances. A person
    /// who skips all steps skips the window too.
    fn freeze(&self) -> Option<Hold> {
        if self.next.promote_full {
            return None;
        }
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

    fn question(&self, gate: &Gate) -> Option<Question> {
        let index = self.step_index();
        Some(Question {
            gate: gate.name.clone(),
            revision: self.current.clone(),
            stable: self.stable(),
            step: (index < self.steps().len()).then_some(index + 1),
            webhook: gate.webhook.clone()?,
        })
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
