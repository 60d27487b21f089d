//! The checked form of a policy, with defaults filled in.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Cron, SigningKey};
use crate::rollout::AnalysisRef;
use crate::units::CountOrPercent;

/// What governs the releases of a Rollout beyond its spec. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Whether a revision that was taken back is held when it is asked for again.
    pub hold_rejected: bool,
    /// Whether going back to a revision that was promoted before skips all steps.
    pub instant: bool,
    /// The instances of the last good revision that are kept; `None` for none.
    pub warm: Option<Warm>,
    /// How a new revision is watched before the old one goes; `None` for not at all.
    pub bake: Option<Bake>,
    /// Times in which no release goes on.
    pub freeze: Vec<Freeze>,
    /// What a person must approve.
    pub gates: Vec<Gate>,
    /// The kinds of objects whose content is part of a revision that mounts or reads them; empty for none.
    pub configuration: BTreeSet<ConfigurationKind>,
    /// How a rolling update goes from batch to batch; `None` for all at once, within surge and unavailability.
    pub batches: Option<Batches>,
}

/// How a rolling update goes from batch to batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batches {
    /// Instances of a batch.
    pub size: CountOrPercent,
    /// For how long each is watched.
    pub pause: Option<SignedDuration>,
    /// What is measured after each.
    pub analysis: Option<AnalysisRef>,
}

/// A kind of object that a pod template mounts or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigurationKind {
    /// What everybody may see.
    ConfigMap,
    /// What nobody may see.
    Secret,
}

impl ConfigurationKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConfigMap, Self::Secret];

    /// As manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl fmt::Display for ConfigurationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Times in which no release goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    /// What it is for.
    pub name: String,
    /// When it begins.
    pub schedule: Cron,
    /// How long it lasts.
    pub duration: SignedDuration,
    /// Where it is that time.
    pub zone: TimeZone,
}

impl Freeze {
    /// The end of the window that `now` is in; `None` when it is in none.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.schedule.latest(now, self.duration, &self.zone)?;
        start.checked_add(self.duration).ok()
    }
}

/// What a person must approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// What waits for it.
    pub before: Before,
    /// A service that is asked; `None` when only people are.
    pub webhook: Option<Webhook>,
}

/// A service that approves or rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is asked.
    pub url: String,
    /// For how long an answer is waited for.
    pub deadline: SignedDuration,
    /// After how long it is asked again when it cannot say yet.
    pub interval: SignedDuration,
    /// What each question is signed with.
    pub signing_key: Option<SigningKey>,
}

/// A place in a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Before the first instance of the new revision.
    Start,
    /// Before a step of a canary, from 0.
    Step(usize),
    /// Before all users are on the new revision.
    Promotion,
}

/// Instances that are kept for going back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warm {
    /// So many.
    pub replicas: CountOrPercent,
    /// For so long from the end of the release.
    pub duration: SignedDuration,
}

/// How a new revision is watched while the old one stands by.
#[derive(Clone, Debug, PartialEq)]
pub struct Bake {
    /// For so long.
    pub duration: SignedDuration,
    /// What is measured; it must be good too.
    pub analysis: Option<AnalysisRef>,
}
