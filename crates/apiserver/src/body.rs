//! Reading the body of a request: its size, its time, its form.

mod duplicates;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::options::FieldValidation;
use crate::protobuf;
use crate::status::Refusal;

/// The largest body, as Kubernetes has it.
pub(crate) const LIMIT: usize = 3 << 20;
/// A body that has not come by then is given up.
const DEADLINE: Duration = Duration::from_secs(30);

const OBJECT_TYPES: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// Of kinds that definitions install, which have no messages.
const INSTALLED_TYPES: [&str; 2] = ["application/json", "application/yaml"];
pub(crate) const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Of kinds that definitions install: strategic merge needs merge keys, which only built-in kinds have.
pub(crate) const CUSTOM_PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

pub(crate) async fn read(body: Body) -> Result<Bytes, Refusal> {
    let whole = tokio::time::timeout(DEADLINE, Limited::new(body, LIMIT).collect()).await;
    match whole {
        Err(_) => Err(Refusal::timeout(
            "the body of the request did not arrive in time",
        )),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(Refusal::too_large(LIMIT)),
        Ok(Err(e)) => Err(Refusal::bad_request(format!(
            "the body of the request cannot be read: {e}"
        ))),
    }
}

/// The media type of the body without its parameters; empty when not given.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// An object in JSON, YAML or Protocol Buffers.
pub(crate) fn object(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let value = match media_type(headers) {
        "" | "application/json" | "*/*" => json(body)?,
        "application/yaml" | "text/yaml" => yaml(body)?,
        protobuf::MEDIA_TYPE => protobuf::object(body).map_err(|e| {
            if e.is_foreign {
                return Refusal::media_type(&INSTALLED_TYPES);
            }
            let why = format!("the body of the request is no object in protobuf: {e}");
            Refusal::bad_request(why)
        })?,
        _ => return Err(Refusal::media_type(&OBJECT_TYPES)),
    };
    if value.is_object() {
        Ok(value)
    } else {
        Err(Refusal::bad_request(
            "the body of the request is not an object",
        ))
    }
}

/// An object to be written, with the fields that stand in it twice: what is done with these is the client's to say.
pub(crate) fn written(
    headers: &HeaderMap,
    body: &[u8],
    fields: FieldValidation,
) -> Result<(Value, Vec<String>), Refusal> {
    let is_json = matches!(media_type(headers), "" | "application/json" | "*/*");
    if !is_json || fields == FieldValidation::Ignore {
        return object(headers, body).map(|object| (object, Vec::new()));
    }
    let (value, duplicates) = duplicates::read(body)
        .map_err(|e| Refusal::bad_request(format!("the body of the request is not JSON: {e}")))?;
    if !value.is_object() {
        return Err(Refusal::bad_request(
            "the body of the request is not an object",
        ));
    }
    let told = duplicates
        .into_iter()
        .map(|path| format!("duplicate field {path:?}"));
    let told: Vec<String> = told.collect();
    if fields == FieldValidation::Strict && !told.is_empty() {
        let why = told.join(", ");
        return Err(Refusal::bad_request(format!(
            "strict decoding error: {why}"
        )));
    }
    Ok((value, told))
}

pub(crate) fn json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("the body of the request is not JSON: {e}")))
}

pub(crate) fn yaml(body: &[u8]) -> Result<Value, Refusal> {
    // JSON is YAML too, and most clients send it under the name of YAML.
    if body.trim_ascii_start().starts_with(b"{") {
        return json(body);
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Refusal::bad_request("the body of the request is not UTF-8"))?;
    serde_saphyr::from_str(text)
        .map_err(|e| Refusal::bad_request(format!("the body of the request is not YAML: {e}")))
}
