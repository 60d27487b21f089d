//! What a person sees of a workload, as a value: objects go in, a [`Tree`] comes out. Nothing here asks, waits or prints.

mod pods;
mod runs;
mod steps;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serin_api::keys::annotation;
use serin_api::rollout::Rollout;
use serin_api::waiting::WaitingOn;

use super::objects::{Objects, Workload};
use super::standing::{Health, Standing};

pub(crate) use pods::PodNode;
pub(crate) use runs::{MetricNode, RunNode};
pub(crate) use steps::{Mark, Steps};

/// Whether a word is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Waiting for a person or for time.
    Waiting,
    /// Not as it should be.
    Bad,
    /// Over, or of no importance.
    Quiet,
}

/// A word with its tone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it is good news.
    pub(crate) tone: Tone,
    /// The word.
    pub(crate) word: String,
}

impl State {
    pub(super) fn new(tone: Tone, word: impl Into<String>) -> Self {
        let word = word.into();
        Self { tone, word }
    }
}

impl From<Health> for State {
    fn from(health: Health) -> Self {
        let tone = match health {
            Health::Healthy => Tone::Good,
            Health::Progressing => Tone::Busy,
            Health::Paused => Tone::Waiting,
            Health::Degraded => Tone::Bad,
        };
        Self::new(tone, health.word())
    }
}

/// A workload with its revisions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    /// `Rollout` or `Deployment`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// `Canary`, `BlueGreen`, `RollingUpdate`, `Recreate`.
    pub(crate) strategy: String,
    /// Where it stands.
    pub(crate) state: State,
    /// Why.
    pub(crate) message: Option<String>,
    /// What it waits for; `None` when for nothing.
    pub(crate) waits_for: Option<String>,
    /// The images in use, each with the roles of its revisions.
    pub(crate) images: Vec<(String, Vec<Role>)>,
    /// Its instances.
    pub(crate) replicas: Replicas,
    /// Its steps; `None` without steps.
    pub(crate) steps: Option<Steps>,
    /// How the requests are split; `None` without traffic routing.
    pub(crate) weights: Option<Weights>,
    /// How old it is.
    pub(crate) age: Option<SignedDuration>,
    /// Its revisions, newest first.
    pub(crate) revisions: Vec<RevisionNode>,
}

/// Counts of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replicas {
    /// Wanted.
    pub(crate) desired: i32,
    /// There.
    pub(crate) current: i32,
    /// There, of the version that is wanted.
    pub(crate) updated: i32,
    /// Ready.
    pub(crate) ready: i32,
    /// Ready for long enough.
    pub(crate) available: i32,
}

/// How the requests are split, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// To the canary, as the steps ask; `None` when no update is on its way.
    pub(crate) asked: Option<i32>,
    /// To the canary, as set on the routes.
    pub(crate) canary: i32,
    /// To the stable revision, as set on the routes.
    pub(crate) stable: i32,
    /// Whether the data plane has said that it serves this; `None` when nobody says it.
    pub(crate) served: Option<bool>,
}

/// What a revision is to its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The users are on it.
    Stable,
    /// On trial.
    Canary,
    /// The Service of the users selects it.
    Active,
    /// The Service of the testers selects it.
    Preview,
    /// The one that is wanted, of a Deployment.
    Current,
}

impl Role {
    /// As it is shown.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Active => "active",
            Self::Preview => "preview",
            Self::Current => "current",
        }
    }
}

/// One revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RevisionNode {
    /// Its number; `None` while its ReplicaSet carries none.
    pub(crate) number: Option<i64>,
    /// Why it was made, in the words of its author.
    pub(crate) cause: Option<String>,
    /// Its ReplicaSet; more than one only after a collision.
    pub(crate) sets: Vec<SetNode>,
    /// Its analyses, oldest first.
    pub(crate) runs: Vec<RunNode>,
}

/// One ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetNode {
    /// Its name.
    pub(crate) name: String,
    /// The hash of its template.
    pub(crate) hash: String,
    /// What it is to the workload.
    pub(crate) roles: Vec<Role>,
    /// Where it stands.
    pub(crate) state: State,
    /// Its instances: available and wanted.
    pub(crate) available: (i32, i32),
    /// How long until it is scaled to 0, if that is set; 0 when overdue.
    pub(crate) scale_down_in: Option<SignedDuration>,
    /// How old it is.
    pub(crate) age: Option<SignedDuration>,
    /// Its pods, oldest first.
    pub(crate) pods: Vec<PodNode>,
}

