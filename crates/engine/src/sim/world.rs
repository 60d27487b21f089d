//! The world: what there is, what happens to it, and the rules that must hold in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serin_api::analysis::AnalysisPhase;
use serin_api::release::Policy;
use serin_api::rollout::{Desired, RolloutSpec, RolloutStatus};
use serin_api::units::{RevisionHash, Weight};

mod configuration;
mod control;
mod course;
mod deeds;
mod faults;
mod gates;
mod group;
mod objects;
mod rules;

use configuration::Settings;
use group::Together;
use objects::{policy, specs, templates};

pub use course::{Leg, course};
pub use group::story_together;
pub use objects::{spec as manifest, templates as analysis_templates};

use super::dice::Dice;
use crate::analysis::TemplateSource;
use crate::rollout::group::Group;
use crate::rollout::{ExperimentView, Governed, History, Observed, RunView};

/// How a Rollout of the simulator is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// A canary with a route and an experiment between its steps.
    Experiment,
    /// A rolling update in batches, each with its check.
    Batches,
    /// A canary with a route whose instances read a ConfigMap, which is part of its revisions.
    Configured,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Traffic,
        Self::Replicas,
        Self::BlueGreen,
        Self::Managed,
        Self::Dynamic,
        Self::PingPong,
        Self::Experiment,
        Self::Batches,
        Self::Configured,
    ];

    /// What it asks for beyond its spec.
    pub fn policy(self) -> Policy {
        policy(self, 0)
    }

    fn is_routed(self) -> bool {
        !self.is_by_replicas() && self != Self::BlueGreen
    }

    /// Whether the numbers of instances make the split.
    fn is_by_replicas(self) -> bool {
        matches!(self, Self::Replicas | Self::Batches)
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
    /// Write another content into the ConfigMap: 1 and 2 are good, 3 makes instances answer badly; 0 deletes it.
    Configure(u64),
    /// Want the template of an old revision again, the oldest being 0, as `serin rollout undo` does.
    Undo(usize),
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
    story_under(scenario, scenario.policy(), acts)
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
    world.telling = true;
    world.governed.policy = policy;
    for (act, seconds) in acts {
        world.tell(|| format!("somebody: {act:?}"));
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

/// What one run of the simulator is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One Rollout.
    One(Scenario),
    /// Rollouts that are released together, of which kinds says the seed.
    Group,
}

/// Runs one seed.
///
/// # Errors
/// The rule that was broken. It has no story: [`shrink`] tells it.
pub fn run(subject: Subject, seed: u64) -> Result<(), Failure> {
    run_with(subject, seed, Faults::ALL, false)
}

/// Runs one seed with some faults only.
fn run_with(subject: Subject, seed: u64, faults: Faults, telling: bool) -> Result<(), Failure> {
    match subject {
        Subject::One(scenario) => run_one(scenario, seed, faults, telling),
        Subject::Group => Together::run(seed, faults, telling),
    }
}

fn run_one(scenario: Scenario, seed: u64, faults: Faults, telling: bool) -> Result<(), Failure> {
    let mut world = World::new(scenario, seed);
    world.telling = telling;
    world.governed.policy = policy(scenario, world.dice.below(6));
    for _ in 0..faults.seconds {
        world.interfere(faults.kinds);
        world.step().map_err(|what| world.failure(what))?;
    }
    world.heal();
    for _ in 0..HEALING_STEPS {
        world.step().map_err(|what| world.failure(what))?;
        if world.is_still() && world.at_rest().is_ok() {
            break;
        }
    }
    world.at_rest().map_err(|what| world.failure(what))
}

/// The shortest run of a failing seed with the fewest kinds of faults that still fails; `None` when it does not fail.
pub fn shrink(subject: Subject, seed: u64) -> Option<(Faults, Failure)> {
    let mut least = Faults::ALL;
    let mut failure = run_with(subject, seed, least, true).err()?;
    let mut keep = |smaller: Faults, least: &mut Faults| {
        if let Err(found) = run_with(subject, seed, smaller, true) {
            failure = found;
            *least = smaller;
            return true;
        }
        false
    };
    for kind in 0..faults::KINDS + group::KINDS {
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
    /// The copy of the ConfigMap that its instances read.
    reads: Option<String>,
    created: Timestamp,
    source: String,
    template: Arc<PodTemplateSpec>,
    desired: u32,
    pods: Vec<Pod>,
    /// Its instances, and those that are ready, a second ago.
    counts: (usize, u32),
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

    /// Serves what is set; whether that is something new.
    fn serve(&mut self) -> bool {
        let new = !self.acknowledged();
        if new {
            self.served = self.set.clone();
        }
        new
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

/// An experiment that a step has started. What happens inside it is not this world's: it comes to something, or is ended.
#[derive(Clone, Debug)]
struct Trial {
    view: ExperimentView,
    ends_at: Timestamp,
    outcome: AnalysisPhase,
}

/// What a checked spec depends on: the scenario, the version, what it reads, whether it is paused, its instances, and which
/// Service is the stable one.
type SpecKey = (
    Scenario,
    u64,
    Option<String>,
    Option<bool>,
    Option<i32>,
    Option<String>,
);

thread_local! {
    /// The specs that have been checked. Checking one takes longer than planning, and all runs have the same.
    static CHECKED: RefCell<BTreeMap<SpecKey, Arc<Desired>>> = const { RefCell::new(BTreeMap::new()) };
}

struct World {
    scenario: Scenario,
    name: &'static str,
    dice: Dice,
    now: Timestamp,
    /// The spec of each version, made once.
    specs: &'static [RolloutSpec],
    templates: TemplateSource,
    governed: Governed,
    spec: RolloutSpec,
    generation: i64,
    /// The others of its group, as the API has them now.
    group: Option<Group>,
    /// The number of this look of all controllers of the group, of the one in which the latest view was made, and of the one
    /// whose view the last plan was made on.
    tick: u64,
    seen_at: u64,
    planned_on: u64,
    settings: Settings,
    status: RolloutStatus,
    sets: BTreeMap<RevisionHash, Set>,
    services: BTreeMap<String, Served<Option<RevisionHash>>>,
    route: Served<Split>,
    runs: Vec<Run>,
    experiments: Vec<Trial>,
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
    /// Whether something has changed since the controller last looked, and when it is to look even so: as in production,
    /// nothing else wakes it.
    changed: bool,
    wake_at: Option<Timestamp>,
    /// What the controller last saw of the things that others change; it may be behind.
    seen: Option<Observed>,
    /// The story costs more than the run: it is told of a seed that fails.
    telling: bool,
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
            name: "web",
            dice: Dice::new(seed),
            now: BEGINNING,
            spec: specs(scenario).get(1).cloned().unwrap_or_default(),
            specs: specs(scenario),
            templates: templates(),
            governed: Governed {
                policy: scenario.policy(),
                ..Governed::default()
            },
            generation: 1,
            group: None,
            tick: 0,
            seen_at: 0,
            planned_on: 0,
            settings: Settings::new(scenario),
            status: RolloutStatus::default(),
            sets: BTreeMap::new(),
            services,
            route: Served {
                set: unsplit.clone(),
                served: unsplit,
            },
            runs: Vec::new(),
            experiments: Vec::new(),
            faults: true,
            capacity: usize::MAX,
            replicas: REPLICAS,
            fewest: REPLICAS,
            most: REPLICAS,
            kill_at: None,
            done: 0,
            somebody_goes_on: false,
            changed: true,
            wake_at: None,
            seen: None,
            telling: false,
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
    fn tell(&mut self, what: impl FnOnce() -> String) {
        if !self.telling {
            return;
        }
        let mut what = what();
        for (hash, set) in &self.sets {
            what = what.replace(hash.as_str(), &format!("v{}", set.version));
        }
        let second = self.now.as_second() - BEGINNING.as_second();
        self.story.push(format!("{second:03}s {what}"));
    }

    /// A second passes: the world moves on, the controller looks, decides and acts.
    fn step(&mut self) -> Result<(), String> {
        self.move_on()?;
        for _ in 0..self.passes() {
            self.look()?;
        }
        self.help();
        Ok(())
    }

    /// A second passes without the controller.
    fn move_on(&mut self) -> Result<(), String> {
        self.now += SignedDuration::from_secs(1);
        self.move_instances();
        self.move_data_plane();
        self.move_runs();
        self.rules()
    }

    /// How often the controller looks in a second.
    fn passes(&mut self) -> u64 {
        if self.faults { self.dice.below(3) } else { 1 }
    }

    /// The controller looks, decides and acts, if anything wakes it. Among faults an event may come twice.
    fn look(&mut self) -> Result<(), String> {
        let due = self.wake_at.is_some_and(|at| at <= self.now);
        let again = self.faults && self.dice.one_in(8);
        if !self.changed && !due && !again {
            return Ok(());
        }
        self.control()?;
        self.rules()?;
        self.follow_scale();
        Ok(())
    }

    /// A person goes on wherever one is waited for.
    fn help(&mut self) {
        if !self.somebody_goes_on {
            return;
        }
        self.answer_gate(true);
        if self.status.controller_pause && self.status.pause_conditions.is_some() {
            self.status.pause_conditions = None;
            self.changed = true;
        }
    }

    fn move_instances(&mut self) {
        let now = self.now;
        for set in self.sets.values_mut() {
            set.pods
                .sort_by_key(|p| p.ready_at.is_none_or(|at| at > now));
            set.pods
                .resize(set.desired as usize, Pod { ready_at: None });
        }
        self.start_instances();
        for set in self.sets.values_mut() {
            let counts = (set.pods.len(), set.ready(now));
            self.changed |= counts != set.counts;
            set.counts = counts;
        }
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
                self.changed |= service.serve();
            }
        }
        if !self.faults || self.dice.one_in(2) {
            self.changed |= self.route.serve();
        }
    }

    fn move_runs(&mut self) {
        let now = self.now;
        let mut changed = false;
        let mut come = |phase: &mut AnalysisPhase, terminating, ends_at, outcome| {
            if phase.is_completed() {
                return;
            }
            if terminating {
                *phase = AnalysisPhase::Successful;
                changed = true;
            } else if ends_at <= now {
                *phase = outcome;
                changed = true;
            }
        };
        for Run {
            view,
            ends_at,
            outcome,
        } in &mut self.runs
        {
            come(&mut view.phase, view.terminating, *ends_at, *outcome);
        }
        for Trial {
            view,
            ends_at,
            outcome,
        } in &mut self.experiments
        {
            come(&mut view.phase, view.terminating, *ends_at, *outcome);
        }
        self.changed |= changed;
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
