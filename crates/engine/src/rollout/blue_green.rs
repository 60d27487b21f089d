//! Blue-green: a second full set of instances, tested out of sight of the users, and one switch of the active Service.

use serin_api::rollout::{BlueGreen, PauseReason};
use serin_api::units::RevisionHash;

use super::analyses::Outcome;
use super::observed::Role;
use super::planner::Planner;

impl Planner<'_> {
    pub(super) fn blue_green(&mut self, strategy: &BlueGreen) {
        match self.stable() {
            None => self.first_blue_green(strategy),
            Some(stable) if stable == self.current => self.settled_blue_green(strategy),
            Some(stable) => {
                if !self.next.abort {
                    self.update_blue_green(strategy, &stable);
                }
                // Not an else: what has just been found bad is taken back in the same pass.
                if self.next.abort {
                    self.abort_blue_green(strategy, &stable);
                }
            }
        }
        self.tell_selectors(strategy);
    }

    fn first_blue_green(&mut self, strategy: &BlueGreen) {
        let current = self.current.clone();
        self.scale(&current, self.desired.replicas);
        if !self.await_available(&current, self.desired.replicas) {
            return;
        }
        let preview = self.select_preview(strategy, &current);
        if self.select(&strategy.active_service, &current) && preview {
            self.reclaim_unserved(strategy, &[&current]);
            self.promote(jiff::SignedDuration::ZERO);
        }
    }

    fn settled_blue_green(&mut self, strategy: &BlueGreen) {
        let current = self.current.clone();
        self.scale(&current, self.desired.replicas);
        if self.available(&current) == 0 && self.desired.replicas > 0 {
            // Whoever has the requests keeps them.
            self.await_available(&current, 1);
            return;
        }
        let active = self.select(&strategy.active_service, &current);
        if self.select_preview(strategy, &current) && active {
            self.reclaim_unserved(strategy, &[&current]);
        }
        self.await_available(&current, self.desired.replicas);
    }

    fn update_blue_green(&mut self, strategy: &BlueGreen, stable: &RevisionHash) {
        let current = self.current.clone();
        let replicas = self.desired.replicas;
        let switched = self.is_selected(Some(&strategy.active_service), &current);
        let full =
            switched || self.next.promote_full || self.next.blue_green.scale_up_preview_check_point;
        let instances = strategy
            .preview_replicas
            .filter(|_| !full)
            .unwrap_or(replicas);
        self.scale(stable, replicas);
        // A set that is larger than its preview has to be, from an earlier try, stays: the switch may come in this very pass.
        let has = self.revision().map_or(0, |r| r.desired);
        self.scale(&current, instances.max(has.min(replicas)));
        self.reclaim_unserved(strategy, &[&current, stable]);
        if switched {
            self.after_switch(strategy, &current);
            return;
        }
        // What another release left unfinished is put back before this one goes on.
        if self.available(stable) > 0 && !self.select(&strategy.active_service, stable) {
            return;
        }
        if !self.await_available(&current, instances) {
            return;
        }
        // On the way back the users come first, the testers after them.
        let previewed = self.select_preview(strategy, &current) || self.returns();
        if !previewed || self.held() {
            return;
        }
        if self.may_switch(strategy) && self.grown(strategy, &current) {
            self.note(
                false,
                "SwitchActiveService",
                format!("{} goes to {current}", strategy.active_service),
            );
            self.select(&strategy.active_service, &current);
        }
    }

    /// The gates before the switch, in order: the analysis, then the wait for a person or for time.
    fn may_switch(&mut self, strategy: &BlueGreen) -> bool {
        if self.next.promote_full || self.next.blue_green.scale_up_preview_check_point {
            return true;
        }
        if let Some(analysis) = &strategy.pre_promotion
            && self.analyse(Role::PrePromotion, analysis) != Outcome::Passed
        {
            return false;
        }
        let paused = match (strategy.auto_promotion, strategy.auto_promotion_after) {
            (true, None) => return true,
            (_, after) => !self.pause(PauseReason::BlueGreenPause, after),
        };
        if paused {
            return false;
        }
        self.end_pause();
        // From here on the gates are behind us, though the switch may take several passes.
        self.next.blue_green.scale_up_preview_check_point = true;
        true
    }

    /// Whether the new set has grown from its preview to full size.
    fn grown(&mut self, strategy: &BlueGreen, current: &RevisionHash) -> bool {
        if strategy.preview_replicas.is_some() {
            self.next.blue_green.scale_up_preview_check_point = true;
            self.scale(current, self.desired.replicas);
        }
        self.await_available(current, self.desired.replicas)
    }

    fn after_switch(&mut self, strategy: &BlueGreen, current: &RevisionHash) {
        if !self.select(&strategy.active_service, current) {
            return;
        }
        if let Some(analysis) = strategy
            .post_promotion
            .as_ref()
            .filter(|_| !self.next.promote_full)
            && self.analyse(Role::PostPromotion, analysis) != Outcome::Passed
        {
            return;
        }
        if self.may_complete() {
            self.promote(strategy.scale_down_delay);
        }
    }

    fn abort_blue_green(&mut self, strategy: &BlueGreen, stable: &RevisionHash) {
        self.scale(stable, self.desired.replicas);
        if self.available(stable) == 0 && self.desired.replicas > 0 {
            // Bad answers beat none: the new set keeps the requests until there is somebody to take them.
            self.await_available(stable, 1);
            return;
        }
        if self.select(&strategy.active_service, stable) && self.select_preview(strategy, stable) {
            self.retire_aborted(strategy.abort_scale_down_delay);
            self.reclaim_unserved(strategy, &[&self.current.clone(), stable]);
        }
        self.await_available(stable, self.desired.replicas);
    }

    fn select_preview(&mut self, strategy: &BlueGreen, revision: &RevisionHash) -> bool {
        strategy
            .preview_service
            .as_ref()
            .is_none_or(|name| self.select(name, revision))
    }

    /// Scales revisions other than these to 0, once no Service points at them.
    fn reclaim_unserved(&mut self, strategy: &BlueGreen, in_use: &[&RevisionHash]) {
        let named = [
            Some(&strategy.active_service),
            strategy.preview_service.as_ref(),
        ];
        let services: Vec<_> = named
            .into_iter()
            .flatten()
            .filter_map(|name| self.observed.services.get(name))
            .collect();
        let served = services.iter().all(|s| s.acknowledged);
        for revision in self
            .observed
            .revisions
            .iter()
            .filter(|r| !in_use.contains(&&r.hash))
        {
            if served
                && !services
                    .iter()
                    .any(|s| s.revision.as_ref() == Some(&revision.hash))
            {
                self.reclaim(revision, strategy.delay_revision_limit);
            }
        }
    }

    fn tell_selectors(&mut self, strategy: &BlueGreen) {
        let revision = |service: Option<&String>| {
            let seen = service.and_then(|name| self.observed.services.get(name));
            seen.and_then(|s| s.revision.as_ref())
                .map(|r| r.as_str().to_owned())
        };
        let (active, preview) = (
            revision(Some(&strategy.active_service)),
            revision(strategy.preview_service.as_ref()),
        );
        self.next.blue_green.active_selector = active;
        self.next.blue_green.preview_selector = preview;
    }
}
