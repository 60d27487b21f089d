//! The control loop against the embedded API in process: objects in, acknowledgements out.

use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute};
use serin_api::keys::condition;
use tokio::sync::oneshot;

use super::*;
use crate::lower::Sockets;
use crate::proxy::Settings;
use crate::table::{EndpointEntry, PortEntry, ServiceEntry};
use crate::tls::Tls;
use crate::waiting::soon;
use crate::watch::{Clients, Scope, follow};

mod addresses;
mod replicas;
mod rights;

struct World {
    /// May do everything.
    client: Client,
    shared: Arc<Shared>,
    pages: Arc<Pages>,
    stop: Option<oneshot::Sender<()>>,
    control: tokio::task::JoinHandle<Control>,
}

impl World {
    fn start() -> Self {
        let server = serin_apiserver::ApiServer::new(serin_apiserver::Store::in_memory());
        let client = Client::new(server.router(), "default");
        Self::with(client.clone(), client)
    }

    /// `own` is the client of the gateway.
    fn with(client: Client, own: Client) -> Self {
        Self::with_options(client, own, Self::options(), None)
    }

    fn options() -> LowerOptions {
        LowerOptions {
            sockets: Sockets {
                http: vec![([127, 0, 0, 1], 8080).into()],
                ..Sockets::default()
            },
            ..LowerOptions::default()
        }
    }

    fn with_options(
        client: Client,
        own: Client,
        options: LowerOptions,
        replica: Option<Replica>,
    ) -> Self {
        let shared = Arc::new(Shared::new(
            Settings {
                hold: Duration::ZERO,
                connect_timeout: Duration::from_secs(1),
                head_timeout: Duration::from_secs(1),
                client_idle: Duration::from_secs(1),
                max_held: 1,
                ..crate::testing::settings()
            },
            Tls::new().unwrap(),
        ));
        let pages = Arc::new(Pages::new(Arc::clone(&shared)));
        let mut control = Control::new(Arc::clone(&shared), Arc::clone(&pages), options);
        let scope = Scope {
            has_tls: true,
            service: replica.as_ref().map(|replica| replica.service.clone()),
        };
        if let Some(replica) = replica {
            control.set_replica(replica);
        }
        let (sender, mut batches) = crate::watch::channel();
        let clients = Clients {
            watches: own.clone(),
            control: own,
        };
        tokio::spawn(async move { follow(&clients, &scope, &sender, || false).await });
        let (stop, stopped) = oneshot::channel();
        let control = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            control.run(&mut batches, stopped).await;
            control
        });
        Self {
            client,
            shared,
            pages,
            stop: Some(stop),
            control,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Waits until the object is as it should be.
    async fn until<K>(&self, name: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = self.api();
        let mut last = None;
        let wait = async {
            loop {
                let object = api.get(name).await.unwrap();
                if holds(&object) {
                    return object;
                }
                last = Some(object);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(object) => object,
            Err(_) => panic!("{name} did not get there: {last:#?}"),
        }
    }

    /// Waits until the route says that what it asks for is served.
    async fn until_acknowledged(&self, generation: i64) -> HTTPRoute {
        let served = |route: &HTTPRoute| route.acknowledged_generation() == Some(generation);
        self.until("web", served).await
    }

    async fn stop(mut self) -> Control {
        self.stop.take().unwrap().send(()).unwrap();
        soon("the end of the control loop", self.control)
            .await
            .unwrap()
    }
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

fn slice(generation: i64, pod: &Pod) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-v1", "labels": {"kubernetes.io/service-name": "web", "serin.dev/revision": "v1"},
            "annotations": {"serin.dev/service-generation": generation.to_string()}},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["127.64.0.1"], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "default", "uid": pod.metadata.uid}}]})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "finalizers": ["serin.dev/test"]},
        "spec": {"nodeName": "local", "containers": [{"name": "web", "image": "host"}]}})
}

fn is_drained(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
    conditions::is_true(conditions.unwrap_or_default(), condition::DRAINED)
}

fn route() -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 100}]}]}})
}

#[tokio::test]
async fn what_is_served_is_acknowledged_and_what_leaves_is_drained() {
    let world = World::start();
    let service: Service = world.create(service()).await;
    let pod: Pod = world.create(pod()).await;
    let generation = service.metadata.generation.unwrap_or_default();
    let _: EndpointSlice = world.create(slice(generation, &pod)).await;
    let _: HTTPRoute = world.create(route()).await;
    world.until_acknowledged(1).await;
    world
        .until("web", |service: &Service| {
            let conditions = service
                .status
                .as_ref()
                .and_then(|s| s.conditions.as_deref());
            let served = conditions::get(conditions.unwrap_or_default(), condition::SERVED);
            served.is_some_and(|c| c.observed_generation == Some(generation))
        })
        .await;

    let weight =
        json!([{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 7}]);
    let patch = Patch::Json::<()>(serde_json::from_value(weight).unwrap());
    let api: Api<HTTPRoute> = world.api();
    api.patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    world.until_acknowledged(2).await;
    let table = world.shared.table.load().table.clone();
    assert_eq!(table.rules[0].backends[0].weight, 7);
    assert_eq!(
        table
            .services
            .values()
            .map(|s| s.ports[0].endpoints.len())
            .sum::<usize>(),
        1
    );

    let pods: Api<Pod> = world.api();
    pods.delete("web-1", &DeleteParams::default())
        .await
        .unwrap();
    world.until("web-1", is_drained).await;
    let control = world.stop().await;
    assert_eq!(
        control
            .table()
            .services
            .values()
            .map(|s| s.ports[0].endpoints.len())
            .sum::<usize>(),
        0
    );
}

