//! Queries to a Prometheus server.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Uri};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serin_api::analysis::{PrometheusMetric, RangeQuery};
use serin_api::units::parse_duration_text;
use serin_engine::analysis::{Measured, MetricValue};
use tokio::time::Duration;

use super::egress::Reach;
use super::http::{Call, Fetcher, headers};
use super::oauth2::authenticate;
use super::provider::{Ask, Provider};
use super::tls::Trust;
use crate::clock::Clock;

const DEFAULT_TIMEOUT_SECONDS: u64 = 30;
/// A sample older than this is none: Prometheus itself looks back no further.
const STALE: SignedDuration = SignedDuration::from_mins(5);

/// Asks Prometheus servers.
pub(super) struct Prometheus {
    pub(super) fetcher: Fetcher,
    pub(super) clock: Clock,
}

impl Provider for Prometheus {
    fn measure<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Measured> {
        async move {
            let answer = match &ask.metric.provider.prometheus {
                Some(asked) => self.ask(asked).await,
                None => Err("the metric has no prometheus".to_owned()),
            };
            answer.map_or_else(Measured::Unavailable, Measured::Value)
        }
        .boxed()
    }
}

impl Prometheus {
    async fn ask(&self, asked: &PrometheusMetric) -> Result<MetricValue, String> {
        let now = self.clock.now();
        let seconds = asked
            .timeout
            .and_then(|t| u64::try_from(t).ok())
            .filter(|t| *t > 0);
        let mut call = Call {
            method: Method::GET,
            uri: address(asked, now)?,
            headers: headers(&asked.headers)?,
            body: Bytes::new(),
            deadline: Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            trust: Trust {
                anybody: asked.insecure == Some(true),
                ca_bundle: asked.ca_bundle.clone(),
            },
            reach: Reach::Private,
        };
        authenticate(&self.fetcher, asked.authentication.as_ref(), &mut call).await?;
        let (status, body) = self.fetcher.fetch(call).await?;
        read(status.as_u16(), &body, now)
    }
}

fn address(asked: &PrometheusMetric, now: Timestamp) -> Result<Uri, String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let address = given(&asked.address).ok_or("prometheus.address is not given")?;
    let query = given(&asked.query).ok_or("prometheus.query is not given")?;
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    parameters.append_pair("query", &query);
    let what = match &asked.range_query {
        None => "query",
        Some(range) => {
            for (name, value) in range_parameters(range, now)? {
                parameters.append_pair(name, &value);
            }
            "query_range"
        }
    };
    let base = address.trim_end_matches('/');
    let text = format!("{base}/api/v1/{what}?{}", parameters.finish());
    let uri: Uri = text
        .parse()
        .map_err(|_| format!("prometheus.address {address:?} is no address"))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if known {
        Ok(uri)
    } else {
        Err(format!("{address}: must begin with http:// or https://"))
    }
}

fn range_parameters(
    range: &RangeQuery,
    now: Timestamp,
) -> Result<[(&'static str, String); 3], String> {
    let at = |name: &str, text: &str| {
        let moment = moment(text, now).ok_or_else(|| {
            format!(
                "prometheus.rangeQuery.{name} {text:?}: write now() or now() - duration(\"5m\")"
            )
        })?;
        Ok::<_, String>(format!("{:.3}", moment.as_millisecond() as f64 / 1000.0))
    };
    let step = parse_duration_text(&range.step).filter(|step| step.is_positive());
    let step = step.ok_or("prometheus.rangeQuery.step: write a time such as 1m")?;
    Ok([
        ("start", at("start", &range.start)?),
        ("end", at("end", &range.end)?),
        ("step", step.as_secs_f64().to_string()),
    ])
}

/// `now()`, with durations added and taken away.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let mut rest = text.trim().strip_prefix("now()")?.trim();
    let mut moment = now;
    while !rest.is_empty() {
        let sign = rest
            .chars()
            .next()
            .filter(|sign| matches!(sign, '+' | '-'))?;
        let inside = rest.get(1..)?.trim_start().strip_prefix("duration(")?;
        let (inside, tail) = inside.split_once(')')?;
        let span = parse_duration_text(inside.trim().trim_matches(['"', '\'']))?;
        let span = if sign == '-' { -span } else { span };
        moment = moment.checked_add(span).ok()?;
        rest = tail.trim();
    }
    Some(moment)
}

