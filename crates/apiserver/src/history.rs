//! `/history`: who has written what and when, the latest first. Only who may everything may ask: it tells of all namespaces.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::options::Parameters;
use crate::render;
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::store::{Entry, MOST_ANSWERED, Query, Signature};

/// Entries of an answer when nothing is said.
const LIMIT: u64 = 100;

/// Answers `GET /history`, with the parameters `group`, `resource`, `namespace`, `name`, `user`, `before` (a resource version)
/// and `limit`.
pub(crate) async fn answer(State(server): State<ApiServer>, uri: Uri) -> Response {
    match read(&server, &uri).await {
        Ok(body) => (StatusCode::OK, render::JSON, body.to_string()).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn read(server: &ApiServer, uri: &Uri) -> Result<Value, Refusal> {
    let parameters = Parameters::parse(uri)?;
    let text = |name| parameters.get(name).map(str::to_owned);
    let limit = parameters.number("limit")?.unwrap_or(LIMIT);
    let before = parameters.number("before")?;
    let query = Query {
        group: text("group"),
        resource: text("resource"),
        namespace: text("namespace"),
        name: text("name"),
        user: text("user"),
        before: before.map(|rv| i64::try_from(rv).unwrap_or(i64::MAX)),
        limit: usize::try_from(limit).unwrap_or(MOST_ANSWERED),
    };
    let entries = server.store.history(query).await;
    let entries = entries.map_err(|error| Refusal::unwritten(&error))?;
    let items: Vec<Value> = entries.iter().map(item).collect();
    Ok(json!({"kind": "History", "items": items}))
}

fn item(entry: &Entry) -> Value {
    let at = Timestamp::from_millisecond(entry.signature.at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    json!({
        "time": at.to_string(),
        "user": entry.signature.user,
        "userAgent": entry.signature.agent,
        "verb": entry.signature.verb,
        "group": entry.group,
        "resource": entry.resource,
        "subresource": entry.signature.subresource,
        "namespace": entry.namespace,
        "name": entry.name,
        "change": entry.change,
        "fromResourceVersion": entry.from_rv.map(|rv| rv.to_string()),
        "resourceVersion": entry.rv.to_string(),
    })
}

/// By whom the server writes now.
pub(crate) fn signature(server: &ApiServer, subresource: &str) -> Signature {
    let author = &server.author;
    Signature {
        at_ms: server.now().as_millisecond(),
        user: author.user.name.as_str().into(),
        agent: author.agent.clone(),
        verb: author.verb.clone(),
        subresource: subresource.into(),
    }
}
