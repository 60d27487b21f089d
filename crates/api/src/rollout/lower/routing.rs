//! The checked form of `trafficRouting`: who splits the requests, and with which settings.

mod istio;

use std::collections::BTreeSet;

use super::Check;
use crate::problem::{FieldPath, Problem};
use crate::rollout::desired::{IngressSettings, Route, Subsets};
use crate::rollout::routing::{NginxRouting, TrafficRouting};

/// The key of the Gateway API router under `trafficRouting.plugins`, which is built in here.
const GATEWAY_API: &str = "argoproj-labs/gatewayAPI";
const INSTEAD: &str = "use plugins.argoproj-labs/gatewayAPI with an HTTPRoute";
/// The shares are whole percent, so this is the least sum of weights that has room for each.
const PERCENT: u32 = 100;

/// Who splits the requests.
pub(super) struct Routing {
    pub(super) routes: Vec<Route>,
    pub(super) managed: Vec<String>,
    pub(super) max_weight: u32,
    pub(super) ingress: IngressSettings,
    pub(super) subsets: Option<Subsets>,
}

impl Default for Routing {
    /// Nobody: the numbers of instances are the split.
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            managed: Vec::new(),
            max_weight: PERCENT,
            ingress: IngressSettings::default(),
            subsets: None,
        }
    }
}

impl Check {
    pub(super) fn routing(&mut self, routing: &TrafficRouting, at: &FieldPath) -> Routing {
        let others = [
            ("alb", routing.alb.is_some()),
            ("smi", routing.smi.is_some()),
            ("ambassador", routing.ambassador.is_some()),
            ("traefik", routing.traefik.is_some()),
            ("apisix", routing.apisix.is_some()),
            ("appMesh", routing.app_mesh.is_some()),
        ];
        for (name, _) in others.iter().filter(|(_, given)| *given) {
            self.report(Problem::unbuilt(at.field(name), INSTEAD));
        }
        let mut routes = Vec::new();
        let mut ingress = IngressSettings::default();
        if let Some(nginx) = &routing.nginx {
            routes.extend(self.nginx(nginx, &at.field("nginx")));
            ingress = settings(nginx);
        }
        let mut subsets = None;
        if let Some(istio) = &routing.istio {
            routes.extend(self.istio(istio, &at.field("istio")));
            subsets = self.subsets(istio, routing, at);
        }
        let plugins = at.field("plugins");
        for (name, config) in &routing.plugins {
            if name == GATEWAY_API {
                routes.extend(self.gateway_api(config, &plugins.key(name)));
            } else {
                self.report(Problem::unbuilt(plugins.key(name), INSTEAD));
            }
        }
        let nobody = routing.plugins.is_empty() && routing.nginx.is_none();
        if nobody && routing.istio.is_none() && !others.iter().any(|(_, given)| *given) {
            let hint = "name who splits the requests, such as plugins.argoproj-labs/gatewayAPI";
            self.report(Problem::required(at.clone(), hint));
        }
        Routing {
            routes,
            managed: self.managed_routes(routing, &at.field("managedRoutes")),
            max_weight: self.max_weight(routing, &at.field("maxTrafficWeight")),
            ingress,
            subsets,
        }
    }

    fn managed_routes(&mut self, routing: &TrafficRouting, at: &FieldPath) -> Vec<String> {
        let mut known = BTreeSet::new();
        for (i, route) in routing.managed_routes.iter().enumerate() {
            let at = at.index(i).field("name");
            if route.name.is_empty() {
                self.report(Problem::required(at, "name the route that a step adds"));
            } else if !known.insert(&route.name) {
                self.report(Problem::duplicate(at, &route.name));
            }
        }
        let names = routing.managed_routes.iter().map(|r| r.name.clone());
        names.collect()
    }

    fn max_weight(&mut self, routing: &TrafficRouting, at: &FieldPath) -> u32 {
        let max = self.count(routing.max_traffic_weight, PERCENT, at);
        if max == 0 {
            self.report(Problem::invalid(at.clone(), 0, "must be greater than 0"));
        }
        if routing.istio.is_some() && max != PERCENT {
            let why = "may not be set together with istio, whose weights are percent";
            self.report(Problem::forbidden(at.clone(), why));
        }
        max.max(1)
    }

    fn nginx(&mut self, nginx: &NginxRouting, at: &FieldPath) -> Vec<Route> {
        let one = nginx.stable_ingress.iter().filter(|name| !name.is_empty());
        let names: Vec<_> = one.chain(&nginx.stable_ingresses).collect();
        if names.is_empty() {
            let hint = "name the Ingress of the users";
            self.report(Problem::required(at.field("stableIngress"), hint));
        }
        if nginx.stable_ingress.is_some() && !nginx.stable_ingresses.is_empty() {
            let why = "may not be set together with stableIngress";
            self.report(Problem::forbidden(at.field("stableIngresses"), why));
        }
        names.into_iter().cloned().map(Route::Ingress).collect()
    }

    fn gateway_api(&mut self, config: &serde_json::Value, at: &FieldPath) -> Vec<Route> {
        let one = config.get("httpRoute").and_then(|v| v.as_str());
        let many = config.get("httpRoutes").and_then(|v| v.as_array());
        let many = many.into_iter().flatten();
        let many = many.filter_map(|route| route.get("name").and_then(|n| n.as_str()));
        let routes: Vec<_> = one
            .into_iter()
            .chain(many)
            .map(|name| Route::HttpRoute(name.to_owned()))
            .collect();
        let known = ["httpRoute", "httpRoutes", "namespace"];
        let given = config.as_object().into_iter().flat_map(|f| f.keys());
        for name in given.filter(|name| !known.contains(&name.as_str())) {
            self.passed_over(&[(name.as_str(), true)], at);
        }
        if routes.is_empty() {
            let hint = "name the HTTPRoute whose weights are set";
            self.report(Problem::required(at.field("httpRoute"), hint));
        }
        routes
    }
}

fn settings(nginx: &NginxRouting) -> IngressSettings {
    const PREFIX: &str = "nginx.ingress.kubernetes.io";
    let prefix = nginx
        .annotation_prefix
        .clone()
        .unwrap_or_else(|| PREFIX.to_owned());
    let prefixed = nginx.additional_ingress_annotations.iter();
    let prefixed = prefixed.map(|(key, value)| {
        let key = if key.contains('/') {
            key.clone()
        } else {
            format!("{prefix}/{key}")
        };
        (key, value.clone())
    });
    let plain = nginx.canary_ingress_annotations.clone();
    IngressSettings {
        annotations: prefixed.chain(plain).collect(),
        prefix,
    }
}
