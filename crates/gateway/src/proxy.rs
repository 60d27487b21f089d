//! Serves connections: one request in, one instance chosen, one answer out, nothing buffered.
//!
//! A request is counted on its instance until its answer has ended, and recorded once. Bodies stream both ways. Absent on
//! purpose: caching; nothing here changes what an application answers, but for the headers of one hop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::health;
use crate::live::LiveTable;
use crate::observers::Observers;
use crate::tls::Tls;

mod answer;
mod body;
mod budget;
mod exchange;
mod failure;
mod forwarded;
mod front;
mod head;
mod io;
mod meter;
mod mirror;
mod pool;
pub(crate) mod proxy_protocol;
mod spare;
mod steps;
pub(crate) mod swift;
mod tap;
mod timers;
mod upgrade;
pub(crate) mod websocket;
pub(crate) mod wire;

use budget::RetryBudget;
pub(crate) use front::{Client, converse, serve};
pub(crate) use io::ClientIo;
use pool::Pool;

/// The longest head of a request, in bytes; a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most headers of a request; more are answered 431. It is the bound that hyper has by itself: for any other one it makes room
/// anew with every request.
const MAX_HEADERS: usize = 100;

/// The bounds of waiting.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a request is held while no instance is ready.
    pub(crate) hold: Duration,
    /// How long one connect may take.
    pub(crate) connect_timeout: Duration,
    /// How long an answer's head may take when the route says nothing.
    pub(crate) head_timeout: Duration,
    /// How long a client may take to send a head, and may stay idle between requests.
    pub(crate) client_idle: Duration,
    /// How long a client may send nothing in the middle of a body.
    pub(crate) body_idle: Duration,
    /// When a connection of HTTP/1 on which nothing moves gives its buffers back.
    pub(crate) rest_after: Duration,
    /// How many requests are held at once; more are answered 503 at once.
    pub(crate) max_held: usize,
    /// How many connections of clients there are at most; more wait to be accepted.
    pub(crate) max_connections: usize,
    /// Whether every connection begins with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// The proxies in front of the gateway whose headers about the client are believed.
    pub(crate) trusted_hops: usize,
    /// Whether instances get `Forwarded` beside `X-Forwarded-*`.
    pub(crate) writes_forwarded: bool,
    /// The port for HTTPS, if there is one.
    pub(crate) https_port: Option<u16>,
    /// Whether plain requests of every host are sent there.
    pub(crate) redirects_all: bool,
    /// Who is told of requests that have ended.
    pub(crate) observers: Arc<Observers>,
    /// Of how many of a million traces that are begun here it is said that they are to be recorded; `None`: none are begun.
    pub(crate) trace_share: Option<u32>,
    /// Until then a request for a host without a route waits for the first reading of the API, as its route may be younger than
    /// the table on disk. `None` where there is no API to read.
    pub(crate) sync_until: Option<Instant>,
}

impl Settings {
    /// Whether anybody wants to know to which trace a request belongs.
    fn looks_at_traces(&self) -> bool {
        self.trace_share.is_some() || !self.observers.is_empty()
    }
}

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; every answer says `Connection: close`.
    Leaving,
    /// Idle connections are closed.
    Closing,
    /// Connections that live long are closed: WebSockets by their own close, streams of events by their end.
    Cutting,
    /// The rest is cut.
    Gone,
}

/// What all workers and the control loop share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<LiveTable>,
    /// The generation of the table, told after each swap.
    pub(crate) swapped: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Whether the table comes from the API; else from disk.
    pub(crate) is_live: AtomicBool,
    pub(crate) settings: Settings,
    pub(crate) tls: Tls,
    pub(crate) started: Instant,
    pub(crate) gauges: Gauges,
    pub(crate) health: health::Report,
}

/// Numbers about the gateway itself.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) connections: AtomicUsize,
    /// Those of HTTP/1 that hold nothing but their socket until the client speaks again.
    pub(crate) resting: AtomicUsize,
    pub(crate) held: AtomicUsize,
    pub(crate) no_route: AtomicU64,
    pub(crate) bad_requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) ejections: AtomicU64,
    /// Copies of requests under way.
    pub(crate) copies: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(settings: Settings, tls: Tls) -> Self {
        Self {
            table: ArcSwap::from_pointee(LiveTable::empty()),
            swapped: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Serving),
            is_live: AtomicBool::new(false),
            settings,
            tls,
            started: Instant::now(),
            gauges: Gauges::default(),
            health: health::Report::default(),
        }
    }

    /// Whether the API may soon tell of routes that are not in the table on disk.
    fn may_know_more_soon(&self) -> bool {
        let until = self.settings.sync_until;
        !self.is_live.load(Ordering::SeqCst) && until.is_some_and(|until| Instant::now() < until)
    }

    /// The time since the start.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) retries: RetryBudget,
    timers: timers::Timers,
    spare: spare::Spare,
    /// Connections of clients.
    living: watch::Sender<usize>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pool: Pool::default(),
            retries: RetryBudget::new(Instant::now()),
            timers: timers::Timers::default(),
            spare: spare::Spare::default(),
            living: watch::Sender::new(0),
        }
    }

    /// Ends when no connection of a client lives.
    pub(crate) async fn idle(&self) {
        // The sender is in `self`, so it cannot go before.
        let _ = self
            .living
            .subscribe()
            .wait_for(|living| *living == 0)
            .await;
    }
}

/// One more in a gauge, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(gauge: &'a AtomicUsize) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of a client, for as long as it lives: also when it has changed its protocol.
pub(crate) struct Living(Arc<Worker>);

impl Living {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        worker.living.send_modify(|living| *living += 1);
        worker
            .shared
            .gauges
            .connections
            .fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.living.send_modify(|living| *living -= 1);
        self.0
            .shared
            .gauges
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
