//! How the commands speak to the Kubernetes API: which server, one request, one stream.
//!
//! Requests are made by path, and objects stay JSON, so that every kind of every server can be handled; the rollout commands
//! put types on what they get. Every answer is capped and every request has a deadline, except streams, which a person ends.

mod discovery;
mod kubeconfig;
mod stream;

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Body;
use serde_json::{Value, json};

pub(crate) use discovery::{Catalog, Resource};
pub(crate) use kubeconfig::{KubeconfigChoice, KubeconfigError};
pub(crate) use stream::Lines;

/// The field manager of what the commands write. It differs from the controllers' own, so that applying a manifest never takes
/// away what a controller has set.
pub(crate) const FIELD_MANAGER: &str = "serin-cli";

/// The largest answer that is read; a list of ten thousand pods is about a fifth of it.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// How long one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take; the server is near.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A server, and how to speak to it.
#[derive(Clone)]
pub(crate) struct Client {
    kube: kube::Client,
    server: String,
    namespace: String,
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No usable kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// Nobody answers.
    #[error("cannot reach the API at {server}")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// Why.
        source: anyhow::Error,
    },
    /// The answer did not come in time.
    #[error("the API at {server} did not answer within {} s", ANSWER_DEADLINE.as_secs())]
    Deadline {
        /// Who.
        server: String,
    },
    /// The server refused.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    /// The answer is not what the protocol says.
    #[error("the API gave an answer that cannot be read: {what}")]
    Malformed {
        /// In which way.
        what: String,
    },
}

impl ClientError {
    /// Whether the object, or the kind, is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The HTTP status of a refusal.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(status) => status.code,
            _ => None,
        }
    }

    /// An answer that is not what it should be.
    pub(crate) fn malformed(what: impl std::fmt::Display) -> Self {
        Self::Malformed {
            what: what.to_string(),
        }
    }
}

/// The words of a refusal: the message of the server, or its reason.
fn refusal(status: &Status) -> String {
    match (&status.message, &status.reason) {
        (Some(message), _) if !message.is_empty() => message.clone(),
        (_, Some(reason)) if !reason.is_empty() => format!("the API refused: {reason}"),
        _ => format!("the API refused with status {}", status.code.unwrap_or(0)),
    }
}

/// An answer: the status, the object and what the server wants the person to know.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `201` when an object was made.
    pub(crate) status: StatusCode,
    /// The object.
    pub(crate) object: Value,
    /// The texts of the `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
    /// The whole of what this manager wants.
    Apply,
}

impl PatchKind {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

impl Client {
    /// Reads the kubeconfig; connects when the first request is made.
    pub(crate) async fn connect(
        choice: &KubeconfigChoice,
        namespace: Option<&str>,
    ) -> Result<Self, ClientError> {
        let mut config = choice.load().await?;
        config.connect_timeout = Some(CONNECT_DEADLINE);
        // A refused connection is told at once; waiting for a server to come is the caller's decision.
        config.default_retry = false;
        let server = config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned();
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let kube = kube::Client::try_from(config).map_err(|error| ClientError::Unreachable {
            server: server.clone(),
            source: error.into(),
        })?;
        Ok(Self {
            kube,
            server,
            namespace,
        })
    }

    /// The client of kube, for typed watches.
    pub(crate) fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// The namespace of objects that name none.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One GET of an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.get_as(path, "application/json").await?.object)
    }

