//! From the raw spec of a ReleasePolicy to the checked one, with every problem at once.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::policy::{Bake, Policy, Warm};
use super::spec::{BakePolicy, KeepWarm, ReleasePolicySpec};
use crate::problem::{FieldPath, Problem};
use crate::rollout::lower_analysis;
use crate::units::{CountOrPercent, DURATION_EXPECTED, parse_duration};

/// Longer than any of its times may be: a year.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Checks a spec and fills in its defaults. Where there is a problem that stops it, the policy is not to be used.
pub fn lower(spec: &ReleasePolicySpec) -> (Policy, Vec<Problem>) {
    let mut problems = Vec::new();
    let root = FieldPath::new("spec");
    let rollback = spec.rollback.clone().unwrap_or_default();
    let at = root.field("rollback").field("keepWarm");
    let warm = rollback
        .keep_warm
        .as_ref()
        .and_then(|warm| keep_warm(warm, &at, &mut problems));
    let bake = spec
        .bake
        .as_ref()
        .and_then(|b| bake(b, &root.field("bake"), &mut problems));
    let policy = Policy {
        hold_rejected: rollback.hold_rejected.unwrap_or(false),
        instant: rollback.instant.unwrap_or(warm.is_some()),
        warm,
        bake,
    };
    if warm.is_some() && !policy.instant {
        let why = "keepWarm is of no use when going back goes through all steps";
        let at = root.field("rollback").field("instant");
        problems.push(Problem::invalid(at, false, why));
    }
    (policy, problems)
}

fn keep_warm(warm: &KeepWarm, at: &FieldPath, out: &mut Vec<Problem>) -> Option<Warm> {
    let replicas = match &warm.replicas {
        None => Some(CountOrPercent::Percent(100)),
        Some(given) => {
            let parsed = CountOrPercent::parse(given);
            if parsed.is_none() {
                let at = at.field("replicas");
                out.push(Problem::invalid(at, shown(given), CountOrPercent::EXPECTED));
            }
            parsed
        }
    };
    let duration = duration(warm.duration.as_ref(), &at.field("duration"), out);
    Some(Warm {
        replicas: replicas?,
        duration: duration?,
    })
}

fn bake(bake: &BakePolicy, at: &FieldPath, out: &mut Vec<Problem>) -> Option<Bake> {
    let duration = duration(bake.duration.as_ref(), &at.field("duration"), out);
    let analysis = bake.analysis.as_ref().map(|analysis| {
        let (lowered, problems) = lower_analysis(analysis, &at.field("analysis"));
        out.extend(problems);
        lowered
    });
    Some(Bake {
        duration: duration?,
        analysis,
    })
}

/// A time that must be given, above 0 and at most a year.
fn duration(
    value: Option<&IntOrString>,
    at: &FieldPath,
    out: &mut Vec<Problem>,
) -> Option<SignedDuration> {
    let Some(value) = value else {
        out.push(Problem::required(at.clone(), "such as 30m"));
        return None;
    };
    let Some(duration) = parse_duration(value) else {
        out.push(Problem::invalid(
            at.clone(),
            shown(value),
            DURATION_EXPECTED,
        ));
        return None;
    };
    if duration.is_zero() || duration > LONGEST {
        let why = "must be longer than 0 and at most a year";
        out.push(Problem::invalid(at.clone(), shown(value), why));
        return None;
    }
    Some(duration)
}

fn shown(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(spec: serde_json::Value, expected: Expect) {
        let (policy, problems) = lower(&serde_json::from_value(spec).unwrap());
        let mut lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        if lines.is_empty() {
            lines.push(format!("{policy:?}"));
        }
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let (policy, problems) = lower(&ReleasePolicySpec::default());
        assert_eq!((policy, problems), (Policy::default(), Vec::new()));
    }

    #[test]
    fn a_warm_revision_is_gone_back_to_at_once() {
        check(
            json!({"rollback": {"holdRejected": true, "keepWarm": {"duration": "1h"}}}),
            expect![[
                r#"Policy { hold_rejected: true, instant: true, warm: Some(Warm { replicas: Percent(100), duration: 1h }), bake: None }"#
            ]],
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        check(
            json!({
                "rollback": {"instant": false, "keepWarm": {"replicas": -1}},
                "bake": {"duration": "soon", "analysis": {}},
            }),
            expect![[r#"
                spec.rollback.keepWarm.replicas: Invalid value: -1: must be a number from 0, or a percentage such as "25%"
                spec.rollback.keepWarm.duration: Required value: such as 30m
                spec.bake.duration: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
                spec.bake.analysis.templates: Required value: name an AnalysisTemplate"#]],
        );
        check(
            json!({"rollback": {"instant": false, "keepWarm": {"duration": 9}}, "bake": {"duration": 0}}),
            expect![[r#"
                spec.bake.duration: Invalid value: 0: must be longer than 0 and at most a year
                spec.rollback.instant: Invalid value: false: keepWarm is of no use when going back goes through all steps"#]],
        );
    }
}
