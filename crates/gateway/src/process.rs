//! The process `serin gateway`: takes its sockets, serves the last good routes at once, then follows the API.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, Signal, getppid, getrlimit, kill_process, setrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::access_log::AccessLog;
use crate::admin::{self, Pages};
use crate::config::GatewayConfig;
use crate::control::{self, Control};
use crate::handover::{self, Predecessor};
use crate::info::{self, GatewayInfo};
use crate::keeper::REPLACED;
use crate::lower::{LowerOptions, Published, Sockets, per_million};
use crate::observers::Observers;
use crate::ports::{self, BindError, Listener, Scheme};
use crate::proxy::{Phase, Settings, Shared};
use crate::spans::{Exporter, Spans};
use crate::tls::{Files, Tls};
use crate::watch::Scope;
use crate::{disk, health, unix, watch, worker};

/// While it stops, answers say `Connection: close` for so long before idle connections are closed.
const LEAVING: Duration = Duration::from_secs(1);
/// Another gateway has so long to take the place of one that was asked to end.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);
/// After a start the API is waited for no longer than this before a host without a route is answered 404.
const FIRST_SYNC: Duration = Duration::from_secs(10);
/// How long before the end connections that live long are closed.
const CUTTING: Duration = Duration::from_secs(1);
/// Long enough that a busy connection never rests, short enough that many idle ones cost little.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is nothing to listen on.
    #[error("there is no address to listen on; set `listen` in gateway/config.json")]
    NoAddress,
    /// The admin socket cannot be made.
    #[error("cannot make the admin socket {path}")]
    Admin {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The collector of spans cannot be used; which field of its settings is wrong, and why.
    #[error("{0}; correct gateway/config.json")]
    Otlp(String),
    /// A worker ended by itself.
    #[error("a worker thread ended")]
    Worker,
    /// Anything else of the system.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> GatewayError {
    move |source| GatewayError::System { what, source }
}

/// Runs the gateway until SIGTERM or SIGINT. Must not be called inside a runtime: it makes its own.
///
/// # Errors
/// When it cannot begin to serve, or when a worker thread ends by itself.
pub fn gateway_main(config: &GatewayConfig) -> Result<(), GatewayError> {
    raise_descriptor_limit();
    let (listeners, is_kept) = listeners(config)?;
    if listeners.is_empty() {
        return Err(GatewayError::NoAddress);
    }
    let address = system("read the address of a socket");
    let listen = ports::addresses(&listeners, Scheme::Http);
    let tls_listen = ports::addresses(&listeners, Scheme::Https);
    let (listen, tls_listen) = listen.and_then(|l| Ok((l, tls_listen?))).map_err(address)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let gateway = Gateway::new(config, &listen, &tls_listen)?;
    if !is_kept {
        let own = GatewayInfo {
            keeper_pid: None,
            pid: std::process::id(),
            listen: listen.clone(),
            tls_listen: tls_listen.clone(),
        };
        info::write(&config.home, &own).map_err(system("write run/gateway.json"))?;
    }
    tracing::info!(?listen, ?tls_listen, "the gateway serves");
    runtime.block_on(gateway.run(config, listeners))
}

