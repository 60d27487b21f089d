//! The catalog of what must never happen. It is checked in the simulator at every step, in property tests, and in production
//! before a plan is carried out: a plan that breaks one is refused and reported, never applied.

mod lockstep;

use std::fmt;

use serin_api::rollout::{Canary, Desired, Pointer, RolloutSpec, Route, Side, Step, Strategy};
use serin_api::units::{RevisionHash, Rounding, Weight};
use serin_api::waiting::WaitingOn;

use crate::rollout::{Action, Event, Observed, Plan, desired};

/// A plan that must not be carried out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Requests would go to a revision that has nobody to answer them.
    TrafficToNobody {
        /// Which; empty when the Service selects no revision.
        revision: String,
    },
    /// A share would grow beyond the instances that are there for it.
    TooFewForShare {
        /// The share.
        share: Weight,
        /// Available instances.
        available: u32,
    },
    /// Instances would go while requests may still reach them.
    GoneBeforeItsTraffic {
        /// Which.
        revision: RevisionHash,
    },
    /// The stable revision would shrink while the new one is on trial.
    StableShrinks {
        /// Instances that it would have.
        to: u32,
        /// Instances that it must have.
        floor: u32,
    },
    /// More instances than the strategy allows.
    TooMany {
        /// Instances that there would be.
        wanted: u32,
        /// Instances that there may be.
        ceiling: u32,
    },
    /// Fewer available instances than the strategy promises.
    TooFew {
        /// Available instances that would be left.
        available: u32,
        /// Available instances that are promised.
        floor: u32,
    },
    /// A release that is taken back would wait for a person, for time or for a measurement.
    RollbackWaits {
        /// For what.
        waiting_on: String,
    },
    /// Users would be sent to a revision that was taken back and that nobody has tried again since.
    RejectedComesBack {
        /// Which.
        revision: RevisionHash,
    },
    /// More users would be sent to a release that is held.
    HeldGoesOn {
        /// By what.
        held_by: String,
    },
    /// A revision that is in use would be forgotten.
    ForgotInUse {
        /// Which.
        revision: RevisionHash,
    },
    /// A release would go on before another of its group has come as far.
    AheadOfItsGroup {
        /// Who is behind.
        member: String,
    },
    /// A batch would get more instances than it has.
    BeyondItsBatch {
        /// Instances of the new revision that there would be.
        to: u32,
        /// Instances that this batch and those before it have.
        ceiling: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrafficToNobody { revision } => write!(
                f,
                "requests would go to {revision:?}, which has no available instance"
            ),
            Self::TooFewForShare { share, available } => write!(
                f,
                "{share} of the requests would go to {available} available instances"
            ),
            Self::GoneBeforeItsTraffic { revision } => write!(
                f,
                "{revision} would be scaled to 0 while requests may reach it"
            ),
            Self::StableShrinks { to, floor } => write!(
                f,
                "the stable revision would have {to} instances, not {floor}"
            ),
            Self::TooMany { wanted, ceiling } => write!(
                f,
                "there would be {wanted} instances; {ceiling} are allowed"
            ),
            Self::TooFew { available, floor } => write!(
                f,
                "{available} instances would be available; {floor} are promised"
            ),
            Self::RollbackWaits { waiting_on } => {
                write!(f, "the way back would wait for {waiting_on}")
            }
            Self::RejectedComesBack { revision } => write!(
                f,
                "{revision} was taken back and would get users again by itself"
            ),
            Self::HeldGoesOn { held_by } => {
                write!(
                    f,
                    "more users would be sent to a release that waits for {held_by}"
                )
            }
            Self::ForgotInUse { revision } => {
                write!(f, "{revision} is in use and would be forgotten")
            }
            Self::AheadOfItsGroup { member } => {
                write!(
                    f,
                    "the release would go on before {member:?} has come as far"
                )
            }
            Self::BeyondItsBatch { to, ceiling } => {
                write!(f, "the batch would have {to} new instances, not {ceiling}")
            }
        }
    }
}

/// Every invariant that a plan would break; empty for a sound plan.
#[must_use]
pub fn check(spec: &RolloutSpec, observed: &Observed, plan: &Plan) -> Vec<Violation> {
    desired(spec, &observed.status)
        .map(|desired| check_for(&desired, observed, plan))
        .unwrap_or_default()
}

