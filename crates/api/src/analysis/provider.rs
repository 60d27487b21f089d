//! Who is asked for a metric.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is asked for a metric: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricProvider {
    /// The measurements of Serin's own gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serin: Option<SerinMetric>,
    /// A Prometheus server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetric>,
    /// A JSON document of a web server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<WebMetric>,
    /// The outcome of a Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobMetric>,
    /// Datadog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datadog: Option<serde_json::Value>,
    /// New Relic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_relic: Option<serde_json::Value>,
    /// Wavefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wavefront: Option<serde_json::Value>,
    /// Amazon CloudWatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_watch: Option<serde_json::Value>,
    /// Graphite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphite: Option<serde_json::Value>,
    /// InfluxDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub influxdb: Option<serde_json::Value>,
    /// Apache SkyWalking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skywalking: Option<serde_json::Value>,
    /// Kayenta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<serde_json::Value>,
    /// Plugins, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<serde_json::Value>,
}

/// A measurement of Serin's own gateway. Without `compare`, `result` is one number for the conditions of the metric. With it
/// the evidence of all measurements is judged together, and there are no conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SerinMetric {
    /// `error-ratio` (0 to 1), `latency` (seconds) or `requests` (a count).
    pub metric: String,
    /// For `latency`: the quantile, above 0 and below 1; 0.95 when absent. As text, so that an argument can stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<String>,
    /// Only this route: `httproute/NAME`, `ingress/NAME` or `service/NAME`, in the namespace of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only this Service, in the namespace of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only this revision: a pod template hash, mostly through an argument. With `compare`, the revision on trial when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The span that is looked at (`30s`); the interval of the metric when absent, or 10 s. Without meaning with `compare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// With fewer requests than this the measurement is inconclusive; 1 when absent, 100 with `compare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<IntOrString>,
    /// `stable`: is it worse than `baseline`? `threshold`: is it above `threshold`? Not for `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<String>,
    /// For `compare: stable`: the pod template hash that is compared with; the stable revision when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// For `compare: threshold`: a ratio (0.01) or seconds (1.0) that must not be exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    /// The chance, above 0 and below 0.5, that a good revision is ever called bad, however often one looks; 0.01 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<String>,
    /// For `compare: stable`: how much worse is still borne, as a share from 0 to 10; 0.25 when absent, a quarter worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<String>,
    /// With `compare`, what a bad verdict means: `abort` (`Failed`, the default) or `decide` (`Inconclusive`: a person is asked).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_bad: Option<String>,
}

/// A query to a Prometheus server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PrometheusMetric {
    /// `http://HOST:PORT` or `https://HOST:PORT`, with the path below which the API is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// PromQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// A range in the place of the present instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_query: Option<RangeQuery>,
    /// Seconds until the query is given up; 30 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Whether a wrong certificate is borne.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// PEM certificates that are trusted in the place of those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// How we say who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// A range of time, each end as `now()` or `now() - duration("5m")`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RangeQuery {
    /// The begin.
    pub start: String,
    /// The end.
    pub end: String,
    /// The distance of two points, such as `1m`.
    pub step: String,
}

/// A header of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// How we say who we are; at most one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    /// A user with a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// A token that is asked for by client credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// Signatures of Amazon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<serde_json::Value>,
}

/// A user with a password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password, mostly through an argument with `secretKeyRef`.
    pub password: String,
}

/// Client credentials of OAuth 2 (RFC 6749, section 4.4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OAuth2 {
    /// Where the token is got.
    pub token_url: String,
    /// Who we are.
    pub client_id: String,
    /// The secret, mostly through an argument with `secretKeyRef`.
    pub client_secret: String,
    /// What is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A JSON document of a web server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WebMetric {
    /// The address.
    pub url: String,
    /// `GET`, `POST` or `PUT`; `GET` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The body of a `POST` or `PUT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body of a `POST` or `PUT` as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_body: Option<serde_json::Value>,
    /// Seconds until the request is given up; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// The part of the answer that is the result, such as `{$.data.ok}`; the whole answer when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// Whether a wrong certificate is borne.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// PEM certificates that are trusted in the place of those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// How we say who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// The outcome of a Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobMetric {
    /// Labels and annotations of the Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JobMetadata>,
    /// The Job.
    pub spec: JobSpec,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
