//! A gateway with real workers, upstreams and clients, all in this process and all ended when dropped.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{Living, Phase, Settings, Shared, Worker, serve};
use crate::admin::Pages;
use crate::control::Control;
use crate::health;
use crate::lower::LowerOptions;
use crate::names::{ObjectName, Source, SourceKind};
use crate::ports::{Door, Listener, Scheme};
use crate::series::Registry;
use crate::table::{
    Backend, EndpointEntry, HeaderChanges, HostMatch, Mirror, PathMatch, PortEntry, PortRef,
    Protocol, RequestMatch, RouteTable, Rule, RulePolicy, ServiceEntry,
};
use crate::testing::settings;
use crate::tls::Tls;
use crate::waiting::soon;
use crate::worker;

/// A gateway.
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    pub(super) tls_address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Arc<Registry>,
    control: Mutex<Control>,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    /// Goes with it.
    _watchdog: mpsc::Sender<()>,
}

/// How long a test may want anything of a gateway: longer than a wait that says what it is for.
const LIFE: Duration = Duration::from_secs(120);

/// Cuts off a gateway of which a test waits for something in vain, so that the test fails and holds nobody up.
fn watchdog(shared: Arc<Shared>) -> mpsc::Sender<()> {
    let (lives, ended) = mpsc::channel();
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
            shared.phase.send_replace(Phase::Gone);
            panic!("{test} waits in vain: its gateway is cut off");
        }
    });
    lives
}

impl Gate {
    pub(super) fn serving(table: RouteTable) -> Self {
        Self::with_hold(Duration::from_secs(20), table)
    }

    pub(super) fn with_hold(hold: Duration, table: RouteTable) -> Self {
        Self::with(|settings| settings.hold = hold, table)
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings), table: RouteTable) -> Self {
        let (pages, control) = serving(change, table);
        let (shared, registry) = (Arc::clone(&pages.shared), Arc::clone(&pages.registry));
        let listeners = [Scheme::Http, Scheme::Https].map(|scheme| Listener {
            scheme,
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
        });
        let [address, tls_address] = listeners.each_ref().map(|l| l.socket.local_addr().unwrap());
        let (failed, _) = tokio::sync::mpsc::channel(1);
        let spawn =
            |index| worker::spawn(index, Arc::clone(&shared), &listeners, failed.clone()).unwrap();
        let workers = (0..2).map(spawn).collect();
        Self {
            address,
            tls_address,
            shared: Arc::clone(&shared),
            registry,
            control: Mutex::new(control),
            workers,
            _watchdog: watchdog(shared),
        }
    }

    pub(super) fn swap(&self, table: RouteTable) {
        self.control.lock().unwrap().swap(table);
    }

    /// Looks now whether files have changed.
    pub(super) fn refresh_files(&self) {
        self.control.lock().unwrap().refresh_files();
    }

    /// What is told to be wrong.
    pub(super) fn problems(&self) -> Vec<String> {
        self.control.lock().unwrap().problems()
    }

    /// Asks instances whether they are well, as long as the runtime of the test lives.
    pub(super) fn check_health(&self) {
        let (targets, shared) = (
            self.control.lock().unwrap().to_check(),
            Arc::clone(&self.shared),
        );
        tokio::spawn(async move { health::run(targets, &shared.health, health::ask).await });
    }

    pub(super) fn in_flight(&self, instance: &str) -> usize {
        self.control.lock().unwrap().in_flight(instance)
    }

    /// The limit of every drain has been reached.
    pub(super) fn end_drains(&self) {
        let later = tokio::time::Instant::now() + Duration::from_secs(3600);
        self.control.lock().unwrap().end_drains(later);
    }

    /// Where it is awaited in vain, the place is told.
    #[track_caller]
    pub(super) fn until(&self, holds: impl Fn() -> bool) -> impl Future<Output = ()> {
        let place = Location::caller();
        async move {
            let wait = async {
                while !holds() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            soon(&format!("the condition at {place}"), wait).await;
        }
    }

    #[track_caller]
    pub(super) fn until_drained(&self, instance: &str) -> impl Future<Output = ()> {
        self.until(move || self.in_flight(instance) == 0)
    }

    #[track_caller]
    pub(super) fn until_held(&self, count: usize) -> impl Future<Output = ()> {
        self.until(move || self.shared.gauges.held.load(Ordering::Relaxed) == count)
    }

    pub(super) async fn stream(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        Client(self.http1().await)
    }

    /// A connection of HTTP/1.
    pub(super) async fn http1(&self) -> SendRequest<Full<Bytes>> {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.stream().await))
                .await
                .unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        sender
    }

    /// A connection of HTTP/2 without TLS.
    pub(super) async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.stream().await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends bytes for as long as the gateway takes them, and waits until it has closed.
    pub(super) async fn raw_until_closed(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut from, mut to) = self.stream().await.into_split();
        let mut text = Vec::new();
        let both = async {
            let write = to.write_all(bytes);
            let read = from.read_to_end(&mut text);
            let _ = tokio::join!(write, read);
        };
        soon("the end of the connection", both).await;
        text
    }

    /// Sends bytes and reads until the gateway closes.
    pub(super) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.stream().await;
        stream.write_all(bytes).await.unwrap();
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        // A reset after the answer is a close too.
        let _ = soon("the end of the connection", read).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// What all workers share, and who swaps its table.
