//! The shapes of OTLP as JSON, and what a span says of a request: the names are those of the semantic conventions for HTTP, and `serin.*`
//! where they have none.
//!
//! Source: opentelemetry-proto, `trace/v1/trace.proto` and the specification's section about JSON: numbers of traces and spans are
//! hexadecimal, 64-bit integers are texts, enumerations are integers.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, Version};
use serde::{Deserialize, Serialize};

use crate::observers::{Ended, Entry, cut};
use crate::trace::{Span as Traced, SpanId, TraceId};

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// That the flags say whether the parent is of another process, and that it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Who tells.
#[derive(Debug)]
pub(super) struct Resource {
    service_name: String,
}

impl Resource {
    pub(super) fn new(service_name: String) -> Self {
        Self { service_name }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Described<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Described<'a> {
    attributes: Attributes<'a>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: TraceId,
    span_id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<SpanId>,
    flags: u32,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Default, Serialize)]
struct Attributes<'a>(Vec<Attribute<'a>>);

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'a> {
    StringValue(Cow<'a, str>),
    IntValue(String),
}

/// What a collector answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    partial_success: PartialSuccess,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess {
    rejected_spans: Integer,
    error_message: String,
}

/// A 64-bit integer: a text by the specification, a number by many.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Integer {
    Number(u64),
    Text(String),
}

impl Default for Integer {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// How many spans of a request a collector has not taken, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) spans: u64,
    pub(super) why: String,
}

/// What a collector that has taken a request says of its spans. An answer that cannot be read says nothing against them.
pub(super) fn rejected(body: &[u8]) -> Rejected {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let PartialSuccess {
        rejected_spans,
        error_message,
    } = answer.partial_success;
    Rejected {
        spans: match rejected_spans {
            Integer::Number(number) => number,
            Integer::Text(text) => text.parse().unwrap_or(0),
        },
        why: error_message,
    }
}

/// The body of a request with the spans of these requests.
pub(super) fn request(resource: &Resource, ended: &[Arc<Ended>]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let spans = ended.iter().filter_map(|ended| {
        let traced = ended.entry.traced.span.as_deref()?;
        Some(span(ended, traced))
    });
    let mut attributes = Attributes::default();
    attributes.text("service.name", &*resource.service_name);
    attributes.text("service.version", version);
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: Described { attributes },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "serin.gateway",
                    version,
                },
                spans: spans.collect(),
            }],
        }],
    };
    // Texts and numbers can always be written to memory.
    serde_json::to_vec(&request).unwrap_or_default()
}

fn span<'a>(ended: &'a Ended, traced: &'a Traced) -> Span<'a> {
    let entry = &ended.entry;
    let end = ended.time.as_nanosecond();
    let passed = i128::try_from(ended.passed.as_nanos()).unwrap_or(0);
    // By the conventions: that a request was wrong, or one too many, is no error of the server.
    let is_the_clients = entry
        .status
        .is_some_and(|status| (400..500).contains(&status));
    let is_error = entry.failed() && !is_the_clients;
    let remote = if traced.parent.is_some() {
        IS_REMOTE
    } else {
        0
    };
    Span {
        trace_id: traced.trace,
        span_id: traced.id,
        trace_state: traced.state.as_deref(),
        parent_span_id: traced.parent,
        flags: u32::from(traced.flags) | HAS_IS_REMOTE | remote,
        name: name(entry),
        kind: SERVER,
        start_time_unix_nano: (end - passed).to_string(),
        end_time_unix_nano: end.to_string(),
        attributes: attributes(entry, traced),
        status: is_error.then_some(Status { code: ERROR }),
    }
}

/// The method, and the route, of which there are few.
fn name(entry: &Entry) -> String {
    let method = match known(&entry.method) {
        true => entry.method.as_str(),
        false => "HTTP",
    };
    match &entry.series {
        Some(series) => format!("{method} {}", series.key.route),
        None => method.to_owned(),
    }
}

/// Whether the conventions know the method.
fn known(method: &Method) -> bool {
    const KNOWN: [Method; 9] = [
        Method::CONNECT,
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::POST,
        Method::PUT,
        Method::TRACE,
    ];
    KNOWN.contains(method)
}

fn attributes<'a>(entry: &'a Entry, traced: &'a Traced) -> Attributes<'a> {
    let mut all = Attributes::default();
    let method = entry.method.as_str();
    if known(&entry.method) {
        all.text("http.request.method", method);
    } else {
        all.text("http.request.method", "_OTHER");
        all.text("http.request.method_original", method);
    }
    all.text("url.scheme", entry.scheme);
    all.text("url.path", cut(&entry.path));
    all.text("server.address", cut(&entry.host));
    if let Some(port) = entry.port {
        all.int("server.port", port);
    }
    all.text("client.address", &*entry.client);
    all.text("network.protocol.version", protocol(entry.protocol));
    if let Some(agent) = &traced.user_agent {
        all.text("user_agent.original", cut(agent));
    }
    all.int("http.request.body.size", entry.received);
    all.int("http.response.body.size", entry.sent);
    if let Some(status) = entry.status {
        all.int("http.response.status_code", status);
    }
    match (entry.failure(), entry.status) {
        (Some(failure), _) => all.text("error.type", failure),
        (None, Some(status @ 500..)) => all.text("error.type", status.to_string()),
        (None, _) => {}
    }
    if let Some(series) = &entry.series {
        all.text("serin.route", &*series.key.route);
        all.text("serin.service", &*series.key.service);
        all.text("serin.revision", &*series.key.revision);
    }
    if let Some(instance) = entry.instance {
        all.text("serin.instance", instance.to_string());
    }
    if entry.retries > 0 {
        all.int("serin.retries", entry.retries);
    }
    all
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

impl<'a> Attributes<'a> {
    fn text(&mut self, key: &'static str, text: impl Into<Cow<'a, str>>) {
        let value = Value::StringValue(text.into());
        self.0.push(Attribute { key, value });
    }

    fn int(&mut self, key: &'static str, number: impl Into<u64>) {
        let value = Value::IntValue(number.into().to_string());
        self.0.push(Attribute { key, value });
    }
}