/// The sockets of the keeper, or our own; and whether there is a keeper.
fn listeners(config: &GatewayConfig) -> Result<(Vec<Listener>, bool), GatewayError> {
    // Read where the descriptors are, which are as much a part of how this process was started.
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut handed = ListenFd::from_env();
    let taken = (0..handed.len()).filter_map(|index| {
        let is_https = names.get(index) == Some(&Scheme::Https.word());
        let scheme = if is_https {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let socket = handed.take_tcp_listener(index).transpose()?;
        Some(socket.map(|socket| Listener { scheme, socket }))
    });
    let taken = taken.collect::<io::Result<Vec<_>>>();
    let taken = taken.map_err(system("take the sockets of the keeper"))?;
    if taken.is_empty() {
        return Ok((ports::bind_all(&config.listen, &config.tls_listen)?, false));
    }
    Ok((taken, true))
}

/// Each connection costs one descriptor, each one to an instance two; as many as the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

struct Gateway {
    shared: Arc<Shared>,
    pages: Arc<Pages>,
    control: Control,
    exporter: Option<Exporter>,
}

impl Gateway {
    fn new(
        config: &GatewayConfig,
        listen: &[SocketAddr],
        tls_listen: &[SocketAddr],
    ) -> Result<Self, GatewayError> {
        let https_port = tls_listen.first().map(SocketAddr::port);
        let millis = Duration::from_millis;
        let (observers, exporter) = observers(config)?;
        let settings = Settings {
            hold: millis(config.hold_ms),
            connect_timeout: millis(config.connect_timeout_ms),
            head_timeout: millis(config.head_timeout_ms),
            client_idle: millis(config.client_idle_ms),
            body_idle: millis(config.body_idle_ms),
            rest_after: REST_AFTER,
            max_held: config.max_held,
            max_connections: config.max_connections,
            proxy_protocol: config.proxy_protocol,
            trusted_hops: config.trusted_hops,
            writes_forwarded: config.forwarded,
            https_port,
            redirects_all: config.redirect_to_https,
            observers: Arc::new(observers),
            trace_share: config.trace_sample.map(|share| per_million(share * 100.0)),
            sync_until: sync_until(config),
        };
        let tls = Tls::new().map_err(io::Error::other);
        let shared = Shared::new(settings, tls.map_err(system("make TLS ready"))?);
        let shared = Arc::new(shared);
        let pages = Arc::new(Pages::new(Arc::clone(&shared)));
        let options = LowerOptions {
            ingress_class: config.ingress_class.clone(),
            sockets: Sockets {
                http: listen.to_vec(),
                https: tls_listen.to_vec(),
                mapped: config.gateway_ports.clone(),
            },
            published: Published {
                addresses: config.addresses.clone(),
                service: config.service.clone(),
            },
        };
        let mut control = Control::new(Arc::clone(&shared), Arc::clone(&pages), options);
        if let Some(replica) = config.replica() {
            control.set_replica(replica);
        }
        control.set_home(config.home.clone());
        control.set_drain_limit(millis(config.drain_limit_ms));
        if let Some(table) = disk::load(&disk::routes(&config.home)) {
            control.swap(table);
        }
        if https_port.is_some() {
            let known = disk::load(&disk::certificates(&config.home));
            control.set_certificates(known.unwrap_or_default());
            control.set_files(Files::new(&config.home, config.certificates.clone()));
        }
        Ok(Self {
            shared,
            pages,
            control,
            exporter,
        })
    }

    async fn run(
        mut self,
        config: &GatewayConfig,
        listeners: Vec<Listener>,
    ) -> Result<(), GatewayError> {
        let mut stop = Stop::new(&config.home).map_err(system("listen for signals"))?;
        let (worker_ended, mut ended) = mpsc::channel::<()>(1);
        let mut workers = Vec::new();
        for index in 0..config.worker_count() {
            let shared = Arc::clone(&self.shared);
            let ended = worker_ended.clone();
            let thread = worker::spawn(index, shared, &listeners, ended);
            workers.push(thread.map_err(system("start a worker thread"))?);
        }
        self.control.set_predecessor(Predecessor::of(&config.home));
        let exporting = self.exporter.take().map(Exporter::start);
        self.serve_admin(config).await?;
        let offering = tokio::spawn(handover::offer(config.home.clone(), listeners));
        let routes = disk::keep(disk::routes(&config.home), self.control.to_save());
        let certificates = self.control.certificates_to_save();
        let certificates = disk::keep(disk::certificates(&config.home), certificates);
        let saving = [tokio::spawn(routes), tokio::spawn(certificates)];
        let (sender, mut batches) = watch::channel();
        let scope = Scope {
            has_tls: self.shared.settings.https_port.is_some(),
            service: config.replica().map(|replica| replica.service),
        };
        let feed = watch::feed(config.api(), scope, sender, Handle::current());
        let started = batches.run_on_thread(feed);
        started.map_err(system("start the thread of the watches"))?;
        let (checks, shared) = (self.control.to_check(), Arc::clone(&self.shared));
        tokio::spawn(async move { health::run(checks, &shared.health, health::ask).await });
        let mut why = None;
        let until = async {
            why = tokio::select! {
                why = stop.wait() => Some(why),
                _ = ended.recv() => None,
            };
            if why == Some(Why::Stopped) && !config.stop_delay().is_zero() {
                let delay = config.stop_delay();
                tracing::info!(?delay, "asked to stop; connections are taken for the delay");
                tokio::time::sleep(delay).await;
            }
        };
        self.control.run(&mut batches, until).await;
        let Some(why) = why else {
            return Err(GatewayError::Worker);
        };
        offering.abort();
        if why == Why::Replaced {
            // The files are the other gateway's now.
            saving.iter().for_each(tokio::task::JoinHandle::abort);
        } else {
            control::save_last(&config.home, self.control.table());
        }
        // Routes are followed to the end, but no longer spoken of.
        self.control.leave();
        let leaving = leave(Arc::clone(&self.shared), workers, why, config);
        self.control.run(&mut batches, leaving).await;
        if let Some(exporting) = exporting {
            exporting.finish().await;
        }
        Ok(())
    }

    async fn serve_admin(&self, config: &GatewayConfig) -> Result<(), GatewayError> {
        let path = info::admin_socket(&config.home);
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| GatewayError::Admin { path, source }
        };
        let bound = unix::private_dir(&config.home.join("run")).and_then(|()| unix::bind(&path));
        let listener = bound.map_err(failed(&path))?;
        listener.set_nonblocking(true).map_err(failed(&path))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed(&path))?;
        let pages = Arc::clone(&self.pages);
        tokio::spawn(admin::serve(pages, admin::Listener::Unix(listener)));
        if let Some(address) = config.admin_listen {
            let listener = tokio::net::TcpListener::bind(address).await;
            let source = |source| BindError::Other { address, source };
            let listener = listener.map_err(source)?;
            let pages = Arc::clone(&self.pages);
            tokio::spawn(admin::serve(pages, admin::Listener::Tcp(listener)));
        }
        Ok(())
    }
}

