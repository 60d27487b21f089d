//! The objects that carry the split of a canary: how each kind is read into one view, and how a split is written to it.
//!
//! The functions that read and edit objects are pure. Absent on purpose: which share is right, and when.

mod abandoned;
mod destination_rule;
mod http_route;
mod ingress;
mod managed;
mod virtual_service;

use std::collections::BTreeMap;

pub(crate) use abandoned::AbandonedExperiments;
use abandoned::SplitBy;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use serin_api::gateway_api::HTTPRoute;
use serin_api::istio::{DestinationRule, VirtualService};
use serin_api::rollout::{Canary, Desired, ManagedRule, Rollout, Route, Strategy};
use serin_api::units::{RevisionHash, Weight};
use serin_engine::rollout::{Observed, RouteView, ServiceView, desired};
use virtual_service::Places;

use super::{Rollouts, uid};
use crate::shell::{Error, create, edit, merge};

/// The Services of the two sides.
#[derive(Clone, Copy, Debug)]
struct Sides<'a> {
    stable: &'a str,
    canary: &'a str,
}

impl<'a> Sides<'a> {
    fn of(canary: &'a Canary) -> Self {
        Self {
            stable: canary.stable_service.as_deref().unwrap_or_default(),
            canary: canary.canary_service.as_deref().unwrap_or_default(),
        }
    }
}

/// Where the requests of a route are to go.
#[derive(Clone, Debug)]
struct Split<'a> {
    sides: Sides<'a>,
    /// The share of the canary.
    canary: Weight,
    /// The sum of the weights.
    parts: u32,
    /// The shares of versions of an experiment.
    additional: &'a [Share<'a>],
    /// The rules before the others.
    managed: &'a [ManagedRule],
    /// What the route remembers of whose split it is; `None` takes that away.
    split_by: Option<String>,
}

/// The share of a version of an experiment.
#[derive(Clone, Debug)]
struct Share<'a> {
    service: &'a str,
    weight: Weight,
    /// The ports of its Service.
    ports: Vec<i32>,
}

impl Share<'_> {
    /// The port that stands for that of the canary Service: the same number, else its first.
    fn port(&self, of_canary: Option<i32>) -> Option<i32> {
        let same = of_canary.filter(|port| self.ports.contains(port));
        same.or_else(|| self.ports.first().copied()).or(of_canary)
    }
}

impl Split<'_> {
    /// The share of the stable revision: what the others leave.
    fn stable(&self) -> Weight {
        let others = self.additional.iter();
        others.fold(self.canary.complement(), |rest, s| rest.less(s.weight))
    }

    /// The share of a Service of a side.
    fn share_of(&self, service: &str) -> Option<Weight> {
        match service {
            name if name == self.sides.canary => Some(self.canary),
            name if name == self.sides.stable => Some(self.stable()),
            _ => None,
        }
    }

    /// A share in parts of the sum of the weights.
    fn parts_of(&self, share: Weight) -> u32 {
        let parts = u64::from(share.percent()) * u64::from(self.parts) / 100;
        u32::try_from(parts).unwrap_or(u32::MAX)
    }
}

impl Rollouts {
    /// The routes that the spec names and that exist.
    pub(super) fn routes_of(
        &self,
        desired: &Desired,
        rollout: &Rollout,
    ) -> BTreeMap<Route, RouteView> {
        let Strategy::Canary(canary) = &desired.strategy else {
            return BTreeMap::new();
        };
        let namespace = rollout.namespace().unwrap_or_default();
        let sides = Sides::of(canary);
        let found = canary.routes.iter().filter_map(|route| {
            let view = match route {
                Route::HttpRoute(name) => {
                    let object = self.routes.get(&namespace, name)?;
                    let served = object.acknowledged_generation() >= object.metadata.generation;
                    http_route::view(&object, sides, !self.acknowledged || served)
                }
                Route::Ingress(name) => {
                    let stable = self.ingresses.get(&namespace, name)?;
                    let trial = ingress::canary_name(&rollout.name_any(), name);
                    let trial = self.ingresses.get(&namespace, &trial);
                    ingress::view(&stable, trial.as_deref(), canary)
                }
                Route::VirtualService { name, http } => {
                    let object = self.virtual_services.get(&namespace, name)?;
                    let served = object.acknowledged_generation() >= object.metadata.generation;
                    let places = self.places(canary, &namespace);
                    virtual_service::view(&object, http, &places, !self.acknowledged || served)
                }
            };
            Some((route.clone(), view))
        });
        found.collect()
    }

    /// What the destinations of a VirtualService may name.
    fn places<'a>(&self, canary: &'a Canary, namespace: &'a str) -> Places<'a> {
        let subsets = canary.subsets.as_ref();
        let rule = subsets.and_then(|s| self.destination_rules.get(namespace, &s.rule));
        Places {
            namespace,
            sides: Sides::of(canary),
            subsets,
            host: rule.map(|rule| rule.spec.host.clone()),
        }
    }

