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
use crate::store::{Expired, Record};
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
        FieldSelector::parse(&only, &call.target.kind.group, &call.target.kind.plural)
            .map_err(Refusal::bad_request)?;
    let mut call = call;
    call.target.name = None;
    watch::answer(server, &call, options)
}

/// The objects of one page.
pub(super) fn page(
    server: &ApiServer,
    target: &Target,
    options: &ListOptions,
) -> Result<(Vec<Arc<Record>>, ListMeta), Refusal> {
    let after = options.continue_.as_ref().map(|c| c.after.as_str());
    let prefix = target.prefix();
    if after.is_some_and(|after| !after.starts_with(&prefix)) {
        return Err(Refusal::bad_request("continue key is not valid"));
    }
    let all = server.store.shared().list(&prefix, after);
    // There is one state, the present one: an older or a later one cannot be told.
    let wanted = options
        .version
        .filter(|v| *v > 0 && options.continue_.is_none());
    if let Some(wanted) = wanted.filter(|v| *v > all.rv || (options.exact && *v != all.rv)) {
        return Err(Refusal::expired(Expired {
            wanted,
            oldest: all.rv,
        }));
    }
    let matching = all
        .records
        .into_iter()
        .filter(|r| options.selector.matches(r));
    let mut records: Vec<_> = matching.collect();
    let version = options.continue_.as_ref().map_or(all.rv, |c| c.version);
    let mut meta = ListMeta {
        version,
        continue_: None,
        remaining: None,
    };
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    if limit > 0 && records.len() > limit {
        meta.remaining = options.selector.is_empty().then(|| records.len() - limit);
        records.truncate(limit);
        meta.continue_ = records.last().map(|last| Continue {
            version,
            after: last.key.as_str().to_owned(),
        });
    }
    Ok((records, meta))
}
