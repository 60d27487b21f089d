//! Lists, in pages, and the start of watches.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::{list_options, watch};
use crate::accept;
use crate::options::{Continue, ListOptions};
use crate::render::{self, ListMeta, TableOptions};
use crate::selector::FieldSelector;
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::store::{Page, Record};
use crate::target::Target;

/// A list, or the watch that a list was asked to be.
pub(super) fn answer(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = list_options(&call)?;
    if options.watch {
        return watch::answer(server, &call, options);
    }
    let view = accept::view(&call.headers)?;
    let table = TableOptions::parse(&call.parameters, server.now())?;
    let (records, meta) = page(server, &call.target, &options)?;
    let body = render::list(view, &call.target.kind, &records, &meta, table);
    Ok((StatusCode::OK, render::JSON, body).into_response())
}

/// A watch of the one object that the address names.
pub(super) fn watch_one(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let mut options = list_options(&call)?;
    let only = format!("metadata.name={}", call.target.name());
    options.selector.fields =
        FieldSelector::parse(&only, &call.target.kind).map_err(Refusal::bad_request)?;
    let mut call = call;
    call.target.name = None;
    watch::answer(server, &call, options)
}

/// The objects of one page. All pages of a list tell of the state at the version of the first one; when that is too far back,
/// the client is told so, with a key to go on in the present state if it wants to.
pub(super) fn page(
    server: &ApiServer,
    target: &Target,
    options: &ListOptions,
) -> Result<(Vec<Arc<Record>>, ListMeta), Refusal> {
    let all = state(server, target, options)?;
    let after = options.continue_.as_ref().map(|c| c.after.as_str());
    let rest = all.records.into_iter().filter(|record| {
        let told = after.is_some_and(|after| record.key.as_str() <= after);
        !told && options.selector.matches(record)
    });
    let mut records: Vec<_> = rest.collect();
    let mut meta = ListMeta {
        version: all.rv,
        continue_: None,
        remaining: None,
    };
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    if limit > 0 && records.len() > limit {
        meta.remaining = options.selector.is_empty().then(|| records.len() - limit);
        records.truncate(limit);
        meta.continue_ = records.last().map(|last| Continue {
            version: Some(all.rv),
            after: last.key.as_str().to_owned(),
        });
    }
    Ok((records, meta))
}

/// The state that a list tells of.
fn state(server: &ApiServer, target: &Target, options: &ListOptions) -> Result<Page, Refusal> {
    let (shared, prefix) = (server.store.shared(), target.prefix());
    if let Some(continue_) = &options.continue_ {
        if !continue_.after.starts_with(&prefix) {
            return Err(Refusal::bad_request("continue key is not valid"));
        }
        let Some(version) = continue_.version else {
            return Ok(shared.list(&prefix, None));
        };
        let page = shared.list_at(&prefix, version);
        return page.map_err(|_| Refusal::old_page(&continue_.in_present().text()));
    }
    let present = shared.list(&prefix, None);
    let wanted = options.version.filter(|v| *v > 0);
    match wanted {
        Some(wanted) if wanted > present.rv => Err(Refusal::from_the_future(wanted, present.rv)),
        Some(wanted) if options.exact && wanted != present.rv => {
            shared.list_at(&prefix, wanted).map_err(Refusal::expired)
        }
        _ => Ok(present),
    }
}
