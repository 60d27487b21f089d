//! The course of one run: what is measured now, and what the measurements so far mean.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::analysis::{
    AnalysisPhase, AnalysisRunSpec, AnalysisRunStatus, Measurement, Metric, MetricResult,
    RunSummary,
};
use serin_api::conditions::micro_time;
use serin_api::units::parse_duration_text;

use super::condition::{Judgement, MetricValue, judge};
use super::instantiate::resolve;

/// After a measurement that could not be taken, the next try comes this soon whatever the interval.
const ERROR_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Measurements that are kept of a metric unless the run says otherwise.
const RETENTION: usize = 10;

/// What is to be done for a run now.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RunPlan {
    /// The measurements that are due.
    pub measure: Vec<Order>,
    /// The status as of now.
    pub status: AnalysisRunStatus,
    /// When to look again; `None` when only a measurement or a change of the run brings anything new.
    pub wake_at: Option<Timestamp>,
    /// Whether the finished run has outlived its time.
    pub expired: bool,
}

/// One measurement that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The metric with its arguments filled in.
    pub metric: Metric,
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// The provider answered.
    Value(MetricValue),
    /// It did not, and why: this says nothing of the metric.
    Unavailable(String),
}

/// Says what is to be measured now, and where the run stands.
pub fn plan(spec: &AnalysisRunSpec, status: &AnalysisRunStatus, now: Timestamp) -> RunPlan {
    let mut status = status.clone();
    if status.phase.is_completed() {
        let expires = expiry(spec, &status);
        return RunPlan {
            measure: Vec::new(),
            expired: expires.is_some_and(|at| at <= now),
            wake_at: expires,
            status,
        };
    }
    status.started_at.get_or_insert_with(|| micro_time(now));
    status.phase = AnalysisPhase::Running;
    let mut measure = Vec::new();
    let mut wake_at: Option<Timestamp> = None;
    if spec.terminate != Some(true) {
        for metric in &spec.metrics {
            match due(spec, metric, &mut status, now) {
                Due::Now(order) => measure.push(*order),
                Due::At(at) => wake_at = Some(wake_at.map_or(at, |w| w.min(at))),
                Due::Never => {}
            }
        }
    }
    settle(spec, &mut status, now);
    if status.phase.is_completed() {
        measure.clear();
        wake_at = expiry(spec, &status);
    }
    RunPlan {
        measure,
        status,
        wake_at,
        expired: false,
    }
}

/// Folds one measurement into the status.
pub fn record(
    spec: &AnalysisRunSpec,
    status: &AnalysisRunStatus,
    metric: &Metric,
    measured: &Measured,
    started: Timestamp,
    now: Timestamp,
) -> AnalysisRunStatus {
    let mut status = status.clone();
    let judgement = match measured {
        Measured::Value(value) => judge(metric, value),
        Measured::Unavailable(why) => Judgement {
            phase: AnalysisPhase::Error,
            message: Some(why.clone()),
        },
    };
    let value = match measured {
        Measured::Value(value) => value.shown(),
        Measured::Unavailable(_) => None,
    };
    let measurement = Measurement {
        phase: judgement.phase,
        message: judgement.message,
        started_at: Some(micro_time(started)),
        finished_at: Some(micro_time(now)),
        value,
        ..Measurement::default()
    };
    let keep = retention(spec, &metric.name);
    let result = result_of(spec, &mut status, &metric.name);
    count(result, measurement, keep);
    if let Some((phase, message)) = verdict(metric, result) {
        result.phase = phase;
        result.message = message;
    }
    settle(spec, &mut status, now);
    status
}

enum Due {
    Now(Box<Order>),
    At(Timestamp),
    Never,
}

fn due(
    spec: &AnalysisRunSpec,
    metric: &Metric,
    status: &mut AnalysisRunStatus,
    now: Timestamp,
) -> Due {
    let run_started = status.started_at.as_ref().map_or(now, |t| t.0);
    let result = result_of(spec, status, &metric.name);
    if result.phase.is_completed() {
        return Due::Never;
    }
    let resolved = match resolve(metric, &spec.args) {
        Ok(resolved) => resolved,
        Err(why) => {
            result.phase = AnalysisPhase::Error;
            result.message = Some(why);
            return Due::Never;
        }
    };
    let duration = |text: &Option<String>| text.as_deref().and_then(parse_duration_text);
    let at = match result.measurements.last() {
        None => run_started + duration(&resolved.initial_delay).unwrap_or(SignedDuration::ZERO),
        Some(last) => {
            let finished = last.finished_at.as_ref().map_or(now, |t| t.0);
            let pause = match last.phase {
                AnalysisPhase::Error => ERROR_RETRY,
                _ => duration(&resolved.interval).unwrap_or(ERROR_RETRY),
            };
            finished + pause
        }
    };
    if at <= now {
        Due::Now(Box::new(Order { metric: resolved }))
    } else {
        Due::At(at)
    }
}

