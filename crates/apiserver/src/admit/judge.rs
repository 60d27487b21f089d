//! What the problems of an object mean for a request: refuse it, or warn.

use serde_json::Value;
use serin_api::problem::ProblemKind;
use serin_api::{FieldPath, Problem};

use crate::meta;
use crate::options::FieldValidation;
use crate::resource::Resource;
use crate::status::{Refusal, Subject};
use crate::target::{Part, Target};

/// The warnings that the problems leave, unless one of them refuses the object. A refusal tells all of them.
pub(super) fn judge(
    subject: Subject<'_>,
    kind: &Resource,
    problems: &[Problem],
    fields: FieldValidation,
) -> Result<Vec<String>, Refusal> {
    let all = problems.iter().cloned();
    let (unknown, known): (Vec<_>, Vec<_>) = all.partition(|p| p.kind == ProblemKind::Unknown);
    let (errors, mild): (Vec<_>, Vec<_>) = known.into_iter().partition(Problem::is_error);
    let mut warnings: Vec<String> = mild.iter().map(ToString::to_string).collect();
    let told = unknown.iter().map(unknown_field);
    let refused = match fields {
        FieldValidation::Ignore => errors,
        FieldValidation::Warn => {
            warnings.splice(0..0, told);
            errors
        }
        FieldValidation::Strict if errors.is_empty() && unknown.is_empty() => errors,
        FieldValidation::Strict if errors.is_empty() => {
            let told = told.collect::<Vec<_>>().join(", ");
            return Err(Refusal {
                warnings,
                ..Refusal::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: strict decoding error: {told}",
                    kind.kind, kind.version, kind.kind
                ))
            });
        }
        FieldValidation::Strict => unknown.into_iter().chain(errors).collect(),
    };
    if refused.is_empty() {
        return Ok(warnings);
    }
    Err(Refusal {
        warnings,
        ..Refusal::invalid(subject, &refused)
    })
}

/// Every problem of a change that counts. What was wrong with the object before does not stop a change that leaves it so: a
/// finalizer must come off an object even when the rules have become stricter since. Nor is it told again.
pub(super) fn of_update(target: &Target, old: &Value, new: &Value) -> Vec<Problem> {
    let kind = &*target.kind;
    let mut problems = kind.check(new);
    if !problems.is_empty() {
        let before = kind.check(old);
        problems.retain(|p| p.kind == ProblemKind::Unknown || !before.contains(p));
    }
    if target.part == Part::Status {
        problems.retain(|p| p.path.as_str().starts_with("status"));
    } else {
        let of_change = kind.check_update(old, new);
        // A field that is missing is not told to be missing and to have changed.
        let fresh = of_change
            .into_iter()
            .filter(|c| !problems.iter().any(|p| p.path == c.path));
        let fresh: Vec<Problem> = fresh.collect();
        problems.extend(fresh);
    }
    problems.extend(late_finalizers(old, new));
    problems
}

/// Takes out the fields that the kind does not have, as a decoder would.
pub(super) fn prune(object: &mut Value, problems: &[Problem]) {
    // From the end, so that no place in a list moves before its turn.
    for problem in problems
        .iter()
        .rev()
        .filter(|p| p.kind == ProblemKind::Unknown)
    {
        remove(object, problem.path.as_str());
    }
}

/// `unknown field "spec.replcas", did you mean "replicas"?`.
fn unknown_field(problem: &Problem) -> String {
    let hint = problem
        .message
        .strip_prefix("unknown field")
        .unwrap_or_default();
    format!("unknown field {:?}{hint}", problem.path.as_str())
}

fn late_finalizers(old: &Value, new: &Value) -> Option<Problem> {
    let had = meta::finalizers(old);
    let added: Vec<&str> = meta::finalizers(new)
        .into_iter()
        .filter(|f| !had.contains(f))
        .collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    let is_late = meta::is_deleting(old) && !added.is_empty();
    is_late.then(|| Problem::forbidden(FieldPath::new("metadata.finalizers"), &why))
}

/// Removes the field at a path such as `spec.containers[0].x`. Names may contain dots, so the longest that is there wins.
fn remove(value: &mut Value, path: &str) {
    match value {
        Value::Object(map) => {
            let steps = map
                .keys()
                .filter_map(|name| Some((name.clone(), after(path, name)?)));
            let Some((name, rest)) = steps.max_by_key(|(name, _)| name.len()) else {
                return;
            };
            if rest.is_empty() {
                map.remove(&name);
            } else if let Some(child) = map.get_mut(&name) {
                remove(child, rest.strip_prefix('.').unwrap_or(rest));
            }
        }
        Value::Array(items) => {
            let step = path.strip_prefix('[').and_then(|p| p.split_once(']'));
            let Some((index, rest)) = step else {
                return;
            };
            if let Some(child) = index.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                remove(child, rest.strip_prefix('.').unwrap_or(rest));
            }
        }
        _ => {}
    }
}

/// What follows the step `name`, written `name` or `[name]`, at the start of a path.
fn after<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let bracketed = || {
        path.strip_prefix('[')?
            .strip_prefix(name)?
            .strip_prefix(']')
    };
    let rest = path.strip_prefix(name).or_else(bracketed)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn removes_by_path() {
        let table = [
            (
                "spec.x",
                json!({"spec": {"x": 1, "y": 2}}),
                json!({"spec": {"y": 2}}),
            ),
            (
                "spec.c[1].x",
                json!({"spec": {"c": [{"x": 1}, {"x": 1}]}}),
                json!({"spec": {"c": [{"x": 1}, {}]}}),
            ),
            (
                "a.b.c",
                json!({"a": {"b.c": 1, "b": {"d": 1}}}),
                json!({"a": {"b": {"d": 1}}}),
            ),
            (
                "m[k/x].y",
                json!({"m": {"k/x": {"y": 1}}}),
                json!({"m": {"k/x": {}}}),
            ),
            ("no.such", json!({"a": 1}), json!({"a": 1})),
        ];
        for (path, mut object, want) in table {
            remove(&mut object, path);
            assert_eq!(object, want, "{path}");
        }
    }
}
