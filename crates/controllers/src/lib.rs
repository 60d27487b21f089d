//! The controllers: they observe objects, ask the engine for a plan and carry it out, against the embedded API or a cluster.
//!
//! Responsible for: watching what the engine needs to know, carrying out each action so that doing it twice is harmless,
//! writing status, coming back when a plan asks for it.
//!
//! Absent on purpose: every decision, which is the engine's; processes and traffic, which are the node's and the gateway's.

mod analysis;
mod clock;
mod cron_job;
mod deployment;
mod disruption;
mod election;
mod endpoints;
mod events;
mod experiment;
mod job;
mod replica_set;
mod rollout;
mod shell;
#[cfg(test)]
#[path = "../../apiserver/tests/support/waiting.rs"]
mod waiting;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use serin_api::keys::label;
use serin_api::release::ReleasePolicy;
use tokio_util::sync::CancellationToken;

pub use analysis::Egress;
pub use clock::Clock;
pub use election::{Election, Fence, FenceLayer, Fenced, elected};

/// How the controllers run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one namespace to look after; `None` for all.
    pub namespace: Option<String>,
    /// Whether the controllers of Kubernetes' own kinds run: Deployment, ReplicaSet, endpoints. A cluster has its own.
    pub built_in_kinds: bool,
    /// Whether the controllers of Rollouts and of what belongs to them run.
    pub rollouts: bool,
    /// The admin socket of our gateway, which acknowledges what is set and measures; `None` when there is none.
    pub gateway_socket: Option<PathBuf>,
    /// Where metrics of analyses, and the services of gates, may be asked.
    pub egress: Egress,
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
            rollouts: true,
            gateway_socket: None,
            egress: Egress::default(),
            concurrency: 16,
            clock: Clock::system(),
        }
    }
}

/// What several controllers read.
struct Shared {
    pods: shell::Cache<Pod>,
    replica_sets: shell::Cache<ReplicaSet>,
    services: shell::Cache<Service>,
    deployments: shell::Cache<Deployment>,
    jobs: shell::Cache<Job>,
    policies: shell::Cache<ReleasePolicy>,
}

impl Shared {
    fn watch(hub: &mut shell::Hub, config: &Config) -> Self {
        // Where Kubernetes' own kinds are somebody else's, only what belongs to Rollouts is kept in memory: a cluster has many pods.
        let label = (!config.built_in_kinds).then_some(label::ROLLOUT_POD_TEMPLATE_HASH);
        Self {
            pods: hub.watch_labelled(label),
            replica_sets: hub.watch_labelled(label),
            services: hub.watch(),
            deployments: hub.watch(),
            jobs: hub.watch(),
            policies: hub.watch(),
        }
    }
}

/// Runs all controllers until `shutdown`. One that fails is started again; it never ends the others.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let mut hub = shell::Hub::new(
        client,
        config.clock.clone(),
        config.namespace.clone(),
        config.concurrency,
        shutdown,
    );
    let shared = Shared::watch(&mut hub, &config);
    if config.built_in_kinds {
        replica_set::start(&mut hub, &shared.replica_sets, &shared.pods);
        deployment::start(
            &mut hub,
            &shared.deployments,
            &shared.replica_sets,
            &shared.pods,
            &shared.policies,
        );
        endpoints::start(&mut hub, &shared.services, &shared.pods);
        disruption::start(&mut hub, &shared.replica_sets, &shared.pods);
        job::start(&mut hub, &shared.jobs, &shared.pods);
        cron_job::start(&mut hub, &shared.jobs);
    }
    if config.rollouts {
        start_rollouts(&mut hub, &config, &shared);
    }
    hub.join().await;
}

/// The controller of Rollouts, and what it watches.
fn rollouts_of(hub: &mut shell::Hub, config: &Config, shared: &Shared) -> rollout::Rollouts {
    let all = hub.watch();
    let webhooks = rollout::Webhooks::new(
        hub.client.clone(),
        hub.clock.clone(),
        all.clone(),
        config.egress.clone(),
    );
    rollout::Rollouts {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        acknowledged: config.gateway_socket.is_some(),
        rollouts: all,
        replica_sets: shared.replica_sets.clone(),
        pods: shared.pods.clone(),
        services: shared.services.clone(),
        deployments: shared.deployments.clone(),
        routes: hub.watch(),
        ingresses: hub.watch(),
        virtual_services: hub.watch(),
        destination_rules: hub.watch(),
        runs: hub.watch(),
        experiments: hub.watch(),
        templates: hub.watch(),
        policies: shared.policies.clone(),
        config_maps: hub.watch(),
        secrets: hub.watch(),
        digests: rollout::Digests::default(),
        named: rollout::Named::default(),
        webhooks: Arc::new(webhooks),
    }
}

fn start_rollouts(hub: &mut shell::Hub, config: &Config, shared: &Shared) {
    let rollouts = rollouts_of(hub, config, shared);
    let jobs = shared.jobs.clone();
    let providers = analysis::Providers::new(
        hub.client.clone(),
        hub.clock.clone(),
        jobs.clone(),
        config.gateway_socket.clone(),
        &config.egress,
    );
    let (client, clock) = (hub.client.clone(), hub.clock.clone());
    let analyses = analysis::Analyses::new(client, clock, rollouts.runs.clone(), jobs, providers);
    let_all_go(hub, &rollouts);
    let experiments = experiment::Experiments {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        experiments: rollouts.experiments.clone(),
        replica_sets: rollouts.replica_sets.clone(),
        services: rollouts.services.clone(),
        runs: rollouts.runs.clone(),
        templates: rollouts.templates.clone(),
    };
    let runs = rollouts.runs.clone();
    let (main, triggers) = (rollouts.rollouts.clone(), rollouts.clone());
    hub.run(rollouts, &main, move || triggers.triggers());
    let (main, triggers) = (experiments.experiments.clone(), experiments.clone());
    hub.run(experiments, &main, move || triggers.triggers());
    let finished = analyses.triggers();
    hub.run(analyses, &runs, finished);
}

/// Runs the controllers of what Rollouts that are gone have left in the objects of others.
fn let_all_go(hub: &mut shell::Hub, rollouts: &rollout::Rollouts) {
    let_go(hub, &rollouts.services, rollouts);
    let_go(hub, &rollouts.destination_rules, rollouts);
    let_go(hub, &rollouts.routes, rollouts);
    let_go(hub, &rollouts.virtual_services, rollouts);
    let_go(hub, &rollouts.ingresses, rollouts);
    let experiments = rollout::AbandonedExperiments {
        client: hub.client.clone(),
        experiments: rollouts.experiments.clone(),
        rollouts: rollouts.rollouts.clone(),
        routes: rollouts.routes.clone(),
        virtual_services: rollouts.virtual_services.clone(),
    };
    let triggers = experiments.clone();
    hub.run(experiments, &rollouts.experiments, move || {
        triggers.triggers()
    });
}

/// Runs the controller of the objects of a kind whose Rollout is gone.
fn let_go<K: rollout::Steered>(
    hub: &mut shell::Hub,
    objects: &shell::Cache<K>,
    rollouts: &rollout::Rollouts,
) {
    let abandoned = rollout::Abandoned {
        client: hub.client.clone(),
        acknowledged: rollouts.acknowledged,
        objects: objects.clone(),
        rollouts: rollouts.rollouts.clone(),
    };
    let triggers = abandoned.clone();
    hub.run(abandoned, objects, move || triggers.triggers());
}
