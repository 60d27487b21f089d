//! The settings of the gateway and of its keeper: `$SERIN_HOME/gateway/config.json`, every field of which may be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::ObjectName;
use crate::replicas::Replica;
use crate::watch::ApiSource;

/// The settings of `serin gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// The state directory. It is not in the file, as the file is in it.
    #[serde(skip)]
    pub home: PathBuf,
    /// Where HTTP is served, when no keeper hands over sockets; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where HTTPS is served. Certificates come from `certificates` and from the Secrets that Ingresses name.
    pub tls_listen: Vec<SocketAddr>,
    /// Certificates in files, read again when they change.
    pub certificates: Vec<CertificateFiles>,
    /// Whether plain requests of every host are sent to HTTPS, beside those of the hosts that an Ingress has a certificate for.
    pub redirect_to_https: bool,
    /// Whether a load balancer in front of the gateway says who the client is by the PROXY protocol (version 1 or 2). Every
    /// connection must then begin with it.
    pub proxy_protocol: bool,
    /// How many proxies in front of the gateway are believed about the client (`X-Forwarded-*`, `Forwarded`). With 0 what a client
    /// says of itself is taken away.
    pub trusted_hops: usize,
    /// Whether instances get `Forwarded` (RFC 7239) beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// Where `/metrics` and the other admin pages are served over TCP, beside the unix socket. `None`: nowhere. They are not
    /// protected, so keep it on loopback.
    pub admin_listen: Option<SocketAddr>,
    /// The kubeconfig; `None` is `$SERIN_HOME/gateway/kubeconfig`, which `serin up` writes. It need not be there at the start.
    pub kubeconfig: Option<PathBuf>,
    /// Whether the API is that of the cluster whose pod this process is, by the ServiceAccount of the pod; no kubeconfig is read then.
    pub in_cluster: bool,
    /// The Service in front of this gateway, as NAMESPACE/NAME: its addresses are told in the status of Ingresses and Gateways.
    pub service: Option<ObjectName>,
    /// The name of this pod, where several gateways are behind `service`: what is acknowledged then is what all of them serve.
    pub replica: Option<String>,
    /// IP addresses and host names that are told there instead. Empty: those of `service`, else those of `listen` and `tlsListen`.
    pub addresses: Vec<String>,
    /// The class of Ingresses to take; `None` takes every class.
    pub ingress_class: Option<String>,
    /// The port of the gateway for a port that listeners of Gateways name, where it is another: `{"80": 8080}`. Without an entry a
    /// port means itself; 80 and 443 mean the first address of `listen` and `tlsListen` when nothing listens on them.
    pub gateway_ports: BTreeMap<u16, u16>,
    /// The access log; `None`: there is none.
    pub access_log: Option<AccessLogConfig>,
    /// The share, 0 to 1, of the traces that are begun here which applications are to record. `None`: a request that comes without a
    /// trace goes on without one, and the application decides.
    pub trace_sample: Option<f64>,
    /// Where spans of requests go whose trace is recorded; `None`: the gateway makes none.
    pub otlp: Option<OtlpConfig>,
    /// Worker threads; `None` is one for each core, at most 4.
    pub workers: Option<usize>,
    /// Milliseconds that a request is held while no instance is ready, before it is answered 503.
    pub hold_ms: u64,
    /// Requests that are held at once; more are answered 503 at once.
    pub max_held: usize,
    /// Milliseconds that one connect to an instance may take.
    pub connect_timeout_ms: u64,
    /// Milliseconds to the head of an answer, for routes that set no timeout.
    pub head_timeout_ms: u64,
    /// Milliseconds that a client may take to send the head of a request, and may stay idle between requests.
    pub client_idle_ms: u64,
    /// Milliseconds that a client may send nothing in the middle of a body.
    pub body_idle_ms: u64,
    /// Connections of clients at the same time; more wait to be accepted.
    pub max_connections: usize,
    /// Milliseconds after which long-lived connections to an instance that is to go are closed: a WebSocket by its own close, a
    /// stream of events by its end, other answers by a cut.
    pub drain_limit_ms: u64,
    /// Milliseconds that connections are still taken when the gateway is asked to stop, where those who send them learn of it later.
    pub stop_delay_ms: u64,
    /// Milliseconds that requests in flight have to finish when the gateway is asked to stop.
    pub stop_grace_ms: u64,
    /// Milliseconds that it goes on answering, each time with `Connection: close`, once another gateway has taken its place.
    pub replaced_leave_ms: u64,
    /// Milliseconds that requests in flight and long-lived connections have when another gateway has taken the place of this one.
    pub replaced_grace_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            home: PathBuf::new(),
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)],
            tls_listen: Vec::new(),
            certificates: Vec::new(),
            redirect_to_https: false,
            proxy_protocol: false,
            trusted_hops: 0,
            forwarded: false,
            admin_listen: None,
            kubeconfig: None,
            in_cluster: false,
            service: None,
            replica: None,
            addresses: Vec::new(),
            ingress_class: None,
            gateway_ports: BTreeMap::new(),
            access_log: None,
            trace_sample: None,
            otlp: None,
            workers: None,
            hold_ms: 5_000,
            max_held: 10_000,
            connect_timeout_ms: 2_000,
            head_timeout_ms: 60_000,
            client_idle_ms: 60_000,
            body_idle_ms: 30_000,
            max_connections: 50_000,
            drain_limit_ms: 20_000,
            stop_delay_ms: 0,
            stop_grace_ms: 10_000,
            replaced_leave_ms: 5_000,
            replaced_grace_ms: 30_000,
        }
    }
}

