//! VirtualServices of Istio: weights in the HTTP routes that are named, and managed routes before all others.
//!
//! Each side is a destination that names its Service (`canaryService`, `stableService`), or its subset of the DestinationRule. All
//! else in a VirtualService stays as it is. A managed route is a copy of the route that splits, narrowed to the requests that it is
//! for: it keeps the timeouts, rewrites and retries of the users.

use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::istio::{
    Destination, HttpMatchRequest, HttpRoute, HttpRouteDestination, StringMatch, VirtualService,
};
use serin_api::rollout::{ManagedAction, RequestMatch, Side, Subsets, TextMatch};
use serin_engine::rollout::RouteView;

use super::managed::{self, List, Place, Weights};
use super::{Share, Sides, Split};

/// The HTTP routes of a VirtualService.
const ROUTES: &str = "/spec/http";

/// What the destinations of a VirtualService may name.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    /// Of the VirtualService.
    pub(super) namespace: &'a str,
    pub(super) sides: Sides<'a>,
    pub(super) subsets: Option<&'a Subsets>,
    /// The host of the DestinationRule with the subsets; `None` when there is none.
    pub(super) host: Option<String>,
}

impl Places<'_> {
    /// The side that a destination leads to.
    fn side(&self, destination: &Destination) -> Option<Side> {
        let Some(subsets) = self.subsets else {
            return match self.service(&destination.host)? {
                name if destination.subset.is_some() || name.is_empty() => None,
                name if name == self.sides.stable => Some(Side::Stable),
                name if name == self.sides.canary => Some(Side::Canary),
                _ => None,
            };
        };
        let of_rule = self.host.as_deref();
        let same = of_rule.is_none_or(|host| self.is_same(host, &destination.host));
        match destination.subset.as_ref().filter(|_| same)? {
            name if *name == subsets.stable => Some(Side::Stable),
            name if *name == subsets.canary => Some(Side::Canary),
            _ => None,
        }
    }

    /// The Service of this namespace that a host names.
    fn service<'h>(&self, host: &'h str) -> Option<&'h str> {
        let (name, namespace) = split_host(host);
        let here = namespace.is_none_or(|namespace| namespace == self.namespace);
        here.then_some(name)
    }

    fn is_same(&self, one: &str, other: &str) -> bool {
        let full = |host| {
            let (name, namespace) = split_host(host);
            (
                name.to_owned(),
                namespace.unwrap_or(self.namespace).to_owned(),
            )
        };
        full(one) == full(other)
    }

    fn side_of(&self, place: &HttpRouteDestination) -> Option<Side> {
        self.side(place.destination.as_ref()?)
    }

    fn canary_of<'r>(&self, route: &'r HttpRoute) -> Option<&'r HttpRouteDestination> {
        let mut places = route.route.iter();
        places.find(|place| self.side_of(place) == Some(Side::Canary))
    }

    fn names_both(&self, route: &HttpRoute) -> bool {
        let names = |side: Side| route.route.iter().any(|p| self.side_of(p) == Some(side));
        names(Side::Stable) && names(Side::Canary)
    }
}

/// The Service that a host names, and its namespace when it names one.
fn split_host(host: &str) -> (&str, Option<&str>) {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    match host.split_once('.') {
        Some((name, namespace)) => (name, Some(namespace)),
        None => (host, None),
    }
}

/// What is seen of a VirtualService. `http` are the names of its routes that split.
pub(super) fn view(
    service: &VirtualService,
    http: &[String],
    places: &Places<'_>,
    acknowledged: bool,
) -> RouteView {
    let known = managed::known_rules(service);
    let there = known.into_iter().filter(|(name, _)| {
        let mut routes = service.spec.http.iter();
        routes.any(|route| managed::is_named(route.name.as_deref(), name))
    });
    let view = RouteView {
        managed: there.collect(),
        acknowledged,
        ..RouteView::default()
    };
    if let Err(problems) = splitting(service, http, places) {
        return RouteView { problems, ..view };
    }
    let services = managed::known_services(service);
    let set = routes_to_set(service, http, places).into_iter();
    let set = set.filter_map(|at| service.spec.http.get(at));
    let Some(shares) = managed::shares(set.map(|route| weights_of(route, places, &services)))
    else {
        return view;
    };
    RouteView {
        canary: Some(shares.canary),
        exact: shares.exact,
        additional: shares.additional,
        ..view
    }
}

