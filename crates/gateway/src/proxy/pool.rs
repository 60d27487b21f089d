//! Connections to endpoints, kept by each worker for itself, so that no lock is ever waited for.
//!
//! Requests without a body have connections of their own, which cost less: see [`Wire`].

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fnv::{FnvHashMap, FnvHashSet};
use futures::TryFutureExt;
use futures::future::{Either, ready};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{RecvFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::{RequestBody, Source};
use super::failure::{Failure, classify};
use super::wire::{Asked, Wire, WireError};
use crate::instances::Endpoint;
use crate::table::Protocol;

/// Shorter than the keep-alive time of common servers (5 s), so that they seldom close first.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one endpoint by one worker.
const MOST_IDLE: usize = 128;
/// The longest head of an answer.
pub(super) const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// Requests that one HTTP/2 connection has under way before another one is opened.
const MOST_STREAMS: usize = 100;
/// An instance is asked for a sign of life after so long, and left when it gives none.
const PING_AFTER: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// The system asks an instance of which nothing has come for so long whether its machine is there, this often, and takes no answer
/// for the end: a machine that is gone does not even say that its connections have ended.
const ASK_AFTER: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_TIMES: u32 = 3;

/// What a connection is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Requests without a body.
    Bodiless,
    /// Requests of any kind.
    Any,
    /// One that may change the protocol.
    Upgrade,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum SendError {
    /// Nothing of it was sent.
    Unsent(Box<Request<RequestBody>>),
    Failed(Failure),
}

/// A connection that can take a request.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
    endpoint: u64,
}

#[derive(Debug)]
enum Sender {
    Wire(Box<Wire>),
    /// One request at a time.
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        /// A second descriptor of the socket, to look whether its other end has closed.
        probe: OwnedFd,
    },
    /// Shared by many requests, each with a clone.
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        /// Its clones are the requests under way, and the pool.
        users: Arc<()>,
        scheme: Scheme,
    },
}

/// Connections with when they were last used.
type Idle = FnvHashMap<Shelf, Vec<(Instant, Connection)>>;

/// The endpoint, and whether only requests without a body are carried.
type Shelf = (u64, bool);

#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Idle>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last. With `probe` the socket itself is asked whether the other end has closed, which
    /// costs a system call: for requests that could not be repeated.
    pub(super) fn take(&self, endpoint: &Endpoint, need: Need, probe: bool) -> Option<Connection> {
        if need == Need::Upgrade {
            return None;
        }
        let mut all = self.lock();
        let is_wire = need == Need::Bodiless && endpoint.is_plain_http1();
        let idle = all.get_mut(&(endpoint.id, is_wire))?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let (used, connection) = idle.get_mut(at)?;
            if connection.is_closed() {
                idle.remove(at);
                continue;
            }
            match &connection.sender {
                Sender::Wire(wire) if !probe || is_quiet(wire.stream()) => {
                    return Some(idle.remove(at).1);
                }
                Sender::Wire(_) => {
                    idle.remove(at);
                }
                Sender::Http1 { probe: socket, .. } if probe && !is_quiet(socket) => {
                    idle.remove(at);
                }
                Sender::Http1 { sender, .. } if sender.is_ready() => {
                    return Some(idle.remove(at).1);
                }
                Sender::Http2 { users, .. } if Arc::strong_count(users) <= MOST_STREAMS => {
                    *used = Instant::now();
                    return connection.share();
                }
                Sender::Http1 { .. } | Sender::Http2 { .. } => {}
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended.
    pub(super) fn put(&self, connection: Connection) {
        if connection.is_closed() || matches!(connection.sender, Sender::Http2 { .. }) {
            return;
        }
        self.keep(connection);
    }

    fn keep(&self, connection: Connection) {
        let mut all = self.lock();
        let is_wire = matches!(connection.sender, Sender::Wire(_));
        let idle = all.entry((connection.endpoint, is_wire)).or_default();
        if idle.len() < MOST_IDLE {
            idle.push((Instant::now(), connection));
        }
    }

    /// Opens a connection. One that can be shared is there for others at once.
    pub(super) async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        timeout: Duration,
        need: Need,
    ) -> std::io::Result<Connection> {
        let opening = async {
            let stream = TcpStream::connect(endpoint.address).await?;
            let _ = stream.set_nodelay(true);
            look_after(&stream)?;
            if need == Need::Bodiless && endpoint.is_plain_http1() {
                return Ok(Sender::Wire(Box::new(Wire::new(stream))));
            }
            let probe = stream.as_fd().try_clone_to_owned()?;
            let is_upgradable = need == Need::Upgrade;
            match (endpoint.protocol, &endpoint.tls) {
                (Protocol::Http1, None) => http1(stream, probe, is_upgradable).await,
                (Protocol::Http1, Some(tls)) => {
                    http1(tls.connect(stream).await?, probe, is_upgradable).await
                }
                (Protocol::Http2, None) => http2(stream, Scheme::HTTP).await,
                (Protocol::Http2, Some(tls)) => {
                    http2(tls.connect(stream).await?, Scheme::HTTPS).await
                }
            }
        };
        let sender = tokio::time::timeout(timeout, opening).await??;
        let connection = Connection {
            sender,
            endpoint: endpoint.id,
        };
        if let Some(shared) = connection.share() {
            self.keep(shared);
        }
        Ok(connection)
    }

    /// Closes what has been idle for long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, idle| {
            idle.retain(|(since, connection)| {
                !connection.is_closed()
                    && (connection.is_in_use() || now.duration_since(*since) < IDLE)
            });
            !idle.is_empty()
        });
    }

    /// Closes the idle connections to every endpoint that is not in `present`.
    pub(crate) fn keep_only(&self, present: &FnvHashSet<u64>) {
        self.lock()
            .retain(|(endpoint, _), _| present.contains(endpoint));
    }
}

