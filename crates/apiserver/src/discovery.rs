//! Which kinds there are, in the three forms that clients ask for: plain lists, and the whole in one answer (v2beta1, v2).

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use serin_api::kinds::{self, Kind};

use crate::accept::{self, DiscoveryView};
use crate::render;
use crate::status::Refusal;
use crate::tree::Tree;

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// `/api`.
pub(crate) async fn core(headers: HeaderMap) -> Response {
    answer(
        &headers,
        &[""],
        || json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
    )
}

/// `/apis`.
pub(crate) async fn groups(headers: HeaderMap) -> Response {
    let named: Vec<&str> = group_names()
        .into_iter()
        .filter(|g| !g.is_empty())
        .collect();
    let legacy = || {
        let groups: Vec<Value> = named.iter().map(|g| group_json(g)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    answer(&headers, &named, legacy)
}

/// `/apis/GROUP`.
pub(crate) fn group(group: &str) -> Result<Response, Refusal> {
    if group.is_empty() || !group_names().contains(&group) {
        return Err(Refusal::no_page());
    }
    let mut body = group_json(group);
    body.set("kind", "APIGroup");
    body.set("apiVersion", "v1");
    Ok((StatusCode::OK, render::JSON, body.to_string()).into_response())
}

/// `/apis/GROUP/VERSION`, or `/api/v1` for the empty group.
pub(crate) fn resources(group: &str, version: &str) -> Result<Response, Refusal> {
    let of_version: Vec<&Kind> = kinds_of(group).filter(|k| k.version == version).collect();
    let Some(first) = of_version.first() else {
        return Err(Refusal::no_page());
    };
    let resources: Vec<Value> = of_version
        .iter()
        .flat_map(|k| legacy_resources(k))
        .collect();
    let body = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources,
    });
    Ok((StatusCode::OK, render::JSON, body.to_string()).into_response())
}

fn answer(headers: &HeaderMap, groups: &[&str], legacy: impl FnOnce() -> Value) -> Response {
    let (version, body) = match accept::discovery(headers) {
        DiscoveryView::Legacy => {
            return (StatusCode::OK, render::JSON, legacy().to_string()).into_response();
        }
        DiscoveryView::V2Beta1 => ("v2beta1", aggregated("v2beta1", groups)),
        DiscoveryView::V2 => ("v2", aggregated("v2", groups)),
    };
    // The client tells the forms apart by this type alone.
    let media =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let media =
        HeaderValue::from_str(&media).unwrap_or(HeaderValue::from_static("application/json"));
    (
        StatusCode::OK,
        [(header::CONTENT_TYPE, media)],
        body.to_string(),
    )
        .into_response()
}

/// The names of all groups, once each, in the order of the table.
fn group_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds::all() {
        if !names.contains(&kind.group) {
            names.push(kind.group);
        }
    }
    names
}

fn kinds_of(group: &str) -> impl Iterator<Item = &'static Kind> {
    kinds::all().iter().filter(move |k| k.group == group)
}

fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = kinds_of(group).map(|k| k.version).collect();
    versions.dedup();
    versions
}

fn group_json(group: &str) -> Value {
    let versions = versions(group)
        .into_iter()
        .map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v}));
    let versions: Vec<Value> = versions.collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// The parts of an object that have addresses, with the verbs of each and the kind that goes over the wire.
fn subresources(kind: &Kind) -> Vec<(&'static str, &'static [&'static str], [String; 3])> {
    let own = || {
        [
            kind.group.to_owned(),
            kind.version.to_owned(),
            kind.kind.to_owned(),
        ]
    };
    let other = |group: &str, version: &str, name: &str| {
        [group.to_owned(), version.to_owned(), name.to_owned()]
    };
    let change: &[&str] = &["get", "patch", "update"];
    let mut parts = Vec::new();
    if kind.subresources.status {
        parts.push(("status", change, own()));
    }
    if kind.subresources.scale {
        parts.push(("scale", change, other("autoscaling", "v1", "Scale")));
    }
    if kind.group.is_empty() && kind.plural == "pods" {
        parts.push(("log", &["get"][..], own()));
        parts.push((
            "eviction",
            &["create"][..],
            other("policy", "v1", "Eviction"),
        ));
        parts.push(("binding", &["create"][..], other("", "v1", "Binding")));
    }
    parts
}

fn legacy_resources(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": VERBS,
    });
    if !kind.short_names.is_empty() {
        main.set("shortNames", json!(kind.short_names));
    }
    if !kind.categories.is_empty() {
        main.set("categories", json!(kind.categories));
    }
    let parts = subresources(kind).into_iter().map(|(part, verbs, [group, version, name])| {
        json!({
            "name": format!("{}/{part}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
            "group": group, "version": version, "kind": name, "verbs": verbs,
        })
    });
    std::iter::once(main).chain(parts).collect()
}

fn aggregated(version: &str, groups: &[&str]) -> Value {
    let items = groups.iter().map(|group| {
        let versions = versions(group).into_iter().map(|version| {
            let of_version = kinds_of(group).filter(|k| k.version == version);
            let resources: Vec<Value> = of_version.map(aggregated_resource).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        });
        json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions.collect::<Vec<_>>()})
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = |[group, version, name]: [String; 3]| json!({"group": group, "version": version, "kind": name});
    let parts = subresources(kind).into_iter().map(|(part, verbs, gvk)| {
        json!({"subresource": part, "responseKind": response(gvk), "verbs": verbs})
    });
    let own = [
        kind.group.to_owned(),
        kind.version.to_owned(),
        kind.kind.to_owned(),
    ];
    json!({
        "resource": kind.plural, "responseKind": response(own), "singularResource": kind.singular,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": VERBS, "shortNames": kind.short_names, "categories": kind.categories,
        "subresources": parts.collect::<Vec<_>>(),
    })
}
