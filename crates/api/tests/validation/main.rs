//! Objects with mistakes in their meaning, and what is said of them.

#![expect(clippy::unwrap_used, reason = "a test ends by a panic")]

mod analysis;
mod cluster;
mod objects;
mod traffic;
mod updates;
mod workloads;

use expect_test::Expect;
use serde_json::{Value, json};
use serin_api::{Severity, kinds, validate};

fn check(object: Value, expected: Expect) {
    let kind = kinds::of(&object).unwrap();
    told(validate::check(kind, &object), expected);
}

fn check_update(old: Value, new: Value, expected: Expect) {
    let kind = kinds::of(&old).unwrap();
    told(validate::check_update(kind, &old, &new), expected);
}

fn told(problems: Vec<serin_api::Problem>, expected: Expect) {
    let line = |p: &serin_api::Problem| match p.severity {
        Severity::Error => p.to_string(),
        other => format!("{other:?} {p}"),
    };
    let lines: Vec<_> = problems.iter().map(line).collect();
    expected.assert_eq(&lines.join("\n"));
}

/// `base` with the fields of `patch` in their places; null takes a field out (RFC 7386).
fn with(mut base: Value, patch: Value) -> Value {
    fn merge(base: &mut Value, patch: Value) {
        match (base, patch) {
            (Value::Object(base), Value::Object(patch)) => {
                for (key, value) in patch {
                    if value.is_null() {
                        base.remove(&key);
                    } else {
                        merge(base.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (base, patch) => *base = patch,
        }
    }
    merge(&mut base, patch);
    base
}

fn container() -> Value {
    json!({
        "name": "web", "image": "web:1", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
    })
}

fn deployment(spec: Value) -> Value {
    let spec = with(
        json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container()]}},
        }),
        spec,
    );
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn pod_template(spec: Value) -> Value {
    deployment(json!({"template": {"spec": spec}}))
}
