//! Release groups: several Rollouts whose releases go step by step together.
//!
//! Each member looks at the others and waits by itself; nobody leads, so no member is lost with a leader. Before each step, and
//! before the end, a member waits until all others have come as far. The old revision of each stands by until all have all of
//! their users on the new one: until then an abort of one takes all of them back. A way back waits for nobody.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serin_api::conditions::{self, micro_time};
use serin_api::keys::annotation;
use serin_api::rollout::{GroupStatus, Rollout, RolloutStatus};
use serin_api::waiting::WaitingOn;

use super::holds::Hold;
use super::planner::Planner;

/// The group that a Rollout belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The release of the group that the spec of the Rollout is of; `None` when that is not told.
    pub release: Option<String>,
    /// The other members, by name.
    pub others: Vec<Member>,
}

/// Another Rollout of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The release of the group that its spec is of.
    pub release: Option<String>,
    /// Where it stands.
    pub standing: Standing,
    /// When its release was last taken back; `None` when it was not, or was begun again since.
    pub taken_back_at: Option<Timestamp>,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its spec has changed, and nobody has looked at it since.
    Unseen,
    /// Its spec cannot be carried out.
    Invalid,
    /// No users are on it yet: its first revision starts.
    First,
    /// The users are on what it wants.
    Settled,
    /// It carries out a step, from 0.
    At(usize),
    /// All its steps are done.
    AtEnd {
        /// Whether all its users are on the new revision.
        arrived: bool,
    },
    /// Its release was taken back and waits for a person.
    TakenBack,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen => f.write_str("has just been changed"),
            Self::Invalid => f.write_str("has a spec that cannot be carried out"),
            Self::First => f.write_str("starts for the first time"),
            Self::Settled => f.write_str("is complete"),
            Self::At(step) => write!(f, "is at step {}", step + 1),
            Self::AtEnd { arrived: true } => f.write_str("has all its users on the new revision"),
            Self::AtEnd { arrived: false } => f.write_str("is after its last step"),
            Self::TakenBack => f.write_str("was taken back"),
        }
    }
}

/// How far a member is: what it is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A step, from 0.
    Step(usize),
    /// What comes after the last step: all users to the new revision.
    End,
    /// What comes after that: the old revision goes.
    Completion,
}

/// The group and the release of it that a Rollout names.
pub fn membership(rollout: &ObjectMeta) -> Option<(String, Option<String>)> {
    let annotated = |key: &str| rollout.annotations.as_ref()?.get(key).cloned();
    let group = annotated(annotation::RELEASE_GROUP).filter(|name| !name.is_empty())?;
    Some((group, annotated(annotation::RELEASE)))
}

impl Member {
    /// What the others see of a Rollout.
    pub fn of(rollout: &Rollout) -> Self {
        match &rollout.status {
            Some(status) => Self::seen(&rollout.metadata, status),
            None => Self::seen(&rollout.metadata, &RolloutStatus::default()),
        }
    }

    /// The same of its two parts.
    pub(crate) fn seen(metadata: &ObjectMeta, status: &RolloutStatus) -> Self {
        let group = status.release_group.as_ref();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            release: membership(metadata).and_then(|(_, release)| release),
            standing: standing(metadata.generation.unwrap_or(0), status),
            taken_back_at: group.and_then(|g| g.taken_back_at.as_ref()).map(|at| at.0),
        }
    }
}

fn standing(generation: i64, status: &RolloutStatus) -> Standing {
    if status.observed_generation.as_ref() != Some(&generation.to_string()) {
        return Standing::Unseen;
    }
    if conditions::get(&status.conditions, "InvalidSpec").is_some_and(|c| c.status == "True") {
        return Standing::Invalid;
    }
    let stable = status.stable_rs.as_ref();
    let Some(stable) = stable.filter(|stable| !stable.is_empty()) else {
        return Standing::First;
    };
    if status.abort {
        return Standing::TakenBack;
    }
    if status.current_pod_hash.as_ref() == Some(stable) {
        return Standing::Settled;
    }
    let Some(group) = &status.release_group else {
        // It has just come into the group and has not said how many steps it has.
        return Standing::Unseen;
    };
    let index = u32::try_from(status.current_step_index.unwrap_or(0)).unwrap_or(0);
    if index < group.steps {
        return Standing::At(usize::try_from(index).unwrap_or(usize::MAX));
    }
    Standing::AtEnd {
        arrived: group.arrived,
    }
}

