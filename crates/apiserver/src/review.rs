//! Questions about rights: whoever has the token may do everything.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::body;
use crate::status::Refusal;
use crate::tree::Tree;

/// Answers a review; `None` when the address is not one.
pub(crate) fn answer(
    group: &str,
    resource: &str,
    method: &Method,
    headers: &HeaderMap,
    content: &[u8],
) -> Option<Result<Response, Refusal>> {
    let allowed = json!({"allowed": true, "reason": "the token of this server allows everything"});
    let everything = json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}], "incomplete": false,
    });
    let user = json!({"userInfo": {"username": "serin:admin", "groups": ["system:masters", "system:authenticated"]}});
    let status = match (group, resource) {
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "subjectaccessreviews") => allowed,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => everything,
        ("authentication.k8s.io", "selfsubjectreviews") => user,
        _ => return None,
    };
    if *method != Method::POST {
        return Some(Err(Refusal::method(method)));
    }
    let answer = |mut review: Value| {
        review.set("status", status);
        (StatusCode::CREATED, axum::Json(review)).into_response()
    };
    Some(body::object(headers, content).map(answer))
}
