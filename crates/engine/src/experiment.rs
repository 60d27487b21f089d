//! An Experiment: versions side by side for a while, and the analyses over them.
//!
//! [`plan`] is the only way in. The versions start together; from when all are available the analyses run and the time
//! counts. The first bad analysis, or a version that does not become available in time, ends the experiment. After its end the
//! versions are kept for a while, so that whoever still has a request with one of them is answered.
//!
//! Absent on purpose: shares of requests, which are the business of the Rollout that started the experiment.

mod analyses;
mod rules;
mod versions;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use serin_api::analysis::{AnalysisPhase, AnalysisRunSpec};
use serin_api::conditions::{self, time};
use serin_api::experiment::{
    ExperimentAnalysis, ExperimentRunStatus, ExperimentSpec, ExperimentStatus, TemplatePhase,
    TemplateStatus,
};
use serin_api::rollout::RolloutCondition;
use serin_api::units::parse_duration_text;

use crate::analysis::TemplateSource;
use crate::rollout::Note;

pub use rules::broken_rules;

/// Seconds for the versions to get on, when the spec does not say.
const PROGRESS_DEADLINE: i32 = 600;
/// Seconds for which the versions are kept after the end, when the spec does not say.
const SCALE_DOWN_DELAY: i32 = 30;

/// What is seen of an Experiment and of what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// `metadata.name`.
    pub name: String,
    /// The status as it was last written.
    pub status: ExperimentStatus,
    /// The ReplicaSets with the names of its versions ([`set_name`]).
    pub sets: BTreeMap<String, Seen<SetView>>,
    /// The Services with the names that its versions ask for.
    pub services: BTreeMap<String, Seen<()>>,
    /// The AnalysisRuns with the names of its analyses ([`run_name`]).
    pub runs: BTreeMap<String, Seen<RunView>>,
    /// The AnalysisTemplates that exist.
    pub templates: TemplateSource,
    /// Whether a route may still lead to its versions.
    pub in_routes: bool,
}

/// An object that has a name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// It belongs to this experiment.
    Ours(T),
    /// Somebody else has made it: it is left alone.
    Foreign,
}

impl<T> Seen<T> {
    fn ours(&self) -> Option<&T> {
        match self {
            Self::Ours(view) => Some(view),
            Self::Foreign => None,
        }
    }
}

/// The ReplicaSet of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetView {
    /// The instances it is to have.
    pub desired: u32,
    /// The instances it has.
    pub replicas: u32,
    /// The ready ones.
    pub ready: u32,
    /// Those that have been ready long enough.
    pub available: u32,
    /// Until when it is kept after the end; `None` before the end.
    pub keep_until: Option<Timestamp>,
}

/// The AnalysisRun of an analysis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunView {
    /// Where it stands.
    pub phase: AnalysisPhase,
    /// Why.
    pub message: Option<String>,
    /// Whether it has been told to end.
    pub terminating: bool,
}

/// One thing that is done; each may be done twice without harm. Objects have no namespace and no owner yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the ReplicaSet of a version.
    CreateSet(Box<ReplicaSet>),
    /// Set the instances of a ReplicaSet.
    Scale {
        /// Which.
        set: String,
        /// So many.
        to: u32,
    },
    /// Keep a ReplicaSet until then.
    KeepUntil {
        /// Which.
        set: String,
        /// Until when.
        until: Timestamp,
    },
    /// Make the Service of a version.
    CreateService(Box<Service>),
    /// Take the Service of a version away.
    DeleteService {
        /// Which.
        name: String,
    },
    /// Begin an analysis.
    StartRun {
        /// Its name.
        name: String,
        /// What is measured.
        spec: Box<AnalysisRunSpec>,
    },
    /// End an analysis that nobody waits for any more.
    StopRun {
        /// Its name.
        name: String,
    },
}

/// What is done next, and where the experiment stands.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Written once, after all actions have been done.
    pub status: ExperimentStatus,
    /// When to look again though nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// What happened, for people.
    pub notes: Vec<Note>,
}

