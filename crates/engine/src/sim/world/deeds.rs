//! What the actions of a plan do to the world, each so that doing it twice is harmless.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{Desired, ManagedRule};
use serin_api::units::{RevisionHash, Weight};

use super::configuration::{is_bad, read_by};
use super::objects::version;
use super::{Run, Set, Split, Trial, World};
use crate::rollout::{Action, Event, ExperimentView, History, Role, RunView, digest};

impl World {
    /// `false` when the world has changed and it cannot be done.
    pub(super) fn apply(&mut self, desired: &Desired, action: &Action) -> bool {
        match action {
            Action::Create {
                revision, number, ..
            } => {
                let set = Set {
                    number: *number,
                    version: version(&self.spec),
                    reads: read_by(&desired.template),
                    created: self.now,
                    source: desired.template_digest.clone(),
                    template: Arc::new(desired.template.clone()),
                    desired: 0,
                    pods: Vec::new(),
                    counts: (0, 0),
                    keep_until: None,
                    history: History::default(),
                };
                self.sets.entry(revision.clone()).or_insert(set);
            }
            Action::Renumber { revision, number } => self.on(revision, |s| s.number = *number),
            Action::Scale { revision, to } => self.on(revision, |s| s.desired = *to),
            Action::KeepUntil { revision, until } => self.on(revision, |s| s.keep_until = *until),
            Action::Select { service, revision } => {
                if let Some(service) = self.services.get_mut(service) {
                    service.set = Some(revision.clone());
                }
            }
            Action::Split {
                canary, managed, ..
            } => self.set_split(*canary, managed),
            Action::StartRun {
                name,
                role,
                revision,
                ..
            } => self.start(name, *role, revision),
            Action::StopRun { name } => self
                .runs
                .iter_mut()
                .filter(|r| r.view.name == *name)
                .for_each(|r| r.view.terminating = true),
            Action::Remember { revision, event } => self.remember(revision, event),
            Action::Restart { .. }
            | Action::SetMetadata { .. }
            | Action::SetMinReady { .. }
            | Action::EndEmergency
            | Action::Ask(_)
            | Action::SelectSubset { .. }
            | Action::ReleaseExperiment { .. }
            | Action::ScaleWorkload { .. } => {}
            Action::CopyConfiguration(copy) => return self.settings.copy(copy),
            Action::DeleteConfiguration(copy) => self.settings.forget(copy),
            Action::StartExperiment { name, revision, .. } => self.try_out(name, revision),
            Action::StopExperiment { name } => self
                .experiments
                .iter_mut()
                .filter(|e| e.view.name == *name)
                .for_each(|e| e.view.terminating = true),
            Action::DeleteExperiment { name } => self.experiments.retain(|e| e.view.name != *name),
            Action::DeleteRevision { revision } => drop(self.sets.remove(revision)),
            Action::DeleteRun { name } => self.runs.retain(|r| r.view.name != *name),
        }
        true
    }

    fn set_split(&mut self, canary: Weight, managed: &[ManagedRule]) {
        let managed = managed.iter().map(|rule| (rule.name.clone(), digest(rule)));
        self.route.set = Split {
            trial: self.sides().1,
            canary,
            managed: managed.collect(),
        };
    }

    fn on(&mut self, revision: &RevisionHash, change: impl FnOnce(&mut Set)) {
        if let Some(set) = self.sets.get_mut(revision) {
            change(set);
        }
    }

    fn remember(&mut self, revision: &RevisionHash, event: &Event) {
        self.on(revision, |set| match event {
            Event::Promoted { at } => {
                set.history = History {
                    promoted_at: Some(*at),
                    taken_back: None,
                }
            }
            Event::TakenBack(taken_back) => set.history.taken_back = Some(taken_back.clone()),
            Event::Forgiven => set.history.taken_back = None,
        });
    }

    fn start(&mut self, name: &str, role: Role, revision: &RevisionHash) {
        if self.runs.iter().any(|r| r.view.name == name) {
            return;
        }
        let late = matches!(role, Role::Bake | Role::PostPromotion);
        let (outcome, ends_at) = self.comes_to(revision, late);
        let view = RunView {
            name: name.to_owned(),
            role,
            revision: revision.clone(),
            phase: AnalysisPhase::Running,
            message: None,
            created: self.now,
            terminating: false,
        };
        self.runs.push(Run {
            view,
            ends_at,
            outcome,
        });
    }

    fn try_out(&mut self, name: &str, revision: &RevisionHash) {
        if self.experiments.iter().any(|e| e.view.name == name) {
            return;
        }
        let (outcome, ends_at) = self.comes_to(revision, false);
        let view = ExperimentView {
            name: name.to_owned(),
            revision: revision.clone(),
            phase: AnalysisPhase::Pending,
            message: None,
            created: self.now,
            terminating: false,
            services: BTreeMap::new(),
            in_routes: false,
        };
        self.experiments.push(Trial {
            view,
            ends_at,
            outcome,
        });
    }

    /// What measurements of a revision come to, and when; now and then they cannot tell. `late`: all users are on it.
    fn comes_to(&mut self, revision: &RevisionHash, late: bool) -> (AnalysisPhase, Timestamp) {
        let bad = self.sets.get(revision).is_some_and(|set| {
            set.version == 5 || (set.version == 6 && late) || is_bad(set.reads.as_ref())
        });
        let outcome = match self.dice.below(8) {
            0 if self.faults => AnalysisPhase::Inconclusive,
            1 if self.faults => AnalysisPhase::Error,
            _ if bad => AnalysisPhase::Failed,
            _ => AnalysisPhase::Successful,
        };
        let ends_at = self.now + SignedDuration::from_secs(1 + self.dice.below(6) as i64);
        (outcome, ends_at)
    }
}
