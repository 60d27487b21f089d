//! TLS through the listener of a Gateway: a real gateway process, a real API, clients that check certificates, and certificates that
//! change under load.

#![cfg(target_os = "linux")]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends at what it did not expect"
)]

#[path = "../../apiserver/tests/support/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute};
use serin_apiserver::{ApiServer, Store};
use serin_gateway::{GatewayConfig, gateway_main, read_endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::{TlsConnector, rustls};
use waiting::soon;

const HOME: &str = "SERIN_TEST_HOME";
const HOST: &str = "app.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test: the entry of the gateway process.
#[test]
fn entry_of_the_gateway() {
    let Some(home) = std::env::var_os(HOME).map(PathBuf::from) else {
        return;
    };
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = GatewayConfig {
        listen: vec![local],
        tls_listen: vec![local],
        workers: Some(2),
        ..GatewayConfig::load(&home).unwrap()
    };
    gateway_main(&config).unwrap();
}

/// Ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(home: &Path) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "entry_of_the_gateway"])
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// The embedded API, reached over a socket as the process reaches it.
async fn serve_api(home: &Path) -> Client {
    let server = ApiServer::new(Store::in_memory());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.guarded_router("secret");
    tokio::spawn(async move {
        serin_apiserver::serve(listener, router, std::future::pending()).await;
    });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "serin",
        "clusters": [{"name": "serin", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "serin", "user": {"token": "secret"}}],
        "contexts": [{"name": "serin", "context": {"cluster": "serin", "user": "serin"}}],
    });
    let path = serin_gateway::kubeconfig(home);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, kubeconfig.to_string()).unwrap();
    Client::new(server.router(), "default")
}

/// Answers `hello` to whatever is asked.
async fn serve_application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut head).await {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                        let _ = stream.write_all(answer).await;
                    }
                }
            });
        }
    });
    port
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Resource + DeserializeOwned + Serialize + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    let created = api.create(&PostParams::default(), &object).await;
    created.unwrap();
}

async fn create_objects(client: &Client, application: u16, first: &Signed) {
    let class =
        json!({"metadata": {"name": "serin"}, "spec": {"controllerName": "serin.dev/gateway"}});
    create::<GatewayClass>(Api::all(client.clone()), class).await;
    let secret =
        json!({"metadata": {"name": "web"}, "type": "kubernetes.io/tls", "data": first.data()});
    create::<Secret>(Api::default_namespaced(client.clone()), secret).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    create::<Service>(Api::default_namespaced(client.clone()), service).await;
    let slice = json!({
        "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": application}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
    });
    create::<EndpointSlice>(Api::default_namespaced(client.clone()), slice).await;
    let tls = json!({"certificateRefs": [{"name": "web"}]});
    let listener =
        json!({"name": "tls", "port": 443, "protocol": "HTTPS", "hostname": HOST, "tls": tls});
    let spec = json!({"gatewayClassName": "serin", "listeners": [listener]});
    let gateway = json!({"metadata": {"name": "edge"}, "spec": spec});
    create::<Gateway>(Api::default_namespaced(client.clone()), gateway).await;
    let rules = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let spec = json!({"parentRefs": [{"name": "edge"}], "rules": rules});
    let route = json!({"metadata": {"name": "web"}, "spec": spec});
    create::<HTTPRoute>(Api::default_namespaced(client.clone()), route).await;
}

/// A certificate for the host, signed by itself.
struct Signed {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Signed {
    fn new() -> Self {
        let signed = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        Self {
            chain: signed.cert.pem(),
            key: signed.signing_key.serialize_pem(),
            der: signed.cert.der().clone(),
        }
    }

    fn data(&self) -> BTreeMap<&'static str, ByteString> {
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        [
            ("tls.crt", bytes(&self.chain)),
            ("tls.key", bytes(&self.key)),
        ]
        .into()
    }
}

/// A client that trusts all of the certificates.
fn connector(all: &[Signed]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for one in all {
        roots.add(one.der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session shows the certificate of the one that it goes on with.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// One request on a connection of its own; the certificate that was shown.
async fn visit(
    connector: &TlsConnector,
    address: SocketAddr,
) -> std::io::Result<CertificateDer<'static>> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(HOST.try_into().unwrap(), stream).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(text));
    }
    let shown = stream.get_ref().1.peer_certificates();
    let shown = shown.and_then(|chain| chain.first()).cloned();
    shown.ok_or_else(|| std::io::Error::other("no certificate"))
}

async fn until<T>(what: impl Fn() -> String, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = holds().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, wait).await;
    ended.unwrap_or_else(|_| panic!("did not come about: {}", what()))
}

/// Visits until told to stop; how many visits went well, and what else happened.
async fn load(
    connector: TlsConnector,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
) -> (u32, Vec<String>) {
    let (mut well, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match visit(&connector, address).await {
            Ok(_) => well += 1,
            Err(error) => lost.push(error.to_string()),
        }
    }
    (well, lost)
}

async fn change(client: &Client, data: Value) {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let patch = Patch::Merge(json!({"data": data}));
    let changed = secrets.patch("web", &PatchParams::default(), &patch).await;
    changed.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_changes_under_load_fails_no_handshake() {
    let home = tempfile::tempdir().unwrap();
    let all: Vec<Signed> = (0..4).map(|_| Signed::new()).collect();
    let client = serve_api(home.path()).await;
    create_objects(&client, serve_application().await, &all[0]).await;
    let _process = start(home.path());
    let address = until(
        || "the gateway".into(),
        async || read_endpoint(home.path())?.tls_listen.first().copied(),
    );
    let address = address.await;
    let connector = connector(&all);
    let shows = async |one: &Signed| {
        let last = std::cell::RefCell::new(String::new());
        let shown = async || {
            let shown = visit(&connector, address).await;
            if let Err(error) = &shown {
                *last.borrow_mut() = error.to_string();
            }
            (shown.ok()? == one.der).then_some(())
        };
        until(|| format!("another certificate; {}", last.borrow()), shown).await;
    };
    shows(&all[0]).await;

    let stop = Arc::new(AtomicBool::new(false));
    let loads = (0..3).map(|_| tokio::spawn(load(connector.clone(), address, Arc::clone(&stop))));
    let loads: Vec<_> = loads.collect();
    for one in &all[1..] {
        change(&client, json!(one.data())).await;
        shows(one).await;
    }
    // One that cannot be used is told, and the last good one goes on.
    change(
        &client,
        json!({"tls.crt": ByteString(b"no certificate".into())}),
    )
    .await;
    let gateways: Api<Gateway> = Api::default_namespaced(client.clone());
    until(
        || "a word about the certificate".into(),
        async || {
            let status = gateways.get("edge").await.ok()?.status?;
            let resolved = conditions::get(&status.listeners.first()?.conditions, "ResolvedRefs")?;
            (resolved.reason == "InvalidCertificateRef").then_some(())
        },
    )
    .await;
    shows(&all[3]).await;
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        let (well, lost) = soon("the end of a load", load).await.unwrap();
        assert_eq!(lost, Vec::<String>::new());
        assert!(well > 0);
    }
}
