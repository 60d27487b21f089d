//! The verbs on workloads as plain patches: what each one changes, and when there is nothing to change.
//!
//! On a Rollout they are exactly the patches of Argo Rollouts, so that either client works with either controller. Pure: a
//! workload goes in, patches or a refusal come out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::rollout::{Decision, Rollout, RolloutStatus};

use super::objects::Workload;
use super::standing::Standing;
use crate::client::PatchKind;
use crate::error::CliError;

mod gates;
mod undo;

pub(crate) use gates::answer_gate;
pub(crate) use undo::{emergency, undo};

/// One write to a workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    /// Whether it goes to `/status`.
    pub(crate) to_status: bool,
    /// How the body is written.
    pub(crate) kind: PatchKind,
    /// The body.
    pub(crate) body: Value,
}

/// What a verb does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The writes, in order.
    pub(crate) patches: Vec<Patch>,
    /// What has then been done: `promoted to step 3`.
    pub(crate) done: String,
    /// What the person should know before.
    pub(crate) warnings: Vec<String>,
}

impl Change {
    fn new(patches: Vec<Patch>, done: impl Into<String>) -> Self {
        Self {
            patches,
            done: done.into(),
            warnings: Vec::new(),
        }
    }
}

fn spec(body: Value) -> Patch {
    Patch {
        to_status: false,
        kind: PatchKind::Merge,
        body: json!({"spec": body}),
    }
}

fn status(body: Value) -> Patch {
    Patch {
        to_status: true,
        kind: PatchKind::Merge,
        body: json!({"status": body}),
    }
}

fn replace(operations: Value) -> Patch {
    Patch {
        to_status: false,
        kind: PatchKind::Json,
        body: operations,
    }
}

/// The Rollout of a workload, or why the verb cannot be carried out on a Deployment.
fn rollout<'a>(workload: &'a Workload, verb: &str, instead: &str) -> Result<&'a Rollout, CliError> {
    match workload {
        Workload::Rollout(rollout) => Ok(rollout),
        Workload::Deployment(_) => Err(CliError::failed(format!(
            "cannot {verb} {}: a Deployment has no steps and no trial",
            workload.reference()
        ))
        .hint(instead)),
    }
}

fn current_status(rollout: &Rollout) -> RolloutStatus {
    rollout.status.clone().unwrap_or_default()
}

/// Whether the users are on the version that is wanted, and nothing is on its way.
fn is_complete(status: &RolloutStatus) -> bool {
    status.current_pod_hash.is_some() && status.current_pod_hash == status.stable_rs
}

/// Goes on from a pause, or skips the step under way; `full` skips all that is left.
pub(crate) fn promote(workload: &Workload, full: bool) -> Result<Change, CliError> {
    let rollout = rollout(
        workload,
        "promote",
        "it goes on by itself; `serin rollout resume` ends a pause",
    )?;
    let status_now = current_status(rollout);
    let name = workload.reference();
    if status_now.abort {
        return Err(CliError::failed(format!(
            "{name} was taken back: there is nothing to promote"
        ))
        .hint("`serin rollout retry` tries the same version again"));
    }
    let paused = rollout.spec.paused == Some(true);
    let mut patches = Vec::new();
    if paused {
        patches.push(spec(json!({"paused": false})));
    }
    if full {
        if is_complete(&status_now) {
            return Err(nothing_to_promote(&name));
        }
        patches.push(status(json!({"promoteFull": true})));
        return Ok(Change::new(patches, "promoted to the end"));
    }
    let steps = rollout.spec.strategy.canary.as_ref().map(|c| c.steps.len());
    let has_pause = status_now
        .pause_conditions
        .iter()
        .flatten()
        .next()
        .is_some();
    if has_pause {
        patches.push(status(json!({"pauseConditions": null})));
        return Ok(Change::new(patches, "promoted"));
    }
    let index = status_now
        .current_step_index
        .and_then(|index| usize::try_from(index).ok());
    let under_way = steps
        .zip(Some(index.unwrap_or(0)))
        .filter(|(all, at)| at < all);
    match under_way {
        Some((_, at)) if !is_complete(&status_now) => {
            let next = at + 1;
            let body = json!({"pauseConditions": null, "currentStepIndex": next});
            patches.push(status(body));
            Ok(Change::new(patches, format!("promoted past step {next}")))
        }
        _ if paused => Ok(Change::new(patches, "resumed")),
        _ if is_complete(&status_now) => Err(nothing_to_promote(&name)),
        _ => Err(CliError::failed(format!(
            "{name} is not paused and has no step to skip: there is nothing to promote"
        ))
        .hint("--full skips analyses and waits that are left")),
    }
}