    /// One POST of a new object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        let body = serde_json::to_vec(object).map_err(ClientError::malformed)?;
        let json = "application/json";
        let request = request(Method::POST, path, json, Some(json), body)?;
        Ok(self.exchange(request).await?.object)
    }

    /// The name by which the server knows the user; `None` when it does not say.
    pub(crate) async fn user(&self) -> Option<String> {
        const GROUP: &str = "authentication.k8s.io/v1";
        let review = json!({"apiVersion": GROUP, "kind": "SelfSubjectReview"});
        let path = format!("/apis/{GROUP}/selfsubjectreviews");
        let answer = self.create(&path, &review).await.ok()?;
        let name = answer.pointer("/status/userInfo/username")?.as_str()?;
        Some(name.to_owned())
    }

    /// One GET in a form of the caller's choice.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Answer, ClientError> {
        self.exchange(request(Method::GET, path, accept, None, Vec::new())?)
            .await
    }

    /// One PATCH. `query` begins with `?` or is empty.
    pub(crate) async fn patch(
        &self,
        path: &str,
        kind: PatchKind,
        query: &str,
        body: &Value,
    ) -> Result<Answer, ClientError> {
        let path = format!("{path}{query}");
        let body = serde_json::to_vec(body).map_err(ClientError::malformed)?;
        let content = Some(kind.content_type());
        self.exchange(request(
            Method::PATCH,
            &path,
            "application/json",
            content,
            body,
        )?)
        .await
    }

    /// One DELETE with options.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(options).map_err(ClientError::malformed)?;
        let json = "application/json";
        self.exchange(request(Method::DELETE, path, json, Some(json), body)?)
            .await
    }

    /// A GET whose answer goes on: a watch or a log. The deadline holds for its head alone.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Lines, ClientError> {
        let request = request(Method::GET, path, accept, None, Vec::new())?;
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(Lines::new(response.into_body(), self.server.clone()));
        }
        match self.answer(response).await {
            Ok(answer) => Err(ClientError::malformed(format!("status {}", answer.status))),
            Err(error) => Err(error),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Answer, ClientError> {
        let response = self.send(request).await?;
        tokio::time::timeout(ANSWER_DEADLINE, self.answer(response))
            .await
            .map_err(|_| ClientError::Deadline {
                server: self.server.clone(),
            })?
    }

    async fn send(&self, request: Request<Body>) -> Result<http::Response<Body>, ClientError> {
        match tokio::time::timeout(ANSWER_DEADLINE, self.kube.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(kube::Error::Api(status))) => Err(ClientError::Refused(Box::new(Status {
                code: Some(i32::from(status.code)),
                message: Some(status.message),
                reason: Some(status.reason),
                ..Status::default()
            }))),
            Ok(Err(error)) => Err(ClientError::Unreachable {
                server: self.server.clone(),
                source: error.into(),
            }),
            Err(_) => Err(ClientError::Deadline {
                server: self.server.clone(),
            }),
        }
    }

    async fn answer(&self, response: http::Response<Body>) -> Result<Answer, ClientError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT_BYTES)
            .collect()
            .await
            .map_err(|error| ClientError::Unreachable {
                server: self.server.clone(),
                source: anyhow::Error::from_boxed(error),
            })?
            .to_bytes();
        if !head.status.is_success() {
            return Err(ClientError::Refused(Box::new(refused(head.status, &body))));
        }
        let object = serde_json::from_slice(&body).map_err(ClientError::malformed)?;
        Ok(Answer {
            status: head.status,
            object,
            warnings: warnings(&head.headers),
        })
    }
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    content_type: Option<&str>,
    body: Vec<u8>,
) -> Result<Request<Body>, ClientError> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept);
    if let Some(content_type) = content_type {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder
        .body(Body::from(body))
        .map_err(ClientError::malformed)
}

/// The `Status` of a refusal, also when the server (or a proxy before it) did not send one.
fn refused(status: StatusCode, body: &[u8]) -> Status {
    let code = Some(i32::from(status.as_u16()));
    if let Ok(mut parsed) = serde_json::from_slice::<Status>(body) {
        parsed.code = parsed.code.or(code);
        return parsed;
    }
    let text = String::from_utf8_lossy(body);
    let words: String = text.trim().chars().take(200).collect();
    let message = if words.is_empty() {
        format!("the API refused with status {status}")
    } else {
        format!("the API refused with status {status}: {words}")
    };
    Status {
        code,
        message: Some(message),
        ..Status::default()
    }
}

/// The texts of `Warning: 299 - "text"` headers (RFC 7234, section 5.5).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::WARNING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| {
            let (_, quoted) = value.split_once('"')?;
            let (text, _) = quoted.rsplit_once('"')?;
            Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
        })
        .collect()
}

/// One value of a path or a query, safe to put between `/` or after `=`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_lose_their_frame() {
        let mut headers = HeaderMap::new();
        let value = r#"299 - "spec.x: \"y\" is not carried out""#;
        headers.append(header::WARNING, value.parse().unwrap());
        headers.append(header::WARNING, "299 nothing".parse().unwrap());
        assert_eq!(warnings(&headers), [r#"spec.x: "y" is not carried out"#]);
    }

    #[test]
    fn a_refusal_without_a_status_object_still_says_why() {
        let status = refused(StatusCode::BAD_GATEWAY, b"no upstream\n");
        assert_eq!(
            refusal(&status),
            "the API refused with status 502 Bad Gateway: no upstream"
        );
    }

    #[test]
    fn a_selector_is_escaped() {
        assert_eq!(escape("app in (a,b)"), "app%20in%20%28a%2Cb%29");
    }
}
