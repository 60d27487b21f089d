//! What a release will do, before anything is done: the planner runs against a small model in which instances start at once,
//! the data plane serves what is set, every analysis and experiment is good as soon as it can be, and somebody says yes
//! wherever a person is asked.
//!
//! Absent on purpose: decisions of its own. What the model is told to do is what a cluster would be told.

mod lockstep;
mod model;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::rollout::{Desired, RolloutSpec, RolloutStatus, Strategy};
use serin_api::waiting::WaitingOn;

use super::batches::batched;
use super::steps::step_name;
use super::{Governed, desired, plan_for};
use crate::analysis::TemplateSource;
pub use lockstep::{InGroup, in_step};
use model::Model;

/// More passes than any release takes.
const MOST_PASSES: u32 = 100_000;

/// What is known before a release.
#[derive(Clone, Debug)]
pub struct Outset<'a> {
    /// The name of the Rollout.
    pub name: &'a str,
    /// The template of the revision that the users are on; `None` for the very first release.
    pub stable: Option<PodTemplateSpec>,
    /// The spec that is wanted.
    pub wanted: &'a RolloutSpec,
    /// The Rollout that is wanted as JSON, for arguments of analyses that name a field.
    pub object: Value,
    /// What governs it.
    pub governed: Governed,
    /// The AnalysisTemplates that exist.
    pub templates: TemplateSource,
    /// When it would begin.
    pub now: Timestamp,
}

/// A release, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Its stages, in order; none when the users are on what is wanted already.
    pub stages: Vec<Stage>,
    /// The shortest time until it is complete: waits and analyses, without the start of instances and the answers of people.
    pub shortest: SignedDuration,
    /// How often a person is asked.
    pub persons: usize,
    /// Instances above `replicas` at most.
    pub most_extra: u32,
}

/// One stage of a release: a step of a canary, or what comes before and after the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The step, from 1; `None` without steps and after the last one.
    pub step: Option<usize>,
    /// What is done.
    pub what: String,
    /// When it begins, from the start.
    pub begins: SignedDuration,
    /// Instances of older revisions at its end.
    pub old: u32,
    /// Instances of the new revision at its end.
    pub new: u32,
    /// The share of the requests that the new revision has at its end, in percent.
    pub share_percent: u32,
    /// Instances above `replicas` at most in it.
    pub extra: u32,
    /// What it waits for, in order.
    pub waits: Vec<Wait>,
}

/// One wait of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub what: String,
    /// For how long at least; `None` when a person decides.
    pub lasts: Option<SignedDuration>,
}

/// Foretells a release.
///
/// # Errors
/// Why it cannot be carried out: each problem of the spec and of the templates that it names, or what it would wait for
/// without end.
pub fn forecast(outset: &Outset<'_>) -> Result<Forecast, Vec<String>> {
    let mut wanted = desired(outset.wanted, &RolloutStatus::default())?;
    let mut course = Course {
        model: Model::new(outset, &wanted),
        first: outset.stable.is_none(),
        start: outset.now,
        stages: Vec::new(),
    };
    if let Some(stable) = outset.stable.clone() {
        // The users are on the old revision: how they came there does not matter.
        let mut settled = outset.wanted.clone();
        settled.template = Some(stable);
        settled.paused = None;
        course.release(&settled, &mut desired(&settled, &RolloutStatus::default())?)?;
    }
    course.begin(outset);
    course.release(outset.wanted, &mut wanted)?;
    Ok(course.told())
}

/// A release under way in the model.
struct Course {
    model: Model,
    /// Whether there is no older revision.
    first: bool,
    start: Timestamp,
    stages: Vec<Stage>,
}

impl Course {
    /// From here on what happens is told.
    fn begin(&mut self, outset: &Outset<'_>) {
        self.model.now = outset.now;
        self.model.governed = outset.governed.clone();
        self.stages.clear();
    }

    /// Lets the planner work until the users are on what the spec wants.
    fn release(&mut self, spec: &RolloutSpec, desired: &mut Desired) -> Result<(), Vec<String>> {
        self.model.wanted(spec);
        for _ in 0..MOST_PASSES {
            desired.take_turns(self.model.status.canary.stable_ping_pong.as_deref());
            let next = plan_for(desired, &self.model.observe(), self.model.now);
            if let WaitingOn::ValidSpec { problems } = next.waiting_on {
                return Err(vec![problems]);
            }
            let before = std::mem::replace(&mut self.model.status, next.status);
            for action in &next.actions {
                self.model.apply(action);
            }
            let rests = matches!(
                next.waiting_on,
                WaitingOn::Nothing | WaitingOn::ScaleDown { .. }
            );
            let status = &self.model.status;
            if before.canary.stable_ping_pong != status.canary.stable_ping_pong {
                self.model.swap_sides();
            }
            self.note(desired, &before);
            let status = &self.model.status;
            let done = status.stable_rs.is_some() && status.current_pod_hash == status.stable_rs;
            if next.actions.is_empty() && done && rests {
                return Ok(());
            }
            let moved = !next.actions.is_empty() || before != self.model.status;
            if self.wait_out(desired, &next.waiting_on) || moved {
                continue;
            }
            match next.wake_at.filter(|at| *at > self.model.now) {
                Some(at) => self.model.now = at,
                None => return Err(vec![format!("it would wait for {}", next.waiting_on)]),
            }
        }
        Err(vec![format!("it takes more than {MOST_PASSES} changes")])
    }

