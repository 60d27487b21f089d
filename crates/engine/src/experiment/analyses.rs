//! The analyses of an experiment: each an AnalysisRun over all versions.

use serin_api::analysis::{AnalysisPhase, AnalysisRunSpec, Argument, TemplateRef};
use serin_api::experiment::{ExperimentAnalysis, ExperimentRunStatus};
use serin_api::rollout::AnalysisRef;
use serin_api::units::parse_duration_text;

use super::{Action, Planner, Seen, run_name, set_name};
use crate::analysis::{Origin, instantiate};

impl Planner<'_> {
    /// Starts the analyses once all versions are available, and tells where each stands.
    pub(super) fn run_analyses(&mut self) {
        let analyses = self.spec.analyses.iter();
        let told: Vec<_> = analyses.filter_map(|a| self.run_analysis(a)).collect();
        self.next.analysis_runs = told;
    }

    fn run_analysis(&mut self, analysis: &ExperimentAnalysis) -> Option<ExperimentRunStatus> {
        let name = run_name(&self.observed.name, &analysis.name);
        let before = self.run_status(&analysis.name).cloned();
        if before.as_ref().is_some_and(|b| b.phase.is_completed()) {
            return before;
        }
        let told = |phase, message| ExperimentRunStatus {
            name: analysis.name.clone(),
            analysis_run: name.clone(),
            phase,
            message,
        };
        match self.observed.runs.get(&name) {
            Some(Seen::Ours(run)) => Some(told(run.phase, run.message.clone())),
            _ if self.has_ended() => before,
            Some(Seen::Foreign) => {
                let why = format!("AnalysisRun {name:?} is somebody else's");
                Some(told(AnalysisPhase::Error, Some(why)))
            }
            None if before.is_some_and(|b| !b.analysis_run.is_empty()) => {
                let why = format!("AnalysisRun {name:?} was deleted");
                Some(told(AnalysisPhase::Error, Some(why)))
            }
            None => self.begin(analysis, name),
        }
    }

    /// Begins an analysis; before all versions are available it is only looked at, so that what cannot begin is told at once.
    fn begin(
        &mut self,
        analysis: &ExperimentAnalysis,
        name: String,
    ) -> Option<ExperimentRunStatus> {
        let ready = self.next.available_at.is_some();
        let mut status = ExperimentRunStatus {
            name: analysis.name.clone(),
            ..ExperimentRunStatus::default()
        };
        match self.analysis_spec(analysis) {
            Err(problems) => {
                status.phase = AnalysisPhase::Error;
                status.message = Some(problems.join("; "));
                Some(status)
            }
            Ok(spec) if ready && self.spec.terminate != Some(true) => {
                status.analysis_run.clone_from(&name);
                self.actions.push(Action::StartRun {
                    name,
                    spec: Box::new(spec),
                });
                Some(status)
            }
            Ok(_) => None,
        }
    }

    fn analysis_spec(&self, analysis: &ExperimentAnalysis) -> Result<AnalysisRunSpec, Vec<String>> {
        let args = analysis.args.iter().map(|argument| Argument {
            value: argument.value.as_deref().map(|text| self.filled_in(text)),
            ..argument.clone()
        });
        let wanted = AnalysisRef {
            templates: vec![TemplateRef {
                template_name: analysis.template_name.clone(),
                cluster_scope: analysis.cluster_scope,
            }],
            args: args.collect(),
            dry_run: self.spec.dry_run.clone(),
            retention: self.spec.measurement_retention.clone(),
        };
        instantiate(&wanted, &self.observed.templates, &Origin::default())
    }

    /// The value of an argument, with what it says of the experiment filled in: `{{templates.NAME.podTemplateHash}}`,
    /// `{{templates.NAME.replicaset.name}}`, `{{experiment.name}}`, `{{experiment.availableAt}}` and `{{experiment.finishedAt}}`.
    fn filled_in(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((inside, after)) = after.split_once("}}") else {
                break;
            };
            out.push_str(before);
            match self.value_of(inside.trim()) {
                Some(value) => out.push_str(&value),
                // Not ours: it is left for whoever knows it.
                None => out.extend(["{{", inside, "}}"]),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn value_of(&self, name: &str) -> Option<String> {
        let available = self.next.available_at.as_ref().map(|at| at.0);
        match name {
            "experiment.name" => return Some(self.observed.name.clone()),
            "experiment.availableAt" => return Some(available?.to_string()),
            "experiment.finishedAt" => {
                let duration = self
                    .spec
                    .duration
                    .as_deref()
                    .and_then(parse_duration_text)?;
                return Some(available?.checked_add(duration).ok()?.to_string());
            }
            _ => {}
        }
        let rest = name.strip_prefix("templates.")?;
        // The names of versions may have dots.
        if let Some(version) = rest.strip_suffix(".podTemplateHash") {
            let mut known = self.next.template_statuses.iter();
            return known.find(|s| s.name == version)?.pod_template_hash.clone();
        }
        let version = rest.strip_suffix(".replicaset.name")?;
        let known = self.spec.templates.iter().any(|t| t.name == version);
        known.then(|| set_name(&self.observed.name, version))
    }

    /// After the end nobody waits for an analysis.
    pub(super) fn stop_analyses(&mut self) {
        for analysis in &self.spec.analyses {
            let name = run_name(&self.observed.name, &analysis.name);
            let run = self.observed.runs.get(&name).and_then(Seen::ours);
            if run.is_some_and(|run| !run.phase.is_completed() && !run.terminating) {
                self.actions.push(Action::StopRun { name });
            }
        }
    }
}
