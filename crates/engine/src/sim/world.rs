//! The world: what there is, what happens to it, and the rules that must hold in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::analysis::AnalysisPhase;
use serin_api::release::Policy;
use serin_api::rollout::{Desired, PodMetadata, RolloutSpec, RolloutStatus, Route};
use serin_api::units::{RevisionHash, Weight};

mod deeds;
mod faults;
mod gates;
mod objects;
mod rules;

use objects::{policy, spec, templates};

use super::dice::Dice;
use crate::analysis::TemplateSource;
use crate::invariants;
use crate::rollout::{
    Action, Governed, History, Observed, Revision, RouteView, RunView, ServiceView, desired,
    plan_for,
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
    /// A canary with a route that steps put rules before, instances apart from the share, and steps of several kinds.
    Managed,
    /// A canary with a route whose stable instances shrink with their share.
    Dynamic,
    /// A canary with a route whose two Services take turns.
    PingPong,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Traffic,
        Self::Replicas,
        Self::BlueGreen,
        Self::Managed,
        Self::Dynamic,
        Self::PingPong,
    ];

    fn is_routed(self) -> bool {
        !matches!(self, Self::Replicas | Self::BlueGreen)
    }
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
    /// Approve what is waited for.
    Approve,
    /// Reject it.
    Reject,
    /// Go on to the next step, whatever this one waits for.
    Skip,
    /// Skip all steps.
    PromoteFull,
    /// Hold everything (`true`), or go on.
    Hold(bool),
    /// Want so many instances.
    Scale(u32),
}

/// What may happen in the first phase of a run. A failing seed is told with the fewest of them that make it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// For so many seconds.
    pub seconds: u32,
    /// By kind, a bit each: see `interfere`.
    kinds: u32,
}

impl Faults {
    /// Everything, for two minutes.
    pub const ALL: Self = Self {
        seconds: 120,
        kinds: u32::MAX,
    };
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
        world.act(*act);
        for _ in 0..*seconds {
            world.step().map_err(|what| world.failure(what))?;
        }
    }
    Ok(world.story)
}

/// Tells what happens when the controller is killed before its action of this number, or before it writes the status of the
/// pass when there are fewer actions in it, and starts again. The second value is where it ends: instances, Services, shares.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn killed_at(
    scenario: Scenario,
    acts: &[(Act, u32)],
    kill: Option<usize>,
) -> Result<(usize, String), Failure> {
    let mut world = World::new(scenario, 0);
    world.faults = false;
    world.kill_at = kill;
    for (act, seconds) in acts {
        world.act(*act);
        for _ in 0..*seconds {
            world.step().map_err(|what| world.failure(what))?;
        }
    }
    Ok((world.done, world.end()))
}

/// Runs one seed and tells its story.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn run(scenario: Scenario, seed: u64) -> Result<Vec<String>, Failure> {
    run_with(scenario, seed, Faults::ALL)
}

/// The same with some faults only.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn run_with(scenario: Scenario, seed: u64, faults: Faults) -> Result<Vec<String>, Failure> {
    let mut world = World::new(scenario, seed);
    world.governed.policy = policy(world.dice.below(6));
    for _ in 0..faults.seconds {
        world.interfere(faults.kinds);
        world.step().map_err(|what| world.failure(what))?;
    }
    world.heal();
    for _ in 0..HEALING_STEPS {
        world.step().map_err(|what| world.failure(what))?;
    }
    world.at_rest().map_err(|what| world.failure(what))?;
    Ok(world.story)
}

