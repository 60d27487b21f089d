//! Watches the objects and keeps [`Objects`] as they were last seen.
//!
//! A list that is read anew takes the place of the old one at once, when it is whole. Until every list is whole the picture is
//! unsettled, and no table is made of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
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
use crate::objects::{Objects, PodLife, trim, trim_pod};

/// The pause between tries to reach the API, and between looks at the kubeconfig.
const RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(2);

/// What the feed tells the control loop.
#[expect(
    clippy::large_enum_variant,
    reason = "an input lives for a moment in a bounded queue; a box for each would cost more"
)]
pub(crate) enum Input {
    /// The API has an address; every list will be read anew.
    Connected(Client),
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    Ingress(Event<Ingress>),
    Class(Event<GatewayClass>),
    Gateway(Event<Gateway>),
    Namespace(Event<Namespace>),
    Route(Event<HTTPRoute>),
    Grant(Event<ReferenceGrant>),
    VirtualService(Event<VirtualService>),
    DestinationRule(Event<DestinationRule>),
    Secret(Event<Secret>),
    Pod(Event<PodLife>),
    /// The API does not know the kind, so there are no objects of it.
    Unknown(Kind),
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Service,
    Slice,
    Ingress,
    Class,
    Gateway,
    Namespace,
    Route,
    Grant,
    VirtualService,
    DestinationRule,
    Secret,
    Pod,
}

/// The objects, and how far their lists are.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) objects: Objects,
    services: Feed<Service>,
    slices: Feed<EndpointSlice>,
    ingresses: Feed<Ingress>,
    classes: Feed<GatewayClass>,
    gateways: Feed<Gateway>,
    namespaces: Feed<Namespace>,
    routes: Feed<HTTPRoute>,
    grants: Feed<ReferenceGrant>,
    virtual_services: Feed<VirtualService>,
    destination_rules: Feed<DestinationRule>,
    secrets: Feed<Secret>,
    pods: Feed<PodLife>,
}

/// How far one list is.
struct Feed<K> {
    is_listed: bool,
    /// The list while it is read anew.
    pending: Option<BTreeMap<ObjectName, K>>,
}

impl<K> Default for Feed<K> {
    fn default() -> Self {
        Self {
            is_listed: false,
            pending: None,
        }
    }
}

impl<K: Resource> Feed<K> {
    fn handle(&mut self, current: &mut BTreeMap<ObjectName, K>, event: Event<K>) {
        match event {
            Event::Init => self.pending = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let pending = self.pending.get_or_insert_default();
                pending.insert(ObjectName::of(&object), object);
            }
            Event::InitDone => {
                *current = self.pending.take().unwrap_or_default();
                self.is_listed = true;
            }
            Event::Apply(object) => {
                current.insert(ObjectName::of(&object), object);
            }
            Event::Delete(object) => {
                current.remove(&ObjectName::of(&object));
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.is_listed && self.pending.is_none()
    }
}

impl World {
    /// Takes one input in.
    pub(crate) fn handle(&mut self, input: Input) {
        let objects = &mut self.objects;
        match input {
            Input::Connected(_) => {
                self.services = Feed::default();
                self.slices = Feed::default();
                self.ingresses = Feed::default();
                self.classes = Feed::default();
                self.gateways = Feed::default();
                self.namespaces = Feed::default();
                self.routes = Feed::default();
                self.grants = Feed::default();
                self.virtual_services = Feed::default();
                self.destination_rules = Feed::default();
                self.secrets = Feed::default();
                self.pods = Feed::default();
            }
            Input::Service(event) => self.services.handle(&mut objects.services, event),
            Input::Slice(event) => self.slices.handle(&mut objects.slices, event),
            Input::Ingress(event) => self.ingresses.handle(&mut objects.ingresses, event),
            Input::Class(event) => self.classes.handle(&mut objects.classes, event),
            Input::Gateway(event) => self.gateways.handle(&mut objects.gateways, event),
            Input::Namespace(event) => self.namespaces.handle(&mut objects.namespaces, event),
            Input::Route(event) => self.routes.handle(&mut objects.routes, event),
            Input::Grant(event) => self.grants.handle(&mut objects.grants, event),
            Input::VirtualService(event) => self
                .virtual_services
                .handle(&mut objects.virtual_services, event),
            Input::DestinationRule(event) => self
                .destination_rules
                .handle(&mut objects.destination_rules, event),
            Input::Secret(event) => self.secrets.handle(&mut objects.secrets, event),
            Input::Pod(event) => self.pods.handle(&mut objects.pods, event),
            Input::Unknown(kind) => self.forget(kind),
        }
    }

