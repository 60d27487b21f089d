//! The world: what there is, what happens to it, and the rules that must hold in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::analysis::AnalysisPhase;
use serin_api::release::Policy;
use serin_api::rollout::{PodMetadata, RolloutSpec, RolloutStatus, Route};
use serin_api::units::{RevisionHash, Weight};

mod objects;
mod rules;

use objects::{policy, spec, templates, version};

use super::dice::Dice;
use crate::analysis::TemplateSource;
use crate::hash::template_digest;
use crate::invariants;
use crate::rollout::{
    Action, Event, Governed, History, Observed, Revision, Role, RouteView, RunView, ServiceView,
    plan,
};

/// How a Rollout of the simulator is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A canary with a route.
    Traffic,
    /// A canary by numbers of instances.
    Replicas,
    /// Blue-green.
    BlueGreen,
}

/// A run that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was broken.
    pub what: String,
    /// The last steps before it.
    pub story: Vec<String>,
}

/// When the world begins: any time will do.
const BEGINNING: Timestamp = Timestamp::constant(1_800_000_000, 0);
const REPLICAS: u32 = 4;
/// Versions 1 to 3 are good, 4 never becomes ready, 5 answers badly, 6 does so only once all users are on it.
const VERSIONS: u64 = 6;
const FAULTY_STEPS: usize = 120;
const HEALING_STEPS: usize = 200;

/// What somebody does in [`story`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask for a version: 1 to 3 are good, 4 never becomes ready, 5 answers badly, 6 does so only once all users are on it.
    Deploy(u64),
    /// Go on from a pause.
    Promote,
    /// Take the release back.
    Abort,
    /// Begin an aborted release again.
    Retry,
}

/// Tells what happens in a world without faults: each act, and the seconds after it until the next.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn story(scenario: Scenario, acts: &[(Act, u32)]) -> Result<Vec<String>, Failure> {
    story_under(scenario, Policy::default(), acts)
}

/// The same under a policy.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn story_under(
    scenario: Scenario,
    policy: Policy,
    acts: &[(Act, u32)],
) -> Result<Vec<String>, Failure> {
    let mut world = World::new(scenario, 0);
    world.faults = false;
    world.governed.policy = policy;
    for (act, seconds) in acts {
        world.tell(format!("somebody: {act:?}"));
        match act {
            Act::Deploy(version) => {
                world.spec = world
                    .specs
                    .get(*version as usize)
                    .cloned()
                    .unwrap_or_default()
            }
            Act::Promote => world.status.pause_conditions = None,
            Act::Abort => world.status.abort = true,
            Act::Retry => world.status.abort = false,
        }
        world.generation += 1;
        for _ in 0..*seconds {
            world.step().map_err(|what| world.failure(what))?;
        }
    }
    Ok(world.story)
}

/// Runs one seed and tells its story.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn run(scenario: Scenario, seed: u64) -> Result<Vec<String>, Failure> {
    let mut world = World::new(scenario, seed);
    world.governed.policy = policy(world.dice.below(4));
    for _ in 0..FAULTY_STEPS {
        world.interfere();
        world.step().map_err(|what| world.failure(what))?;
    }
    world.heal();
    for _ in 0..HEALING_STEPS {
        world.step().map_err(|what| world.failure(what))?;
    }
    world.at_rest().map_err(|what| world.failure(what))?;
    Ok(world.story)
}

#[derive(Clone, Debug)]
struct Pod {
    ready_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Set {
    number: u64,
    version: u64,
    created: Timestamp,
    template: Arc<PodTemplateSpec>,
    desired: u32,
    pods: Vec<Pod>,
    keep_until: Option<Timestamp>,
    history: History,
}

/// Something that is set, and what the data plane serves of it.
#[derive(Clone, Debug, PartialEq)]
struct Served<T> {
    set: T,
    served: T,
}

impl<T: Clone + PartialEq> Served<T> {
    fn acknowledged(&self) -> bool {
        self.set == self.served
    }
}

#[derive(Clone, Debug)]
struct Run {
    view: RunView,
    ends_at: Timestamp,
    outcome: AnalysisPhase,
}

struct World {
    scenario: Scenario,
    dice: Dice,
    now: Timestamp,
    /// The spec of each version, made once.
    specs: Vec<RolloutSpec>,
    templates: TemplateSource,
    governed: Governed,
    spec: RolloutSpec,
    generation: i64,
    status: RolloutStatus,
    sets: BTreeMap<RevisionHash, Set>,
    services: BTreeMap<String, Served<Option<RevisionHash>>>,
    weight: Served<Weight>,
    runs: Vec<Run>,
    faults: bool,
    /// Whether a person ends every pause.
    somebody_goes_on: bool,
    /// What the controller last saw of the things that others change; it may be behind.
    seen: Option<Observed>,
    story: Vec<String>,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let services = match scenario {
            Scenario::BlueGreen => ["active", "preview"],
            _ => ["stable", "canary"],
        };
        let services = services
            .into_iter()
            .map(|name| {
                (
                    name.to_owned(),
                    Served {
                        set: None,
                        served: None,
                    },
                )
            })
            .collect();
        Self {
            scenario,
            dice: Dice::new(seed),
            now: BEGINNING,
            spec: spec(scenario, 1),
            specs: (0..=VERSIONS)
                .map(|version| spec(scenario, version))
                .collect(),
            templates: templates(),
            governed: Governed::default(),
            generation: 1,
            status: RolloutStatus::default(),
            sets: BTreeMap::new(),
            services,
            weight: Served {
                set: Weight::ZERO,
                served: Weight::ZERO,
            },
            runs: Vec::new(),
            faults: true,
            somebody_goes_on: false,
            seen: None,
            story: Vec::new(),
        }
    }