/// Everything that a person sees of a workload at `now`.
pub(crate) fn view(objects: &Objects, now: Timestamp) -> Tree {
    let workload = &objects.workload;
    let standing = Standing::of(workload);
    let metadata = workload.metadata();
    let waits_for = waits_for(workload, standing.message.as_deref());
    let message = standing
        .message
        .filter(|message| !repeats(message, waits_for.as_deref()));
    Tree {
        kind: match workload {
            Workload::Rollout(_) => "Rollout",
            Workload::Deployment(_) => "Deployment",
        },
        name: workload.name().to_owned(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        strategy: strategy(workload),
        state: standing.health.into(),
        message,
        waits_for,
        images: images(objects),
        replicas: replicas(workload),
        steps: steps::steps(workload),
        weights: weights(workload),
        age: age(metadata.creation_timestamp.as_ref(), now),
        revisions: revisions(objects, now),
    }
}

fn strategy(workload: &Workload) -> String {
    match workload {
        Workload::Rollout(rollout) if rollout.spec.strategy.blue_green.is_some() => {
            "BlueGreen".to_owned()
        }
        Workload::Rollout(_) => "Canary".to_owned(),
        Workload::Deployment(deployment) => deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.as_ref()?.type_.clone())
            .unwrap_or_else(|| "RollingUpdate".to_owned()),
    }
}

/// What it waits for, without what `message` says already.
fn waits_for(workload: &Workload, message: Option<&str>) -> Option<String> {
    let Workload::Rollout(rollout) = workload else {
        return None;
    };
    match rollout.status.as_ref()?.waiting_on.as_ref()? {
        WaitingOn::Nothing => None,
        WaitingOn::NewRevision { why } if message.is_some_and(|m| m.contains(why.as_str())) => {
            Some("a new revision or a retry".to_owned())
        }
        waiting => Some(waiting.to_string()),
    }
}

/// Whether a message says nothing but what is waited for.
fn repeats(message: &str, waits_for: Option<&str>) -> bool {
    waits_for.is_some_and(|what| message.strip_prefix("waits for ") == Some(what))
}

fn replicas(workload: &Workload) -> Replicas {
    let counts = match workload {
        Workload::Rollout(rollout) => rollout.status.as_ref().map(|s| {
            [
                s.replicas,
                s.updated_replicas,
                s.ready_replicas,
                s.available_replicas,
            ]
        }),
        Workload::Deployment(deployment) => deployment.status.as_ref().map(|s| {
            [
                s.replicas,
                s.updated_replicas,
                s.ready_replicas,
                s.available_replicas,
            ]
        }),
    };
    let [current, updated, ready, available] = counts.unwrap_or_default().map(|n| n.unwrap_or(0));
    Replicas {
        desired: workload.desired(),
        current,
        updated,
        ready,
        available,
    }
}

fn weights(workload: &Workload) -> Option<Weights> {
    let Workload::Rollout(rollout) = workload else {
        return None;
    };
    let set = rollout.status.as_ref()?.canary.weights.as_ref()?;
    Some(Weights {
        asked: steps::asked_weight(rollout),
        canary: set.canary.weight,
        stable: set.stable.weight,
        served: set.verified,
    })
}

/// What the revision with this hash is to the workload.
fn roles(objects: &Objects, hash: &str, newest: bool) -> Vec<Role> {
    let Workload::Rollout(rollout) = &objects.workload else {
        return if newest {
            vec![Role::Current]
        } else {
            Vec::new()
        };
    };
    let Some(status) = &rollout.status else {
        return Vec::new();
    };
    let is = |named: &Option<String>| named.as_deref() == Some(hash);
    let blue_green = rollout.spec.strategy.blue_green.is_some();
    let active = is(&status.blue_green.active_selector);
    let mut roles = Vec::new();
    if is(&status.stable_rs) {
        roles.push(Role::Stable);
    }
    if !blue_green && is(&status.current_pod_hash) && !is(&status.stable_rs) {
        roles.push(Role::Canary);
    }
    if blue_green && active {
        roles.push(Role::Active);
    }
    if blue_green && is(&status.blue_green.preview_selector) && !active {
        roles.push(Role::Preview);
    }
    roles
}

