//! `serin controller`: the controllers of Rollouts against any cluster, one leader among several processes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Args;
use kube::client::ClientBuilder;
use serin_controllers::{Clock, Config, Egress, Election, Fence, elected};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::client::ClientError;
use crate::context::{Context, parse_timeout};
use crate::error::CliError;

/// Threads that carry the controllers.
const WORKERS: usize = 2;
/// A shorter lease would be lost to any slow answer of the API.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// An API that says nothing for so long has gone, whatever it was asked: it ends a watch of which it has nothing to tell after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// How the controllers run.
#[derive(Clone, Debug, Args)]
pub(crate) struct ControllerArgs {
    /// Objects of one kind that are looked at in the same moment
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// The Lease that says which of several processes acts
    #[arg(long, value_name = "NAME", default_value = "serin-controller")]
    lease: String,
    /// The namespace of the Lease [default: that of the kubeconfig or of the service account]
    #[arg(long, value_name = "NAME")]
    lease_namespace: Option<String>,
    /// How long a Lease stands that is not renewed, such as 15s
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    lease_duration: Duration,
    /// Who this process is to the others [default: the name of the host and a random part]
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Act at once: for a process that is certainly the only one
    #[arg(long, conflicts_with_all = ["lease", "lease_namespace", "lease_duration", "identity"])]
    no_leader_election: bool,
    /// The only hosts that metrics of analyses and gates are asked of, as HOST, HOST:PORT or *.DOMAIN, private ones too; may be
    /// given several times
    #[arg(long, value_name = "HOST")]
    metrics_host: Vec<String>,
    /// Where /livez and /readyz answer; nowhere without it
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_timeout(text)?;
    if duration < SHORTEST_LEASE {
        return Err("give at least 1s".to_owned());
    }
    Ok(duration)
}

/// Runs the controllers until a signal.
pub(crate) fn run(context: &Context, args: ControllerArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    runtime.block_on(serve(context, args))
}

async fn serve(context: &Context, args: ControllerArgs) -> Result<(), CliError> {
    let cluster = context.kubeconfig.load().await.map_err(ClientError::from)?;
    let cluster = impatient(cluster);
    let server = cluster.cluster_url.to_string();
    let namespace = cluster.default_namespace.clone();
    let shutdown = on_signal()?;
    if let Some(address) = args.health_listen {
        answer_health(address, shutdown.clone()).await?;
    }
    let clock = Clock::system();
    let config = Config {
        namespace: context.namespace.clone(),
        built_in_kinds: false,
        concurrency: args.concurrency,
        clock: clock.clone(),
        egress: Egress {
            hosts: args.metrics_host.clone(),
            private: false,
        },
        ..Config::default()
    };
    let unusable = |error: kube::Error| CliError::failed(format!("cannot reach {server}: {error}"));
    let client = kube::Client::try_from(cluster.clone()).map_err(unusable)?;
    context
        .printer
        .progress(format!("looking after the Rollouts of {server}"));
    if args.no_leader_election {
        serin_controllers::run(client, config, shutdown).await;
        return Ok(());
    }
    let fence = Fence::closed(clock.clone());
    let fenced = ClientBuilder::try_from(cluster)
        .map_err(unusable)?
        .with_layer(&fence.layer())
        .build();
    let election = election(&args, namespace);
    let lead = move |stop| serin_controllers::run(fenced.clone(), config.clone(), stop);
    elected(client, election, clock, fence, shutdown, lead).await;
    Ok(())
}

/// Watches wait for an answer without end otherwise, where an API took the question and has gone.
fn impatient(mut cluster: kube::Config) -> kube::Config {
    (cluster.read_timeout, cluster.reset_reader_on_write) = (Some(SILENCE), true);
    cluster
}

fn election(args: &ControllerArgs, namespace: String) -> Election {
    let random = || {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        format!("{host}_{}", uuid::Uuid::new_v4())
    };
    Election {
        namespace: args.lease_namespace.clone().unwrap_or(namespace),
        name: args.lease.clone(),
        identity: args.identity.clone().unwrap_or_else(random),
        duration: args.lease_duration,
    }
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> Result<CancellationToken, CliError> {
    let failed = |error| CliError::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(shutdown)
}

/// Says that the process lives. One that waits for its turn to lead is as ready as the leader.
async fn answer_health(address: SocketAddr, shutdown: CancellationToken) -> Result<(), CliError> {
    let failed = |error| {
        CliError::failed(format!(
            "cannot listen on {address} (--health-listen): {error}"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(async || "ok"));
    tokio::spawn(async move {
        let stop = async move { shutdown.cancelled().await };
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
        {
            tracing::error!(%error, "/livez and /readyz answer no more");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = kube::Client::try_from(impatient(cluster)).unwrap();
        let began = Instant::now();
        let answer = client.apiserver_version();
        let answer = timeout(Duration::from_secs(3600), answer).await;
        assert!(answer.is_ok_and(|answer| answer.is_err()));
        assert_eq!(began.elapsed().as_secs(), 300);
    }
}