/// A JSON Patch that sets the weights in the routes that split, and the managed routes before them. It is refused when the
/// VirtualService has changed meanwhile.
pub(super) fn patch(
    service: &VirtualService,
    http: &[String],
    places: &Places<'_>,
    split: &Split<'_>,
) -> Value {
    let mut ops: Vec<Value> = Vec::new();
    if let Some(version) = service.resource_version() {
        ops.push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    }
    for at in routes_to_set(service, http, places) {
        let route = service.spec.http.get(at);
        ops.extend(
            route
                .map(|route| weights(service, at, route, places, split))
                .unwrap_or_default(),
        );
    }
    let seen = view(service, http, places, true).managed;
    if seen != managed::wanted_rules(split) {
        let list = List {
            path: ROUTES,
            names: service
                .spec
                .http
                .iter()
                .map(|r| r.name.as_deref())
                .collect(),
            splitting: splitting(service, http, places).unwrap_or_default(),
        };
        ops.extend(managed::rearrange(
            service,
            &list,
            split.managed,
            |action, at| {
                let original = service.spec.http.get(at);
                original.map_or_else(Vec::new, |route| changes(action, route, places))
            },
        ));
    }
    ops.extend(managed::remember(service, split));
    Value::Array(ops)
}

/// The places of the routes that split; or why the split cannot be set.
fn splitting(
    service: &VirtualService,
    http: &[String],
    places: &Places<'_>,
) -> Result<Vec<usize>, Vec<String>> {
    let routes = &service.spec.http;
    let ours = managed::known_rules(service);
    let is_ours = |route: &HttpRoute| {
        let mut names = ours.iter().map(|(name, _)| name);
        names.any(|name| managed::is_named(route.name.as_deref(), name))
    };
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for name in http {
        let named = |route: &HttpRoute| route.name.as_ref() == Some(name);
        match routes.iter().position(named) {
            None => problems.push(format!("has no HTTP route {name:?}")),
            Some(at) if routes.get(at).is_some_and(|route| places.names_both(route)) => {
                found.push(at);
            }
            Some(_) => problems.push(format!(
                "has an HTTP route {name:?} whose destinations do not name both sides"
            )),
        }
    }
    if http.is_empty() {
        let all = routes.iter().enumerate();
        let both = all.filter(|(_, route)| places.names_both(route) && !is_ours(route));
        found.extend(both.map(|(at, _)| at));
        if found.len() > 1 {
            let why = "has several HTTP routes that name both sides: say in virtualService.routes which of them split";
            problems.push(why.to_owned());
        }
    }
    let services = managed::known_services(service);
    let foreign = found
        .iter()
        .filter_map(|at| routes.get(*at))
        .flat_map(|route| {
            let others = route
                .route
                .iter()
                .filter_map(|place| place.destination.as_ref().zip(place.weight));
            let others = others.filter(|(to, weight)| *weight > 0 && places.side(to).is_none());
            others.map(|(to, _)| to.host.clone())
        });
    let foreign = foreign.filter(|host| {
        let name = places.service(host);
        name.is_none_or(|name| !services.iter().any(|known| known == name))
    });
    problems.extend(foreign.map(|host| {
        format!("sends a share of an HTTP route that splits to {host:?}, which is neither side: take it out")
    }));
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

/// The places of all routes whose weights are set: those that split, and their managed copies that do.
fn routes_to_set(service: &VirtualService, http: &[String], places: &Places<'_>) -> Vec<usize> {
    let ours = managed::known_rules(service);
    let routes = service.spec.http.iter().enumerate();
    let copies = routes.filter(|(_, route)| {
        let mut names = ours.iter().map(|(name, _)| name);
        places.names_both(route) && names.any(|n| managed::is_named(route.name.as_deref(), n))
    });
    let copies = copies.map(|(at, _)| at);
    let splitting = splitting(service, http, places).unwrap_or_default();
    splitting.into_iter().chain(copies).collect()
}

/// The weights of a route that names both sides. Of several destinations, one without a weight gets nothing.
fn weights_of(route: &HttpRoute, places: &Places<'_>, services: &[String]) -> Weights {
    let mut weights = Weights::default();
    for place in &route.route {
        let weight = i64::from(place.weight.unwrap_or(0).max(0));
        match places.side_of(place) {
            Some(Side::Stable) => weights.stable += weight,
            Some(Side::Canary) => weights.canary += weight,
            None => {
                let service = service_of(place, places, services);
                weights
                    .additional
                    .extend(service.map(|s| (s.to_owned(), weight)));
            }
        }
    }
    weights
}

/// The Service of an experiment that a destination leads to.
fn service_of<'s>(
    place: &HttpRouteDestination,
    places: &Places<'_>,
    services: &'s [String],
) -> Option<&'s str> {
    let name = places.service(&place.destination.as_ref()?.host)?;
    services
        .iter()
        .map(String::as_str)
        .find(|known| *known == name)
}