/// A certificate in two files, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateFiles {
    /// The hosts that it is for, `*.DOMAIN` for every one a label below. Empty: every host that no other certificate is for.
    #[serde(default)]
    pub hosts: BTreeSet<String>,
    /// The certificate and those between it and the root. A relative path is below the state directory.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// The file; `-` is the standard output. A relative path is below the state directory.
    pub path: PathBuf,
    /// The share, 0 to 1, of the requests that end well which are written. Those that fail are always written.
    pub sample: f64,
    /// Bytes after which the file is put aside.
    pub max_bytes: u64,
    /// Files that are kept aside.
    pub keep: u32,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            path: "logs/access.log".into(),
            sample: 1.0,
            max_bytes: 64 * 1024 * 1024,
            keep: 3,
        }
    }
}

/// A collector of OpenTelemetry, by OTLP over HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtlpConfig {
    /// Its address without the path, `http://127.0.0.1:4318`; `/v1/traces` is put behind it.
    pub endpoint: String,
    /// Headers of every request, such as one that has a token.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A file with the certificates, as PEM, of those who vouch for a collector behind https. A relative path is below the state
    /// directory. `None`: those that the system trusts.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The name of the gateway among services.
    #[serde(default = "OtlpConfig::default_service_name")]
    pub service_name: String,
    /// Milliseconds that one request may take.
    #[serde(default = "OtlpConfig::default_timeout_ms")]
    pub timeout_ms: u64,
}

impl OtlpConfig {
    /// A collector at this address.
    pub fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            headers: BTreeMap::new(),
            certificate: None,
            service_name: Self::default_service_name(),
            timeout_ms: Self::default_timeout_ms(),
        }
    }

    fn default_service_name() -> String {
        "serin-gateway".into()
    }

    fn default_timeout_ms() -> u64 {
        10_000
    }
}

impl fmt::Debug for OtlpConfig {
    /// Without the values of headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

/// A settings file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be; the source names line and field.
    #[error("{} is not a valid gateway configuration; correct it or remove it to use the defaults", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Where the gateway of a home looks for the API, unless its settings say otherwise: with rights of its own, not those of people.
pub fn kubeconfig(home: &Path) -> PathBuf {
    home.join("gateway").join("kubeconfig")
}

impl GatewayConfig {
    /// The settings in `home`; the defaults when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or has a wrong or unknown field.
    pub fn load(home: &Path) -> Result<Self, ConfigError> {
        let path = home.join("gateway").join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes)
                .map_err(|source| ConfigError::Parse { path, source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        config.home = home.to_owned();
        Ok(config)
    }

    pub(crate) fn api(&self) -> ApiSource {
        if self.in_cluster {
            return ApiSource::Cluster;
        }
        let own = || kubeconfig(&self.home);
        ApiSource::Kubeconfig(self.kubeconfig.clone().unwrap_or_else(own))
    }

    /// Whether there is an API, as far as is known before it is asked.
    pub(crate) fn has_api(&self) -> bool {
        match self.api() {
            ApiSource::Cluster => true,
            ApiSource::Kubeconfig(path) => path.exists(),
        }
    }

    /// Which of the gateways behind a Service this is.
    pub(crate) fn replica(&self) -> Option<Replica> {
        Some(Replica {
            service: self.service.clone()?,
            name: self.replica.clone()?,
        })
    }

    pub(crate) fn worker_count(&self) -> usize {
        let cores = || {
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(4)
        };
        self.workers.unwrap_or_else(cores).clamp(1, 64)
    }

    pub(crate) fn stop_delay(&self) -> Duration {
        Duration::from_millis(self.stop_delay_ms)
    }

    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }

    pub(crate) fn replaced_leave(&self) -> Duration {
        Duration::from_millis(self.replaced_leave_ms)
    }

    pub(crate) fn replaced_grace(&self) -> Duration {
        Duration::from_millis(self.replaced_grace_ms)
    }
}

/// What a gateway has beyond its own bounds before it is killed.
const SPARE: Duration = Duration::from_secs(5);

/// The settings of `serin keeper`.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// The state directory.
    pub home: PathBuf,
    /// Where HTTP is served; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where HTTPS is served.
    pub tls_listen: Vec<SocketAddr>,
    /// The program of the child, mostly the one that runs.
    pub program: PathBuf,
    /// Its arguments: `gateway --home DIR`.
    pub arguments: Vec<OsString>,
    /// How long the child has to stop before it is killed.
    pub stop_grace: Duration,
    /// How long one that was replaced has.
    pub replaced_grace: Duration,
}

impl KeeperConfig {
    /// A keeper of `PROGRAM gateway --home HOME` with the addresses and the bounds of the settings in `home`.
    ///
    /// # Errors
    /// When the settings of the gateway cannot be used.
    pub fn load(home: &Path, program: PathBuf) -> Result<Self, ConfigError> {
        let gateway = GatewayConfig::load(home)?;
        Ok(Self {
            home: home.to_owned(),
            stop_grace: gateway.stop_delay() + gateway.stop_grace() + SPARE,
            replaced_grace: gateway.replaced_leave() + gateway.replaced_grace() + SPARE,
            listen: gateway.listen,
            tls_listen: gateway.tls_listen,
            program,
            arguments: vec!["gateway".into(), "--home".into(), home.into()],
        })
    }
}