/// The same for a spec that was checked before.
#[must_use]
pub fn check_for(desired: &Desired, observed: &Observed, plan: &Plan) -> Vec<Violation> {
    let view = View {
        desired,
        observed,
        plan,
    };
    let mut broken = Vec::new();
    for action in &plan.actions {
        broken.extend(view.traffic_has_a_taker(action));
        broken.extend(view.share_has_its_instances(action));
        broken.extend(view.leaves_after_its_traffic(action));
        broken.extend(view.stable_keeps_its_size(action));
        broken.extend(view.stable_bears_its_share(action));
        broken.extend(view.keeps_what_is_in_use(action));
        broken.extend(view.holds_what_was_rejected(action));
        broken.extend(view.holds_what_waits(action));
        broken.extend(view.keeps_pace_with_its_group(action));
        broken.extend(view.stays_within_its_batch(action));
    }
    broken.extend(view.completes_with_its_group());
    broken.extend(view.stays_within_bounds());
    broken.extend(view.rollback_does_not_wait());
    broken
}

/// What an action points at a revision, and at which.
fn pointed(action: &Action) -> Option<(Pointer<'_>, &RevisionHash)> {
    match action {
        Action::Select { service, revision } => Some((Pointer::Service(service), revision)),
        Action::SelectSubset {
            subset, revision, ..
        } => Some((Pointer::Subset(subset), revision)),
        _ => None,
    }
}

struct View<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    plan: &'a Plan,
}

