//! Which kind an object says it is, and what is meant when there is no such kind.

use serde_json::Value;

use crate::kinds::{self, Kind};
use crate::problem::ProblemKind;
use crate::schema::nearest;
use crate::{FieldPath, Problem, Severity};

/// The kind of an object, or why there is none. `Ok(None)` is a kind that only a server can know, because a definition may
/// have installed it there.
pub(super) fn of(object: &Value) -> Result<Option<&'static Kind>, Vec<Problem>> {
    let text = |name: &str| {
        let text = object.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    match (text("apiVersion"), text("kind")) {
        (Some(api_version), Some(kind)) => match kinds::of(object) {
            None if is_foreign(api_version) => Ok(None),
            known => known
                .map(Some)
                .ok_or_else(|| vec![unknown(api_version, kind)]),
        },
        (api_version, kind) => {
            let mut problems = Vec::new();
            if api_version.is_none() {
                let known = kind.and_then(by_name).map(Kind::api_version);
                let hint = match (known, kind) {
                    (Some(api_version), Some(kind)) => format!("write {api_version} for a {kind}"),
                    _ => "write the group and version of the kind, such as apps/v1".to_owned(),
                };
                problems.push(missing(object, "apiVersion", &hint));
            }
            if kind.is_none() {
                problems.push(missing(
                    object,
                    "kind",
                    "write the kind, such as Deployment",
                ));
            }
            Err(problems)
        }
    }
}

/// Whether a group is neither one of Kubernetes, nor one in which kinds are built in, nor one that is known by its mistakes.
fn is_foreign(api_version: &str) -> bool {
    let (group, _) = kinds::split_api_version(api_version);
    let known = ["k8s.io", "istio.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    let built_in = kinds::all().iter().any(|kind| kind.group == group);
    group.contains('.') && !known && !built_in
}

fn missing(object: &Value, name: &str, hint: &str) -> Problem {
    let path = FieldPath::new(name);
    match object.get(name) {
        None | Some(Value::Null | Value::String(_)) => Problem::required(path, hint),
        Some(other) => Problem::wrong_type(path, "string", &format!("{other}")),
    }
}

fn by_name(kind: &str) -> Option<&'static Kind> {
    kinds::all().iter().find(|k| k.kind == kind)
}

fn unknown(api_version: &str, kind: &str) -> Problem {
    if let Some(known) = by_name(kind) {
        return other_version(api_version, known);
    }
    let (group, version) = kinds::split_api_version(api_version);
    let in_version = kinds::all()
        .iter()
        .filter(|k| (k.group, k.version) == (group, version));
    let slip = nearest(kind, in_version.map(|k| k.kind));
    let anywhere = || {
        let lower = kind.to_lowercase();
        kinds::all().iter().find(|k| k.kind.to_lowercase() == lower)
    };
    if let Some(meant) = slip {
        let why = format!("{api_version} has no such kind, did you mean {meant:?}?");
        return Problem::invalid(FieldPath::new("kind"), format!("{kind:?}"), &why);
    }
    if let Some(known) = anywhere() {
        let why = format!("did you mean {:?} of {}?", known.kind, known.api_version());
        return Problem::invalid(FieldPath::new("kind"), format!("{kind:?}"), &why);
    }
    Problem {
        severity: Severity::Error,
        kind: ProblemKind::NotSupported,
        path: FieldPath::new("kind"),
        message: format!(
            "{kind} of {api_version} is not served by this version of Serin; {}",
            instead(group)
        ),
    }
}

/// The kind is known, under another group or version.
fn other_version(api_version: &str, known: &Kind) -> Problem {
    let (_, version) = kinds::split_api_version(api_version);
    let removed = ["alpha", "beta"]
        .iter()
        .any(|stage| version.contains(stage))
        && known.group != "argoproj.io";
    let what = if removed {
        "removed"
    } else {
        "not served for this kind"
    };
    let why = format!("{what}, use {}", known.api_version());
    Problem::invalid(
        FieldPath::new("apiVersion"),
        format!("{api_version:?}"),
        &why,
    )
}

/// What does the same here.
fn instead(group: &str) -> &'static str {
    match group {
        "networking.istio.io" => {
            "split requests between versions with a VirtualService, or with an HTTPRoute of gateway.networking.k8s.io/v1"
        }
        "apps" => "use a Deployment or a Rollout",
        _ => "take it out, or apply it to a cluster that has the kind",
    }
}
