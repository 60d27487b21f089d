//! Routes whose Rollout is gone: the stable side gets all their requests again, and the shares of experiments and the managed
//! rules are taken out. A route remembers whose split it has for as long as it has one. Versions of experiments that outlive their
//! Rollout go only when all is back and served.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_api::experiment::Experiment;
use serin_api::gateway_api::HTTPRoute;
use serin_api::istio::VirtualService;
use serin_api::keys::annotation;
use serin_api::rollout::{Canary, Rollout, Route, Subsets};
use serin_api::units::Weight;
use serin_engine::rollout::RouteView;
use serin_engine::workload;

use super::super::abandoned::{Steered, annotation_path, ended, removal};
use super::virtual_service::Places;
use super::{Sides, Split, http_route, virtual_service};
use crate::shell::{Cache, Error, Kind, Next, Reconcile, Triggers, merge};

/// What a route remembers of whose split it has: as much as it takes to end that without the Rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SplitBy {
    rollout: String,
    #[serde(default)]
    stable_service: String,
    #[serde(default)]
    canary_service: String,
    /// The sum of the weights.
    parts: u32,
    /// The subsets of the two sides, when these are the sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subsets: Option<SubsetNames>,
    /// The HTTP routes of a VirtualService that are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    http: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SubsetNames {
    rule: String,
    stable: String,
    canary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl SplitBy {
    pub(super) fn new(rollout: &str, route: &Route, places: &Places<'_>, canary: &Canary) -> Self {
        let http = match route {
            Route::VirtualService { http, .. } => http.clone(),
            Route::HttpRoute(_) | Route::Ingress(_) => Vec::new(),
        };
        let subsets = places.subsets.map(|subsets| SubsetNames {
            rule: subsets.rule.clone(),
            stable: subsets.stable.clone(),
            canary: subsets.canary.clone(),
            host: places.host.clone(),
        });
        Self {
            rollout: rollout.to_owned(),
            stable_service: places.sides.stable.to_owned(),
            canary_service: places.sides.canary.to_owned(),
            parts: canary.max_traffic_weight,
            subsets,
            http,
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What a route remembers; `None` when it has no split, or somebody else has written there.
    fn of<K: Resource>(route: &K) -> Option<Self> {
        let text = route.annotations().get(annotation::SPLIT_BY)?;
        serde_json::from_str(text).ok()
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            stable: &self.stable_service,
            canary: &self.canary_service,
        }
    }

    /// All to the stable side. Whose split it was is remembered until that is served.
    fn at_rest(&self) -> Split<'_> {
        Split {
            sides: self.sides(),
            canary: Weight::ZERO,
            parts: self.parts,
            additional: &[],
            managed: &[],
            split_by: self.text(),
        }
    }

    fn subset_names(&self) -> Option<Subsets> {
        self.subsets.as_ref().map(|names| Subsets {
            rule: names.rule.clone(),
            stable: names.stable.clone(),
            canary: names.canary.clone(),
        })
    }

    fn places<'a>(&'a self, namespace: &'a str, subsets: Option<&'a Subsets>) -> Places<'a> {
        Places {
            namespace,
            sides: self.sides(),
            subsets,
            host: self.subsets.as_ref().and_then(|names| names.host.clone()),
        }
    }
}

impl Steered for HTTPRoute {
    const NAME: &'static str = "abandoned http route";

    fn steered_by(&self) -> Option<String> {
        SplitBy::of(self).map(|by| by.rollout)
    }

    fn given_back(&self, acknowledged: bool) -> Option<Value> {
        let by = SplitBy::of(self)?;
        if !is_back(&http_route::view(self, by.sides(), true)) {
            return Some(http_route::patch(self, &by.at_rest()));
        }
        let served = self.acknowledged_generation() >= self.metadata.generation;
        (served || !acknowledged).then(|| forgotten(self))
    }
}

impl Steered for VirtualService {
    const NAME: &'static str = "abandoned virtual service";

    fn steered_by(&self) -> Option<String> {
        SplitBy::of(self).map(|by| by.rollout)
    }

