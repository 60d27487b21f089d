//! What moves by itself: instances start, the data plane serves what is set, measurements come to something.

use jiff::SignedDuration;
use serin_api::analysis::AnalysisPhase;

use super::{Pod, Run, Set, Trial, World};

impl World {
    pub(super) fn move_instances(&mut self) {
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

    pub(super) fn move_data_plane(&mut self) {
        for service in self.services.values_mut() {
            if !self.faults || self.dice.one_in(2) {
                self.changed |= service.serve();
            }
        }
        if !self.faults || self.dice.one_in(2) {
            self.changed |= self.route.serve();
        }
    }

    pub(super) fn move_runs(&mut self) {
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
