//! Connections to endpoints, kept by each worker for itself, so that no lock is ever waited for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fnv::{FnvHashMap, FnvHashSet};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::RecvFlags;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::RequestBody;
use crate::instances::Endpoint;

/// Shorter than the keep-alive time of common servers (5 s), so that they seldom close first.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one endpoint by one worker.
const MOST_IDLE: usize = 128;
/// The longest head of an answer.
const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// A connection that can take a request.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    /// A second descriptor of the socket, to look whether its other end has closed.
    probe: OwnedFd,
    endpoint: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<FnvHashMap<u64, Vec<(Instant, Connection)>>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, FnvHashMap<u64, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last. With `probe` the socket itself is asked whether the other end has closed, which
    /// costs a system call: for requests that could not be repeated.
    pub(super) fn take(&self, endpoint: &Endpoint, probe: bool) -> Option<Connection> {
        let mut all = self.lock();
        let idle = all.get_mut(&endpoint.id)?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let (_, connection) = idle.get(at)?;
            if connection.sender.is_closed() || (probe && !connection.is_quiet()) {
                idle.remove(at);
            } else if connection.sender.is_ready() {
                return Some(idle.remove(at).1);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended.
    pub(super) fn put(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut all = self.lock();
        let idle = all.entry(connection.endpoint).or_default();
        if idle.len() < MOST_IDLE {
            idle.push((Instant::now(), connection));
        }
    }

    /// Closes what has been idle for long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, idle| {
            idle.retain(|(since, connection)| {
                !connection.sender.is_closed() && now.duration_since(*since) < IDLE
            });
            !idle.is_empty()
        });
    }

    /// Closes the idle connections to every endpoint that is not in `present`.
    pub(crate) fn keep_only(&self, present: &FnvHashSet<u64>) {
        self.lock().retain(|endpoint, _| present.contains(endpoint));
    }
}

impl Connection {
    /// Opens a connection. With `upgradable` it can change its protocol.
    pub(super) async fn open(
        endpoint: &Arc<Endpoint>,
        timeout: Duration,
        upgradable: bool,
    ) -> std::io::Result<Self> {
        let connect = TcpStream::connect(endpoint.address);
        let stream = tokio::time::timeout(timeout, connect).await??;
        let _ = stream.set_nodelay(true);
        let probe = stream.as_fd().try_clone_to_owned()?;
        let mut builder = http1::Builder::new();
        builder.max_header_size(MAX_ANSWER_HEAD);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(std::io::Error::other)?;
        if upgradable {
            tokio::spawn(async move {
                let _ = connection.with_upgrades().await;
            });
        } else {
            tokio::spawn(async move {
                let _ = connection.await;
            });
        }
        Ok(Self {
            sender,
            probe,
            endpoint: endpoint.id,
        })
    }

    /// Whether the other end has neither closed nor sent anything.
    fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let read = rustix::net::recv(&self.probe, &mut byte[..], flags);
        matches!(read, Err(rustix::io::Errno::AGAIN))
    }
}
