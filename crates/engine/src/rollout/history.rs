//! What became of each revision: promoted, or taken back, by whom and why. It is remembered with the revision, so that a way
//! back never leads to one that was found bad, and the same template does not come again by itself.

use std::fmt;

use jiff::Timestamp;
use serin_api::rollout::Decision;
use serin_api::units::RevisionHash;

use super::Action;
use super::observed::Revision;
use super::planner::Planner;

/// What became of a revision so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the users were last put on it; `None` when they never were, as far as is known.
    pub promoted_at: Option<Timestamp>,
    /// How it was taken back; `None` when it was not, or was promoted or tried again since.
    pub taken_back: Option<TakenBack>,
}

/// How a revision was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// When.
    pub at: Timestamp,
    /// Who: a person by name, or what acted by itself.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What is remembered of a revision from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The users are on it.
    Promoted {
        /// Since when.
        at: Timestamp,
    },
    /// It was taken back.
    TakenBack(TakenBack),
    /// A person tries it again: what was found is forgotten.
    Forgiven,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted { .. } => f.write_str("promoted"),
            Self::TakenBack(TakenBack { by, why, .. }) => write!(f, "taken back by {by}: {why}"),
            Self::Forgiven => f.write_str("tried again"),
        }
    }
}

/// Who takes a release back when a condition does.
const BY_ITSELF: &str = "condition";
/// Who does when a client does not say.
const SOMEBODY: &str = "somebody";

impl Revision {
    /// Whether users were on it and nobody found it bad: a place to go back to.
    pub fn is_good(&self) -> bool {
        self.history.promoted_at.is_some() && self.history.taken_back.is_none()
    }
}

impl Planner<'_> {
    /// Takes the release back because something was found: from now on the stable revision is where all goes.
    pub(super) fn abort(&mut self, why: &str) {
        self.abort_by(BY_ITSELF, why);
    }

    /// Takes the release back because a client asked for it.
    pub(super) fn abort_as_asked(&mut self) {
        let Decision { by, why } = self.next.decision.take().unwrap_or_default();
        let why = if why.is_empty() {
            "a person asked for it"
        } else {
            &why
        };
        self.abort_by(if by.is_empty() { SOMEBODY } else { &by }, why);
    }

    pub(super) fn abort_by(&mut self, by: &str, why: &str) {
        self.take_back(why);
        let known = self
            .revision()
            .is_none_or(|r| r.history.taken_back.is_some());
        if !known {
            self.remember_taken_back(self.current.clone(), by, why.to_owned());
        }
    }

    fn remember_taken_back(&mut self, revision: RevisionHash, by: &str, why: String) {
        let event = Event::TakenBack(TakenBack {
            at: self.now,
            by: by.to_owned(),
            why,
        });
        self.memories.push(Action::Remember { revision, event });
    }

    /// A person tries the revision again.
    pub(super) fn forgive(&mut self) {
        self.next.decision = None;
        if self
            .revision()
            .is_some_and(|r| r.history.taken_back.is_some())
        {
            self.memories.push(Action::Remember {
                revision: self.current.clone(),
                event: Event::Forgiven,
            });
        }
    }

    /// The wanted revision was `left` and is another one now. Going back to one that the users were on before, or are on, says
    /// that the one that is left was no good.
    pub(super) fn leave(&mut self, left: Option<RevisionHash>) {
        let observed = self.observed;
        let Some(left) = left.as_ref().and_then(|left| observed.revision(left)) else {
            return;
        };
        let back = self.revision().filter(|r| r.number < left.number);
        let back = back.filter(|r| r.is_good() || self.stable().as_ref() == Some(&r.hash));
        if let Some(back) = back
            && left.history.taken_back.is_none()
        {
            let told = observed.governed.undo.as_ref();
            let told = told.filter(|undo| undo.from == left.hash.as_str());
            let by = told
                .map(|undo| undo.by.as_str())
                .filter(|by| !by.is_empty());
            let mut why = format!("undone: back to revision {}", back.number);
            if let Some(reason) = told.map(|undo| &undo.why).filter(|why| !why.is_empty()) {
                why = format!("{why}: {reason}");
            }
            self.remember_taken_back(left.hash.clone(), by.unwrap_or(SOMEBODY), why);
            if self.stable().as_ref() == Some(&back.hash) {
                self.tell_group();
            }
        }
    }

    /// A revision that was taken back is not tried again by itself: it waits, as after an abort, until a person retries it.
    pub(super) fn hold_if_rejected(&mut self) {
        let elsewhere = self
            .stable()
            .is_some_and(|stable| stable != self.current && self.observed.available(&stable) > 0);
        let holds = self.observed.governed.policy.hold_rejected && elsewhere && !self.next.abort;
        let forgiven = self.memories.iter().any(|m| {
            matches!(
                m,
                Action::Remember {
                    event: Event::Forgiven,
                    ..
                }
            )
        });
        if !holds || forgiven {
            return;
        }
        let taken_back = self.revision().and_then(|r| r.history.taken_back.as_ref());
        if let Some(TakenBack { at, by, why }) = taken_back {
            let why = format!("held: taken back at {at:.0} by {by} ({why}); a retry allows it");
            self.take_back(&why);
        }
    }

    /// Remembers when the users were put on the revision that they are on.
    pub(super) fn remember_promotion(&mut self) {
        let Some(stable) = self.stable().and_then(|s| self.observed.revision(&s)) else {
            return;
        };
        let moved = self.observed.stable().as_ref() != Some(&stable.hash);
        // What is wanted and has the users is good until something else is found.
        let vindicated = stable.hash == self.current && stable.history.taken_back.is_some();
        if moved || vindicated || stable.history.promoted_at.is_none() {
            self.memories.push(Action::Remember {
                revision: stable.hash.clone(),
                event: Event::Promoted { at: self.now },
            });
        }
    }
}
