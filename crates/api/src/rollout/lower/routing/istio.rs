//! The checked form of `trafficRouting.istio`: VirtualServices with the HTTP routes that split, and the subsets of the sides.

use std::collections::BTreeSet;

use super::super::Check;
use crate::problem::{FieldPath, Problem};
use crate::rollout::desired::{Route, Subsets};
use crate::rollout::routing::{IstioRouting, IstioVirtualService, TrafficRouting};

impl Check {
    /// The VirtualServices that carry the split.
    pub(super) fn istio(&mut self, istio: &IstioRouting, at: &FieldPath) -> Vec<Route> {
        let one = istio.virtual_service.iter();
        let one = one.map(|service| (service, at.field("virtualService")));
        let many = istio.virtual_services.iter().enumerate();
        let many = many.map(|(i, service)| (service, at.field("virtualServices").index(i)));
        if istio.virtual_service.is_some() && !istio.virtual_services.is_empty() {
            let why = "may not be set together with virtualService";
            self.report(Problem::forbidden(at.field("virtualServices"), why));
        }
        if istio.virtual_service.is_none() && istio.virtual_services.is_empty() {
            let hint = "name the VirtualService whose weights are set";
            self.report(Problem::required(at.field("virtualService"), hint));
        }
        let mut known = BTreeSet::new();
        let all = one.chain(many).map(|(service, at)| {
            if !service.name.is_empty() && !known.insert(&service.name) {
                self.report(Problem::duplicate(at.field("name"), &service.name));
            }
            self.virtual_service(service, &at)
        });
        all.collect()
    }

    fn virtual_service(&mut self, service: &IstioVirtualService, at: &FieldPath) -> Route {
        let name = at.field("name");
        if service.name.is_empty() {
            self.report(Problem::required(name, "name the VirtualService"));
        } else if service.name.contains('.') {
            let why = "must be the name of a VirtualService in the namespace of the Rollout";
            self.report(Problem::invalid(name, format!("{:?}", service.name), why));
        }
        let instead = "the weights of HTTP routes are set: take it out, and name them in routes";
        for (field, given) in [
            ("tlsRoutes", !service.tls_routes.is_empty()),
            ("tcpRoutes", !service.tcp_routes.is_empty()),
        ] {
            if given {
                self.report(Problem::unbuilt(at.field(field), instead));
            }
        }
        let mut known = BTreeSet::new();
        for (i, route) in service.routes.iter().enumerate() {
            let at = at.field("routes").index(i);
            if route.is_empty() {
                self.report(Problem::required(at, "name an HTTP route"));
            } else if !known.insert(route) {
                self.report(Problem::duplicate(at, route));
            }
        }
        Route::VirtualService {
            name: service.name.clone(),
            http: service.routes.clone(),
        }
    }

    /// The subsets of the two sides; `None` where the routes name a Service for each. `at` is the path of `routing`.
    pub(super) fn subsets(
        &mut self,
        istio: &IstioRouting,
        routing: &TrafficRouting,
        at: &FieldPath,
    ) -> Option<Subsets> {
        let rule = istio.destination_rule.as_ref()?;
        let here = at.field("istio").field("destinationRule");
        let others = [
            ("nginx", routing.nginx.is_some()),
            ("plugins", !routing.plugins.is_empty()),
        ];
        for (name, _) in others.iter().filter(|(_, given)| *given) {
            let why = "may not be set together with istio.destinationRule, whose subsets it does not know";
            self.report(Problem::forbidden(at.field(name), why));
        }
        let stable = rule.stable_subset_name.clone().unwrap_or_default();
        let canary = rule.canary_subset_name.clone().unwrap_or_default();
        for (name, value, hint) in [
            ("name", &rule.name, "name the DestinationRule"),
            (
                "stableSubsetName",
                &stable,
                "name the subset of the stable pods",
            ),
            (
                "canarySubsetName",
                &canary,
                "name the subset of the canary pods",
            ),
        ] {
            if value.is_empty() {
                self.report(Problem::required(here.field(name), hint));
            }
        }
        if stable == canary && !stable.is_empty() {
            let why = "must differ from stableSubsetName";
            let at = here.field("canarySubsetName");
            self.report(Problem::invalid(at, format!("{canary:?}"), why));
        }
        let surplus = !rule.additional_subset_names.is_empty();
        self.passed_over(&[("additionalSubsetNames", surplus)], &here);
        Some(Subsets {
            rule: rule.name.clone(),
            stable,
            canary,
        })
    }
}