fn nothing_to_promote(name: &str) -> CliError {
    CliError::failed(format!(
        "{name} is fully promoted: there is nothing to promote"
    ))
}

/// Takes the update back.
pub(crate) fn abort(workload: &Workload, decision: &Decision) -> Result<Change, CliError> {
    let rollout = rollout(
        workload,
        "abort",
        "`serin rollout undo` goes back to the version before",
    )?;
    let status_now = current_status(rollout);
    let name = workload.reference();
    if status_now.abort {
        return Err(CliError::failed(format!("{name} is already taken back")));
    }
    if is_complete(&status_now) {
        return Err(CliError::failed(format!(
            "{name} is fully promoted: there is nothing to abort"
        ))
        .hint("`serin rollout undo` goes back to the version before"));
    }
    let body = json!({"abort": true, "decision": decision});
    Ok(Change::new(vec![status(body)], "aborted"))
}

/// Tries a version again that was taken back.
pub(crate) fn retry(workload: &Workload, now: Timestamp) -> Result<Change, CliError> {
    let taken_back = match workload {
        Workload::Rollout(rollout) => current_status(rollout).abort,
        Workload::Deployment(_) => Standing::of(workload).taken_back,
    };
    if !taken_back {
        return Err(CliError::failed(format!(
            "{} was not taken back: there is nothing to retry",
            workload.reference()
        )));
    }
    let patch = match workload {
        Workload::Rollout(_) => status(json!({"abort": false})),
        Workload::Deployment(_) => {
            let at = now.to_string();
            let asked = [(annotation::RETRIED_AT, Some(at.as_str()))];
            replace(Value::Array(annotate(workload, &asked)))
        }
    };
    Ok(Change::new(vec![patch], "is tried again"))
}

/// Holds everything.
pub(crate) fn pause(workload: &Workload) -> Result<Change, CliError> {
    if is_paused(workload) {
        return Err(CliError::failed(format!(
            "{} is already paused",
            workload.reference()
        )));
    }
    Ok(Change::new(vec![spec(json!({"paused": true}))], "paused"))
}

/// Ends [`pause`], or a pause of the steps.
pub(crate) fn resume(workload: &Workload) -> Result<Change, CliError> {
    if is_paused(workload) {
        return Ok(Change::new(vec![spec(json!({"paused": false}))], "resumed"));
    }
    if let Workload::Rollout(rollout) = workload
        && current_status(rollout)
            .pause_conditions
            .iter()
            .flatten()
            .next()
            .is_some()
    {
        let body = json!({"pauseConditions": null});
        return Ok(Change::new(vec![status(body)], "resumed"));
    }
    Err(CliError::failed(format!(
        "{} is not paused",
        workload.reference()
    )))
}

fn is_paused(workload: &Workload) -> bool {
    match workload {
        Workload::Rollout(rollout) => rollout.spec.paused == Some(true),
        Workload::Deployment(deployment) => {
            deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
        }
    }
}

/// Makes the instances anew, of the same version.
pub(crate) fn restart(workload: &Workload, now: Timestamp) -> Change {
    let at = format!("{now:.0}");
    let patch = match workload {
        Workload::Rollout(_) => spec(json!({"restartAt": at})),
        Workload::Deployment(_) => {
            let annotations = json!({annotation::RESTARTED_AT: at});
            spec(json!({"template": {"metadata": {"annotations": annotations}}}))
        }
    };
    Change::new(vec![patch], "is restarted")
}

