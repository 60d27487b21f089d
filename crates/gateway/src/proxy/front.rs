//! One client connection from its first byte: who the client is, whether TLS is spoken, which HTTP; then its requests.
//!
//! A connection on which nothing was said yet has no buffers, so many of them cost little.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::answer::{self, Answer, Reason};
use super::body::{AnswerBody, Busy};
use super::forwarded::Hop;
use super::head::Head;
use super::io::ClientIo;
use super::meter::{Answers, Meter};
use super::proxy_protocol::{self, Found};
use super::swift::{Next, Swift};
use super::tap::Tapped;
use super::{Living, MAX_HEAD_BYTES, Phase, Worker, exchange, head, tap};
use crate::ports::{Door, Scheme};

/// With these bytes a client begins to speak HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a TLS handshake and a PROXY header may take.
const OPENING: Duration = Duration::from_secs(10);
/// Read at once while it is found out what is spoken.
const FIRST_READ: usize = 1024;
/// Who gives out certificates asks for these over plain HTTP (RFC 8555 section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";
/// Requests of one HTTP/2 connection at the same time.
const MOST_STREAMS: u32 = 128;
/// Bytes of one answer that may wait to be sent over HTTP/2.
const SEND_BUFFER: usize = 256 * 1024;
/// A client is asked for a sign of life after so long, and left when it gives none.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long the end of a resting connection may take.
const PARTING: Duration = Duration::from_secs(1);
/// Requests that one connection may take back before their answer began, beyond every second one.
const MOST_RESETS: u64 = 100;

/// One client connection.
pub(crate) struct Client {
    pub(super) worker: Arc<Worker>,
    pub(super) hop: Hop,
    /// Where HTTP/1 is spoken.
    heard: Option<Arc<tap::Heard>>,
    pub(super) activity: Activity,
}

/// What a connection has done.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests that have no answer yet.
    open: AtomicUsize,
    /// What is under way, answers that are being sent too.
    pub(super) busy: Busy,
    opened: AtomicU64,
    reset: AtomicU64,
    flood: Notify,
    /// Those that have been answered, while they are taken.
    answers: Arc<Answers>,
}

/// Serves one connection until it ends or the process leaves. Errors of the client's side are nobody's business but its own.
pub(crate) async fn serve(living: Living, stream: TcpStream, peer: SocketAddr, door: Door) {
    let _ = stream.set_nodelay(true);
    let worker = Arc::clone(&living.0);
    let shared = Arc::clone(&worker.shared);
    let mut phase = shared.phase.subscribe();
    // Only a client that says something costs more than its socket. The system is asked whether it does: a connection that was just
    // accepted is taken for readable before anything has come.
    let mut first = [0];
    let spoke = tokio::select! {
        spoke = tokio::time::timeout(shared.settings.client_idle, stream.peek(&mut first)) => spoke,
        _ = phase.wait_for(|phase| *phase >= Phase::Closing) => return,
    };
    if let Ok(Ok(1..)) = spoke {
        // What opening takes, a handshake above all, is given back before the first request.
        let opened = Box::pin(open(worker, stream, peer, door)).await;
        if let Ok(serving) = opened {
            serving.await;
        }
    }
}

/// A connection that was opened, and is served to its end.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Finds out who the client is and what it speaks.
async fn open(
    worker: Arc<Worker>,
    stream: TcpStream,
    mut peer: SocketAddr,
    door: Door,
) -> io::Result<Serving> {
    let settings = &worker.shared.settings;
    let patience = settings.client_idle;
    let mut early = BytesMut::new();
    if settings.proxy_protocol {
        let client = tokio::time::timeout(OPENING, proxy_header(&stream, &mut early)).await??;
        peer = client.unwrap_or(peer);
    }
    if door.scheme == Scheme::Https {
        let acceptor = TlsAcceptor::from(Arc::clone(&worker.shared.tls.config));
        let io = ClientIo::new(stream, early.freeze(), patience);
        let io = tokio::time::timeout(OPENING, acceptor.accept(io)).await??;
        let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        return Ok(converse(Client::new(worker, peer, door), io, is_http2));
    }
    let is_http2 = tokio::time::timeout(patience, speaks_http2(&stream, &mut early)).await??;
    let io = ClientIo::new(stream, early.freeze(), patience);
    Ok(converse(Client::new(worker, peer, door), io, is_http2))
}