/// The name of the ReplicaSet of a version.
pub fn set_name(experiment: &str, version: &str) -> String {
    format!("{experiment}-{version}")
}

/// The name of the AnalysisRun of an analysis.
pub fn run_name(experiment: &str, analysis: &str) -> String {
    format!("{experiment}-{analysis}")
}

/// The Service that a version asks for; `None` when it asks for none.
pub fn service_name(
    experiment: &str,
    version: &serin_api::experiment::ExperimentTemplate,
) -> Option<String> {
    let service = version.service.as_ref()?;
    let named = service.name.clone().filter(|name| !name.is_empty());
    Some(named.unwrap_or_else(|| set_name(experiment, &version.name)))
}

/// Decides what is done next for an Experiment.
pub fn plan(spec: &ExperimentSpec, observed: &Observed, now: Timestamp) -> Plan {
    let mut planner = Planner::new(spec, observed, now);
    if planner.is_sound() {
        planner.run_versions();
        planner.take_in_time();
        planner.run_analyses();
        planner.settle();
    }
    if planner.has_ended() {
        planner.stop_analyses();
        planner.wind_down();
    }
    planner.finish()
}

struct Planner<'a> {
    spec: &'a ExperimentSpec,
    observed: &'a Observed,
    now: Timestamp,
    next: ExperimentStatus,
    actions: Vec<Action>,
    notes: Vec<Note>,
    wake_at: Option<Timestamp>,
}

impl<'a> Planner<'a> {
    fn new(spec: &'a ExperimentSpec, observed: &'a Observed, now: Timestamp) -> Self {
        Self {
            spec,
            observed,
            now,
            next: observed.status.clone(),
            actions: Vec::new(),
            notes: Vec::new(),
            wake_at: None,
        }
    }

    fn phase(&self) -> AnalysisPhase {
        self.next.phase.unwrap_or_default()
    }

    fn has_ended(&self) -> bool {
        self.phase().is_completed()
    }

    /// Whether the spec can be carried out at all. It is checked when it is applied; a status that says otherwise comes from
    /// an API that does not check.
    fn is_sound(&mut self) -> bool {
        let bad_duration = self.spec.duration.as_deref().filter(|d| !d.is_empty());
        let bad_duration = bad_duration.filter(|d| parse_duration_text(d).is_none());
        let problem = match bad_duration {
            Some(duration) => format!("spec.duration: Invalid value: {duration:?}"),
            None if self.spec.templates.is_empty() => {
                "spec.templates: Required value: give at least one version".to_owned()
            }
            None => return true,
        };
        if !self.has_ended() {
            self.end(AnalysisPhase::Error, problem.clone());
            let invalid = RolloutCondition {
                type_: "InvalidSpec".into(),
                status: "True".into(),
                last_update_time: Some(time(self.now)),
                last_transition_time: Some(time(self.now)),
                reason: "InvalidSpec".into(),
                message: problem,
            };
            conditions::set(&mut self.next.conditions, invalid);
        }
        false
    }

    /// Whether the time of the experiment is over; looks again when it will be.
    fn is_over(&mut self) -> bool {
        let duration = self.spec.duration.as_deref().and_then(parse_duration_text);
        let (Some(duration), Some(since)) = (duration, &self.next.available_at) else {
            return false;
        };
        match since.0.checked_add(duration) {
            Ok(end) if end <= self.now => true,
            Ok(end) => {
                self.wake(end);
                false
            }
            Err(_) => false,
        }
    }

    /// The time of the experiment counts from when all versions are available.
    fn take_in_time(&mut self) {
        let running = |status: &TemplateStatus| status.status == Some(TemplatePhase::Running);
        if self.next.available_at.is_none()
            && !self.has_ended()
            && self.next.template_statuses.iter().all(running)
        {
            self.next.available_at = Some(time(self.now));
            let told = "all versions are available".to_owned();
            self.note(false, "ExperimentRunning", told);
        }
    }

