//! The OpenAPI v3 documents, one for each group and version: what kubectl checks manifests against and explains from.
//!
//! The paths are only as many as clients look at: per kind a PATCH with its `fieldValidation`. Absent on purpose: schemas in
//! the v2 document.

pub(crate) mod v2;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use serin_api::kinds::Keeping;

use crate::registry::Registry;
use crate::render;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::tree::Tree;

/// `/openapi/v3`.
pub(crate) async fn index(State(server): State<ApiServer>) -> Response {
    let paths: Map<String, Value> = group_versions(&server.registry)
        .into_iter()
        .map(|name| {
            let url = format!("/openapi/v3/{name}?hash={}", hash(&server.registry, &name));
            (name, json!({"serverRelativeURL": url}))
        })
        .collect();
    (
        StatusCode::OK,
        render::JSON,
        json!({"paths": paths}).to_string(),
    )
        .into_response()
}

/// `/openapi/v3/apis/GROUP/VERSION` and `/openapi/v3/api/v1`.
pub(crate) async fn document(
    State(server): State<ApiServer>,
    Path(path): Path<String>,
) -> Response {
    static MADE: LazyLock<Mutex<HashMap<String, Bytes>>> = LazyLock::new(Mutex::default);
    if !group_versions(&server.registry).contains(&path) {
        return Refusal::no_page().into_response();
    }
    let of_program = hash(&server.registry, &path) == env!("CARGO_PKG_VERSION");
    let lock = || MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = lock().get(&path).filter(|_| of_program).cloned();
    let body = made.unwrap_or_else(|| {
        let body = Bytes::from(make(&server.registry, &path).to_string());
        // What definitions change is made anew each time: clients keep it by its hash.
        if of_program {
            lock().insert(path, body.clone());
        }
        body
    });
    (StatusCode::OK, render::JSON, body).into_response()
}

/// The names of the documents.
fn group_versions(registry: &Registry) -> Vec<String> {
    let mut names: Vec<String> = registry.all().iter().map(|k| name_of(k)).collect();
    names.sort();
    names.dedup();
    names
}

/// What a document changes with: the program, and the definitions of its kinds.
fn hash(registry: &Registry, name: &str) -> String {
    let kinds = registry.all();
    let revisions = kinds.iter().filter(|k| name_of(k) == name);
    let program = env!("CARGO_PKG_VERSION");
    match revisions.map(|k| k.revision()).max() {
        None | Some(0) => program.to_owned(),
        Some(revision) => format!("{program}-{revision}"),
    }
}

/// `api/v1` or `apis/apps/v1`.
fn name_of(kind: &Resource) -> String {
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", kind.api_version())
}

fn make(registry: &Registry, name: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let of_document = |kind: &Arc<Resource>| name_of(kind) == name;
    for kind in registry.all().into_iter().filter(of_document) {
        let namespace = if kind.namespaced {
            "namespaces/{namespace}/"
        } else {
            ""
        };
        let schema = kind.schema_json();
        let root = schema.at("/root").as_str().unwrap_or_default().to_owned();
        let one = format!("/{name}/{namespace}{}/{{name}}", kind.plural);
        let all = format!("/{name}/{namespace}{}", kind.plural);
        // Each with the word of Kubernetes for what it does.
        let (of_one, of_all): (&[_], &[_]) = match kind.keeping() {
            Keeping::Kept => (
                &[("patch", "patch"), ("get", "get")],
                &[("post", "post"), ("get", "list")],
            ),
            Keeping::Answered => (&[], &[("post", "post")]),
            Keeping::Never => (&[("get", "get")], &[("get", "list")]),
        };
        for (path, operations) in [(one, of_one), (all, of_all)] {
            let made = |(method, action): &(&str, &str)| {
                ((*method).to_owned(), operation(&kind, action, &root))
            };
            if !operations.is_empty() {
                let item: Map<String, Value> = operations.iter().map(made).collect();
                paths.insert(path, item.into());
            }
        }
        if let Value::Object(definitions) = schema.at("/schemas") {
            let mut definitions = definitions.clone();
            definitions.values_mut().for_each(without_booleans);
            schemas.extend(definitions);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Serin", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Says "anything" as an empty schema, which stands for the same as `true` and is all that kubectl before 1.31 reads.
fn without_booleans(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                if matches!(name.as_str(), "items" | "additionalProperties") && *value == true {
                    *value = json!({});
                } else {
                    without_booleans(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_booleans),
        _ => {}
    }
}

fn operation(kind: &Resource, action: &str, root: &str) -> Value {
    let query = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
    let text = json!({"type": "string", "uniqueItems": true});
    let answer = json!({"$ref": format!("#/components/schemas/{root}")});
    json!({
        "operationId": format!("{action}{}{}", kind.group, kind.kind),
        "parameters": [query("dryRun", text.clone()), query("fieldManager", text.clone()), query("fieldValidation", text)],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    })
}
