//! HTTPRoutes of the Gateway API: weights in the rules that name both Services, and managed rules before all others.
//!
//! A managed rule carries its name, and the route an annotation with the digest of what each does: a rule that somebody has
//! taken away is put back, and one that does something else now is made anew.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::gateway_api::{
    HTTPRoute, HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpValueMatch,
};
use serin_api::keys::annotation;
use serin_api::rollout::{ManagedAction, RequestMatch, TextMatch};
use serin_api::units::Weight;
use serin_engine::rollout::{RouteView, digest};

use super::{Sides, Split};

/// What is seen of a route.
pub(super) fn view(route: &HTTPRoute, sides: Sides<'_>, acknowledged: bool) -> RouteView {
    let share = canary_share(route, sides);
    let known = known_rules(route);
    let there = known.into_iter().filter(|(name, _)| {
        let mut rules = route.spec.rules.iter();
        rules.any(|rule| is_named(rule, name))
    });
    RouteView {
        canary: share.map(|(share, _)| share),
        exact: share.is_some_and(|(_, exact)| exact),
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
    let wanted: Vec<_> = split
        .managed
        .iter()
        .map(|rule| (rule.name.clone(), digest(rule)))
        .collect();
    if view(route, split.sides, true).managed != wanted {
        ops.extend(managed(route, split));
        ops.extend(annotate(route, &wanted));
    }
    Value::Array(ops)
}

fn weights(route: &HTTPRoute, split: &Split<'_>) -> Vec<Value> {
    let mut ops = Vec::new();
    let rules = route.spec.rules.iter().enumerate();
    for (r, rule) in rules.filter(|(_, rule)| names_both(rule, split.sides)) {
        for (b, backend) in rule.backend_refs.iter().enumerate() {
            let share = match backend.name.as_str() {
                name if name == split.sides.canary => split.canary,
                name if name == split.sides.stable => split.canary.complement(),
                _ => continue,
            };
            let path = format!("/spec/rules/{r}/backendRefs/{b}/weight");
            ops.push(json!({"op": "add", "path": path, "value": split.parts_of(share)}));
        }
    }
    ops
}

/// Takes the managed rules away and puts the wanted ones before all others: each is a copy of every rule that splits.
fn managed(route: &HTTPRoute, split: &Split<'_>) -> Vec<Value> {
    let known = known_rules(route);
    let mut ours: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    ours.extend(split.managed.iter().map(|rule| rule.name.as_str()));
    let is_ours = |rule: &HttpRouteRule| ours.iter().any(|name| is_named(rule, name));
    let rules = route.spec.rules.iter().enumerate();
    let removals = rules.filter(|(_, rule)| is_ours(rule)).rev();
    let mut ops: Vec<_> = removals
        .map(|(r, _)| json!({"op": "remove", "path": format!("/spec/rules/{r}")}))
        .collect();
    let rest: Vec<_> = route.spec.rules.iter().filter(|r| !is_ours(r)).collect();
    let splitting: Vec<_> = rest
        .iter()
        .enumerate()
        .filter(|(_, rule)| names_both(rule, split.sides))
        .collect();
    let mut inserted = 0;
    for rule in split.managed.iter().rev() {
        for (place, (at, original)) in splitting.iter().enumerate().rev() {
            let from = format!("/spec/rules/{}", at + inserted);
            ops.push(json!({"op": "copy", "from": from, "path": "/spec/rules/0"}));
            let name = if place == 0 {
                rule.name.clone()
            } else {
                format!("{}.{place}", rule.name)
            };
            ops.push(json!({"op": "add", "path": "/spec/rules/0/name", "value": name}));
            ops.extend(changes(&rule.action, original, split.sides));
            inserted += 1;
        }
    }
    ops
}

/// What a managed rule does otherwise than the rule of which it is a copy.
fn changes(action: &ManagedAction, original: &HttpRouteRule, sides: Sides<'_>) -> Vec<Value> {
    let canary = original
        .backend_refs
        .iter()
        .find(|b| b.name == sides.canary);
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

/// The managed rules that we have put into a route, as its annotation tells them.
fn known_rules(route: &HTTPRoute) -> Vec<(String, String)> {
    let told = route.annotations().get(annotation::MANAGED_ROUTES);
    let told = told.and_then(|text| serde_json::from_str(text).ok());
    told.unwrap_or_default()
}

fn annotate(route: &HTTPRoute, wanted: &[(String, String)]) -> Vec<Value> {
    let text = serde_json::to_string(wanted).unwrap_or_default();
    if route.metadata.annotations.is_none() {
        let all = BTreeMap::from([(annotation::MANAGED_ROUTES, text)]);
        return vec![json!({"op": "add", "path": "/metadata/annotations", "value": all})];
    }
    let key = annotation::MANAGED_ROUTES.replace('/', "~1");
    let path = format!("/metadata/annotations/{key}");
    let is_there = route.annotations().contains_key(annotation::MANAGED_ROUTES);
    match (wanted.is_empty(), is_there) {
        (true, true) => vec![json!({"op": "remove", "path": path})],
        (true, false) => Vec::new(),
        (false, _) => vec![json!({"op": "add", "path": path, "value": text})],
    }
}

/// Whether a rule is the managed one of this name, or one of its copies: `name`, `name.1`, `name.2`.
fn is_named(rule: &HttpRouteRule, name: &str) -> bool {
    let rest = rule.name.as_deref().and_then(|n| n.strip_prefix(name));
    rest.is_some_and(|rest| {
        let number = rest.strip_prefix('.');
        rest.is_empty() || number.is_some_and(|n| n.parse::<usize>().is_ok())
    })
}

fn names_both(rule: &HttpRouteRule, sides: Sides<'_>) -> bool {
    let names = |service: &str| rule.backend_refs.iter().any(|b| b.name == service);
    names(sides.stable) && names(sides.canary)
}

/// The share of the canary Service on a route, in whole percent, the largest where rules differ, and whether every rule that
/// names both Services has exactly this share.
fn canary_share(route: &HTTPRoute, sides: Sides<'_>) -> Option<(Weight, bool)> {
    let shares = route.spec.rules.iter().filter_map(|rule| {
        let weight = |name: &str| {
            let reference = rule.backend_refs.iter().find(|b| b.name == name)?;
            Some(i64::from(reference.weight.unwrap_or(1).max(0)))
        };
        let (stable, canary) = (weight(sides.stable)?, weight(sides.canary)?);
        let all = stable + canary;
        // With no weight at all nobody is served: that is no share, and has to be set.
        let percent = if all == 0 {
            0
        } else {
            (canary * 100 + all - 1) / all
        };
        let exact = all > 0 && canary * 100 % all == 0;
        Some((i32::try_from(percent).ok().and_then(Weight::new)?, exact))
    });
    let shares: Vec<_> = shares.collect();
    let most = shares.iter().map(|(share, _)| *share).max()?;
    Some((most, shares.iter().all(|rule| *rule == (most, true))))
}

#[cfg(test)]
mod tests;
