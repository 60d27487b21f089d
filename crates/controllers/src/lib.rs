//! The controllers: they observe objects, ask the engine for a plan and carry it out, against the embedded API or a cluster.
//!
//! Responsible for: watching what the engine needs to know, carrying out each action so that doing it twice is harmless,
//! writing status, coming back when a plan asks for it.
//!
//! Absent on purpose: every decision, which is the engine's; processes and traffic, which are the node's and the gateway's.

mod analysis;
mod clock;
mod deployment;
mod endpoints;
mod events;
mod replica_set;
mod rollout;
mod shell;
mod workload;

use std::path::PathBuf;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use clock::Clock;

/// How the controllers run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one namespace to look after; `None` for all.
    pub namespace: Option<String>,
    /// Whether the controllers of Kubernetes' own kinds run too: Deployment, ReplicaSet, endpoints. A cluster has its own.
    pub built_in_kinds: bool,
    /// The admin socket of our gateway, which acknowledges what is set and measures; `None` when there is none.
    pub gateway_socket: Option<PathBuf>,
    /// Objects that one controller looks at in the same moment; 0 for any number.
    pub concurrency: u16,
    /// The time.
    pub clock: Clock,
}

impl Default for Config {
    /// For the embedded API: everything, everywhere.
    fn default() -> Self {
        Self {
            namespace: None,
            built_in_kinds: true,
            gateway_socket: None,
            concurrency: 16,
            clock: Clock::system(),
        }
    }
}

/// Runs all controllers until `shutdown`. One that fails is started again; it never ends the others.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let mut hub = shell::Hub::new(
        client,
        config.clock,
        config.namespace,
        config.concurrency,
        shutdown,
    );
    let pods = hub.watch();
    let replica_sets = hub.watch();
    let services = hub.watch();
    if config.built_in_kinds {
        replica_set::start(&mut hub, &replica_sets, &pods);
        deployment::start(&mut hub, &replica_sets, &pods);
        endpoints::start(&mut hub, &services, &pods);
    }
    let rollouts = rollout::Rollouts {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        acknowledged: config.gateway_socket.is_some(),
        rollouts: hub.watch(),
        replica_sets,
        pods,
        services,
        routes: hub.watch(),
        runs: hub.watch(),
        templates: hub.watch(),
        policies: hub.watch(),
    };
    let analyses = analysis::Analyses {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        runs: rollouts.runs.clone(),
        gateway_socket: config.gateway_socket,
    };
    let (main, triggers) = (rollouts.rollouts.clone(), rollouts.clone());
    hub.run(rollouts, &main, move || triggers.triggers());
    let runs = analyses.runs.clone();
    hub.run(analyses, &runs, Vec::new);
    hub.join().await;
}
