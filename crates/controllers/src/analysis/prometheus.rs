//! Queries to a Prometheus server.

use bytes::Bytes;
use serde_json::Value;
use serin_api::analysis::PrometheusMetric;
use serin_engine::analysis::{Measured, MetricValue};
use tokio::time::Duration;

use super::http::{self, Server};

const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

pub(super) async fn measure(asked: &PrometheusMetric) -> Measured {
    match ask(asked).await {
        Ok(value) => Measured::Value(value),
        Err(why) => Measured::Unavailable(why),
    }
}

async fn ask(asked: &PrometheusMetric) -> Result<MetricValue, String> {
    let address = asked
        .address
        .as_deref()
        .filter(|a| !a.is_empty())
        .ok_or("prometheus.address is not given")?;
    let query = asked
        .query
        .as_deref()
        .filter(|q| !q.is_empty())
        .ok_or("prometheus.query is not given")?;
    let (authority, base) = server(address)?;
    let path = format!("{base}/api/v1/query?{}", encoded(query));
    let seconds = asked
        .timeout
        .and_then(|t| u64::try_from(t).ok())
        .filter(|t| *t > 0)
        .unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let (status, body) =
        http::get(Server::Tcp(&authority), &path, Duration::from_secs(seconds)).await?;
    read(status.as_u16(), &body)
}

fn encoded(query: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("query", query)
        .finish()
}

/// `HOST:PORT` and the path below which the API is.
fn server(address: &str) -> Result<(String, String), String> {
    let rest = address.strip_prefix("http://").ok_or_else(|| {
        format!("{address}: only http:// addresses are carried out by this version of Serin")
    })?;
    let (host, path) = rest
        .split_once('/')
        .map_or((rest, ""), |(host, path)| (host, path));
    let path = path.trim_end_matches('/');
    let authority = if host
        .rsplit(']')
        .next()
        .is_some_and(|tail| tail.contains(':'))
    {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    Ok((
        authority,
        if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        },
    ))
}

/// A vector becomes a list, a scalar a number, in the form of the answer of Prometheus.
fn read(status: u16, body: &Bytes) -> Result<MetricValue, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|e| format!("HTTP {status}, and no JSON: {e}"))?;
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        let why = answer
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        return Err(format!("HTTP {status}: {why}"));
    }
    let number = |sample: &Value| {
        let text = sample
            .get(1)
            .and_then(Value::as_str)
            .ok_or("a sample without a value")?;
        text.parse::<f64>()
            .map_err(|_| format!("{text:?} is no number"))
    };
    let result = answer.pointer("/data/result").unwrap_or(&Value::Null);
    match answer.pointer("/data/resultType").and_then(Value::as_str) {
        Some("scalar") => Ok(MetricValue::Number(number(result)?)),
        Some("vector") => {
            let series = result.as_array().into_iter().flatten();
            let numbers: Result<Vec<_>, String> = series
                .map(|s| number(s.get("value").unwrap_or(&Value::Null)))
                .collect();
            Ok(MetricValue::List(numbers?))
        }
        other => Err(format!("a result of type {other:?} cannot be judged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_prometheus() {
        let read = |text: &str| read(200, &Bytes::copy_from_slice(text.as_bytes()));
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.9"]},{"metric":{},"value":[1,"NaN"]}]}}"#;
        let Ok(MetricValue::List(numbers)) = read(vector) else {
            panic!()
        };
        assert!(numbers[0] == 0.9 && numbers[1].is_nan());
        let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(empty), Ok(MetricValue::List(vec![])));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}"#;
        assert_eq!(read(scalar), Ok(MetricValue::Number(f64::INFINITY)));
        assert!(
            read(r#"{"status":"error","error":"parse error"}"#)
                .unwrap_err()
                .contains("parse error")
        );
        assert!(read("<html>").is_err());
    }

    #[test]
    fn addresses() {
        assert_eq!(
            server("http://prometheus:9090/"),
            Ok(("prometheus:9090".into(), String::new()))
        );
        assert_eq!(
            server("http://prometheus/base"),
            Ok(("prometheus:80".into(), "/base".into()))
        );
        assert_eq!(
            server("http://[::1]:9090"),
            Ok(("[::1]:9090".into(), String::new()))
        );
        assert!(server("https://prometheus").is_err());
    }
}
