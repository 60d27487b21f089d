//! A load generator that tells what a release costs its users: constant rate, open loop, every request accounted for.
//!
//! Responsible for: sending requests on a schedule that does not wait for answers, and counting each at its scheduled time,
//! so that a stall shows as late and failed requests instead of as fewer requests. A request is lost *to the delivery* when
//! it got no answer of the application; the application's own errors are counted apart.
//!
//! Absent on purpose: it prints nothing, and it never repeats a request that may have reached the other side.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::ledger::Ledger;
use self::outcome::{Ending, Outcome};

pub(crate) use self::ledger::Report;
pub(crate) use self::spec::{LoadSpec, SpecProblem};

pub(crate) mod ledger;
pub(crate) mod outcome;

mod client;
mod latency;
mod spec;

/// How long the name of the host may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Why a load does not start.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Spec(#[from] SpecProblem),
    #[error("cannot find the address of '{authority}'")]
    Resolve {
        authority: String,
        #[source]
        source: io::Error,
    },
}

/// A load that is running. Dropping it cuts it off; [`Load::stop`] ends it with every request accounted for.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

/// Looks into a running load and sets its marks.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spec: Arc<LoadSpec>,
    started: Instant,
    /// The number of the next request; it is due at `started + number / rate`.
    next: AtomicU64,
    stopping: CancellationToken,
    /// When the load was stopped, since its start: requests due later are not sent.
    stopped_at: OnceLock<Duration>,
    ledger: Mutex<Ledger>,
}

impl Load {
    /// Starts the load on the current runtime; its first request is due at once.
    pub(crate) async fn start(spec: LoadSpec) -> Result<Self, LoadError> {
        spec.check()?;
        let addresses = resolve(&spec.authority).await?;
        let connections = spec.connections;
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(spec.expect_version)),
            spec: Arc::new(spec),
            started: Instant::now(),
            next: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            stopped_at: OnceLock::new(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let client = Client::new(Arc::clone(&shared.spec), Arc::clone(&addresses));
            workers.spawn(send_when_due(Arc::clone(&shared), client));
        }
        Ok(Self { shared, workers })
    }

    /// A handle to look into it from elsewhere.
    pub(crate) fn observer(&self) -> Observer {
        Observer {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Ends the load. Every request that was due by now gets its ending first, so this takes at most as long as one request may.
    pub(crate) async fn stop(mut self) -> Report {
        let observer = self.observer();
        let elapsed = self
            .shared
            .stopped_at
            .get_or_init(|| self.shared.started.elapsed());
        self.shared.stopping.cancel();
        while self.workers.join_next().await.is_some() {}
        observer.ledger().report(*elapsed)
    }
}

impl Observer {
    /// Begins a segment with the requests that are due from now on. There are at most 256; further marks are ignored.
    pub(crate) fn mark(&self, name: &str) {
        let at = self.elapsed();
        self.ledger().mark(name, at);
    }

    /// What is known so far; requests in flight are not in it.
    pub(crate) fn report(&self) -> Report {
        let elapsed = self.elapsed();
        self.ledger().report(elapsed)
    }

    /// Since the start of the load.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }
}

impl Shared {
    /// The books. They are whole after each call, so a panic elsewhere does not spoil them.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next request is due, since the start.
    fn next_due(&self) -> Duration {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs_f64(number as f64 / self.spec.rate_per_second)
    }

    fn is_over_before(&self, due: Duration) -> bool {
        self.stopped_at.get().is_some_and(|end| due > *end)
    }
}

/// Sends a single request of the spec.
pub(crate) async fn once(spec: LoadSpec) -> Result<Ending, LoadError> {
    spec.check()?;
    let addresses = resolve(&spec.authority).await?;
    let deadline = Instant::now() + spec.timeout;
    Ok(Client::new(Arc::new(spec), addresses).send(deadline).await)
}

async fn resolve(authority: &str) -> Result<Arc<[SocketAddr]>, LoadError> {
    let failed = |source| LoadError::Resolve {
        authority: authority.to_owned(),
        source,
    };
    let found = timeout(RESOLVE_LIMIT, lookup_host(authority))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    Ok(found.collect())
}

/// One connection: takes the next request of the schedule, waits until it is due, sends it, counts it. Whoever is free takes
/// the next one, so a slow answer holds up nothing but its own connection, and there is no queue that could grow.
async fn send_when_due(shared: Arc<Shared>, mut client: Client) {
    loop {
        let at = shared.next_due();
        let due = shared.started + at;
        let sent = match wait_until(&shared, due).await {
            // Somebody was free in time: what the timer of this process adds is not the other side's delay.
            Punctual::InTime => Instant::now(),
            // Everybody was busy: the user would have been waiting since then.
            Punctual::Late => due,
        };
        if shared.is_over_before(at) {
            return;
        }
        let ending = client.send(due + shared.spec.timeout).await;
        let outcome = Outcome {
            at,
            latency: sent.elapsed(),
            ending,
        };
        shared.ledger().record(&outcome);
    }
}

/// Whether a connection was free when a request was due.
enum Punctual {
    InTime,
    Late,
}

/// Waits until the time, or until the load is stopped.
async fn wait_until(shared: &Shared, due: Instant) -> Punctual {
    if Instant::now() > due {
        return Punctual::Late;
    }
    tokio::select! {
        () = sleep_until(due) => {}
        () = shared.stopping.cancelled() => {}
    }
    Punctual::InTime
}

#[cfg(test)]
mod tests;
