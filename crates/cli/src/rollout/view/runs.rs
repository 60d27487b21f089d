//! The AnalysisRuns of a workload: which revision each is of, and what its metrics said last.

use jiff::{SignedDuration, Timestamp};
use serin_api::analysis::{AnalysisPhase, AnalysisRun, MetricResult};

use super::{RevisionNode, State, Tone, age};
use crate::rollout::objects::Objects;

/// Measurements of a metric that are shown.
const SHOWN_VALUES: usize = 3;
/// Digits of a value that are shown, from the first that is not 0.
const SHOWN_DIGITS: usize = 4;
/// From here on the whole part alone has as many digits.
const LEAST_WHOLE: f64 = 1000.0;

/// One AnalysisRun.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunNode {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) state: State,
    /// Why.
    pub(crate) message: Option<String>,
    /// How old it is.
    pub(crate) age: Option<SignedDuration>,
    /// Its metrics, in the order of the spec.
    pub(crate) metrics: Vec<MetricNode>,
}

/// One metric of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricNode {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) state: State,
    /// Measurements by outcome that are not 0: `3 ok`, `1 failed`.
    pub(crate) counts: String,
    /// The last values, newest last.
    pub(crate) values: Vec<String>,
    /// Why.
    pub(crate) message: Option<String>,
}

/// Puts each AnalysisRun of the workload under its revision; one of no known revision under the newest.
pub(super) fn attach(objects: &Objects, revisions: &mut [RevisionNode], now: Timestamp) {
    let mut runs: Vec<&AnalysisRun> = objects
        .analysis_runs
        .iter()
        .filter(|run| objects.workload.owns(&run.metadata))
        .collect();
    runs.sort_by(|a, b| {
        let key = |run: &AnalysisRun| run.metadata.creation_timestamp.as_ref().map(|at| at.0);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    for run in runs {
        let place = place(objects, revisions, run);
        if let Some(revision) = revisions.get_mut(place) {
            revision.runs.push(node(run, now));
        }
    }
}

fn place(objects: &Objects, revisions: &[RevisionNode], run: &AnalysisRun) -> usize {
    let hash = objects.hash_of(&run.metadata);
    let number = objects.revision_of(&run.metadata);
    revisions
        .iter()
        .position(|revision| {
            let by_hash = revision
                .sets
                .iter()
                .any(|set| Some(set.hash.as_str()) == hash);
            by_hash || (number.is_some() && revision.number == number)
        })
        .unwrap_or(0)
}

fn node(run: &AnalysisRun, now: Timestamp) -> RunNode {
    let status = run.status.clone().unwrap_or_default();
    RunNode {
        name: run.metadata.name.clone().unwrap_or_default(),
        state: state(status.phase),
        message: status.message.filter(|message| !message.is_empty()),
        age: age(run.metadata.creation_timestamp.as_ref(), now),
        metrics: status.metric_results.iter().map(metric).collect(),
    }
}

fn metric(result: &MetricResult) -> MetricNode {
    let counts = [
        (result.successful, "ok"),
        (result.failed, "failed"),
        (result.inconclusive, "inconclusive"),
        (result.error, "errors"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let values = result
        .measurements
        .iter()
        .filter_map(|m| m.value.as_deref());
    let values: Vec<String> = values.map(rounded).collect();
    let skipped = values.len().saturating_sub(SHOWN_VALUES);
    MetricNode {
        name: result.name.clone(),
        state: state(result.phase),
        counts: counts.join(", "),
        values: values.into_iter().skip(skipped).collect(),
        message: message(result),
    }
}

/// Why the metric stands where it does; while it goes on, why its last measurement is an error.
fn message(result: &MetricResult) -> Option<String> {
    let last = result.measurements.last();
    let of_error = last
        .filter(|measurement| measurement.phase == AnalysisPhase::Error)
        .and_then(|measurement| measurement.message.as_ref());
    [result.message.as_ref(), of_error]
        .into_iter()
        .flatten()
        .find(|message| !message.is_empty())
        .cloned()
}

/// A number with a fraction to [`SHOWN_DIGITS`] digits, its whole part untouched; any other text as it is.
fn rounded(value: &str) -> String {
    let number = value
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && n.fract() != 0.0);
    let Some(number) = number else {
        return value.to_owned();
    };
    if number.abs() >= LEAST_WHOLE {
        return format!("{number:.0}");
    }
    let short = format!("{number:.*e}", SHOWN_DIGITS - 1);
    short
        .parse::<f64>()
        .map_or_else(|_| value.to_owned(), |number| number.to_string())
}

fn state(phase: AnalysisPhase) -> State {
    let (tone, word) = match phase {
        AnalysisPhase::Pending => (Tone::Quiet, "Pending"),
        AnalysisPhase::Running => (Tone::Busy, "Running"),
        AnalysisPhase::Successful => (Tone::Good, "Successful"),
        AnalysisPhase::Failed => (Tone::Bad, "Failed"),
        AnalysisPhase::Error => (Tone::Bad, "Error"),
        AnalysisPhase::Inconclusive => (Tone::Waiting, "Inconclusive"),
    };
    State::new(tone, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_have_four_digits() {
        for (value, shown) in [
            ("0.9876543", "0.9877"),
            ("0.000123456", "0.0001235"),
            ("-12.3456", "-12.35"),
            ("123456.7", "123457"),
            ("123456", "123456"),
            ("1", "1"),
            ("0.5", "0.5"),
            ("[0.12345]", "[0.12345]"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(rounded(value), shown, "{value}");
        }
    }

    #[test]
    fn a_metric_with_errors_says_the_last() {
        let node = |message: &str, last: &str| {
            let result = json!({"name": "m", "phase": "Running", "message": message, "measurements": [
                {"phase": "Error", "message": "first"}, {"phase": last, "message": "refused"}]});
            metric(&serde_json::from_value(result).unwrap()).message
        };
        assert_eq!(node("", "Error").as_deref(), Some("refused"));
        assert_eq!(node("too many", "Error").as_deref(), Some("too many"));
        assert_eq!(node("", "Successful"), None);
    }
}