    /// Ends the experiment when it has come to something.
    fn settle(&mut self) {
        if self.has_ended() {
            return;
        }
        if let Some((phase, why)) = self.bad_version().or_else(|| self.bad_analysis()) {
            return self.end(phase, why);
        }
        if self.spec.terminate == Some(true) {
            return self.end(AnalysisPhase::Successful, "ended on request".to_owned());
        }
        let required = |a: &&ExperimentAnalysis| a.required_for_completion == Some(true);
        let mut required = self.spec.analyses.iter().filter(required).peekable();
        let waits_for_some = required.peek().is_some();
        let all_good = required.all(|a| {
            self.run_status(&a.name)
                .is_some_and(|run| run.phase == AnalysisPhase::Successful)
        });
        let over = self.is_over();
        if waits_for_some && all_good {
            self.end(
                AnalysisPhase::Successful,
                "the required analyses are good".to_owned(),
            );
        } else if over && !waits_for_some {
            self.end(AnalysisPhase::Successful, "its time is over".to_owned());
        } else {
            let running = self.next.available_at.is_some();
            self.next.phase = Some(if running {
                AnalysisPhase::Running
            } else {
                AnalysisPhase::Pending
            });
        }
    }

    fn bad_version(&self) -> Option<(AnalysisPhase, String)> {
        let mut statuses = self.next.template_statuses.iter();
        statuses.find_map(|version| {
            let phase = match version.status? {
                TemplatePhase::Failed => AnalysisPhase::Failed,
                TemplatePhase::Error => AnalysisPhase::Error,
                _ => return None,
            };
            Some((phase, version.message.clone().unwrap_or_default()))
        })
    }

    /// The worst of the analyses that came to something else than good: a failure before an error before a doubt.
    fn bad_analysis(&self) -> Option<(AnalysisPhase, String)> {
        let badness = |phase: AnalysisPhase| match phase {
            AnalysisPhase::Failed => 3,
            AnalysisPhase::Error => 2,
            AnalysisPhase::Inconclusive => 1,
            _ => 0,
        };
        let bad = self.next.analysis_runs.iter();
        let bad = bad.filter(|run| badness(run.phase) > 0);
        // Of equally bad ones the first counts.
        let worst = bad.rev().max_by_key(|run| badness(run.phase))?;
        let why = worst.message.as_deref().unwrap_or("no reason given");
        Some((worst.phase, format!("analysis {:?}: {why}", worst.name)))
    }

    fn run_status(&self, name: &str) -> Option<&ExperimentRunStatus> {
        self.next.analysis_runs.iter().find(|run| run.name == name)
    }

    fn end(&mut self, phase: AnalysisPhase, why: String) {
        let warning = phase != AnalysisPhase::Successful;
        let reason = match phase {
            AnalysisPhase::Failed => "ExperimentFailed",
            AnalysisPhase::Error => "ExperimentError",
            AnalysisPhase::Inconclusive => "ExperimentInconclusive",
            _ => "ExperimentSuccessful",
        };
        self.note(warning, reason, why.clone());
        self.next.phase = Some(phase);
        self.next.message = Some(why);
        for version in &mut self.next.template_statuses {
            let bad = [Some(TemplatePhase::Failed), Some(TemplatePhase::Error)];
            if !bad.contains(&version.status) {
                version.status = Some(TemplatePhase::Successful);
            }
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn note(&mut self, warning: bool, reason: &'static str, message: String) {
        self.notes.push(Note {
            warning,
            reason,
            message,
        });
    }

    fn finish(self) -> Plan {
        Plan {
            actions: self.actions,
            status: self.next,
            wake_at: self.wake_at,
            notes: self.notes,
        }
    }
}

/// Seconds of a field that may be absent; never negative.
fn seconds(field: Option<i32>, default: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(field.unwrap_or(default).max(0)))
}

#[cfg(test)]
mod tests;
