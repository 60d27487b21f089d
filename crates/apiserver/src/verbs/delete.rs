//! Delete, of one object and of many.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::write::{Written, decide};
use super::{list, list_options, show};
use crate::accept;
use crate::admit::Admitted;
use crate::body;
use crate::lifecycle;
use crate::options::{DeleteOptions, ListOptions};
use crate::render::{self, ListMeta, TableOptions};
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::target::Target;

pub(super) async fn answer(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = options(&call)?;
    let written = delete_object(server, &call.target, &options).await?;
    if written.removed && !call.target.kind.graceful() {
        return Ok((
            StatusCode::OK,
            render::JSON,
            removed(&call.target, &written).to_string(),
        )
            .into_response());
    }
    show(server, &call, StatusCode::OK, written.item)
}

/// Deletes every object that the selectors match. One that goes in the meantime is as good as deleted.
pub(super) async fn collection(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = options(&call)?;
    let everything = ListOptions {
        limit: 0,
        continue_: None,
        version: None,
        ..list_options(&call)?
    };
    let (records, meta) = list::page(server, &call.target, &everything)?;
    for record in &records {
        let target = call
            .target
            .object(record.key.namespace(), record.key.name());
        match delete_object(server, &target, &options).await {
            Err(refusal) if refusal.code != StatusCode::NOT_FOUND => return Err(refusal),
            _ => {}
        }
    }
    let view = accept::view(&call.headers)?;
    let table = TableOptions::parse(&call.parameters, server.now())?;
    let meta = ListMeta {
        version: server.store.shared().version(),
        ..meta
    };
    let body = render::list(view, &call.target.kind, &records, &meta, table);
    Ok((StatusCode::OK, render::JSON, body).into_response())
}

/// Deletes one object, or marks it so.
pub(crate) async fn delete_object(
    server: &ApiServer,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Written, Refusal> {
    let now = server.now();
    let decision = |old: &Value| {
        let outcome = lifecycle::delete(target, options, old, now)?;
        Ok(Admitted {
            outcome,
            warnings: Vec::new(),
        })
    };
    decide(server, target, options.dry_run, decision).await
}

fn options(call: &Call) -> Result<DeleteOptions, Refusal> {
    let body = if call.body.is_empty() {
        None
    } else {
        Some(body::object(&call.headers, &call.body)?)
    };
    DeleteOptions::parse(&call.parameters, body.as_ref())
}

fn removed(target: &Target, written: &Written) -> Value {
    let uid = crate::meta::text(&written.item.value(), "uid").to_owned();
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": target.name(), "group": target.kind.group, "kind": target.kind.plural, "uid": uid},
    })
}
