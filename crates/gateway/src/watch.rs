//! Watches the objects and keeps [`Objects`](crate::objects::Objects) as they were last seen.
//!
//! A list that is read anew takes the place of the old one at once, when it is whole. Until every list is whole the picture is
//! unsettled, and no table is made of it. A kind that the API does not serve has no objects; one that the gateway may not read keeps
//! those that were last seen.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use serin_api::istio::{DestinationRule, VirtualService};
use tokio::sync::mpsc;

use crate::names::ObjectName;
use crate::objects::{TlsSecret, trim, trim_pod};
use crate::replicas::{OF_SERVICE, trim_lease};

mod world;

pub(crate) use world::{Input, Kind, World};

/// The pause between tries to reach the API, and between looks at the kubeconfig.
const RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(2);
/// The pause before a kind is asked for again that is not served, or that may not be read.
const REFUSED_RETRY: Duration = Duration::from_secs(10);

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

    async fn client(&self, kubeconfig: &str) -> Result<Client, String> {
        match self {
            Self::Kubeconfig(path) => client(kubeconfig)
                .await
                .map_err(|why| format!("{}: {why}", path.display())),
            Self::Cluster => {
                let config = Config::incluster().map_err(|error| error.to_string())?;
                Client::try_from(config).map_err(|error| error.to_string())
            }
        }
    }
}

/// Feeds the control loop until it is gone. A kubeconfig is read again whenever the API cannot be reached, as its address may have
/// changed.
pub(crate) async fn feed(source: ApiSource, scope: Scope, inputs: mpsc::Sender<Input>) {
    let mut complaint = String::new();
    while !inputs.is_closed() {
        let read = || source.text();
        let text = read();
        match source.client(&text).await {
            Ok(client) => {
                complaint.clear();
                let _ = follow(&client, &scope, &inputs, || read() != text).await;
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

async fn client(kubeconfig: &str) -> Result<Client, String> {
    if kubeconfig.trim().is_empty() {
        return Err("there is no kubeconfig".into());
    }
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| error.to_string())?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let config = config.map_err(|error| error.to_string())?;
    Client::try_from(config).map_err(|error| error.to_string())
}

/// Follows all kinds through one client until the control loop is gone or, after an error, `has_moved` says that the API is elsewhere.
pub(crate) async fn follow(
    client: &Client,
    scope: &Scope,
    inputs: &mpsc::Sender<Input>,
    has_moved: impl Fn() -> bool,
) -> Option<()> {
    inputs.send(Input::Connected(client.clone())).await.ok()?;
    let mut all = futures::stream::select_all(streams(client, scope));
    let mut is_away = false;
    while let Some(input) = all.next().await {
        match input {
            Ok(input) => {
                is_away = false;
                inputs.send(input).await.ok()?;
            }
            Err(error) => {
                if !is_away {
                    tracing::warn!(%error, "the control plane cannot be reached; serving goes on");
                }
                is_away = true;
                if has_moved() {
                    return Some(());
                }
            }
        }
    }
    Some(())
}

/// One stream for each kind.
fn streams(
    client: &Client,
    scope: &Scope,
) -> [BoxStream<'static, Result<Input, watcher::Error>>; 13] {
    [
        stream(
            client,
            Kind::Service,
            |o: &mut Service| trim(&mut o.metadata),
            Input::Service,
        ),
        stream(
            client,
            Kind::Slice,
            |o: &mut EndpointSlice| trim(&mut o.metadata),
            Input::Slice,
        ),
        stream(
            client,
            Kind::Ingress,
            |o: &mut Ingress| trim(&mut o.metadata),
            Input::Ingress,
        ),
        stream(
            client,
            Kind::Class,
            |o: &mut GatewayClass| trim(&mut o.metadata),
            Input::Class,
        ),
        stream(
            client,
            Kind::Gateway,
            |o: &mut Gateway| trim(&mut o.metadata),
            Input::Gateway,
        ),
        stream(
            client,
            Kind::Namespace,
            |o: &mut Namespace| trim(&mut o.metadata),
            Input::Namespace,
        ),
        stream(
            client,
            Kind::Route,
            |o: &mut HTTPRoute| trim(&mut o.metadata),
            Input::Route,
        ),
        stream(
            client,
            Kind::Grant,
            |o: &mut ReferenceGrant| trim(&mut o.metadata),
            Input::Grant,
        ),
        stream(
            client,
            Kind::VirtualService,
            |o: &mut VirtualService| trim(&mut o.metadata),
            Input::VirtualService,
        ),
        stream(
            client,
            Kind::DestinationRule,
            |o: &mut DestinationRule| trim(&mut o.metadata),
            Input::DestinationRule,
        ),
        secrets(client, scope),
        stream(client, Kind::Pod, trim_pod, Input::Pod),
        replicas(client, scope),
    ]
}

/// A kind that is not asked for.
fn nothing(kind: Kind) -> BoxStream<'static, Result<Input, watcher::Error>> {
    futures::stream::iter([Ok(Input::Unknown(kind))]).boxed()
}

/// The Leases of the gateways behind the same Service.
fn replicas(client: &Client, scope: &Scope) -> BoxStream<'static, Result<Input, watcher::Error>> {
    let Some(service) = &scope.service else {
        return nothing(Kind::Replica);
    };
    let labels = format!("{OF_SERVICE}={}", service.name);
    let of_service = watcher::Config::default().labels(&labels);
    let api = Api::namespaced(client.clone(), &service.namespace);
    stream_of(api, of_service, Kind::Replica, trim_lease, Input::Replica)
}

fn secrets(client: &Client, scope: &Scope) -> BoxStream<'static, Result<Input, watcher::Error>> {
    if !scope.has_tls {
        return nothing(Kind::Secret);
    }
    let of_tls = watcher::Config::default().fields("type=kubernetes.io/tls");
    let trim = |secret: &mut TlsSecret| trim(&mut secret.metadata);
    stream_of(
        Api::all(client.clone()),
        of_tls,
        Kind::Secret,
        trim,
        Input::Secret,
    )
}

