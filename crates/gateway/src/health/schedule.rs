//! Which address is to be asked when, and what its answers come to. Pure but for the endpoints that it marks: times come in as values.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Out, Target};
use crate::names::ObjectName;

/// All addresses, each asked anew once its interval is over and its last answer is there.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    checks: HashMap<u64, Check>,
    ids: HashMap<(ObjectName, SocketAddr), u64>,
    due: BTreeSet<(Instant, u64)>,
    next_id: u64,
}

/// An address that has left, or is back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Out(Out),
    Back {
        service: ObjectName,
        address: SocketAddr,
    },
}

/// An address. Its endpoints are marked for as long as it is out and this value lives.
#[derive(Debug)]
struct Check {
    target: Target,
    asked_at: Instant,
    /// Why it is out.
    out: Option<String>,
    /// Answers in a row that say otherwise.
    streak: u32,
}

impl Schedule {
    /// Takes in what is to be asked. What is asked already goes on, with new settings too; what is new counts as well, because the
    /// control plane has called it ready, and is asked at once.
    pub(super) fn set(&mut self, targets: Vec<Target>, now: Instant) {
        let mut kept = HashSet::new();
        for target in targets {
            let key = (target.service.clone(), target.address);
            let known = self.ids.get(&key).and_then(|id| self.checks.get_mut(id));
            if let Some(check) = known.filter(|check| check.target.has_endpoints_of(&target)) {
                check.target = target;
            } else {
                let check = Check {
                    target,
                    asked_at: now,
                    out: None,
                    streak: 0,
                };
                self.due.insert((now, self.next_id));
                self.checks.insert(self.next_id, check);
                self.ids.insert(key.clone(), self.next_id);
                self.next_id += 1;
            }
            kept.insert(key);
        }
        self.ids.retain(|key, _| kept.contains(key));
        let ids: HashSet<u64> = self.ids.values().copied().collect();
        self.checks.retain(|id, _| ids.contains(id));
        self.due.retain(|(_, id)| ids.contains(id));
    }

    /// What is to be asked now; it is not due again before its answer is there.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(u64, Target)> {
        let (_, id) = self.due.first().filter(|(at, _)| *at <= now).copied()?;
        self.due.pop_first();
        let check = self.checks.get_mut(&id)?;
        check.asked_at = now;
        Some((id, check.target.clone()))
    }

    /// When there is something to be asked.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes in an answer. One to a question that nobody asks any more says nothing.
    pub(super) fn take(&mut self, id: u64, answer: Result<(), String>) -> Option<Change> {
        let check = self.checks.get_mut(&id)?;
        let interval = Duration::from_millis(check.target.check.interval_ms);
        self.due.insert((check.asked_at + interval, id));
        check.take(answer)
    }

    /// Everything that is out.
    pub(super) fn out(&self) -> Vec<Out> {
        let out = self.checks.values().filter_map(|check| {
            let why = check.out.clone()?;
            Some(check.target.as_out(why))
        });
        let mut out: Vec<Out> = out.collect();
        out.sort_by(|a, b| (&a.service, a.address).cmp(&(&b.service, b.address)));
        out
    }
}

impl Target {
    fn as_out(&self, why: String) -> Out {
        Out {
            service: self.service.clone(),
            address: self.address,
            why,
        }
    }
}

impl Check {
    fn take(&mut self, answer: Result<(), String>) -> Option<Change> {
        let settings = &self.target.check;
        match (answer, self.out.is_some()) {
            (Ok(()), false) => self.streak = 0,
            (Ok(()), true) => {
                self.streak += 1;
                if self.streak >= settings.successes {
                    self.streak = 0;
                    self.release();
                    return Some(Change::Back {
                        service: self.target.service.clone(),
                        address: self.target.address,
                    });
                }
            }
            (Err(why), true) => {
                self.streak = 0;
                self.out = Some(why);
            }
            (Err(why), false) => {
                self.streak += 1;
                if self.streak >= settings.failures {
                    self.streak = 0;
                    for endpoint in &self.target.endpoints {
                        endpoint.ailments.fetch_add(1, Ordering::Relaxed);
                    }
                    self.out = Some(why.clone());
                    return Some(Change::Out(self.target.as_out(why)));
                }
            }
        }
        None
    }

    fn release(&mut self) {
        if self.out.take().is_some() {
            for endpoint in &self.target.endpoints {
                endpoint.ailments.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.release();
    }
}
