//! Active health checks: instances are asked whether they are well, and left out while they are not.
//!
//! One task asks for all workers and all routes. What it learns is in the endpoints that the workers choose from, beside what the
//! workers learn from answers themselves. Absent on purpose: nothing here chooses; that nobody is left out when too many would be
//! is decided where an instance is chosen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::control::sleep_until;
use crate::instances::{Endpoint, Instances};
use crate::names::ObjectName;
use crate::table::{HealthCheck, Protocol, RouteTable};
use crate::tls::Connector;

mod probe;
mod schedule;

pub(crate) use probe::ask;
use schedule::{Change, Schedule};

/// Checks under way at once; beyond it those that are due wait.
const MOST_AT_ONCE: usize = 64;

/// An address that is asked for a Service, and the endpoints that its answer is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) service: ObjectName,
    pub(crate) address: SocketAddr,
    /// What is spoken there.
    pub(crate) protocol: Protocol,
    /// What makes the connection one by TLS, where that is spoken.
    pub(crate) tls: Option<Arc<Connector>>,
    pub(crate) check: HealthCheck,
    endpoints: Vec<Arc<Endpoint>>,
}

/// What is told of the checks.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) passed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) out: ArcSwap<Vec<Out>>,
}

/// An address that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Out {
    pub(crate) service: ObjectName,
    pub(crate) address: SocketAddr,
    /// Why, as the last check said.
    pub(crate) why: String,
}

/// Everything that is to be asked for `table`.
pub(crate) fn targets(table: &RouteTable, instances: &mut Instances) -> Vec<Target> {
    let mut targets = BTreeMap::new();
    for (service, entry) in &table.services {
        let Some(check) = &entry.policy.health else {
            continue;
        };
        let ports = entry.ports.iter();
        for (port, one) in ports.flat_map(|port| port.endpoints.iter().map(move |e| (port, e))) {
            let (asked, protocol) = match check.port {
                Some(other) => (other, Protocol::Http1),
                None => (one.address.port(), port.protocol),
            };
            let address = SocketAddr::new(one.address.ip(), asked);
            let target = targets.entry((service, address)).or_insert_with(|| Target {
                service: service.clone(),
                address,
                protocol,
                tls: None,
                check: check.clone(),
                endpoints: Vec::new(),
            });
            let endpoint = instances.endpoint(one, port);
            if check.port.is_none() {
                target.tls.clone_from(&endpoint.tls);
            }
            target.endpoints.push(endpoint);
        }
    }
    targets.into_values().collect()
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.service == other.service
            && self.address == other.address
            && self.protocol == other.protocol
            && self.check == other.check
            && self.has_endpoints_of(other)
    }
}

impl Target {
    /// Whether it is about the very same instances: another one may come to have the address of one that has gone.
    fn has_endpoints_of(&self, other: &Self) -> bool {
        let ids = |target: &Self| -> Vec<u64> { target.endpoints.iter().map(|e| e.id).collect() };
        ids(self) == ids(other)
    }
}

/// Asks by `ask` whatever `targets` has, until nobody changes it any more.
pub(crate) async fn run<A>(
    mut targets: watch::Receiver<Vec<Target>>,
    report: &Report,
    ask: impl Fn(Target) -> A,
) where
    A: Future<Output = Result<(), String>>,
{
    let mut schedule = Schedule::default();
    let mut asked = FuturesUnordered::new();
    targets.mark_changed();
    loop {
        while asked.len() < MOST_AT_ONCE
            && let Some((id, target)) = schedule.next_due(Instant::now())
        {
            let answer = ask(target);
            asked.push(async move { (id, answer.await) });
        }
        let wake_at = schedule.wake_at().filter(|_| asked.len() < MOST_AT_ONCE);
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                let all = targets.borrow_and_update().clone();
                schedule.set(all, Instant::now());
                report.out.store(Arc::new(schedule.out()));
            }
            Some((id, answer)) = asked.next() => {
                let count = if answer.is_ok() { &report.passed } else { &report.failed };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(change) = schedule.take(id, answer) {
                    tell(&change);
                    report.out.store(Arc::new(schedule.out()));
                }
            }
            () = sleep_until(wake_at) => {}
        }
    }
}

fn tell(change: &Change) {
    match change {
        Change::Out(Out {
            service,
            address,
            why,
        }) => {
            tracing::warn!(%service, %address, why, "an instance is left out: it does not pass its health checks");
        }
        Change::Back { service, address } => {
            tracing::info!(%service, %address, "an instance is back: it passes its health checks");
        }
    }
}

#[cfg(test)]
mod tests;
