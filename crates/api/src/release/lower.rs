//! From the raw spec of a ReleasePolicy to the checked one, with every problem at once.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::tz::TimeZoneDatabase;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Cron;
use super::policy::{
    Bake, Batches, Before, ConfigurationKind, Freeze, Gate, Policy, Warm, Webhook,
};
use super::spec::{
    BakePolicy, BatchPolicy, ConfigurationPolicy, FreezeWindow, GateSpec, KeepWarm,
    ReleasePolicySpec, SigningKey, WebhookSpec,
};
use crate::problem::{FieldPath, Problem};
use crate::rollout::lower_analysis;
use crate::units::{CountOrPercent, DURATION_EXPECTED, parse_duration};

/// Longer than any of its times may be: a year.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(31 * 24);

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
        freeze: windows(&spec.freeze, &root.field("freeze"), &mut problems),
        gates: gates(&spec.gates, &root.field("gates"), &mut problems),
        configuration: spec
            .configuration
            .as_ref()
            .map(|c| configuration(c, &root.field("configuration"), &mut problems))
            .unwrap_or_default(),
        batches: spec
            .batches
            .as_ref()
            .and_then(|b| batches(b, &root.field("batches"), &mut problems)),
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

fn batches(raw: &BatchPolicy, at: &FieldPath, out: &mut Vec<Problem>) -> Option<Batches> {
    let size = raw.size.as_ref().map(|given| {
        let size = CountOrPercent::parse(given);
        let size = size.filter(|s| *s != CountOrPercent::Count(0));
        let fits = |s: &CountOrPercent| !matches!(s, CountOrPercent::Percent(p) if *p > 100);
        let size = size.filter(fits);
        if size.is_none() {
            let why = "must be a number from 1, or a percentage to 100%";
            out.push(Problem::invalid(at.field("size"), shown(given), why));
        }
        size
    });
    if size.is_none() {
        let why = "how many instances, such as 2 or 25%";
        out.push(Problem::required(at.field("size"), why));
    }
    let pause = raw.pause.as_ref();
    let pause = pause.and_then(|pause| duration(Some(pause), &at.field("pause"), out));
    let analysis = raw.analysis.as_ref().map(|analysis| {
        let (lowered, problems) = lower_analysis(analysis, &at.field("analysis"));
        out.extend(problems);
        lowered
    });
    Some(Batches {
        size: size??,
        pause,
        analysis,
    })
}

fn windows(windows: &[FreezeWindow], at: &FieldPath, out: &mut Vec<Problem>) -> Vec<Freeze> {
    let windows = windows.iter().enumerate();
    windows
        .filter_map(|(i, raw)| window(raw, &at.index(i), out))
        .collect()
}

fn window(raw: &FreezeWindow, at: &FieldPath, out: &mut Vec<Problem>) -> Option<Freeze> {
    if raw.name.is_empty() {
        out.push(Problem::required(at.field("name"), "say what it is for"));
    }
    let schedule = Cron::parse(&raw.schedule).map_err(|why| {
        let text = format!("{:?}", raw.schedule);
        out.push(Problem::invalid(at.field("schedule"), text, &why));
    });
    let duration = duration(raw.duration.as_ref(), &at.field("duration"), out);
    if duration.is_some_and(|d| d > LONGEST_WINDOW) {
        let why = "must be at most 31 days";
        let shown = raw.duration.as_ref().map(shown).unwrap_or_default();
        out.push(Problem::invalid(at.field("duration"), shown, why));
    }
    let name = raw.time_zone.as_deref().unwrap_or("UTC");
    let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| {
        let why = "must be a time zone such as Europe/Berlin";
        let at = at.field("timeZone");
        out.push(Problem::invalid(at, format!("{name:?}"), why));
    });
    Some(Freeze {
        name: raw.name.clone(),
        schedule: schedule.ok()?,
        duration: duration?,
        zone: zone.ok()?,
    })
}

fn gates(gates: &[GateSpec], at: &FieldPath, out: &mut Vec<Problem>) -> Vec<Gate> {
    let mut lowered: Vec<Gate> = Vec::new();
    for (i, raw) in gates.iter().enumerate() {
        let at = at.index(i);
        if raw.name.is_empty() {
            out.push(Problem::required(at.field("name"), "say what is approved"));
        } else if lowered.iter().any(|known| known.name == raw.name) {
            out.push(Problem::duplicate(at.field("name"), &raw.name));
        }
        let before = match (raw.before.as_deref().unwrap_or("promotion"), raw.step) {
            ("start", None) => Some(Before::Start),
            ("promotion", None) => Some(Before::Promotion),
            ("step", Some(step)) => {
                let step = usize::try_from(step).ok().and_then(|n| n.checked_sub(1));
                if step.is_none() {
                    let why = "must be a step, from 1";
                    let given = raw.step.unwrap_or(0);
                    out.push(Problem::invalid(at.field("step"), given, why));
                }
                step.map(Before::Step)
            }
            ("step", None) => {
                out.push(Problem::required(at.field("step"), "which one, from 1"));
                None
            }
            ("start" | "promotion", Some(_)) => {
                let why = "goes with `before: step` only";
                out.push(Problem::forbidden(at.field("step"), why));
                None
            }
            (other, _) => {
                let words = ["start", "step", "promotion"];
                out.push(Problem::not_supported(at.field("before"), other, &words));
                None
            }
        };
        let webhook = raw.webhook.as_ref();
        let webhook = webhook.map(|raw| webhook_of(raw, &at.field("webhook"), out));
        lowered.extend(before.map(|before| Gate {
            name: raw.name.clone(),
            before,
            webhook: webhook.flatten(),
        }));
    }
    lowered
}

