//! Events: what happened, for people who ask `kubectl describe`. Telling is best effort and never stops a release.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serin_api::conditions::time;
use serin_api::keys::FIELD_MANAGER;
use serin_engine::hash::short;
use serin_engine::rollout::Note;
use tokio::time::{Duration, timeout};

const DEADLINE: Duration = Duration::from_secs(5);

/// Tells what happened to an object.
pub(crate) async fn tell(client: &Client, about: &ObjectReference, note: &Note, now: Timestamp) {
    let namespace = about.namespace.clone().unwrap_or_default();
    let name = about.name.clone().unwrap_or_default();
    // The same thing told twice has the same name, so that a repeated pass tells it once.
    let at = now.as_second().to_string();
    let suffix = short(&[note.reason, &note.message, &at]);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{suffix}")),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        message: Some(note.message.clone()),
        first_timestamp: Some(time(now)),
        last_timestamp: Some(time(now)),
        count: Some(1),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.into()),
            host: None,
        }),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    };
    match timeout(DEADLINE, api.create(&params, &event)).await {
        Ok(Err(error)) if !matches!(&error, kube::Error::Api(s) if s.code == 409) => {
            tracing::debug!(%error, name, "an event could not be told");
        }
        Err(_) => tracing::debug!(name, "an event could not be told in time"),
        Ok(_) => {}
    }
}
