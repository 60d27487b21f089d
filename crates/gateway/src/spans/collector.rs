//! The collector: one request with spans, and what it says to it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::otlp::{self, Rejected};
use crate::config::OtlpConfig;
use crate::tls::{read_roots, system_roots};

/// Where collectors take spans.
const PATH: &str = "/v1/traces";
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long a connection is kept that nothing goes over.
const IDLE: Duration = Duration::from_secs(60);

/// Where spans go.
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Uri,
    headers: HeaderMap,
    patience: Duration,
}

impl fmt::Debug for Collector {
    /// Without the headers, which may have a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A request that the collector has not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: String,
    /// Whether it may take it later.
    pub(super) is_passing: bool,
    /// When it wants to be asked again.
    pub(super) after: Option<Duration>,
}

impl Collector {
    /// The collector of the settings, whose files are below `home`.
    ///
    /// # Errors
    /// A sentence with the field that is wrong.
    pub(super) fn new(config: &OtlpConfig, home: &Path) -> Result<Self, String> {
        let target = target(&config.endpoint)?;
        let roots = match (&config.certificate, target.scheme_str()) {
            (Some(path), _) => read_roots(&home.join(path))
                .map_err(|why| format!("otlp.certificate: {}: {why}", path.display()))?,
            (None, Some("https")) => system_roots(),
            (None, _) => Arc::new(RootCertStore::empty()),
        };
        let provider = crypto::ring::default_provider().into();
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self {
            client,
            target,
            headers: headers(&config.headers)?,
            patience: Duration::from_millis(config.timeout_ms),
        })
    }

    /// Sends the body of a request, once.
    pub(super) async fn send(&self, body: Bytes) -> Result<Rejected, Refused> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        let passing = |why: String| Refused {
            why: format!("{}: {why}", self.target),
            is_passing: true,
            after: None,
        };
        let exchange = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| passing(said(&error)))?;
            self.understand(answer).await
        };
        let late = || passing(format!("no answer within {} ms", self.patience.as_millis()));
        timeout(self.patience, exchange)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn understand(&self, answer: Response<Incoming>) -> Result<Rejected, Refused> {
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            return Ok(body.map_or_else(|_| Rejected::default(), |b| otlp::rejected(&b.to_bytes())));
        }
        let after = head.headers.get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
        Err(Refused {
            why: format!("{} answers {}", self.target, head.status),
            is_passing: is_passing(head.status),
            after: after.map(Duration::from_secs),
        })
    }
}

/// The statuses after which the specification lets a request be sent again.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The address of the collector with the path for spans.
fn target(endpoint: &str) -> Result<Uri, String> {
    let wrong = |why: &str| {
        format!("otlp.endpoint: {endpoint:?} {why}; name the collector as in http://127.0.0.1:4318")
    };
    let base: Uri = endpoint.parse().map_err(|_| wrong("is no address"))?;
    if !matches!(base.scheme_str(), Some("http" | "https")) {
        return Err(wrong("is not http or https"));
    }
    if base.query().is_some() {
        return Err(wrong("has a query"));
    }
    let text = format!("{}{PATH}", endpoint.trim_end_matches('/'));
    text.parse().map_err(|_| wrong("is no address"))
}

/// The headers of every request. Their values are in no error.
fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let name = HeaderName::try_from(name)
            .map_err(|_| format!("otlp.headers: {name:?} is no name of a header"))?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("otlp.headers: the value of {name} cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let agent = concat!("serin/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    Ok(headers)
}

/// What is wrong with a connection, to the innermost reason.
fn said(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