    fn forget(&mut self, kind: Kind) {
        let objects = &mut self.objects;
        match kind {
            Kind::Service => self.services.handle(&mut objects.services, Event::InitDone),
            Kind::Slice => self.slices.handle(&mut objects.slices, Event::InitDone),
            Kind::Ingress => self
                .ingresses
                .handle(&mut objects.ingresses, Event::InitDone),
            Kind::Class => self.classes.handle(&mut objects.classes, Event::InitDone),
            Kind::Gateway => self.gateways.handle(&mut objects.gateways, Event::InitDone),
            Kind::Namespace => self
                .namespaces
                .handle(&mut objects.namespaces, Event::InitDone),
            Kind::Route => self.routes.handle(&mut objects.routes, Event::InitDone),
            Kind::Grant => self.grants.handle(&mut objects.grants, Event::InitDone),
            Kind::VirtualService => self
                .virtual_services
                .handle(&mut objects.virtual_services, Event::InitDone),
            Kind::DestinationRule => self
                .destination_rules
                .handle(&mut objects.destination_rules, Event::InitDone),
            Kind::Secret => self.secrets.handle(&mut objects.secrets, Event::InitDone),
            Kind::Pod => self.pods.handle(&mut objects.pods, Event::InitDone),
        }
    }

    /// Whether every list is whole.
    pub(crate) fn is_settled(&self) -> bool {
        self.services.is_settled()
            && self.slices.is_settled()
            && self.ingresses.is_settled()
            && self.classes.is_settled()
            && self.gateways.is_settled()
            && self.namespaces.is_settled()
            && self.routes.is_settled()
            && self.grants.is_settled()
            && self.virtual_services.is_settled()
            && self.destination_rules.is_settled()
            && self.secrets.is_settled()
            && self.pods.is_settled()
    }
}

/// Feeds the control loop until it is gone. The kubeconfig at `path` is read again whenever the API cannot be reached, as its
/// address may have changed.
pub(crate) async fn feed(path: PathBuf, has_tls: bool, inputs: mpsc::Sender<Input>) {
    let mut complaint = String::new();
    while !inputs.is_closed() {
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        let text = read();
        match client(&text).await {
            Ok(client) => {
                complaint.clear();
                let _ = follow(&client, has_tls, &inputs, || read() != text).await;
            }
            Err(error) => {
                if complaint != error {
                    tracing::info!(path = %path.display(), %error, "no control plane yet; the last good routes are served");
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
/// Secrets are read only where certificates are used.
pub(crate) async fn follow(
    client: &Client,
    has_tls: bool,
    inputs: &mpsc::Sender<Input>,
    has_moved: impl Fn() -> bool,
) -> Option<()> {
    inputs.send(Input::Connected(client.clone())).await.ok()?;
    let mut all = futures::stream::select_all(streams(client, has_tls));
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
    has_tls: bool,
) -> [BoxStream<'static, Result<Input, watcher::Error>>; 12] {
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
        if has_tls {
            secrets(client)
        } else {
            futures::stream::iter([Ok(Input::Unknown(Kind::Secret))]).boxed()
        },
        stream(client, Kind::Pod, trim_pod, Input::Pod),
    ]
}

fn secrets(client: &Client) -> BoxStream<'static, Result<Input, watcher::Error>> {
    let of_tls = watcher::Config::default().fields("type=kubernetes.io/tls");
    let trim = |secret: &mut Secret| trim(&mut secret.metadata);
    stream_of(client, of_tls, Kind::Secret, trim, Input::Secret)
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
    stream_of(client, watcher::Config::default(), kind, trim, wrap)
}

fn stream_of<K>(
    client: &Client,
    which: watcher::Config,
    kind: Kind,
    trim: fn(&mut K),
    wrap: fn(Event<K>) -> Input,
) -> BoxStream<'static, Result<Input, watcher::Error>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    let events = watch(api, which).backoff(Waits::default());
    events
        .map(move |event| match event {
            Ok(event) => Ok(wrap(event.modify(trim))),
            Err(error) if is_unknown(&error) => Ok(Input::Unknown(kind)),
            Err(error) => Err(error),
        })
        .boxed()
}

/// Whether the API does not serve the kind at all.
fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
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

    fn listed(world: &mut World) {
        for kind in [
            Kind::Service,
            Kind::Slice,
            Kind::Ingress,
            Kind::Class,
            Kind::Gateway,
            Kind::Namespace,
            Kind::Route,
            Kind::Grant,
            Kind::VirtualService,
            Kind::DestinationRule,
            Kind::Secret,
            Kind::Pod,
        ] {
            world.handle(Input::Unknown(kind));
        }
    }

    #[test]
    fn a_picture_is_settled_when_every_list_is_whole() {
        let mut world = World::default();
        assert!(!world.is_settled());
        listed(&mut world);
        assert!(world.is_settled());
        world.handle(Input::Service(Event::Apply(service("a"))));
        world.handle(Input::Service(Event::Init));
        world.handle(Input::Service(Event::InitApply(service("b"))));
        assert!(!world.is_settled());
        assert_eq!(world.objects.services.len(), 1);
        world.handle(Input::Service(Event::InitDone));
        let names: Vec<_> = world
            .objects
            .services
            .keys()
            .map(|n| n.name.as_str())
            .collect();
        assert_eq!((names, world.is_settled()), (vec!["b"], true));
        world.handle(Input::Service(Event::Delete(service("b"))));
        assert!(world.objects.services.is_empty());
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
        let feeding = tokio::spawn(feed(kubeconfig.clone(), false, sender));
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
