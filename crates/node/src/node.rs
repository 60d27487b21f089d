//! The node: which pods are its own, and an actor for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::actor::{self, Context, Seen, code, read_record, retire};
use crate::address::Addresses;
use crate::config::NodeConfig;
use crate::dirs::{Dirs, is_component};
use crate::environment::PASSED_ON;
use crate::error::NodeError;
use crate::pod::Notice;
use crate::recorder::Recorder;
use crate::registration;

/// How soon an actor that fell over, or a binding that failed, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the node until `shutdown`. Pods go on running then: their shims live on, and the next call takes them over again.
///
/// # Errors
/// When the state directory or the shim cannot be used. Nothing else ends it: a pod that cannot run says so in its status.
pub async fn run(
    config: NodeConfig,
    client: Client,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let dirs = Dirs::new(&config.home);
    prepare(&config, &dirs)?;
    let (recorder, _recording) = Recorder::start(client.clone(), &config.name);
    let registration = registration::keep(client.clone(), config.name.clone(), config.heartbeat);
    let _registration = AbortOnDropHandle::new(tokio::spawn(registration));
    let passed_on = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let context = Arc::new(Context {
        addresses: Mutex::new(recorded_addresses(&dirs)),
        config,
        dirs,
        client,
        recorder,
        passed_on,
    });
    Manager::new(context).run(shutdown).await;
    Ok(())
}

/// Ends every pod under a state directory without asking any API, as when everything is taken down: SIGTERM, then SIGKILL after
/// `grace`. What is on disk stays. Gives the number of containers that ran.
pub async fn stop_all(home: &Path, grace: Duration) -> usize {
    let dirs = Dirs::new(home);
    let mut ends = JoinSet::new();
    for uid in pods_on_disk(&dirs) {
        let dirs = dirs.clone();
        ends.spawn(async move { retire(&dirs, &uid, Some(grace)).await });
    }
    ends.join_all().await.into_iter().sum()
}

fn prepare(config: &NodeConfig, dirs: &Dirs) -> Result<(), NodeError> {
    let pods = dirs.pods();
    fs::create_dir_all(&pods).map_err(|source| NodeError::Home { path: pods, source })?;
    fs::metadata(&config.shim)
        .and_then(|m| {
            if m.is_file() {
                Ok(())
            } else {
                Err(io::ErrorKind::InvalidInput.into())
            }
        })
        .map_err(|source| NodeError::Shim {
            path: config.shim.clone(),
            source,
        })
}

fn pods_on_disk(dirs: &Dirs) -> Vec<String> {
    fs::read_dir(dirs.pods())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The addresses of pods that may still run, before any of them is given to another.
fn recorded_addresses(dirs: &Dirs) -> Addresses {
    let mut addresses = Addresses::default();
    for uid in pods_on_disk(dirs) {
        if let Some(record) = read_record(dirs, &uid) {
            addresses.assign(&uid, Some(record.address));
        }
    }
    addresses
}

/// What a pod object means for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// It runs here.
    Run,
    /// It has no node yet.
    Bind,
    /// It is to be deleted and nothing of it is here: it never ran, or it was ended before and a finalizer keeps the object.
    Delete,
    /// It belongs to someone else.
    Ignore,
}

/// `here`: whether the node has an actor or a directory for it.
fn intent(pod: &Pod, node: &str, here: bool) -> Intent {
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default();
    let deleted = pod.metadata.deletion_timestamp.is_some();
    match of_pod {
        _ if pod
            .metadata
            .uid
            .as_deref()
            .is_none_or(|uid| !is_component(uid)) =>
        {
            Intent::Ignore
        }
        "" if deleted => Intent::Delete,
        "" => Intent::Bind,
        name if name == node && deleted && !here => Intent::Delete,
        name if name == node => Intent::Run,
        _ => Intent::Ignore,
    }
}

