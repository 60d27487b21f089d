//! What people and faults do to the world.

use jiff::SignedDuration;

use super::{Act, REPLICAS, Set, VERSIONS, World};

/// The kinds of faults.
pub(super) const KINDS: u32 = 18;

impl World {
    /// What a person does on purpose.
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Deploy(version) => self.want(version),
            Act::Promote => self.status.pause_conditions = None,
            Act::Abort => self.status.abort = true,
            Act::Retry => self.status.abort = false,
            Act::Approve => self.answer_gate(true),
            Act::Reject => self.answer_gate(false),
            Act::Skip => {
                self.status.current_step_index = self.status.current_step_index.map(|i| i + 1)
            }
            Act::PromoteFull => self.status.promote_full = true,
            Act::Hold(paused) => self.spec.paused = Some(paused),
            Act::Scale(replicas) => self.scale(replicas),
            Act::Configure(content) => self.settings.write(content),
            Act::Undo(number) => self.undo(number),
        }
        self.changed = true;
        // The verbs are patches of the status, which has no generation.
        if matches!(
            act,
            Act::Deploy(_) | Act::Hold(_) | Act::Scale(_) | Act::Undo(_)
        ) {
            self.generation += 1;
        }
    }

    /// People and faults, of the given kinds: a new version, an old one, the verbs, other numbers, an instance that dies, room
    /// that runs out, a view that is lost. The dice are thrown alike whatever the kinds.
    pub(super) fn interfere(&mut self, kinds: u32) {
        let (kind, number) = (self.dice.below(60), self.dice.below(64));
        if kind >= u64::from(KINDS) || kinds & (1 << kind) == 0 {
            return;
        }
        let act = match kind {
            0..=2 => Act::Deploy(1 + number % VERSIONS),
            3 => Act::Abort,
            4 => Act::Retry,
            5 => Act::Promote,
            6 => Act::PromoteFull,
            7 => Act::Hold(!self.spec.paused.unwrap_or(false)),
            8 => Act::Skip,
            9 => Act::Scale(2 + (number % 5) as u32),
            10 | 11 => return self.kill_one(number),
            12 => return self.limit(number),
            13 => Act::Approve,
            14 => Act::Reject,
            15 | 16 => Act::Configure(number % 4),
            _ => Act::Undo((number % 4) as usize),
        };
        self.tell(|| format!("somebody: {act:?}"));
        self.act(act);
    }

    fn want(&mut self, version: u64) {
        let (paused, replicas) = (self.spec.paused, self.spec.replicas);
        self.spec = self
            .specs
            .get(version as usize)
            .cloned()
            .unwrap_or_default();
        self.spec.paused = paused;
        self.spec.replicas = replicas;
    }

    /// The template of the revision, with the names of the copies in it.
    fn undo(&mut self, number: usize) {
        let mut old: Vec<&Set> = self.sets.values().collect();
        old.sort_by_key(|set| set.number);
        if let Some(set) = old.get(number) {
            self.spec.template = Some((*set.template).clone());
        }
    }

    fn scale(&mut self, replicas: u32) {
        self.fewest = self.fewest.min(replicas);
        self.most = self.most.max(replicas);
        self.replicas = replicas;
        self.spec.replicas = i32::try_from(replicas).ok();
    }

    /// Room for some instances only: those that run stay, new ones may have to wait.
    fn limit(&mut self, number: u64) {
        self.capacity = REPLICAS as usize + (number % 6) as usize;
        let capacity = self.capacity;
        self.tell(|| format!("there is room for {capacity} instances"));
    }

    /// One instance dies, but never the last ones of its revision: with nobody left, no order of steps could serve.
    fn kill_one(&mut self, number: u64) {
        let (pick, now) = ((number % 8) as usize, self.now);
        let delay = SignedDuration::from_secs(2 + (number % 5) as i64);
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
            self.tell(|| "an instance dies".to_owned());
        }
    }

    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.somebody_goes_on = true;
        self.spec.paused = None;
        self.capacity = usize::MAX;
        self.seen = None;
        self.changed = true;
        self.settings.heal();
        self.tell(|| "the world heals".to_owned());
    }
}