/// Serves one client over any stream, of which it is known what is spoken.
pub(crate) fn converse<S>(client: Client, io: S, is_http2: bool) -> Serving
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if is_http2 {
        Box::pin(client.http2(io))
    } else {
        Box::pin(client.http1(io))
    }
}

/// Takes the header of the PROXY protocol off; the client that it names.
async fn proxy_header(stream: &TcpStream, early: &mut BytesMut) -> io::Result<Option<SocketAddr>> {
    loop {
        match proxy_protocol::parse(early) {
            Found::More => read_some(stream, early).await?,
            Found::Wrong => return Err(io::ErrorKind::InvalidData.into()),
            Found::Header { length, client } => {
                let _header = early.split_to(length);
                return Ok(client);
            }
        }
    }
}

/// Whether the first bytes are those of HTTP/2.
async fn speaks_http2(stream: &TcpStream, early: &mut BytesMut) -> io::Result<bool> {
    loop {
        let shown = early.len().min(PREFACE.len());
        if early.get(..shown) != PREFACE.get(..shown) {
            return Ok(false);
        }
        if shown == PREFACE.len() {
            return Ok(true);
        }
        read_some(stream, early).await?;
    }
}

async fn read_some(stream: &TcpStream, early: &mut BytesMut) -> io::Result<()> {
    loop {
        stream.readable().await?;
        early.reserve(FIRST_READ);
        match stream.try_read_buf(early) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl Client {
    pub(crate) fn new(worker: Arc<Worker>, peer: SocketAddr, door: Door) -> Self {
        let address = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
        let settings = &worker.shared.settings;
        let hop = Hop {
            address: address.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_tls: door.scheme == Scheme::Https,
            listener: door.port,
            trusted: settings.trusted_hops,
            writes_forwarded: settings.writes_forwarded,
        };
        Self {
            worker,
            hop,
            heard: None,
            activity: Activity::default(),
        }
    }

    /// Requests of the simple form are answered here; from one of another form on hyper has the connection, until it has come to
    /// rest.
    async fn http1<S>(mut self, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut io, heard) = tap::tap(io);
        self.heard = Some(Arc::clone(&heard));
        let client = Arc::new(self);
        let mut early = Bytes::new();
        loop {
            match Swift::new(&client, io.untapped(), early).run().await {
                Next::Other(bytes) => io.put_back(bytes),
                Next::Close => {
                    let _ = tokio::time::timeout(PARTING, io.shutdown()).await;
                    return;
                }
                Next::Cut => return,
            }
            match Box::pin(Arc::clone(&client).turn(io, &heard)).await {
                Some((rested, unread)) => (io, early) = (rested, unread),
                None => return,
            }
        }
    }

    /// Has hyper serve requests until the connection ends or has come to rest, and is given back with what hyper has read ahead.
    async fn turn<S>(
        self: Arc<Self>,
        io: Tapped<S>,
        heard: &tap::Heard,
    ) -> Option<(Tapped<S>, Bytes)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.worker.shared);
        let mut phase = shared.phase.subscribe();
        let client = Arc::clone(&self);
        let service = service_fn(move |request| client.handle(request));
        let before = self.activity.opened.load(Ordering::Relaxed);
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.settings.client_idle)
            .max_header_size(MAX_HEAD_BYTES)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        tokio::select! {
            biased;
            _ = &mut connection => return None,
            _ = phase.wait_for(|phase| *phase >= Phase::Closing) => {}
            () = self.activity.rests(before, heard, shared.settings.rest_after) => {
                let parts = connection.into_parts()?;
                heard.forget();
                return Some((parts.io.into_inner(), parts.read_buf));
            }
        }
        Pin::new(&mut connection).graceful_shutdown();
        let _ = connection.await;
        None
    }

    /// A connection of HTTP/2 is told to go (GOAWAY) as soon as the process leaves: unlike one of HTTP/1 it can be told at any
    /// time without the loss of a request.
    async fn http2<S>(self, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.worker.shared);
        let mut phase = shared.phase.subscribe();
        let client = Arc::new(self);
        let of_service = Arc::clone(&client);
        let service = service_fn(move |request| of_service.handle(request));
        let head = u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(head)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_PATIENCE)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = client.activity.flood.notified() => return,
            () = client.activity.idle(shared.settings.client_idle) => connection.as_mut().graceful_shutdown(),
            _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => connection.as_mut().graceful_shutdown(),
        }
        // Told to go, it finishes what it has; what it does not take it need not finish.
        tokio::select! {
            _ = connection => {}
            () = client.activity.flood.notified() => {}
            () = client.activity.answers.stuck(shared.settings.client_idle) => {}
        }
    }

    /// In boxes request and future are moved as pointers, and hyper keeps room for no more than that while the connection lives.
    fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<>>>
    {
        Box::pin(Arc::clone(self).respond(Box::new(request)))
    }

    async fn respond(
        self: Arc<Self>,
        request: Box<Request<Incoming>>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let is_http2 = request.version() == Version::HTTP_2;
        let stream = Stream::open(&self.activity);
        let mut answer = match head::read(&request, self.heard.as_deref()) {
            Ok(head) => match self.to_https(&head, request.uri(), request.headers()) {
                Some(redirect) => redirect,
                None => {
                    let busy = self.activity.busy.clone();
                    exchange::run(&self.worker, &self.hop, head, request, busy).await
                }
            },
            Err(head::Refused { reason, sentence }) => {
                let gauges = &self.worker.shared.gauges;
                gauges.bad_requests.fetch_add(1, Ordering::Relaxed);
                answer::own(reason, sentence)
            }
        };
        stream.answered();
        if is_http2 {
            if let AnswerBody::Upstream(upstream) = answer.body_mut() {
                upstream.meter = Some(Meter::new(&self.activity.answers));
            }
            answer.headers_mut().remove(header::CONNECTION);
        } else if *self.worker.shared.phase.borrow() != Phase::Serving {
            let close = HeaderValue::from_static("close");
            let connection = answer.headers_mut().entry(header::CONNECTION);
            connection.or_insert(close);
        }
        Ok(*answer)
    }
}