/// Puts images into containers; each of `images` is `CONTAINER=IMAGE`, `*=IMAGE`, or `IMAGE` with a single container.
pub(crate) fn set_image(
    workload: &Workload,
    images: &[String],
    cause: Option<&str>,
) -> Result<Change, CliError> {
    let name = workload.reference();
    let Some(pod) = workload
        .template()
        .and_then(|template| template.spec.as_ref())
    else {
        return Err(CliError::failed(format!("{name} has no pod template"))
            .hint("set the image of the workload that it takes its template from"));
    };
    let init = pod.init_containers.as_deref().unwrap_or_default();
    let mut operations = Vec::new();
    for image in images {
        let (container, image) = split_image(&name, &pod.containers, image)?;
        let before = operations.len();
        for (list, containers) in [
            ("containers", pod.containers.as_slice()),
            ("initContainers", init),
        ] {
            operations.extend(image_operations(list, containers, container, image));
        }
        if operations.len() == before {
            return Err(unknown_container(&name, container, &pod.containers, init));
        }
    }
    if cause.is_some() {
        operations.extend(annotate(workload, &[(annotation::CHANGE_CAUSE, cause)]));
    }
    let patches = vec![replace(Value::Array(operations))];
    Ok(Change::new(
        patches,
        format!("image set: {}", images.join(", ")),
    ))
}

/// The operations that set annotations of the workload, or take away those without a value. Together with another change in
/// one patch, they say why it is made.
fn annotate(workload: &Workload, wanted: &[(&str, Option<&str>)]) -> Vec<Value> {
    let Some(annotations) = workload.metadata().annotations.as_ref() else {
        let given: BTreeMap<_, _> = wanted
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)))
            .collect();
        let add = json!({"op": "add", "path": "/metadata/annotations", "value": given});
        return if given.is_empty() {
            Vec::new()
        } else {
            vec![add]
        };
    };
    let operations = wanted.iter().filter_map(|(key, value)| {
        let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        match value {
            Some(value) => Some(json!({"op": "add", "path": path, "value": value})),
            None => annotations
                .contains_key(*key)
                .then(|| json!({"op": "remove", "path": path})),
        }
    });
    operations.collect()
}

fn split_image<'a>(
    workload: &str,
    containers: &'a [Container],
    text: &'a str,
) -> Result<(&'a str, &'a str), CliError> {
    let (container, image) = match (text.split_once('='), containers) {
        (Some(pair), _) => pair,
        (None, [only]) => (only.name.as_str(), text),
        (None, _) => {
            let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
            return Err(CliError::failed(format!(
                "{workload} has {} containers: say which one gets {text:?}",
                names.len()
            ))
            .hint(format!(
                "write CONTAINER={text}; there are: {}",
                names.join(", ")
            )));
        }
    };
    if container.is_empty() || image.is_empty() {
        return Err(CliError::failed(format!(
            "{text:?} is not of the form CONTAINER=IMAGE"
        )));
    }
    Ok((container, image))
}

/// Each replacement goes with a test of the name, so that a list changed in the meantime is never written at a wrong place.
fn image_operations(list: &str, containers: &[Container], name: &str, image: &str) -> Vec<Value> {
    let mut operations = Vec::new();
    for (place, container) in containers.iter().enumerate() {
        if name == "*" || container.name == name {
            let path = format!("/spec/template/spec/{list}/{place}");
            operations.push(
                json!({"op": "test", "path": format!("{path}/name"), "value": container.name}),
            );
            operations.push(json!({"op": "add", "path": format!("{path}/image"), "value": image}));
        }
    }
    operations
}

fn unknown_container(
    workload: &str,
    name: &str,
    containers: &[Container],
    init: &[Container],
) -> CliError {
    let names: Vec<&str> = containers
        .iter()
        .chain(init)
        .map(|c| c.name.as_str())
        .collect();
    CliError::failed(format!("{workload} has no container {name:?}"))
        .hint(format!("there are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests;