fn stream<K>(
    client: &Client,
    kind: Kind,
    trim: fn(&mut K),
    wrap: fn(Event<K>) -> Input,
) -> BoxStream<'static, Result<Input, watcher::Error>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api = Api::all(client.clone());
    stream_of(api, watcher::Config::default(), kind, trim, wrap)
}

fn stream_of<K>(
    api: Api<K>,
    which: watcher::Config,
    kind: Kind,
    trim: fn(&mut K),
    wrap: fn(Event<K>) -> Input,
) -> BoxStream<'static, Result<Input, watcher::Error>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watch(api, which).backoff(Waits::default());
    events
        .flat_map(move |event| {
            let (input, pause) = match event {
                Ok(event) => (Ok(wrap(event.modify(trim))), None),
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
        })
        .boxed()
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
    use super::*;

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

    async fn settled(world: &mut World, inputs: &mut mpsc::Receiver<Input>, services: usize) {
        let settle = async {
            while !world.is_settled() || world.objects.services.len() != services {
                world.handle(inputs.recv().await.unwrap());
            }
        };
        let bound = Duration::from_secs(30);
        tokio::time::timeout(bound, settle).await.unwrap();
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
        let (sender, mut inputs) = mpsc::channel(16);
        let feeding = tokio::spawn(feed(
            ApiSource::Kubeconfig(kubeconfig.clone()),
            Scope::default(),
            sender,
        ));
        let mut world = World::default();

        create("first").await;
        let control = Control::start(&server, &kubeconfig);
        settled(&mut world, &mut inputs, 1).await;

        control.kill();
        create("second").await;
        let control = Control::start(&server, &kubeconfig);
        settled(&mut world, &mut inputs, 2).await;

        control.kill();
        feeding.abort();
        drop(tokio::task::spawn_blocking(move || drop(home)).await);
    }
}