async fn http1<S>(stream: S, probe: OwnedFd, is_upgradable: bool) -> std::io::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_header_size(MAX_ANSWER_HEAD);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(std::io::Error::other)?;
    if is_upgradable {
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
    } else {
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
    Ok(Sender::Http1 { sender, probe })
}

async fn http2<S>(stream: S, scheme: Scheme) -> std::io::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head = u32::try_from(MAX_ANSWER_HEAD).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(head)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_PATIENCE);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let users = Arc::new(());
    Ok(Sender::Http2 {
        sender,
        users,
        scheme,
    })
}

impl Connection {
    /// What carries requests without a body.
    pub(super) fn of_wire(wire: Box<Wire>, endpoint: u64) -> Self {
        Self {
            sender: Sender::Wire(wire),
            endpoint,
        }
    }

    /// Sends a request. The connection is given back with the answer.
    pub(super) async fn send(
        mut self,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Box<Response<Source>>, SendError> {
        let sent = match &mut self.sender {
            Sender::Http1 { sender, .. } => sender.try_send_request(*request).await,
            Sender::Http2 { sender, scheme, .. } => {
                to_http2(&mut request, scheme);
                sender.try_send_request(*request).await
            }
            Sender::Wire(_) => {
                return self
                    .ask(Asked::of(&request))
                    .await
                    .map_err(|failure| match failure {
                        Failure::Unsent => SendError::Unsent(request),
                        failure => SendError::Failed(failure),
                    });
            }
        };
        match sent {
            Ok(answer) => Ok(Box::new(
                answer.map(|incoming| Source::driven(incoming, self)),
            )),
            Err(mut error) => Err(match error.take_message() {
                Some(unsent) => SendError::Unsent(Box::new(unsent)),
                None => SendError::Failed(classify(error.error())),
            }),
        }
    }

    /// Asks over a connection that needs no request of its own, which is as it was after a failure.
    /// Not an `async fn`, whose future would hold everything twice.
    pub(super) fn ask(
        self,
        asked: Asked<'_>,
    ) -> impl Future<Output = Result<Box<Response<Source>>, Failure>> + Send {
        let endpoint = self.endpoint;
        let Sender::Wire(wire) = self.sender else {
            return Either::Left(ready(Err(Failure::Unsent)));
        };
        let source = move |body| Source::wire(body, endpoint);
        Either::Right(wire.send(asked, source).map_err(|error| match error {
            WireError::Unsent => Failure::Unsent,
            WireError::Lost => Failure::Lost,
            WireError::Garbage => Failure::Garbage,
        }))
    }

    /// Whether it can be [asked](Self::ask).
    pub(super) fn is_wire(&self) -> bool {
        matches!(self.sender, Sender::Wire(_))
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Wire(wire) => !wire.is_quiet(),
            Sender::Http1 { sender, .. } => sender.is_closed(),
            Sender::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// The same connection for one request more; `None` when it takes one at a time.
    fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Wire(_) | Sender::Http1 { .. } => None,
            Sender::Http2 {
                sender,
                users,
                scheme,
            } => Some(Self {
                sender: Sender::Http2 {
                    sender: sender.clone(),
                    users: Arc::clone(users),
                    scheme: scheme.clone(),
                },
                endpoint: self.endpoint,
            }),
        }
    }

    fn is_in_use(&self) -> bool {
        match &self.sender {
            Sender::Wire(_) | Sender::Http1 { .. } => false,
            Sender::Http2 { users, .. } => Arc::strong_count(users) > 1,
        }
    }
}

/// HTTP/2 wants the target whole, and the host in it (RFC 9113 section 8.3.1).
fn to_http2(request: &mut Request<RequestBody>, scheme: &Scheme) {
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme.clone());
    parts.authority = authority;
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
}

/// Has the system end the connection when the machine at its other end is gone.
fn look_after(socket: &impl AsFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(socket, ASK_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, ASK_TIMES)?;
    sockopt::set_socket_keepalive(socket, true)
}

/// Whether the other end has neither closed nor sent anything.
fn is_quiet(socket: &impl AsFd) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let read = rustix::net::recv(socket, &mut byte[..], flags);
    matches!(read, Err(rustix::io::Errno::AGAIN))
}