fn webhook_of(raw: &WebhookSpec, at: &FieldPath, out: &mut Vec<Problem>) -> Option<Webhook> {
    let mut host = ["https://", "http://"].into_iter();
    let host = host.find_map(|scheme| raw.url.strip_prefix(scheme));
    let sound = host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && raw.url.bytes().all(|b| b.is_ascii_graphic());
    if !sound {
        let why = "must be https://HOST/PATH or http://HOST/PATH";
        out.push(Problem::invalid(
            at.field("url"),
            format!("{:?}", raw.url),
            why,
        ));
    }
    let seconds = raw.timeout_seconds.unwrap_or(10);
    if !(1..=60).contains(&seconds) {
        let at = at.field("timeoutSeconds");
        out.push(Problem::invalid(at, seconds, "must be from 1 to 60"));
    }
    let interval = match &raw.interval {
        None => Some(SignedDuration::from_secs(30)),
        given => duration(given.as_ref(), &at.field("interval"), out),
    };
    if let Some(SigningKey { secret_name, key }) = &raw.signing_key {
        let at = at.field("signingKey");
        for (value, field) in [(secret_name, "secretName"), (key, "key")] {
            if value.is_empty() {
                out.push(Problem::required(at.field(field), "where the key is"));
            }
        }
    }
    Some(Webhook {
        url: raw.url.clone(),
        deadline: SignedDuration::from_secs(seconds.into()),
        interval: interval?,
        signing_key: raw.signing_key.clone(),
    })
}

fn configuration(
    raw: &ConfigurationPolicy,
    at: &FieldPath,
    out: &mut Vec<Problem>,
) -> BTreeSet<ConfigurationKind> {
    let Some(kinds) = &raw.kinds else {
        return ConfigurationKind::ALL.into();
    };
    let at = at.field("kinds");
    let known = kinds.iter().enumerate().filter_map(|(i, given)| {
        let known = ConfigurationKind::ALL.into_iter();
        let found = known.into_iter().find(|kind| kind.name() == given);
        if found.is_none() {
            let words = ConfigurationKind::ALL.map(ConfigurationKind::name);
            out.push(Problem::not_supported(at.index(i), given, &words));
        }
        found
    });
    known.collect()
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
            expect![
                "Policy { hold_rejected: true, instant: true, warm: Some(Warm { replicas: Percent(100), duration: 1h }), bake: None, freeze: [], gates: [], configuration: {}, batches: None }"
            ],
        );
    }

    #[test]
    fn windows_and_gates_are_checked() {
        check(
            json!({
                "freeze": [
                    {"name": "weekend", "schedule": "0 16 * * friday", "duration": "64h", "timeZone": "Europe/Berlon"},
                    {"schedule": "0 0 24 12 *", "duration": "800h"},
                ],
                "gates": [
                    {"name": "ok"}, {"name": "ok", "before": "start"}, {"name": "a", "before": "step"},
                    {"name": "b", "before": "step", "step": 0}, {"before": "end"}, {"name": "c", "step": 1},
                ],
            }),
            expect![[r#"
                spec.freeze[0].schedule: Invalid value: "0 16 * * friday": "friday" is no day of the week: it is from 0 to 7
                spec.freeze[0].timeZone: Invalid value: "Europe/Berlon": must be a time zone such as Europe/Berlin
                spec.freeze[1].name: Required value: say what it is for
                spec.freeze[1].duration: Invalid value: "800h": must be at most 31 days
                spec.gates[1].name: Duplicate value: "ok"
                spec.gates[2].step: Required value: which one, from 1
                spec.gates[3].step: Invalid value: 0: must be a step, from 1
                spec.gates[4].name: Required value: say what is approved
                spec.gates[4].before: Unsupported value: "end": supported values: "start", "step", "promotion"
                spec.gates[5].step: Forbidden: goes with `before: step` only"#]],
        );
    }

    #[test]
    fn configuration_is_of_both_kinds_unless_said() {
        let kinds = |spec| {
            lower(&serde_json::from_value(spec).unwrap())
                .0
                .configuration
        };
        assert_eq!(
            kinds(json!({"configuration": {}})),
            ConfigurationKind::ALL.into()
        );
        let one = json!({"configuration": {"kinds": ["ConfigMap"]}});
        assert_eq!(kinds(one), BTreeSet::from([ConfigurationKind::ConfigMap]));
        check(
            json!({"configuration": {"kinds": ["Secrets"]}}),
            expect![[
                r#"spec.configuration.kinds[0]: Unsupported value: "Secrets": supported values: "ConfigMap", "Secret""#
            ]],
        );
    }

    #[test]
    fn a_webhook_has_an_address_and_sound_times() {
        check(
            json!({"gates": [{"name": "a", "webhook": {
                "url": "ftp://gates", "timeoutSeconds": 61, "interval": "0s", "signingKey": {"key": "k"},
            }}]}),
            expect![[r#"
                spec.gates[0].webhook.url: Invalid value: "ftp://gates": must be https://HOST/PATH or http://HOST/PATH
                spec.gates[0].webhook.timeoutSeconds: Invalid value: 61: must be from 1 to 60
                spec.gates[0].webhook.interval: Invalid value: "0s": must be longer than 0 and at most a year
                spec.gates[0].webhook.signingKey.secretName: Required value: where the key is"#]],
        );
    }

    #[test]
    fn batches_have_a_size() {
        check(
            json!({"batches": {"pause": "soon"}}),
            expect![[r#"
                spec.batches.size: Required value: how many instances, such as 2 or 25%
                spec.batches.pause: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m""#]],
        );
        for size in [json!(0), json!(-1), json!("101%"), json!("two")] {
            let spec = serde_json::from_value(json!({"batches": {"size": size}})).unwrap();
            assert_eq!(lower(&spec).1.len(), 1, "{size}");
        }
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