/// The shortest run of a failing seed with the fewest kinds of faults that still fails; `None` when it does not fail.
pub fn shrink(scenario: Scenario, seed: u64) -> Option<(Faults, Failure)> {
    let mut least = Faults::ALL;
    let mut failure = run_with(scenario, seed, least).err()?;
    let mut keep = |smaller: Faults, least: &mut Faults| {
        if let Err(found) = run_with(scenario, seed, smaller) {
            failure = found;
            *least = smaller;
            return true;
        }
        false
    };
    for kind in 0..faults::KINDS {
        let kinds = least.kinds & !(1 << kind);
        keep(Faults { kinds, ..least }, &mut least);
    }
    for seconds in 1..least.seconds {
        if keep(Faults { seconds, ..least }, &mut least) {
            break;
        }
    }
    Some((least, failure))
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
    source: String,
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

/// Where the requests of the route go.
#[derive(Clone, Debug, Default, PartialEq)]
struct Split {
    /// The Service that was the canary's when this was set, and its share; the other one has the rest.
    trial: &'static str,
    canary: Weight,
    /// The managed rules by name and digest.
    managed: Vec<(String, String)>,
}

impl Split {
    fn share_of(&self, service: &str) -> Weight {
        if self.trial == service {
            self.canary
        } else {
            self.canary.complement()
        }
    }
}

#[derive(Clone, Debug)]
struct Run {
    view: RunView,
    ends_at: Timestamp,
    outcome: AnalysisPhase,
}

/// What a checked spec depends on: how often the spec has changed, and the workload that it refers to.
type SpecKey = (u64, Option<String>);

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
    /// Counts the changes of the spec.
    spec_number: u64,
    /// The spec as it was last checked, with what it was checked for.
    checked: Option<(SpecKey, Arc<Desired>)>,
    status: RolloutStatus,
    sets: BTreeMap<RevisionHash, Set>,
    services: BTreeMap<String, Served<Option<RevisionHash>>>,
    route: Served<Split>,
    runs: Vec<Run>,
    faults: bool,
    /// Instances that the machines have room for.
    capacity: usize,
    /// The instances that are wanted, and the fewest and the most of them since the revisions last had as many.
    replicas: u32,
    fewest: u32,
    most: u32,
    /// The action before which the controller is killed once, and the actions done so far.
    kill_at: Option<usize>,
    done: usize,
    /// Whether a person ends every pause.
    somebody_goes_on: bool,
    /// What the controller last saw of the things that others change; it may be behind.
    seen: Option<Observed>,
    story: Vec<String>,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let unsplit = Split {
            trial: if scenario == Scenario::PingPong {
                "pong"
            } else {
                "canary"
            },
            ..Split::default()
        };
        let services = match scenario {
            Scenario::BlueGreen => ["active", "preview"],
            Scenario::PingPong => ["ping", "pong"],
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
            spec_number: 0,
            checked: None,
            status: RolloutStatus::default(),
            sets: BTreeMap::new(),
            services,
            route: Served {
                set: unsplit.clone(),
                served: unsplit,
            },
            runs: Vec::new(),
            faults: true,
            capacity: usize::MAX,
            replicas: REPLICAS,
            fewest: REPLICAS,
            most: REPLICAS,
            kill_at: None,
            done: 0,
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
            self.follow_scale();
        }
        if self.somebody_goes_on {
            self.answer_gate(true);
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
                set.pods.push(Pod { ready_at: None });
            }
        }
        self.start_instances();
    }

    /// Starts the instances that have room: version 4 never becomes ready; the others take their time.
    fn start_instances(&mut self) {
        let (now, slow) = (self.now, if self.faults { 12 } else { 4 });
        let started = |set: &Set| set.pods.iter().filter(|p| p.ready_at.is_some()).count();
        let mut room = self
            .capacity
            .saturating_sub(self.sets.values().map(started).sum());
        for set in self.sets.values_mut().filter(|s| s.version != 4) {
            for pod in set.pods.iter_mut().filter(|p| p.ready_at.is_none()) {
                if room == 0 {
                    return;
                }
                room -= 1;
                // Once in a while one starts slowly.
                let most = if self.dice.one_in(8) { slow } else { 4 };
                let delay = SignedDuration::from_secs(1 + self.dice.below(most) as i64);
                pod.ready_at = Some(now + delay);
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
            self.route.served = self.route.set.clone();
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
            source: Some(set.source.clone()),
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
            canary: Some(self.route.set.share_of(self.sides().1)),
            exact: true,
            managed: self.route.set.managed.clone(),
            acknowledged: self.route.acknowledged(),
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
        let desired = self.desired()?;
        let plan = plan_for(&desired, &observed, self.now);
        if let Some(violation) = invariants::check_for(&desired, &observed, &plan).first() {
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
            let killed = self.kill_at.take_if(|at| *at == self.done).is_some();
            self.done += usize::from(!killed);
            if killed || killed_after == Some(i) {
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

    /// What the spec wants. Checked once for each spec: checking takes longer than planning.
    fn desired(&mut self) -> Result<Arc<Desired>, String> {
        let sides = self.status.canary.stable_ping_pong.clone();
        let key = (self.spec_number, sides);
        if let Some((known, desired)) = &self.checked
            && *known == key
        {
            return Ok(Arc::clone(desired));
        }
        let desired = desired(&self.spec, &self.status).map_err(|problems| problems.join("; "))?;
        let desired = Arc::new(desired);
        self.checked = Some((key, Arc::clone(&desired)));
        Ok(desired)
    }

    /// What has been done is not asked for again.
    fn nothing_twice(&mut self, done: &[Action]) -> Result<(), String> {
        let again = plan_for(&*self.desired()?, &self.observe(), self.now).actions;
        match again.iter().find(|action| done.contains(action)) {
            Some(action) => Err(format!("asked for again after it was done: {action}")),
            None => Ok(()),
        }
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
