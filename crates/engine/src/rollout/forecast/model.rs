//! A cluster in which everything happens at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::analysis::{AnalysisPhase, AnalysisRunSpec};
use serin_api::experiment::ExperimentSpec;
use serin_api::rollout::{
    Desired, GateAnswer, PodMetadata, Pointer, RolloutSpec, RolloutStatus, Route, Side, Strategy,
};
use serin_api::units::{RevisionHash, Weight, parse_duration_text};

use super::Outset;
use crate::analysis::{Origin, TemplateSource, instantiate};
use crate::hash::template_digest;
use crate::rollout::{
    Action, Event, ExperimentView, Governed, History, Observed, Revision, RouteView, RunView,
    ServiceView, digest,
};

pub(super) struct Model {
    name: String,
    object: Value,
    templates: TemplateSource,
    template: Arc<PodTemplateSpec>,
    revisions: Vec<Revision>,
    services: BTreeMap<String, Option<RevisionHash>>,
    subsets: BTreeMap<String, Option<RevisionHash>>,
    routes: BTreeMap<Route, (Weight, Vec<(String, String)>)>,
    runs: Vec<(RunView, SignedDuration)>,
    experiments: Vec<(ExperimentView, SignedDuration)>,
    pub(super) governed: Governed,
    pub(super) status: RolloutStatus,
    pub(super) now: Timestamp,
}

impl Model {
    pub(super) fn new(outset: &Outset<'_>, desired: &Desired) -> Self {
        let (services, subsets, routes) = match &desired.strategy {
            Strategy::Canary(c) => (
                [c.stable_service.clone(), c.canary_service.clone()],
                c.subsets.clone(),
                c.routes.clone(),
            ),
            Strategy::BlueGreen(b) => (
                [Some(b.active_service.clone()), b.preview_service.clone()],
                None,
                Vec::new(),
            ),
        };
        let subsets = subsets.into_iter().flat_map(|s| [s.stable, s.canary]);
        Self {
            name: outset.name.to_owned(),
            object: outset.object.clone(),
            templates: outset.templates.clone(),
            template: Arc::default(),
            revisions: Vec::new(),
            services: services.into_iter().flatten().map(|s| (s, None)).collect(),
            subsets: subsets.map(|s| (s, None)).collect(),
            routes: routes
                .into_iter()
                .map(|r| (r, (Weight::ZERO, Vec::new())))
                .collect(),
            runs: Vec::new(),
            experiments: Vec::new(),
            governed: Governed::default(),
            status: RolloutStatus::default(),
            // Before what is told begins: an old revision is older than the new one.
            now: outset
                .now
                .checked_sub(SignedDuration::from_hours(1))
                .unwrap_or(outset.now),
        }
    }

    /// The next revision that is made has this template.
    pub(super) fn wanted(&mut self, spec: &RolloutSpec) {
        self.template = Arc::new(spec.template.clone().unwrap_or_default());
    }

    pub(super) fn observe(&self) -> Observed {
        let seen = |(name, revision): (&String, &Option<RevisionHash>)| {
            let view = ServiceView {
                revision: revision.clone(),
                acknowledged: true,
                taken_by: None,
            };
            (name.clone(), view)
        };
        let routes = self.routes.iter().map(|(route, (weight, managed))| {
            let view = RouteView {
                canary: Some(*weight),
                exact: true,
                managed: managed.clone(),
                acknowledged: true,
                ..RouteView::default()
            };
            (route.clone(), view)
        });
        Observed {
            name: self.name.clone(),
            generation: 1,
            object: self.object.clone(),
            status: self.status.clone(),
            revisions: self.revisions.clone(),
            services: self.services.iter().map(seen).collect(),
            subsets: Some(self.subsets.iter().map(seen).collect()),
            routes: routes.collect(),
            runs: self.runs.iter().map(|(run, _)| run.clone()).collect(),
            experiments: self.experiments.iter().map(|(e, _)| e.clone()).collect(),
            templates: self.templates.clone(),
            governed: self.governed.clone(),
            ..Observed::default()
        }
    }

