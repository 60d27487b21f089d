//! What became of the versions of a Deployment: when each was last complete, and that one was taken back. It is noted on the
//! ReplicaSets, as for a Rollout.

use jiff::Timestamp;
use serin_api::keys::annotation;
use serin_api::rollout::Undo;

use super::revisions::Family;
use super::{Desired, Draft, Observed};
use crate::workload::ReplicaSetView;

/// What is noted on a version that was taken back: when, by whom, and why.
const TAKEN_BACK: [&str; 3] = [
    annotation::TAKEN_BACK_AT,
    annotation::TAKEN_BACK_BY,
    annotation::TAKEN_BACK_WHY,
];

/// Who goes back when a client does not say.
const SOMEBODY: &str = "somebody";

fn time(rs: &ReplicaSetView, key: &str) -> Option<Timestamp> {
    rs.annotations.get(key)?.parse().ok()
}

/// Why the wanted version is held, where a policy holds what was taken back: nobody has tried it again since, and there is an
/// older one that serves.
pub(super) fn hold(observed: &Observed, family: &Family<'_>) -> Option<String> {
    let new = family.new.filter(|_| observed.hold_rejected)?;
    let [at, by, why] = TAKEN_BACK;
    let at = time(new, at)?;
    let retried = observed.annotations.get(annotation::RETRIED_AT);
    let retried: Option<Timestamp> = retried.and_then(|text| text.parse().ok());
    let serves = family.old.iter().any(|old| old.available > 0);
    if !serves || retried.is_some_and(|retried| retried >= at) {
        return None;
    }
    let note = |key: &str| new.annotations.get(key).cloned().unwrap_or_default();
    let (by, why) = (note(by), note(why));
    Some(format!(
        "held: taken back at {at:.0} by {by} ({why}); a retry allows it"
    ))
}

impl Draft {
    /// Notes on the wanted version that all users are on it, at the moment when that has become so: a way back then leads to a
    /// version that was complete once, and never to one that did not come up.
    pub(super) fn remember(&mut self, desired: &Desired, family: &Family<'_>, now: Timestamp) {
        let Some(new) = family.new else {
            return;
        };
        let all = desired.replicas;
        let complete = all > 0 && new.settled && new.desired == all && new.available >= all;
        if !complete || family.old.iter().any(|old| old.desired > 0) {
            return;
        }
        let promoted = |rs: &ReplicaSetView| time(rs, annotation::PROMOTED_AT);
        let before = family.old.iter().filter_map(|rs| promoted(rs)).max();
        let known = promoted(new).filter(|at| before.is_none_or(|before| before < *at));
        if known.is_none() {
            let note = (annotation::PROMOTED_AT.to_owned(), Some(now.to_string()));
            self.update(new).annotations.extend([note]);
        }
        // What is wanted and has the users is good until somebody goes back from it.
        let remarks = TAKEN_BACK.into_iter();
        let remarks = remarks.filter(|key| new.annotations.contains_key(*key));
        let remarks: Vec<_> = remarks.map(|key| (key.to_owned(), None)).collect();
        if !remarks.is_empty() {
            self.update(new).annotations.extend(remarks);
        }
    }

    /// Notes on the version that is left, when one that was good is wanted again, that it was taken back: no way back leads to
    /// it. To be called before the wanted version is numbered anew, as that is how the moment is known.
    pub(super) fn leave(&mut self, observed: &Observed, family: &Family<'_>, now: Timestamp) {
        let good = |rs: &&ReplicaSetView| {
            let taken_back = rs.annotations.contains_key(annotation::TAKEN_BACK_AT);
            rs.annotations.contains_key(annotation::PROMOTED_AT) && !taken_back
        };
        let Some(back) = family.new.filter(good) else {
            return;
        };
        let left = family.old.iter().max_by_key(|rs| rs.revision);
        let later = |left: &&&ReplicaSetView| left.revision > back.revision && back.revision > 0;
        let Some(left) = left.filter(later) else {
            return;
        };
        let told = observed.annotations.get(annotation::UNDO);
        let told: Option<Undo> = told.and_then(|text| serde_json::from_str(text).ok());
        let told = told.filter(|undo| undo.from == left.hash.as_str());
        let Undo { by, why, .. } = told.unwrap_or_default();
        let by = if by.is_empty() {
            SOMEBODY.to_owned()
        } else {
            by
        };
        let mut all = format!("undone: back to revision {}", back.revision);
        if !why.is_empty() {
            all = format!("{all}: {why}");
        }
        let remarks = TAKEN_BACK.into_iter().zip([now.to_string(), by, all]);
        let remarks = remarks.map(|(key, value)| (key.to_owned(), Some(value)));
        self.update(left).annotations.extend(remarks);
    }
}