    fn failure(&self, what: String) -> Failure {
        Failure {
            what,
            story: self.story.iter().rev().take(60).rev().cloned().collect(),
        }
    }

    /// Notes what happened, with versions in the place of hashes.
    fn tell(&mut self, mut what: String) {
        for (hash, set) in &self.sets {
            what = what.replace(hash.as_str(), &format!("v{}", set.version));
        }
        let second = self.now.as_second() - BEGINNING.as_second();
        self.story.push(format!("{second:03}s {what}"));
    }

    /// People and faults: a new version, an old one, the verbs, an instance that dies.
    fn interfere(&mut self) {
        match self.dice.below(60) {
            0 | 10 | 11 => self.deploy(),
            1 => self.status.abort = true,
            2 => self.status.abort = false,
            3 => self.status.pause_conditions = None,
            4 => self.status.promote_full = true,
            5 => self.spec.paused = Some(!self.spec.paused.unwrap_or(false)),
            6 => self.status.current_step_index = self.status.current_step_index.map(|i| i + 1),
            7 | 8 => self.kill_one(),
            9 => self.seen = None,
            _ => return,
        }
        self.generation += 1;
        let verbs = (
            self.status.abort,
            self.status.promote_full,
            self.spec.paused,
            self.status.current_step_index,
        );
        self.tell(format!(
            "somebody acts: abort, full, paused, step = {verbs:?}"
        ));
    }

    fn deploy(&mut self) {
        let version = 1 + self.dice.below(VERSIONS);
        let paused = self.spec.paused;
        self.spec = self
            .specs
            .get(version as usize)
            .cloned()
            .unwrap_or_default();
        self.spec.paused = paused;
        self.tell(format!("somebody deploys version {version}"));
    }

    /// One instance dies, but never the last of its revision: with nobody left, no order of steps could serve.
    fn kill_one(&mut self) {
        let pick = self.dice.below(8) as usize;
        let now = self.now;
        let delay = SignedDuration::from_secs(2 + self.dice.below(5) as i64);
        let crowd = self
            .sets
            .values_mut()
            .filter(|s| s.ready(now) > 2)
            .nth(pick);
        if let Some(set) = crowd
            && let Some(pod) = set
                .pods
                .iter_mut()
                .find(|p| p.ready_at.is_some_and(|at| at <= now))
        {
            pod.ready_at = Some(now + delay);
            self.tell("an instance dies".to_owned());
        }
    }

    fn heal(&mut self) {
        self.faults = false;
        self.somebody_goes_on = true;
        self.spec.paused = None;
        self.seen = None;
        self.tell("the world heals".to_owned());
    }

    /// A second passes: the world moves on, the controller looks, decides and acts.
    fn step(&mut self) -> Result<(), String> {
        self.now += SignedDuration::from_secs(1);
        self.move_instances();
        self.move_data_plane();
        self.move_runs();
        self.rules()?;
        let passes = if self.faults { self.dice.below(3) } else { 1 };
        for _ in 0..passes {
            self.control()?;
            self.rules()?;
        }
        if self.somebody_goes_on && self.status.controller_pause {
            self.status.pause_conditions = None;
        }
        Ok(())
    }

    fn move_instances(&mut self) {
        for set in self.sets.values_mut() {
            let now = self.now;
            set.pods
                .sort_by_key(|p| p.ready_at.is_none_or(|at| at > now));
            set.pods.truncate(set.desired as usize);
            while set.pods.len() < set.desired as usize {
                // Version 4 never becomes ready; the others take their time.
                let delay = SignedDuration::from_secs(1 + self.dice.below(4) as i64);
                set.pods.push(Pod {
                    ready_at: (set.version != 4).then(|| now + delay),
                });
            }
        }
    }

    fn move_data_plane(&mut self) {
        for service in self.services.values_mut() {
            if !self.faults || self.dice.one_in(2) {
                service.served = service.set.clone();
            }
        }
        if !self.faults || self.dice.one_in(2) {
            self.weight.served = self.weight.set;
        }
    }

    fn move_runs(&mut self) {
        for run in self
            .runs
            .iter_mut()
            .filter(|r| !r.view.phase.is_completed())
        {
            if run.view.terminating {
                run.view.phase = AnalysisPhase::Successful;
            } else if run.ends_at <= self.now {
                run.view.phase = run.outcome;
            }
        }
    }

