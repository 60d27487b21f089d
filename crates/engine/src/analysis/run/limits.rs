//! What the measurements of one metric mean together.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::analysis::{AnalysisPhase, Measurement, Metric, MetricResult};
use serin_api::units::parse_duration_text;

/// Where a metric ends, and why.
pub(super) type End = (AnalysisPhase, Option<String>);

/// Adds a measurement that is done to the counts.
pub(super) fn count(result: &mut MetricResult, phase: AnalysisPhase) {
    match phase {
        AnalysisPhase::Successful => result.successful += 1,
        AnalysisPhase::Failed => result.failed += 1,
        AnalysisPhase::Inconclusive => result.inconclusive += 1,
        _ => result.error += 1,
    }
    if phase == AnalysisPhase::Error {
        result.consecutive_error += 1;
    } else {
        result.count += 1;
        result.consecutive_error = 0;
    }
    result.consecutive_success = if phase == AnalysisPhase::Successful {
        result.consecutive_success + 1
    } else {
        0
    };
}

/// The measurements that a metric takes in all; `None` without an end.
pub(super) fn wanted(metric: &Metric) -> Option<i32> {
    match limit(metric.count.as_ref(), 0) {
        0 if metric.interval.is_none() => Some(1),
        wanted => (wanted > 0).then_some(wanted),
    }
}

/// Where a metric ends, `None` while it goes on. Limits trip when they are exceeded, and -1 never trips. Among several an error
/// comes before an inconclusive, and that before a failure.
pub(super) fn verdict(metric: &Metric, result: &MetricResult) -> Option<End> {
    exceeded(metric, result).or_else(|| reached(metric, result))
}

fn exceeded(metric: &Metric, result: &MetricResult) -> Option<End> {
    let beyond = |count: i32, limit: i32| limit >= 0 && count > limit;
    let errors = limit(metric.consecutive_error_limit.as_ref(), 4);
    let failures = limit(metric.failure_limit.as_ref(), 0);
    if beyond(result.consecutive_error, errors) {
        let count = result.consecutive_error;
        let what = format!(
            "the metric source is down: {count} measurements in a row could not be taken \
             (consecutiveErrorLimit {errors})"
        );
        return Some((AnalysisPhase::Error, because(result, what)));
    }
    // A metric that is judged needs time to get enough requests: while it goes on, too few say nothing.
    let inconclusive = match &metric.inconclusive_limit {
        None if is_judged(metric) => -1,
        given => limit(given.as_ref(), 0),
    };
    if beyond(result.inconclusive, inconclusive) {
        let count = result.inconclusive;
        let what = format!("inconclusive ({count}) > inconclusiveLimit ({inconclusive})");
        return Some((AnalysisPhase::Inconclusive, because(result, what)));
    }
    if beyond(result.failed, failures) {
        let count = result.failed;
        let what = format!("failed ({count}) > failureLimit ({failures})");
        return Some((AnalysisPhase::Failed, because(result, what)));
    }
    None
}

fn reached(metric: &Metric, result: &MetricResult) -> Option<End> {
    let in_a_row = limit(metric.consecutive_success_limit.as_ref(), 0);
    if in_a_row > 0 && result.consecutive_success >= in_a_row {
        return Some((AnalysisPhase::Successful, None));
    }
    if wanted(metric).is_none_or(|wanted| result.count < wanted) {
        return None;
    }
    let last = result.measurements.last().map(|m| m.phase);
    if is_judged(metric) && last == Some(AnalysisPhase::Inconclusive) {
        let what = "no verdict by the last measurement".to_owned();
        return Some((AnalysisPhase::Inconclusive, because(result, what)));
    }
    if in_a_row > 0 {
        let what = format!("consecutiveSuccess never reached consecutiveSuccessLimit ({in_a_row})");
        return Some((AnalysisPhase::Inconclusive, because(result, what)));
    }
    Some((AnalysisPhase::Successful, None))
}

/// Whether the metric is judged by evidence that adds up over its measurements, in the place of conditions.
pub(super) fn is_judged(metric: &Metric) -> bool {
    metric
        .provider
        .serin
        .as_ref()
        .is_some_and(|serin| serin.compare.is_some())
}

/// The sentence, with what the last measurement said.
fn because(result: &MetricResult, what: String) -> Option<String> {
    let last = result.measurements.last();
    let detail = last.and_then(|m: &Measurement| {
        let value = || m.value.clone().map(|value| format!("last value {value}"));
        m.message.clone().or_else(value)
    });
    Some(detail.map_or(what.clone(), |detail| format!("{what}: {detail}")))
}

/// The number of a limit; `default` when it is absent. [`problems`] has told of texts that are no number.
fn limit(value: Option<&IntOrString>, default: i32) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => text.trim().parse().unwrap_or(default),
        None => default,
    }
}

/// What is wrong with the numbers and times of a metric whose arguments are filled in.
pub(super) fn problems(metric: &Metric) -> Vec<String> {
    let numbers = [
        ("count", &metric.count, 0),
        ("failureLimit", &metric.failure_limit, -1),
        ("inconclusiveLimit", &metric.inconclusive_limit, -1),
        ("consecutiveErrorLimit", &metric.consecutive_error_limit, -1),
        (
            "consecutiveSuccessLimit",
            &metric.consecutive_success_limit,
            0,
        ),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, value, least)| {
        let number = match value.as_ref()? {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(text) => text.trim().parse().ok(),
        };
        let valid = number.is_some_and(|number| number >= least);
        (!valid).then(|| format!("{name} must be a number from {least}"))
    });
    let times = [
        ("interval", &metric.interval),
        ("initialDelay", &metric.initial_delay),
    ];
    let times = times.into_iter().filter_map(|(name, text)| {
        let text = text.as_deref()?;
        let valid = parse_duration_text(text).is_some();
        (!valid).then(|| format!("{name} {text:?} is no time such as 30s or 5m"))
    });
    numbers.chain(times).collect()
}
