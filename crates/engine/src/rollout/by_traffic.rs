//! Canary with routes: the data plane splits the requests, and says when it does.
//!
//! The stable revision keeps all its instances until the new one has all users. At the end the stable Service moves to the
//! new revision while the canary Service still carries every request, and only when that is served do the routes go back to
//! the stable Service: at no moment does a request depend on two changes being seen in the same order.

use serin_api::rollout::{Canary, PING, PONG, Side};
use serin_api::units::{RevisionHash, Weight};

use super::planner::Planner;
use super::steps::Targets;

const SIDES: [Side; 2] = [Side::Stable, Side::Canary];

impl Planner<'_> {
    pub(super) fn by_traffic(&mut self, canary: &Canary) {
        match self.stable() {
            None => self.first_by_traffic(canary),
            Some(stable) if stable == self.current => self.settled_by_traffic(canary),
            Some(stable) => {
                if !self.next.abort {
                    self.update_by_traffic(canary, &stable);
                }
                // Not an else: what has just been found bad is taken back in the same pass.
                if self.next.abort {
                    self.abort_by_traffic(canary, &stable);
                }
            }
        }
        self.tell_weights(canary);
    }

    /// The first revision: there is nobody to protect yet, so there are no steps.
    fn first_by_traffic(&mut self, canary: &Canary) {
        let current = self.current.clone();
        self.scale(&current, self.desired.replicas);
        if !self.await_available(&current, self.desired.replicas) {
            return;
        }
        let served = [
            self.select_side(canary, Side::Stable, &current),
            self.select_side(canary, Side::Canary, &current),
        ];
        if self.set_weight(canary, Weight::ZERO) && served == [true, true] {
            self.reclaim_others(canary, &[&current]);
            self.promote(jiff::SignedDuration::ZERO);
        }
    }

    /// The users are on the revision that is wanted, or are to be again: all goes to it, with no steps.
    fn settled_by_traffic(&mut self, canary: &Canary) {
        let current = self.current.clone();
        self.scale(&current, self.desired.replicas);
        if self.available(&current) == 0 && self.desired.replicas > 0 {
            // Whoever has the requests keeps them.
            self.await_available(&current, 1);
            return;
        }
        let stable_served = self.select_side(canary, Side::Stable, &current);
        let share = self.share_on_the_way_back(canary, &current);
        let all_back = self.set_weight(canary, share) && stable_served && share == Weight::ZERO;
        if all_back {
            self.select_side(canary, Side::Canary, &current);
            self.reclaim_others(canary, &[&current]);
        }
        self.await_available(&current, self.desired.replicas);
    }

    fn update_by_traffic(&mut self, canary: &Canary, stable: &RevisionHash) {
        let current = self.current.clone();
        let index = self.step_index();
        let targets = self.targets_at(canary, index);
        let there = self.is_on(canary, Side::Canary, &current);
        // Before the canary Service is on the new revision, its share is still somebody else's and goes back first.
        let wanted = if there { targets.weight } else { Weight::ZERO };
        self.scale(stable, self.stable_size(canary, stable, wanted));
        self.scale_canary(canary, targets.instances);
        self.reclaim_others(canary, &[&current, stable]);
        if self.desired.replicas == 0 {
            self.finish_with_nobody(canary, &current);
            return;
        }
        if let Some(background) = &canary.background
            && !self.analyse_in_background(background, index)
        {
            return;
        }
        let finishing = index >= canary.steps.len();
        let behind = self.reaches(canary, Side::Stable, &current);
        // What another release left unfinished is put back before this one goes on.
        if !(finishing && behind)
            && self.available(stable) > 0
            && !self.select_side(canary, Side::Stable, stable)
        {
            return;
        }
        if finishing {
            self.finish_by_traffic(canary, stable);
        } else {
            let settled = self.follow_weight(canary, stable, &targets);
            if !self.held() {
                self.carry_out_step(canary, index, settled);
            }
        }
    }

    /// With no instances wanted there is nobody to answer and nothing to prove.
    fn finish_with_nobody(&mut self, canary: &Canary, current: &RevisionHash) {
        let services =
            [Side::Stable, Side::Canary].map(|side| self.select_side(canary, side, current));
        if self.set_weight(canary, Weight::ZERO) && services == [true, true] {
            self.promote(jiff::SignedDuration::ZERO);
        }
    }

    /// Moves the share once the canary has the instances for it; until then the share stays. `true` when all is as it should
    /// be.
    fn follow_weight(&mut self, canary: &Canary, stable: &RevisionHash, targets: &Targets) -> bool {
        let current = self.current.clone();
        let have = self.available(&current);
        let asked_for = targets.weight > Weight::ZERO || !targets.managed.is_empty();
        if have == 0 && asked_for {
            self.set_weight(canary, self.share_on_the_way_back(canary, stable));
            self.await_available(&current, targets.instances.max(1));
            return false;
        }
        let ready = self.await_available(&current, canary.enough_of(targets.instances));
        if !ready || self.is_held() {
            return false;
        }
        // Instances that are left from an earlier try go where a step wants none: no Service follows them.
        let staying = if asked_for {
            have
        } else {
            have.min(targets.instances)
        };
        if !self.retarget_canary(canary, stable, staying) {
            return false;
        }
        // A smaller share, after a spec was changed, goes back no faster than the stable revision grows.
        let least = self.share_on_the_way_back(canary, stable);
        let weight = targets.weight.max(least);
        let additional = self.experiment_shares(canary, weight.complement());
        let served = self.set_routes(canary, weight, &additional, &targets.managed);
        if least > targets.weight {
            self.await_available(stable, self.desired.replicas);
        }
        served && least <= targets.weight
    }

    /// Points the canary Service at the revision, once that has an instance to answer; first nobody may be sent there. `true`
    /// when it is served, or when nobody is to be sent there.
    fn retarget_canary(&mut self, canary: &Canary, stable: &RevisionHash, have: u32) -> bool {
        let current = self.current.clone();
        let there = self.is_on(canary, Side::Canary, &current);
        if !there {
            let share = self.share_on_the_way_back(canary, stable);
            if !self.set_weight(canary, share) {
                return false;
            }
            if share > Weight::ZERO {
                self.await_available(stable, self.desired.replicas);
                return false;
            }
        }
        (!there && have == 0) || self.select_side(canary, Side::Canary, &current)
    }

    /// After the last step: all requests to the canary, the stable Service behind them, the routes back to it.
    fn finish_by_traffic(&mut self, canary: &Canary, stable: &RevisionHash) {
        if self.held() {
            return;
        }
        let current = self.current.clone();
        let replicas = self.desired.replicas;
        if self.returns() {
            self.return_by_traffic(canary, stable, &current);
        } else if self.reaches(canary, Side::Stable, &current) {
            if self.select_side(canary, Side::Stable, &current)
                && self.set_weight(canary, Weight::ZERO)
                && self.may_complete()
            {
                self.promote(canary.scale_down_delay);
            }
        } else if self.await_available(&current, replicas)
            && self.retarget_canary(canary, stable, replicas)
            && self.set_weight(canary, Weight::FULL)
        {
            if canary.ping_pong.is_none() {
                self.select_side(canary, Side::Stable, &current);
            } else if self.may_complete() {
                self.swap_sides();
                self.promote(canary.scale_down_delay);
            }
        }
    }

    /// Back to a revision that the users were on before: it has all its instances, so one change of the stable Service is all
    /// there is to do.
    fn return_by_traffic(
        &mut self,
        canary: &Canary,
        stable: &RevisionHash,
        current: &RevisionHash,
    ) {
        if !self.await_available(current, self.desired.replicas) {
            return;
        }
        // A stable revision that has shrunk with its share could not bear the rest: its Service moves on first.
        let shrunk = self.share_on_the_way_back(canary, stable) > Weight::ZERO;
        if shrunk && !self.select_side(canary, Side::Stable, current) {
            return;
        }
        if self.set_weight(canary, Weight::ZERO) && self.select_side(canary, Side::Stable, current)
        {
            self.promote(canary.scale_down_delay);
        }
    }

    /// The canary Service, which has all requests, is the stable one from now on: no request changes its way.
    fn swap_sides(&mut self) {
        let stable = self.next.canary.stable_ping_pong.as_deref();
        let other = if stable == Some(PONG) { PING } else { PONG };
        self.next.canary.stable_ping_pong = Some(other.to_owned());
    }

    fn abort_by_traffic(&mut self, canary: &Canary, stable: &RevisionHash) {
        self.scale(stable, self.desired.replicas);
        if self.available(stable) == 0 && self.desired.replicas > 0 {
            // Bad answers beat none: the canary keeps the requests until there is somebody to take them.
            self.await_available(stable, 1);
            return;
        }
        let behind = self.is_on(canary, Side::Stable, stable);
        if canary.dynamic_stable_scale
            && !behind
            && !self.await_available(stable, self.desired.replicas)
        {
            // It has shrunk, and would get all requests at once.
            return;
        }
        // The stable Service is elsewhere only at the very end of a release. Else the route is the shortest way back.
        let back = self.select_side(canary, Side::Stable, stable);
        let share = self.share_on_the_way_back(canary, stable);
        let weight = self.set_weight(canary, share);
        let all_back = share == Weight::ZERO && self.select_side(canary, Side::Canary, stable);
        if back && weight && all_back {
            self.retire_aborted(canary.abort_scale_down_delay);
            self.reclaim_others(canary, &[&self.current.clone(), stable]);
        }
        self.await_available(stable, self.desired.replicas);
    }

    /// The canary grows at once, and shrinks only after its share has.
    fn scale_canary(&mut self, canary: &Canary, instances: u32) {
        let split = self.split(canary);
        let current = self.current.clone();
        let on_canary = self.reaches(canary, Side::Canary, &current);
        let has = self.revision().map_or(0, |r| r.desired);
        let needed = if self.reaches(canary, Side::Stable, &current) {
            // At the end of a release the users are behind it, whatever the route says.
            self.desired.replicas
        } else if !self.sides_are_served(canary) {
            // Wherever a Service has been pointed at: as long as that is not served, it may still lead here. At the end of a
            // release that is true of the stable one too.
            has
        } else if !on_canary {
            0
        } else if split.served {
            let for_share = split.most.of_replicas(self.desired.replicas);
            // As long as its Service leads to it, somebody is there.
            for_share.max(1)
        } else {
            has
        };
        self.scale(&current, instances.max(needed.min(has)));
    }

    /// Whether both Services are served as they are.
    fn sides_are_served(&self, canary: &Canary) -> bool {
        SIDES.iter().all(|side| self.side_is_served(canary, *side))
    }

    /// Scales revisions other than these to 0, once no Service points at them.
    fn reclaim_others(&mut self, canary: &Canary, in_use: &[&RevisionHash]) {
        if !self.sides_are_served(canary) {
            return;
        }
        let observed = self.observed;
        let others = observed
            .revisions
            .iter()
            .filter(|r| !in_use.contains(&&r.hash));
        for revision in others {
            let reachable = SIDES
                .iter()
                .any(|side| self.reaches(canary, *side, &revision.hash));
            if !reachable {
                self.reclaim(revision, canary.delay_revision_limit);
            }
        }
    }
}
