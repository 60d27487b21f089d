//! Keeps the objects of one workload as they change: watch events go in, the objects as they are come out.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serin_api::analysis::AnalysisRun;
use serin_api::rollout::Rollout;

use super::objects::{Objects, Workload, selector_text};
use crate::client::Client;
use crate::error::{CliError, chain};

/// How long changes are gathered before they are handed out together.
const GATHER: Duration = Duration::from_millis(50);
/// Changes that are handed out together at most, so that a storm cannot hold back what a person sees.
const GATHER_LIMIT: usize = 1000;

/// One change of one kind of object.
#[expect(
    clippy::large_enum_variant,
    reason = "a change is handled as soon as it is there; none is kept"
)]
enum Change {
    Rollout(Event<Rollout>),
    Deployment(Event<Deployment>),
    Set(Event<ReplicaSet>),
    Pod(Event<Pod>),
    Run(Event<AnalysisRun>),
    /// A watch that broke, and is begun again by itself.
    Trouble(String),
}

/// The objects of a kind, by name.
struct Kept<K> {
    objects: BTreeMap<String, K>,
    coming: BTreeMap<String, K>,
    complete: bool,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            coming: BTreeMap::new(),
            complete: false,
        }
    }
}

impl<K: Resource + Clone> Kept<K> {
    fn handle(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.coming.clear(),
            Event::InitApply(object) => {
                self.coming.insert(object.name_any(), object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.coming);
                self.complete = true;
            }
            Event::Apply(object) => {
                self.objects.insert(object.name_any(), object);
            }
            Event::Delete(object) => {
                self.objects.remove(&object.name_any());
            }
        }
    }

    fn all(&self) -> Vec<K> {
        self.objects.values().cloned().collect()
    }
}

/// Everything that is known of the workload.
struct Live {
    is_rollout: bool,
    rollouts: Kept<Rollout>,
    deployments: Kept<Deployment>,
    sets: Kept<ReplicaSet>,
    pods: Kept<Pod>,
    runs: Kept<AnalysisRun>,
}

/// What is known at a moment.
pub(crate) enum Moment {
    /// The workload as it is.
    Here(Box<Objects>),
    /// The workload was deleted.
    Gone,
    /// The API is away; it is looked for again by itself.
    Trouble(String),
}

impl Live {
    fn new(is_rollout: bool) -> Self {
        Self {
            is_rollout,
            rollouts: Kept::default(),
            deployments: Kept::default(),
            sets: Kept::default(),
            pods: Kept::default(),
            runs: Kept::default(),
        }
    }

    fn handle(&mut self, change: Change) -> Option<String> {
        match change {
            Change::Rollout(event) => self.rollouts.handle(event),
            Change::Deployment(event) => self.deployments.handle(event),
            Change::Set(event) => self.sets.handle(event),
            Change::Pod(event) => self.pods.handle(event),
            Change::Run(event) => self.runs.handle(event),
            Change::Trouble(why) => return Some(why),
        }
        None
    }

    /// `None` until the first list of every kind is whole.
    fn moment(&self) -> Option<Moment> {
        let lists = self.sets.complete && self.pods.complete;
        let own = if self.is_rollout {
            self.rollouts.complete && self.runs.complete
        } else {
            self.deployments.complete
        };
        if !(lists && own) {
            return None;
        }
        let rollout = self.rollouts.objects.values().next();
        let deployment = self.deployments.objects.values().next();
        let workload = match (rollout, deployment) {
            (Some(rollout), _) => Workload::Rollout(Box::new(rollout.clone())),
            (None, Some(deployment)) => Workload::Deployment(Box::new(deployment.clone())),
            (None, None) => return Some(Moment::Gone),
        };
        Some(Moment::Here(Box::new(Objects {
            workload,
            replica_sets: self.sets.all(),
            pods: self.pods.all(),
            analysis_runs: self.runs.all(),
        })))
    }
}

/// Follows one workload.
pub(crate) struct Follower {
    live: Live,
    changes: SelectAll<BoxStream<'static, Change>>,
    /// Whether `live` has something that was not yet handed out.
    changed: bool,
    trouble: Option<String>,
}

impl Follower {
    /// Begins to watch a workload and everything that belongs to it.
    pub(crate) fn start(client: &Client, workload: &Workload) -> Self {
        let namespace = client.namespace();
        let kube = client.kube();
        let by_name =
            watcher::Config::default().fields(&format!("metadata.name={}", workload.name()));
        let selector = workload.selector().map(selector_text).unwrap_or_default();
        let by_label = watcher::Config::default().labels(&selector);
        let mut changes: SelectAll<BoxStream<'static, Change>> = SelectAll::new();
        let sets = Api::namespaced(kube.clone(), namespace);
        changes.push(stream(sets, by_label.clone(), Change::Set));
        let pods = Api::namespaced(kube.clone(), namespace);
        changes.push(stream(pods, by_label, Change::Pod));
        let is_rollout = matches!(workload, Workload::Rollout(_));
        if is_rollout {
            let rollouts = Api::namespaced(kube.clone(), namespace);
            changes.push(stream(rollouts, by_name, Change::Rollout));
            let runs = Api::namespaced(kube.clone(), namespace);
            changes.push(stream(runs, watcher::Config::default(), Change::Run));
        } else {
            let deployments = Api::namespaced(kube.clone(), namespace);
            changes.push(stream(deployments, by_name, Change::Deployment));
        }
        Self {
            live: Live::new(is_rollout),
            changes,
            changed: false,
            trouble: None,
        }
    }

    /// Waits for the next change, takes those that come with it, and hands out what then is. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Moment, CliError> {
        loop {
            if !self.changed {
                let first = self.changes.next().await;
                let first = first.ok_or_else(|| CliError::failed("the watch ended"))?;
                self.take(first);
            }
            let until = tokio::time::Instant::now() + GATHER;
            for _ in 0..GATHER_LIMIT {
                match tokio::time::timeout_at(until, self.changes.next()).await {
                    Ok(Some(change)) => self.take(change),
                    Ok(None) | Err(_) => break,
                }
            }
            self.changed = false;
            if let Some(why) = self.trouble.take() {
                return Ok(Moment::Trouble(why));
            }
            if let Some(moment) = self.live.moment() {
                return Ok(moment);
            }
        }
    }

    fn take(&mut self, change: Change) {
        self.changed = true;
        self.trouble = self.live.handle(change).or(self.trouble.take());
    }
}

fn stream<K>(
    api: Api<K>,
    config: watcher::Config,
    wrap: fn(Event<K>) -> Change,
) -> BoxStream<'static, Change>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    with_trouble(watcher(api, config).default_backoff(), wrap).boxed()
}

fn with_trouble<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    wrap: fn(Event<K>) -> Change,
) -> impl Stream<Item = Change> {
    events.map(move |event| match event {
        Ok(event) => wrap(event),
        Err(error) => Change::Trouble(chain(&error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod
    }

    fn names(kept: &Kept<Pod>) -> Vec<String> {
        kept.all().iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn a_new_list_replaces_the_old_one_only_when_it_is_whole() {
        let mut kept = Kept::default();
        kept.handle(Event::Init);
        kept.handle(Event::InitApply(pod("a")));
        assert!(!kept.complete);
        kept.handle(Event::InitDone);
        kept.handle(Event::Apply(pod("b")));
        kept.handle(Event::Init);
        kept.handle(Event::InitApply(pod("c")));
        assert_eq!(names(&kept), ["a", "b"]);
        kept.handle(Event::InitDone);
        kept.handle(Event::Delete(pod("a")));
        assert_eq!(names(&kept), ["c"]);
    }
}