impl Client {
    /// The answer that sends a plain request to HTTPS, where that is wanted.
    pub(super) fn to_https(&self, head: &Head, uri: &Uri, headers: &HeaderMap) -> Option<Answer> {
        let shared = &self.worker.shared;
        let port = shared.settings.https_port?;
        let path = uri.path();
        let is_wanted = !self.hop.is_secure(headers)
            && !path.starts_with(CHALLENGES)
            && (shared.settings.redirects_all || shared.tls.certificates.redirects(&head.host));
        if !is_wanted {
            return None;
        }
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let port = if port == 443 {
            String::new()
        } else {
            format!(":{port}")
        };
        let location = HeaderValue::try_from(format!("https://{}{port}{path}", head.host)).ok()?;
        let mut answer = answer::own(Reason::Https, "This host is served over HTTPS.\n");
        answer.headers_mut().insert(header::LOCATION, location);
        Some(answer)
    }
}

impl Activity {
    /// Ends when there was a request beyond those `before`, all are answered, and nothing has moved for a while.
    async fn rests(&self, before: u64, heard: &tap::Heard, period: Duration) {
        let mut seen = None;
        loop {
            tokio::time::sleep(period).await;
            let moved = (self.opened.load(Ordering::Relaxed), heard.count());
            // One request more in each turn: else a client could begin the time for its head anew as often as it likes.
            let is_done = self.open.load(Ordering::Relaxed) == 0 && self.busy.is_last();
            let may_rest = moved.0 > before && is_done && !heard.is_stalled();
            if may_rest && seen == Some(moved) {
                return;
            }
            seen = Some(moved);
        }
    }

    /// Ends when for one period no request came and none was under way.
    async fn idle(&self, period: Duration) {
        let mut seen = u64::MAX;
        loop {
            tokio::time::sleep(period).await;
            let opened = self.opened.load(Ordering::Relaxed);
            if opened == seen && self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = opened;
        }
    }
}

/// A request whose answer has not begun. Dropped before, the client has taken it back; a client that does little else only
/// makes work (the attack called rapid reset).
pub(super) struct Stream<'a> {
    activity: &'a Activity,
    is_answered: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn open(activity: &'a Activity) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.opened.fetch_add(1, Ordering::Relaxed);
        Self {
            activity,
            is_answered: false,
        }
    }

    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let activity = self.activity;
        activity.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_answered {
            return;
        }
        let reset = activity.reset.fetch_add(1, Ordering::Relaxed) + 1;
        if reset > MOST_RESETS + activity.opened.load(Ordering::Relaxed) / 2 {
            activity.flood.notify_one();
        }
    }
}
