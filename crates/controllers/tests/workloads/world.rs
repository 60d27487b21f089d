//! The embedded API with all controllers and a node that only says that its pods are ready, on a virtual clock.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, Store};
use serin_controllers::{Clock, Config};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::node::{let_go, node};
use crate::waiting::soon;

/// The image of pods that never become ready.
pub(crate) const BAD: &str = "bad";
/// The image of a pod that no node takes.
pub(crate) const NOWHERE: &str = "nowhere";
/// The image of pods that end well by themselves.
pub(crate) const DONE: &str = "done";
/// The image of pods that end badly by themselves.
pub(crate) const FAILS: &str = "fails";
const NAMESPACE: &str = "default";
/// How often something is looked at that is not watched.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct World {
    pub(crate) client: Client,
    clock: Clock,
    controllers: Option<(CancellationToken, JoinHandle<()>)>,
    tasks: JoinSet<()>,
    bounds: Arc<Mutex<Bounds>>,
    /// The longest wait for anything.
    patience: Duration,
}

/// What was seen at the events of pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) most: usize,
    pub(crate) fewest_available: usize,
    /// So that a test knows that something was seen.
    pub(crate) events: usize,
}

impl Bounds {
    const NONE: Self = Self {
        most: 0,
        fewest_available: usize::MAX,
        events: 0,
    };
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(Duration::from_secs(1))
    }

    /// `pace` is about what a pod takes to start and to stop.
    pub(crate) fn start_with(pace: Duration) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let server_clock = clock.clone();
        let server = ApiServer::new(Store::in_memory()).with_clock(move || server_clock.now());
        let client = Client::new(server.router(), NAMESPACE);
        let mut world = Self {
            client,
            clock,
            controllers: None,
            tasks: JoinSet::new(),
            bounds: Arc::new(Mutex::new(Bounds::NONE)),
            patience: pace * 3600,
        };
        let lives = lives(world.client.clone(), world.clock.clone(), pace);
        world.tasks.spawn(lives);
        let sampler = sample(world.client.clone(), Arc::clone(&world.bounds));
        world.tasks.spawn(sampler);
        world.start_controllers();
        world
    }

    pub(crate) fn start_controllers(&mut self) {
        self.start_controllers_with(self.client.clone());
    }

    /// With a client of their own, which may fail.
    pub(crate) fn start_controllers_with(&mut self, client: Client) {
        let shutdown = CancellationToken::new();
        let config = Config {
            clock: self.clock.clone(),
            ..Config::default()
        };
        let run = serin_controllers::run(client, config, shutdown.clone());
        self.controllers = Some((shutdown, tokio::spawn(run)));
    }

    /// As a crash: nothing is carried through.
    pub(crate) async fn kill_controllers(&mut self) {
        if let Some((_, task)) = self.controllers.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) async fn stop(mut self) {
        if let Some((shutdown, task)) = self.controllers.take() {
            shutdown.cancel();
            soon("the end of the controllers", task).await.unwrap();
        }
        // Whoever lives in the world does so for ever: an end is a panic, and what it saw is not to be relied on.
        if let Some(ended) = self.tasks.try_join_next() {
            panic!("a part of the world has ended: {ended:?}");
        }
        self.tasks.shutdown().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn api<K: Object>(&self) -> Api<K> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn create<K: Object>(&self, object: Value) -> K {
        let object = serde_json::from_value(object).unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub(crate) async fn merge<K: Object>(&self, name: &str, patch: Value) -> K {
        let params = PatchParams::default();
        self.api()
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .unwrap()
    }

    pub(crate) async fn list<K: Object>(&self) -> Vec<K> {
        self.api().list(&Default::default()).await.unwrap().items
    }

    pub(crate) async fn get<K: Object>(&self, name: &str) -> K {
        self.api().get(name).await.unwrap()
    }

    /// Waits for an object to become so: as long as a pod would take to start 3600 times.
    pub(crate) async fn until<K: Object>(
        &self,
        name: &str,
        what: &str,
        test: impl Fn(Option<&K>) -> bool,
    ) -> Option<K> {
        let waiting = await_condition(self.api::<K>(), name, test);
        match timeout(self.patience, waiting).await {
            Ok(found) => found.unwrap(),
            Err(_) => {
                let last = self.api::<K>().get_opt(name).await.unwrap();
                panic!("{name}: never {what}; it is {last:#?}");
            }
        }
    }

    /// Waits until `look` sees what is wanted of several objects, for as long as [`World::until`] of one.
    pub(crate) async fn until_seen<T: PartialEq + Debug>(
        &self,
        wanted: &T,
        look: impl AsyncFn(&Self) -> T,
    ) {
        let wait = async {
            while look(self).await != *wanted {
                sleep(LOOK).await;
            }
        };
        if timeout(self.patience, wait).await.is_err() {
            panic!("never {wanted:?}; it is {:?}", look(self).await);
        }
    }

    /// Forgets what was seen so far.
    pub(crate) fn watch_bounds(&self) {
        *self.bounds.lock().unwrap() = Bounds::NONE;
    }

    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.lock().unwrap()
    }
}

