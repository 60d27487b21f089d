//! What can be done with objects: each verb reads the store, has the change decided, and writes.

mod apply;
mod delete;
mod eviction;
mod list;
mod pods;
mod scale;
mod watch;
mod write;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serin_api::kinds::Keeping;

pub(crate) use self::delete::delete_object;
pub(crate) use self::pods::container_of;
pub(crate) use self::write::{create_object, modify};
use crate::accept;
use crate::access::token_request;
use crate::options::ListOptions;
use crate::registry;
use crate::render::{self, Item};
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::streams;
use crate::target::Part;

/// Answers a request for objects.
pub(crate) async fn answer(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    if call.target.kind.keeping() == Keeping::Answered {
        // Those that are asked were answered before; these are at an address where nothing is.
        return Err(Refusal::no_page());
    }
    if call.method != Method::GET
        && let Some(why) = registry::why_read_only(&call.target.kind)
    {
        return Err(Refusal::method_for(&why));
    }
    match call.target.part {
        Part::Log => return pods::log(server, call).await,
        Part::Eviction => return eviction::answer(server, call).await,
        Part::Exec => return streams::exec(server, call).await,
        Part::PortForward => return streams::forward(server, call).await,
        Part::Binding => return pods::bind(server, call).await,
        Part::Scale => return scale::answer(server, call).await,
        Part::Token => return token_request::answer(server, &call),
        Part::Finalize if call.method != Method::PUT => return Err(Refusal::method(&call.method)),
        Part::Main | Part::Status | Part::Finalize => {}
    }
    let named = call.target.name.is_some();
    let main = call.target.part == Part::Main;
    match call.method {
        Method::GET if named && main && (call.target.watch || call.parameters.is_on("watch")) => {
            list::watch_one(server, call)
        }
        Method::GET if named => get(server, &call),
        Method::GET => list::answer(server, call),
        Method::POST if !named => write::create(server, call).await,
        Method::PUT if named => write::replace(server, call).await,
        Method::PATCH if named => write::patch(server, call).await,
        Method::DELETE if named && main => delete::answer(server, call).await,
        // All objects of all namespaces are never deleted in one go.
        Method::DELETE if call.target.namespace.is_none() && call.target.kind.namespaced => {
            Err(Refusal::method(&call.method))
        }
        Method::DELETE if !named => delete::collection(server, call).await,
        method => Err(Refusal::method(&method)),
    }
}

fn get(server: &ApiServer, call: &Call) -> Result<Response, Refusal> {
    let wanted = call.parameters.number("resourceVersion")?;
    let present = server.store.shared().version();
    if let Some(wanted) = wanted.filter(|wanted| *wanted > present) {
        return Err(Refusal::from_the_future(wanted, present));
    }
    let record = server.store.get(&call.target.key());
    let record = record.ok_or_else(|| Refusal::not_found(call.target.subject()))?;
    show(server, call, StatusCode::OK, Item::Stored(record))
}

/// Answers one object in the form that the client wants.
fn show(
    server: &ApiServer,
    call: &Call,
    code: StatusCode,
    item: Item,
) -> Result<Response, Refusal> {
    let view = accept::view(&call.headers)?;
    let table = render::TableOptions::parse(&call.parameters, server.now())?;
    let body = render::object(view, &call.target.kind, &item, table);
    Ok((code, render::JSON, body).into_response())
}

fn list_options(call: &Call) -> Result<ListOptions, Refusal> {
    let mut options = ListOptions::parse(&call.parameters, &call.target.kind)?;
    options.watch |= call.target.watch;
    Ok(options)
}
