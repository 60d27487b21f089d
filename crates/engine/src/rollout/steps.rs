//! The steps of a canary: what they ask for, and whether one is done.

use serin_api::rollout::{
    Batch, Canary, CanaryScale, ManagedAction, ManagedRule, PauseReason, Step, Strategy,
};
use serin_api::units::{Weight, human_duration};

use super::analyses::Outcome;
use super::observed::Role;
use super::planner::Planner;

/// What a canary is to have at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// Its share of the requests.
    pub(super) weight: Weight,
    /// Its instances.
    pub(super) instances: u32,
    /// The rules before the others of a route, the first first.
    pub(super) managed: Vec<ManagedRule>,
}

impl<'a> Planner<'a> {
    pub(super) fn steps(&self) -> &'a [Step] {
        match &self.desired.strategy {
            Strategy::Canary(Canary { steps, .. }) => steps,
            Strategy::BlueGreen(_) => &[],
        }
    }

    /// The step that is carried out; as many as there are steps when all are done or skipped.
    pub(super) fn step_index(&self) -> usize {
        usize::try_from(self.next.current_step_index.unwrap_or(0)).unwrap_or(0)
    }

    /// What the canary is to have at a step: each step says one thing of it, and what earlier ones said holds.
    pub(super) fn targets_at(&self, canary: &Canary, index: usize) -> Targets {
        let replicas = self.desired.replicas;
        if index >= canary.steps.len() {
            return Targets {
                weight: Weight::FULL,
                instances: replicas,
                managed: Vec::new(),
            };
        }
        let mut weight = Weight::ZERO;
        let mut scale = CanaryScale::MatchTraffic;
        let mut rules: Vec<(&str, &ManagedAction)> = Vec::new();
        for part in canary.steps.iter().take(index + 1).flat_map(Step::parts) {
            match part {
                Step::SetWeight(to) => weight = *to,
                Step::SetCanaryScale(to) => scale = *to,
                Step::SetRoute { name, rule } => {
                    rules.retain(|(known, _)| known != name);
                    rules.extend(rule.iter().map(|rule| (name.as_str(), rule)));
                }
                Step::Batch(_)
                | Step::Pause(_)
                | Step::Analysis(_)
                | Step::Experiment(_)
                | Step::Mixed(_) => {}
            }
        }
        let instances = match scale {
            CanaryScale::Replicas(count) => count,
            CanaryScale::Weight(share) => share.of_replicas(replicas),
            CanaryScale::MatchTraffic => canary.at_least_min_pods(weight.of_replicas(replicas)),
        };
        let ordered = canary.managed_routes.iter().filter_map(|name| {
            let (_, action) = rules.iter().find(|(known, _)| known == name)?;
            Some(ManagedRule {
                name: name.clone(),
                action: (*action).clone(),
            })
        });
        let managed: Vec<_> = ordered.collect();
        // Whoever gets requests, by a share or by a header, or copies of them, has somebody to answer, whatever the scale.
        let asked_for = weight > Weight::ZERO || !managed.is_empty();
        let least = u32::from(asked_for && replicas > 0);
        Targets {
            weight,
            instances: instances.max(least),
            managed,
        }
    }

    /// Carries out a step, whose instances and routes are as it wants when `settled`; the parts of a mixed one in their order.
    pub(super) fn carry_out_step(&mut self, canary: &Canary, index: usize, settled: bool) {
        let Some(step) = canary.steps.get(index) else {
            return;
        };
        let mut parts = step.parts().iter();
        if parts.all(|part| self.is_done(part, index, settled)) {
            self.advance(index);
        }
    }

    fn is_done(&mut self, part: &Step, index: usize, settled: bool) -> bool {
        match part {
            Step::Batch(_)
            | Step::SetWeight(_)
            | Step::SetCanaryScale(_)
            | Step::SetRoute { .. } => settled,
            Step::Pause(duration) => self.pause(PauseReason::CanaryPauseStep, *duration),
            Step::Experiment(experiment) => self.experiment(index, experiment) == Outcome::Passed,
            Step::Analysis(analysis) => {
                self.analyse(Role::Step(index), analysis) == Outcome::Passed
            }
            Step::Mixed(_) => true,
        }
    }

    /// Goes on to the next step.
    fn advance(&mut self, index: usize) {
        let steps = self.steps();
        if self.next.controller_pause {
            self.end_pause();
        }
        self.next.current_step_index = i32::try_from(index + 1).ok();
        self.next.canary.current_step_analysis_run_status = None;
        self.next.canary.current_experiment = None;
        let what = steps.get(index).map(step_name).unwrap_or_default();
        self.note(
            false,
            "RolloutStepCompleted",
            format!("step {}/{} ({what}) is done", index + 1, steps.len()),
        );
        self.wake(self.now);
    }
}

/// What a step does, in few words.
pub(super) fn step_name(step: &Step) -> String {
    match step {
        Step::SetWeight(weight) => format!("set weight {weight}"),
        Step::Batch(Batch {
            number,
            of,
            instances,
        }) => format!("batch {number} of {of}: {instances} new instances"),
        Step::Pause(None) => "pause".to_owned(),
        Step::Pause(Some(duration)) => format!("pause {}", human_duration(*duration)),
        Step::SetCanaryScale(_) => "set canary scale".to_owned(),
        Step::Experiment(_) => "experiment".to_owned(),
        Step::Analysis(_) => "analysis".to_owned(),
        Step::SetRoute {
            name,
            rule: Some(ManagedAction::Header(_)),
        } => format!("set header route {name}"),
        Step::SetRoute {
            name,
            rule: Some(ManagedAction::Mirror { .. }),
        } => format!("set mirror route {name}"),
        Step::SetRoute { name, rule: None } => format!("take route {name} away"),
        Step::Mixed(parts) => {
            let names: Vec<_> = parts.iter().map(step_name).collect();
            names.join(", ")
        }
    }
}
