//! The AnalysisRuns of a workload: which revision each is of, and what its metrics said last.

use jiff::{SignedDuration, Timestamp};
use serin_api::analysis::{AnalysisPhase, AnalysisRun, MetricResult};

use super::{RevisionNode, State, Tone, age};
use crate::rollout::objects::Objects;

/// Measurements of a metric that are shown.
const SHOWN_VALUES: usize = 3;

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
    let values = result.measurements.iter().filter_map(|m| m.value.clone());
    let values: Vec<String> = values.collect();
    let skipped = values.len().saturating_sub(SHOWN_VALUES);
    MetricNode {
        name: result.name.clone(),
        state: state(result.phase),
        counts: counts.join(", "),
        values: values.into_iter().skip(skipped).collect(),
        message: result.message.clone().filter(|message| !message.is_empty()),
    }
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
