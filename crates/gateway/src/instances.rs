//! Instances and their requests in flight: the only state that outlives a table and that all workers share.
//!
//! One atomic word holds both the count and whether the instance is closed. So a request that enters and a table that closes
//! are always seen in one order: either the request is counted before the close, and the drain waits for it, or it is refused.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::proxy::Phase;
use crate::table::{BackendTls, EndpointEntry, PortEntry, Protocol, RouteTable};
use crate::tls::{Backends, Connector};

const CLOSED: usize = 1 << (usize::BITS - 1);

/// A pod, or an address with no pod behind it.
#[derive(Debug)]
pub(crate) struct Instance {
    state: AtomicUsize,
    drained: Arc<Notify>,
    /// Whether long-lived connections are to go.
    cut: watch::Sender<bool>,
}

impl Instance {
    fn new(drained: Arc<Notify>) -> Self {
        Self {
            state: AtomicUsize::new(0),
            drained,
            cut: watch::Sender::new(false),
        }
    }

    /// Counts one more request; `None` when nothing new may go to the instance.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let before = self.state.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(self));
        (before & CLOSED == 0).then_some(guard)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state.load(Ordering::SeqCst) & !CLOSED
    }

    fn is_idle_and_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CLOSED
    }

    fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
    }

    fn open(&self) {
        self.state.fetch_and(!CLOSED, Ordering::SeqCst);
        self.cut.send_if_modified(std::mem::take);
    }
}

/// One request in flight, until its answer has ended.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Instance>);

impl InFlight {
    /// Ends when what lives long is to go: the drain of the instance has reached its limit, or the gateway leaves.
    pub(crate) fn to_go(
        &self,
        mut phase: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut cut = self.0.cut.subscribe();
        async move {
            let cut = async {
                if cut.wait_for(|cut| *cut).await.is_err() {
                    // An instance is forgotten only when nothing is in flight.
                    std::future::pending().await
                }
            };
            let leaves = async {
                if phase
                    .wait_for(|phase| *phase >= Phase::Cutting)
                    .await
                    .is_err()
                {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = cut => {}
                () = leaves => {}
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::SeqCst) == CLOSED | 1 {
            self.0.drained.notify_one();
        }
    }
}

/// An address of an instance.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Unlike the address never used again, so a connection is never taken for one to another pod with the same address.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// What makes a connection one by TLS, where that is spoken.
    pub(crate) tls: Option<Arc<Connector>>,
    pub(crate) instance: Arc<Instance>,
    /// Milliseconds since the start of the process until which others are preferred; it could not be reached, or it is left out.
    suspect_until: AtomicU64,
    /// Failures in a row.
    pub(crate) failures: AtomicU32,
    /// How often it was left out.
    pub(crate) ejections: AtomicU32,
    /// Health checks that it does not pass, each of another Service.
    pub(crate) ailments: AtomicU32,
}

impl Endpoint {
    /// Whether it is spoken to by HTTP/1.1 without TLS.
    pub(crate) fn is_plain_http1(&self) -> bool {
        self.protocol == Protocol::Http1 && self.tls.is_none()
    }

    /// Whether others are preferred.
    pub(crate) fn is_out(&self, now_ms: u64) -> bool {
        self.suspect_until.load(Ordering::Relaxed) > now_ms
            || self.ailments.load(Ordering::Relaxed) > 0
    }

    /// Others are preferred until then, and for longer where that was said before.
    pub(crate) fn suspect_until(&self, ms: u64) {
        self.suspect_until.fetch_max(ms, Ordering::Relaxed);
    }
}

/// An instance, its address, and how it is spoken to.
type Key = (String, SocketAddr, Protocol, Option<BackendTls>);

/// Every instance of the table in use, and those that still finish requests.
#[derive(Debug)]
pub(crate) struct Instances {
    drained: Arc<Notify>,
    instances: HashMap<String, Arc<Instance>>,
    endpoints: HashMap<Key, Arc<Endpoint>>,
    pub(crate) backends: Backends,
    next_id: u64,
    /// Since when instances are closed.
    closed: HashMap<String, Instant>,
}

impl Instances {
    /// `drained` is told whenever the last request to a closed instance has ended.
    pub(crate) fn new(drained: Arc<Notify>) -> Self {
        Self {
            drained,
            instances: HashMap::new(),
            endpoints: HashMap::new(),
            backends: Backends::default(),
            next_id: 0,
            closed: HashMap::new(),
        }
    }

