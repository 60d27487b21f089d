//! AnalysisTemplates and AnalysisRuns.

mod provider;

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{Field, unique};
use crate::Problem;
use crate::units::{DURATION_EXPECTED, parse_duration_text};

/// What an argument looks like where it is used: `{{args.NAME}}`, with or without spaces.
const OPEN: &str = "{{";
const CLOSE: &str = "}}";

pub(super) fn template(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    let others = spec.get("templates");
    if others.is_empty() {
        spec.get("metrics").require("say what is measured", out);
        undeclared_arguments(&spec, out);
    }
    for other in others.items() {
        other.get("templateName").require("", out);
    }
    common(&spec, out);
}

pub(super) fn run(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    spec.get("metrics").require("say what is measured", out);
    undeclared_arguments(&spec, out);
    for argument in spec.get("args").items() {
        if !argument.get("value").is_there() && !argument.get("valueFrom").is_there() {
            let hint = "a run needs a value for each argument";
            out.push(argument.get("value").required(hint));
        }
    }
    common(&spec, out);
}

fn common(spec: &Field<'_>, out: &mut Vec<Problem>) {
    let metrics = spec.get("metrics");
    for one in metrics.items() {
        metric(&one, out);
    }
    unique(metrics.items().map(|m| m.get("name")), out);
    let arguments = spec.get("args");
    for argument in arguments.items() {
        argument.get("name").require("", out);
        if argument.get("value").is_there() && argument.get("valueFrom").is_there() {
            let why = "may not be specified when `value` is given";
            out.push(argument.get("valueFrom").forbidden(why));
        }
    }
    unique(arguments.items().map(|a| a.get("name")), out);
    for list in ["dryRun", "measurementRetention"] {
        for entry in spec.get(list).items() {
            entry.get("metricName").require("", out);
        }
    }
}

fn metric(metric: &Field<'_>, out: &mut Vec<Problem>) {
    metric.get("name").require("", out);
    duration(&metric.get("interval"), out);
    duration(&metric.get("initialDelay"), out);
    let measurements = number(&metric.get("count"), 0, out);
    if measurements.is_some_and(|n| n > 1) && metric.get("interval").is_empty() {
        let hint = "must be specified when count is above 1";
        out.push(metric.get("interval").required(hint));
    }
    for name in ["failureLimit", "inconclusiveLimit"] {
        let limit = metric.get(name);
        let bound = number(&limit, -1, out);
        if let (Some(measurements), Some(bound)) = (measurements, bound)
            && measurements > 0
            && bound > measurements
        {
            out.push(limit.invalid("must not be above count"));
        }
    }
    number(&metric.get("consecutiveErrorLimit"), -1, out);
    number(&metric.get("consecutiveSuccessLimit"), 0, out);
    provider::check(&metric.get("provider"), out);
}

/// Whether an argument stands in the text, so that its value is not known yet.
fn is_open(field: &Field<'_>) -> bool {
    field.text().is_some_and(|text| text.contains(OPEN))
}

pub(super) fn duration(field: &Field<'_>, out: &mut Vec<Problem>) {
    let readable = |text: &str| parse_duration_text(text).is_some();
    if !is_open(field) && !field.text().is_none_or(readable) {
        out.push(field.invalid(DURATION_EXPECTED));
    }
}

/// A number, or text that is one; `None` when it is absent, open or wrong, of which the last is told.
fn number(field: &Field<'_>, least: i64, out: &mut Vec<Problem>) -> Option<i64> {
    if !field.is_there() || is_open(field) {
        return None;
    }
    let number = field
        .integer()
        .or_else(|| field.text().and_then(|text| text.parse().ok()));
    let valid = number.filter(|n| *n >= least);
    if valid.is_none() {
        let why = match least {
            -1 => "must be a number from 0, or -1 for no limit",
            _ => "must be a number from 0",
        };
        out.push(field.invalid(why));
    }
    valid
}

/// An argument that is used and not declared would never get a value.
fn undeclared_arguments(spec: &Field<'_>, out: &mut Vec<Problem>) {
    let arguments = spec.get("args").items();
    let declared: BTreeSet<_> = arguments.filter_map(|a| a.get("name").text()).collect();
    for metric in spec.get("metrics").items() {
        let mut told = BTreeSet::new();
        texts(&metric, &mut |field| {
            for name in used(field.text_or_empty()) {
                if !declared.contains(name) && told.insert(name) {
                    let why = "is used here and not declared in spec.args";
                    out.push(Problem::invalid(
                        field.path.clone(),
                        format!("args.{name}"),
                        why,
                    ));
                }
            }
        });
    }
}

/// Visits every text under a field.
fn texts<'a>(field: &Field<'a>, visit: &mut impl FnMut(&Field<'a>)) {
    match field.value {
        Some(Value::String(_)) => visit(field),
        Some(Value::Array(_)) => field.items().for_each(|item| texts(&item, visit)),
        Some(Value::Object(map)) => map.keys().for_each(|name| texts(&field.get(name), visit)),
        _ => {}
    }
}

/// The names of the arguments that a text uses.
fn used(text: &str) -> impl Iterator<Item = &str> {
    text.split(OPEN).skip(1).filter_map(|rest| {
        let (inside, _) = rest.split_once(CLOSE)?;
        inside.trim().strip_prefix("args.")
    })
}