fn serving(change: impl FnOnce(&mut Settings), table: RouteTable) -> (Arc<Pages>, Control) {
    let mut settings = settings();
    change(&mut settings);
    let shared = Arc::new(Shared::new(settings, Tls::new().unwrap()));
    let pages = Arc::new(Pages::new(Arc::clone(&shared)));
    let mut control = Control::new(shared, Arc::clone(&pages), LowerOptions::default());
    control.swap(table);
    (pages, control)
}

/// One worker in the runtime of the test, so that its waits go by the clock of the test, which may be a virtual one. Whoever is
/// asked outside of the runtime must then not be waited for: a virtual clock goes on meanwhile.
pub(super) struct Desk {
    pub(super) worker: Arc<Worker>,
    pub(super) pages: Arc<Pages>,
    /// Holds the instances of the table.
    _control: Control,
}

impl Desk {
    pub(super) fn with(change: impl FnOnce(&mut Settings), table: RouteTable) -> Self {
        let (pages, control) = serving(change, table);
        Self {
            worker: Arc::new(Worker::new(Arc::clone(&pages.shared))),
            pages,
            _control: control,
        }
    }

    /// A client of whom nothing but its address is known.
    pub(super) fn somebody(&self) -> crate::proxy::Client {
        let (scheme, port) = (Scheme::Http, 80);
        let peer = ([127, 0, 0, 1], 1).into();
        crate::proxy::Client::new(Arc::clone(&self.worker), peer, Door { scheme, port })
    }

    /// A connection of a client, and how it is served.
    pub(super) async fn client(&self, scheme: Scheme) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let port = address.port();
        let living = Living::new(Arc::clone(&self.worker));
        let served = tokio::spawn(serve(living, stream, peer, Door { scheme, port }));
        (client, served)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Gone);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// A client with one connection.
pub(super) struct Client(SendRequest<Full<Bytes>>);

/// An answer that was read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl Client {
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "app.example.com");
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let request = Request::post(path).header("host", "app.example.com");
        self.send(request.body(Full::from(body.to_owned())).unwrap())
            .await
    }
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn reason(&self) -> &str {
        let reason = self.headers.get("x-serin-gateway");
        reason.map(|r| r.to_str().unwrap()).unwrap_or_default()
    }
}

