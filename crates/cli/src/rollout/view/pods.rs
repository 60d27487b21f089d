//! The pods of a ReplicaSet and the word that says how each one is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use super::{State, Tone, age};
use crate::rollout::objects::{Objects, owned_by};

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodNode {
    /// Its name.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: State,
    /// Its containers: ready and all.
    pub(crate) ready: (usize, usize),
    /// Restarts of its containers.
    pub(crate) restarts: i32,
    /// Its address; `None` before it has one.
    pub(crate) ip: Option<String>,
    /// Why a container of it waits or ended, for a person.
    pub(crate) message: Option<String>,
    /// How old it is.
    pub(crate) age: Option<SignedDuration>,
}

/// The pods of a ReplicaSet, oldest first.
pub(super) fn of_set(objects: &Objects, set: &ReplicaSet, now: Timestamp) -> Vec<PodNode> {
    let mut pods: Vec<&Pod> = objects
        .pods
        .iter()
        .filter(|pod| owned_by(&pod.metadata, &set.metadata))
        .collect();
    pods.sort_by(|a, b| {
        let key = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    pods.into_iter().map(|pod| node(pod, now)).collect()
}

fn node(pod: &Pod, now: Timestamp) -> PodNode {
    let status = pod.status.as_ref();
    let containers = containers(pod);
    let all = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let ready = containers.iter().filter(|c| c.ready).count();
    PodNode {
        name: pod.metadata.name.clone().unwrap_or_default(),
        state: state(pod, ready == all),
        ready: (ready, all),
        restarts: containers.iter().map(|c| c.restart_count).sum(),
        ip: status.and_then(|status| status.pod_ip.clone()),
        message: message(pod),
        age: age(pod.metadata.creation_timestamp.as_ref(), now),
    }
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
}

/// The same word that `get pods` shows: why a container waits or ended, else the phase.
fn state(pod: &Pod, ready: bool) -> State {
    if pod.metadata.deletion_timestamp.is_some() {
        return State::new(Tone::Quiet, "Terminating");
    }
    let states = containers(pod).iter().filter_map(|c| c.state.as_ref());
    if let Some(trouble) = states.filter_map(trouble).next() {
        return trouble;
    }
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let tone = match phase {
        "Running" if ready => Tone::Good,
        "Running" | "Pending" => Tone::Busy,
        "Succeeded" => Tone::Quiet,
        _ => Tone::Bad,
    };
    State::new(tone, phase)
}

/// What the node says of the first container that does not run, else of the pod.
fn message(pod: &Pod) -> Option<String> {
    let of_container = |container: &ContainerStatus| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|w| w.message.clone());
        waiting.or_else(|| state.terminated.as_ref()?.message.clone())
    };
    let told = containers(pod).iter().filter_map(of_container);
    let of_pod = pod.status.as_ref().and_then(|s| s.message.clone());
    told.chain(of_pod).find(|message| !message.is_empty())
}

fn trouble(state: &ContainerState) -> Option<State> {
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone()?;
        let starting = ["ContainerCreating", "PodInitializing"].contains(&reason.as_str());
        let tone = if starting { Tone::Busy } else { Tone::Bad };
        return Some(State::new(tone, reason));
    }
    let ended = state.terminated.as_ref()?;
    let word = ended
        .reason
        .clone()
        .unwrap_or_else(|| format!("ExitCode:{}", ended.exit_code));
    let tone = if ended.exit_code == 0 {
        Tone::Quiet
    } else {
        Tone::Bad
    };
    Some(State::new(tone, word))
}
