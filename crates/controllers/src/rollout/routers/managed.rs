//! What the routers of HTTPRoutes and of VirtualServices have in common: rules that are put before all others, shares that are read
//! from weights, and what is remembered of both in annotations.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::rollout::{ManagedAction, ManagedRule};
use serin_api::units::Weight;
use serin_engine::rollout::digest;

use super::{Share, Split};

/// The weights of one rule that names both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) stable: i64,
    pub(super) canary: i64,
    /// Those of versions of an experiment.
    pub(super) additional: BTreeMap<String, i64>,
}

/// The shares of a route in whole percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// The largest where rules differ.
    pub(super) canary: Weight,
    /// Whether every rule has exactly these shares.
    pub(super) exact: bool,
    pub(super) additional: Vec<(String, Weight)>,
}

/// The shares of the rules that name both sides; `None` without such a rule.
pub(super) fn shares(rules: impl Iterator<Item = Weights>) -> Option<Shares> {
    let each: Vec<_> = rules.filter_map(|weights| shares_of(&weights)).collect();
    let most = each.iter().max_by_key(|shares| shares.canary)?;
    Some(Shares {
        exact: each.iter().all(|shares| shares == most && shares.exact),
        ..most.clone()
    })
}

fn shares_of(weights: &Weights) -> Option<Shares> {
    let more: i64 = weights.additional.values().sum();
    let all = weights.stable + weights.canary + more;
    // With no weight at all nobody is served: that is no share, and has to be set.
    let percent = |part: i64| {
        let percent = if all == 0 {
            0
        } else {
            (part * 100 + all - 1) / all
        };
        i32::try_from(percent).ok().and_then(Weight::new)
    };
    let is_whole = |part: i64| all > 0 && part * 100 % all == 0;
    let additional = weights.additional.iter();
    let additional = additional.map(|(service, part)| Some((service.clone(), percent(*part)?)));
    Some(Shares {
        canary: percent(weights.canary)?,
        exact: is_whole(weights.canary) && weights.additional.values().all(|part| is_whole(*part)),
        additional: additional.collect::<Option<_>>()?,
    })
}

/// The managed rules that we have put into a route, as its annotation tells them: name and digest of each.
pub(super) fn known_rules<K: Resource>(route: &K) -> Vec<(String, String)> {
    remembered(route, annotation::MANAGED_ROUTES)
}

/// The Services of experiments that we have put into a route.
pub(super) fn known_services<K: Resource>(route: &K) -> Vec<String> {
    remembered(route, annotation::EXPERIMENT_SERVICES)
}

fn remembered<K: Resource, T: DeserializeOwned + Default>(route: &K, key: &str) -> T {
    let told = route.annotations().get(key);
    let told = told.and_then(|text| serde_json::from_str(text).ok());
    told.unwrap_or_default()
}

/// Operations that remember what a split puts into a route.
pub(super) fn remember<K: Resource>(route: &K, split: &Split<'_>) -> Vec<Value> {
    let rules: Vec<_> = wanted_rules(split);
    let services: Vec<_> = split.additional.iter().map(|s| &s.service).collect();
    let texts = [
        (annotation::MANAGED_ROUTES, text_of(&rules)),
        (annotation::EXPERIMENT_SERVICES, text_of(&services)),
        (annotation::SPLIT_BY, split.split_by.clone()),
    ];
    let known = route.annotations();
    let mut ops = Vec::new();
    if route.meta().annotations.is_none() && texts.iter().any(|(_, text)| text.is_some()) {
        ops.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    for (key, text) in texts {
        let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        match text {
            Some(text) if known.get(key) != Some(&text) => {
                ops.push(json!({"op": "add", "path": path, "value": text}));
            }
            None if known.contains_key(key) => ops.push(json!({"op": "remove", "path": path})),
            _ => {}
        }
    }
    ops
}

fn text_of<T: Serialize>(list: &[T]) -> Option<String> {
    let text = serde_json::to_string(list).ok();
    text.filter(|_| !list.is_empty())
}

/// The managed rules of a split: name and digest of each.
pub(super) fn wanted_rules(split: &Split<'_>) -> Vec<(String, String)> {
    let rules = split.managed.iter();
    rules
        .map(|rule| (rule.name.clone(), digest(rule)))
        .collect()
}

/// Whether a rule is the managed one of this name, or one of its copies: `name`, `name.1`, `name.2`.
pub(super) fn is_named(rule: Option<&str>, name: &str) -> bool {
    let rest = rule.and_then(|n| n.strip_prefix(name));
    rest.is_some_and(|rest| {
        let number = rest.strip_prefix('.');
        rest.is_empty() || number.is_some_and(|n| n.parse::<usize>().is_ok())
    })
}

/// The list of the rules of a route.
pub(super) struct List<'a> {
    /// Its path.
    pub(super) path: &'a str,
    /// The name of each rule.
    pub(super) names: Vec<Option<&'a str>>,
    /// The places of the rules that split, of those that are not managed.
    pub(super) splitting: Vec<usize>,
}

