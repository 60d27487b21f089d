//! Events about pods: best effort, bounded, the same one counted instead of written again.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use serin_api::conditions;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::pod::Notice;

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 256;
/// Events that are remembered for counting.
const REMEMBERED: usize = 1024;
/// The longest message that Kubernetes takes.
const MAX_MESSAGE_CHARS: usize = 1024;
const COMPONENT: &str = "serin-node";

/// Takes events; never waits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
}

impl Recorder {
    /// Starts the writer, which ends with the handle.
    pub(crate) fn start(client: Client, node: &str) -> (Self, AbortOnDropHandle<()>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let task = tokio::spawn(write_all(client, node.to_owned(), inbox));
        (Self { queue }, AbortOnDropHandle::new(task))
    }

    /// Tells something about a pod.
    pub(crate) fn tell(&self, pod: &Pod, notice: Notice) {
        if self.queue.try_send((reference(pod), notice)).is_err() {
            tracing::debug!("an event was dropped: too many wait to be written");
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    notice: (&'static str, String),
}

async fn write_all(
    client: Client,
    node: String,
    mut inbox: mpsc::Receiver<(ObjectReference, Notice)>,
) {
    let mut known: HashMap<Key, (String, i32)> = HashMap::new();
    while let Some((object, notice)) = inbox.recv().await {
        let key = Key {
            uid: object.uid.clone().unwrap_or_default(),
            notice: (notice.reason, notice.message.clone()),
        };
        let api: Api<Event> = Api::namespaced(
            client.clone(),
            object.namespace.as_deref().unwrap_or("default"),
        );
        let counted = match known.get(&key) {
            Some((name, count)) => count_again(&api, name, count + 1)
                .await
                .map(|()| (name.clone(), count + 1)),
            None => None,
        };
        let written = match counted {
            Some(counted) => Some(counted),
            None => create(&api, object, notice, &node)
                .await
                .map(|name| (name, 1)),
        };
        if known.len() >= REMEMBERED {
            known.clear();
        }
        if let Some(written) = written {
            known.insert(key, written);
        }
    }
}

async fn count_again(api: &Api<Event>, name: &str, count: i32) -> Option<()> {
    let patch = json!({ "count": count, "lastTimestamp": conditions::time(Timestamp::now()) });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(|_| ())
        .ok()
}

async fn create(
    api: &Api<Event>,
    object: ObjectReference,
    notice: Notice,
    node: &str,
) -> Option<String> {
    let now = Timestamp::now();
    let base = object.name.clone().unwrap_or_default();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{base}.{:x}", now.as_nanosecond())),
            namespace: object.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: object,
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.chars().take(MAX_MESSAGE_CHARS).collect()),
        first_timestamp: Some(conditions::time(now)),
        last_timestamp: Some(conditions::time(now)),
        count: Some(1),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    };
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => event.metadata.name,
        Err(error) => {
            tracing::debug!(%error, "an event was not written");
            None
        }
    }
}