    /// The state of an endpoint of a port, the same one for as long as a table has it.
    pub(crate) fn endpoint(&mut self, entry: &EndpointEntry, port: &PortEntry) -> Arc<Endpoint> {
        let (protocol, tls) = (port.protocol, port.tls.as_ref());
        let key = (
            entry.instance.clone(),
            entry.address,
            protocol,
            tls.cloned(),
        );
        if let Some(known) = self.endpoints.get(&key) {
            return Arc::clone(known);
        }
        let fresh = || Arc::new(Instance::new(Arc::clone(&self.drained)));
        let instance = self.instances.entry(entry.instance.clone());
        let instance = Arc::clone(instance.or_insert_with(fresh));
        let endpoint = Arc::new(Endpoint {
            id: self.next_id,
            address: entry.address,
            protocol,
            tls: tls.map(|tls| self.backends.connector(tls, protocol)),
            instance,
            suspect_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ailments: AtomicU32::new(0),
        });
        self.next_id += 1;
        self.endpoints.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Opens what `table` has. To be called before the table is swapped in.
    pub(crate) fn open(&self, table: &RouteTable) {
        for name in names(table) {
            if let Some(instance) = self.instances.get(name) {
                instance.open();
            }
        }
    }

    /// Closes what `table` has not, and forgets what is closed and idle. To be called after the table is swapped in.
    pub(crate) fn close_others(&mut self, table: &RouteTable) {
        let names = names(table);
        let now = Instant::now();
        for (name, instance) in &self.instances {
            if !names.contains(name.as_str()) {
                instance.close();
                self.closed.entry(name.clone()).or_insert(now);
            }
        }
        self.instances.retain(|name, instance| {
            names.contains(name.as_str()) || !instance.is_idle_and_closed()
        });
        let instances = &self.instances;
        self.closed
            .retain(|name, _| instances.contains_key(name) && !names.contains(name.as_str()));
        let present: HashSet<_> = entries(table)
            .map(|e| (e.instance.as_str(), e.address))
            .collect();
        self.endpoints
            .retain(|(name, address, ..), _| present.contains(&(name.as_str(), *address)));
    }

    /// Tells the long-lived connections of instances that have been closed for longer than `limit` to go.
    pub(crate) fn cut_after(&self, limit: Duration, now: Instant) {
        for (name, since) in &self.closed {
            let is_due = now.saturating_duration_since(*since) >= limit;
            if let Some(instance) = self.instances.get(name).filter(|_| is_due) {
                instance
                    .cut
                    .send_if_modified(|cut| !std::mem::replace(cut, true));
            }
        }
    }

    /// The requests in flight to an instance by its uid.
    pub(crate) fn in_flight(&self, uid: &str) -> usize {
        self.instances.get(uid).map_or(0, |i| i.in_flight())
    }

    /// The requests in flight in all.
    pub(crate) fn in_flight_in_all(&self) -> usize {
        self.instances.values().map(|i| i.in_flight()).sum()
    }
}

fn entries(table: &RouteTable) -> impl Iterator<Item = &EndpointEntry> {
    let ports = table.services.values().flat_map(|service| &service.ports);
    ports.flat_map(|port| &port.endpoints)
}

fn names(table: &RouteTable) -> HashSet<&str> {
    entries(table).map(|e| e.instance.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_instance_refuses_and_tells_when_the_last_request_ends() {
        let drained = Arc::new(Notify::new());
        let instance = Arc::new(Instance::new(Arc::clone(&drained)));
        let first = instance.enter().unwrap();
        instance.close();
        assert!(instance.enter().is_none());
        assert_eq!(instance.in_flight(), 1);
        assert!(!instance.is_idle_and_closed());
        drop(first);
        assert!(instance.is_idle_and_closed());
        instance.open();
        assert!(instance.enter().is_some());
    }

    #[test]
    fn many_threads_never_lose_a_count() {
        let instance = Arc::new(Instance::new(Arc::new(Notify::new())));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        drop(instance.enter());
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..1_000 {
                    instance.close();
                    instance.open();
                }
            });
        });
        assert_eq!(instance.in_flight(), 0);
    }
}
