//! The platform of one state directory: API, controllers, node and gateway, put together and taken apart again.
//!
//! [`Platform::stop`] ends what runs in this process. Instances and the gateway are processes of their own and live on; the
//! next start finds them again.

mod authority;
mod credentials;
mod exec;
mod files;
mod gateway;
pub(crate) mod identities;
mod images;
mod lock;
mod logs;
mod ports;
mod processes;
mod tls;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_apiserver::{ApiServer, Store, StoreError, User};
use serin_node::{Bundles, NodeConfig};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::home::{Home, HomeError};
use credentials::Credentials;
use gateway::Gateway;
use identities::Part;
use ports::PortHolder;

pub(crate) use credentials::{CredentialsError, reachable};
pub(crate) use gateway::{Processes, serving};
pub(crate) use images::{Images, ImagesError};
pub(crate) use lock::{Holder, HomeLock, LockError};

/// How long the parts may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// The first and the longest pause before a part that ended by itself is started again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a platform is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its state directory.
    pub(crate) home: Home,
    /// Where the API listens; port 0 lets the system choose.
    pub(crate) listen: SocketAddr,
    /// Names and addresses under which the API is reached, besides loopback and where it listens.
    pub(crate) names: Vec<String>,
    /// Whether it has a gateway.
    pub(crate) gateway: bool,
    /// Whether the controllers of Rollouts run in it.
    pub(crate) rollouts: bool,
    /// Where the gateway listens; empty for what its own settings say.
    pub(crate) gateway_listen: Vec<SocketAddr>,
    /// The only hosts that metrics are asked of; empty for any.
    pub(crate) metrics_hosts: Vec<String>,
    /// Where the gateway speaks TLS; empty for what its own settings say.
    pub(crate) gateway_tls_listen: Vec<SocketAddr>,
    /// What image names stand for.
    pub(crate) bundles: Bundles,
    /// The `serin` executable, of which shims and the gateway are started.
    pub(crate) program: PathBuf,
}

