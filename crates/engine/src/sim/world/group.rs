//! Rollouts that are released together: several worlds with one clock, each with a controller that sees the others as they
//! are, or as they were.
//!
//! What holds of a group is checked here on what really happened. A view may be behind: a member is blamed for what it does
//! only when its view was made after what it should have seen.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serin_api::keys::annotation;
use serin_api::rollout::{GroupStatus, RolloutStatus};
use serin_api::waiting::WaitingOn;

use super::super::dice::Dice;
use super::faults;
use super::objects::{policy, version};
use super::{Act, Failure, Faults, Scenario, VERSIONS, World};
use crate::rollout::group::{Group, Member, membership};

/// The kinds of what happens to a group, beyond what happens to each member.
pub(super) const KINDS: u32 = 2;
const NAMES: [&str; 3] = ["api", "web", "worker"];
/// Seconds in which the first versions are there, and in which a healed group comes to rest.
const FIRST_STEPS: u32 = 100;
const HEALING_STEPS: u32 = 600;

/// Worlds with one clock, and the people who release what is in them together.
pub(super) struct Together {
    members: Vec<Joined>,
    dice: Dice,
    /// Looks of all controllers so far: the order of what happens.
    tick: u64,
    telling: bool,
    story: Vec<String>,
}

/// A world in the group, and what is remembered of it to judge what it does.
struct Joined {
    world: World,
    /// The release of the group that its spec is of.
    release: Option<u64>,
    /// What is applied to it in so many seconds.
    coming: Option<(u64, u64, Option<u64>)>,
    /// When its release began, and when its label last changed, in looks.
    began: u64,
    labelled: u64,
    /// A release that must be taken back, as another was.
    debt: Option<Debt>,
}

/// The release of another member that was taken back.
#[derive(Clone, Copy)]
struct Debt {
    to: usize,
    began: u64,
}

/// What a status says of a release.
#[derive(Clone, PartialEq)]
struct Mark {
    since: Option<MicroTime>,
    wanted: Option<String>,
    stable: Option<String>,
    index: Option<i32>,
    steps: i64,
    aborted: bool,
    full: bool,
    arrived: bool,
    taken_back: Option<MicroTime>,
}

impl Mark {
    fn of(status: &RolloutStatus) -> Self {
        let GroupStatus {
            since,
            steps,
            arrived,
            taken_back_at,
            ..
        } = status.release_group.clone().unwrap_or_default();
        Self {
            since,
            wanted: status.current_pod_hash.clone(),
            stable: status.stable_rs.clone(),
            index: status.current_step_index,
            steps: steps.into(),
            aborted: status.abort,
            full: status.promote_full,
            arrived,
            taken_back: taken_back_at,
        }
    }

    /// A release that goes on.
    fn is_under_way(&self) -> bool {
        self.stable.is_some() && self.stable != self.wanted && !self.aborted
    }

    /// The step that it is at; `None` after the last.
    fn step(&self) -> Option<i64> {
        let index = i64::from(self.index.unwrap_or(0));
        (index < self.steps).then_some(index)
    }

    fn is_same_release(&self, other: &Self) -> bool {
        self.since == other.since && self.wanted == other.wanted
    }
}

impl Together {
    fn new(scenarios: &[Scenario], seed: u64) -> Self {
        let join = |(i, scenario): (usize, &Scenario)| {
            let mut world = World::new(*scenario, seed.wrapping_add(i as u64).rotate_left(17));
            world.name = NAMES.get(i).copied().unwrap_or("another");
            Joined {
                world,
                release: None,
                coming: None,
                began: 0,
                labelled: 0,
                debt: None,
            }
        };
        Self {
            members: scenarios.iter().enumerate().map(join).collect(),
            dice: Dice::new(seed),
            tick: 0,
            telling: false,
            story: Vec::new(),
        }
    }