struct Manager {
    ctx: Arc<Context>,
    /// By uid; the actor ends when its sender is dropped.
    pods: BTreeMap<String, watch::Sender<Seen>>,
    actors: JoinSet<io::Result<()>>,
    owners: BTreeMap<Id, String>,
    /// By uid: pods that are being bound or deleted.
    placing: BTreeSet<String>,
    placements: JoinSet<String>,
    /// By uid: what is listed since the watch began anew.
    listed: BTreeSet<String>,
    swept: bool,
    sweeps: JoinSet<()>,
}

impl Manager {
    fn new(ctx: Arc<Context>) -> Self {
        Self {
            ctx,
            pods: BTreeMap::new(),
            actors: JoinSet::new(),
            owners: BTreeMap::new(),
            placing: BTreeSet::new(),
            placements: JoinSet::new(),
            listed: BTreeSet::new(),
            swept: false,
            sweeps: JoinSet::new(),
        }
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let api: Api<Pod> = Api::all(self.ctx.client.clone());
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = events.next() => match event {
                    Ok(event) => self.handle(event),
                    Err(error) => tracing::warn!(%error, "pods cannot be watched, trying again"),
                },
                Some(ended) = self.actors.join_next_with_id() => self.actor_ended(ended),
                Some(placed) = self.placements.join_next() => {
                    if let Ok(uid) = placed {
                        self.placing.remove(&uid);
                    }
                }
                Some(_) = self.sweeps.join_next() => {}
            }
        }
    }

    fn handle(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.applied(pod);
            }
            watcher::Event::InitDone => self.list_is_complete(),
            watcher::Event::Apply(pod) => self.applied(pod),
            watcher::Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                self.removed(&uid);
            }
        }
    }

    fn applied(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let here = self.pods.contains_key(&uid) || self.ctx.dirs.pod(&uid).exists();
        match intent(&pod, &self.ctx.config.name, here) {
            Intent::Ignore => {}
            Intent::Run => {
                let seen = Seen {
                    pod: Arc::new(pod),
                    gone: false,
                };
                match self.pods.get(&uid) {
                    Some(sender) => {
                        sender.send_replace(seen);
                    }
                    None => {
                        let (sender, receiver) = watch::channel(seen);
                        self.pods.insert(uid.clone(), sender);
                        self.spawn_actor(uid, receiver, Duration::ZERO);
                    }
                }
            }
            Intent::Bind | Intent::Delete if !self.placing.insert(uid.clone()) => {}
            Intent::Bind => {
                let ctx = Arc::clone(&self.ctx);
                self.placements.spawn(async move {
                    bind(&ctx, &pod).await;
                    uid
                });
            }
            Intent::Delete => {
                let client = self.ctx.client.clone();
                self.placements.spawn(async move {
                    delete(client, &pod).await;
                    uid
                });
            }
        }
    }

    fn removed(&mut self, uid: &str) {
        if let Some(sender) = self.pods.get(uid) {
            sender.send_modify(|seen| seen.gone = true);
        }
    }

    /// A list tells what is no longer there: pods whose deletion was missed, and, the first time, what an earlier node left.
    fn list_is_complete(&mut self) {
        let missed: Vec<_> = self
            .pods
            .keys()
            .filter(|uid| !self.listed.contains(*uid))
            .cloned()
            .collect();
        for uid in missed {
            self.removed(&uid);
        }
        if self.swept {
            return;
        }
        self.swept = true;
        for uid in pods_on_disk(&self.ctx.dirs) {
            if self.listed.contains(&uid) {
                continue;
            }
            let ctx = Arc::clone(&self.ctx);
            self.sweeps.spawn(async move {
                let stopped = retire(&ctx.dirs, &uid, None).await;
                tracing::info!(%uid, stopped, "a pod without an object was ended");
                actor::remove_dirs(&ctx.dirs, &uid).await;
                ctx.addresses(|addresses| addresses.release(&uid));
            });
        }
    }

    fn spawn_actor(&mut self, uid: String, seen: watch::Receiver<Seen>, after: Duration) {
        let ctx = Arc::clone(&self.ctx);
        let task = self.actors.spawn(async move {
            tokio::time::sleep(after).await;
            actor::run(ctx, seen).await
        });
        self.owners.insert(task.id(), uid);
    }

    fn actor_ended(&mut self, ended: Result<(Id, io::Result<()>), JoinError>) {
        let (id, error) = match ended {
            Ok((id, Ok(()))) => (id, None),
            Ok((id, Err(error))) => (id, Some(error.to_string())),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(uid) = self.owners.remove(&id) else {
            return;
        };
        let Some(error) = error else {
            self.pods.remove(&uid);
            return;
        };
        tracing::error!(%uid, %error, "the actor of a pod failed and is started again");
        if let Some(sender) = self.pods.get(&uid) {
            let mut receiver = sender.subscribe();
            receiver.mark_changed();
            self.ctx.recorder.tell(
                &receiver.borrow().pod.clone(),
                Notice {
                    warning: true,
                    reason: "FailedSync",
                    message: error,
                },
            );
            self.spawn_actor(uid, receiver, RETRY);
        }
    }
}