    /// Notes what the model looks like after a pass. The pass that goes on to another step is the end of the one before.
    fn note(&mut self, desired: &Desired, before: &RolloutStatus) {
        if self.model.status.current_pod_hash == before.stable_rs && self.stages.is_empty() {
            return;
        }
        let (old, new) = self.model.counts();
        let share_percent = self.model.share_percent(desired);
        let extra = old.saturating_add(new).saturating_sub(desired.replicas);
        let (step, what) = self.stage_of(desired, share_percent);
        let same = |stage: &Stage| stage.step == step && stage.what == what;
        if let Some(stage) = self.stages.last_mut() {
            stage.extra = stage.extra.max(extra);
            // A switch is what ends a preview, and no part of it.
            if stage.step != step || same(stage) {
                (stage.old, stage.new, stage.share_percent) = (old, new, share_percent);
            }
        }
        if !self.stages.last().is_some_and(same) {
            self.stages.push(Stage {
                step,
                what,
                begins: self.model.now.duration_since(self.start),
                old,
                new,
                share_percent,
                extra,
                waits: Vec::new(),
            });
        }
    }

    fn stage_of(&self, desired: &Desired, share_percent: u32) -> (Option<usize>, String) {
        let batches = self.model.governed.policy.batches.as_ref();
        let desired = &*batched(desired, batches);
        let steps = match &desired.strategy {
            Strategy::Canary(canary) => canary.steps.as_slice(),
            Strategy::BlueGreen(_) => &[],
        };
        let index = self.model.status.current_step_index;
        let index = index.and_then(|i| usize::try_from(i).ok());
        if let Some((index, step)) = index.and_then(|i| Some((i, steps.get(i)?))) {
            return (Some(index + 1), step_name(step));
        }
        let what = match &desired.strategy {
            _ if self.first => "first release",
            Strategy::BlueGreen(_) if share_percent == 0 => "preview",
            Strategy::BlueGreen(_) => "switch",
            Strategy::Canary(_) => "promotion",
        };
        (None, what.to_owned())
    }

    /// Lets the time or the person come that is waited for. `false` when nothing can come.
    fn wait_out(&mut self, desired: &mut Desired, waiting: &WaitingOn) -> bool {
        let now = self.model.now;
        let (what, lasts) = match waiting {
            WaitingOn::Pause { until } => ("a pause".to_owned(), Some(until.duration_since(now))),
            WaitingOn::Bake { until } => ("the bake".to_owned(), Some(until.duration_since(now))),
            WaitingOn::Freeze { window, until } => {
                let what = format!("the end of the freeze {window:?}");
                (what, Some(until.duration_since(now)))
            }
            WaitingOn::Analysis { name } => match self.model.finish_run(name) {
                Some(lasts) => ("an analysis".to_owned(), Some(lasts)),
                None => return false,
            },
            WaitingOn::Experiment { name } => match self.model.finish_experiment(name) {
                Some(lasts) => ("an experiment".to_owned(), Some(lasts)),
                None => return false,
            },
            WaitingOn::Decision { why } => {
                self.model.status.pause_conditions = None;
                (why.clone(), None)
            }
            WaitingOn::Gate { name } => {
                self.model.approve(name);
                match self.model.asked_at(name) {
                    // How long it takes to say yes, nobody knows; no person is asked.
                    Some(url) => (
                        format!("gate {name:?}, at {url}"),
                        Some(SignedDuration::ZERO),
                    ),
                    None => (format!("gate {name:?}"), None),
                }
            }
            WaitingOn::Paused => {
                desired.paused = false;
                ("spec.paused".to_owned(), None)
            }
            _ => return false,
        };
        if let Some(stage) = self.stages.last_mut() {
            stage.waits.push(Wait { what, lasts });
        }
        let lasts = lasts.unwrap_or_default().max(SignedDuration::ZERO);
        self.model.now = now.checked_add(lasts).unwrap_or(now);
        true
    }

    fn told(self) -> Forecast {
        let waits = self.stages.iter().flat_map(|stage| &stage.waits);
        Forecast {
            shortest: self.model.now.duration_since(self.start),
            persons: waits.filter(|wait| wait.lasts.is_none()).count(),
            most_extra: self.stages.iter().map(|s| s.extra).max().unwrap_or(0),
            stages: self.stages,
        }
    }
}