/// The result of a metric; made when the metric has none yet.
fn result_of<'a>(
    spec: &AnalysisRunSpec,
    status: &'a mut AnalysisRunStatus,
    name: &str,
) -> &'a mut MetricResult {
    let index = status
        .metric_results
        .iter()
        .position(|r| r.name == name)
        .unwrap_or_else(|| {
            let dry_run = spec
                .dry_run
                .iter()
                .any(|d| d.metric_name == name || d.metric_name == ".*");
            let result = MetricResult {
                name: name.to_owned(),
                phase: AnalysisPhase::Running,
                dry_run,
                ..MetricResult::default()
            };
            status.metric_results.push(result);
            status.metric_results.len() - 1
        });
    #[expect(
        clippy::indexing_slicing,
        reason = "the index was found or made in this vector just above"
    )]
    &mut status.metric_results[index]
}

fn retention(spec: &AnalysisRunSpec, name: &str) -> usize {
    let asked = spec
        .measurement_retention
        .iter()
        .find(|r| r.metric_name == name || r.metric_name == ".*");
    asked
        .and_then(|r| usize::try_from(r.limit).ok())
        .unwrap_or(RETENTION)
        .max(1)
}

fn count(result: &mut MetricResult, measurement: Measurement, keep: usize) {
    match measurement.phase {
        AnalysisPhase::Successful => result.successful += 1,
        AnalysisPhase::Failed => result.failed += 1,
        AnalysisPhase::Inconclusive => result.inconclusive += 1,
        _ => result.error += 1,
    }
    if measurement.phase == AnalysisPhase::Error {
        result.consecutive_error += 1;
    } else {
        result.count += 1;
        result.consecutive_error = 0;
    }
    result.consecutive_success = if measurement.phase == AnalysisPhase::Successful {
        result.consecutive_success + 1
    } else {
        0
    };
    result.measurements.push(measurement);
    let surplus = result.measurements.len().saturating_sub(keep);
    result.measurements.drain(..surplus);
}

/// The number of a limit; `default` when it is absent or no number.
fn limit(value: Option<&IntOrString>, default: i32) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => text.parse().unwrap_or(default),
        None => default,
    }
}

/// Where a metric ends, `None` while it goes on. Limits trip when they are exceeded, and -1 never trips.
fn verdict(metric: &Metric, result: &MetricResult) -> Option<(AnalysisPhase, Option<String>)> {
    let exceeded = |count: i32, limit: i32| limit >= 0 && count > limit;
    let errors = limit(metric.consecutive_error_limit.as_ref(), 4);
    let inconclusive = limit(metric.inconclusive_limit.as_ref(), 0);
    let failures = limit(metric.failure_limit.as_ref(), 0);
    let last = result.measurements.last();
    let why = |what: String| {
        let detail = last.and_then(|m| {
            m.message
                .clone()
                .or_else(|| m.value.clone().map(|v| format!("last value {v}")))
        });
        Some(detail.map_or(what.clone(), |detail| format!("{what}: {detail}")))
    };
    if exceeded(result.consecutive_error, errors) {
        return Some((
            AnalysisPhase::Error,
            why(format!(
                "{} measurements in a row could not be taken",
                result.consecutive_error
            )),
        ));
    }
    if exceeded(result.inconclusive, inconclusive) {
        return Some((
            AnalysisPhase::Inconclusive,
            why(format!(
                "inconclusive ({}) > inconclusiveLimit ({inconclusive})",
                result.inconclusive
            )),
        ));
    }
    if exceeded(result.failed, failures) {
        return Some((
            AnalysisPhase::Failed,
            why(format!(
                "failed ({}) > failureLimit ({failures})",
                result.failed
            )),
        ));
    }
    let wanted_in_a_row = limit(metric.consecutive_success_limit.as_ref(), 0);
    if wanted_in_a_row > 0 && result.consecutive_success >= wanted_in_a_row {
        return Some((AnalysisPhase::Successful, None));
    }
    let wanted = match limit(metric.count.as_ref(), 0) {
        0 if metric.interval.is_none() => 1,
        wanted => wanted,
    };
    (wanted > 0 && result.count >= wanted).then_some((AnalysisPhase::Successful, None))
}

