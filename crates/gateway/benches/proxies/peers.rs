//! The proxies that are compared, each configured to do the same: one host, three paths, a split of 90 to 10, no access log.

use std::fmt::{self, Display};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serin_gateway::{GatewayConfig, gateway_main};
use tokio_rustls::rustls;

use crate::cluster::Cluster;
use crate::switch::Runtime;
use crate::{LOAD_CORE, PROXY_CORE, options};

pub(crate) const HOST: &str = "app.example.com";
/// Ticks of `/proc/PID/stat` in a second, as Linux has it on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
const START: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Serin,
}

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Plain,
    Tls,
    /// HTTP/2 without TLS.
    H2c,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Serin => "serin",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "nginx" => Ok(Self::Nginx),
            "haproxy" => Ok(Self::Haproxy),
            "serin" => Ok(Self::Serin),
            _ => Err(format!("no proxy is called {word}")),
        }
    }
}

/// Runs the gateway when this process was started to be one: `gateway --home DIR`.
pub(crate) fn be_gateway() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    let words = [arguments.next(), arguments.next(), arguments.next()];
    let [Some(word), Some(_), Some(home)] = words else {
        return false;
    };
    if word != "gateway" {
        return false;
    }
    let config = GatewayConfig::load(Path::new(&home)).unwrap();
    gateway_main(&config).unwrap();
    true
}

/// Keeps this thread, and what it starts from now on, on one core, if the machine has it.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// A proxy that runs; it ends with this value.
pub(crate) struct Peer {
    kind: Kind,
    child: Child,
    ports: Ports,
    director: Director,
    directory: tempfile::TempDir,
}

/// How a proxy is told to lead elsewhere.
enum Director {
    Nobody,
    Reload,
    Runtime(Runtime),
    Cluster(Cluster),
}

#[derive(Clone, Copy)]
struct Ports {
    plain: SocketAddr,
    tls: SocketAddr,
    h2c: SocketAddr,
}

impl Ports {
    /// Three that are free; the listeners go before the proxy comes, which nobody on this machine is quick enough to use.
    fn free() -> Self {
        let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [plain, tls, h2c] = sockets.each_ref().map(|s| s.local_addr().unwrap());
        Self { plain, tls, h2c }
    }
}

impl Peer {
    /// `None`, and a word about it, when the program is not installed.
    pub(crate) fn start(kind: Kind, origins: &[SocketAddr; 2]) -> Option<Self> {
        let directory = home();
        let mut ports = Ports::free();
        let command = match kind {
            Kind::Nginx => nginx(directory.path(), ports, &split(*origins), false),
            Kind::Haproxy => haproxy(directory.path(), ports, origins.map(|o| (o, true))),
            Kind::Serin => {
                ports.h2c = ports.plain;
                write_home(
                    directory.path(),
                    &settings(directory.path(), ports),
                    origins,
                );
                serin(directory.path())
            }
        };
        Self::run(kind, command, ports, Director::Nobody, directory)
    }

    /// One that leads to one application, and can be told to lead to another one.
    pub(crate) async fn start_switching(kind: Kind, first: SocketAddr) -> Option<Self> {
        if kind == Kind::Serin {
            return Self::start_routed([first; 2]).await;
        }
        let (directory, ports) = (home(), Ports::free());
        let (command, director) = if kind == Kind::Nginx {
            let command = nginx(directory.path(), ports, &only(first), true);
            (command, Director::Reload)
        } else {
            let servers = [(first, true), (first, false)];
            let command = haproxy(directory.path(), ports, servers);
            let socket = directory.path().join("stats");
            (command, Director::Runtime(Runtime { socket, used: "a" }))
        };
        Self::run(kind, command, ports, director, directory)
    }

    /// Our gateway with an API that it gets its routes from.
    pub(crate) async fn start_routed(origins: [SocketAddr; 2]) -> Option<Self> {
        let (directory, ports) = (home(), Ports::free());
        let path = directory.path();
        write_settings(path, &settings(path, ports));
        let cluster = Cluster::start(path, origins).await;
        let (command, director) = (serin(path), Director::Cluster(cluster));
        let peer = Self::run(Kind::Serin, command, ports, director, directory)?;
        crate::load::until_served(peer.ports.plain).await;
        Some(peer)
    }

