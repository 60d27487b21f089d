//! The split of the requests over all routes: as it is seen, and as it is set.

use serin_api::rollout::{Canary, ManagedRule, Side, TrafficWeights, WeightDestination};
use serin_api::units::{RevisionHash, Weight};
use serin_api::waiting::WaitingOn;

use super::Action;
use super::observed::{RouteView, digest};
use super::planner::Planner;

/// The split as it is seen over all routes.
#[derive(Clone, Copy)]
pub(super) struct Split {
    /// The largest share of the canary on any route.
    pub(super) most: Weight,
    /// The smallest.
    pub(super) least: Weight,
    /// Whether every route is served as it is.
    pub(super) served: bool,
}

impl Planner<'_> {
    pub(super) fn split(&self, canary: &Canary) -> Split {
        let routes = canary.routes.iter();
        let seen = routes.filter_map(|r| self.observed.routes.get(r));
        let shares = seen.clone().filter_map(|r| r.canary);
        Split {
            most: shares.clone().max().unwrap_or_default(),
            least: shares.min().unwrap_or_default(),
            served: seen.clone().all(|r| r.acknowledged && r.exact),
        }
    }

    /// Sets the share on every route, with no managed rule, and waits until it is served. `true` when it is.
    pub(super) fn set_weight(&mut self, canary: &Canary, weight: Weight) -> bool {
        self.set_routes(canary, weight, &[], &[])
    }

    /// The same with shares for versions of an experiment and with managed rules, on the routes that can have some.
    pub(super) fn set_routes(
        &mut self,
        canary: &Canary,
        weight: Weight,
        additional: &[(String, Weight)],
        managed: &[ManagedRule],
    ) -> bool {
        let mut served = true;
        for route in &canary.routes {
            let Some(seen) = self.observed.routes.get(route) else {
                continue;
            };
            // A route that names only one of the sides has nothing to set.
            let Some(share) = seen.canary else { continue };
            let (additional, managed) = if route.has_managed_rules() {
                (additional, managed)
            } else {
                (&[][..], &[][..])
            };
            let as_wanted = share == weight && seen.exact && seen.additional == additional;
            if !as_wanted || !has_rules(seen, managed) {
                self.actions.push(Action::Split {
                    route: route.clone(),
                    canary: weight,
                    additional: additional.to_vec(),
                    managed: managed.to_vec(),
                });
            } else if seen.acknowledged {
                continue;
            }
            served = false;
            self.wait(WaitingOn::Acknowledgement {
                kind: route.kind().into(),
                name: route.name().into(),
            });
        }
        served
    }

    /// The share that stays with the canary on the way back to `stable`: none, unless the stable revision has shrunk and
    /// cannot bear all requests yet.
    pub(super) fn share_on_the_way_back(&self, canary: &Canary, stable: &RevisionHash) -> Weight {
        let replicas = self.desired.replicas;
        let trial = self.behind(canary, Side::Canary);
        let somebody = trial.is_some_and(|r| r != stable && self.available(r) > 0);
        if !canary.dynamic_stable_scale || replicas == 0 || !somebody {
            return Weight::ZERO;
        }
        let bears = u64::from(self.available(stable)) * 100 / u64::from(replicas);
        let rest = 100_i32.saturating_sub(i32::try_from(bears).unwrap_or(100));
        let rest = Weight::new(rest).unwrap_or_default();
        rest.min(self.split(canary).most)
    }

    /// The instances of the stable revision while another is on trial with the share `wanted`.
    pub(super) fn stable_size(
        &self,
        canary: &Canary,
        stable: &RevisionHash,
        wanted: Weight,
    ) -> u32 {
        let replicas = self.desired.replicas;
        if !canary.dynamic_stable_scale || replicas == 0 {
            return replicas;
        }
        let has = self.observed.revision(stable).map_or(0, |r| r.desired);
        if self.reaches(canary, Side::Stable, &self.current) {
            // At the end of a release: no share is its own any more.
            return has;
        }
        let split = self.split(canary);
        // What is set and not served yet may still send the larger share to the stable revision.
        let share = split.least.min(wanted).complement();
        let size = canary.at_least_min_pods(share.of_replicas(replicas).max(1));
        if split.served { size } else { size.max(has) }
    }

    pub(super) fn tell_weights(&mut self, canary: &Canary) {
        let set = self.actions.iter().rev().find_map(|action| match action {
            Action::Split {
                canary, additional, ..
            } => Some((*canary, additional.clone())),
            _ => None,
        });
        let split = self.split(canary);
        let verified = set.is_none() && split.served;
        let (weight, additional) = set.unwrap_or_else(|| {
            let mut seen = self.observed.routes.values();
            let additional = seen.find(|route| !route.additional.is_empty());
            let additional = additional.map(|route| route.additional.clone());
            (split.most, additional.unwrap_or_default())
        });
        let rest = additional
            .iter()
            .fold(weight.complement(), |rest, (_, share)| rest.less(*share));
        // In the parts of `maxTrafficWeight`, as the steps are written.
        let parts = |weight: Weight| {
            let parts = u64::from(weight.percent()) * u64::from(canary.max_traffic_weight) / 100;
            i32::try_from(parts).unwrap_or(i32::MAX)
        };
        let destination =
            |weight: Weight, service: &Option<String>, revision: Option<RevisionHash>| {
                WeightDestination {
                    weight: parts(weight),
                    service_name: service.clone(),
                    pod_template_hash: revision.map(|r| r.as_str().to_owned()),
                }
            };
        self.next.canary.weights = Some(TrafficWeights {
            canary: destination(weight, &canary.canary_service, Some(self.current.clone())),
            stable: destination(rest, &canary.stable_service, self.stable()),
            additional: additional
                .into_iter()
                .map(|(service, share)| destination(share, &Some(service), None))
                .collect(),
            verified: Some(verified),
        });
    }
}

/// Whether a route has exactly these managed rules, in this order.
fn has_rules(seen: &RouteView, managed: &[ManagedRule]) -> bool {
    let same = |((name, known), rule): (&(String, String), &ManagedRule)| {
        *name == rule.name && *known == digest(rule)
    };
    seen.managed.len() == managed.len() && seen.managed.iter().zip(managed).all(same)
}