    pub(super) fn apply(&mut self, action: &Action) {
        match action {
            Action::Create {
                revision, number, ..
            } => {
                let made = self.revision(revision, *number);
                self.revisions.push(made);
            }
            Action::Renumber { revision, number } => self.on(revision, |r| r.number = *number),
            Action::Scale { revision, to } => self.on(revision, |r| {
                (r.desired, r.replicas, r.ready, r.available) = (*to, *to, *to, *to);
            }),
            Action::SetMinReady { revision, seconds } => {
                self.on(revision, |r| r.min_ready_seconds = *seconds);
            }
            Action::SetMetadata { revision, metadata } => {
                self.on(revision, |r| r.metadata = Some(metadata.clone()));
            }
            Action::KeepUntil { revision, until } => self.on(revision, |r| r.keep_until = *until),
            Action::Remember { revision, event } => self.on(revision, |r| match event {
                Event::Promoted { at } => {
                    r.history = History {
                        promoted_at: Some(*at),
                        taken_back: None,
                    }
                }
                Event::TakenBack(how) => r.history.taken_back = Some(how.clone()),
                Event::Forgiven => r.history.taken_back = None,
            }),
            Action::DeleteRevision { revision } => self.revisions.retain(|r| r.hash != *revision),
            Action::Select { service, revision } => {
                self.services
                    .insert(service.clone(), Some(revision.clone()));
            }
            Action::SelectSubset {
                subset, revision, ..
            } => {
                self.subsets.insert(subset.clone(), Some(revision.clone()));
            }
            Action::Split {
                route,
                canary,
                managed,
                ..
            } => {
                let managed = managed.iter().map(|rule| (rule.name.clone(), digest(rule)));
                self.routes
                    .insert(route.clone(), (*canary, managed.collect()));
            }
            _ => self.apply_to_runs(action),
        }
    }

    fn apply_to_runs(&mut self, action: &Action) {
        match action {
            Action::StartRun {
                name,
                role,
                revision,
                spec,
            } => {
                let run = RunView {
                    name: name.clone(),
                    role: *role,
                    revision: revision.clone(),
                    phase: AnalysisPhase::Running,
                    message: None,
                    created: self.now,
                    terminating: false,
                };
                self.runs.push((run, shortest(spec)));
            }
            Action::StartExperiment {
                name,
                revision,
                spec,
                ..
            } => {
                let experiment = ExperimentView {
                    name: name.clone(),
                    revision: revision.clone(),
                    phase: AnalysisPhase::Running,
                    message: None,
                    created: self.now,
                    terminating: false,
                    services: BTreeMap::new(),
                    in_routes: false,
                };
                let lasts = self.shortest_experiment(spec);
                self.experiments.push((experiment, lasts));
            }
            Action::StopRun { name } => drop(self.finish_run(name)),
            Action::StopExperiment { name } => drop(self.finish_experiment(name)),
            Action::DeleteRun { name } => self.runs.retain(|(run, _)| run.name != *name),
            Action::DeleteExperiment { name } => {
                self.experiments
                    .retain(|(experiment, _)| experiment.name != *name);
            }
            // The instances of a workload that is referenced, and pods that are older than a restart, are not foretold.
            _ => {}
        }
    }

    /// The two Services have taken turns: the share of the one is now that of the other.
    pub(super) fn swap_sides(&mut self) {
        for (weight, _) in self.routes.values_mut() {
            *weight = weight.complement();
        }
    }

    fn revision(&self, hash: &RevisionHash, number: u64) -> Revision {
        Revision {
            hash: hash.clone(),
            number,
            desired: 0,
            replicas: 0,
            ready: 0,
            available: 0,
            template: Arc::clone(&self.template),
            source: Some(template_digest(&self.template)),
            created: self.now,
            min_ready_seconds: 0,
            metadata: Some(PodMetadata::default()),
            keep_until: None,
            history: History::default(),
        }
    }

    fn on(&mut self, revision: &RevisionHash, change: impl FnOnce(&mut Revision)) {
        if let Some(found) = self.revisions.iter_mut().find(|r| r.hash == *revision) {
            change(found);
        }
    }

    /// Ends a run well; how long it took at least. `None` when there is no such run under way.
    pub(super) fn finish_run(&mut self, name: &str) -> Option<SignedDuration> {
        let mut running = self
            .runs
            .iter_mut()
            .filter(|(run, _)| !run.phase.is_completed());
        let (run, lasts) = running.find(|(run, _)| run.name == name)?;
        run.phase = AnalysisPhase::Successful;
        Some(*lasts)
    }

    /// The same for an experiment.
    pub(super) fn finish_experiment(&mut self, name: &str) -> Option<SignedDuration> {
        let all = self.experiments.iter_mut();
        let mut running = all.filter(|(e, _)| !e.phase.is_completed());
        let (experiment, lasts) = running.find(|(e, _)| e.name == name)?;
        experiment.phase = AnalysisPhase::Successful;
        Some(*lasts)
    }