pub(crate) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static
{
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    serin_api::conditions::is_true(conditions, "Ready")
}

/// Pods live at this pace, each at its own.
async fn lives(client: Client, clock: Clock, pace: Duration) {
    let begun = AtomicU32::new(0);
    node(client, None, |api, pod| {
        let number = begun.fetch_add(1, Ordering::Relaxed) % 250;
        let clock = &clock;
        async move {
            if pod.metadata.deletion_timestamp.is_some() {
                // What runs nowhere is let go by nobody.
                let spec = pod.spec.as_ref();
                if spec.is_some_and(|spec| spec.node_name.is_none()) {
                    return;
                }
                sleep(pace * 3).await;
                let_go(&api, &pod).await;
            } else {
                live(&api, clock, &pod, pace * 37 / (40 + number)).await;
            }
        }
    })
    .await;
}

/// Pods do not become ready all at once: each has its own pace.
async fn live(api: &Api<Pod>, clock: &Clock, pod: &Pod, pace: Duration) {
    let image = pod.spec.as_ref().unwrap().containers[0].image.clone();
    if image.as_deref() == Some(NOWHERE) {
        return;
    }
    let name = pod.name_any();
    let params = PatchParams::default();
    let bind = json!({"spec": {"nodeName": "local"}});
    let _ = api.patch(&name, &params, &Patch::Merge(bind)).await;
    for (phase, ready) in [("Pending", "False"), ("Running", "True")] {
        let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {
            "phase": phase,
            "podIP": address_of(pod),
            "conditions": [{
                "type": "Ready",
                "status": ready,
                "lastTransitionTime": serin_api::conditions::time(clock.now()),
            }],
        }});
        // It may have been deleted in the meantime.
        let _ = api
            .patch_status(&name, &params, &Patch::Merge(status))
            .await;
        if image.as_deref() == Some(BAD) {
            return;
        }
        sleep(pace).await;
    }
    let (phase, exit_code) = match image.as_deref() {
        Some(DONE) => ("Succeeded", 0),
        Some(FAILS) => ("Failed", 1),
        _ => return,
    };
    let ended =
        json!({"exitCode": exit_code, "finishedAt": serin_api::conditions::time(clock.now())});
    let container = json!({"name": "a", "ready": false, "restartCount": 0, "image": image, "imageID": "",
        "state": {"terminated": ended}});
    let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {
        "phase": phase, "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [container]}});
    let _ = api
        .patch_status(&name, &params, &Patch::Merge(status))
        .await;
}

/// Any address that is its own, as far as a test needs it.
fn address_of(pod: &Pod) -> String {
    let sum = pod.name_any().bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let [_, a, b, c] = sum.to_be_bytes();
    format!("127.{}.{b}.{c}", 64 + a % 64)
}

/// Counts at every event of a pod.
async fn sample(client: Client, bounds: Arc<Mutex<Bounds>>) {
    let api: Api<Pod> = Api::default_namespaced(client);
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    let mut pods = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Event::Apply(pod) | Event::InitApply(pod) => {
                pods.insert(pod.name_any(), pod);
            }
            Event::Delete(pod) => {
                pods.remove(&pod.name_any());
            }
            Event::Init | Event::InitDone => continue,
        }
        let live = pods
            .values()
            .filter(|p| p.metadata.deletion_timestamp.is_none());
        let (most, available) = (live.clone().count(), live.filter(|p| is_ready(p)).count());
        let mut bounds = bounds.lock().unwrap();
        bounds.most = bounds.most.max(most);
        bounds.fewest_available = bounds.fewest_available.min(available);
        bounds.events += 1;
    }
}