/// Gives a pod this node: with the binding that Kubernetes' schedulers write, or directly where no binding is served.
async fn bind(ctx: &Context, pod: &Pod) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &namespace);
    let node = &ctx.config.name;
    loop {
        let result = match post_binding(&api, pod, &name, &namespace, node).await {
            Err(error) if not_served(&error) => {
                let patch = json!({
                    "metadata": { "uid": pod.metadata.uid },
                    "spec": { "nodeName": node },
                });
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .map(|_| ())
            }
            result => result,
        };
        match result {
            Ok(()) => break,
            // Gone, bound by someone else, or another object has the name.
            Err(error) if matches!(code(&error), Some(404 | 409)) => return,
            Err(error) => {
                tracing::warn!(pod = %name, %error, "the pod was not bound, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    let notice = Notice {
        warning: false,
        reason: "Scheduled",
        message,
    };
    ctx.recorder.tell(pod, notice);
}

async fn post_binding(
    api: &Api<Pod>,
    pod: &Pod,
    name: &str,
    namespace: &str,
    node: &str,
) -> kube::Result<()> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    api.create_subresource::<_, serde_json::Value>(
        "binding",
        name,
        &PostParams::default(),
        &binding,
    )
    .await
    .map(|_| ())
}

/// A server without bindings answers 404 for the path; one that has them answers 404 only for a pod that is gone, and then the
/// patch that follows gets the same answer.
fn not_served(error: &kube::Error) -> bool {
    matches!(code(error), Some(404 | 405 | 501))
}

async fn delete(client: Client, pod: &Pod) {
    let meta = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(client, meta.namespace.as_deref().unwrap_or("default"));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let name = meta.name.as_deref().unwrap_or_default();
    if let Err(error) = api.delete(name, &params).await {
        tracing::debug!(pod = %name, %error, "a pod that never ran was not deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_run_bound_deleted_or_left_alone() {
        let pod = |text: &str| serde_json::from_str::<Pod>(text).unwrap();
        for (text, want) in [
            (
                r#"{"metadata":{"uid":"u"},"spec":{"containers":[]}}"#,
                Intent::Bind,
            ),
            (
                r#"{"metadata":{"uid":"u"},"spec":{"nodeName":"local","containers":[]}}"#,
                Intent::Run,
            ),
            (
                r#"{"metadata":{"uid":"u"},"spec":{"nodeName":"other","containers":[]}}"#,
                Intent::Ignore,
            ),
            (
                r#"{"metadata":{"uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"containers":[]}}"#,
                Intent::Delete,
            ),
            (
                r#"{"metadata":{"uid":"../x"},"spec":{"nodeName":"local","containers":[]}}"#,
                Intent::Ignore,
            ),
            (
                r#"{"metadata":{},"spec":{"nodeName":"local","containers":[]}}"#,
                Intent::Ignore,
            ),
        ] {
            assert_eq!(intent(&pod(text), "local", false), want, "{text}");
        }
        let deleted = r#"{"metadata":{"uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z"},
            "spec":{"nodeName":"local","containers":[]}}"#;
        assert_eq!(intent(&pod(deleted), "local", true), Intent::Run);
        assert_eq!(intent(&pod(deleted), "local", false), Intent::Delete);
    }
}