/// Operations that take the managed rules away and put the wanted ones before all others: each is a copy of every rule that
/// splits. `changes` says what the copy of the rule at a place, which is the first one by then, does otherwise.
pub(super) fn rearrange<K: Resource>(
    route: &K,
    list: &List<'_>,
    managed: &[ManagedRule],
    changes: impl Fn(&ManagedAction, usize) -> Vec<Value>,
) -> Vec<Value> {
    let known = known_rules(route);
    let mut ours: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    ours.extend(managed.iter().map(|rule| rule.name.as_str()));
    let is_ours = |at: &usize| {
        let name = list.names.get(*at).copied().flatten();
        ours.iter().any(|our| is_named(name, our))
    };
    let gone: Vec<_> = (0..list.names.len()).filter(is_ours).collect();
    let path = list.path;
    let removals = gone.iter().rev();
    let mut ops: Vec<_> = removals
        .map(|at| json!({"op": "remove", "path": format!("{path}/{at}")}))
        .collect();
    let mut inserted = 0;
    for rule in managed.iter().rev() {
        for (copy, original) in list.splitting.iter().enumerate().rev() {
            let before = gone.iter().filter(|at| *at < original).count();
            let from = format!("{path}/{}", original - before + inserted);
            ops.push(json!({"op": "copy", "from": from, "path": format!("{path}/0")}));
            let name = if copy == 0 {
                rule.name.clone()
            } else {
                format!("{}.{copy}", rule.name)
            };
            ops.push(json!({"op": "add", "path": format!("{path}/0/name"), "value": name}));
            ops.extend(changes(&rule.action, *original));
            inserted += 1;
        }
    }
    ops
}

/// One place in a rule that requests go to.
pub(super) struct Place<'a> {
    /// The share that it is to have; `None` for one that is not ours to set.
    pub(super) share: Option<Weight>,
    /// The Service of an experiment that it leads to.
    pub(super) service: Option<&'a str>,
}

/// Operations on the places of one rule: sets the shares of both sides and of the wanted Services of experiments, takes the
/// others of ours away, and adds those that are missing, each made by `make`.
pub(super) fn set_shares(
    path: &str,
    places: &[Place<'_>],
    split: &Split<'_>,
    make: impl Fn(&Share<'_>, u32) -> Value,
) -> Vec<Value> {
    let wanted = |service: &str| split.additional.iter().find(|s| s.service == service);
    let mut ops = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let additional = place.service.and_then(wanted).map(|share| share.weight);
        if let Some(share) = place.share.or(additional) {
            let path = format!("{path}/{at}/weight");
            ops.push(json!({"op": "add", "path": path, "value": split.parts_of(share)}));
        }
    }
    let gone = places.iter().enumerate().rev();
    let gone = gone.filter(|(_, p)| p.service.is_some_and(|service| wanted(service).is_none()));
    ops.extend(gone.map(|(at, _)| json!({"op": "remove", "path": format!("{path}/{at}")})));
    let is_there = |share: &Share<'_>| places.iter().any(|p| p.service == Some(share.service));
    let missing = split.additional.iter().filter(|share| !is_there(share));
    ops.extend(missing.map(|share| {
        let value = make(share, split.parts_of(share.weight));
        json!({"op": "add", "path": format!("{path}/-"), "value": value})
    }));
    ops
}