fn weights(
    service: &VirtualService,
    at: usize,
    route: &HttpRoute,
    places: &Places<'_>,
    split: &Split<'_>,
) -> Vec<Value> {
    let services = managed::known_services(service);
    let all = route.route.iter().map(|place| Place {
        share: places.side_of(place).map(|side| match side {
            Side::Stable => split.stable(),
            Side::Canary => split.canary,
        }),
        service: service_of(place, places, &services),
    });
    let all: Vec<_> = all.collect();
    let canary = places.canary_of(route).and_then(|p| p.destination.as_ref());
    let port = canary.and_then(|to| to.port.as_ref()?.number);
    let make = |share: &Share<'_>, parts: u32| {
        let port = port.and_then(|number| i32::try_from(number).ok());
        // One port needs no number.
        let to = if port.is_some() || share.ports.len() > 1 {
            json!({"host": share.service, "port": {"number": share.port(port)}})
        } else {
            json!({"host": share.service})
        };
        json!({"destination": to, "weight": parts})
    };
    managed::set_shares(&format!("{ROUTES}/{at}/route"), &all, split, make)
}

/// What a managed route does otherwise than the route of which it is a copy.
fn changes(action: &ManagedAction, original: &HttpRoute, places: &Places<'_>) -> Vec<Value> {
    let first = |field: &str| format!("{ROUTES}/0/{field}");
    let set =
        |field: &str, value: Value| json!({"op": "add", "path": first(field), "value": value});
    let canary = places.canary_of(original);
    match action {
        // Any of the headers, as Argo Rollouts has it for this router.
        ManagedAction::Header(headers) => {
            let any = headers.iter().map(|header| RequestMatch {
                headers: vec![header.clone()],
                ..RequestMatch::default()
            });
            let any: Vec<_> = any.collect();
            let alone = canary.map(|place| HttpRouteDestination {
                weight: Some(100),
                ..place.clone()
            });
            let alone: Vec<_> = alone.into_iter().collect();
            vec![
                set("match", json!(matches(original, &any))),
                set("route", json!(alone)),
            ]
        }
        ManagedAction::Mirror {
            matches: any,
            percent,
        } => {
            let to = canary.and_then(|place| place.destination.as_ref());
            let mut ops = vec![
                set("match", json!(matches(original, any))),
                set("mirror", json!(to)),
                set("mirrorPercentage", json!({"value": percent.percent()})),
            ];
            let others = [
                ("mirrors", !original.mirrors.is_empty()),
                ("mirrorPercent", original.mirror_percent.is_some()),
            ];
            let others = others.into_iter().filter(|(_, given)| *given);
            ops.extend(others.map(|(field, _)| json!({"op": "remove", "path": first(field)})));
            ops
        }
    }
}

/// The matches of a route, each narrowed by each of `more`.
fn matches(route: &HttpRoute, more: &[RequestMatch]) -> Vec<HttpMatchRequest> {
    let every = [HttpMatchRequest::default()];
    let of_route = if route.match_.is_empty() {
        &every[..]
    } else {
        &route.match_[..]
    };
    let narrowed = more.iter().flat_map(|more| {
        of_route.iter().map(move |base| {
            let mut narrow = base.clone();
            let headers = more.headers.iter();
            // Envoy knows headers by their lower-case names.
            let headers = headers.map(|(name, text)| (name.to_ascii_lowercase(), text_match(text)));
            narrow.headers.extend(headers);
            narrow.uri = more.path.as_ref().map(text_match).or(narrow.uri);
            narrow.method = more.method.as_ref().map(text_match).or(narrow.method);
            narrow
        })
    });
    narrowed.collect()
}

fn text_match(text: &TextMatch) -> StringMatch {
    let none = StringMatch::default;
    match text.clone() {
        TextMatch::Exact(value) => StringMatch {
            exact: Some(value),
            ..none()
        },
        TextMatch::Prefix(value) => StringMatch {
            prefix: Some(value),
            ..none()
        },
        TextMatch::Regex(value) => StringMatch {
            regex: Some(value),
            ..none()
        },
    }
}

#[cfg(test)]
mod tests;
