//! What a fleet of Rollouts costs: memory and CPU for each, the time until all are through a canary, how long one look takes.
//!
//! Everything runs in this process: the embedded API in memory, the controllers, and a node that says of every pod that it is
//! ready. So the memory is that of the whole control plane, and the time has no disk and no network in it. The API keeps events
//! for an hour; here they go after each round, so that what is left over of a release shows.
//!
//! `cargo bench -p serin-controllers --bench fleet -- --rollouts 1000 --rounds 10`, with `--real` on the machine's clock instead
//! of a virtual one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench ends at what it did not expect, and prints what it measured"
)]

#[path = "../tests/support/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use node::{let_go, node};
use serde_json::{Value, json};
use serin_api::rollout::{Rollout, RolloutPhase};
use serin_apiserver::{ApiServer, Store};
use serin_controllers::{Clock, Config};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Writes under way at a time, of the node and of whoever releases.
const AT_ONCE: usize = 32;
const PAUSE: &str = "10s";

struct Arguments {
    rollouts: usize,
    rounds: usize,
    real: bool,
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = Self {
            rollouts: 200,
            rounds: 2,
            real: false,
        };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let mut number = || given.next().unwrap().parse().unwrap();
            match name.as_str() {
                "--rollouts" => arguments.rollouts = number(),
                "--rounds" => arguments.rounds = number(),
                "--real" => arguments.real = true,
                "--bench" => {}
                other => panic!("{other}: give --rollouts N, --rounds N, --real"),
            }
        }
        arguments
    }
}

fn main() {
    let arguments = Arguments::read();
    let looks = Looks::default();
    let subscriber = tracing_subscriber::registry().with(looks.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(!arguments.real)
        .build()
        .unwrap();
    runtime.block_on(measure(&arguments, &looks));
}

async fn measure(arguments: &Arguments, looks: &Looks) {
    let clock = if arguments.real {
        Clock::system()
    } else {
        Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap())
    };
    let server_clock = clock.clone();
    let server = ApiServer::new(Store::in_memory()).with_clock(move || server_clock.now());
    let client = Client::new(server.router(), "default");
    let config = Config {
        clock,
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let controllers = serin_controllers::run(client.clone(), config, shutdown.clone());
    let controllers = tokio::spawn(controllers);
    let node = tokio::spawn(node(client.clone(), AT_ONCE, tend));
    let empty = rss_kib();
    println!("{} rollouts of 3 pods, 4 steps", arguments.rollouts);
    println!("empty: {:.1} MiB", mib(empty));
    for round in 0..=arguments.rounds {
        let before = (
            std::time::Instant::now(),
            tokio::time::Instant::now(),
            cpu(),
        );
        looks.forget();
        release(&client, arguments.rollouts, round).await;
        await_all(&client, arguments.rollouts, round).await;
        let used = cpu() - before.2;
        let took = (before.0.elapsed(), before.1.elapsed());
        forget_events(&client).await;
        let what = if round == 0 { "first deploy" } else { "canary" };
        let each = |kib: f64| kib / arguments.rollouts as f64;
        println!(
            "{what} {round}: {:.1} s, {:.1} s by its own clock, {:.2} ms CPU each, {:.1} MiB ({:.1} KiB each above empty); {}",
            took.0.as_secs_f64(),
            took.1.as_secs_f64(),
            each(used.as_secs_f64() * 1000.0),
            mib(rss_kib()),
            each(rss_kib() as f64 - empty as f64),
            looks.told(),
        );
    }
    shutdown.cancel();
    controllers.await.unwrap();
    node.abort();
}

fn rollout(index: usize, round: usize) -> Value {
    let name = format!("app-{index}");
    let pause = json!({"pause": {"duration": PAUSE}});
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": format!("app:v{round}")}]},
            },
            "strategy": {"canary": {"steps": [{"setWeight": 34}, pause, {"setWeight": 67}, pause]}},
        },
    })
}

async fn release(client: &Client, count: usize, round: usize) {
    let api: Api<Rollout> = Api::default_namespaced(client.clone());
    let all = futures::stream::iter(0..count);
    all.for_each_concurrent(AT_ONCE, |index| {
        let api = api.clone();
        async move {
            let object = rollout(index, round);
            if round == 0 {
                let object = serde_json::from_value(object).unwrap();
                api.create(&PostParams::default(), &object).await.unwrap();
            } else {
                let patch = json!({"spec": {"template": object.pointer("/spec/template")}});
                let params = PatchParams::default();
                api.patch(&format!("app-{index}"), &params, &Patch::Merge(patch))
                    .await
                    .unwrap();
            }
        }
    })
    .await;
}

async fn await_all(client: &Client, count: usize, round: usize) {
    let api: Api<Rollout> = Api::default_namespaced(client.clone());
    let image = format!("app:v{round}");
    let mut events = std::pin::pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut done = BTreeSet::new();
    while done.len() < count {
        let Ok(rollout) = events.next().await.unwrap() else {
            continue;
        };
        let status = rollout.status.clone().unwrap_or_default();
        let template = serde_json::to_string(&rollout.spec.template).unwrap();
        let seen = rollout.metadata.generation.map(|g| g.to_string());
        if status.phase == Some(RolloutPhase::Healthy)
            && status.observed_generation == seen
            && template.contains(&image)
        {
            done.insert(rollout.name_any());
        }
    }
}

/// One by one: whoever watches is to keep up.
async fn forget_events(client: &Client) {
    let api: Api<Event> = Api::default_namespaced(client.clone());
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    let all = futures::stream::iter(all.items);
    all.for_each_concurrent(AT_ONCE, |event| {
        let api = api.clone();
        async move {
            let (name, params) = (event.name_any(), DeleteParams::default());
            api.delete(&name, &params).await.unwrap();
        }
    })
    .await;
}

/// Says of every pod that it is ready, and lets every pod go that is to go.
async fn tend(api: Api<Pod>, pod: Pod) {
    if pod.metadata.deletion_timestamp.is_some() {
        return let_go(&api, &pod).await;
    }
    let status = json!({"status": {
        "phase": "Running",
        "podIP": "127.0.0.2",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": pod.metadata.creation_timestamp}],
    }});
    // It may have been deleted in the meantime.
    let _ = api
        .patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await;
}

/// How long each look of the controller of Rollouts took, in microseconds.
#[derive(Clone, Default)]
struct Looks(Arc<Mutex<Vec<u64>>>);

impl Looks {
    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    fn told(&self) -> String {
        let mut all = self.0.lock().unwrap().clone();
        all.sort_unstable();
        let at = |share: f64| {
            let index = (all.len() as f64 * share) as usize;
            all.get(index.min(all.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0)
        };
        format!(
            "{} looks, p50 {} us, p99 {} us",
            all.len(),
            at(0.5),
            at(0.99)
        )
    }
}

impl<S: tracing::Subscriber> Layer<S> for Looks {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut look = Look::default();
        event.record(&mut look);
        if let (true, Some(took)) = (look.is_rollout, look.took_us) {
            self.0.lock().unwrap().push(took);
        }
    }
}

#[derive(Default)]
struct Look {
    is_rollout: bool,
    took_us: Option<u64>,
}

impl Visit for Look {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        self.is_rollout |= field.name() == "controller" && value == "rollout";
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "took_us" {
            self.took_us = Some(value);
        }
    }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
