//! Visitors: constant requests on a few kept connections, every answer accounted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::waiting::poll;
use super::web::Connection;

/// Connections at a time.
const CONNECTIONS: usize = 6;
/// The time from one request to the next on a connection.
const PACE: Duration = Duration::from_millis(20);
/// More requests than can be in flight at a time.
const IN_FLIGHT: u64 = 20;
/// Requests that show who answers.
const COUNTED: u64 = 600;
/// Failures that are told; all are counted.
const TOLD: usize = 20;

/// What visitors have seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers with status 200 by who gave them.
    pub versions: BTreeMap<String, u64>,
    /// Requests with another answer, or none.
    pub failed: u64,
    /// What the first of them were told.
    pub failures: Vec<String>,
}

impl Seen {
    /// All requests that ended.
    pub fn requests(&self) -> u64 {
        self.failed + self.versions.values().sum::<u64>()
    }

    /// Answers of one version.
    pub fn of(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or(0)
    }

    /// Panics when a request failed.
    pub fn assert_none_failed(&self) {
        assert_eq!(self.failed, 0, "{self:#?}");
    }
}

/// Requests for `GET /` that go on until they are stopped. Dropping stops them, too.
pub struct Visitors {
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Visitors {
    /// Starts with connections to the gateway and a Host header.
    pub fn start(gateway: SocketAddr, host: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (seen, stop, host) = (Arc::clone(&seen), stop.clone(), host.to_owned());
            tasks.spawn(async move { visit(gateway, &host, &seen, &stop).await });
        }
        Self { seen, stop, tasks }
    }

    /// What they have seen until now.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Forgets what was seen, so that the next look tells of what comes now. Requests in flight count to what comes.
    pub fn forget(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Waits until this many more requests have ended.
    pub async fn await_more(&self, requests: u64) {
        let wanted = self.seen().requests() + requests;
        let enough = async || (self.seen().requests() >= wanted).then_some(());
        poll("requests", enough).await;
    }

    /// Panics unless one version alone answers from now on; a failure before that counts, too.
    pub async fn assert_answered_by(&self, version: &str) {
        self.forget().assert_none_failed();
        // What was asked before may still come.
        self.await_more(IN_FLIGHT).await;
        self.forget().assert_none_failed();
        self.await_more(COUNTED).await;
        let seen = self.forget();
        seen.assert_none_failed();
        assert_eq!(seen.of(version), seen.requests(), "{seen:#?}");
    }

    /// Finishes what is in flight, and tells.
    pub async fn stop(mut self) -> Seen {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.seen()
    }
}

async fn visit(gateway: SocketAddr, host: &str, seen: &Mutex<Seen>, stop: &CancellationToken) {
    let mut kept: Option<Connection> = None;
    let mut due = interval(PACE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let answer = async {
            let mut usable = kept.take();
            if let Some(connection) = &mut usable
                && !connection.is_open().await
            {
                usable = None;
            }
            let mut connection = match usable {
                Some(connection) => connection,
                None => Connection::open(gateway).await?,
            };
            let answer = connection.get(host, "/", &[]).await?;
            kept = Some(connection);
            if answer.status == 200 {
                Ok(answer.version().to_owned())
            } else {
                Err(format!("status {}: {}", answer.status, answer.body.trim()))
            }
        };
        let answer = answer.await;
        let mut seen = seen.lock().unwrap();
        match answer {
            Ok(version) => *seen.versions.entry(version).or_default() += 1,
            Err(failure) => {
                seen.failed += 1;
                if seen.failures.len() < TOLD {
                    seen.failures.push(failure);
                }
            }
        }
    }
}
