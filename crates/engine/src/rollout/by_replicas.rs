//! Canary without routes: the numbers of instances behind one Service make the split.

use serin_api::rollout::{Batch, Canary, Step};
use serin_api::units::{RevisionHash, Rounding, Weight};
use serin_api::waiting::WaitingOn;

use super::Action;
use super::observed::Revision;
use super::planner::Planner;

/// The instances that each side is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    canary: u32,
    stable: u32,
}

impl Planner<'_> {
    pub(super) fn by_replicas(&mut self, canary: &Canary) {
        let replicas = self.desired.replicas;
        match self.stable().filter(|stable| *stable != self.current) {
            None => {
                let settled = self.move_toward(
                    canary,
                    Sides {
                        canary: replicas,
                        stable: 0,
                    },
                );
                self.point_services(canary);
                if settled && self.stable().is_none() {
                    self.promote(jiff::SignedDuration::ZERO);
                }
            }
            Some(_) => {
                if !self.next.abort {
                    self.update_by_replicas(canary);
                }
                // Not an else: what has just been found bad is taken back in the same pass.
                if self.next.abort {
                    self.abort_by_replicas(canary);
                }
            }
        }
    }

    fn update_by_replicas(&mut self, canary: &Canary) {
        let index = self.step_index();
        if let Some(background) = &canary.background
            && !self.analyse_in_background(background, index)
        {
            return;
        }
        let sides = self.sides_at(canary, index);
        let settled = !self.is_held() && self.move_toward(canary, sides);
        self.point_services(canary);
        if self.held() {
            return;
        }
        if index >= canary.steps.len() {
            if settled && self.may_complete() {
                self.promote(jiff::SignedDuration::ZERO);
            }
            return;
        }
        self.carry_out_step(canary, index, settled);
    }

    fn abort_by_replicas(&mut self, canary: &Canary) {
        let back = Sides {
            canary: 0,
            stable: self.desired.replicas,
        };
        self.point_services(canary);
        if self.move_toward(canary, back) {
            let why = self
                .next
                .message
                .clone()
                .unwrap_or_else(|| "it was taken back".to_owned());
            self.wait(WaitingOn::NewRevision { why });
        }
    }

    fn sides_at(&self, canary: &Canary, index: usize) -> Sides {
        let replicas = self.desired.replicas;
        if let Some(batch) = batch_at(canary, index) {
            let canary = batch.instances.min(replicas);
            return Sides {
                canary,
                stable: replicas - canary,
            };
        }
        nearest(
            self.targets_at(canary, index).weight,
            replicas,
            canary.max_surge.resolve(replicas, Rounding::Up),
        )
    }

    /// Without routes, a Service follows its revision as soon as that has instances to answer. Where no old instance is to be
    /// left, in the last batch or after the last step, the stable Service moves on before the last one goes; until then, and
    /// while the release is held, it stays with whom it is, be that a revision which an interrupted release moved it to.
    fn point_services(&mut self, canary: &Canary) {
        let stable = self.stable().unwrap_or_else(|| self.current.clone());
        let most = self.desired.replicas.saturating_sub(1).max(1);
        let nobody_stays = self.sides_at(canary, self.step_index()).stable == 0;
        let users = if self.next.abort || !nobody_stays {
            stable.clone()
        } else if !self.is_held() && self.available(&self.current) >= most {
            self.current.clone()
        } else {
            self.answering(canary.stable_service.as_ref())
                .unwrap_or_else(|| stable.clone())
        };
        let trial = if self.next.abort {
            stable
        } else {
            self.current.clone()
        };
        for (service, revision) in [
            (&canary.stable_service, &users),
            (&canary.canary_service, &trial),
        ] {
            if let Some(name) = service
                && self.available(revision) > 0
            {
                self.select(name, revision);
            }
        }
    }

    /// The revision behind a Service, when that has instances to answer.
    fn answering(&self, service: Option<&String>) -> Option<RevisionHash> {
        let seen = self.observed.services.get(service?)?;
        let revision = seen.revision.clone()?;
        (self.available(&revision) > 0).then_some(revision)
    }

    /// Whether a Service that is named may still bring requests to a revision.
    fn is_reachable(&self, canary: &Canary, revision: &RevisionHash) -> bool {
        let named = [&canary.stable_service, &canary.canary_service];
        let seen = named
            .into_iter()
            .flatten()
            .filter_map(|name| self.observed.services.get(name));
        seen.into_iter().any(|s| {
            s.revision.as_ref() == Some(revision) || (!s.acknowledged && s.revision.is_some())
        })
    }

    /// Moves the instances of all revisions toward their numbers, never above `replicas + maxSurge` wanted nor below
    /// `replicas - maxUnavailable` available. `true` when they are there.
    fn move_toward(&mut self, canary: &Canary, sides: Sides) -> bool {
        let replicas = self.desired.replicas;
        let surge = canary.max_surge.resolve(replicas, Rounding::Up);
        let mut unavailable = canary.max_unavailable.resolve(replicas, Rounding::Down);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let mut goals = self.goals(canary, sides);
        let made_room = self.make_room(&mut goals, replicas.saturating_add(surge));
        let sum = |of: fn(&Revision) -> u32| {
            goals
                .iter()
                .fold(0_u32, |sum, (r, _)| sum.saturating_add(of(r)))
        };
        let wanted = sum(|r| r.desired.max(r.replicas));
        let mut room = replicas.saturating_add(surge).saturating_sub(wanted);
        let available = sum(|r| r.available.min(r.desired));
        let mut spare = available.saturating_sub(replicas.saturating_sub(unavailable));
        for (revision, goal) in &goals {
            if revision.desired < *goal {
                let add = room.min(goal - revision.desired);
                room -= add;
                self.scale(&revision.hash, revision.desired + add);
            } else if revision.desired > *goal {
                // Instances that are not available are missed by nobody.
                let idle = revision.desired.saturating_sub(revision.available);
                let drop = (revision.desired - goal).min(spare.saturating_add(idle));
                spare -= drop.saturating_sub(idle).min(spare);
                if drop > 0 {
                    self.actions.push(Action::Scale {
                        revision: revision.hash.clone(),
                        to: revision.desired - drop,
                    });
                }
            }
        }
        let final_numbers: u64 = goals.iter().map(|(_, goal)| u64::from(*goal)).sum();
        let there = goals
            .iter()
            .all(|(revision, goal)| self.is_at(revision, *goal));
        there && !made_room && final_numbers == u64::from(sides.canary) + u64::from(sides.stable)
    }

    fn is_at(&mut self, revision: &Revision, goal: u32) -> bool {
        if revision.available < goal {
            self.wait(WaitingOn::Ready {
                revision: revision.hash.clone(),
                have: revision.available,
                want: goal,
            });
            return false;
        }
        if revision.desired != goal || revision.replicas > goal {
            self.wait(WaitingOn::Gone {
                revision: revision.hash.clone(),
                have: revision.replicas,
                want: goal,
            });
            return false;
        }
        true
    }

    /// A revision that must keep an instance for its requests, and is neither wanted nor stable, takes the place of one of the
    /// stable instances: else the wanted revision, to which those requests are to go, might find no room for its first one.
    /// `true` when it does: the numbers are then those of the moment.
    fn make_room(&self, goals: &mut [(Revision, u32)], ceiling: u32) -> bool {
        let all = goals
            .iter()
            .fold(0_u32, |sum, (_, goal)| sum.saturating_add(*goal));
        let stable = self.stable().filter(|s| *s != self.current);
        let mut others = goals.iter_mut();
        let of_stable = others.find(|(r, _)| Some(&r.hash) == stable.as_ref());
        let surplus = all.saturating_sub(ceiling);
        match of_stable {
            Some((_, goal)) if surplus > 0 && *goal > 1 => {
                *goal = goal.saturating_sub(surplus).max(1);
                true
            }
            _ => false,
        }
    }

    /// Each revision and its number: first those that are neither wanted nor stable, then the stable one, then the wanted one. A
    /// revision that a Service may bring requests to keeps one instance.
    fn goals(&self, canary: &Canary, sides: Sides) -> Vec<(Revision, u32)> {
        let stable = self.stable().filter(|s| *s != self.current);
        let goal = |hash: &RevisionHash| {
            if *hash == self.current {
                sides.canary
            } else if Some(hash) == stable.as_ref() {
                sides.stable
            } else {
                0
            }
        };
        let floor = |r: &Revision| u32::from(r.desired > 0 && self.is_reachable(canary, &r.hash));
        let mut goals: Vec<_> = self
            .observed
            .revisions
            .iter()
            .map(|r| (r.clone(), goal(&r.hash).max(floor(r))))
            .collect();
        goals.sort_by_key(|(r, _)| {
            (
                r.hash == self.current,
                Some(&r.hash) == stable.as_ref(),
                r.number,
            )
        });
        goals
    }
}

