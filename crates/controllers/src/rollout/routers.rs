//! The objects that carry the split of a canary: how each kind is read into one view, and how a split is written to it.
//!
//! The functions that read and edit objects are pure. Absent on purpose: which share is right, and when.

mod http_route;
mod ingress;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use serin_api::gateway_api::HTTPRoute;
use serin_api::keys::FIELD_MANAGER;
use serin_api::rollout::{Canary, Desired, ManagedRule, Rollout, Route, Strategy};
use serin_api::units::Weight;
use serin_engine::rollout::{Observed, RouteView, desired};

use super::{Rollouts, uid};
use crate::shell::{Error, Kind, create, merge};

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
#[derive(Clone, Copy, Debug)]
struct Split<'a> {
    sides: Sides<'a>,
    /// The share of the canary.
    canary: Weight,
    /// The sum of the weights.
    parts: u32,
    /// The rules before the others.
    managed: &'a [ManagedRule],
}

impl Split<'_> {
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
            };
            Some((route.clone(), view))
        });
        found.collect()
    }

    /// Sets where the requests of a route go.
    pub(super) async fn split(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        route: &Route,
        weight: Weight,
        managed: &[ManagedRule],
    ) -> Result<(), Error> {
        let Ok(desired) = desired(&rollout.spec, &observed.status) else {
            return Ok(());
        };
        let Strategy::Canary(canary) = &desired.strategy else {
            return Ok(());
        };
        let split = Split {
            sides: Sides::of(canary),
            canary: weight,
            parts: canary.max_traffic_weight,
            managed,
        };
        match route {
            Route::HttpRoute(name) => {
                let namespace = rollout.namespace().unwrap_or_default();
                let Some(object) = self.routes.get(&namespace, name) else {
                    return Ok(());
                };
                let patch = http_route::patch(&object, &split);
                let changed = self.edit::<HTTPRoute>(rollout, name, patch).await?;
                self.routes.wrote(&uid(rollout), &changed);
                Ok(())
            }
            Route::Ingress(name) => self.split_ingress(rollout, name, canary, &split).await,
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

    /// Changes an object by a JSON Patch, which is refused when the object has changed meanwhile.
    async fn edit<K: Kind>(&self, rollout: &Rollout, name: &str, patch: Value) -> Result<K, Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let doing = || format!("split the requests of {} {namespace}/{name}", K::kind(&()));
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|e| Error::api(doing(), kube::Error::SerdeError(e)))?;
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let api = self.api::<K>(rollout);
        api.patch(name, &params, &Patch::<()>::Json(patch))
            .await
            .map_err(|e| Error::api(doing(), e))
    }
}
