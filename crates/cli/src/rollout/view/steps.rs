//! The steps of a canary: their words, which are done, and the share of the requests that they ask for.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::rollout::{BatchesStatus, CanaryStep, Rollout, RolloutPhase, SetCanaryScale};
use serin_api::units::{human_duration, parse_duration};

use super::as_rollout;
use crate::rollout::objects::Workload;

/// The steps and how far they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Steps that are done.
    pub(crate) done: usize,
    /// All steps, in order.
    pub(crate) lines: Vec<StepLine>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepLine {
    /// How far it is.
    pub(crate) mark: Mark,
    /// What it does.
    pub(crate) text: String,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Done, or skipped.
    Done,
    /// Under way.
    Current,
    /// Under way, and waiting for a person or for time.
    Paused,
    /// To come.
    Ahead,
}

/// The steps of a workload; `None` when it has none.
pub(super) fn steps(workload: &Workload) -> Option<Steps> {
    let rollout = as_rollout(workload)?;
    let canary = rollout.spec.strategy.canary.as_ref()?;
    let texts = if canary.steps.is_empty() {
        batches(rollout)
    } else {
        canary.steps.iter().map(text).collect()
    };
    if texts.is_empty() {
        return None;
    }
    let done = done(rollout, texts.len());
    let phase = rollout.status.as_ref().and_then(|status| status.phase);
    let lines = texts.into_iter().enumerate();
    let lines = lines.map(|(place, text)| StepLine {
        mark: mark(place, done, phase),
        text,
    });
    Some(Steps {
        done,
        lines: lines.collect(),
    })
}

/// The batches that a policy makes of a release without steps, each a step.
fn batches(rollout: &Rollout) -> Vec<String> {
    // More than any release shows on a screen; the status comes from outside.
    const MOST: i32 = 10_000;
    let replicas = rollout.spec.replicas.unwrap_or(1);
    let status = rollout.status.as_ref();
    let told = status.and_then(|status| status.canary.batches.clone());
    let BatchesStatus { count, size } = told.unwrap_or_default();
    let lines = (1..=count.min(MOST)).map(|number| {
        let new = number.saturating_mul(size).min(replicas);
        format!("batch {number}/{count}: {new} of {replicas} instances are new")
    });
    lines.collect()
}

fn mark(place: usize, done: usize, phase: Option<RolloutPhase>) -> Mark {
    match place.cmp(&done) {
        std::cmp::Ordering::Less => Mark::Done,
        // After an abort the first step is where a retry begins, and before a first look nothing has begun.
        std::cmp::Ordering::Equal if matches!(phase, None | Some(RolloutPhase::Degraded)) => {
            Mark::Ahead
        }
        std::cmp::Ordering::Equal if phase == Some(RolloutPhase::Paused) => Mark::Paused,
        std::cmp::Ordering::Equal => Mark::Current,
        std::cmp::Ordering::Greater => Mark::Ahead,
    }
}

/// The steps that are done; the status may name one beyond the last.
fn done(rollout: &Rollout, steps: usize) -> usize {
    rollout
        .status
        .as_ref()
        .and_then(|status| status.current_step_index)
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or(0)
        .min(steps)
}

/// The share of the canary that the steps up to now ask for; `None` when no update is on its way.
pub(super) fn asked_weight(rollout: &Rollout) -> Option<i32> {
    let status = rollout.status.as_ref()?;
    let steps = &rollout.spec.strategy.canary.as_ref()?.steps;
    let trial = status.stable_rs.is_some() && status.current_pod_hash != status.stable_rs;
    if !trial {
        return None;
    }
    if status.abort {
        return Some(0);
    }
    let done = done(rollout, steps.len());
    if done == steps.len() || status.promote_full {
        return Some(100);
    }
    let begun = steps.iter().take(done + 1);
    Some(
        begun
            .filter_map(|step| step.set_weight)
            .next_back()
            .unwrap_or(0),
    )
}

/// A step in the words of its manifest.
fn text(step: &CanaryStep) -> String {
    let mut parts = Vec::new();
    if let Some(weight) = step.set_weight {
        parts.push(format!("setWeight {weight}"));
    }
    if let Some(pause) = &step.pause {
        parts.push(match &pause.duration {
            Some(duration) => format!("pause {}", duration_text(duration)),
            None => "pause until promoted".to_owned(),
        });
    }
    if let Some(scale) = &step.set_canary_scale {
        parts.push(scale_text(scale));
    }
    if let Some(route) = &step.set_header_route {
        parts.push(format!("setHeaderRoute {}", route.name));
    }
    if let Some(route) = &step.set_mirror_route {
        parts.push(format!("setMirrorRoute {}", route.name));
    }
    if let Some(analysis) = &step.analysis {
        let names: Vec<&str> = analysis
            .templates
            .iter()
            .map(|template| template.template_name.as_str())
            .collect();
        parts.push(format!("analysis {}", names.join(", ")));
    }
    if step.experiment.is_some() {
        parts.push("experiment".to_owned());
    }
    if step.plugin.is_some() {
        parts.push("plugin".to_owned());
    }
    parts.join(" + ")
}

fn scale_text(scale: &SetCanaryScale) -> String {
    match (scale.replicas, scale.weight) {
        (Some(replicas), _) => format!("setCanaryScale {replicas} instances"),
        (None, Some(weight)) => format!("setCanaryScale {weight} % of the instances"),
        (None, None) => "setCanaryScale as the traffic".to_owned(),
    }
}

fn duration_text(duration: &IntOrString) -> String {
    match (parse_duration(duration), duration) {
        (Some(duration), _) => human_duration(duration),
        (None, IntOrString::Int(seconds)) => seconds.to_string(),
        (None, IntOrString::String(text)) => text.clone(),
    }
}