/// A server behind the gateway.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Upstream {
    pub(super) async fn saying(text: &'static str) -> Self {
        Self::with(
            move |_| async move { Response::new(Full::new(Bytes::from_static(text.as_bytes()))) },
        )
        .await
    }

    /// Answers with this status, and says `bad`.
    pub(super) async fn failing(status: StatusCode) -> Self {
        Self::with(move |_| async move {
            let mut answer = Response::new(Full::from("bad"));
            *answer.status_mut() = status;
            answer
        })
        .await
    }

    /// Never answers.
    pub(super) async fn silent() -> Self {
        Self::with(|_| std::future::pending()).await
    }

    /// Dies of every request.
    pub(super) async fn dying() -> Self {
        Self::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
        })
        .await
    }

    /// Answers with the request line, the headers in order of their names, and the body.
    pub(super) async fn echo() -> Self {
        Self::with(|request| async move {
            let (parts, body) = request.into_parts();
            let mut lines: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                .collect();
            lines.sort();
            let body = body.collect().await.unwrap().to_bytes();
            let text = format!(
                "{} {}\n{}\n{}",
                parts.method,
                parts.uri,
                lines.concat(),
                String::from_utf8_lossy(&body)
            );
            let mut response = Response::new(Full::from(text));
            response
                .headers_mut()
                .insert("server", HeaderValue::from_static("echo"));
            response
        })
        .await
    }

    pub(super) async fn with<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send,
    {
        Self::raw(move |stream, requests| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    requests.fetch_add(1, Ordering::Relaxed);
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }

    /// Speaks HTTP/2 without TLS; the answers have trailers.
    pub(super) async fn grpc() -> Self {
        Self::raw(move |stream, requests| async move {
            let service = service_fn(move |request: Request<Incoming>| {
                requests.fetch_add(1, Ordering::Relaxed);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let seen = format!(
                        "{:?} {} {:?}",
                        parts.version,
                        parts.uri,
                        parts.headers.get("te")
                    );
                    let trailers = HeaderMap::from_iter([(
                        "grpc-status".parse().unwrap(),
                        HeaderValue::from_static("0"),
                    )]);
                    let frames = [Frame::data(body), Frame::trailers(trailers)];
                    let body =
                        StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
                    let mut answer = Response::new(body);
                    answer
                        .headers_mut()
                        .insert("seen", HeaderValue::try_from(seen).unwrap());
                    Ok::<_, Infallible>(answer)
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
        .await
    }

    /// In a runtime of its own, so that it can die as a process does.
    pub(super) async fn raw<F, A>(serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicUsize>) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (requests, connections) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        Self {
            address,
            requests,
            connections,
            runtime: Mutex::new(Some(runtime)),
        }
    }

    /// For one connection, in the runtime of the test: a virtual clock waits for what this one does.
    pub(super) async fn near<A>(serve: impl FnOnce(TcpStream) -> A + Send + 'static) -> Self
    where
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream).await;
        });
        Self {
            address,
            requests: Arc::default(),
            connections: Arc::default(),
            runtime: Mutex::default(),
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Closes its socket and all connections at once.
    pub(super) fn kill(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            let done = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)));
            done.join().unwrap();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads up to the empty line.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Every request to every host, in these shares.
pub(super) fn rule(shares: &[(&str, u32)]) -> Rule {
    let backends = shares.iter().map(|(name, weight)| {
        Backend::new(ObjectName::new("default", *name), PortRef::First, *weight)
    });
    Rule {
        source: Source {
            kind: SourceKind::HttpRoute,
            name: ObjectName::new("default", "web"),
        },
        created: jiff::Timestamp::UNIX_EPOCH,
        index: 0,
        port: None,
        hosts: vec![HostMatch::Any],
        except: Vec::new(),
        matches: vec![RequestMatch::of_path(PathMatch::Prefix(String::new()))],
        backends: backends.collect(),
        headers: HeaderChanges::default(),
        timeout_ms: None,
        try_timeout_ms: None,
        policy: RulePolicy::default(),
    }
}

/// A Service whose instances have its name as their revision.
pub(super) fn service(name: &str, instances: &[(&str, &Upstream)]) -> (ObjectName, ServiceEntry) {
    let endpoints = instances.iter().map(|(instance, upstream)| EndpointEntry {
        address: upstream.address,
        instance: (*instance).into(),
        revision: name.into(),
        subsets: Vec::new(),
    });
    let port = PortEntry {
        name: String::new(),
        port: 80,
        protocol: Protocol::Http1,
        tls: None,
        endpoints: endpoints.collect(),
    };
    let entry = ServiceEntry {
        ports: vec![port],
        ..ServiceEntry::default()
    };
    (ObjectName::new("default", name), entry)
}

pub(super) fn table(rules: Vec<Rule>, services: Vec<(ObjectName, ServiceEntry)>) -> RouteTable {
    RouteTable {
        rules,
        services: services.into_iter().collect(),
        ..RouteTable::default()
    }
}

/// Every request is copied to the shadow.
pub(super) fn copied(web: &Upstream, shadow: &Upstream) -> RouteTable {
    let mut with = rule(&[("web", 1)]);
    with.policy.mirrors = vec![Mirror {
        service: ObjectName::new("default", "shadow"),
        port: PortRef::First,
        subset: None,
        per_million: 1_000_000,
    }];
    let services = vec![
        service("web", &[("w1", web)]),
        service("shadow", &[("s1", shadow)]),
    ];
    table(vec![with], services)
}
