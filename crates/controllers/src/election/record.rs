//! What a Lease says, and whose turn it is: pure, with time as a value.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::Election;

/// How long a Lease stands that does not say so itself.
const UNSAID: Duration = Duration::from_secs(15);

/// What is compared of a Lease: any change of it is a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: Option<String>,
    renewed: Option<Timestamp>,
    stands_for: Duration,
}

/// Who may write the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This one.
    Lead,
    /// Another one, for at least so long.
    Wait(Duration),
}

/// The Lease as it was last seen to change, and when, by this process's own clock.
#[derive(Debug, Default)]
pub(super) struct Sight {
    last: Option<(Record, Duration)>,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let Some(spec) = &lease.spec else {
            return Self::default();
        };
        let seconds = spec
            .lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok());
        Self {
            holder: spec.holder_identity.clone().filter(|h| !h.is_empty()),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            stands_for: seconds
                .filter(|s| *s > 0)
                .map_or(UNSAID, Duration::from_secs),
        }
    }

    /// The Lease as this process writes it.
    pub(super) fn next(lease: Option<&Lease>, election: &Election, now: Timestamp) -> Lease {
        let before = lease.map(Self::of).unwrap_or_default();
        let spec = lease.and_then(|l| l.spec.clone()).unwrap_or_default();
        let mine = before.holder.as_deref() == Some(election.identity.as_str());
        let changes = spec.lease_transitions.unwrap_or(0);
        let first = lease.is_none();
        Lease {
            metadata: lease.map_or_else(
                || ObjectMeta {
                    name: Some(election.name.clone()),
                    namespace: Some(election.namespace.clone()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(election.identity.clone()),
                // Rounded up: who reads it may wait longer than was meant, never shorter.
                lease_duration_seconds: i32::try_from(election.duration.as_millis().div_ceil(1000))
                    .ok(),
                acquire_time: if mine {
                    spec.acquire_time
                } else {
                    Some(MicroTime(now))
                },
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(if mine || first {
                    changes
                } else {
                    changes.saturating_add(1)
                }),
                ..spec
            }),
        }
    }
}

impl Sight {
    /// Whose turn it is, after a look at the Lease at the time `now`.
    pub(super) fn turn(&mut self, lease: Option<&Lease>, me: &str, now: Duration) -> Turn {
        self.see(lease, now);
        let Some((record, since)) = &self.last else {
            return Turn::Lead;
        };
        if record.holder.as_deref().is_none_or(|holder| holder == me) {
            return Turn::Lead;
        }
        let left = (*since + record.stands_for).saturating_sub(now);
        if left.is_zero() {
            Turn::Lead
        } else {
            Turn::Wait(left)
        }
    }

    /// Notes the Lease. One that is as it was keeps the time at which it was first seen so.
    pub(super) fn see(&mut self, lease: Option<&Lease>, now: Duration) {
        let record = lease.map(Record::of);
        match (&self.last, record) {
            (Some((known, _)), Some(record)) if *known == record => {}
            (_, record) => self.last = record.map(|record| (record, now)),
        }
    }

    pub(super) fn is_held_by_another(&self, me: &str) -> bool {
        let holder = self.last.as_ref().and_then(|(r, _)| r.holder.as_deref());
        holder.is_some_and(|holder| holder != me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election(identity: &str) -> Election {
        Election {
            namespace: "serin-system".into(),
            name: "serin-controller".into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken() {
        let mut sight = Sight::default();
        assert_eq!(sight.turn(None, "a", s(0)), Turn::Lead);
        let mut lease = Record::next(None, &election("b"), at(100));
        lease.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(sight.turn(Some(&lease), "a", s(1)), Turn::Lead);
    }

    #[test]
    fn another_ones_lease_is_taken_only_after_it_was_watched_for_its_whole_time() {
        // However old its own times say that it is.
        let lease = Record::next(None, &election("b"), at(0));
        let mut sight = Sight::default();
        assert_eq!(sight.turn(Some(&lease), "a", s(1000)), Turn::Wait(s(15)));
        assert_eq!(sight.turn(Some(&lease), "a", s(1014)), Turn::Wait(s(1)));
        assert_eq!(sight.turn(Some(&lease), "a", s(1015)), Turn::Lead);
        let renewed = Record::next(Some(&lease), &election("b"), at(1));
        assert_eq!(sight.turn(Some(&renewed), "a", s(1015)), Turn::Wait(s(15)));
        assert!(sight.is_held_by_another("a"));
        assert!(!sight.is_held_by_another("b"));
    }

    #[test]
    fn ones_own_lease_is_renewed_and_changes_of_the_leader_are_counted() {
        let first = Record::next(None, &election("a"), at(1));
        let again = Record::next(Some(&first), &election("a"), at(2));
        let other = Record::next(Some(&again), &election("b"), at(3));
        let told = |lease: &Lease| {
            let spec = lease.spec.clone().unwrap();
            (
                spec.acquire_time.unwrap().0.as_second(),
                spec.renew_time.unwrap().0.as_second(),
                spec.lease_transitions.unwrap(),
            )
        };
        assert_eq!(
            [&first, &again, &other].map(told),
            [(1, 1, 0), (1, 2, 0), (3, 3, 1)]
        );
        assert_eq!(Sight::default().turn(Some(&again), "a", s(0)), Turn::Lead);
    }
}
