//! Which specs are refused, and why.

use std::fmt::Write as _;

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_problem_of_a_spec_is_named() {
    let raw = |spec: Value| {
        let mut d = deployment(json!({}));
        d.spec = serde_json::from_value(spec).unwrap();
        d
    };
    let template = json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": []}});
    let cases = [
        json!({"selector": {}, "template": template}),
        json!({
            "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}},
            "minReadySeconds": 600,
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": "many", "maxUnavailable": -1}},
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"type": "Recreate", "rollingUpdate": {}},
        }),
        json!({
            "selector": {"matchLabels": {"app": "api"}}, "template": template,
            "strategy": {"type": "Shuffle"},
        }),
    ];
    let mut out = String::new();
    for case in cases {
        for problem in lower(&raw(case)).unwrap_err() {
            writeln!(out, "{problem}").unwrap();
        }
        writeln!(out).unwrap();
    }
    expect![[r#"
        spec.selector: Required value: an empty one would select every pod; name the labels of the template's pods in matchLabels

        spec.template.metadata.labels: Invalid value: {"app":"api"}: `selector` does not match template `labels`
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
        spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds, or no version is ever in time

        spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": must be a number from 0, or a percentage such as "25%"
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be a number from 0, or a percentage such as "25%"

        spec.strategy.rollingUpdate: Forbidden: may not be given when strategy `type` is Recreate

        spec.strategy.type: Unsupported value: "Shuffle": supported values: "RollingUpdate", "Recreate"

    "#]].assert_eq(&out);
}
