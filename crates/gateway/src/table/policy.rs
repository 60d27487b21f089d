//! What a rule does beside choosing a backend, and how the instances of a Service are treated.

use serde::{Deserialize, Serialize};

use super::{HeaderChanges, PortRef};
use crate::names::ObjectName;

/// What a rule does beside choosing a backend. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RulePolicy {
    /// Changes to the headers of the answer.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub answer_headers: HeaderChanges,
    /// An answer of the gateway itself; no backend is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// Another path or host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Where copies of requests go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// When a request is tried again, beside what is always safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Faults that are made on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Who stays on his side of the split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<HashKey>,
    /// How many requests are let through.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl RulePolicy {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An answer of the gateway itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direct {
    /// To another address.
    Redirect(Redirect),
    /// A fixed one.
    Fixed {
        /// 200 to 599.
        status: u16,
        /// The body.
        body: String,
    },
}

/// A redirect. What is absent is that of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port; with a scheme, that of the scheme when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// Another path or host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// The host that the instance sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// A new path. The query stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// In the place of the whole path.
    Full(String),
    /// In the place of the prefix that matched; of the whole path when no prefix did.
    Prefix(String),
    /// In the place of every match of a regular expression.
    Regex {
        /// The regular expression.
        pattern: String,
        /// What takes its place; `${1}` is the first group.
        with: String,
    },
}

/// Where copies of requests go. Their answers are thrown away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The Service.
    pub service: ObjectName,
    /// Its port.
    pub port: PortRef,
    /// One of its subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Of how many of a million requests.
    pub per_million: u32,
}

/// When a request without a body is tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// How often at most, beside the first try.
    pub attempts: u32,
    /// The statuses of answers after which it is.
    pub statuses: Vec<u16>,
    /// Whether it is when the connection broke, or one try took too long.
    pub on_failure: bool,
    /// Milliseconds before the next try.
    pub pause_ms: u64,
}

/// Faults that are made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// A wait in milliseconds, of how many of a million requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<(u64, u32)>,
    /// A status in the place of the answer, of how many of a million requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<(u16, u32)>,
}

/// What makes a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HashKey {
    /// A cookie. It is set in the answer when the request has none.
    Cookie {
        /// Its name.
        name: String,
        /// Its path; `/` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Seconds; as long as the browser when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
        /// Whether it is set; else only a cookie of the application counts.
        issue: bool,
    },
    /// A header, in lower case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// The address of the client.
    SourceIp,
}

/// How many requests of a route are let through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// At what rate; more are answered 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// How many at once; more are answered 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// When none are for a while; they are answered 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests in each period.
    pub requests: u32,
    /// Milliseconds.
    pub period_ms: u64,
    /// Requests that may come at once, at least 1.
    pub burst: u32,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// It opens after so many failures in a row.
    pub failures: u32,
    /// Milliseconds that it stays open, before one request probes.
    pub open_ms: u64,
}

/// How the instances of a Service, or of a subset, are treated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePolicy {
    /// Which user gets which instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<HashKey>,
    /// When an instance is left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// How they are asked whether they are well. Only of a whole Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Requests at once, from this gateway; more are answered 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Requests that are sent again at once, after something of them was sent; more are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Milliseconds that one connect may take; `None` is the bound of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
}

impl ServicePolicy {
    /// What is said here, and what `other` says where nothing is.
    pub fn over(self, other: Self) -> Self {
        Self {
            affinity: self.affinity.or(other.affinity),
            ejection: self.ejection.or(other.ejection),
            health: self.health.or(other.health),
            max_in_flight: self.max_in_flight.or(other.max_in_flight),
            max_retries: self.max_retries.or(other.max_retries),
            connect_timeout_ms: self.connect_timeout_ms.or(other.connect_timeout_ms),
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When an instance is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ejection {
    /// After so many failures in a row.
    pub failures: u32,
    /// Whether only 502, 503, 504 and failures of the connection count, and not every 5xx.
    pub gateway_errors_only: bool,
    /// Milliseconds the first time; n times as long the n-th time.
    pub base_ms: u64,
    /// At most so many of a hundred instances at once, but always one.
    pub max_percent: u32,
    /// While less of a hundred instances are not left out, nobody is: there may be too few to bear the load. 0 is never.
    #[serde(default)]
    pub min_healthy_percent: u32,
}

/// How instances are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked for by GET; 200 to 399 is well. `None`: that a connection can be made is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The `Host` of these requests; `None` is the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port of the instance that is asked, over HTTP/1.1; `None` is the one that gets requests, with its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Milliseconds from one check to the next.
    pub interval_ms: u64,
    /// Milliseconds that one check may take.
    pub timeout_ms: u64,
    /// The instance is left out after so many checks in a row that it did not pass.
    pub failures: u32,
    /// It is back after so many that it did.
    pub successes: u32,
    /// While less of a hundred instances are not left out, nobody is: what is wrong then is more likely the check, or the others
    /// could not bear the load. 0 is never.
    pub panic_percent: u32,
}