impl View<'_> {
    fn traffic_has_a_taker(&self, action: &Action) -> Option<Violation> {
        if self.desired.replicas == 0 {
            return None;
        }
        match (action, &self.desired.strategy) {
            (
                Action::Split {
                    canary: weight,
                    managed,
                    ..
                },
                Strategy::Canary(canary),
            ) => {
                let on_canary = (*weight > Weight::ZERO || !managed.is_empty())
                    .then(|| self.nobody_behind(canary, Side::Canary))
                    .flatten();
                // On the way back a stable revision without instances is only chosen when the planner has seen none better.
                on_canary.or_else(|| {
                    (*weight < Weight::FULL)
                        .then(|| self.nobody_behind(canary, Side::Stable))
                        .flatten()
                })
            }
            (action, strategy) => {
                let (pointer, revision) = pointed(action)?;
                let has_users = match strategy {
                    Strategy::Canary(canary) => canary.pointers(Side::Stable).any(|p| p == pointer),
                    Strategy::BlueGreen(sides) => {
                        pointer == Pointer::Service(&sides.active_service)
                    }
                };
                let nobody = has_users && self.observed.available(revision) == 0;
                nobody.then(|| Violation::TrafficToNobody {
                    revision: revision.as_str().to_owned(),
                })
            }
        }
    }

    /// The share that an action gives to the canary of a route; `None` of every other action.
    fn split<'a>(&'a self, action: &'a Action) -> Option<(&'a Route, Weight, &'a Canary)> {
        match (action, &self.desired.strategy) {
            (
                Action::Split {
                    route,
                    canary: share,
                    ..
                },
                Strategy::Canary(canary),
            ) => Some((route, *share, canary)),
            _ => None,
        }
    }

    /// A share only grows over available instances, unless a step sets their number apart from it.
    fn share_has_its_instances(&self, action: &Action) -> Option<Violation> {
        let (route, share, canary) = self.split(action)?;
        let parts = canary.steps.iter().flat_map(Step::parts);
        let apart = parts
            .into_iter()
            .any(|part| matches!(part, Step::SetCanaryScale(_)));
        let grows = self
            .observed
            .routes
            .get(route)
            .and_then(|r| r.canary)
            .is_some_and(|now| now < share);
        let mut pointers = canary.pointers(Side::Canary);
        let seen = pointers.find_map(|p| self.observed.pointer(p))?;
        let revision = seen.revision.as_ref()?;
        let available = self.observed.available(revision);
        let needed = canary.enough_of(share.of_replicas(self.desired.replicas));
        let short = grows && !apart && available < needed;
        short.then_some(Violation::TooFewForShare { share, available })
    }

    /// The revision behind a Service or a subset once the plan is carried out.
    fn behind(&self, pointer: Pointer<'_>) -> Option<RevisionHash> {
        let mut moves = self.plan.actions.iter().filter_map(pointed);
        let moved = moves.find(|(which, _)| *which == pointer);
        let moved = moved.map(|(_, revision)| revision.clone());
        let seen = self.observed.pointer(pointer);
        moved.or_else(|| seen.and_then(|s| s.revision.clone()))
    }

    /// The revision that routes reach by a side once the plan is carried out.
    fn behind_side(&self, canary: &Canary, side: Side) -> Option<RevisionHash> {
        self.behind(canary.pointers(side).next()?)
    }

    /// The revision behind a side when it has no available instance while others have.
    fn nobody_behind(&self, canary: &Canary, side: Side) -> Option<Violation> {
        let revision = self.behind_side(canary, side)?;
        let others = self
            .observed
            .revisions
            .iter()
            .any(|r| r.hash != revision && r.available > 0);
        let nobody = self.observed.available(&revision) == 0 && others;
        nobody.then(|| Violation::TrafficToNobody {
            revision: revision.as_str().to_owned(),
        })
    }

    /// A Service leads to the revision in its selector, and until it is acknowledged perhaps to any that was there before.
    fn leaves_after_its_traffic(&self, action: &Action) -> Option<Violation> {
        let Action::Scale { revision, to: 0 } = action else {
            return None;
        };
        if self.desired.replicas == 0 {
            return None;
        }
        let leads_here = |pointer: Pointer<'_>| {
            let seen = self.observed.pointer(pointer);
            let leads_here = seen.is_some_and(|s| {
                s.revision.as_ref() == Some(revision) || (s.revision.is_some() && !s.acknowledged)
            });
            leads_here || self.behind(pointer).as_ref() == Some(revision)
        };
        let reachable = match &self.desired.strategy {
            Strategy::Canary(canary) => {
                let stable = canary.pointers(Side::Stable);
                stable.chain(canary.pointers(Side::Canary)).any(leads_here)
            }
            Strategy::BlueGreen(sides) => {
                let preview = sides.preview_service.iter();
                let mut services = preview.chain([&sides.active_service]);
                services.any(|service| leads_here(Pointer::Service(service)))
            }
        };
        reachable.then(|| Violation::GoneBeforeItsTraffic {
            revision: revision.clone(),
        })
    }

    fn stable_keeps_its_size(&self, action: &Action) -> Option<Violation> {
        let Action::Scale { revision, to } = action else {
            return None;
        };
        let (users, floor) = match &self.desired.strategy {
            Strategy::Canary(canary) if canary.routes.is_empty() => return None,
            Strategy::Canary(canary) => (
                self.behind_side(canary, Side::Stable),
                self.stable_floor(canary),
            ),
            Strategy::BlueGreen(sides) => {
                let users = self.behind(Pointer::Service(&sides.active_service));
                (users, self.desired.replicas)
            }
        };
        let is_stable = self.plan.status.stable_rs.as_deref() == Some(revision.as_str());
        let has_users = users.as_ref() == Some(revision);
        ((is_stable || has_users) && *to < floor)
            .then_some(Violation::StableShrinks { to: *to, floor })
    }

    /// What the stable revision must have: all instances, or with a dynamic scale those for its largest share on any route.
    fn stable_floor(&self, canary: &Canary) -> u32 {
        if !canary.dynamic_stable_scale {
            return self.desired.replicas;
        }
        let routes = canary.routes.iter();
        let shares = routes.filter_map(|r| self.observed.routes.get(r)?.canary);
        let share = shares.min().unwrap_or_default().complement();
        share.of_replicas(self.desired.replicas)
    }

    /// With a dynamic scale the stable share only grows over available instances, while the canary has some to answer.
    fn stable_bears_its_share(&self, action: &Action) -> Option<Violation> {
        let (route, share, canary) = self.split(action)?;
        let now = self.observed.routes.get(route).and_then(|r| r.canary)?;
        let stable = self.behind_side(canary, Side::Stable)?;
        let trial = self.behind_side(canary, Side::Canary)?;
        let available = self.observed.available(&stable);
        let grows = share < now && stable != trial && self.observed.available(&trial) > 0;
        let needed = share.complement().of_replicas(self.desired.replicas);
        let short = canary.dynamic_stable_scale && grows && available < needed;
        short.then_some(Violation::TooFewForShare {
            share: share.complement(),
            available,
        })
    }

    fn keeps_what_is_in_use(&self, action: &Action) -> Option<Violation> {
        let Action::DeleteRevision { revision } = action else {
            return None;
        };
        let status = &self.plan.status;
        let named = [
            status.stable_rs.as_deref(),
            status.current_pod_hash.as_deref(),
        ]
        .contains(&Some(revision.as_str()));
        let alive = self
            .observed
            .revision(revision)
            .is_some_and(|r| r.replicas > 0 || r.desired > 0);
        (named || alive).then(|| Violation::ForgotInUse {
            revision: revision.clone(),
        })
    }

    /// Where the policy says so, the revision that is wanted gets no more users once it was taken back, except from a retry, or
    /// when it is the stable one.
    fn holds_what_was_rejected(&self, action: &Action) -> Option<Violation> {
        let status = &self.plan.status;
        let current = status.current_pod_hash.as_deref().map(RevisionHash::new)?;
        let revision = self.observed.revision(&current)?;
        let rejected = self.observed.governed.policy.hold_rejected
            && revision.history.taken_back.is_some()
            && status.stable_rs.as_deref() != Some(current.as_str())
            && self
                .observed
                .stable()
                .is_some_and(|s| self.observed.available(&s) > 0);
        let forgiven = self.plan.actions.iter().any(|action| {
            let event = Event::Forgiven;
            matches!(action, Action::Remember { event: e, .. } if *e == event)
        });
        let starts = matches!(action, Action::Scale { revision: which, to }
            if *which == current && *to > revision.desired);
        let more = starts || self.sends_more_users(action);
        (rejected && !forgiven && more)
            .then_some(Violation::RejectedComesBack { revision: current })
    }

    /// Whether an action sends more users to the revision that is wanted.
    fn sends_more_users(&self, action: &Action) -> bool {
        match (action, &self.desired.strategy) {
            (Action::Split { route, canary, .. }, _) => {
                let now = self.observed.routes.get(route).and_then(|r| r.canary);
                now.is_some_and(|now| now < *canary)
            }
            (Action::Select { service, revision }, Strategy::BlueGreen(blue_green)) => {
                let current = self.plan.status.current_pod_hash.as_deref();
                *service == blue_green.active_service && current == Some(revision.as_str())
            }
            _ => false,
        }
    }

    /// In a freeze and before a gate nobody is sent to the revision on trial.
    fn holds_what_waits(&self, action: &Action) -> Option<Violation> {
        let waiting = &self.plan.waiting_on;
        let held = matches!(
            waiting,
            WaitingOn::Freeze { .. } | WaitingOn::Gate { .. } | WaitingOn::Group { .. }
        );
        (held && self.sends_more_users(action)).then(|| Violation::HeldGoesOn {
            held_by: waiting.to_string(),
        })
    }

    /// Without routes the numbers of instances are the split, and surge and unavailability bound them.
    fn stays_within_bounds(&self) -> Vec<Violation> {
        let Strategy::Canary(canary) = &self.desired.strategy else {
            return Vec::new();
        };
        if !canary.routes.is_empty() {
            return Vec::new();
        }
        let replicas = self.desired.replicas;
        let surge = canary.max_surge.resolve(replicas, Rounding::Up);
        let mut unavailable = canary.max_unavailable.resolve(replicas, Rounding::Down);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let (mut before, mut after) = (0_u32, 0_u32);
        let (mut available_before, mut available_after) = (0_u32, 0_u32);
        for revision in &self.observed.revisions {
            let to = self.plan.actions.iter().find_map(|action| match action {
                Action::Scale {
                    revision: which,
                    to,
                } if *which == revision.hash => Some(*to),
                _ => None,
            });
            let to = to.unwrap_or(revision.desired);
            before = before.saturating_add(revision.desired);
            after = after.saturating_add(to);
            available_before =
                available_before.saturating_add(revision.available.min(revision.desired));
            available_after = available_after.saturating_add(revision.available.min(to));
        }
        let ceiling = replicas.saturating_add(surge);
        let floor = replicas.saturating_sub(unavailable);
        let mut broken = Vec::new();
        if after > ceiling.max(before) {
            broken.push(Violation::TooMany {
                wanted: after,
                ceiling,
            });
        }
        if available_after < floor.min(available_before) {
            broken.push(Violation::TooFew {
                available: available_after,
                floor,
            });
        }
        broken
    }

    fn rollback_does_not_wait(&self) -> Option<Violation> {
        let patient = matches!(
            self.plan.waiting_on,
            WaitingOn::Pause { .. }
                | WaitingOn::Analysis { .. }
                | WaitingOn::Bake { .. }
                | WaitingOn::Experiment { .. }
                | WaitingOn::Freeze { .. }
                | WaitingOn::Gate { .. }
                | WaitingOn::Group { .. }
                | WaitingOn::Decision { .. }
                | WaitingOn::Paused
        );
        (self.plan.status.abort && patient).then(|| Violation::RollbackWaits {
            waiting_on: self.plan.waiting_on.to_string(),
        })
    }
}
