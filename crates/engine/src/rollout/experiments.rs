//! Experiments of a release: started by a step, followed, ended, forgotten.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serin_api::analysis::AnalysisPhase;
use serin_api::experiment::{
    ExperimentAnalysis, ExperimentService, ExperimentSpec, ExperimentTemplate,
};
use serin_api::keys::label;
use serin_api::rollout::{Canary, ExperimentStep, ExperimentStepTemplate, PauseReason, Step};
use serin_api::units::Weight;
use serin_api::waiting::WaitingOn;

use super::Action;
use super::analyses::Outcome;
use super::observed::ExperimentView;
use super::planner::Planner;
use crate::analysis::{Origin, arguments};

impl Planner<'_> {
    /// Carries out an experiment that must be good before anything goes on.
    pub(super) fn experiment(&mut self, index: usize, step: &ExperimentStep) -> Outcome {
        let Some(seen) = self.current_experiment(index, step) else {
            return Outcome::Waiting;
        };
        let name = seen.name.clone();
        self.outcome(
            seen.phase,
            PauseReason::InconclusiveExperiment,
            WaitingOn::Experiment { name },
            |planner| {
                let why = seen.message.as_deref().unwrap_or("no reason given");
                planner.abort(&format!(
                    "experiment {} is {:?}: {why}",
                    seen.name, seen.phase
                ));
            },
            |planner| planner.next.canary.current_experiment = None,
        )
    }

    /// The shares that the running experiment of the present step asks for, by the Services of its versions; none of them when
    /// together they are more than `left`.
    pub(super) fn experiment_shares(&self, canary: &Canary, left: Weight) -> Vec<(String, Weight)> {
        let step = canary.steps.get(self.step_index());
        let parts = step.into_iter().flat_map(Step::parts);
        let mut experiments = parts.filter_map(|part| match part {
            Step::Experiment(experiment) => Some(experiment),
            _ => None,
        });
        let named = self.next.canary.current_experiment.as_deref();
        let mut seen = self.observed.experiments.iter();
        let seen = seen.find(|e| Some(e.name.as_str()) == named);
        let running = |e: &&ExperimentView| e.phase == AnalysisPhase::Running && !e.terminating;
        let (Some(step), Some(seen)) = (experiments.next(), seen.filter(running)) else {
            return Vec::new();
        };
        let shares = step.templates.iter().filter_map(|version| {
            let share = canary.share_of_parts(version.weight?);
            let service = seen.services.get(&version.name)?.clone();
            (share > Weight::ZERO).then_some((service, share))
        });
        let mut shares: Vec<_> = shares.collect();
        shares.sort();
        let asked: u32 = shares.iter().map(|(_, s)| u32::from(s.percent())).sum();
        if asked > u32::from(left.percent()) {
            return Vec::new();
        }
        shares
    }

    /// The experiment of a step as it is seen; started when there is none. `None` while it is not seen yet.
    fn current_experiment(
        &mut self,
        index: usize,
        step: &ExperimentStep,
    ) -> Option<ExperimentView> {
        let base = self.experiment_name(index);
        let ours = |name: &str| {
            let rest = name.strip_prefix(&base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mine: Vec<_> = self
            .observed
            .experiments
            .iter()
            .filter(|e| ours(&e.name))
            .collect();
        let going = |e: &&&ExperimentView| !e.phase.is_completed() && !e.terminating;
        let known = self.next.canary.current_experiment.clone();
        let name = match (known.filter(|n| ours(n)), mine.iter().find(going)) {
            (Some(known), _) => known,
            (None, Some(unfinished)) => unfinished.name.clone(),
            (None, None) if mine.is_empty() => base.clone(),
            (None, None) => format!("{base}.{}", mine.len() + 1),
        };
        self.next.canary.current_experiment = Some(name.clone());
        if let Some(seen) = mine.iter().find(|e| e.name == name) {
            return Some((*seen).clone());
        }
        self.wait(WaitingOn::Experiment { name: name.clone() });
        match self.experiment_spec(step) {
            Ok(spec) => self.actions.push(Action::StartExperiment {
                name,
                revision: self.current.clone(),
                in_routes: step.templates.iter().any(has_share),
                spec: Box::new(spec),
            }),
            Err(problems) => {
                self.waiting = WaitingOn::ValidSpec {
                    problems: problems.join("; "),
                };
            }
        }
        None
    }

    /// `web-5d8f-2-1`: the Rollout, the revision and its number, and the step.
    fn experiment_name(&self, index: usize) -> String {
        let number = self.revision().map_or(0, |r| r.number);
        format!("{}-{}-{number}-{index}", self.observed.name, self.current)
    }

    fn experiment_spec(&self, step: &ExperimentStep) -> Result<ExperimentSpec, Vec<String>> {
        let origin = Origin {
            stable: self
                .stable()
                .map(|s| s.as_str().to_owned())
                .unwrap_or_default(),
            latest: self.current.as_str().to_owned(),
            object: self.observed.object.clone(),
        };
        let mut problems = Vec::new();
        let analyses = step.analyses.iter().map(|analysis| ExperimentAnalysis {
            name: analysis.name.clone(),
            template_name: analysis.template_name.clone(),
            cluster_scope: analysis.cluster_scope,
            args: arguments(&analysis.args, &origin, &mut problems),
            required_for_completion: analysis.required_for_completion,
        });
        let analyses = analyses.collect();
        let spec = ExperimentSpec {
            templates: step
                .templates
                .iter()
                .map(|template| self.version(template))
                .collect(),
            duration: step.duration.clone(),
            progress_deadline_seconds: self
                .desired
                .progress_deadline
                .and_then(|d| i32::try_from(d.as_secs()).ok()),
            analyses,
            scale_down_delay_seconds: step.scale_down_delay_seconds,
            dry_run: step.dry_run.clone(),
            analysis_run_metadata: step.analysis_run_metadata.clone(),
            ..ExperimentSpec::default()
        };
        let unreachable = step.templates.iter().zip(&spec.templates);
        let unreachable = unreachable
            .filter(|(version, made)| has_share(version) && !names_a_port(&made.template));
        problems.extend(unreachable.map(|(version, _)| {
            let name = &version.name;
            format!("version {name:?} gets a share of the requests, but no container names a port")
        }));
        if problems.is_empty() {
            Ok(spec)
        } else {
            Err(problems)
        }
    }

    /// One version of an experiment, from the template of the revision that it names.
    fn version(&self, step: &ExperimentStepTemplate) -> ExperimentTemplate {
        let mut template = if step.spec_ref == "stable" {
            let stable = self.stable().and_then(|s| self.observed.revision(&s));
            stable.map_or_else(PodTemplateSpec::default, |r| (*r.template).clone())
        } else {
            self.desired.template.clone()
        };
        let metadata = template.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.remove(label::ROLLOUT_POD_TEMPLATE_HASH);
        if let Some(more) = &step.metadata {
            labels.extend(more.labels.clone());
            let annotations = metadata.annotations.get_or_insert_default();
            annotations.extend(more.annotations.clone());
        }
        ExperimentTemplate {
            name: step.name.clone(),
            replicas: step.replicas,
            min_ready_seconds: i32::try_from(self.desired.min_ready.as_secs()).ok(),
            selector: step
                .selector
                .clone()
                .unwrap_or_else(|| self.desired.selector.clone()),
            template,
            service: step
                .service
                .clone()
                .or_else(|| has_share(step).then(ExperimentService::default)),
        }
    }

    /// Ends every experiment that nobody waits for, and forgets old ones beyond what is kept of analyses.
    pub(super) fn clean_up_experiments(&mut self) {
        let over = self.next.abort || self.stable().as_ref() == Some(&self.current);
        let wanted = self.next.canary.current_experiment.clone();
        let wanted = wanted.filter(|_| !over);
        if over {
            self.next.canary.current_experiment = None;
        }
        let observed = self.observed;
        let idle = observed.experiments.iter().filter(|e| {
            !e.phase.is_completed() && !e.terminating && Some(&e.name) != wanted.as_ref()
        });
        let stops = idle.map(|e| Action::StopExperiment {
            name: e.name.clone(),
        });
        self.actions.extend(stops);
        self.release_experiments();
        let mut finished: Vec<_> = observed
            .experiments
            .iter()
            .filter(|e| e.phase.is_completed() && !e.in_routes && e.revision != self.current)
            .collect();
        finished.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
        let good = |e: &&ExperimentView| e.phase == AnalysisPhase::Successful;
        let (good, bad): (Vec<_>, Vec<_>) = finished.into_iter().partition(good);
        let (keep_good, keep_bad) = self.desired.analysis_history;
        let surplus = good.into_iter().skip(keep_good);
        let surplus = surplus.chain(bad.into_iter().skip(keep_bad));
        let deletes: Vec<_> = surplus
            .map(|e| Action::DeleteExperiment {
                name: e.name.clone(),
            })
            .collect();
        self.actions.extend(deletes);
    }

    /// Versions of experiments that are over go when no route leads to them any more.
    fn release_experiments(&mut self) {
        let observed = self.observed;
        let leads_to = |experiment: &ExperimentView| {
            let services = &experiment.services;
            let mut routes = observed.routes.values();
            routes.any(|route| {
                let mut named = route.additional.iter();
                !route.acknowledged || named.any(|(name, _)| services.values().any(|s| s == name))
            })
        };
        let free = observed.experiments.iter();
        let free = free.filter(|e| e.in_routes && e.phase.is_completed() && !leads_to(e));
        let releases = free.map(|e| Action::ReleaseExperiment {
            name: e.name.clone(),
        });
        self.actions.extend(releases);
    }
}

/// Whether a version of an experiment gets requests of users.
fn has_share(version: &ExperimentStepTemplate) -> bool {
    version.weight.is_some_and(|weight| weight > 0)
}

fn names_a_port(template: &PodTemplateSpec) -> bool {
    let containers = template.spec.iter().flat_map(|pod| &pod.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.next().is_some()
}
