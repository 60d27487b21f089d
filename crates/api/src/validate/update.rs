//! Fields that may not change once an object is stored.

use serde_json::Value;

use super::field::Field;
use crate::kinds::Kind;
use crate::{Problem, problem::FieldPath};

const IMMUTABLE: &str = "field is immutable";

pub(super) fn check(kind: &Kind, old: &Value, new: &Value) -> Vec<Problem> {
    let change = Change {
        old: Field::root(old),
        new: Field::root(new),
    };
    let mut out = check_metadata(old, new);
    match kind.kind {
        "Deployment" | "ReplicaSet" | "Rollout" => change.keep("spec.selector", &mut out),
        "Job" => change.keep_job(&mut out),
        "Secret" => {
            change.keep_once_set("type", &mut out);
            change.keep_immutable_data(&["data", "stringData"], &mut out);
        }
        "ConfigMap" => change.keep_immutable_data(&["data", "binaryData"], &mut out),
        "Service" => change.keep_once_set("spec.clusterIP", &mut out),
        "EndpointSlice" => change.keep("addressType", &mut out),
        "IngressClass" => change.keep("spec.controller", &mut out),
        "RoleBinding" | "ClusterRoleBinding" => change.keep_role(&mut out),
        "Pod" => change.keep_pod(&mut out),
        _ => {}
    }
    out
}

/// What no object may change.
pub(super) fn check_metadata(old: &Value, new: &Value) -> Vec<Problem> {
    let change = Change {
        old: Field::root(old),
        new: Field::root(new),
    };
    let mut out = Vec::new();
    for name in ["name", "namespace", "uid", "creationTimestamp"] {
        change.keep_once_set(&format!("metadata.{name}"), &mut out);
    }
    out
}

struct Change<'a> {
    old: Field<'a>,
    new: Field<'a>,
}

impl Change<'_> {
    /// The field may not change at all.
    fn keep(&self, path: &str, out: &mut Vec<Problem>) {
        let (old, new) = (self.old.at(path), self.new.at(path));
        if old.value != new.value {
            out.push(new.invalid(IMMUTABLE));
        }
    }

    /// A binding gives one role for as long as it lives: who may change its subjects may not change what they get.
    fn keep_role(&self, out: &mut Vec<Problem>) {
        let (old, new) = (self.old.get("roleRef"), self.new.get("roleRef"));
        if old.value != new.value {
            out.push(new.invalid("cannot change roleRef"));
        }
    }

    /// The field may be left out, or be given for the first time, but not be another.
    fn keep_once_set(&self, path: &str, out: &mut Vec<Problem>) {
        let (old, new) = (self.old.at(path), self.new.at(path));
        if !old.is_empty() && !new.is_empty() && old.value != new.value {
            out.push(new.invalid(IMMUTABLE));
        }
    }

    /// An object that is marked as immutable keeps its data and its mark.
    fn keep_immutable_data(&self, fields: &[&str], out: &mut Vec<Problem>) {
        if self.old.get("immutable").boolean() != Some(true) {
            return;
        }
        let mark = self.new.get("immutable");
        if mark.boolean() != Some(true) {
            out.push(mark.forbidden("field is immutable when `immutable` is set"));
        }
        for name in fields {
            let (old, new) = (self.old.get(name), self.new.get(name));
            if old.value != new.value {
                out.push(new.forbidden("field is immutable when `immutable` is set"));
            }
        }
    }

    /// A Job that has begun goes on as it began.
    fn keep_job(&self, out: &mut Vec<Problem>) {
        let began = self.old.at("status.startTime").is_there();
        for path in ["spec.selector", "spec.completionMode"] {
            self.keep(path, out);
        }
        // One that waits may be given other pods, as its queue decides where they run.
        if began || self.old.at("spec.suspend").boolean() != Some(true) {
            self.keep("spec.template", out);
        }
        if self.new.at("spec.completionMode").text() != Some("Indexed") {
            self.keep("spec.completions", out);
        }
    }

    /// A pod runs as it was made: a few fields apart, another spec is another pod.
    fn keep_pod(&self, out: &mut Vec<Problem>) {
        const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        let (Some(old), Some(new)) = (self.old.get("spec").value, self.new.get("spec").value)
        else {
            return;
        };
        let bound = !self.old.at("spec.nodeName").is_empty();
        let fixed = |spec: &Value| {
            let mut spec = spec.clone();
            for list in ["containers", "initContainers"] {
                let containers = spec.get_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    if let Some(container) = container.as_object_mut() {
                        container.remove("image");
                    }
                }
            }
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("activeDeadlineSeconds");
                spec.remove("tolerations");
                spec.remove("schedulingGates");
                // The node that a pod is bound to is written once, by an update.
                if !bound {
                    spec.remove("nodeName");
                }
            }
            spec
        };
        if fixed(old) != fixed(new) {
            let at = first_difference(&fixed(old), &fixed(new), FieldPath::new("spec"));
            out.push(Problem::forbidden(at, WHY));
        }
    }
}

/// The deepest place at which two values begin to differ.
fn first_difference(old: &Value, new: &Value, at: FieldPath) -> FieldPath {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys());
            let mut different = keys.filter(|key| old.get(*key) != new.get(*key));
            let Some(key) = different.next() else {
                return at;
            };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => first_difference(old, new, at.field(key)),
                _ => at.field(key),
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let mut pairs = old.iter().zip(new).enumerate();
            match pairs.find(|(_, (old, new))| old != new) {
                Some((index, (old, new))) => first_difference(old, new, at.index(index)),
                None => at,
            }
        }
        _ => at,
    }
}