/// The images of all revisions that have instances or a role.
fn images(objects: &Objects) -> Vec<(String, Vec<Role>)> {
    let mut found: Vec<(String, Vec<Role>)> = Vec::new();
    for (place, (_, set)) in objects.revisions().into_iter().enumerate() {
        let roles = roles(objects, hash(objects, set), place == 0);
        if roles.is_empty() && wanted(set) == 0 {
            continue;
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        for image in template.map(template_images).unwrap_or_default() {
            match found.iter_mut().find(|(known, _)| *known == image) {
                Some((_, known)) => known.extend(roles.iter().copied()),
                None => found.push((image, roles.clone())),
            }
        }
    }
    for (_, roles) in &mut found {
        roles.sort_unstable();
        roles.dedup();
    }
    found
}

/// The images of a pod template, in the order of its containers.
pub(super) fn template_images(template: &PodTemplateSpec) -> Vec<String> {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter_map(|c| c.image.clone()).collect()
}

fn revisions(objects: &Objects, now: Timestamp) -> Vec<RevisionNode> {
    let mut nodes: Vec<RevisionNode> = Vec::new();
    for (place, (number, set)) in objects.revisions().into_iter().enumerate() {
        let node = set_node(objects, set, place == 0, now);
        match nodes.last_mut() {
            Some(last) if number.is_some() && last.number == number => last.sets.push(node),
            _ => nodes.push(RevisionNode {
                number,
                cause: cause(set),
                sets: vec![node],
                runs: Vec::new(),
            }),
        }
    }
    runs::attach(objects, &mut nodes, now);
    nodes
}

/// Why the revision of a ReplicaSet was made.
pub(super) fn cause(set: &ReplicaSet) -> Option<String> {
    let annotations = set.metadata.annotations.as_ref()?;
    let cause = annotations.get(annotation::CHANGE_CAUSE)?;
    (!cause.is_empty()).then(|| cause.clone())
}

/// `was taken back at … by …: …` of the revision of a ReplicaSet; `None` when it was not.
pub(super) fn rejection(set: &ReplicaSet) -> Option<String> {
    let annotations = set.metadata.annotations.as_ref()?;
    let at = annotations.get(annotation::TAKEN_BACK_AT)?;
    let text = |key: &str| annotations.get(key).map(String::as_str).unwrap_or_default();
    let (by, why) = (
        text(annotation::TAKEN_BACK_BY),
        text(annotation::TAKEN_BACK_WHY),
    );
    Some(format!("was taken back at {at} by {by}: {why}"))
}

/// What became of the revision of a ReplicaSet, in a word or two.
pub(super) fn outcome(set: &ReplicaSet) -> String {
    let annotations = set.metadata.annotations.as_ref();
    let has = |key: &str| annotations.is_some_and(|all| all.contains_key(key));
    if let Some(rejection) = rejection(set) {
        rejection.trim_start_matches("was ").to_owned()
    } else if has(annotation::PROMOTED_AT) {
        "promoted".to_owned()
    } else {
        "<none>".to_owned()
    }
}

fn set_node(objects: &Objects, set: &ReplicaSet, newest: bool, now: Timestamp) -> SetNode {
    let metadata = &set.metadata;
    let available = set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    let wanted = wanted(set);
    let state = match (wanted, available) {
        (0, _) => State::new(Tone::Quiet, "ScaledDown"),
        (wanted, available) if available >= wanted => State::new(Tone::Good, "Healthy"),
        _ => State::new(Tone::Busy, "Progressing"),
    };
    SetNode {
        name: metadata.name.clone().unwrap_or_default(),
        hash: hash(objects, set).to_owned(),
        roles: roles(objects, hash(objects, set), newest),
        state,
        available: (available, wanted),
        scale_down_in: scale_down_in(set, now),
        age: age(metadata.creation_timestamp.as_ref(), now),
        pods: pods::of_set(objects, set, now),
    }
}

fn hash<'a>(objects: &Objects, set: &'a ReplicaSet) -> &'a str {
    objects.hash_of(&set.metadata).unwrap_or_default()
}

/// The roles of a ReplicaSet, for the history.
pub(super) fn set_roles(objects: &Objects, set: &ReplicaSet, newest: bool) -> Vec<Role> {
    roles(objects, hash(objects, set), newest)
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

fn scale_down_in(set: &ReplicaSet, now: Timestamp) -> Option<SignedDuration> {
    let annotations = set.metadata.annotations.as_ref()?;
    let deadline: Timestamp = annotations
        .get(annotation::SCALE_DOWN_DEADLINE)?
        .parse()
        .ok()?;
    (wanted(set) > 0).then(|| deadline.duration_since(now).max(SignedDuration::ZERO))
}

/// How long ago something was made; never negative, as clocks differ.
pub(super) fn age(made: Option<&Time>, now: Timestamp) -> Option<SignedDuration> {
    made.map(|made| now.duration_since(made.0).max(SignedDuration::ZERO))
}

/// The Rollout of a workload that is one.
pub(super) fn as_rollout(workload: &Workload) -> Option<&Rollout> {
    match workload {
        Workload::Rollout(rollout) => Some(rollout),
        Workload::Deployment(_) => None,
    }
}

#[cfg(test)]
mod tests;
