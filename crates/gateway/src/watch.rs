//! Watches the objects and keeps [`Objects`](crate::objects::Objects) as they were last seen.
//!
//! A list that is read anew takes the place of the old one at once, when it is whole. Until every list is whole the picture is
//! unsettled, and no table is made of it. A kind that the API does not serve has no objects; one that the gateway may not read keeps
//! those that were last seen.

use std::path::PathBuf;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Config};
use tokio::runtime::Handle;
use tokio::time::error::Elapsed;

use crate::names::ObjectName;
use crate::replicas::OF_SERVICE;

mod batch;
mod raw;
mod world;

pub(crate) use batch::{Receiver, Sender, channel};
pub(crate) use raw::RawObject;
pub(crate) use world::{Input, Kind, World};

/// The pause between tries to reach the API, and between looks at the kubeconfig.
const RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(2);
/// The pause before a kind is asked for again that is not served, or that may not be read.
const REFUSED_RETRY: Duration = Duration::from_secs(10);
/// How long the API may take for a page of a list.
const PAGE: Duration = Duration::from_secs(30);
/// An API that says nothing for so long has gone, whatever it was asked: it ends a watch of which it has nothing to tell after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// What is followed beside routes, Services and pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Whether certificates are used: only then Secrets are read.
    pub(crate) has_tls: bool,
    /// The Service that other gateways may be behind.
    pub(crate) service: Option<ObjectName>,
}

/// Where the API is.
#[derive(Clone, Debug)]
pub(crate) enum ApiSource {
    /// Where this file says.
    Kubeconfig(PathBuf),
    /// That of the cluster whose pod this process is.
    Cluster,
}

impl ApiSource {
    /// The kubeconfig as it is now; nothing where there is none.
    fn text(&self) -> String {
        match self {
            Self::Kubeconfig(path) => std::fs::read_to_string(path).unwrap_or_default(),
            Self::Cluster => String::new(),
        }
    }

    async fn config(&self, kubeconfig: &str) -> Result<Config, String> {
        match self {
            Self::Kubeconfig(path) => config(kubeconfig)
                .await
                .map_err(|why| format!("{}: {why}", path.display())),
            Self::Cluster => Config::incluster().map_err(|error| error.to_string()),
        }
    }
}

/// Two ways to the API.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For the watches.
    pub(crate) watches: Client,
    /// For what the control loop says.
    pub(crate) control: Client,
}

impl Clients {
    /// A client works where it is made: that of the watches in this runtime, the other one in that of the control loop.
    fn new(config: Config, control: &Handle) -> Result<Self, String> {
        let client = |config: Config| Client::try_from(config).map_err(|e| e.to_string());
        let mut of_watches = config.clone();
        (of_watches.read_timeout, of_watches.reset_reader_on_write) = (Some(SILENCE), true);
        let watches = client(of_watches)?;
        let _there = control.enter();
        let control = client(config)?;
        Ok(Self { watches, control })
    }
}

