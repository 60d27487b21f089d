//! What the API costs: writes that are on disk before they are answered, reads, lists, watches, memory.
//!
//! One run, in order, over a plain loopback socket, with a state file in the temporary directory; the figures of writes are to
//! be read beside that of a bare sync on the same disk, which is printed first.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints what it measured and ends at what it did not expect"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures::StreamExt;
use futures::future::join_all;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, Store};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

const ADMIN: &str = "secret";
const WRITERS: usize = 32;
const PODS: usize = 10_000;
const WATCHERS: usize = 1_000;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS_PATH: &str = "/api/v1/namespaces/default/pods";

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    show("a sync of the disk alone", syncs(dir.path()));
    let server = ApiServer::new(Store::open(&dir.path().join("state.db")).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router();
    tokio::spawn(serin_apiserver::serve(
        listener,
        server.guarded_router(ADMIN),
        std::future::pending(),
    ));
    let mut connections = Vec::new();
    for _ in 0..WRITERS {
        connections.push(Connection::open(address, ADMIN).await);
    }
    one_client(&mut connections[0]).await;
    let token = service_account(&router).await;
    with_rights(&mut Connection::open(address, &token).await).await;
    many_objects(&mut connections).await;
    watchers(&router, &mut connections[0]).await;
}

async fn one_client(client: &mut Connection) {
    let mut create = Vec::new();
    for n in 0..300 {
        let map = config_map(&format!("one-{n}"), 0);
        create.push(client.timed(Method::POST, CONFIG_MAPS, "json", &map).await);
    }
    show("create, one client", create);
    let path = format!("{CONFIG_MAPS}/one-7");
    let mut get = Vec::new();
    for _ in 0..3_000 {
        get.push(client.timed(Method::GET, &path, "json", &Value::Null).await);
    }
    show("get, one client", get);
    let mut apply = Vec::new();
    for n in 0..300 {
        let path = format!("{CONFIG_MAPS}/one-7?fieldManager=bench&force=true");
        let map = config_map("one-7", n);
        apply.push(
            client
                .timed(Method::PATCH, &path, "apply-patch+yaml", &map)
                .await,
        );
    }
    show("apply, one client", apply);
}

/// The token of an account that may see the objects of its namespace.
async fn service_account(router: &Router) -> String {
    let binding = json!({
        "metadata": {"name": "view"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    });
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let tokens = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let mut last = Value::Null;
    for (path, body) in [(roles, binding), (tokens, json!({}))] {
        let request = Request::post(path)
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap().into_body();
        last = serde_json::from_slice(&answer.collect().await.unwrap().to_bytes()).unwrap();
    }
    last["status"]["token"].as_str().unwrap().to_owned()
}

/// The same read with a signature to check and roles to ask.
async fn with_rights(client: &mut Connection) {
    let path = format!("{CONFIG_MAPS}/one-7");
    let mut get = Vec::new();
    for _ in 0..3_000 {
        get.push(client.timed(Method::GET, &path, "json", &Value::Null).await);
    }
    show("get, by a ServiceAccount", get);
}

async fn many_objects(connections: &mut [Connection]) {
    let before = resident_kib();
    let start = Instant::now();
    let each = PODS / WRITERS;
    let writers = connections
        .iter_mut()
        .enumerate()
        .map(|(writer, client)| async move {
            let mut times = Vec::with_capacity(each);
            for n in 0..each {
                let pod = pod(&format!("pod-{writer}-{n}"));
                times.push(client.timed(Method::POST, PODS_PATH, "json", &pod).await);
            }
            times
        });
    let times: Vec<Duration> = join_all(writers).await.into_iter().flatten().collect();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let (count, grown) = (times.len(), resident_kib().saturating_sub(before));
    show(&format!("create, {WRITERS} clients"), times);
    println!("{:<32} {rate:>10.0} writes/s", "");
    println!(
        "{:<32} {:>10} KiB per 1,000 pods, {} MiB in all",
        "memory",
        grown * 1_000 / count as u64,
        resident_kib() / 1_024,
    );
    let mut list = Vec::new();
    for _ in 0..10 {
        list.push(
            connections[0]
                .timed(Method::GET, PODS_PATH, "json", &Value::Null)
                .await,
        );
    }
    show(&format!("list of {count} pods"), list);
}

/// From a write to the moment when the last of all watchers has its event.
async fn watchers(router: &Router, client: &mut Connection) {
    let path =
        format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Done-7&resourceVersion=0");
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert!(response.status().is_success());
        let mut events = response.into_body().into_data_stream();
        events.next().await.unwrap().unwrap();
        watches.push(events);
    }
    let mut fan_out = Vec::new();
    for n in 0..20 {
        let path = format!("{CONFIG_MAPS}/one-7?fieldManager=bench&force=true");
        let start = Instant::now();
        client
            .timed(
                Method::PATCH,
                &path,
                "apply-patch+yaml",
                &config_map("one-7", 1_000 + n),
            )
            .await;
        for event in join_all(watches.iter_mut().map(StreamExt::next)).await {
            event.unwrap().unwrap();
        }
        fan_out.push(start.elapsed());
    }
    show(&format!("apply, seen by {WATCHERS} watchers"), fan_out);
}

struct Connection(SendRequest<Body>, String);

impl Connection {
    async fn open(address: std::net::SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender, format!("Bearer {token}"))
    }

    /// One request until the last byte of its answer.
    async fn timed(&mut self, method: Method, path: &str, media: &str, body: &Value) -> Duration {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, &self.1)
            .header(header::CONTENT_TYPE, format!("application/{media}"))
            .body(body)
            .unwrap();
        let start = Instant::now();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status();
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{status} {answer:?}");
        start.elapsed()
    }
}

fn config_map(name: &str, value: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value.to_string()}})
}

fn pod(name: &str) -> Value {
    let variables: Vec<Value> = (0..8)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("the value of {n}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web", "version": "v1"}},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080, "name": "http"}],
            "env": variables, "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}}]}})
}

fn syncs(dir: &Path) -> Vec<Duration> {
    let mut file = File::create(dir.join("sync")).unwrap();
    let one = |_| {
        let start = Instant::now();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    (0..50).map(one).collect()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:<32} {:>10.3} ms p50 {:>10.3} ms p99",
        at(0.5),
        at(0.99)
    );
}
