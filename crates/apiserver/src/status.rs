//! Refusals, as the `Status` objects of Kubernetes and in its words: clients and people look for both.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use serin_api::Problem;

use crate::access::{Asked, Attributes, whole_name};
use crate::store::{Expired, WriteError};
use crate::tree::Tree;

/// A request that is not done, with what the client is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// With which the rest of a list can be asked for.
    pub(crate) continue_: Option<Box<str>>,
    /// Told in `Warning` headers even though the request fails.
    pub(crate) warnings: Vec<String>,
}

/// Which object a refusal speaks of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) name: &'a str,
}

impl Subject<'_> {
    /// `deployments.apps`, or `pods` for the core group.
    fn resource(&self) -> String {
        qualified(self.plural, self.group)
    }

    fn details(&self) -> Value {
        json!({"name": self.name, "group": self.group, "kind": self.plural})
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_: None,
            warnings: Vec::new(),
        }
    }

    fn about(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// No such path.
    pub(crate) fn no_page() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(json!({}))
    }

    pub(crate) fn not_found(subject: Subject<'_>) -> Self {
        let message = format!("{} {:?} not found", subject.resource(), subject.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(subject.details())
    }

    pub(crate) fn exists(subject: Subject<'_>) -> Self {
        let message = format!("{} {:?} already exists", subject.resource(), subject.name);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(subject.details())
    }

    pub(crate) fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            subject.resource(),
            subject.name
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(subject.details())
    }

    /// The object changed since the client read it.
    pub(crate) fn stale(subject: Subject<'_>) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(subject, why)
    }

    pub(crate) fn forbidden(subject: Subject<'_>, why: &str) -> Self {
        let message = format!(
            "{} {:?} is forbidden: {why}",
            subject.resource(),
            subject.name
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(subject.details())
    }

    /// Somebody may not do what they ask for; `why` is mostly empty.
    pub(crate) fn denied(user: &str, attributes: &Attributes, why: &str) -> Self {
        let verb = &attributes.verb;
        let because = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        let (told, details) = match &attributes.asked {
            Asked::Url(path) => {
                let told = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
                (told, json!({}))
            }
            Asked::Resource {
                group,
                resource,
                subresource,
                name,
                ..
            } => {
                let named = match name.as_str() {
                    "" => qualified(resource, group),
                    name => format!("{} {name:?}", qualified(resource, group)),
                };
                let part = whole_name(resource, subresource);
                let place = attributes.asked.place();
                let told = format!(
                    "{named} is forbidden: User {user:?} cannot {verb} resource {part:?} in API group {group:?} {place}"
                );
                (
                    told,
                    json!({"name": name, "group": group, "kind": resource}),
                )
            }
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", told + &because).about(details)
    }

    /// The object is not valid; all problems are told.
    pub(crate) fn invalid(subject: Subject<'_>, problems: &[Problem]) -> Self {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes = problems.iter().map(
            |p| json!({"reason": p.kind.reason(), "message": p.message, "field": p.path.as_str()}),
        );
        let details = json!({
            "name": subject.name, "group": subject.group, "kind": subject.kind, "causes": causes.collect::<Vec<_>>(),
        });
        let message = format!(
            "{} {:?} is invalid: {told}",
            qualified(subject.kind, subject.group),
            subject.name
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(details)
    }

    /// A patch that cannot be carried out on this object.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(crate) fn expired(expired: Expired) -> Self {
        let message = format!(
            "too old resource version: {} ({})",
            expired.wanted, expired.oldest
        );
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The rest of a list whose state is not known any more; `key` asks for the rest of the present one.
    pub(crate) fn old_page(key: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
        Self {
            continue_: Some(key.into()),
            ..Self::new(StatusCode::GONE, "Expired", message)
        }
    }

    /// A version that the server has not come to.
    pub(crate) fn from_the_future(wanted: u64, present: u64) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {present}");
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .about(json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// Parameters of a list that do not go together.
    pub(crate) fn list_options(problem: &Problem) -> Self {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {problem}");
        let cause = json!({"reason": problem.kind.reason(), "message": problem.message, "field": problem.path.as_str()});
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .about(json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]}))
    }

    pub(crate) fn method(method: &http::Method) -> Self {
        let message =
            format!("the server does not allow this method on the requested resource: {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// A method that is not allowed now.
    pub(crate) fn method_for(why: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", why)
    }

    pub(crate) fn media_type(supported: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    pub(crate) fn not_acceptable(supported: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            supported.join(", ")
        );
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the body of the request is larger than {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
        )
    }

    pub(crate) fn timeout(message: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// A host name that is not one of this server.
    pub(crate) fn foreign_host(host: &str) -> Self {
        let message = format!(
            "this server answers as localhost, as a loopback address and under the names of --tls-san, not as {host:?}"
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// An eviction that a budget does not allow; try again after so many seconds.
    pub(crate) fn disruption(why: &str, retry_after: i64) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!({"reason": "DisruptionBudget", "message": why});
        let mut details = json!({"causes": [cause]});
        if retry_after > 0 {
            details.set("retryAfterSeconds", retry_after);
        }
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).about(details)
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// A bound of the server is reached; later there may be room again.
    pub(crate) fn busy(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    pub(crate) fn stopping() -> Self {
        let message = "the server is stopping; start it with serin up and try again";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        )
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// A write that the store did not do.
    pub(crate) fn write(subject: Subject<'_>, error: &WriteError) -> Self {
        match error {
            WriteError::Conflict => Self::stale(subject),
            WriteError::Exists => Self::exists(subject),
            WriteError::Missing => Self::not_found(subject),
            WriteError::Full | WriteError::Failed(_) | WriteError::Stopped => {
                Self::unwritten(error)
            }
        }
    }

    /// The disk did not do what it was asked.
    pub(crate) fn unwritten(error: &WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::Full => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "InsufficientStorage",
                message,
            ),
            _ => Self::internal(message),
        }
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        let metadata = match &self.continue_ {
            Some(key) => json!({"continue": key}),
            None => json!({}),
        };
        status.insert("metadata".into(), metadata);
        status.insert("status".into(), "Failure".into());
        status.insert("message".into(), self.message.clone().into());
        status.insert("reason".into(), self.reason.into());
        if let Some(details) = &self.details {
            status.insert("details".into(), details.clone());
        }
        status.insert("code".into(), self.code.as_u16().into());
        Value::Object(status)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let json = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let mut response = (self.code, [json], self.status().to_string()).into_response();
        if self.code == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"serin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        add_warnings(&mut response, &self.warnings);
        response
    }
}

/// Warnings that take more than this together are not told: clients bear only so large headers.
const WARNINGS_SIZE: usize = 4096;

/// Adds `Warning` headers as kubectl and controllers print them. Control characters cannot stand in a header.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    let mut size = 0;
    for warning in warnings {
        size += warning.len();
        if size > WARNINGS_SIZE {
            return;
        }
        let mut text = String::from("299 - \"");
        for c in warning.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        text.push('"');
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serin_api::FieldPath;

    fn check(refusal: &Refusal, want: Expect) {
        want.assert_eq(&refusal.status().to_string());
    }

    const WEB: Subject<'_> = Subject {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        name: "web",
    };

    #[test]
    fn words_are_those_of_kubernetes() {
        check(
            &Refusal::not_found(WEB),
            expect![[
                r#"{"apiVersion":"v1","code":404,"details":{"group":"apps","kind":"deployments","name":"web"},"kind":"Status","message":"deployments.apps \"web\" not found","metadata":{},"reason":"NotFound","status":"Failure"}"#
            ]],
        );
        check(
            &Refusal::exists(WEB),
            expect![[
                r#"{"apiVersion":"v1","code":409,"details":{"group":"apps","kind":"deployments","name":"web"},"kind":"Status","message":"deployments.apps \"web\" already exists","metadata":{},"reason":"AlreadyExists","status":"Failure"}"#
            ]],
        );
        check(
            &Refusal::stale(WEB),
            expect![[
                r#"{"apiVersion":"v1","code":409,"details":{"group":"apps","kind":"deployments","name":"web"},"kind":"Status","message":"Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version and try again","metadata":{},"reason":"Conflict","status":"Failure"}"#
            ]],
        );
        let expired = Expired {
            wanted: 3,
            oldest: 9,
        };
        check(
            &Refusal::expired(expired),
            expect![[
                r#"{"apiVersion":"v1","code":410,"kind":"Status","message":"too old resource version: 3 (9)","metadata":{},"reason":"Expired","status":"Failure"}"#
            ]],
        );
        let problems = [
            Problem::required(FieldPath::new("spec.selector"), ""),
            Problem::unknown(FieldPath::new("spec.replcas"), Some("replicas")),
        ];
        check(
            &Refusal::invalid(WEB, &problems),
            expect![[
                r#"{"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.selector","message":"Required value","reason":"FieldValueRequired"},{"field":"spec.replcas","message":"unknown field, did you mean \"replicas\"?","reason":"FieldValueUnknown"}],"group":"apps","kind":"Deployment","name":"web"},"kind":"Status","message":"Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec.replcas: unknown field, did you mean \"replicas\"?]","metadata":{},"reason":"Invalid","status":"Failure"}"#
            ]],
        );
        check(
            &Refusal::invalid(WEB, &problems[..1]),
            expect![[
                r#"{"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.selector","message":"Required value","reason":"FieldValueRequired"}],"group":"apps","kind":"Deployment","name":"web"},"kind":"Status","message":"Deployment.apps \"web\" is invalid: spec.selector: Required value","metadata":{},"reason":"Invalid","status":"Failure"}"#
            ]],
        );
    }

    #[test]
    fn warnings_are_quoted() {
        let mut response = Response::default();
        add_warnings(&mut response, &["unknown field \"spec.x\"\n".to_owned()]);
        let value = response.headers()[header::WARNING].to_str().unwrap();
        assert_eq!(value, r#"299 - "unknown field \"spec.x\" ""#);
    }
}