/// Feeds the control loop until it is gone. A kubeconfig is read again whenever the API cannot be reached, as its address may have
/// changed. `control` is where the control loop runs.
pub(crate) async fn feed(source: ApiSource, scope: Scope, batches: Sender, control: Handle) {
    let mut complaint = String::new();
    while !batches.is_closed() {
        let read = || source.text();
        let text = read();
        let config = source.config(&text).await;
        match config.and_then(|config| Clients::new(config, &control)) {
            Ok(clients) => {
                complaint.clear();
                let _ = follow(&clients, &scope, &batches, || read() != text).await;
            }
            Err(error) => {
                if complaint != error {
                    tracing::info!(%error, "no control plane yet; the last good routes are served");
                    complaint = error;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn config(kubeconfig: &str) -> Result<Config, String> {
    if kubeconfig.trim().is_empty() {
        return Err("there is no kubeconfig".into());
    }
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| error.to_string())?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| error.to_string())
}

/// Follows all kinds through one client until the control loop is gone or, after an error, `has_moved` says that the API is elsewhere.
pub(crate) async fn follow(
    clients: &Clients,
    scope: &Scope,
    batches: &Sender,
    has_moved: impl Fn() -> bool,
) -> Option<()> {
    batches.wanted().await?;
    batches
        .give(vec![Input::Connected(clients.control.clone())])
        .await?;
    let streams = Kind::ALL.map(|kind| stream(kind, &clients.watches, scope));
    let mut events = futures::stream::select_all(streams);
    let mut is_away = false;
    loop {
        batches.wanted().await?;
        let mut batch = Vec::new();
        let mut is_to_look = false;
        for event in batch::gather(&mut events).await {
            match event {
                Ok(input) => {
                    is_away = false;
                    batch.push(input);
                }
                Err(error) => {
                    if !is_away {
                        tracing::warn!(%error, "the control plane cannot be reached; serving goes on");
                    }
                    (is_away, is_to_look) = (true, true);
                }
            }
        }
        batches.give(batch::newest(batch)).await?;
        if is_to_look && has_moved() {
            return Some(());
        }
    }
}

type Events = BoxStream<'static, Result<Input, watcher::Error>>;

/// What comes of one kind.
fn stream(kind: Kind, client: &Client, scope: &Scope) -> Events {
    let Some((api, which)) = asked(kind, client.clone(), scope) else {
        return futures::stream::iter([Ok(Input::Unknown(kind))]).boxed();
    };
    let told = watched(kind, api, which).flat_map(move |event| {
        let (input, pause) = match event {
            Ok(event) => (Ok(Input::Event(kind, event)), None),
            Err(error) => match refusal(&error) {
                Some(Refusal::Unknown) => (Ok(Input::Unknown(kind)), Some(REFUSED_RETRY)),
                Some(Refusal::Forbidden(why)) => {
                    (Ok(Input::Forbidden(kind, why)), Some(REFUSED_RETRY))
                }
                None => (Err(error), None),
            },
        };
        let told = futures::stream::iter([input]);
        told.chain(
            futures::stream::iter(pause)
                .then(tokio::time::sleep)
                .filter_map(async |()| None),
        )
    });
    told.boxed()
}

/// Where a kind is asked for, and which of its objects; `None` when there is no need of it.
fn asked(kind: Kind, client: Client, scope: &Scope) -> Option<(Api<RawObject>, watcher::Config)> {
    let (resource, all) = (kind.resource(), watcher::Config::default());
    match kind {
        Kind::Secret if !scope.has_tls => None,
        Kind::Secret => {
            let of_tls = all.fields("type=kubernetes.io/tls");
            Some((Api::all_with(client, &resource), of_tls))
        }
        // The Leases of the gateways behind the same Service.
        Kind::Replica => {
            let service = scope.service.as_ref()?;
            let of_service = all.labels(&format!("{OF_SERVICE}={}", service.name));
            let api = Api::namespaced_with(client, &service.namespace, &resource);
            Some((api, of_service))
        }
        _ => Some((Api::all_with(client, &resource), all)),
    }
}

/// The events of one kind. All is listed anew behind an event that cannot be read, as the watcher would go on without it, and when a
/// list is not answered, as the watcher would wait for it without end.
fn watched(
    kind: Kind,
    api: Api<RawObject>,
    which: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<RawObject>>> + Send {
    let start = move || {
        let events = watch(api.clone(), which.clone());
        events.backoff(Waits::default()).boxed()
    };
    let first = start();
    futures::stream::unfold(
        (start, first, Stage::Watched),
        move |(start, mut events, mut stage)| async move {
            if stage == Stage::Lost {
                tokio::time::sleep(RETRY).await;
                events = start();
            }
            let next = match stage {
                Stage::Listed => tokio::time::timeout(PAGE, events.next()).await,
                Stage::Watched | Stage::Lost => Ok(events.next().await),
            };
            let event = next.unwrap_or_else(|elapsed| Some(Err(unanswered(elapsed))))?;
            stage = Stage::after(&event);
            if stage == Stage::Lost {
                let kind = kind.resource().kind;
                tracing::warn!(%kind, "what the API says is lost; all objects of the kind are listed anew");
            }
            Some((event, (start, events, stage)))
        },
    )
}

/// What comes next of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// More of a list, page by page.
    Listed,
    /// A change, whenever there is one; or a list, after a pause.
    Watched,
    /// Nothing that can be relied on.
    Lost,
}

impl Stage {
    fn after(event: &watcher::Result<Event<RawObject>>) -> Self {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => Self::Listed,
            Err(error) if is_lost(error) => Self::Lost,
            Ok(_) | Err(_) => Self::Watched,
        }
    }
}

fn unanswered(elapsed: Elapsed) -> watcher::Error {
    watcher::Error::InitialListFailed(kube::Error::Service(elapsed.into()))
}

/// Whether it is of an event that is none, or of a list that is not answered.
fn is_lost(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Service(why)) => why.is::<Elapsed>(),
        watcher::Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        // Every object can be read as a Status that says nothing.
        watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 0,
        _ => false,
    }
}