    pub(super) fn run(seed: u64, faults: Faults, telling: bool) -> Result<Vec<String>, Failure> {
        let mut dice = Dice::new(!seed);
        let count = 2 + dice.below(2) as usize;
        let mut pick = || {
            let at = dice.below(Scenario::ALL.len() as u64) as usize;
            Scenario::ALL.get(at).copied()
        };
        let scenarios: Vec<_> = (0..count).filter_map(|_| pick()).collect();
        let mut group = Self::new(&scenarios, seed);
        group.begin(telling);
        if let Err(what) = group.first().and_then(|()| group.suffer(faults)) {
            return Err(group.failure(what));
        }
        match group.rest() {
            Ok(()) => Ok(group.story),
            Err(what) => Err(group.failure(what)),
        }
    }

    fn begin(&mut self, telling: bool) {
        let labelled = self.dice.one_in(2);
        self.telling = telling;
        for joined in &mut self.members {
            joined.world.telling = telling;
            joined.world.governed.policy = policy(joined.world.scenario, self.dice.below(6));
            joined.release = labelled.then_some(1);
        }
    }

    /// The first version of each member comes up undisturbed.
    fn first(&mut self) -> Result<(), String> {
        let settled = |joined: &Joined| {
            let status = &joined.world.status;
            status.stable_rs.is_some() && status.stable_rs == status.current_pod_hash
        };
        self.quiet(true);
        for _ in 0..FIRST_STEPS {
            self.step()?;
            if self.members.iter().all(settled) {
                return Ok(());
            }
        }
        Err("the first versions do not come up".to_owned())
    }

    fn quiet(&mut self, quiet: bool) {
        for joined in &mut self.members {
            joined.world.faults = !quiet;
            joined.world.somebody_goes_on = quiet;
        }
    }

    fn suffer(&mut self, faults: Faults) -> Result<(), String> {
        self.quiet(false);
        for _ in 0..faults.seconds {
            self.interfere(faults.kinds);
            self.step()?;
        }
        Ok(())
    }

    /// All heal, and come to rest with the help of people.
    fn rest(&mut self) -> Result<(), String> {
        let newest = self.members.iter().filter_map(|m| m.release).max();
        for joined in &mut self.members {
            if let Some((_, version, _)) = joined.coming.take() {
                joined.world.act(Act::Deploy(version));
            }
            joined.release = newest;
            joined.labelled = self.tick;
            joined.world.heal();
        }
        for _ in 0..HEALING_STEPS {
            self.step()?;
            self.help();
            let mut worlds = self.members.iter().map(|m| &m.world);
            if worlds.all(|w| w.is_still() && w.at_rest().is_ok()) {
                break;
            }
        }
        for Joined { world, debt, .. } in &self.members {
            let name = world.name;
            world.at_rest().map_err(|what| format!("{name}: {what}"))?;
            if debt.is_some() {
                return Err(format!(
                    "{name} rests where another member was taken back from"
                ));
            }
        }
        Ok(())
    }

    /// What people do for a group: they give up what never starts, and retry what the others wait for.
    fn help(&mut self) {
        let marks: Vec<_> = self.members.iter().map(Joined::mark).collect();
        let waits = self.members.iter().zip(&marks);
        let waits = waits.filter(|(_, mark)| mark.is_under_way());
        let awaited: Vec<_> = waits
            .filter_map(|(joined, _)| match &joined.world.status.waiting_on {
                Some(WaitingOn::Group { member, .. }) => Some(member.clone()),
                _ => None,
            })
            .collect();
        for (Joined { world, .. }, mark) in self.members.iter_mut().zip(marks) {
            if mark.is_under_way() && version(&world.spec) == 4 {
                world.act(Act::Abort);
            }
            if mark.aborted && awaited.iter().any(|name| name == world.name) {
                world.act(Act::Retry);
            }
        }
    }

    /// A second passes: all worlds move on, their controllers look in any order.
    fn step(&mut self) -> Result<(), String> {
        let mut turns = Vec::new();
        for (i, joined) in self.members.iter_mut().enumerate() {
            joined.world.move_on()?;
            let passes = joined.world.passes();
            turns.extend((0..passes).map(|_| i));
            joined.take_what_comes(self.tick);
        }
        while !turns.is_empty() {
            let turn = turns.swap_remove(self.dice.below(turns.len() as u64) as usize);
            self.look(turn)?;
        }
        for joined in &mut self.members {
            joined.world.help();
        }
        Ok(())
    }

