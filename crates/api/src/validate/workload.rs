//! Deployments, ReplicaSets and Rollouts.

use serde_json::Value;

use super::field::Field;
use super::{metadata, pod};
use crate::rollout::{self, RolloutSpec};
use crate::units::CountOrPercent;
use crate::{Problem, schema};

/// Seconds in which an update must get on, when the object does not say.
const DEFAULT_PROGRESS_DEADLINE: i64 = 600;

pub(super) fn deployment(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if !spec.require("", out) {
        return;
    }
    workload(&spec, "deployment", out);
    spec.get("revisionHistoryLimit").not_negative(out);
    strategy(&spec.get("strategy"), out);
    let deadline = spec.get("progressDeadlineSeconds");
    deadline.not_negative(out);
    let seconds = deadline.integer().unwrap_or(DEFAULT_PROGRESS_DEADLINE);
    if seconds <= spec.get("minReadySeconds").integer().unwrap_or(0) {
        let why = "must be greater than minReadySeconds";
        out.push(Problem::invalid(deadline.path, seconds, why));
    }
}

pub(super) fn replica_set(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if spec.require("", out) {
        workload(&spec, "replica set", out);
    }
}

/// What the strategy means is said by [`rollout::lower`], on which decisions are made too.
pub(super) fn rollout(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if !spec.require("", out) {
        return;
    }
    let mut pods = Vec::new();
    metadata::selector(&spec.get("selector"), &mut pods);
    if spec.get("template").is_there() {
        pod::template(&spec.get("template"), &mut pods);
    }
    match lowered(&spec) {
        Some(problems) => {
            let same = |p: &Problem| {
                problems
                    .iter()
                    .any(|l| l.path == p.path && l.kind == p.kind)
            };
            out.extend(pods.into_iter().filter(|p| !same(p)));
            out.extend(problems);
        }
        None => out.extend(pods),
    }
}

/// `None` when the spec does not have the structure, which is told apart.
fn lowered(spec: &Field<'_>) -> Option<Vec<Problem>> {
    let mut value = spec.value?.clone();
    if let schema::Shape::Object(root) =
        schema::of(crate::kinds::find("argoproj.io", "v1alpha1", "Rollout")?)
        && let Some(shape) = root.get("spec")
    {
        schema::without_nulls(shape, &mut value);
    }
    let spec: RolloutSpec = serde_json::from_value(value).ok()?;
    let twice = rollout::template_is_not_referenced_and_written(&spec);
    let problems = rollout::lower(&spec).problems;
    Some(twice.into_iter().chain(problems).collect())
}

/// What Deployments, ReplicaSets and the versions of Experiments have in common.
pub(super) fn workload(spec: &Field<'_>, name: &str, out: &mut Vec<Problem>) {
    spec.get("replicas").not_negative(out);
    spec.get("minReadySeconds").not_negative(out);
    let selector = spec.get("selector");
    let empty =
        selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty();
    if selector.is_there() && empty {
        out.push(selector.invalid(&format!("empty selector is invalid for {name}")));
    }
    metadata::selector(&selector, out);
    let template = spec.get("template");
    pod::template(&template, out);
    if selector.is_there() && !selects(&selector, &template.at("metadata.labels")) {
        let labels = template.at("metadata.labels");
        let shown = labels
            .value
            .map_or_else(|| "{}".to_owned(), Value::to_string);
        let why = "`selector` does not match template `labels`";
        out.push(Problem::invalid(labels.path, shown, why));
    }
}

/// Whether a `LabelSelector` takes these labels. What is malformed is told elsewhere and takes everything.
fn selects(selector: &Field<'_>, labels: &Field<'_>) -> bool {
    let label = |key: &str| {
        labels
            .map()
            .and_then(|map| map.get(key))
            .and_then(Value::as_str)
    };
    let equal = selector
        .get("matchLabels")
        .entries()
        .all(|(key, want)| want.text().is_none_or(|want| label(key) == Some(want)));
    equal
        && selector.get("matchExpressions").items().all(|expression| {
            let found = label(expression.get("key").text_or_empty());
            let listed = expression.get("values").items().any(|v| v.text() == found);
            match expression.get("operator").text_or_empty() {
                "In" => found.is_some() && listed,
                "NotIn" => found.is_none() || !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => true,
            }
        })
}

fn strategy(strategy: &Field<'_>, out: &mut Vec<Problem>) {
    let kind = strategy.get("type");
    kind.one_of(&["Recreate", "RollingUpdate"], out);
    let rolling = strategy.get("rollingUpdate");
    if kind.text() == Some("Recreate") {
        if rolling.is_there() {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            out.push(rolling.forbidden(why));
        }
        return;
    }
    let surge = bound(&rolling.get("maxSurge"), out);
    let unavailable_field = rolling.get("maxUnavailable");
    let unavailable = bound(&unavailable_field, out);
    // Nothing could ever be replaced: no pod may come before one goes, and none may go.
    if is_zero(surge) && is_zero(unavailable) {
        out.push(unavailable_field.invalid("may not be 0 when `maxSurge` is 0"));
    }
    if let Some(CountOrPercent::Percent(101..)) = unavailable {
        out.push(unavailable_field.invalid("must not be greater than 100%"));
    }
}

fn is_zero(bound: Option<CountOrPercent>) -> bool {
    matches!(
        bound,
        Some(CountOrPercent::Count(0) | CountOrPercent::Percent(0))
    )
}

/// A count or a percentage; `None` when it is absent or is none, which is told.
fn bound(field: &Field<'_>, out: &mut Vec<Problem>) -> Option<CountOrPercent> {
    let value = serde_json::from_value(field.value?.clone()).ok()?;
    // In Kubernetes, other than in Argo Rollouts, text without a percent sign is no percentage.
    let marked = field.text().is_none_or(|text| text.ends_with('%'));
    let parsed = CountOrPercent::parse(&value).filter(|_| marked);
    if parsed.is_none() {
        out.push(field.invalid(CountOrPercent::EXPECTED));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldPath;
    use serde_json::json;

    #[test]
    fn selectors_take_labels() {
        let takes = |selector: Value, labels: Value| {
            selects(
                &Field::root(&selector),
                &Field {
                    value: Some(&labels),
                    path: FieldPath::root(),
                },
            )
        };
        let web = json!({"app": "web", "tier": "front"});
        assert!(takes(json!({"matchLabels": {"app": "web"}}), web.clone()));
        assert!(!takes(json!({"matchLabels": {"app": "api"}}), web.clone()));
        let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
        assert!(takes(expression("In", &["front", "back"]), web.clone()));
        assert!(!takes(expression("NotIn", &["front"]), web.clone()));
        assert!(takes(expression("Exists", &[]), web.clone()));
        assert!(!takes(expression("DoesNotExist", &[]), web));
    }
}