    fn observe(&self) -> Observed {
        let revisions = self.sets.iter().map(|(hash, set)| Revision {
            hash: hash.clone(),
            number: set.number,
            desired: set.desired,
            replicas: set.pods.len() as u32,
            ready: set.ready(self.now),
            available: set.ready(self.now),
            template: set.template.clone(),
            source: Some(template_digest(&set.template)),
            created: set.created,
            min_ready_seconds: 0,
            metadata: Some(PodMetadata::default()),
            keep_until: set.keep_until,
            history: set.history.clone(),
        });
        let services = self.services.iter().map(|(name, s)| {
            let view = ServiceView {
                revision: s.set.clone(),
                acknowledged: s.acknowledged(),
                taken_by: None,
            };
            (name.clone(), view)
        });
        let route = RouteView {
            canary: Some(self.weight.set),
            exact: true,
            managed: Vec::new(),
            acknowledged: self.weight.acknowledged(),
        };
        Observed {
            name: "web".into(),
            generation: self.generation,
            object: Value::Null,
            status: self.status.clone(),
            revisions: revisions.collect(),
            services: services.collect(),
            routes: BTreeMap::from([(Route::HttpRoute("web".into()), route)]),
            runs: self.runs.iter().map(|r| r.view.clone()).collect(),
            templates: self.templates.clone(),
            governed: self.governed.clone(),
            ..Observed::default()
        }
    }

    /// One pass of the controller, which may see the world as it was, and may be killed after any action.
    fn control(&mut self) -> Result<(), String> {
        let stale = self.faults && self.dice.one_in(3);
        let observed = match self.seen.take().filter(|_| stale) {
            Some(old) => Observed {
                status: self.status.clone(),
                generation: self.generation,
                ..old
            },
            None => self.observe(),
        };
        let plan = plan(&self.spec, &observed, self.now);
        if let Some(violation) = invariants::check(&self.spec, &observed, &plan).first() {
            return Err(format!(
                "the plan breaks an invariant: {violation}\n{plan:#?}"
            ));
        }
        let killed_after = if self.faults && self.dice.one_in(8) {
            Some(self.dice.below(4) as usize)
        } else {
            None
        };
        for (i, action) in plan.actions.iter().enumerate() {
            if killed_after == Some(i) {
                self.tell(format!("killed before: {action}"));
                return Ok(());
            }
            self.tell(action.to_string());
            self.apply(action);
        }
        if killed_after.is_some() {
            self.tell("killed before the status".to_owned());
            return Ok(());
        }
        if plan.status.current_step_index != self.status.current_step_index
            || plan.status.phase != self.status.phase
        {
            let phase = plan
                .status
                .phase
                .map(|phase| format!("{phase:?}"))
                .unwrap_or_default();
            let step = plan
                .status
                .current_step_index
                .map(|i| format!("step {i}, "))
                .unwrap_or_default();
            self.tell(format!("{step}{phase}, waits for {}", plan.waiting_on));
        }
        self.status = plan.status;
        self.nothing_twice(&plan.actions)?;
        // Its own writes it has seen; what others do after this it may miss for a while.
        self.seen = plan.actions.is_empty().then(|| self.observe());
        Ok(())
    }

    /// What has been done is not asked for again.
    fn nothing_twice(&self, done: &[Action]) -> Result<(), String> {
        let again = plan(&self.spec, &self.observe(), self.now).actions;
        match again.iter().find(|action| done.contains(action)) {
            Some(action) => Err(format!("asked for again after it was done: {action}")),
            None => Ok(()),
        }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Create {
                revision, number, ..
            } => {
                let version = version(&self.spec);
                let template = Arc::new(self.spec.template.clone().unwrap_or_default());
                let set = Set {
                    number: *number,
                    version,
                    created: self.now,
                    template,
                    desired: 0,
                    pods: Vec::new(),
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
            Action::Split { canary, .. } => self.weight.set = *canary,
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
            | Action::ScaleWorkload { .. }
            | Action::StartExperiment { .. }
            | Action::StopExperiment { .. }
            | Action::DeleteExperiment { .. } => {}
            Action::DeleteRevision { revision } => drop(self.sets.remove(revision)),
            Action::DeleteRun { name } => self.runs.retain(|r| r.view.name != *name),
        }
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
        // Now and then the measurements cannot tell.
        let late = matches!(role, Role::Bake | Role::PostPromotion);
        let bad = self
            .sets
            .get(revision)
            .is_some_and(|s| s.version == 5 || (s.version == 6 && late));
        let outcome = match self.dice.below(8) {
            0 if self.faults => AnalysisPhase::Inconclusive,
            1 if self.faults => AnalysisPhase::Error,
            _ if bad => AnalysisPhase::Failed,
            _ => AnalysisPhase::Successful,
        };
        let ends_at = self.now + SignedDuration::from_secs(1 + self.dice.below(6) as i64);
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
}

impl Set {
    fn ready(&self, now: Timestamp) -> u32 {
        self.pods
            .iter()
            .take(self.desired as usize)
            .filter(|p| p.ready_at.is_some_and(|at| at <= now))
            .count() as u32
    }
}
