//! Decides what a write makes of an object: identity, system metadata, defaults, validity, generation, the end of deleting.
//!
//! Pure functions from values to values; `verbs` carries the outcome to the store.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use serin_api::{FieldPath, Problem};

use crate::meta;
use crate::options::FieldValidation;
use crate::patch::{self, Manager};
use crate::resource::Resource;
use crate::status::Refusal;
use crate::target::{Part, Target};
use crate::tree::Tree;

mod judge;

/// What a write asks for besides the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Timestamp,
    pub(crate) fields: FieldValidation,
    /// Who writes; `None` when the object comes out of server-side apply, which has written the owners of fields itself.
    pub(crate) manager: Option<Manager<'a>>,
}

/// What becomes of an object that exists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// It stays as it is; nothing is written.
    Same,
    /// It is this now.
    Put(Value),
    /// It is gone; this was its last state.
    Remove(Value),
}

/// A decision, with what the client is warned of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted<T> {
    pub(crate) outcome: T,
    pub(crate) warnings: Vec<String>,
}

/// The object that a create makes of `incoming`, complete but for its resource version.
pub(crate) fn create(
    target: &Target,
    context: Context<'_>,
    mut incoming: Value,
) -> Result<Admitted<Value>, Refusal> {
    identify(target, &mut incoming)?;
    if !meta::text(&incoming, "resourceVersion").is_empty() {
        return Err(Refusal::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    name(&mut incoming);
    let kind = &*target.kind;
    if kind.has_status
        && let Some(top) = incoming.as_object_mut()
    {
        top.remove("status");
    }
    let named = target.object(target.namespace(), meta::text(&incoming, "name"));
    let mut problems = kind.complete(&mut incoming);
    problems.extend(name_problems(&incoming));
    problems.extend(kind.check(&incoming));
    let warnings = judge::judge(named.subject(), kind, &problems, context.fields)?;
    judge::prune(&mut incoming, &problems);
    drop_empty(meta::of_mut(&mut incoming));
    first_status(kind, &mut incoming);
    let metadata = meta::of_mut(&mut incoming);
    for name in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.remove(name);
    }
    let given = match context.manager {
        Some(_) => metadata.remove("managedFields").unwrap_or_default(),
        None => Value::Null,
    };
    let uid = meta::new_uid();
    metadata.insert("uid".into(), uid.as_str().into());
    metadata.insert(
        "creationTimestamp".into(),
        meta::seconds(context.now).into(),
    );
    metadata.remove("generation");
    if kind.has_generation() {
        metadata.insert("generation".into(), 1.into());
    }
    if kind.is("batch", "Job") {
        select_by_uid(&mut incoming, &uid);
    }
    if let Some(manager) = context.manager {
        patch::track(kind, None, &mut incoming, &given, manager, context.now);
    }
    Ok(Admitted {
        outcome: incoming,
        warnings,
    })
}

/// What a write of `incoming` makes of the object `old`.
pub(crate) fn update(
    target: &Target,
    context: Context<'_>,
    old: &Value,
    mut incoming: Value,
) -> Result<Admitted<Next>, Refusal> {
    identify(target, &mut incoming)?;
    preconditions(
        target,
        old,
        meta::text(&incoming, "uid"),
        meta::text(&incoming, "resourceVersion"),
    )?;
    let kind = &*target.kind;
    let mut new = match target.part {
        Part::Status => with_status_of(old.clone(), &incoming),
        _ if kind.has_status => with_status_of(incoming.clone(), old),
        _ => incoming.clone(),
    };
    keep_system_metadata(old, &mut new);
    keep_namespace_hold(target, old, &mut new);
    let completed = if target.part == Part::Main || kind.is_custom() {
        kind.complete(&mut new)
    } else {
        Vec::new()
    };
    let given = incoming.at("/metadata/managedFields");
    if context.manager.is_none() {
        meta::of_mut(&mut new).insert("managedFields".into(), given.clone());
    }
    let hands_over = given.is_array() && given != old.at("/metadata/managedFields");
    if new == *old && !hands_over {
        return Ok(Admitted {
            outcome: Next::Same,
            warnings: Vec::new(),
        });
    }
    let mut problems = completed;
    problems.extend(judge::of_update(target, old, &new));
    let warnings = judge::judge(target.subject(), kind, &problems, context.fields)?;
    judge::prune(&mut new, &problems);
    if kind.has_generation() && desired_differs(old, &new) {
        let generation = old.at("/metadata/generation").as_i64().unwrap_or(0) + 1;
        meta::of_mut(&mut new).insert("generation".into(), generation.into());
    }
    if let Some(manager) = context.manager {
        patch::track(kind, Some(old), &mut new, given, manager, context.now);
    }
    let outcome = if new == *old {
        Next::Same
    } else if is_done(&new) {
        Next::Remove(new)
    } else {
        Next::Put(new)
    };
    Ok(Admitted { outcome, warnings })
}

/// Refuses when the client speaks of another object, or of another state of it. Empty texts say nothing.
pub(crate) fn preconditions(
    target: &Target,
    old: &Value,
    uid: &str,
    version: &str,
) -> Result<(), Refusal> {
    let (now_uid, now_version) = (meta::text(old, "uid"), meta::text(old, "resourceVersion"));
    if !uid.is_empty() && uid != now_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {now_uid}"
        );
        return Err(Refusal::conflict(target.subject(), &why));
    }
    if !version.is_empty() && version != now_version {
        return Err(Refusal::stale(target.subject()));
    }
    Ok(())
}

