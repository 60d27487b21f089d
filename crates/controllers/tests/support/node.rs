//! A node for tests and benches: it runs nothing and only says of pods what a real one would.
//!
//! It is shared by its path, as what is only for tests has no place in a crate.

use std::collections::BTreeMap;
use std::future::{Future, ready};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

/// Calls `life` once when a pod comes and once when it is asked to go, `at_once` at a time; without end.
pub(crate) async fn node<F: Future<Output = ()>>(
    client: Client,
    at_once: impl Into<Option<usize>>,
    life: impl Fn(Api<Pod>, Pod) -> F,
) {
    let api: Api<Pod> = Api::default_namespaced(client);
    let events = watcher(api.clone(), watcher::Config::default()).default_backoff();
    // Of each pod, whether it has been asked to go.
    let mut known = BTreeMap::new();
    let turns = events.filter_map(|event| {
        // After an error the watcher lists again by itself.
        ready(event.ok().and_then(|event| turn(&mut known, event)))
    });
    turns
        .for_each_concurrent(at_once, |pod| life(api.clone(), pod))
        .await;
}

fn turn(known: &mut BTreeMap<String, bool>, event: Event<Pod>) -> Option<Pod> {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => {
            let leaves = pod.metadata.deletion_timestamp.is_some();
            let before = known.insert(pod.uid()?, leaves);
            (before != Some(leaves)).then_some(pod)
        }
        Event::Delete(pod) => {
            known.remove(&pod.uid()?);
            None
        }
        Event::Init | Event::InitDone => None,
    }
}

/// Lets a pod go that was asked to.
pub(crate) async fn let_go(api: &Api<Pod>, pod: &Pod) {
    let now = DeleteParams::default().grace_period(0);
    // Somebody else may have been faster.
    let _ = api.delete(&pod.name_any(), &now).await;
}
