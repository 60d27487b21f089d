//! A quiet release, step by step: what a forecast of it must say.

use serin_api::units::RevisionHash;
use serin_api::waiting::WaitingOn;

use super::{Act, Failure, Scenario, World};

/// What a quiet release comes to at the end of one of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The step, from 1; `None` after the last one, or without steps.
    pub step: Option<usize>,
    /// Instances of the old version.
    pub old: u32,
    /// Instances of the new version.
    pub new: u32,
    /// The share of the requests that the new version has, in percent.
    pub share_percent: u32,
}

/// Seconds in which any quiet release is over.
const LONG_ENOUGH: u32 = 200;

/// Releases version 2 over version 1 in a world without faults, in which somebody ends every pause.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn course(scenario: Scenario) -> Result<Vec<Leg>, Failure> {
    let mut world = World::new(scenario, 0);
    world.faults = false;
    world.somebody_goes_on = true;
    for _ in 0..LONG_ENOUGH {
        world.step().map_err(|what| world.failure(what))?;
    }
    world.act(Act::Deploy(2));
    let mut legs: Vec<Leg> = Vec::new();
    for _ in 0..LONG_ENOUGH {
        world.step().map_err(|what| world.failure(what))?;
        let leg = world.leg();
        match legs.last_mut() {
            // The pass that goes on to another step is the end of the one before.
            Some(last) if last.step != leg.step => {
                *last = Leg {
                    step: last.step,
                    ..leg
                };
                legs.push(leg);
            }
            Some(last) => *last = leg,
            None => legs.push(leg),
        }
        let status = &world.status;
        let waits = status.waiting_on.clone().unwrap_or_default();
        let rests = matches!(waits, WaitingOn::Nothing | WaitingOn::ScaleDown { .. });
        // What is seen is kept for the next pass when there was nothing to do.
        let done = world.seen.is_some() && status.stable_rs == status.current_pod_hash;
        if rests && done {
            return Ok(legs);
        }
    }
    Err(world.failure("the release is not over".to_owned()))
}

impl World {
    fn leg(&self) -> Leg {
        let wanted = self
            .status
            .current_pod_hash
            .as_deref()
            .map(RevisionHash::new);
        let sum = |new: bool| {
            let side = self.sets.iter();
            let side = side.filter(|(hash, _)| (Some(*hash) == wanted.as_ref()) == new);
            side.map(|(_, set)| set.desired).sum::<u32>()
        };
        let (old, new) = (sum(false), sum(true));
        let users = if self.scenario == Scenario::BlueGreen {
            "active"
        } else {
            self.sides().0
        };
        let behind = self.services.get(users).and_then(|s| s.set.as_ref());
        let share_percent = match self.scenario {
            Scenario::Replicas | Scenario::Batches => {
                (new * 100).checked_div(old + new).unwrap_or(0)
            }
            _ if behind == wanted.as_ref() => 100,
            Scenario::BlueGreen => 0,
            _ => u32::from(self.route.set.share_of(self.sides().1).percent()),
        };
        // The steps of the spec, or the batches that a policy makes of a release without some.
        let canary = self.spec.strategy.canary.as_ref();
        let batches = self.status.canary.batches.as_ref();
        let batches = batches.and_then(|batches| usize::try_from(batches.count).ok());
        let steps = canary.map_or(0, |c| c.steps.len());
        let steps = steps.max(batches.unwrap_or(0));
        let index = self
            .status
            .current_step_index
            .and_then(|i| usize::try_from(i).ok());
        Leg {
            step: index.filter(|i| *i < steps).map(|i| i + 1),
            old,
            new,
            share_percent,
        }
    }
}
