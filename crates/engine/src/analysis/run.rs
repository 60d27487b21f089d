//! The course of one run: what is measured now, and what the measurements so far mean.

mod limits;
mod names;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serin_api::analysis::{
    AnalysisPhase, AnalysisRunSpec, AnalysisRunStatus, Measurement, Metric, MetricResult,
    RunSummary,
};
use serin_api::conditions::micro_time;
use serin_api::units::parse_duration_text;

use super::condition::{self, Judgement, MetricValue, judge};
use super::instantiate::resolve;
use super::judged::{self, Traffic, Weighed};
use names::Rules;

/// After a measurement that could not be taken, the next try comes this soon whatever the interval.
const ERROR_RETRY: SignedDuration = SignedDuration::from_secs(10);

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
    /// The metric with its arguments filled in; only those whose values are secret still stand in the texts of the provider.
    pub metric: Metric,
    /// The number of the measurement in its metric, from 1.
    pub number: i32,
    /// What was kept of it when it was begun before and is not done.
    pub begun: Option<BTreeMap<String, String>>,
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// The provider answered.
    Value(MetricValue),
    /// The provider itself says what it means.
    Verdict(Judgement),
    /// What the gateway counted, for the judge.
    Traffic(Box<Traffic>),
    /// It goes on, as a Job does; this is kept with it.
    Begun(BTreeMap<String, String>),
    /// The provider did not answer, and why: this says nothing of the metric.
    Unavailable(String),
}

/// Says what is to be measured now, and where the run stands.
pub fn plan(spec: &AnalysisRunSpec, status: &AnalysisRunStatus, now: Timestamp) -> RunPlan {
    let mut status = status.clone();
    if status.phase.is_completed() {
        return ended(spec, status, now);
    }
    status.started_at.get_or_insert_with(|| micro_time(now));
    let rules = match Rules::of(spec) {
        Ok(rules) => rules,
        Err(problems) => {
            finish(
                &mut status,
                AnalysisPhase::Error,
                Some(problems.join("; ")),
                now,
            );
            return ended(spec, status, now);
        }
    };
    status.phase = AnalysisPhase::Running;
    let mut measure = Vec::new();
    let mut wake_at: Option<Timestamp> = None;
    for metric in &spec.metrics {
        match due(spec, &rules, metric, &mut status, now) {
            Due::Now(order) => measure.push(*order),
            Due::At(at) => wake_at = Some(wake_at.map_or(at, |w| w.min(at))),
            Due::Never => {}
        }
    }
    settle(spec, &mut status, now);
    if status.phase.is_completed() {
        return ended(spec, status, now);
    }
    RunPlan {
        measure,
        status,
        wake_at,
        expired: false,
    }
}

/// Nothing is measured any more; the run is kept for its time.
fn ended(spec: &AnalysisRunSpec, status: AnalysisRunStatus, now: Timestamp) -> RunPlan {
    let wake_at = expiry(spec, &status);
    RunPlan {
        measure: Vec::new(),
        expired: wake_at.is_some_and(|at| at <= now),
        wake_at,
        status,
    }
}

/// Folds what came of an order into the status.
pub fn record(
    spec: &AnalysisRunSpec,
    status: &AnalysisRunStatus,
    order: &Order,
    measured: &Measured,
    started: Timestamp,
    now: Timestamp,
) -> AnalysisRunStatus {
    let mut status = status.clone();
    // A run that has ended meanwhile, or whose rules are broken, takes nothing in.
    let Some(rules) = Rules::of(spec)
        .ok()
        .filter(|_| !status.phase.is_completed())
    else {
        return status;
    };
    let metric = &order.metric;
    let result = result_of(&rules, &mut status, &metric.name);
    if result.phase.is_completed() {
        return status;
    }
    let begun = result
        .measurements
        .pop_if(|last| !last.phase.is_completed());
    let started_at = begun.and_then(|begun| begun.started_at);
    let started_at = Some(started_at.unwrap_or_else(|| micro_time(started)));
    let (mut measurement, ends) = reading(metric, measured, &mut result.metadata);
    measurement.started_at = started_at;
    if measurement.phase.is_completed() {
        measurement.finished_at = Some(micro_time(now));
        measurement
            .metadata
            .extend(order.begun.clone().unwrap_or_default());
    }
    let is_done = measurement.phase.is_completed();
    if is_done {
        limits::count(result, measurement.phase);
    }
    result.measurements.push(measurement);
    let surplus = result
        .measurements
        .len()
        .saturating_sub(rules.kept(&metric.name));
    result.measurements.drain(..surplus);
    let last = result.measurements.last();
    let end = match last.filter(|_| ends) {
        Some(last) => Some((last.phase, last.message.clone())),
        None => is_done.then(|| limits::verdict(metric, result)).flatten(),
    };
    if let Some((phase, message)) = end {
        result.phase = phase;
        result.message = message;
    }
    settle(spec, &mut status, now);
    status
}