/// A scalar becomes a number; a vector a list, and a matrix the list of all of its points, in the form of the answer of
/// Prometheus. A newest sample that is old says nothing.
fn read(status: u16, body: &Bytes, now: Timestamp) -> Result<MetricValue, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|_| format!("HTTP {status}, and no JSON"))?;
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        let why = answer
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        return Err(format!("HTTP {status}: {why}"));
    }
    let result = answer.pointer("/data/result").unwrap_or(&Value::Null);
    let series = || result.as_array().into_iter().flatten();
    let kind = answer.pointer("/data/resultType").and_then(Value::as_str);
    let samples: Vec<&Value> = match kind {
        Some("scalar") => vec![result],
        Some("vector") => series().filter_map(|s| s.get("value")).collect(),
        Some("matrix") => series()
            .filter_map(|s| s.get("values").and_then(Value::as_array))
            .flatten()
            .collect(),
        other => return Err(format!("a result of type {other:?} cannot be judged")),
    };
    let times = samples.iter().filter_map(|sample| sample.get(0)?.as_f64());
    let newest = times.fold(f64::NEG_INFINITY, f64::max);
    let age = now.as_millisecond() as f64 / 1000.0 - newest;
    if newest.is_finite() && age > STALE.as_secs_f64() {
        return Ok(MetricValue::NoData(format!(
            "the newest sample is {age:.0} s old"
        )));
    }
    let numbers: Vec<f64> = samples.into_iter().map(number).collect::<Result<_, _>>()?;
    match (kind, numbers.as_slice()) {
        (Some("scalar"), [number]) => Ok(MetricValue::Number(*number)),
        _ => Ok(MetricValue::List(numbers)),
    }
}

fn number(sample: &Value) -> Result<f64, String> {
    let text = sample.get(1).and_then(Value::as_str);
    let text = text.ok_or("a sample without a value")?;
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    #[test]
    fn answers_of_prometheus() {
        let read = |json: Value| read(200, &Bytes::from(json.to_string()), now());
        let answer = |kind: &str, result: Value| json!({"status": "success", "data": {"resultType": kind, "result": result}});
        let vector = json!([{"metric": {}, "value": [1000, "0.9"]}, {"value": [1000, "NaN"]}]);
        let Ok(MetricValue::List(numbers)) = read(answer("vector", vector)) else {
            panic!()
        };
        assert!(numbers[0] == 0.9 && numbers[1].is_nan());
        assert_eq!(
            read(answer("vector", json!([]))),
            Ok(MetricValue::List(vec![]))
        );
        let scalar = read(answer("scalar", json!([1000, "+Inf"])));
        assert_eq!(scalar, Ok(MetricValue::Number(f64::INFINITY)));
        let matrix = json!([{"values": [[940, "1"], [1000, "2"]]}, {"values": [[1000, "3"]]}]);
        let matrix = read(answer("matrix", matrix));
        assert_eq!(matrix, Ok(MetricValue::List(vec![1.0, 2.0, 3.0])));
        let old = read(answer("vector", json!([{"value": [600, "0"]}])));
        let told = MetricValue::NoData("the newest sample is 400 s old".into());
        assert_eq!(old, Ok(told));
        let refused = read(json!({"status": "error", "error": "parse error"}));
        assert!(refused.unwrap_err().contains("parse error"));
        assert!(read(answer("string", json!([1000, "a"]))).is_err());
        assert!(read(answer("vector", json!([{"value": [1000, "text"]}]))).is_err());
        assert!(read(json!("<html>")).is_err());
    }

    #[test]
    fn addresses_and_ranges() {
        let asked = |address: &str, range: Option<Value>| {
            let asked = json!({"address": address, "query": "up > 0", "rangeQuery": range});
            address_of(&serde_json::from_value(asked).unwrap())
        };
        let range = json!({"start": "now() - duration(\"5m\")", "end": "now()", "step": "30s"});
        assert_eq!(
            asked("https://prometheus:9090/base/", Some(range)),
            "https://prometheus:9090/base/api/v1/query_range?query=up+%3E+0&start=700.000&end=1000.000&step=30"
        );
        assert_eq!(
            asked("http://[::1]", None),
            "http://[::1]/api/v1/query?query=up+%3E+0"
        );
        assert!(asked("prometheus:9090", None).starts_with("error"));
        let wrong = json!({"start": "yesterday", "end": "now()", "step": "1m"});
        assert!(asked("http://p", Some(wrong)).contains("rangeQuery.start"));
    }

    fn address_of(asked: &PrometheusMetric) -> String {
        address(asked, now()).map_or_else(|why| format!("error {why}"), |uri| uri.to_string())
    }
}
