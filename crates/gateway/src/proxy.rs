//! Serves connections: one request in, one instance chosen, one answer out, nothing buffered.
//!
//! A request is counted on its instance until its answer has ended, and recorded once. Bodies stream both ways. Absent on
//! purpose: HTTP/2, TLS and caching; nothing here changes what an application answers, but for the headers of one hop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::live::LiveTable;

mod answer;
mod body;
mod exchange;
mod head;
mod pool;
mod tap;
mod upgrade;

use answer::Reason;
pub(crate) use body::AnswerBody;
pub(crate) use pool::Pool;

/// The longest head of a request, in bytes; a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most headers of a request; more are answered 431.
const MAX_HEADERS: usize = 128;

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
    /// How many requests are held at once; more are answered 503 at once.
    pub(crate) max_held: usize,
}

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; every answer says `Connection: close`.
    Leaving,
    /// Idle connections are closed.
    Closing,
}

/// What all workers and the control loop share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<LiveTable>,
    /// The generation of the table, told after each swap.
    pub(crate) swapped: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) settings: Settings,
    pub(crate) started: Instant,
    pub(crate) gauges: Gauges,
}

/// Numbers about the gateway itself.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) connections: AtomicUsize,
    pub(crate) held: AtomicUsize,
    pub(crate) no_route: AtomicU64,
    pub(crate) bad_requests: AtomicU64,
    pub(crate) retries: AtomicU64,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            table: ArcSwap::from_pointee(LiveTable::empty()),
            swapped: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Serving),
            settings,
            started: Instant::now(),
            gauges: Gauges::default(),
        }
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
}

/// One client connection.
struct Client {
    worker: Arc<Worker>,
    /// The client's address as `X-Forwarded-For` has it.
    address: HeaderValue,
    heard: Arc<tap::Heard>,
}

/// Serves one connection until it ends or the process leaves. Errors of the client's side are nobody's business but its own.
pub(crate) async fn serve(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let _counted = Counted::new(Arc::clone(&worker.shared));
    let mut phase = worker.shared.phase.subscribe();
    let idle = worker.shared.settings.client_idle;
    let (stream, heard) = tap::tap(stream);
    let address = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
    let client = Arc::new(Client {
        worker,
        address: address.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
        heard,
    });
    let service = service_fn(move |request| Arc::clone(&client).handle(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Client {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let mut answer = match head::read(&request, &self.heard) {
            Ok(head) => exchange::run(&self.worker, &self.address, head, request).await,
            Err(why) => {
                self.worker
                    .shared
                    .gauges
                    .bad_requests
                    .fetch_add(1, Ordering::Relaxed);
                answer::own(Reason::BadRequest, why)
            }
        };
        if *self.worker.shared.phase.borrow() != Phase::Serving {
            let close = HeaderValue::from_static("close");
            answer
                .headers_mut()
                .entry(http::header::CONNECTION)
                .or_insert(close);
        }
        Ok(answer)
    }
}

/// One more connection, for as long as it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.gauges.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gauges.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
