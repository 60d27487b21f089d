//! `serin gateway`: `serve` is a gateway in the foreground, as on a cluster; `upgrade` puts the program as it is now on disk in the
//! place of the gateway that serves.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use rustix::process::Signal;
use serin_gateway::names::ObjectName;
use serin_gateway::{GatewayConfig, OtlpConfig};

use crate::client::KubeconfigChoice;
use crate::context::{Context, parse_timeout};
use crate::error::{CliError, chain};
use crate::platform::{Processes, serving};

/// How long another gateway may take to serve.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(50);

/// What to do with the gateway.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Serve the routes of any cluster until a signal, without a platform and without a keeper
    #[command(
        after_help = "Examples:\n  serin gateway serve --kubeconfig ~/.kube/config --listen 0.0.0.0:8080\n  \
        serin gateway serve --listen 0.0.0.0:8080 --tls-listen 0.0.0.0:8443 --ingress-class serin\n\n\
        In a pod the API is that of its cluster, with the rights of its service account; `serin install --gateway` prints \
        both. Every other setting is in gateway/config.json of the state directory."
    )]
    Serve(Box<ServeArgs>),
    /// Replace the gateway that serves by the program as it is now on disk, without a refused or cut request
    #[command(after_help = "Example:\n  serin gateway upgrade\n\n\
        The listening sockets are handed over. The gateway before answers what it has, tells its clients to come \
        again, and ends by itself.")]
    Upgrade,
}

/// Where a gateway in the foreground listens.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where HTTP is served; may be given several times [default: `listen` of the settings]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// Where HTTPS is served; may be given several times [default: `tlsListen` of the settings]
    #[arg(long, value_name = "ADDRESS")]
    tls_listen: Vec<SocketAddr>,
    /// Where /healthz, /metrics and the other admin pages are served, unprotected [default: `adminListen` of the settings]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// The Service in front of this gateway: its addresses are told in the status of Ingresses and Gateways [default: `service` of
    /// the settings]
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_service)]
    service: Option<ObjectName>,
    /// The name of this pod, where several gateways are behind --service: a change then counts as served once all of them serve it
    /// [default: `replica` of the settings]
    #[arg(long, value_name = "POD")]
    replica: Option<String>,
    /// An IP address or host name that is told there instead; may be given several times [default: `addresses` of the settings]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// The class of the Ingresses to serve [default: `ingressClass` of the settings, or those of every class]
    #[arg(long, value_name = "CLASS")]
    ingress_class: Option<String>,
    /// The collector of OpenTelemetry that gets spans of requests whose trace is recorded, such as `http://collector.observability:4318`
    /// [default: `otlp` of the settings]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// How long connections are taken after SIGTERM, such as 10s, for those who learn of the end later
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    stop_delay: Option<Duration>,
}

fn parse_service(text: &str) -> Result<ObjectName, String> {
    ObjectName::try_from(text.to_owned())
}

/// Serves until a signal.
pub(crate) fn serve(context: &Context, args: ServeArgs) -> Result<(), CliError> {
    context.home.prepare()?;
    let config = GatewayConfig::load(context.home.root());
    let mut config = config.map_err(|error| CliError::failed(chain(&error)))?;
    if !args.listen.is_empty() {
        config.listen = args.listen;
    }
    if !args.tls_listen.is_empty() {
        config.tls_listen = args.tls_listen;
    }
    if let Some(delay) = args.stop_delay {
        config.stop_delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    }
    if !args.address.is_empty() {
        config.addresses = args.address;
    }
    if let Some(endpoint) = args.otlp_endpoint {
        let given = config.otlp.take();
        let given = given.unwrap_or_else(|| OtlpConfig::new(String::new()));
        config.otlp = Some(OtlpConfig { endpoint, ..given });
    }
    config.replica = args.replica.or(config.replica);
    config.service = args.service.or(config.service);
    config.ingress_class = args.ingress_class.or(config.ingress_class);
    config.admin_listen = args.admin_listen.or(config.admin_listen);
    match &context.kubeconfig {
        KubeconfigChoice::Flag(path) => config.kubeconfig = Some(path.clone()),
        KubeconfigChoice::Environment(paths) => config.kubeconfig = paths.first().cloned(),
        KubeconfigChoice::InCluster => config.in_cluster = true,
        KubeconfigChoice::Home(_) => {}
    }
    serin_gateway::gateway_main(&config).map_err(|error| CliError::failed(chain(&error)))
}

/// Replaces the gateway that serves.
pub(crate) async fn upgrade(context: &Context) -> Result<(), CliError> {
    let home = &context.home;
    let keepers = Processes::of(home).keeper;
    let (Some(before), Some(keeper)) = (serving(home).await, keepers.first()) else {
        let message = format!("no gateway serves in {}", home.root().display());
        return Err(CliError::failed(message).hint("`serin up` starts one"));
    };
    keeper
        .signal(Signal::HUP)
        .map_err(|error| CliError::failed(format!("cannot ask the keeper: {error}")))?;
    let other = async {
        loop {
            match serving(home).await {
                Some(info) if info.pid != before.pid => return info,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let Ok(after) = tokio::time::timeout(DEADLINE, other).await else {
        let message = format!(
            "another gateway did not come to serve within {} s; the one before (pid {}) goes on",
            DEADLINE.as_secs(),
            before.pid
        );
        let log = home.logs().join("gateway.log");
        return Err(CliError::failed(message).hint(format!("see {}", log.display())));
    };
    context.printer.result(format!(
        "gateway upgraded (pid {}, before {})",
        after.pid, before.pid
    ))?;
    Ok(())
}
