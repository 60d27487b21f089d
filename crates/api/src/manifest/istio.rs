//! Subsets that VirtualServices name and no DestinationRule of the same text has: told so that a manifest is mended in one go.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{FieldPath, Problem};

const GROUP: &str = "networking.istio.io/";

/// Problems with the index of their object.
pub(super) fn check(objects: &[&Value]) -> Vec<(usize, Problem)> {
    let subsets: BTreeSet<_> = objects
        .iter()
        .filter(|object| is(object, "DestinationRule"))
        .flat_map(|rule| {
            let host = text(rule, "/spec/host");
            let subsets = list(rule, "/spec/subsets").iter();
            subsets.map(move |subset| (host, text(subset, "/name")))
        })
        .collect();
    let mut problems = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        if !is(object, "VirtualService") {
            continue;
        }
        let dangling = destinations(object)
            .filter(|(_, host, subset)| !subset.is_empty() && !subsets.contains(&(*host, *subset)));
        problems.extend(dangling.map(|(path, host, subset)| {
            let message =
                format!("no DestinationRule in this text gives {host} a subset {subset:?}");
            (index, Problem::warning(path, message))
        }));
    }
    problems
}

/// Every destination of a VirtualService: where its subset stands, its host and its subset.
fn destinations(object: &Value) -> impl Iterator<Item = (FieldPath, &str, &str)> {
    let rules = list(object, "/spec/http").iter().enumerate();
    rules.flat_map(|(rule_index, rule)| {
        let routes = list(rule, "/route").iter().enumerate();
        routes.map(move |(index, route)| {
            let path = format!("spec.http[{rule_index}].route[{index}].destination.subset");
            let host = text(route, "/destination/host");
            (
                FieldPath::new(path),
                host,
                text(route, "/destination/subset"),
            )
        })
    })
}

fn is(object: &Value, kind: &str) -> bool {
    text(object, "/apiVersion").starts_with(GROUP) && text(object, "/kind") == kind
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let found = object.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}