/// Why the API does not give a kind to this gateway.
enum Refusal {
    /// It does not serve it.
    Unknown,
    /// It does not let the gateway read it, in its words.
    Forbidden(String),
}

fn refusal(error: &watcher::Error) -> Option<Refusal> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    let status = match error {
        InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            return Some(Refusal::Unknown);
        }
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status,
        WatchError(status) => status,
        _ => return None,
    };
    let is_forbidden = status.code == 403;
    is_forbidden.then(|| Refusal::Forbidden(status.message.clone()))
}

/// Doubling waits from 50 ms to two seconds: the API of one machine comes back fast.
#[derive(Clone, Debug, Default)]
struct Waits {
    step: u32,
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(50).saturating_mul(1 << self.step.min(6));
        self.step += 1;
        Some(wait.min(SLOWEST_RETRY))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use tokio::time::Instant;

    use super::*;
    use crate::waiting::soon;

    fn service(name: &str) -> Service {
        let mut service = Service::default();
        service.metadata.name = Some(name.into());
        service
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let waits: Vec<_> = Waits::default().take(8).map(|w| w.as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    /// The embedded API on a port of its own, in a runtime of its own, so that it can die as a process does.
    struct Control {
        runtime: tokio::runtime::Runtime,
    }

    impl Control {
        fn start(server: &serin_apiserver::ApiServer, kubeconfig: &std::path::Path) -> Self {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).enable_all().build().unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            listener.set_nonblocking(true).unwrap();
            let router = server.guarded_router("secret");
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                serin_apiserver::serve(listener, router, std::future::pending()).await;
            });
            let text = serde_json::json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "serin",
                "clusters": [{"name": "serin", "cluster": {"server": format!("http://{address}")}}],
                "users": [{"name": "serin", "user": {"token": "secret"}}],
                "contexts": [{"name": "serin", "context": {"cluster": "serin", "user": "serin"}}],
            })
            .to_string();
            crate::unix::write_whole(kubeconfig, text.as_bytes()).unwrap();
            Self { runtime }
        }

        fn kill(self) {
            self.runtime.shutdown_background();
        }
    }

    async fn settled(world: &mut World, batches: &mut Receiver, services: usize) {
        let settle = async {
            while !world.is_settled() || world.objects.services.len() != services {
                for input in batches.next().await.unwrap() {
                    world.handle(input);
                }
            }
        };
        soon("all lists", settle).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_control_plane_may_come_late_die_and_come_back_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = home.path().join("kubeconfig");
        let server = serin_apiserver::ApiServer::new(serin_apiserver::Store::in_memory());
        let direct = Client::new(server.router(), "default");
        let services: Api<Service> = Api::default_namespaced(direct);
        let create = async |name: &str| {
            let mut service = service(name);
            let ports = serde_json::json!({"ports": [{"port": 80}]});
            service.spec = serde_json::from_value(ports).unwrap();
            let params = kube::api::PostParams::default();
            services.create(&params, &service).await.unwrap();
        };
        let (sender, mut batches) = channel();
        let feeding = tokio::spawn(feed(
            ApiSource::Kubeconfig(kubeconfig.clone()),
            Scope::default(),
            sender,
            Handle::current(),
        ));
        let mut world = World::default();

        create("first").await;
        let control = Control::start(&server, &kubeconfig);
        settled(&mut world, &mut batches, 1).await;

        control.kill();
        create("second").await;
        let control = Control::start(&server, &kubeconfig);
        settled(&mut world, &mut batches, 2).await;

        control.kill();
        feeding.abort();
        drop(tokio::task::spawn_blocking(move || drop(home)).await);
    }

    /// An API that has Services alone, and gives these lists in turn. The first watch sends one event whose parts are in an order that
    /// no API server has; the others send nothing.
    fn odd_api(lists: Vec<&'static str>) -> Client {
        let lists = std::sync::Mutex::new(lists.into_iter());
        let is_told = std::sync::atomic::AtomicBool::new(false);
        let state = std::sync::Arc::new((lists, is_told));
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let state = std::sync::Arc::clone(&state);
            async move {
                let (lists, is_told) = &*state;
                let is_watch = request
                    .uri()
                    .query()
                    .is_some_and(|q| q.contains("watch=true"));
                let (status, text) = if request.uri().path() != "/api/v1/services" {
                    (
                        404,
                        r#"{"kind":"Status","code":404,"message":"no","reason":"NotFound","status":"Failure"}"#,
                    )
                } else if !is_watch {
                    (200, lists.lock().unwrap().next().unwrap())
                } else if is_told.swap(true, std::sync::atomic::Ordering::Relaxed) {
                    std::future::pending().await
                } else {
                    (
                        200,
                        "{\"object\":{\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"2\"}},\"type\":\"ADDED\"}\n",
                    )
                };
                let body = kube::client::Body::from(text.as_bytes().to_vec());
                let answer = http::Response::builder().status(status).body(body);
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// What comes next, and so many seconds after the beginning.
    async fn comes_after(
        events: &mut Events,
        began: Instant,
    ) -> (Result<Input, watcher::Error>, u64) {
        let event = tokio::time::timeout(Duration::from_secs(3600), events.next());
        (event.await.unwrap().unwrap(), began.elapsed().as_secs())
    }

    /// An API that gives an empty list, unless it is `silent`, and says nothing to watches.
    async fn quiet_api(is_silent: bool) -> Clients {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move |request: http::Request<hyper::body::Incoming>| async move {
            let is_watch = request.uri().query().is_some_and(|q| q.contains("watch="));
            if is_watch || is_silent {
                std::future::pending::<()>().await;
            }
            let list = r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#;
            Ok::<_, std::convert::Infallible>(http::Response::new(list.to_owned()))
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let io = hyper_util::rt::TokioIo::new(stream);
                let service = hyper::service::service_fn(answer);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        Clients::new(config, &Handle::current()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_never_answers_is_given_up() {
        let clients = quiet_api(true).await;
        let began = Instant::now();
        let mut events = stream(Kind::Service, &clients.watches, &Scope::default());
        for (asked, given_up) in [(0, 30), (30, 60)] {
            let (init, seconds) = comes_after(&mut events, began).await;
            assert!(matches!(init, Ok(Input::Event(_, Event::Init))));
            assert_eq!(seconds, asked);
            let (error, seconds) = comes_after(&mut events, began).await;
            assert!(error.is_err());
            assert_eq!(seconds, given_up);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_which_nothing_comes_is_given_up() {
        let clients = quiet_api(false).await;
        let began = Instant::now();
        let mut events = stream(Kind::Service, &clients.watches, &Scope::default());
        for _ in ["the list begins", "it ends"] {
            assert!(comes_after(&mut events, began).await.0.is_ok());
        }
        let (given_up, seconds) = comes_after(&mut events, began).await;
        assert!(given_up.is_err());
        assert_eq!(seconds, 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_given_is_asked_for_again_after_a_while() {
        for status in [404, 403] {
            let text =
                format!(r#"{{"kind":"Status","status":"Failure","message":"no","code":{status}}}"#);
            let api = tower::service_fn(move |_: http::Request<kube::client::Body>| {
                let body = kube::client::Body::from(text.clone().into_bytes());
                let answer = http::Response::builder().status(status).body(body);
                std::future::ready(Ok::<_, std::convert::Infallible>(answer.unwrap()))
            });
            let client = Client::new(api, "default");
            let mut events = stream(Kind::Service, &client, &Scope::default());
            let began = Instant::now();
            let mut refused = Vec::new();
            while refused.len() < 4 {
                let (event, seconds) = comes_after(&mut events, began).await;
                if matches!(event, Ok(Input::Unknown(_) | Input::Forbidden(..))) {
                    refused.push(seconds);
                }
            }
            assert_eq!(refused, [0, 10, 20, 30]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_read_is_not_lost() {
        let one = r#"{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a"}}]}"#;
        let two = r#"{"metadata":{"resourceVersion":"2"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
        let watches = odd_api(vec![one, two]);
        let control = watches.clone();
        let clients = Clients { watches, control };
        let (sender, mut batches) = channel();
        let following =
            tokio::spawn(
                async move { follow(&clients, &Scope::default(), &sender, || false).await },
            );
        settled(&mut World::default(), &mut batches, 2).await;
        following.abort();
    }
}