/// What came of an order as a measurement, and whether it ends the metric by itself.
fn reading(
    metric: &Metric,
    measured: &Measured,
    kept: &mut BTreeMap<String, String>,
) -> (Measurement, bool) {
    let weighed = match measured {
        Measured::Begun(metadata) => {
            let measurement = Measurement {
                phase: AnalysisPhase::Running,
                metadata: metadata.clone(),
                ..Measurement::default()
            };
            return (measurement, false);
        }
        Measured::Value(value) => Weighed::plain(judge(metric, value), value.shown()),
        Measured::Verdict(judgement) => Weighed::plain(judgement.clone(), None),
        Measured::Unavailable(why) => {
            Weighed::plain(Judgement::because(AnalysisPhase::Error, why.clone()), None)
        }
        Measured::Traffic(traffic) => match &metric.provider.serin {
            Some(asked) => judged::weigh(asked, kept, traffic),
            None => {
                let why = "the metric has no serin";
                Weighed::plain(Judgement::because(AnalysisPhase::Error, why), None)
            }
        },
    };
    let measurement = Measurement {
        phase: weighed.judgement.phase,
        message: weighed.judgement.message,
        value: weighed.value,
        ..Measurement::default()
    };
    (measurement, weighed.ends)
}

/// What is wrong with a metric once its arguments are filled in: its conditions, numbers and times.
pub(super) fn problems(metric: &Metric) -> Vec<String> {
    let mut found = condition::problems(metric);
    found.extend(limits::problems(metric));
    let judged = metric
        .provider
        .serin
        .as_ref()
        .filter(|serin| serin.compare.is_some());
    found.extend(
        judged
            .and_then(|serin| judged::judge_rules(serin).err())
            .into_iter()
            .flatten(),
    );
    found
}

/// What is wrong with the rules of a run that name metrics.
pub(super) fn rule_problems(spec: &AnalysisRunSpec) -> Vec<String> {
    Rules::of(spec).err().unwrap_or_default()
}

/// Whether a metric is measured without end.
pub(crate) fn is_endless(metric: &Metric) -> bool {
    limits::wanted(metric).is_none() && metric.consecutive_success_limit.is_none()
}

enum Due {
    Now(Box<Order>),
    At(Timestamp),
    Never,
}

fn due(
    spec: &AnalysisRunSpec,
    rules: &Rules,
    metric: &Metric,
    status: &mut AnalysisRunStatus,
    now: Timestamp,
) -> Due {
    let run_started = status.started_at.as_ref().map_or(now, |t| t.0);
    let result = result_of(rules, status, &metric.name);
    if result.phase.is_completed() {
        return Due::Never;
    }
    let resolved = resolve(metric, &spec.args).map_err(|why| vec![why]);
    let resolved = resolved.and_then(|metric| match problems(&metric) {
        none if none.is_empty() => Ok(metric),
        found => Err(found),
    });
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(problems) => {
            result.phase = AnalysisPhase::Error;
            result.message = Some(problems.join("; "));
            return Due::Never;
        }
    };
    let duration = |text: &Option<String>| text.as_deref().and_then(parse_duration_text);
    let last = result.measurements.last();
    let at = match last {
        None => run_started + duration(&resolved.initial_delay).unwrap_or(SignedDuration::ZERO),
        Some(last) if !last.phase.is_completed() => now,
        Some(last) => {
            let finished = last.finished_at.as_ref().map_or(now, |t| t.0);
            let pause = match last.phase {
                AnalysisPhase::Error => ERROR_RETRY,
                _ => duration(&resolved.interval).unwrap_or(ERROR_RETRY),
            };
            finished + pause
        }
    };
    if at > now {
        return Due::At(at);
    }
    let begun = last.filter(|last| !last.phase.is_completed());
    Due::Now(Box::new(Order {
        metric: resolved,
        number: result.count + result.error + 1,
        begun: begun.map(|begun| begun.metadata.clone()),
    }))
}