    /// The controller of one member looks.
    fn look(&mut self, i: usize) -> Result<(), String> {
        self.tick += 1;
        let group = self.group_of(i);
        let Some(joined) = self.members.get_mut(i) else {
            return Ok(());
        };
        let before = joined.mark();
        joined.world.changed |= joined.world.group != group;
        joined.world.group = group;
        joined.world.tick = self.tick;
        let looked = joined.world.look();
        let after = joined.mark();
        if !after.is_same_release(&before) {
            joined.began = self.tick;
        }
        let name = joined.world.name;
        let told = joined.world.story.drain(..);
        self.story
            .extend(told.map(|what| format!("{name}: {what}")));
        looked?;
        self.keeps_pace(i, &before, &after)?;
        self.comes_back(i, &before, &after)
            .map_err(|what| format!("{name} {what}"))
    }

    fn group_of(&self, i: usize) -> Option<Group> {
        let own = self.members.get(i)?;
        let others = self.members.iter().enumerate().filter(|(j, _)| *j != i);
        Some(Group {
            name: "shop".to_owned(),
            release: own.release.map(|release| release.to_string()),
            others: others.map(|(_, other)| other.seen()).collect(),
        })
    }

    /// The others that a view has, as they are now, each with when its release began.
    fn others(&self, i: usize) -> impl Iterator<Item = (&Joined, Mark)> {
        let others = self.members.iter().enumerate();
        let others = others.filter(move |(j, _)| *j != i);
        others.map(|(_, other)| (other, other.mark()))
    }

    /// No step is over before all others have done the one before it, and no release before all users of the others are where it
    /// leads.
    fn keeps_pace(&self, i: usize, before: &Mark, after: &Mark) -> Result<(), String> {
        let Some(own) = self.members.get(i) else {
            return Ok(());
        };
        let (name, seen_at) = (own.world.name, own.world.planned_on);
        let goes_on = before.is_under_way() && before.is_same_release(after) && !after.aborted;
        if !goes_on || before.full || after.full {
            return Ok(());
        }
        let step = before.step().filter(|_| after.index > before.index);
        let completes = after.stable == after.wanted;
        for (other, mark) in self.others(i) {
            let other_name = other.world.name;
            let unlike = own.release.is_some() && other.release != own.release;
            if step.is_some() && unlike && other.labelled.max(own.labelled) < seen_at {
                return Err(format!(
                    "{name} goes on while {other_name} is of another release"
                ));
            }
            if !mark.is_under_way() || other.began >= seen_at {
                continue;
            }
            let behind = mark
                .step()
                .is_some_and(|theirs| step.is_some_and(|s| theirs < s));
            if behind {
                return Err(format!(
                    "{name} is done with {step:?} before {other_name}: {:?}",
                    mark.step()
                ));
            }
            if completes && !mark.arrived {
                return Err(format!("{name} completes before {other_name}"));
            }
        }
        Ok(())
    }

    /// When one is taken back before all have arrived, all are.
    fn comes_back(&mut self, i: usize, before: &Mark, after: &Mark) -> Result<(), String> {
        let newest = self.others(i).map(|(other, _)| other.began).max();
        let arrived = before.arrived
            && self
                .others(i)
                .all(|(_, mark)| mark.arrived || !mark.is_under_way());
        let began: BTreeMap<_, _> = self.members.iter().map(|m| m.began).enumerate().collect();
        let Some(own) = self.members.get_mut(i) else {
            return Ok(());
        };
        if let Some(debt) = own.debt {
            let paid = after.aborted || !after.is_same_release(before);
            let void = began.get(&debt.to) != Some(&debt.began) || before.full;
            if paid || void {
                own.debt = None;
            } else if after.stable == after.wanted && newest < Some(own.world.planned_on) {
                return Err("is complete though another member was taken back".to_owned());
            }
        }
        let told = before.taken_back.is_none() && after.taken_back.is_some();
        if !told || !before.is_under_way() || arrived {
            return Ok(());
        }
        let debt = began.get(&i).map(|began| Debt {
            to: i,
            began: *began,
        });
        let others = self.members.iter_mut().enumerate();
        for (_, other) in others.filter(|(j, _)| *j != i) {
            let mark = other.mark();
            if mark.is_under_way() && !mark.full {
                other.debt = debt;
            }
        }
        Ok(())
    }