    /// The subsets of the DestinationRule that the spec names; `None` when there is no such object, or none is named.
    pub(super) fn subsets_of(
        &self,
        desired: &Desired,
        rollout: &Rollout,
    ) -> Option<BTreeMap<String, ServiceView>> {
        let Strategy::Canary(canary) = &desired.strategy else {
            return None;
        };
        let namespace = rollout.namespace().unwrap_or_default();
        let subsets = canary.subsets.as_ref()?;
        let rule = self.destination_rules.get(&namespace, &subsets.rule)?;
        let served = rule.acknowledged_generation() >= rule.metadata.generation;
        let view = ServiceView {
            revision: None,
            acknowledged: !self.acknowledged || served,
            taken_by: self.other_owner(&*rule, rollout),
        };
        Some(destination_rule::view(&rule, &view))
    }

    /// Points a subset of a DestinationRule at a revision.
    pub(super) async fn select_subset(
        &self,
        rollout: &Rollout,
        rule: &str,
        subset: &str,
        revision: &RevisionHash,
    ) -> Result<(), Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let Some(object) = self.destination_rules.get(&namespace, rule) else {
            return Ok(());
        };
        let patch = destination_rule::patch(&object, subset, revision, &rollout.name_any());
        let changed = edit(&self.api::<DestinationRule>(rollout), rule, patch).await?;
        self.destination_rules.wrote(&uid(rollout), &changed);
        Ok(())
    }

    /// The shares of versions of an experiment, with the ports of their Services.
    fn shares<'a>(&self, namespace: &str, additional: &'a [(String, Weight)]) -> Vec<Share<'a>> {
        let shares = additional.iter().map(|(service, weight)| {
            let found = self.services.get(namespace, service);
            let spec = found.as_ref().and_then(|s| s.spec.as_ref());
            let ports = spec.and_then(|s| s.ports.as_ref());
            Share {
                service,
                weight: *weight,
                ports: ports.into_iter().flatten().map(|p| p.port).collect(),
            }
        });
        shares.collect()
    }

    /// Sets where the requests of a route go.
    pub(super) async fn split(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        (route, weight): (&Route, Weight),
        additional: &[(String, Weight)],
        managed: &[ManagedRule],
    ) -> Result<(), Error> {
        let Ok(desired) = desired(&rollout.spec, &observed.status) else {
            return Ok(());
        };
        let Strategy::Canary(canary) = &desired.strategy else {
            return Ok(());
        };
        let namespace = rollout.namespace().unwrap_or_default();
        // A route that sends all to the stable side has nothing that is ours.
        let rests = weight == Weight::ZERO && additional.is_empty() && managed.is_empty();
        let places = self.places(canary, &namespace);
        let split_by = SplitBy::new(&rollout.name_any(), route, &places, canary);
        let split = Split {
            sides: Sides::of(canary),
            canary: weight,
            parts: canary.max_traffic_weight,
            additional: &self.shares(&namespace, additional),
            managed,
            split_by: split_by.text().filter(|_| !rests),
        };
        match route {
            Route::HttpRoute(name) => {
                let Some(object) = self.routes.get(&namespace, name) else {
                    return Ok(());
                };
                let patch = http_route::patch(&object, &split);
                let changed = edit(&self.api::<HTTPRoute>(rollout), name, patch).await?;
                self.routes.wrote(&uid(rollout), &changed);
                Ok(())
            }
            Route::Ingress(name) => self.split_ingress(rollout, name, canary, &split).await,
            Route::VirtualService { name, http } => {
                let Some(object) = self.virtual_services.get(&namespace, name) else {
                    return Ok(());
                };
                let patch = virtual_service::patch(&object, http, &places, &split);
                let changed = edit(&self.api::<VirtualService>(rollout), name, patch).await?;
                self.virtual_services.wrote(&uid(rollout), &changed);
                Ok(())
            }
        }
    }

    async fn split_ingress(
        &self,
        rollout: &Rollout,
        name: &str,
        canary: &Canary,
        split: &Split<'_>,
    ) -> Result<(), Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let Some(stable) = self.ingresses.get(&namespace, name) else {
            return Ok(());
        };
        let wanted = ingress::canary_ingress(rollout, &stable, canary, split);
        let api = self.api::<Ingress>(rollout);
        let written = match create(&api, &wanted).await? {
            Some(created) => created,
            None => merge(&api, &wanted.name_any(), &ingress::patch(&wanted)).await?,
        };
        self.ingresses.wrote(&uid(rollout), &written);
        Ok(())
    }
}

/// An object of the documents that users have written.
#[cfg(test)]
fn of_users<K: serde::de::DeserializeOwned>(kind: &str) -> K {
    const CANARY: &str = include_str!("../../../api/tests/documents/4.2-1.yaml");
    let manifest = serin_api::manifest::parse(CANARY, "4.2-1.yaml");
    let mut objects = manifest.objects.into_iter();
    let found = objects.find(|document| document.title().starts_with(kind));
    serde_json::from_value(found.unwrap().object).unwrap()
}