/// How bad a phase is for the run as a whole.
fn badness(phase: AnalysisPhase) -> u8 {
    match phase {
        AnalysisPhase::Failed => 3,
        AnalysisPhase::Error => 2,
        AnalysisPhase::Inconclusive => 1,
        _ => 0,
    }
}

/// Ends the run when a metric that counts is bad, when all are done, or when it was told to end.
fn settle(spec: &AnalysisRunSpec, status: &mut AnalysisRunStatus, now: Timestamp) {
    let counted = status.metric_results.iter().filter(|r| !r.dry_run);
    let worst = counted
        .max_by_key(|r| badness(r.phase))
        .filter(|r| badness(r.phase) > 0);
    let all_done = spec.metrics.iter().all(|m| {
        status
            .metric_results
            .iter()
            .any(|r| r.name == m.name && r.phase.is_completed())
    });
    let (phase, message) = match worst {
        Some(result) => (
            result.phase,
            Some(format!(
                "metric {:?}: {}",
                result.name,
                result.message.as_deref().unwrap_or("no reason given")
            )),
        ),
        None if all_done || spec.terminate == Some(true) => (AnalysisPhase::Successful, None),
        None => return,
    };
    status.phase = phase;
    status.message = message;
    status.completed_at.get_or_insert_with(|| micro_time(now));
    for result in status
        .metric_results
        .iter_mut()
        .filter(|r| !r.phase.is_completed())
    {
        result.phase = AnalysisPhase::Successful;
    }
    status.run_summary = Some(summary(status, false));
    status.dry_run_summary = spec.dry_run.first().map(|_| summary(status, true));
}

fn summary(status: &AnalysisRunStatus, dry_run: bool) -> RunSummary {
    let mut summary = RunSummary::default();
    for result in status
        .metric_results
        .iter()
        .filter(|r| r.dry_run == dry_run)
    {
        summary.count += 1;
        match result.phase {
            AnalysisPhase::Failed => summary.failed += 1,
            AnalysisPhase::Inconclusive => summary.inconclusive += 1,
            AnalysisPhase::Error => summary.error += 1,
            _ => summary.successful += 1,
        }
    }
    summary
}

