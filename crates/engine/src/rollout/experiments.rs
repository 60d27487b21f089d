//! Experiments of a release: started by a step, followed, ended, forgotten.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serin_api::analysis::AnalysisPhase;
use serin_api::experiment::{ExperimentAnalysis, ExperimentSpec, ExperimentTemplate};
use serin_api::keys::label;
use serin_api::rollout::{ExperimentStep, ExperimentStepTemplate, PauseReason};
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
            service: step.service.clone(),
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
        let mut finished: Vec<_> = observed
            .experiments
            .iter()
            .filter(|e| e.phase.is_completed() && e.revision != self.current)
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
}