/// The result of a metric; made when the metric has none yet.
fn result_of<'a>(
    rules: &Rules,
    status: &'a mut AnalysisRunStatus,
    name: &str,
) -> &'a mut MetricResult {
    let results = &mut status.metric_results;
    let index = results
        .iter()
        .position(|r| r.name == name)
        .unwrap_or_else(|| {
            results.push(MetricResult {
                name: name.to_owned(),
                phase: AnalysisPhase::Running,
                dry_run: rules.is_dry_run(name),
                ..MetricResult::default()
            });
            results.len() - 1
        });
    #[expect(
        clippy::indexing_slicing,
        reason = "the index was found or made in this vector just above"
    )]
    &mut results[index]
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
    let terminated = spec.terminate == Some(true);
    if terminated {
        status.metric_results.iter_mut().for_each(cut_short);
    }
    let counted = status.metric_results.iter().filter(|r| !r.dry_run);
    let worst = counted
        .max_by_key(|r| badness(r.phase))
        .filter(|r| badness(r.phase) > 0);
    let is_done = |name: &str| {
        let mut results = status.metric_results.iter();
        results.any(|r| r.name == name && r.phase.is_completed())
    };
    let all_done = spec.metrics.iter().all(|m| is_done(&m.name));
    let (phase, message) = match worst {
        Some(result) => {
            let why = result.message.as_deref().unwrap_or("no reason given");
            let message = format!("metric {:?}: {why}", result.name);
            (result.phase, Some(message))
        }
        None if terminated => (AnalysisPhase::Successful, Some("run terminated".to_owned())),
        None if all_done => (AnalysisPhase::Successful, None),
        None => return,
    };
    finish(status, phase, message, now);
    status.run_summary = Some(summary(status, false));
    status.dry_run_summary = spec.dry_run.first().map(|_| summary(status, true));
}

/// A metric of a run that is told to end: one of which nothing but errors, or nothing but doubts came is not called good.
fn cut_short(result: &mut MetricResult) {
    if result.phase.is_completed() || result.successful + result.failed > 0 {
        return;
    }
    let phase = match (result.inconclusive, result.error) {
        (0, 0) => return,
        (0, _) => AnalysisPhase::Error,
        _ => AnalysisPhase::Inconclusive,
    };
    result.phase = phase;
    let last = result.measurements.last().and_then(|m| m.message.clone());
    result.message = last.or_else(|| Some("the run was ended before anything was found".into()));
}

fn finish(
    status: &mut AnalysisRunStatus,
    phase: AnalysisPhase,
    message: Option<String>,
    now: Timestamp,
) {
    status.phase = phase;
    status.message = message;
    status.completed_at.get_or_insert_with(|| micro_time(now));
    let unfinished = status
        .metric_results
        .iter_mut()
        .filter(|r| !r.phase.is_completed());
    for result in unfinished {
        result.phase = AnalysisPhase::Successful;
        let begun = result
            .measurements
            .last_mut()
            .filter(|m| !m.phase.is_completed());
        if let Some(measurement) = begun {
            measurement.phase = AnalysisPhase::Inconclusive;
            measurement.message = Some("the run ended before it".to_owned());
            measurement.finished_at = Some(micro_time(now));
        }
    }
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
mod tests;