/// When a finished run is deleted.
fn expiry(spec: &AnalysisRunSpec, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let ttl = spec.ttl_strategy.as_ref()?;
    let specific = match status.phase {
        AnalysisPhase::Successful => ttl.seconds_after_success,
        AnalysisPhase::Failed => ttl.seconds_after_failure,
        _ => None,
    };
    let seconds = specific.or(ttl.seconds_after_completion)?;
    Some(status.completed_at.as_ref()?.0 + SignedDuration::from_secs(i64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn spec(metrics: serde_json::Value) -> AnalysisRunSpec {
        serde_json::from_value(json!({ "metrics": metrics })).unwrap()
    }

    /// Runs through the values of one metric, a second apart, and gives the phase after each.
    fn course(metric: serde_json::Value, values: &[Measured]) -> Vec<AnalysisPhase> {
        let spec = spec(json!([metric]));
        let mut status = AnalysisRunStatus::default();
        let mut phases = Vec::new();
        for (i, measured) in values.iter().enumerate() {
            let now = at(i as i64 * 20);
            let step = plan(&spec, &status, now);
            let Some(order) = step.measure.first() else {
                break;
            };
            status = record(&spec, &step.status, &order.metric, measured, now, now);
            phases.push(status.phase);
        }
        phases
    }

    fn value(number: f64) -> Measured {
        Measured::Value(MetricValue::Number(number))
    }

    use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};

    #[test]
    fn a_limit_trips_when_it_is_exceeded() {
        let metric = json!({"name": "m", "interval": "1s", "count": 5, "failureLimit": 1, "successCondition": "result < 1"});
        assert_eq!(
            course(metric, &[value(2.0), value(0.0), value(2.0)]),
            [Running, Running, Failed]
        );
    }

    #[test]
    fn minus_one_never_trips_and_the_count_ends_it() {
        let metric = json!({"name": "m", "interval": "1s", "count": 2, "failureLimit": -1, "successCondition": "result < 1"});
        assert_eq!(
            course(metric, &[value(2.0), value(2.0)]),
            [Running, Successful]
        );
    }

    #[test]
    fn without_interval_and_count_one_measurement_decides() {
        assert_eq!(
            course(
                json!({"name": "m", "successCondition": "result < 1"}),
                &[value(0.0), value(9.0)]
            ),
            [Successful]
        );
    }

    #[test]
    fn an_outage_of_the_source_is_not_a_bad_metric() {
        let down = || Measured::Unavailable("connection refused".into());
        let metric =
            json!({"name": "m", "interval": "1s", "count": 1, "successCondition": "result < 1"});
        assert_eq!(
            course(metric.clone(), &[down(), down(), value(0.0)]),
            [Running, Running, Successful]
        );
        assert_eq!(
            course(metric, &[down(), down(), down(), down(), down()]),
            [Running, Running, Running, Running, Error]
        );
    }

    #[test]
    fn too_little_data_is_inconclusive() {
        let none = Measured::Value(MetricValue::NoData("3 of 50 requests".into()));
        let metric = json!({"name": "m", "interval": "1s", "count": 3, "inconclusiveLimit": 1, "successCondition": "result < 1"});
        assert_eq!(
            course(metric, &[none.clone(), value(0.0), none]),
            [Running, Running, Inconclusive]
        );
    }

    #[test]
    fn intervals_and_delays_are_kept() {
        let spec = spec(
            json!([{"name": "m", "initialDelay": "5s", "interval": "30s", "count": 2, "successCondition": "true"}]),
        );
        let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
        assert_eq!((first.measure.len(), first.wake_at), (0, Some(at(5))));
        let due = plan(&spec, &first.status, at(5));
        let status = record(
            &spec,
            &due.status,
            &due.measure[0].metric,
            &value(1.0),
            at(5),
            at(6),
        );
        assert_eq!(plan(&spec, &status, at(7)).wake_at, Some(at(36)));
    }

    #[test]
    fn an_interval_below_a_second_survives_being_stored() {
        let spec = spec(
            json!([{"name": "m", "interval": "500ms", "count": 2, "successCondition": "true"}]),
        );
        let soon = at(0) + SignedDuration::from_millis(700);
        let due = plan(&spec, &AnalysisRunStatus::default(), soon);
        let status = record(
            &spec,
            &due.status,
            &due.measure[0].metric,
            &value(1.0),
            soon,
            soon,
        );
        let stored: AnalysisRunStatus =
            serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        let next = plan(&spec, &stored, soon);
        assert_eq!(
            (next.measure.len(), next.wake_at),
            (0, Some(soon + SignedDuration::from_millis(500)))
        );
    }

    #[test]
    fn the_first_bad_metric_ends_the_run_and_dry_runs_do_not() {
        let mut spec = spec(json!([
            {"name": "dry", "interval": "1s", "failureCondition": "true"},
            {"name": "good", "interval": "1s", "successCondition": "true"},
            {"name": "bad", "interval": "1s", "failureCondition": "true"},
        ]));
        spec.dry_run = vec![serin_api::analysis::DryRun {
            metric_name: "dry".into(),
        }];
        let mut status = plan(&spec, &AnalysisRunStatus::default(), at(0)).status;
        for metric in &spec.metrics {
            status = record(&spec, &status, metric, &value(0.0), at(0), at(0));
            let expected = if metric.name == "bad" {
                Failed
            } else {
                Running
            };
            assert_eq!(status.phase, expected, "{}", metric.name);
        }
        assert!(status.message.unwrap().contains("\"bad\""));
        assert_eq!(status.run_summary.unwrap().successful, 1);
    }

    #[test]
    fn a_run_that_is_told_to_end_is_good_unless_it_was_bad() {
        let mut spec = spec(json!([{"name": "m", "interval": "1s", "successCondition": "true"}]));
        spec.terminate = Some(true);
        assert_eq!(
            plan(&spec, &AnalysisRunStatus::default(), at(0))
                .status
                .phase,
            Successful
        );
    }

    #[test]
    fn a_finished_run_expires() {
        let mut spec = spec(json!([]));
        spec.ttl_strategy =
            Some(serde_json::from_value(json!({"secondsAfterCompletion": 60})).unwrap());
        let done = plan(&spec, &AnalysisRunStatus::default(), at(0));
        assert_eq!(
            (done.status.phase, done.wake_at, done.expired),
            (Successful, Some(at(60)), false)
        );
        assert!(plan(&spec, &done.status, at(60)).expired);
    }
}
