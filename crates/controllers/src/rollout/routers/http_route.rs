//! HTTPRoutes of the Gateway API: weights in the rules that name both Services, and managed rules before all others.
//!
//! A managed rule carries its name, and the route an annotation with the digest of what each does: a rule that somebody has
//! taken away is put back, and one that does something else now is made anew.

use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::gateway_api::{
    HTTPRoute, HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpValueMatch,
};
use serin_api::rollout::{ManagedAction, RequestMatch, TextMatch};
use serin_engine::rollout::RouteView;

use super::managed::{self, List, Place, Weights};
use super::{Share, Sides, Split};

/// The rules of a route.
const RULES: &str = "/spec/rules";

/// What is seen of a route.
pub(super) fn view(route: &HTTPRoute, sides: Sides<'_>, acknowledged: bool) -> RouteView {
    let known = managed::known_rules(route);
    let there = known.into_iter().filter(|(name, _)| {
        let mut rules = route.spec.rules.iter();
        rules.any(|rule| managed::is_named(rule.name.as_deref(), name))
    });
    let services = managed::known_services(route);
    let rules = route.spec.rules.iter();
    let shares = managed::shares(rules.filter_map(|rule| weights_of(rule, sides, &services)));
    RouteView {
        canary: shares.as_ref().map(|shares| shares.canary),
        problems: Vec::new(),
        exact: shares.as_ref().is_some_and(|shares| shares.exact),
        additional: shares.map(|shares| shares.additional).unwrap_or_default(),
        managed: there.collect(),
        acknowledged,
    }
}

/// A JSON Patch that sets the weights in every rule that names both Services, and the managed rules before them. Fields of a
/// route that we do not know stay. It is refused when the route has changed meanwhile.
pub(super) fn patch(route: &HTTPRoute, split: &Split<'_>) -> Value {
    let mut ops: Vec<Value> = Vec::new();
    if let Some(version) = route.resource_version() {
        ops.push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    }
    ops.extend(weights(route, split));
    let wanted = managed::wanted_rules(split);
    if view(route, split.sides, true).managed != wanted {
        ops.extend(put_managed(route, split, &wanted));
    }
    ops.extend(managed::remember(route, split));
    Value::Array(ops)
}

fn weights(route: &HTTPRoute, split: &Split<'_>) -> Vec<Value> {
    let services = managed::known_services(route);
    let mut ops = Vec::new();
    let rules = route.spec.rules.iter().enumerate();
    for (r, rule) in rules.filter(|(_, rule)| names_both(rule, split.sides)) {
        let places = rule.backend_refs.iter().map(|backend| {
            let name = backend.name.as_str();
            Place {
                share: split.share_of(name),
                service: services.iter().map(String::as_str).find(|s| *s == name),
            }
        });
        let places: Vec<_> = places.collect();
        let canary = canary_of(rule, split.sides);
        let make = |share: &Share<'_>, parts: u32| {
            let port = canary.and_then(|backend| share.port(backend.port));
            json!({"name": share.service, "port": port, "weight": parts})
        };
        let path = format!("{RULES}/{r}/backendRefs");
        ops.extend(managed::set_shares(&path, &places, split, make));
    }
    ops
}

/// Takes the managed rules away and puts the wanted ones before all others.
fn put_managed(route: &HTTPRoute, split: &Split<'_>, wanted: &[(String, String)]) -> Vec<Value> {
    let rules = route.spec.rules.iter();
    let known = managed::known_rules(route);
    let ours = |rule: &HttpRouteRule| {
        let mut names = known.iter().chain(wanted).map(|(name, _)| name);
        names.any(|name| managed::is_named(rule.name.as_deref(), name))
    };
    let splitting = rules.clone().enumerate();
    let splitting = splitting.filter(|(_, rule)| names_both(rule, split.sides) && !ours(rule));
    let list = List {
        path: RULES,
        names: rules.map(|rule| rule.name.as_deref()).collect(),
        splitting: splitting.map(|(at, _)| at).collect(),
    };
    managed::rearrange(route, &list, split.managed, |action, at| {
        let original = route.spec.rules.get(at);
        original.map_or_else(Vec::new, |rule| changes(action, rule, split.sides))
    })
}

