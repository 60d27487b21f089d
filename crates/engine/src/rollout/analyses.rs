//! Analyses of a release: started, awaited, ended, forgotten.

use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{AnalysisRef, AnalysisRunRef, BackgroundAnalysis, PauseReason};
use serin_api::waiting::WaitingOn;

use super::Action;
use super::observed::{Role, RunView};
use super::planner::Planner;
use crate::analysis::{Origin, instantiate};

/// What an analysis means for the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is still measuring, or a person is asked.
    Waiting,
    /// Go on.
    Passed,
    /// The release has been taken back for it.
    Failed,
}

impl Planner<'_> {
    /// Carries out an analysis that must be good before anything goes on.
    pub(super) fn analyse(&mut self, role: Role, analysis: &AnalysisRef) -> Outcome {
        let Some(run) = self.current_run(role, analysis) else {
            return Outcome::Waiting;
        };
        let name = run.name.clone();
        self.outcome(
            run.phase,
            PauseReason::InconclusiveAnalysisRun,
            WaitingOn::Analysis { name },
            |planner| planner.take_back_for(&run),
            |planner| *planner.reference(role) = None,
        )
    }

    /// What a judgement in this phase means. A bad one takes the release back by `fail`; an inconclusive one asks a person, and
    /// is made once more after `forget` when the person goes on.
    pub(super) fn outcome(
        &mut self,
        phase: AnalysisPhase,
        inconclusive: PauseReason,
        waiting: WaitingOn,
        fail: impl FnOnce(&mut Self),
        forget: impl FnOnce(&mut Self),
    ) -> Outcome {
        match phase {
            AnalysisPhase::Successful => Outcome::Passed,
            AnalysisPhase::Failed | AnalysisPhase::Error => {
                fail(self);
                Outcome::Failed
            }
            AnalysisPhase::Inconclusive => {
                if self.pause(inconclusive, None) {
                    self.end_pause();
                    forget(self);
                    self.wake(self.now);
                    self.wait(waiting);
                }
                Outcome::Waiting
            }
            AnalysisPhase::Pending | AnalysisPhase::Running => {
                self.wait(waiting);
                Outcome::Waiting
            }
        }
    }

    /// Carries out an analysis beside the steps. `false` when nothing else may go on.
    pub(super) fn analyse_in_background(
        &mut self,
        background: &BackgroundAnalysis,
        index: usize,
    ) -> bool {
        if index < background.starting_step || self.next.promote_full {
            return true;
        }
        let Some(run) = self.current_run(Role::Background, &background.analysis) else {
            return true;
        };
        match run.phase {
            AnalysisPhase::Failed | AnalysisPhase::Error => {
                self.take_back_for(&run);
                false
            }
            AnalysisPhase::Inconclusive => {
                if self.pause(PauseReason::InconclusiveAnalysisRun, None) {
                    self.end_pause();
                    *self.reference(Role::Background) = None;
                    return true;
                }
                false
            }
            _ => true,
        }
    }

    fn take_back_for(&mut self, run: &RunView) {
        let why = run.message.as_deref().unwrap_or("no reason given");
        self.abort(&format!("analysis {} is {:?}: {why}", run.name, run.phase));
    }

    /// The run of a role as it is seen; started when there is none. `None` while it is not seen yet.
    fn current_run(&mut self, role: Role, analysis: &AnalysisRef) -> Option<RunView> {
        let observed = self.observed;
        let revision = self.current.clone();
        let mine: Vec<_> = observed
            .runs
            .iter()
            .filter(|r| r.role == role && r.revision == revision)
            .collect();
        let base = self.run_name(role, 0);
        // A client that skips a step leaves the run of the step before: that one is not ours.
        let ours = |name: &str| {
            let rest = name.strip_prefix(&base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let reference = self.reference(role).clone().filter(|r| ours(&r.name));
        let name = match reference {
            Some(reference) => reference.name,
            None => match mine
                .iter()
                .find(|r| !r.phase.is_completed() && !r.terminating)
            {
                Some(unfinished) => unfinished.name.clone(),
                None => self.run_name(role, mine.len()),
            },
        };
        let seen = mine.iter().find(|r| r.name == name);
        let phase = seen.map_or(AnalysisPhase::Pending, |r| r.phase);
        let message = seen.and_then(|r| r.message.clone());
        *self.reference(role) = Some(AnalysisRunRef {
            name: name.clone(),
            status: phase,
            message,
        });
        if let Some(seen) = seen {
            return Some((*seen).clone());
        }
        self.start_run(name, role, analysis);
        None
    }

    fn start_run(&mut self, name: String, role: Role, analysis: &AnalysisRef) {
        let origin = Origin {
            stable: self
                .stable()
                .map(|s| s.as_str().to_owned())
                .unwrap_or_default(),
            latest: self.current.as_str().to_owned(),
            object: self.observed.object.clone(),
        };
        match instantiate(analysis, &self.observed.templates, &origin) {
            Ok(spec) => {
                let revision = self.current.clone();
                self.wait(WaitingOn::Analysis { name: name.clone() });
                self.actions.push(Action::StartRun {
                    name,
                    role,
                    revision,
                    spec: Box::new(spec),
                });
            }
            // The references were checked before; a template that changed since is a reason to stop, not to go on.
            Err(problems) => self.wait(WaitingOn::ValidSpec {
                problems: problems.join("; "),
            }),
        }
    }

    /// `web-5d8f-2-1`: the Rollout, the revision and its number, the role, and the try from the second on.
    fn run_name(&self, role: Role, tries: usize) -> String {
        let number = self.revision().map_or(0, |r| r.number);
        let suffix = match role {
            Role::Step(index) => index.to_string(),
            Role::Background => "background".to_owned(),
            Role::PrePromotion => "pre".to_owned(),
            Role::PostPromotion => "post".to_owned(),
            Role::Bake => "bake".to_owned(),
        };
        let base = format!("{}-{}-{number}-{suffix}", self.observed.name, self.current);
        if tries == 0 {
            base
        } else {
            format!("{base}.{}", tries + 1)
        }
    }

    fn reference(&mut self, role: Role) -> &mut Option<AnalysisRunRef> {
        match role {
            Role::Step(_) => &mut self.next.canary.current_step_analysis_run_status,
            Role::Background => &mut self.next.canary.current_background_analysis_run_status,
            Role::PrePromotion => &mut self.next.blue_green.pre_promotion_analysis_run_status,
            Role::PostPromotion => &mut self.next.blue_green.post_promotion_analysis_run_status,
            Role::Bake => &mut self.next.bake.get_or_insert_default().analysis_run_status,
        }
    }

    /// Ends every analysis that nobody waits for: of other revisions, of other steps, after an abort and at the end.
    pub(super) fn stop_idle_runs(&mut self) {
        let baking = self.next.bake.as_ref();
        let in_use = [
            &baking.and_then(|b| b.analysis_run_status.clone()),
            &self.next.canary.current_step_analysis_run_status,
            &self.next.canary.current_background_analysis_run_status,
            &self.next.blue_green.pre_promotion_analysis_run_status,
            &self.next.blue_green.post_promotion_analysis_run_status,
        ];
        let over = self.next.abort || self.stable().as_ref() == Some(&self.current);
        let wanted: Vec<_> = in_use
            .into_iter()
            .flatten()
            .filter(|_| !over)
            .map(|r| r.name.as_str())
            .collect();
        let idle = self.observed.runs.iter().filter(|r| {
            !r.phase.is_completed() && !r.terminating && !wanted.contains(&r.name.as_str())
        });
        let stops: Vec<_> = idle
            .map(|r| Action::StopRun {
                name: r.name.clone(),
            })
            .collect();
        self.actions.extend(stops);
    }
}