/// The first of the others that must come further before a member may do what it is about to do.
pub fn awaited<'a>(
    release: Option<&str>,
    place: Place,
    others: &'a [Member],
) -> Option<&'a Member> {
    others.iter().find(|other| {
        let another_release = release.is_some() && other.release.as_deref() != release;
        another_release || !is_as_far(other.standing, place)
    })
}

fn is_as_far(other: Standing, place: Place) -> bool {
    match (other, place) {
        (Standing::Settled, _) => true,
        (Standing::At(theirs), Place::Step(step)) => theirs >= step,
        (Standing::AtEnd { .. }, Place::Step(_) | Place::End) => true,
        (Standing::AtEnd { arrived }, Place::Completion) => arrived,
        (Standing::At(_), Place::End | Place::Completion)
        | (Standing::Unseen | Standing::Invalid | Standing::First | Standing::TakenBack, _) => {
            false
        }
    }
}

/// The first of the others that was taken back since a release began.
pub fn taken_back_since(since: Timestamp, others: &[Member]) -> Option<&Member> {
    let mut others = others.iter();
    others.find(|other| other.taken_back_at.is_some_and(|at| at >= since))
}

impl Planner<'_> {
    /// The release begins, or begins again: what was taken back before says nothing of it.
    pub(super) fn begin_in_group(&mut self) {
        self.next.release_group = self.observed.group.as_ref().map(|_| GroupStatus {
            since: Some(micro_time(self.now)),
            ..GroupStatus::default()
        });
    }

    /// The others are told that this release is taken back.
    pub(super) fn tell_group(&mut self) {
        if let Some(told) = &mut self.next.release_group {
            told.taken_back_at = Some(micro_time(self.now));
            told.arrived = false;
        }
    }

    /// Goes back with a member that was taken back since this release began. `true` when it does.
    pub(super) fn follow_group_back(&mut self) -> bool {
        let Some(group) = self.observed.group.as_ref() else {
            self.next.release_group = None;
            return false;
        };
        let now = micro_time(self.now);
        let steps = u32::try_from(self.steps().len()).unwrap_or(u32::MAX);
        let known = self.next.release_group.get_or_insert_default();
        known.steps = steps;
        let since = known.since.get_or_insert(now).0;
        let Some(first) = taken_back_since(since, &group.others) else {
            return false;
        };
        let why = format!("{} was taken back", first.name);
        self.abort_by(&format!("release group {}", group.name), &why);
        true
    }

    /// What the group holds the release for.
    pub(super) fn group_hold(&self) -> Option<Hold> {
        let index = self.step_index();
        let place = if index < self.steps().len() {
            Place::Step(index)
        } else {
            Place::End
        };
        Some(Hold {
            why: self.awaited_at(place)?,
            // What only the last place waits for may be made ready before.
            from_the_start: self.awaited_at(Place::Step(0)).is_some(),
        })
    }

    fn awaited_at(&self, place: Place) -> Option<WaitingOn> {
        let group = self.observed.group.as_ref();
        let group = group.filter(|_| !self.next.promote_full)?;
        let release = group.release.as_deref();
        let first = awaited(release, place, &group.others)?;
        let why = match (release, first.standing) {
            (Some(release), _) if first.release.as_deref() != Some(release) => {
                format!("is not of release {release}")
            }
            (_, standing) => standing.to_string(),
        };
        Some(WaitingOn::Group {
            group: group.name.clone(),
            member: first.name.clone(),
            why,
        })
    }

    /// Whether all members have all of their users on the new revision. To be asked when this one has: it says so to the
    /// others.
    pub(super) fn all_arrived(&mut self) -> bool {
        if let Some(told) = &mut self.next.release_group {
            told.arrived = true;
        }
        let Some(why) = self.awaited_at(Place::Completion) else {
            return true;
        };
        self.wait(why);
        false
    }
}

#[cfg(test)]
mod tests;