    /// People and faults: all members are released, at about the same time; one label changes; or something happens to one.
    fn interfere(&mut self, kinds: u32) {
        let (kind, number) = (self.dice.below(40), self.dice.below(64));
        let pick = self.dice.below(self.members.len() as u64) as usize;
        match kind {
            0..=2 => self.release_all(number, kinds & (1 << faults::KINDS) != 0),
            3 if kinds & (1 << (faults::KINDS + 1)) != 0 => {
                if let Some(joined) = self.members.get_mut(pick) {
                    joined.release = joined.release.map(|_| number % 4);
                    joined.labelled = self.tick;
                    let release = joined.release;
                    joined
                        .world
                        .tell(|| format!("somebody: it is of release {release:?}"));
                }
            }
            3 => {}
            _ => {
                if let Some(joined) = self.members.get_mut(pick) {
                    joined.world.interfere(kinds);
                }
            }
        }
    }

    fn release_all(&mut self, number: u64, really: bool) {
        let release = self.members.iter().filter_map(|m| m.release).max();
        for joined in &mut self.members {
            let (any, later) = (self.dice.below(VERSIONS), self.dice.below(6));
            let version = 1 + if number.is_multiple_of(4) {
                any
            } else {
                number % 3
            };
            if really {
                joined.coming = Some((later, version, release.map(|release| release + 1)));
            }
        }
    }

    fn failure(&self, what: String) -> Failure {
        Failure {
            what,
            story: self.story.iter().rev().take(120).rev().cloned().collect(),
        }
    }
}

impl Joined {
    fn mark(&self) -> Mark {
        Mark::of(&self.world.status)
    }

    fn take_what_comes(&mut self, tick: u64) {
        match self.coming.take() {
            Some((0, version, release)) => {
                self.world
                    .tell(|| format!("somebody: version {version} of release {release:?}"));
                self.world.act(Act::Deploy(version));
                self.release = release;
                self.labelled = tick;
            }
            coming => self.coming = coming.map(|(later, v, r)| (later - 1, v, r)),
        }
    }

    /// What the others see of it.
    fn seen(&self) -> Member {
        let label = |release: u64| (annotation::RELEASE.to_owned(), release.to_string());
        let group = (annotation::RELEASE_GROUP.to_owned(), "shop".to_owned());
        let annotations = self.release.map(label).into_iter().chain([group]);
        let metadata = ObjectMeta {
            name: Some(self.world.name.to_owned()),
            generation: Some(self.world.generation),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        };
        debug_assert!(membership(&metadata).is_some());
        Member::seen(&metadata, &self.world.status)
    }
}

/// Tells what happens to Rollouts that are released together, in worlds without faults: who does what, and the seconds after it
/// until the next.
///
/// # Errors
/// The rule that was broken, with the story.
pub fn story_together(
    scenarios: &[Scenario],
    acts: &[(usize, Act, u32)],
) -> Result<Vec<String>, Failure> {
    let mut group = Together::new(scenarios, 0);
    for joined in &mut group.members {
        joined.world.telling = true;
        joined.world.faults = false;
    }
    for (i, act, seconds) in acts {
        if let Some(joined) = group.members.get_mut(*i) {
            group
                .story
                .push(format!("{}: somebody: {act:?}", joined.world.name));
            joined.world.act(*act);
        }
        for _ in 0..*seconds {
            if let Err(what) = group.step() {
                return Err(group.failure(what));
            }
        }
    }
    Ok(group.story)
}
