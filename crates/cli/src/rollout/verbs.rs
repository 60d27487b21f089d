//! The verbs on workloads as plain patches: what each one changes, and when there is nothing to change.
//!
//! On a Rollout they are exactly the patches of Argo Rollouts, so that either client works with either controller. Pure: a
//! workload goes in, patches or a refusal come out.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use serde_json::{Value, json};
use serin_api::keys::{annotation, label};
use serin_api::rollout::{Rollout, RolloutStatus};

use super::objects::{Objects, Workload};
use super::view;
use crate::client::PatchKind;
use crate::error::CliError;

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
}

impl Change {
    fn new(patches: Vec<Patch>, done: impl Into<String>) -> Self {
        let done = done.into();
        Self { patches, done }
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
pub(crate) fn abort(workload: &Workload) -> Result<Change, CliError> {
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
    Ok(Change::new(vec![status(json!({"abort": true}))], "aborted"))
}

/// Tries a version again that was taken back.
pub(crate) fn retry(workload: &Workload) -> Result<Change, CliError> {
    let rollout = rollout(
        workload,
        "retry",
        "`serin rollout restart` makes its instances anew",
    )?;
    if !current_status(rollout).abort {
        return Err(CliError::failed(format!(
            "{} was not taken back: there is nothing to retry",
            workload.reference()
        )));
    }
    Ok(Change::new(
        vec![status(json!({"abort": false}))],
        "is tried again",
    ))
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

/// Goes back to a revision; without a number to the one that the users are on, else to the one before.
pub(crate) fn undo(
    objects: &Objects,
    to: Option<i64>,
    cause: Option<&str>,
) -> Result<Change, CliError> {
    let workload = &objects.workload;
    let name = workload.reference();
    if workload.template().is_none() {
        return Err(
            CliError::failed(format!("{name} takes its template from another workload"))
                .hint("undo that workload"),
        );
    }
    if let Workload::Deployment(_) = workload
        && is_paused(workload)
    {
        return Err(CliError::failed(format!(
            "{name} is paused: an undo would not be carried out"
        ))
        .hint("`serin rollout resume` first"));
    }
    let (number, set, template) = revision_to_undo_to(objects, to)?;
    let mut template = serde_json::to_value(template)
        .map_err(|error| CliError::failed(format!("cannot write the template: {error}")))?;
    if let Some(Value::Object(labels)) = template.pointer_mut("/metadata/labels") {
        labels.remove(label::POD_TEMPLATE_HASH);
        labels.remove(label::ROLLOUT_POD_TEMPLATE_HASH);
    }
    let mut operations =
        vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
    // Without a new reason, that of the revision counts again; that of the one left behind never does.
    let cause = cause.map(str::to_owned).or_else(|| view::cause(set));
    operations.extend(change_cause(workload, cause.as_deref()));
    Ok(Change::new(
        vec![replace(Value::Array(operations))],
        format!("goes back to revision {number}"),
    ))
}

/// A revision that can be gone back to: its number, its ReplicaSet and its template.
type Known<'a> = (i64, &'a ReplicaSet, &'a PodTemplateSpec);

fn revision_to_undo_to(objects: &Objects, to: Option<i64>) -> Result<Known<'_>, CliError> {
    let name = objects.workload.reference();
    let known: Vec<Known<'_>> = objects
        .revisions()
        .into_iter()
        .filter_map(|(number, set)| Some((number?, set, set.spec.as_ref()?.template.as_ref()?)))
        .collect();
    let Some((current, stable)) = current_and_stable(objects, &known) else {
        return Err(CliError::failed(format!("{name} has no revision yet")));
    };
    let found = match to {
        Some(to) if to == current => {
            return Err(CliError::failed(format!(
                "revision {to} of {name} is the current one"
            )));
        }
        Some(to) => known.iter().find(|(number, ..)| *number == to),
        None => known
            .iter()
            .find(|(number, set, _)| {
                *number != current && stable.is_some() && objects.hash_of(&set.metadata) == stable
            })
            .or_else(|| known.iter().find(|(number, ..)| *number < current)),
    };
    let numbers: Vec<String> = known
        .iter()
        .map(|(number, ..)| number.to_string())
        .collect();
    match (found, to) {
        (Some(known), _) => Ok(*known),
        (None, Some(to)) => Err(CliError::failed(format!("{name} has no revision {to}"))
            .hint(format!("there are: {}", numbers.join(", ")))),
        (None, None) => Err(
            CliError::failed(format!("{name} has no revision before {current}")).hint(
                "it has only ever had this version, or older ones are beyond revisionHistoryLimit",
            ),
        ),
    }
}

/// The number of the revision that is wanted, and the hash of the one that the users are on.
fn current_and_stable<'a>(
    objects: &'a Objects,
    known: &[Known<'_>],
) -> Option<(i64, Option<&'a str>)> {
    let newest = known.first().map(|(number, ..)| *number)?;
    let Workload::Rollout(rollout) = &objects.workload else {
        return Some((newest, None));
    };
    let status = rollout.status.as_ref();
    let wanted = status.and_then(|status| status.current_pod_hash.as_deref());
    let current = known
        .iter()
        .find(|(_, set, _)| wanted.is_some() && objects.hash_of(&set.metadata) == wanted)
        .map_or(newest, |(number, ..)| *number);
    Some((
        current,
        status.and_then(|status| status.stable_rs.as_deref()),
    ))
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
        operations.extend(change_cause(workload, cause));
    }
    let patches = vec![replace(Value::Array(operations))];
    Ok(Change::new(
        patches,
        format!("image set: {}", images.join(", ")),
    ))
}

/// Says why the next revision is made, in the same write that makes it; `None` takes away what is said.
fn change_cause(workload: &Workload, cause: Option<&str>) -> Option<Value> {
    let path = format!(
        "/metadata/annotations/{}",
        annotation::CHANGE_CAUSE.replace('/', "~1")
    );
    let annotations = workload.metadata().annotations.as_ref();
    let said = annotations.is_some_and(|all| all.contains_key(annotation::CHANGE_CAUSE));
    match (cause, annotations) {
        (Some(cause), Some(_)) => Some(json!({"op": "add", "path": path, "value": cause})),
        (Some(cause), None) => {
            let annotations = json!({annotation::CHANGE_CAUSE: cause});
            Some(json!({"op": "add", "path": "/metadata/annotations", "value": annotations}))
        }
        (None, _) => said.then(|| json!({"op": "remove", "path": path})),
    }
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