#[tokio::test]
async fn a_gateway_of_our_class_says_where_it_is_served_and_how_many_routes_it_has() {
    let world = World::start();
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "serin"}, "spec": {"controllerName": "serin.dev/gateway"}});
    let classes: Api<GatewayClass> = Api::all(world.client.clone());
    let class = serde_json::from_value(class).unwrap();
    let params = PostParams::default();
    classes.create(&params, &class).await.unwrap();
    let _: Service = world.create(service()).await;
    let mut attached = route();
    attached["spec"]["parentRefs"] = json!([{"name": "edge"}]);
    let _: HTTPRoute = world.create(attached).await;
    let refused = |route: &HTTPRoute| {
        let status = route.status.as_ref();
        let parent = status.and_then(|status| status.parents.first());
        let accepted = parent.and_then(|p| conditions::get(&p.conditions, "Accepted"));
        accepted.is_some_and(|c| c.reason == "NoMatchingParent")
    };
    world.until("web", refused).await;
    let _: Gateway = world
        .create(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"}, "spec": {"gatewayClassName": "serin",
                "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]}}),
        )
        .await;
    let is_served = |gateway: &Gateway| {
        let Some(status) = &gateway.status else {
            return false;
        };
        let listener = status.listeners.first();
        let is = |kind| listener.is_some_and(|l| conditions::is_true(&l.conditions, kind));
        listener.is_some_and(|l| l.attached_routes == 1)
            && is("Accepted")
            && is("Programmed")
            && is("ResolvedRefs")
            && !is("Conflicted")
            && conditions::is_true(&status.conditions, "Programmed")
            && status.addresses.iter().any(|a| a.value == "127.0.0.1")
    };
    world.until("edge", is_served).await;
    world.until_acknowledged(1).await;
    let class = classes.get("serin").await.unwrap();
    assert!(conditions::is_true(
        &class.status.unwrap().conditions,
        "Accepted"
    ));
    assert_eq!(world.shared.table.load().table.rules[0].port, Some(8080));
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_written_when_there_is_nothing_to_say() {
    let world = World::start();
    let _: HTTPRoute = world.create(route()).await;
    let said = world.until_acknowledged(1).await;
    // Another object makes the loop run again; the first one is not spoken of again.
    let _: Service = world.create(service()).await;
    let resolved = world
        .until("web", |route: &HTTPRoute| {
            let parents = route
                .status
                .as_ref()
                .map(|s| s.parents.as_slice())
                .unwrap_or_default();
            parents
                .iter()
                .any(|p| conditions::is_true(&p.conditions, "ResolvedRefs"))
        })
        .await;
    assert_ne!(
        said.metadata.resource_version,
        resolved.metadata.resource_version
    );
    let mut other = route();
    other["metadata"]["name"] = "later".into();
    other["spec"]["hostnames"] = json!(["later.example"]);
    let _: HTTPRoute = world.create(other).await;
    world
        .until("later", |route: &HTTPRoute| {
            route.status.as_ref().is_some_and(|s| !s.parents.is_empty())
        })
        .await;
    let again = world.until("web", |_: &HTTPRoute| true).await;
    assert_eq!(
        resolved.metadata.resource_version,
        again.metadata.resource_version
    );
    world.stop().await;
}

#[tokio::test]
async fn what_lives_long_at_an_instance_that_goes_is_told_to_go_at_the_limit_of_the_drain() {
    let shared = Shared::new(crate::testing::settings(), Tls::new().unwrap());
    let shared = Arc::new(shared);
    let pages = Arc::new(Pages::new(Arc::clone(&shared)));
    let mut control = Control::new(Arc::clone(&shared), pages, LowerOptions::default());
    let port = PortEntry {
        endpoints: vec![EndpointEntry {
            address: ([127, 0, 0, 1], 1).into(),
            instance: "web-1".into(),
            revision: String::new(),
            subsets: Vec::new(),
        }],
        ..PortEntry::default()
    };
    let entry = ServiceEntry {
        ports: vec![port.clone()],
        ..ServiceEntry::default()
    };
    control.swap(RouteTable {
        services: [(crate::names::ObjectName::new("default", "web"), entry)].into(),
        ..RouteTable::default()
    });
    let instances = &mut control.lasting.instances;
    let endpoint = instances.endpoint(&port.endpoints[0], &port);
    let in_flight = endpoint.instance.enter().unwrap();
    let mut to_go = std::pin::pin!(in_flight.to_go(shared.phase.subscribe()));
    control.swap(RouteTable::default());
    for (second, limit, goes) in [(1, 3600, false), (2, 0, true)] {
        control.set_drain_limit(Duration::from_secs(limit));
        control.tick(second);
        assert_eq!(to_go.as_mut().now_or_never().is_some(), goes);
    }
}