    fn run(
        kind: Kind,
        mut command: Command,
        ports: Ports,
        director: Director,
        directory: tempfile::TempDir,
    ) -> Option<Self> {
        pin(PROXY_CORE);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        pin(LOAD_CORE);
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                println!("{kind} is left out: {error} (Debian: apt-get install {kind})");
                return None;
            }
        };
        let peer = Self {
            kind,
            child,
            ports,
            director,
            directory,
        };
        peer.wait();
        Some(peer)
    }

    /// Leads to this application from now on, as soon as the proxy knows it.
    pub(crate) async fn switch(&mut self, to: SocketAddr) {
        match &mut self.director {
            Director::Nobody => {}
            Director::Reload => {
                nginx(self.directory.path(), self.ports, &only(to), true);
                crate::life::send(self.child.id(), rustix::process::Signal::HUP);
            }
            Director::Runtime(runtime) => runtime.switch(to),
            Director::Cluster(cluster) => cluster.switch(to).await,
        }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match &self.director {
            Director::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    fn wait(&self) {
        let give_up = Instant::now() + START;
        while TcpStream::connect(self.ports.plain).is_err() {
            assert!(Instant::now() < give_up, "{} does not start", self.kind);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn address(&self, front: Front) -> SocketAddr {
        match front {
            Front::Plain => self.ports.plain,
            Front::Tls => self.ports.tls,
            Front::H2c => self.ports.h2c,
        }
    }

    /// What all threads of the process have used, in the kernel and outside of it.
    pub(crate) fn cpu_micros(&self) -> f64 {
        used_micros(&format!("/proc/{}/stat", self.child.id()))
    }

    /// What those threads of our gateway have used that serve requests.
    pub(crate) fn workers_cpu_micros(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let paths = threads.map(|thread| thread.unwrap().path());
        let workers = paths.filter(|path| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            name.starts_with("worker-")
        });
        let stats = workers.map(|path| path.join("stat").display().to_string());
        stats.map(|stat| used_micros(&stat)).sum()
    }

    /// The resident memory of the process.
    pub(crate) fn memory_kib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap()
    }
}

/// Of a process or of a thread, in the kernel and outside of it.
fn used_micros(stat: &str) -> f64 {
    let stat = fs::read_to_string(stat).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / TICKS_PER_SECOND * 1e6
}

impl Drop for Peer {
    fn drop(&mut self) {
        // By a signal that nginx passes on to its workers.
        crate::life::send(self.child.id(), rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A certificate of its own for the host, and its key, as PEM.
fn certificate() -> (String, String) {
    let signed = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    (signed.cert.pem(), signed.signing_key.serialize_pem())
}

/// TLS for a client that takes every certificate: what is measured is not whom it trusts.
pub(crate) fn trusting() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAll(provider)))
        .with_no_client_auth()
}

#[derive(Debug)]
struct TakesAll(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A state directory with a certificate in all the forms that a proxy may want.
fn home() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (certificate, key) = certificate();
    fs::write(path.join("cert.pem"), &certificate).unwrap();
    fs::write(path.join("key.pem"), &key).unwrap();
    fs::write(path.join("both.pem"), format!("{certificate}{key}")).unwrap();
    directory
}

/// Servers of nginx that share requests.
fn split([stable, canary]: [SocketAddr; 2]) -> String {
    format!("server {stable} weight=90; server {canary} weight=10;")
}

fn only(server: SocketAddr) -> String {
    format!("server {server};")
}

/// Writes the configuration. With a master process it can be reloaded.
fn nginx(path: &Path, ports: Ports, servers: &str, has_master: bool) -> Command {
    let master = if has_master { "on" } else { "off" };
    let directory = path.display();
    let locations = "location /small { proxy_pass http://app; } location /large { proxy_pass http://app; } location /other { return 404; }";
    let text = format!(
        "daemon off; master_process {master}; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
        worker_rlimit_nofile 60000;
        events {{ worker_connections 30000; }}
        http {{
          access_log off; keepalive_requests 100000000; keepalive_timeout 300s; http2_max_requests 100000000;
          client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
          uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
          upstream app {{ {servers} keepalive 128; keepalive_requests 100000000; }}
          proxy_http_version 1.1; proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_set_header Connection \"\"; proxy_set_header Host $host;
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
          server {{ listen {plain}; server_name {HOST}; {locations} }}
          server {{ listen {h2c} http2; server_name {HOST}; {locations} }}
          server {{ listen {tls} ssl; server_name {HOST}; {locations}
            ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem; ssl_protocols TLSv1.3; }}
        }}",
        plain = ports.plain,
        h2c = ports.h2c,
        tls = ports.tls,
    );
    fs::write(path.join("nginx.conf"), text).unwrap();
    let mut command = Command::new(program("nginx"));
    command
        .arg("-p")
        .arg(path)
        .arg("-c")
        .arg(path.join("nginx.conf"));
    command
}

/// With two servers, each used or not.
fn haproxy(path: &Path, ports: Ports, servers: [(SocketAddr, bool); 2]) -> Command {
    let word = |is_used| if is_used { "" } else { " disabled" };
    let [(first, first_is_used), (second, second_is_used)] = servers;
    let directory = path.display();
    let text = format!(
        "global\n  nbthread 1\n  maxconn {}\n  stats socket {directory}/stats level admin\n\
         defaults\n  mode http\n  timeout client 300s\n  timeout server 60s\n  timeout connect 2s\n  option forwardfor\n\
         frontend in\n  bind {plain}\n  bind {h2c} proto h2\n  bind {tls} ssl crt {directory}/both.pem ssl-min-ver TLSv1.3\n\
         \x20 use_backend app if {{ hdr(host) -i {HOST} }} {{ path_beg /small }}\n\
         \x20 use_backend app if {{ hdr(host) -i {HOST} }} {{ path_beg /large }}\n\
         backend app\n  balance roundrobin\n  http-reuse always\n  server a {first} weight 90{}\n  server b {second} weight 10{}\n",
        crate::load::raise_descriptor_limit() / 2 - 100,
        word(first_is_used),
        word(second_is_used),
        plain = ports.plain,
        h2c = ports.h2c,
        tls = ports.tls,
    );
    fs::write(path.join("haproxy.cfg"), text).unwrap();
    let mut command = Command::new(program("haproxy"));
    command.arg("-db").arg("-f").arg(path.join("haproxy.cfg"));
    command
}

fn settings(path: &Path, ports: Ports) -> serde_json::Value {
    serde_json::json!({
        "listen": [ports.plain], "tlsListen": [ports.tls], "workers": 1, "clientIdleMs": 300_000,
        "certificates": [{"certificate": path.join("cert.pem"), "key": path.join("key.pem")}]})
}

fn serin(path: &Path) -> Command {
    let mut command = Command::new(options::program());
    command.args(["gateway", "--home"]).arg(path);
    command
}

fn write_settings(path: &Path, settings: &serde_json::Value) {
    let gateway = path.join("gateway");
    fs::create_dir(&gateway).unwrap();
    fs::write(gateway.join("config.json"), settings.to_string()).unwrap();
}

/// Makes a state directory of our gateway, with settings and last good routes.
pub(crate) fn write_home(path: &Path, config: &serde_json::Value, origins: &[SocketAddr; 2]) {
    let service = |address: SocketAddr, revision: &str| {
        serde_json::json!({"ports": [{"port": 80, "endpoints": [
            {"address": address, "instance": revision, "revision": revision}]}]})
    };
    let rule = |index: u32, prefix: &str| {
        serde_json::json!({
            "source": {"kind": "httproute", "name": "default/web"}, "created": "2026-01-01T00:00:00Z", "index": index,
            "hosts": [{"exact": HOST}], "matches": [{"path": {"prefix": prefix}}],
            "backends": [
                {"service": "default/stable", "port": {"number": 80}, "weight": 90},
                {"service": "default/canary", "port": {"number": 80}, "weight": 10}],
        })
    };
    let [stable, canary] = *origins;
    let routes = serde_json::json!({"format": 1, "table": {
        "rules": [rule(0, "/small"), rule(1, "/large"), rule(2, "/other")], "routes": {},
        "services": {"default/stable": service(stable, "v1"), "default/canary": service(canary, "v2")}}});
    write_settings(path, config);
    fs::write(path.join("gateway").join("routes.json"), routes.to_string()).unwrap();
}

/// Debian keeps servers where not everybody's PATH leads.
fn program(name: &str) -> PathBuf {
    let standard = Path::new("/usr/sbin").join(name);
    if standard.exists() {
        standard
    } else {
        name.into()
    }
}