/// Until when the API is waited for from now on; `None` where there is none.
pub(crate) fn sync_until(config: &GatewayConfig) -> Option<Instant> {
    config.has_api().then(|| Instant::now() + FIRST_SYNC)
}

/// Who is told of requests, and what sends their spans away.
fn observers(config: &GatewayConfig) -> Result<(Observers, Option<Exporter>), GatewayError> {
    let log = config.access_log.as_ref();
    let log = log.map(|log| AccessLog::start(&config.home, log));
    let spans = config.otlp.as_ref();
    let spans = spans.map(|otlp| Spans::new(otlp, &config.home)).transpose();
    let (spans, exporter) = spans.map_err(GatewayError::Otlp)?.unzip();
    let access_log = log.transpose().map_err(system("open the access log"))?;
    Ok((Observers { access_log, spans }, exporter))
}

/// Takes no new connections, asks clients to leave, and waits for what is in flight.
async fn leave(
    shared: Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<io::Result<()>>>,
    why: Why,
    config: &GatewayConfig,
) {
    let (leaving, grace) = match why {
        Why::Stopped => (LEAVING, config.stop_grace()),
        Why::Replaced => (config.replaced_leave(), config.replaced_grace()),
    };
    tracing::info!(?why, "the gateway stops");
    shared.phase.send_replace(Phase::Leaving);
    tokio::time::sleep(leaving).await;
    shared.phase.send_replace(Phase::Closing);
    let joined = tokio::task::spawn_blocking(move || {
        for worker in workers {
            let _ = worker.join();
        }
    });
    let mut joined = std::pin::pin!(joined);
    // What lives long is closed politely before it is cut.
    let polite = grace.saturating_sub(CUTTING);
    for (within, then) in [(polite, Phase::Cutting), (CUTTING, Phase::Gone)] {
        if tokio::time::timeout(within, joined.as_mut()).await.is_ok() {
            return;
        }
        shared.phase.send_replace(then);
    }
    let _ = joined.await;
}

/// Why the gateway goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Stopped,
    /// Another one serves in its place.
    Replaced,
}

struct Stop {
    home: PathBuf,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    replaced: tokio::signal::unix::Signal,
}

impl Stop {
    fn new(home: &Path) -> io::Result<Self> {
        Ok(Self {
            home: home.to_owned(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            replaced: signal(SignalKind::from_raw(REPLACED.as_raw()))?,
        })
    }

    /// Waits until it is to go. One that has a keeper is not ended by SIGTERM before another one serves in its place: nobody would
    /// take connections meanwhile.
    async fn wait(&mut self) -> Why {
        let mut until = None;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Why::Stopped,
                _ = self.replaced.recv() => return Why::Replaced,
                () = control::sleep_until(until) => return Why::Stopped,
                _ = self.terminate.recv() => {
                    if until.is_some() || !self.ask_keeper() {
                        return Why::Stopped;
                    }
                    until = Some(tokio::time::Instant::now() + REPLACED_WITHIN);
                }
            }
        }
    }

    /// Asks the keeper, if there is one, for another gateway.
    fn ask_keeper(&self) -> bool {
        let known = info::read_endpoint(&self.home).and_then(|info| info.keeper_pid);
        let parent = getppid().filter(|parent| {
            known
                .is_some_and(|keeper| i64::from(keeper) == i64::from(parent.as_raw_nonzero().get()))
        });
        parent.is_some_and(|keeper| kill_process(keeper, Signal::HUP).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker whose connections have ended when that phase has come.
    fn worker(shared: &Shared, last: Phase) -> std::thread::JoinHandle<io::Result<()>> {
        let (runtime, mut phase) = (Handle::current(), shared.phase.subscribe());
        std::thread::spawn(move || {
            let ended = runtime.block_on(phase.wait_for(|phase| *phase >= last));
            ended.map(drop).map_err(io::Error::other)
        })
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_closed_and_what_then_does_not_is_cut() {
        for (last, grace) in [
            (Phase::Closing, 60_000),
            (Phase::Cutting, 1),
            (Phase::Gone, 1),
        ] {
            let config = GatewayConfig {
                replaced_leave_ms: 1,
                replaced_grace_ms: grace,
                ..GatewayConfig::default()
            };
            let tls = Tls::new().unwrap();
            let shared = Arc::new(Shared::new(crate::testing::settings(), tls));
            let workers = vec![worker(&shared, last)];
            let left = leave(Arc::clone(&shared), workers, Why::Replaced, &config);
            let left = tokio::time::timeout(Duration::from_secs(20), left).await;
            let phase = *shared.phase.borrow();
            // Lets the worker go where it was waited for in vain.
            shared.phase.send_replace(Phase::Gone);
            assert!(left.is_ok(), "{last:?} did not come");
            assert_eq!(phase, last);
        }
    }
}