fn canary_of<'a>(rule: &'a HttpRouteRule, sides: Sides<'_>) -> Option<&'a HttpBackendRef> {
    rule.backend_refs.iter().find(|b| b.name == sides.canary)
}

/// What a managed rule does otherwise than the rule of which it is a copy.
fn changes(action: &ManagedAction, original: &HttpRouteRule, sides: Sides<'_>) -> Vec<Value> {
    let canary = canary_of(original, sides);
    match action {
        ManagedAction::Header(headers) => {
            let one = [RequestMatch {
                headers: headers.clone(),
                ..RequestMatch::default()
            }];
            let alone = canary.map(|backend| HttpBackendRef {
                weight: Some(1),
                ..backend.clone()
            });
            let alone: Vec<_> = alone.into_iter().collect();
            vec![
                json!({"op": "add", "path": "/spec/rules/0/matches", "value": matches(original, &one)}),
                json!({"op": "add", "path": "/spec/rules/0/backendRefs", "value": alone}),
            ]
        }
        ManagedAction::Mirror {
            matches: any,
            percent,
        } => {
            let port = canary.and_then(|backend| backend.port);
            let mirror = json!({"type": "RequestMirror", "requestMirror": {
                "backendRef": {"name": sides.canary, "port": port}, "percent": percent.percent(),
            }});
            let mut filters: Vec<_> = original.filters.iter().map(|f| json!(f)).collect();
            filters.push(mirror);
            vec![
                json!({"op": "add", "path": "/spec/rules/0/matches", "value": matches(original, any)}),
                json!({"op": "add", "path": "/spec/rules/0/filters", "value": filters}),
            ]
        }
    }
}

/// The matches of a rule, each narrowed by each of `more`.
fn matches(rule: &HttpRouteRule, more: &[RequestMatch]) -> Vec<HttpRouteMatch> {
    let every = [HttpRouteMatch::default()];
    let of_rule = if rule.matches.is_empty() {
        &every[..]
    } else {
        &rule.matches[..]
    };
    let narrowed = more.iter().flat_map(|more| {
        of_rule.iter().map(move |base| {
            let mut narrow = base.clone();
            for (name, text) in &more.headers {
                narrow
                    .headers
                    .retain(|h| !h.name.eq_ignore_ascii_case(name));
                narrow.headers.push(header(name, text));
            }
            if let Some(path) = &more.path {
                narrow.path = Some(path_match(path));
            }
            if let Some(TextMatch::Exact(method)) = &more.method {
                narrow.method = Some(method.clone());
            }
            narrow
        })
    });
    narrowed.collect()
}

fn header(name: &str, text: &TextMatch) -> HttpValueMatch {
    let (type_, value) = match text {
        TextMatch::Exact(value) => ("Exact", value.clone()),
        TextMatch::Prefix(value) => ("RegularExpression", format!("{}.*", escaped(value))),
        TextMatch::Regex(value) => ("RegularExpression", value.clone()),
    };
    HttpValueMatch {
        type_: Some(type_.to_owned()),
        name: name.to_owned(),
        value,
    }
}

fn path_match(text: &TextMatch) -> HttpPathMatch {
    let (type_, value) = match text {
        TextMatch::Exact(value) => ("Exact", value),
        TextMatch::Prefix(value) => ("PathPrefix", value),
        TextMatch::Regex(value) => ("RegularExpression", value),
    };
    HttpPathMatch {
        type_: Some(type_.to_owned()),
        value: Some(value.clone()),
    }
}

/// A regular expression that matches exactly this text.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn names_both(rule: &HttpRouteRule, sides: Sides<'_>) -> bool {
    let names = |service: &str| rule.backend_refs.iter().any(|b| b.name == service);
    names(sides.stable) && names(sides.canary)
}

/// The weights of a rule that names both Services.
fn weights_of(rule: &HttpRouteRule, sides: Sides<'_>, services: &[String]) -> Option<Weights> {
    let weight = |name: &str| {
        let reference = rule.backend_refs.iter().find(|b| b.name == name)?;
        Some(i64::from(reference.weight.unwrap_or(1).max(0)))
    };
    let additional = services.iter();
    let additional = additional.filter_map(|name| Some((name.clone(), weight(name)?)));
    Some(Weights {
        stable: weight(sides.stable)?,
        canary: weight(sides.canary)?,
        additional: additional.collect(),
    })
}

#[cfg(test)]
mod tests;
