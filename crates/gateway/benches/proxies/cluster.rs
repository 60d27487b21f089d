//! The API that our gateway gets its routes from, and one application in it: the whole way from a change of an object to a request
//! that goes elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute, HttpRouteStatus};
use serin_api::keys::FIELD_MANAGER;
use serin_apiserver::{ApiServer, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::HOST;

const TOKEN: &str = "bench";
/// How often the one who only watches takes in what has come.
const TAKEN_EVERY: Duration = Duration::from_millis(20);
/// The longest wait for a status.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

impl Cluster {
    /// Serves the API, and says in the state directory of a gateway where it is.
    pub(crate) async fn start(home: &Path, origins: [SocketAddr; 2]) -> Self {
        let (cluster, address) = Self::serve(origins).await;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "bench", "user": {"token": TOKEN}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        std::fs::write(serin_gateway::kubeconfig(home), kubeconfig.to_string()).unwrap();
        cluster
    }

    /// Serves another API whose routes are watched too, by one who only takes in what comes: to have as much work as one with a
    /// gateway that is elsewhere.
    pub(crate) async fn start_watched(origins: [SocketAddr; 2]) -> Self {
        let (cluster, address) = Self::serve(origins).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /apis/gateway.networking.k8s.io/v1/httproutes?watch=true HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::spawn(async move {
            let mut events = vec![0_u8; 1024 * 1024];
            while let Ok(1..) = stream.read(&mut events).await {
                tokio::time::sleep(TAKEN_EVERY).await;
            }
        });
        cluster
    }

    async fn serve([stable, canary]: [SocketAddr; 2]) -> (Self, SocketAddr) {
        let server = ApiServer::new(Store::in_memory());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server.guarded_router(TOKEN);
        tokio::spawn(async move {
            serin_apiserver::serve(listener, router, std::future::pending()).await;
        });
        let cluster = Self {
            client: Client::new(server.router(), "default"),
        };
        cluster.create_all(stable, canary).await;
        (cluster, address)
    }

    async fn create_all(&self, stable: SocketAddr, canary: SocketAddr) {
        let class =
            json!({"metadata": {"name": "serin"}, "spec": {"controllerName": "serin.dev/gateway"}});
        create::<GatewayClass>(Api::all(self.client.clone()), class).await;
        let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
        let spec = json!({"gatewayClassName": "serin", "listeners": [listener]});
        self.create::<Gateway>("edge", json!({"spec": spec})).await;
        for (name, address) in [("stable", stable), ("canary", canary)] {
            let service = json!({"spec": {"ports": [{"port": 80}]}});
            self.create::<Service>(name, service).await;
            let mut slice = endpoints(address);
            slice["addressType"] = "IPv4".into();
            slice["metadata"] = json!({"labels": {"kubernetes.io/service-name": name}});
            self.create::<EndpointSlice>(name, slice).await;
        }
        let rules = rules(0);
        let spec = json!({"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": rules});
        self.create::<HTTPRoute>("web", json!({"spec": spec})).await;
    }

    async fn create<K>(&self, name: &str, mut object: Value)
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + DeserializeOwned
            + Serialize
            + Clone
            + std::fmt::Debug,
    {
        object["metadata"]["name"] = name.into();
        create::<K>(Api::default_namespaced(self.client.clone()), object).await;
    }

    /// Requests go to this instance from now on.
    pub(crate) async fn switch(&self, to: SocketAddr) {
        self.merge::<EndpointSlice>("stable", endpoints(to)).await;
    }

    /// The canary gets this share from now on.
    pub(crate) async fn weigh(&self, percent: u32) {
        let change = json!({"spec": {"rules": rules(percent)}});
        self.merge::<HTTPRoute>("web", change).await;
    }

    /// What the gateway says of the route, once it does.
    pub(crate) async fn status(&self) -> HttpRouteStatus {
        let api: Api<HTTPRoute> = Api::default_namespaced(self.client.clone());
        let said = |route: Option<&HTTPRoute>| route.is_some_and(|route| route.status.is_some());
        let told = tokio::time::timeout(PATIENCE, await_condition(api, "web", said)).await;
        told.unwrap().unwrap().unwrap().status.unwrap()
    }

    /// Says the same of it as of this generation, as a gateway would.
    pub(crate) async fn acknowledge(&self, mut status: HttpRouteStatus, generation: u32) {
        let conditions = status.parents.iter_mut().flat_map(|p| &mut p.conditions);
        conditions.for_each(|c| c.observed_generation = Some(i64::from(generation)));
        let api: Api<HTTPRoute> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status("web", &PatchParams::apply(FIELD_MANAGER), &patch)
            .await
            .unwrap();
    }

    async fn merge<K>(&self, name: &str, change: Value)
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(change);
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Resource + DeserializeOwned + Serialize + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn endpoints(address: SocketAddr) -> Value {
    json!({
        "ports": [{"port": address.port()}],
        "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
    })
}

fn rules(percent: u32) -> Value {
    json!([{"backendRefs": [
        {"name": "stable", "port": 80, "weight": 100 - percent},
        {"name": "canary", "port": 80, "weight": percent},
    ]}])
}