    fn given_back(&self, acknowledged: bool) -> Option<Value> {
        let by = SplitBy::of(self)?;
        let (namespace, subsets) = (self.namespace().unwrap_or_default(), by.subset_names());
        let places = by.places(&namespace, subsets.as_ref());
        if !is_back(&virtual_service::view(self, &by.http, &places, true)) {
            let rest = by.at_rest();
            return Some(virtual_service::patch(self, &by.http, &places, &rest));
        }
        let served = self.acknowledged_generation() >= self.metadata.generation;
        (served || !acknowledged).then(|| forgotten(self))
    }
}

/// Whether the stable side has all requests of a route.
fn is_back(seen: &RouteView) -> bool {
    let all = |share| share == Weight::ZERO && seen.exact;
    seen.canary.is_none_or(all) && seen.additional.is_empty() && seen.managed.is_empty()
}

/// Takes away what a route remembers.
fn forgotten<K: Resource>(route: &K) -> Value {
    removal(route, [annotation_path(annotation::SPLIT_BY)])
}

/// The controller of Experiments that outlive their Rollout: their versions stay until no route leads to them.
#[derive(Clone)]
pub(crate) struct AbandonedExperiments {
    pub(crate) client: Client,
    pub(crate) experiments: Cache<Experiment>,
    pub(crate) rollouts: Cache<Rollout>,
    pub(crate) routes: Cache<HTTPRoute>,
    pub(crate) virtual_services: Cache<VirtualService>,
}

impl Reconcile for AbandonedExperiments {
    type Object = Experiment;
    const NAME: &'static str = "abandoned experiment";

    async fn reconcile(&self, experiment: Arc<Experiment>) -> Result<Next, Error> {
        let namespace = experiment.namespace().unwrap_or_default();
        let Some(rollout) = experiment.annotations().get(annotation::IN_ROUTES) else {
            return Ok(Next::Change);
        };
        let leaves = experiment.metadata.deletion_timestamp.is_some();
        // One that was begun by an older controller names no Rollout there, and has an owner.
        let owner = workload::controller_of(&experiment.metadata);
        let owner = owner.map_or(rollout.as_str(), |owner| owner.name.as_str());
        let lives = |name: &str| self.rollouts.get(&namespace, name).is_some();
        if leaves || lives(owner) || lives(rollout) || self.is_in_routes(&namespace, rollout) {
            return Ok(Next::Change);
        }
        let api: Api<Experiment> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"metadata": {
            "uid": experiment.metadata.uid, "annotations": {annotation::IN_ROUTES: null},
        }});
        merge(&api, &experiment.name_any(), &patch).await?;
        Ok(Next::Change)
    }
}

impl AbandonedExperiments {
    fn is_in_routes(&self, namespace: &str, rollout: &str) -> bool {
        fn any<K: Kind>(cache: &Cache<K>, namespace: &str, rollout: &str) -> bool {
            let theirs = |route: &K| SplitBy::of(route).is_some_and(|by| by.rollout == rollout);
            !cache.select(namespace, theirs).is_empty()
        }
        any(&self.routes, namespace, rollout) || any(&self.virtual_services, namespace, rollout)
    }

    /// A Rollout that has gone, and a route whose split has ended, concern the Experiments of their namespace that routes led to.
    pub(crate) fn triggers(&self) -> Vec<Triggers<Experiment>> {
        let experiments = self.experiments.clone();
        let in_routes = move |namespace: &str, _rollout: &String| {
            let held = |x: &Experiment| x.annotations().contains_key(annotation::IN_ROUTES);
            let held = experiments.select(namespace, held);
            held.iter().map(|x| ObjectRef::from_obj(&**x)).collect()
        };
        let main = &self.experiments;
        vec![
            ended(&self.rollouts, main, in_routes.clone()),
            self.routes
                .ends(main, HTTPRoute::steered_by, in_routes.clone()),
            self.virtual_services
                .ends(main, VirtualService::steered_by, in_routes),
        ]
    }
}
