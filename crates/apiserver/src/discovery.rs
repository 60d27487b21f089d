//! Which kinds there are, in the three forms that clients ask for: plain lists, and the whole in one answer (v2beta1, v2).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use serin_api::kinds::{self, Keeping};

use crate::accept::{self, DiscoveryView};
use crate::registry::Registry;
use crate::render;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::tree::Tree;

/// What can be done with the objects of a kind.
fn verbs(kind: &Resource) -> &'static [&'static str] {
    match kind.keeping() {
        Keeping::Kept => &[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ],
        Keeping::Answered => &["create"],
        Keeping::Never => &["get", "list", "watch"],
    }
}

/// `/api`.
pub(crate) async fn core(State(server): State<ApiServer>, headers: HeaderMap) -> Response {
    let groups = Groups::of(&server.registry, |group| group.is_empty());
    answer(
        &headers,
        &groups,
        || json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
    )
}

/// `/apis`.
pub(crate) async fn groups(State(server): State<ApiServer>, headers: HeaderMap) -> Response {
    let groups = Groups::of(&server.registry, |group| !group.is_empty());
    let legacy = || {
        let groups: Vec<Value> = groups.0.iter().map(Group::json).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    answer(&headers, &groups, legacy)
}

/// `/apis/GROUP`.
pub(crate) fn group(registry: &Registry, group: &str) -> Result<Response, Refusal> {
    let groups = Groups::of(registry, |g| g == group && !g.is_empty());
    let found = groups.0.first().ok_or_else(Refusal::no_page)?;
    let mut body = found.json();
    body.set("kind", "APIGroup");
    body.set("apiVersion", "v1");
    Ok((StatusCode::OK, render::JSON, body.to_string()).into_response())
}

/// `/apis/GROUP/VERSION`, or `/api/v1` for the empty group.
pub(crate) fn resources(
    registry: &Registry,
    group: &str,
    version: &str,
) -> Result<Response, Refusal> {
    let groups = Groups::of(registry, |g| g == group);
    let of_version: Vec<&Resource> = groups.0.iter().flat_map(|g| g.kinds_of(version)).collect();
    let first = of_version.first().ok_or_else(Refusal::no_page)?;
    let resources: Vec<Value> = of_version
        .iter()
        .flat_map(|k| legacy_resources(k))
        .collect();
    let body = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources,
    });
    Ok((StatusCode::OK, render::JSON, body.to_string()).into_response())
}

fn answer(headers: &HeaderMap, groups: &Groups, legacy: impl FnOnce() -> Value) -> Response {
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

/// Groups in the order of discovery.
struct Groups(Vec<Group>);

struct Group {
    name: String,
    /// Those that clients should prefer first.
    versions: Vec<String>,
    kinds: Vec<Arc<Resource>>,
}

impl Groups {
    fn of(registry: &Registry, wanted: impl Fn(&str) -> bool) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for kind in registry.all().into_iter().filter(|k| wanted(&k.group)) {
            let place = groups.iter().position(|g| g.name == kind.group);
            match place.and_then(|place| groups.get_mut(place)) {
                Some(group) => group.kinds.push(kind),
                None => groups.push(Group {
                    name: kind.group.clone(),
                    versions: Vec::new(),
                    kinds: vec![kind],
                }),
            }
        }
        for group in &mut groups {
            group.versions = group.kinds.iter().map(|k| k.version.clone()).collect();
            group.versions.sort_by(|a, b| kinds::by_version(a, b));
            group.versions.dedup();
        }
        Self(groups)
    }
}

impl Group {
    fn kinds_of(&self, version: &str) -> impl Iterator<Item = &Resource> {
        let kinds = self.kinds.iter().map(|kind| &**kind);
        kinds.filter(move |kind| kind.version == version)
    }

    fn json(&self) -> Value {
        let name = &self.name;
        let versions = self
            .versions
            .iter()
            .map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v}));
        let versions: Vec<Value> = versions.collect();
        json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
    }
}

/// The parts of an object that have addresses, with the verbs of each and the kind that goes over the wire.
fn subresources(kind: &Resource) -> Vec<(&'static str, &'static [&'static str], [String; 3])> {
    let own = || [kind.group.clone(), kind.version.clone(), kind.kind.clone()];
    let other = |group: &str, version: &str, name: &str| {
        [group.to_owned(), version.to_owned(), name.to_owned()]
    };
    let change: &[&str] = &["get", "patch", "update"];
    let mut parts = Vec::new();
    if kind.has_status {
        parts.push(("status", change, own()));
    }
    if kind.scale.is_some() {
        parts.push(("scale", change, other("autoscaling", "v1", "Scale")));
    }
    if kind.is("", "ServiceAccount") {
        let request = other("authentication.k8s.io", "v1", "TokenRequest");
        parts.push(("token", &["create"][..], request));
    }
    if kind.group.is_empty() && kind.plural == "pods" {
        parts.push(("log", &["get"][..], own()));
        parts.push((
            "exec",
            &["create", "get"][..],
            other("", "v1", "PodExecOptions"),
        ));
        parts.push((
            "portforward",
            &["create", "get"][..],
            other("", "v1", "PodPortForwardOptions"),
        ));
        parts.push((
            "eviction",
            &["create"][..],
            other("policy", "v1", "Eviction"),
        ));
        parts.push(("binding", &["create"][..], other("", "v1", "Binding")));
    }
    parts
}

fn legacy_resources(kind: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(kind),
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

fn aggregated(version: &str, groups: &Groups) -> Value {
    let items = groups.0.iter().map(|group| {
        let versions = group.versions.iter().map(|version| {
            let resources = group.kinds_of(version).map(aggregated_resource);
            let resources: Vec<Value> = resources.collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        });
        let versions: Vec<Value> = versions.collect();
        json!({"metadata": {"name": group.name, "creationTimestamp": null}, "versions": versions})
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

fn aggregated_resource(kind: &Resource) -> Value {
    let response = |[group, version, name]: [String; 3]| json!({"group": group, "version": version, "kind": name});
    let parts = subresources(kind).into_iter().map(|(part, verbs, gvk)| {
        json!({"subresource": part, "responseKind": response(gvk), "verbs": verbs})
    });
    let own = [kind.group.clone(), kind.version.clone(), kind.kind.clone()];
    json!({
        "resource": kind.plural, "responseKind": response(own), "singularResource": kind.singular,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": verbs(kind), "shortNames": kind.short_names, "categories": kind.categories,
        "subresources": parts.collect::<Vec<_>>(),
    })
}