/// Why a platform does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Another control plane has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Token or certificate.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no certificate.
    #[error("no certificate can be made for {}", names.join(", "))]
    Certificate {
        /// For which names.
        names: Vec<String>,
        /// Why.
        source: authority::IssueError,
    },
    /// Another program has the port.
    #[error("{what} cannot listen on {address}: {}", taken(holder.as_ref()))]
    PortInUse {
        /// Of whom.
        what: &'static str,
        /// Which.
        address: SocketAddr,
        /// Who has it; `None` when that is not to be seen.
        holder: Option<PortHolder>,
    },
    /// The address cannot be listened on.
    #[error("{what} cannot listen on {address}")]
    Listen {
        /// Who.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The objects.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The parts cannot be given their roles.
    #[error("cannot give the parts of the platform their roles")]
    Roles(#[source] kube::Error),
    /// A task of the start fell over.
    #[error("the start broke off")]
    Task(#[from] tokio::task::JoinError),
}

fn taken(holder: Option<&PortHolder>) -> String {
    match holder {
        Some(holder) => format!("{holder} already does"),
        None => "a program of another user already does".to_owned(),
    }
}

/// Takes the state directory, for work that a control plane must not come between.
pub(crate) fn take_lock(home: &Home) -> Result<HomeLock, LockError> {
    HomeLock::take(&home.lock())
}

/// What `run/serin.json` says of a living control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process.
    pub(crate) pid: u32,
    /// Where its API listens.
    pub(crate) api: SocketAddr,
}

impl Running {
    fn path(home: &Home) -> PathBuf {
        home.run().join("serin.json")
    }

    /// What the file says; `None` when there is none. The process may be gone.
    pub(crate) fn read(home: &Home) -> Option<Self> {
        let bytes = std::fs::read(Self::path(home)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// A platform that runs in this process.
pub(crate) struct Platform {
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// How to reach it.
    pub(crate) kubeconfig: PathBuf,
    home: Home,
    parts: JoinSet<()>,
    stop_parts: CancellationToken,
    serving: JoinSet<()>,
    stop_serving: CancellationToken,
    _lock: HomeLock,
}

impl Platform {
    /// Starts everything; the API answers when this returns. Nothing is left running when it fails.
    pub(crate) async fn start(options: Options) -> Result<Self, PlatformError> {
        let home = options.home.clone();
        home.prepare()?;
        let lock = HomeLock::take(&home.lock())?;
        let credentials = Credentials::of(&home)?;
        let listener = listen("the API", options.listen)?;
        let api = listener
            .local_addr()
            .map_err(|source| PlatformError::Listen {
                what: "the API",
                address: options.listen,
                source,
            })?;
        if options.gateway {
            let asked = [&options.gateway_listen[..], &options.gateway_tls_listen].concat();
            check_gateway_ports(&home, &asked).await?;
        }
        let store = open(home.state_db()).await?;
        let logs = logs::NodeLogs {
            home: home.root().to_path_buf(),
        };
        let exec = exec::NodeExec {
            home: home.root().to_path_buf(),
        };
        let server = ApiServer::new(store)
            .with_logs(Arc::new(logs))
            .with_exec(Arc::new(exec))
            .with_token_key(credentials.token_key.clone())
            .with_token(&credentials.gateway_token, Part::Gateway.user());
        let tls = gateway::tls_of(&home, &options.gateway_tls_listen);
        identities::give_roles(&installer(&server), tls)
            .await
            .map_err(PlatformError::Roles)?;
        let stop_serving = CancellationToken::new();
        let mut serving = JoinSet::new();
        let kubeconfig = credentials.write_kubeconfig(&home, api)?;
        let names = names(&options);
        let router = server.guarded_router_at(&credentials.token, &names);
        let acceptor = tls::acceptor(credentials.authority, names.clone())
            .map_err(|source| PlatformError::Certificate { names, source })?;
        serving.spawn(tls::serve(listener, acceptor, router, stop_serving.clone()));
        write_running(&home, api)?;
        let stop_parts = CancellationToken::new();
        let mut parts = JoinSet::new();
        start_parts(&mut parts, &options, &server, &stop_parts);
        Ok(Self {
            api,
            kubeconfig,
            home,
            parts,
            stop_parts,
            serving,
            stop_serving,
            _lock: lock,
        })
    }

    /// Ends what runs in this process: first the parts, then the API that they speak to.
    pub(crate) async fn stop(mut self) {
        self.stop_parts.cancel();
        let ended = async { while self.parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, ended).await.is_err() {
            tracing::warn!("a part did not end in time");
        }
        self.parts.shutdown().await;
        self.stop_serving.cancel();
        while self.serving.join_next().await.is_some() {}
        let _ = std::fs::remove_file(Running::path(&self.home));
    }
}

/// The names and addresses under which the API answers.
fn names(options: &Options) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let ip = options.listen.ip();
    let own = (!ip.is_unspecified()).then(|| ip.to_string());
    for name in own.iter().chain(&options.names) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// A client in this process with the rights of a part.
fn client(server: &ApiServer, part: Part) -> kube::Client {
    kube::Client::new(server.router_of(part.user()), "default")
}

/// A client in this process for what the platform makes at its start.
fn installer(server: &ApiServer) -> kube::Client {
    let user = User::of_the_system("system:serin");
    kube::Client::new(server.router_of(user), "default")
}

fn start_parts(
    parts: &mut JoinSet<()>,
    options: &Options,
    server: &ApiServer,
    stop: &CancellationToken,
) {
    if options.gateway {
        let gateway = Gateway {
            home: options.home.clone(),
            listen: options.gateway_listen.clone(),
            tls_listen: options.gateway_tls_listen.clone(),
            program: options.program.clone(),
            installer: installer(server),
        };
        parts.spawn(gateway.keep(stop.clone()));
        parts.spawn(gateway::make_class(installer(server)));
    }
    let controllers = client(server, Part::Controllers);
    let gateway_socket = options
        .gateway
        .then(|| serin_gateway::info::admin_socket(options.home.root()));
    let rollouts = options.rollouts;
    if rollouts {
        let client = installer(server);
        parts.spawn(async move {
            if let Err(error) = crate::analysis_templates::install(client).await {
                let why = crate::error::chain(&error);
                tracing::warn!("the default analysis templates are not there: {why}");
            }
        });
    }
    let metrics_hosts = options.metrics_hosts.clone();
    parts.spawn(again("the controllers", stop.clone(), move |stop| {
        let config = serin_controllers::Config {
            rollouts,
            gateway_socket: gateway_socket.clone(),
            egress: serin_controllers::Egress {
                hosts: metrics_hosts.clone(),
                private: false,
            },
            ..serin_controllers::Config::default()
        };
        let running = serin_controllers::run(controllers.clone(), config, stop);
        async move {
            running.await;
            Ok::<_, std::convert::Infallible>(())
        }
    }));
    let mut node = NodeConfig::new(options.home.root(), &options.program);
    node.bundles = options.bundles.clone();
    node.gateway = options.gateway;
    let client = client(server, Part::Node);
    parts.spawn(again("the node", stop.clone(), move |stop| {
        serin_node::run(node.clone(), client.clone(), stop)
    }));
}

/// Runs a part until `stop`; one that ends by itself, or falls over, is told of and started again.
async fn again<F, E>(
    what: &'static str,
    stop: CancellationToken,
    start: impl Fn(CancellationToken) -> F,
) where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let (mut pause, longest) = PAUSES;
    while !stop.is_cancelled() {
        let ended = tokio::spawn(start(stop.clone())).await;
        if stop.is_cancelled() {
            return;
        }
        match ended {
            Ok(Ok(())) => tracing::error!("{what} ended; started again in {} s", pause.as_secs()),
            Ok(Err(error)) => {
                let why = crate::error::chain(&error);
                tracing::error!(
                    "{what} ended: {why}; started again in {} s",
                    pause.as_secs()
                );
            }
            Err(panic) => tracing::error!(
                "{what} fell over: {panic}; started again in {} s",
                pause.as_secs()
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(longest);
    }
}

async fn open(path: PathBuf) -> Result<Store, PlatformError> {
    let store = tokio::task::spawn_blocking(move || Store::open(&path)).await??;
    for row in store.damaged() {
        tracing::error!(
            "an object of the state file cannot be read and is left out: {}: {}",
            row.key,
            row.why
        );
    }
    Ok(store)
}

fn write_running(home: &Home, api: SocketAddr) -> Result<(), PlatformError> {
    let pid = std::process::id();
    let path = Running::path(home);
    let text = serde_json::json!({"pid": pid, "api": api}).to_string();
    files::write_secret(&path, text.as_bytes())
        .map_err(|source| PlatformError::Home(HomeError::Unwritable { path, source }))
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, PlatformError> {
    let bound = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|source| not_bound(what, address, source))
}

fn not_bound(what: &'static str, address: SocketAddr, source: io::Error) -> PlatformError {
    if source.kind() == io::ErrorKind::AddrInUse {
        let holder = ports::holder(address);
        return PlatformError::PortInUse {
            what,
            address,
            holder,
        };
    }
    PlatformError::Listen {
        what,
        address,
        source,
    }
}

/// Tells now what the keeper could only write into its log: that a port of the gateway is somebody else's.
async fn check_gateway_ports(home: &Home, asked: &[SocketAddr]) -> Result<(), PlatformError> {
    if serving(home).await.is_some() || Processes::of(home).any() {
        return Ok(());
    }
    for address in gateway_addresses(home.root(), asked) {
        if let Err(source) = StdListener::bind(address) {
            return Err(not_bound("the gateway", address, source));
        }
    }
    Ok(())
}

/// Where the gateway will listen. Settings that cannot be read are its own to complain of.
fn gateway_addresses(home: &Path, asked: &[SocketAddr]) -> Vec<SocketAddr> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    serin_gateway::GatewayConfig::load(home)
        .map(|config| config.listen)
        .unwrap_or_default()
}
