//! The `/scale` of a workload: its replicas alone, in the form that every autoscaler knows.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::write::{self, context, refuse_patch};
use crate::body;
use crate::options::WriteOptions;
use crate::patch::Patch;
use crate::render;
use crate::resource::ScalePaths;
use crate::selector::selector_text;
use crate::server::{ApiServer, Call};
use crate::status::{Refusal, add_warnings};
use crate::target::{Part, Target};
use crate::tree::Tree;

pub(super) async fn answer(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let kind = Arc::clone(&call.target.kind);
    let paths = kind.scale.as_ref().ok_or_else(Refusal::no_page)?;
    let whole = Target {
        part: Part::Main,
        ..call.target.clone()
    };
    if call.method == Method::GET {
        let record = server.store.get(&whole.key());
        let record = record.ok_or_else(|| Refusal::not_found(whole.subject()))?;
        return Ok(shown(&record.value(), paths, &[]));
    }
    let options = WriteOptions::parse(&call.parameters, &call.headers)?;
    let change = change_of(&call)?;
    let with_replicas = |old: &Value| {
        let scale = change
            .apply(&kind, &scale_of(old, paths))
            .map_err(|e| refuse_patch(&e))?;
        let mut new = old.clone();
        let version = scale.at("/metadata/resourceVersion").clone();
        new.map("metadata")
            .insert("resourceVersion".into(), version);
        let replicas = replicas(&whole, &scale)?;
        set(&mut new, &paths.spec_replicas, replicas.into());
        Ok(new)
    };
    let written = write::modify(
        server,
        &whole,
        context(server, &options, "scale"),
        options.dry_run,
        with_replicas,
    )
    .await?;
    Ok(shown(&written.item.value(), paths, &written.warnings))
}

/// A new scale takes the place of the old one by being merged into it: it carries all that can change.
fn change_of(call: &Call) -> Result<Patch, Refusal> {
    match call.method {
        Method::PUT => body::object(&call.headers, &call.body).map(Patch::Merge),
        Method::PATCH => match body::media_type(&call.headers) {
            // A scale has no lists, so these three are one.
            "application/apply-patch+yaml" => body::yaml(&call.body).map(Patch::Merge),
            "application/strategic-merge-patch+json" => body::json(&call.body).map(Patch::Merge),
            media => write::read_patch(media, &call.body),
        },
        _ => Err(Refusal::method(&call.method)),
    }
}

fn replicas(target: &Target, scale: &Value) -> Result<i64, Refusal> {
    match scale.at("/spec/replicas") {
        Value::Null => Ok(0),
        Value::Number(n)
            if n.as_i64()
                .is_some_and(|n| (0..=i64::from(i32::MAX)).contains(&n)) =>
        {
            Ok(n.as_i64().unwrap_or(0))
        }
        other => {
            let path = serin_api::FieldPath::new("spec.replicas");
            let problem =
                serin_api::Problem::invalid(path, other, "must be greater than or equal to 0");
            Err(Refusal::invalid(target.subject(), &[problem]))
        }
    }
}

/// Writes a value at a JSON pointer, with the objects on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let steps: Vec<&str> = pointer.split('/').filter(|step| !step.is_empty()).collect();
    let Some((last, way)) = steps.split_last() else {
        return;
    };
    let mut at = object;
    for step in way {
        at.map(step);
        match at.get_mut(*step) {
            Some(next) => at = next,
            None => return,
        }
    }
    at.set(last, value);
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let selector = match paths.selector.as_ref().and_then(|p| object.pointer(p)) {
        Some(Value::String(text)) => text.clone(),
        Some(selector) => selector_text(selector),
        None => String::new(),
    };
    let from = object.at("/metadata");
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": from.at("/name"), "namespace": from.at("/namespace"), "uid": from.at("/uid"),
            "resourceVersion": from.at("/resourceVersion"), "creationTimestamp": from.at("/creationTimestamp"),
        },
        "spec": {"replicas": number(&paths.spec_replicas)},
        "status": {"replicas": number(&paths.status_replicas), "selector": selector},
    })
}

fn shown(object: &Value, paths: &ScalePaths, warnings: &[String]) -> Response {
    let scale = scale_of(object, paths).to_string();
    let mut response = (StatusCode::OK, render::JSON, scale).into_response();
    add_warnings(&mut response, warnings);
    response
}
