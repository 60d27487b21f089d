//! The world: what there is, what happens to it, and the rules that must hold in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{Desired, RolloutSpec, RolloutStatus};
use serin_api::units::{RevisionHash, Weight};

mod configuration;
mod control;
mod course;
mod deeds;
mod faults;
mod gates;
mod group;
mod nature;
mod objects;
mod rules;
mod runs;
mod scenario;

use configuration::Settings;
use group::Together;
use objects::{specs, templates};

pub use course::{Leg, course};
pub use group::story_together;
pub use objects::{spec as manifest, templates as analysis_templates};
pub use runs::{Act, Failure, Faults, Subject, killed_at, run, shrink, story, story_under, told};
pub use scenario::Scenario;

use super::dice::Dice;
use crate::analysis::TemplateSource;
use crate::rollout::group::Group;
use crate::rollout::{ExperimentView, Governed, History, Observed, RunView};

/// When the world begins: any time will do.
const BEGINNING: Timestamp = Timestamp::constant(1_800_000_000, 0);
const REPLICAS: u32 = 4;
/// Versions 1 to 3 are good, 4 never becomes ready, 5 answers badly, 6 does so only once all users are on it.
const VERSIONS: u64 = 6;

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
