//! Runs of the world: told ones, killed ones, and seeds with faults, which shrink when they fail.

use serin_api::release::Policy;

use super::objects::policy;
use super::{Scenario, Together, World, faults, group};

const HEALING_STEPS: usize = 200;

/// A run that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was broken.
    pub what: String,
    /// The last steps before it.
    pub story: Vec<String>,
}

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
    pub(super) kinds: u32,
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
    run_with(subject, seed, Faults::ALL, false).map(drop)
}

/// Runs one seed, and tells what happens in it.
///
/// # Errors
/// The rule that was broken, with the end of the story.
pub fn told(subject: Subject, seed: u64) -> Result<Vec<String>, Failure> {
    run_with(subject, seed, Faults::ALL, true)
}

/// Runs one seed with some faults only; its story, where it is to be told.
fn run_with(
    subject: Subject,
    seed: u64,
    faults: Faults,
    telling: bool,
) -> Result<Vec<String>, Failure> {
    match subject {
        Subject::One(scenario) => run_one(scenario, seed, faults, telling),
        Subject::Group => Together::run(seed, faults, telling),
    }
}

fn run_one(
    scenario: Scenario,
    seed: u64,
    faults: Faults,
    telling: bool,
) -> Result<Vec<String>, Failure> {
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
    match world.at_rest() {
        Ok(()) => Ok(world.story),
        Err(what) => Err(world.failure(what)),
    }
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