/// Whether nothing holds an object back any more that was asked to end.
pub(crate) fn is_done(object: &Value) -> bool {
    let held = !meta::finalizers(object).is_empty()
        || object
            .at("/spec/finalizers")
            .as_array()
            .is_some_and(|f| !f.is_empty());
    let grace = object
        .at("/metadata/deletionGracePeriodSeconds")
        .as_i64()
        .unwrap_or(0);
    meta::is_deleting(object) && !held && grace == 0
}

/// Checks that the body is about the object of the address, and writes down what it leaves out.
fn identify(target: &Target, incoming: &mut Value) -> Result<(), Refusal> {
    let kind = &target.kind;
    let api_version = kind.api_version();
    let found = incoming.at("/apiVersion").as_str().unwrap_or_default();
    if !found.is_empty() && found != api_version {
        let why = format!(
            "the API version in the data ({found}) does not match the expected API version ({api_version})"
        );
        return Err(Refusal::bad_request(why));
    }
    let found = incoming.at("/kind").as_str().unwrap_or_default();
    if !found.is_empty() && found != kind.kind {
        let why = format!(
            "the kind in the data ({found}) does not match the expected kind ({})",
            kind.kind
        );
        return Err(Refusal::bad_request(why));
    }
    incoming.set("apiVersion", api_version);
    incoming.set("kind", kind.kind.as_str());
    let namespace = meta::text(incoming, "namespace");
    if !namespace.is_empty() && namespace != target.namespace() {
        let why =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(why));
    }
    let name = meta::text(incoming, "name");
    if target.name.is_some() && !name.is_empty() && name != target.name() {
        let why = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name()
        );
        return Err(Refusal::bad_request(why));
    }
    let metadata = meta::of_mut(incoming);
    if let Some(name) = &target.name {
        metadata.insert("name".into(), name.as_str().into());
    }
    match &target.namespace {
        Some(namespace) => metadata.insert("namespace".into(), namespace.as_str().into()),
        None => metadata.remove("namespace"),
    };
    Ok(())
}

/// Makes up a name where only its start is given.
fn name(object: &mut Value) {
    let base = meta::text(object, "generateName");
    if meta::text(object, "name").is_empty() && !base.is_empty() {
        let name = meta::generate_name(base);
        meta::of_mut(object).insert("name".into(), name.into());
    }
}

/// A name is a part of the address, so whatever the kind allows, it must be one.
fn name_problems(object: &Value) -> Vec<Problem> {
    let path = FieldPath::new("metadata.name");
    let name = meta::text(object, "name");
    if name.is_empty() {
        return vec![Problem::required(path, "name or generateName is required")];
    }
    if matches!(name, "." | "..") || name.contains(['/', '%']) {
        let why = "may not be '.' or '..' and may not contain '/' or '%'";
        return vec![Problem::invalid(path, format!("{name:?}"), why)];
    }
    Vec::new()
}

/// The pods of a Job are told by its uid, unless it says that it selects them by itself: two Jobs never share a pod.
fn select_by_uid(job: &mut Value, uid: &str) {
    if job.at("/spec/manualSelector") == true {
        return;
    }
    let name = meta::text(job, "name").to_owned();
    let Some(Value::Object(spec)) = job.get_mut("spec") else {
        return;
    };
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    spec.insert("selector".into(), selector);
    if let Some(template) = spec.get_mut("template") {
        let metadata = template.map("metadata");
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        for prefix in ["", "batch.kubernetes.io/"] {
            labels.set(&format!("{prefix}controller-uid"), uid);
            labels.set(&format!("{prefix}job-name"), name.as_str());
        }
    }
}

/// The status of an object that nobody has looked at yet.
fn first_status(kind: &Resource, object: &mut Value) {
    let first = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => json!({"phase": "Pending"}),
        ("", "Namespace") => {
            let name = meta::text(object, "name").to_owned();
            let metadata = object.map("metadata");
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            labels.set("kubernetes.io/metadata.name", name);
            object
                .map("spec")
                .insert("finalizers".into(), json!(["kubernetes"]));
            json!({"phase": "Active"})
        }
        _ => return,
    };
    if object.at("/status").is_null() {
        object.set("status", first);
    }
}

/// `object` with the status that `source` has.
fn with_status_of(mut object: Value, source: &Value) -> Value {
    if let Some(top) = object.as_object_mut() {
        match source.get("status") {
            Some(status) => top.insert("status".into(), status.clone()),
            None => top.remove("status"),
        };
    }
    object
}

/// Puts back what only the server writes.
fn keep_system_metadata(old: &Value, new: &mut Value) {
    let system = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generateName",
    ];
    let metadata = meta::of_mut(new);
    for name in system {
        match old.at("/metadata").get(name) {
            Some(value) => metadata.insert(name.into(), value.clone()),
            None => metadata.remove(name),
        };
    }
    metadata.remove("selfLink");
    drop_empty(metadata);
}

/// What holds a namespace until it is empty is the collector's: no manifest leaves it out by chance.
fn keep_namespace_hold(target: &Target, old: &Value, new: &mut Value) {
    let hold = old.at("/spec/finalizers");
    let is_namespace = target.kind.is("", "Namespace");
    if is_namespace && target.part != Part::Finalize && !hold.is_null() {
        new.map("spec").insert("finalizers".into(), hold.clone());
    }
}

/// Clients say "no labels" in several ways; the stored object knows one, or every such write would count as a change.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(name) {
            Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(name);
        }
    }
}

/// Whether anything but metadata and status differs.
fn desired_differs(old: &Value, new: &Value) -> bool {
    let fields = |object: &Value| -> Vec<(String, Value)> {
        let all = object.as_object().into_iter().flatten();
        let desired = all.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        desired
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    fields(old) != fields(new)
}

#[cfg(test)]
mod tests;
