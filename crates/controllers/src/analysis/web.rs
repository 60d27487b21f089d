//! JSON documents of web servers.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, header};
use serde_json::Value;
use serin_api::analysis::WebMetric;
use serin_engine::analysis::{Measured, MetricValue};
use tokio::time::Duration;

use super::egress::Reach;
use super::http::{Call, Fetcher, headers};
use super::json_path::JsonPath;
use super::oauth2::authenticate;
use super::provider::{Ask, Provider};
use super::tls::Trust;

const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// Asks web servers.
pub(super) struct Web {
    pub(super) fetcher: Fetcher,
}

impl Provider for Web {
    fn measure<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Measured> {
        async move {
            let asked = ask.metric.provider.web.as_ref();
            let answer = match asked {
                Some(asked) => self.ask(asked).await,
                None => Err("the metric has no web".to_owned()),
            };
            answer.map_or_else(Measured::Unavailable, Measured::Value)
        }
        .boxed()
    }
}

impl Web {
    async fn ask(&self, asked: &WebMetric) -> Result<MetricValue, String> {
        let path = asked.json_path.as_deref().filter(|path| !path.is_empty());
        let path = path.map(JsonPath::parse).transpose()?;
        let mut call = call(asked)?;
        authenticate(&self.fetcher, asked.authentication.as_ref(), &mut call).await?;
        let (status, body) = self.fetcher.fetch(call).await?;
        if !status.is_success() {
            return Err(format!("the server answers {status}"));
        }
        read(&body, path.as_ref())
    }
}

fn call(asked: &WebMetric) -> Result<Call, String> {
    let method = match asked.method.as_deref().unwrap_or("GET") {
        "GET" | "" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        other => return Err(format!("method {other:?}: use GET, POST or PUT")),
    };
    let mut headers = headers(&asked.headers)?;
    let body = match (&asked.json_body, &asked.body) {
        (Some(json), _) => {
            let json_type = HeaderValue::from_static("application/json");
            headers.entry(header::CONTENT_TYPE).or_insert(json_type);
            Bytes::from(json.to_string())
        }
        (None, Some(body)) => Bytes::from(body.clone()),
        (None, None) => Bytes::new(),
    };
    let seconds = asked
        .timeout_seconds
        .and_then(|s| u64::try_from(s).ok())
        .filter(|s| *s > 0);
    Ok(Call {
        method,
        uri: asked
            .url
            .parse()
            .map_err(|_| "web.url is no address".to_owned())?,
        headers,
        body,
        deadline: Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
        trust: Trust {
            anybody: asked.insecure == Some(true),
            ca_bundle: asked.ca_bundle.clone(),
        },
        reach: Reach::Public,
    })
}

/// The part of the answer that was asked for. Nothing of the rest is told, as the server may be one that others may not read.
fn read(body: &Bytes, path: Option<&JsonPath>) -> Result<MetricValue, String> {
    let document: Value =
        serde_json::from_slice(body).map_err(|_| "the answer is no JSON".to_owned())?;
    let Some(path) = path else {
        return Ok(MetricValue::Document(document));
    };
    let found = path.find(&document);
    let found = found.ok_or_else(|| format!("the answer has nothing at {path}"))?;
    Ok(MetricValue::Document(found))
}