/// The batch of a step.
fn batch_at(canary: &Canary, index: usize) -> Option<Batch> {
    let parts = canary.steps.get(index)?.parts().iter();
    parts
        .filter_map(|part| match part {
            Step::Batch(batch) => Some(*batch),
            _ => None,
        })
        .next_back()
}

/// The numbers of instances whose split is nearest to a weight: in all `replicas`, or one more where `surge` allows it. A tie
/// rounds the canary up. Between 1 % and 99 %, and with more than one instance, no side is empty.
fn nearest(weight: Weight, replicas: u32, surge: u32) -> Sides {
    if replicas == 0 || weight == Weight::ZERO {
        return Sides {
            canary: 0,
            stable: replicas,
        };
    }
    if weight == Weight::FULL {
        return Sides {
            canary: replicas,
            stable: 0,
        };
    }
    let totals = [
        Some(replicas),
        replicas.checked_add(1).filter(|_| surge > 0),
    ];
    // Of each total only the two splits around the exact one can be nearest.
    let candidates = totals.into_iter().flatten().flat_map(|total| {
        let lowest = u32::from(total > 1);
        let highest = if total > 1 { total - 1 } else { total };
        let above = weight.of_replicas(total);
        [above.saturating_sub(1), above].map(|canary| (canary.clamp(lowest, highest), total))
    });
    // |canary/total - weight/100|, compared without fractions; fewer instances win a tie, then the larger canary.
    let distance = |canary: u32, total: u32| {
        let (canary, total) = (i128::from(canary) * 100, i128::from(total));
        (canary - i128::from(weight.percent()) * total).unsigned_abs() * 1_000_000
            / total.unsigned_abs()
    };
    let best = candidates
        .min_by_key(|(canary, total)| (distance(*canary, *total), *total, u32::MAX - canary));
    best.map_or(
        Sides {
            canary: 0,
            stable: replicas,
        },
        |(canary, total)| Sides {
            canary,
            stable: total - canary,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_split() {
        let split = |replicas, weight, surge| {
            let sides = nearest(Weight::new(weight).unwrap(), replicas, surge);
            (sides.canary, sides.stable)
        };
        assert_eq!(split(3, 50, 0), (2, 1));
        assert_eq!(split(3, 50, 1), (2, 2));
        assert_eq!(split(10, 24, 1), (3, 8));
        assert_eq!(split(10, 5, 0), (1, 9));
        assert_eq!(split(10, 99, 0), (9, 1));
        assert_eq!(split(1, 50, 0), (1, 0));
        assert_eq!(split(1, 50, 1), (1, 1));
        assert_eq!(split(5, 0, 1), (0, 5));
        assert_eq!(split(5, 100, 1), (5, 0));
        assert_eq!(split(0, 50, 1), (0, 0));
        // Large numbers take no longer than small ones.
        assert_eq!(split(i32::MAX as u32, 50, 1), (1 << 30, (1 << 30) - 1));
    }
}