    /// Where the service of a gate is asked; `None` for one at which a person is.
    pub(super) fn asked_at(&self, gate: &str) -> Option<&str> {
        let mut gates = self.governed.policy.gates.iter();
        let gate = gates.find(|known| known.name == gate)?;
        gate.webhook.as_ref().map(|webhook| webhook.url.as_str())
    }

    pub(super) fn approve(&mut self, gate: &str) {
        let answer = GateAnswer {
            revision: self.status.current_pod_hash.clone().unwrap_or_default(),
            approved: true,
            ..GateAnswer::default()
        };
        self.status.gates.insert(gate.to_owned(), answer);
    }

    /// Instances of all older revisions, and of the one that is wanted.
    pub(super) fn counts(&self) -> (u32, u32) {
        let wanted = self.status.current_pod_hash.as_deref();
        let sum = |new: bool| {
            let side = self.revisions.iter();
            let side = side.filter(|r| (Some(r.hash.as_str()) == wanted) == new);
            side.fold(0_u32, |sum, r| sum.saturating_add(r.desired))
        };
        (sum(false), sum(true))
    }

    /// The share of the requests that the revision that is wanted has, in percent.
    pub(super) fn share_percent(&self, desired: &Desired) -> u32 {
        let behind = |pointer: Option<Pointer<'_>>| {
            let revision = match pointer {
                Some(Pointer::Service(name)) => self.services.get(name),
                Some(Pointer::Subset(name)) => self.subsets.get(name),
                None => None,
            };
            let revision = revision.cloned().flatten();
            revision.is_some_and(|r| Some(r.as_str()) == self.status.current_pod_hash.as_deref())
        };
        match &desired.strategy {
            Strategy::BlueGreen(b) if behind(Some(Pointer::Service(&b.active_service))) => 100,
            Strategy::BlueGreen(_) => 0,
            Strategy::Canary(c) if c.routes.is_empty() => {
                let (old, new) = self.counts();
                let all = u64::from(old) + u64::from(new);
                let share = (u64::from(new) * 100).checked_div(all).unwrap_or(0);
                u32::try_from(share).unwrap_or(100)
            }
            Strategy::Canary(c) if behind(c.pointers(Side::Stable).next()) => 100,
            Strategy::Canary(_) => {
                let most = self.routes.values().map(|(weight, _)| weight).max();
                most.map_or(0, |weight| u32::from(weight.percent()))
            }
        }
    }

    /// The shortest time in which an experiment can be good: its duration, or that of the longest analysis that it waits for.
    fn shortest_experiment(&self, spec: &ExperimentSpec) -> SignedDuration {
        let required = spec
            .analyses
            .iter()
            .filter(|a| a.required_for_completion == Some(true));
        let analyses = required.map(|analysis| {
            let reference = serin_api::rollout::AnalysisRef {
                templates: vec![serin_api::analysis::TemplateRef {
                    template_name: analysis.template_name.clone(),
                    cluster_scope: analysis.cluster_scope,
                }],
                args: analysis.args.clone(),
                ..Default::default()
            };
            let run = instantiate(&reference, &self.templates, &Origin::default());
            run.map_or(SignedDuration::ZERO, |run| shortest(&run))
        });
        let duration = spec.duration.as_deref().and_then(parse_duration_text);
        analyses.max().or(duration).unwrap_or_default()
    }
}

/// The shortest time in which an analysis can be good; what has no end adds nothing.
fn shortest(spec: &AnalysisRunSpec) -> SignedDuration {
    let time = |text: &Option<String>| text.as_deref().and_then(parse_duration_text);
    let metrics = spec.metrics.iter().map(|metric| {
        let metric =
            crate::analysis::resolve(metric, &spec.args).unwrap_or_else(|_| metric.clone());
        let value = serde_json::to_value(&metric.count).unwrap_or_default();
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let more = i32::try_from(number.unwrap_or(1).max(1) - 1).unwrap_or(0);
        let interval = time(&metric.interval).unwrap_or_default();
        let measuring = interval.checked_mul(more).unwrap_or(SignedDuration::MAX);
        let delay = time(&metric.initial_delay).unwrap_or_default();
        delay.saturating_add(measuring)
    });
    metrics.max().unwrap_or_default()
}
