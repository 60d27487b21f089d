//! Spans in a collector of this process. Most go by a virtual clock, which waits for the collector, as it is in the same runtime.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::observers::Entry;
use crate::series::Outcome;
use crate::waiting::soon;

/// An answer of the collector: its status, its `Retry-After`, its body.
type Answer = (StatusCode, Option<&'static str>, &'static str);

const TAKEN: Answer = (StatusCode::OK, None, "{}");

/// What was asked, and what is answered next; after that everything is taken.
#[derive(Default)]
struct Asked {
    requests: Mutex<Vec<(http::request::Parts, Value)>>,
    answers: Mutex<VecDeque<Answer>>,
}

impl Asked {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap();
        self.requests.lock().unwrap().push((head, body));
        let next = self.answers.lock().unwrap().pop_front();
        let (status, after, body) = next.unwrap_or(TAKEN);
        let mut answer = Response::new(Full::from(body));
        *answer.status_mut() = status;
        if let Some(after) = after {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, after.parse().unwrap());
        }
        answer
    }

    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service =
            service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let _ = connection.await;
    }

    /// How many spans each request had.
    fn spans(&self) -> Vec<usize> {
        let requests = self.requests.lock().unwrap();
        let spans = |body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
        let spans = requests.iter().map(|(_, body)| spans(body));
        spans.map(|spans| spans.as_array().unwrap().len()).collect()
    }
}

/// A collector that gives these answers first, and its settings.
async fn collector(answers: impl Into<VecDeque<Answer>>) -> (Arc<Asked>, OtlpConfig) {
    let asked = Arc::new(Asked {
        answers: Mutex::new(answers.into()),
        ..Asked::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&serving).serve(stream));
        }
    });
    (asked, OtlpConfig::new(format!("http://{address}/")))
}

fn start(config: &OtlpConfig) -> (Spans, Exporting) {
    let (spans, exporter) = Spans::new(config, Path::new("/nowhere")).unwrap();
    (spans, exporter.start())
}

/// Waits until so many spans have been taken and dropped.
async fn until(spans: &Spans, exported: u64, dropped: u64) {
    let counts = spans.counts();
    let now = || {
        let counts = [&counts.exported, &counts.dropped];
        counts.map(|count| count.load(Ordering::Relaxed))
    };
    let reached = async {
        while now() != [exported, dropped] {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Where the clock is a virtual one, longer than all that is waited for.
    let reached = timeout(Duration::from_secs(120), reached).await;
    assert!(reached.is_ok(), "exported and dropped: {:?}", now());
}

fn tell(spans: &Spans, count: usize) {
    let ended = Arc::new(Ended::example());
    for _ in 0..count {
        spans.tell(Arc::clone(&ended));
    }
}

#[tokio::test(start_paused = true)]
async fn spans_are_gathered_and_sent_with_the_headers_of_the_settings() {
    let (asked, mut config) = collector([]).await;
    config.headers = [("x-token".into(), "secret".into())].into();
    let (spans, _exporting) = start(&config);
    tell(&spans, 3);
    until(&spans, 3, 0).await;
    assert_eq!(asked.spans(), [3]);
    let requests = asked.requests.lock().unwrap();
    let (head, _) = &requests[0];
    assert_eq!(
        (head.method.as_str(), head.uri.path()),
        ("POST", "/v1/traces")
    );
    assert_eq!(head.headers["x-token"], "secret");
    assert_eq!(head.headers["content-type"], "application/json");
    let shown = format!("{config:?}");
    assert!(
        shown.contains("x-token") && !shown.contains("secret"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_asks_for_patience_gets_the_spans_later_and_another_one_does_not() {
    const SOON: Option<&str> = Some("0");
    let (asked, config) = collector([
        (StatusCode::SERVICE_UNAVAILABLE, SOON, ""),
        (StatusCode::TOO_MANY_REQUESTS, SOON, ""),
        TAKEN,
        (StatusCode::BAD_REQUEST, None, "what is this?"),
        (
            StatusCode::OK,
            None,
            r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#,
        ),
        (
            StatusCode::OK,
            None,
            r#"{"partialSuccess":{"rejectedSpans":9}}"#,
        ),
        (StatusCode::OK, None, "taken, thank you"),
    ])
    .await;
    let (spans, _exporting) = start(&config);
    tell(&spans, 1);
    until(&spans, 1, 0).await;
    tell(&spans, 4);
    until(&spans, 1, 4).await;
    tell(&spans, 5);
    until(&spans, 4, 6).await;
    tell(&spans, 6);
    until(&spans, 4, 12).await;
    tell(&spans, 7);
    until(&spans, 11, 12).await;
    assert_eq!(asked.spans(), [1, 1, 1, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_stays_away_costs_the_spans_and_no_more() {
    let (asked, config) = collector([(StatusCode::SERVICE_UNAVAILABLE, Some("0"), ""); 5]).await;
    let (spans, _exporting) = start(&config);
    tell(&spans, 2);
    until(&spans, 0, 2).await;
    assert_eq!(asked.spans(), [2; 5]);
    tell(&spans, 1);
    until(&spans, 1, 2).await;
}

/// A collector that takes connections and never answers, and its settings.
async fn silent() -> (TcpListener, OtlpConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, OtlpConfig::new(format!("http://{address}")))
}

#[tokio::test(start_paused = true)]
async fn a_collector_is_waited_for_so_long_and_no_longer() {
    // It may ask for an hour; it gets half a minute.
    let later = (StatusCode::SERVICE_UNAVAILABLE, Some("3600"), "");
    let (_asked, config) = collector([later]).await;
    let began = Instant::now();
    let (spans, _exporting) = start(&config);
    tell(&spans, 1);
    until(&spans, 1, 0).await;
    assert_eq!(began.elapsed().as_secs(), 30);

    // Five tries of ten seconds, with 1, 2, 4 and 8 between them.
    let (_silent, config) = silent().await;
    let began = Instant::now();
    let (spans, exporting) = start(&config);
    tell(&spans, 1);
    until(&spans, 0, 1).await;
    assert_eq!(began.elapsed().as_secs(), 50 + 15);

    let began = Instant::now();
    tell(&spans, 1);
    exporting.finish().await;
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_a_long_answer_of_the_collector_nothing_is_kept() {
    let rejects = |padding: usize| {
        let padding = " ".repeat(padding);
        let body = format!(r#"{{{padding}"partialSuccess":{{"rejectedSpans":1}}}}"#);
        (StatusCode::OK, None, &*body.leak())
    };
    let (_asked, config) = collector([rejects(60_000), rejects(70_000)]).await;
    let (spans, _exporting) = start(&config);
    tell(&spans, 1);
    until(&spans, 0, 1).await;
    tell(&spans, 1);
    until(&spans, 1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted_and_what_is_left_is_sent_at_the_end() {
    let (asked, config) = collector([]).await;
    let (spans, exporter) = Spans::new(&config, Path::new("/nowhere")).unwrap();
    tell(&spans, QUEUE + 3);
    until(&spans, 0, 3).await;
    exporter.start().finish().await;
    until(&spans, QUEUE as u64, 3).await;
    assert_eq!(asked.spans(), [BATCH; QUEUE / BATCH]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_the_collector_is_sent_at_the_end() {
    let (asked, config) = collector([(StatusCode::SERVICE_UNAVAILABLE, Some("30"), "")]).await;
    let (spans, exporting) = start(&config);
    tell(&spans, 2);
    let refused = async {
        while asked.spans().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a request to the collector", refused).await;
    tell(&spans, 1);
    exporting.finish().await;
    until(&spans, 3, 0).await;
    assert_eq!(asked.spans(), [2, 3]);
}

#[tokio::test]
async fn a_collector_behind_https_is_one_that_the_settings_vouch_for() {
    let home = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(home.path().join("ca.pem"), signed.cert.pem()).unwrap();
    let chain = vec![CertificateDer::from(signed.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let tls = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Asked::default());
    let serving = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        }
    });
    let mut config = OtlpConfig::new(format!("https://localhost:{port}"));
    let unknown = Collector::new(&config, home.path()).unwrap();
    let refused = unknown.send(Bytes::new()).await.unwrap_err();
    assert!(refused.why.contains("certificate"), "{refused:?}");
    config.certificate = Some("ca.pem".into());
    let (spans, exporter) = Spans::new(&config, home.path()).unwrap();
    tell(&spans, 1);
    exporter.start().finish().await;
    assert_eq!(asked.spans(), [1]);
}

#[test]
fn settings_that_cannot_be_used_are_told_with_their_field() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("empty.pem"), "").unwrap();
    let wrong = |change: fn(&mut OtlpConfig)| {
        let mut config = OtlpConfig::new("http://127.0.0.1:4318".into());
        change(&mut config);
        Spans::new(&config, home.path()).unwrap_err()
    };
    let errors = [
        wrong(|c| c.endpoint = "127.0.0.1:4318".into()),
        wrong(|c| c.endpoint = "grpc://127.0.0.1:4317".into()),
        wrong(|c| c.endpoint = "http://127.0.0.1:4318?a=b".into()),
        wrong(|c| c.endpoint = "http://a b".into()),
        wrong(|c| c.headers = [("a b".into(), "secret".into())].into()),
        wrong(|c| c.headers = [("a".into(), "secret\n".into())].into()),
        wrong(|c| c.certificate = Some("absent.pem".into())),
        wrong(|c| c.certificate = Some("empty.pem".into())),
    ];
    expect_test::expect![[r#"
        otlp.endpoint: "127.0.0.1:4318" is not http or https; name the collector as in http://127.0.0.1:4318
        otlp.endpoint: "grpc://127.0.0.1:4317" is not http or https; name the collector as in http://127.0.0.1:4318
        otlp.endpoint: "http://127.0.0.1:4318?a=b" has a query; name the collector as in http://127.0.0.1:4318
        otlp.endpoint: "http://a b" is no address; name the collector as in http://127.0.0.1:4318
        otlp.headers: "a b" is no name of a header
        otlp.headers: the value of a cannot be sent
        otlp.certificate: absent.pem: No such file or directory (os error 2)
        otlp.certificate: empty.pem: there is no certificate in it"#]].assert_eq(&errors.join("\n"));
}

/// What a collector is told of a request: its attributes in lines of their own.
fn told(change: impl FnOnce(&mut Ended)) -> (Value, Vec<String>) {
    let mut ended = Ended::example();
    change(&mut ended);
    let resource = Resource::new("edge".into());
    let body = otlp::request(&resource, &[Arc::new(ended)]);
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    let span = &mut body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let attributes = span.as_object_mut().unwrap().remove("attributes").unwrap();
    let line = |one: &Value| format!("{}: {}", one["key"].as_str().unwrap(), one["value"]);
    let lines = attributes.as_array().unwrap().iter().map(line).collect();
    (body, lines)
}

#[test]
fn a_span_says_what_became_of_the_request() {
    let (body, attributes) = told(|_| {});
    let body = body
        .to_string()
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    expect_test::expect![[r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"edge"}},{"key":"service.version","value":{"stringValue":"VERSION"}}]},"scopeSpans":[{"scope":{"name":"serin.gateway","version":"VERSION"},"spans":[{"endTimeUnixNano":"1767323045000000000","flags":769,"kind":2,"name":"POST httproute/default/web","parentSpanId":"00f067aa0ba902b7","spanId":"1122334455667788","startTimeUnixNano":"1767323044996000000","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","traceState":"a=1"}]}]}]}"#]].assert_eq(&body);
    expect_test::expect![[r#"
        http.request.method: {"stringValue":"POST"}
        url.scheme: {"stringValue":"https"}
        url.path: {"stringValue":"/a\"\u0001b"}
        server.address: {"stringValue":"app.example.com"}
        server.port: {"intValue":"8443"}
        client.address: {"stringValue":"192.0.2.1"}
        network.protocol.version: {"stringValue":"2"}
        user_agent.original: {"stringValue":"curl/8.5.0"}
        http.request.body.size: {"intValue":"10"}
        http.response.body.size: {"intValue":"2000"}
        http.response.status_code: {"intValue":"200"}
        serin.route: {"stringValue":"httproute/default/web"}
        serin.service: {"stringValue":"default/web"}
        serin.revision: {"stringValue":"v2"}
        serin.instance: {"stringValue":"127.0.0.1:9000"}
        serin.retries: {"intValue":"1"}"#]]
    .assert_eq(&attributes.join("\n"));
}

#[test]
fn a_span_is_an_error_when_the_gateway_or_the_instance_has_failed() {
    let brief = |change: fn(&mut Entry)| {
        let (body, attributes) = told(|ended| change(&mut ended.entry));
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let (name, flags, status) = (&span["name"], &span["flags"], &span["status"]["code"]);
        let special = ["error.type", "http.request.method_original"];
        let mut attributes = attributes;
        attributes.retain(|one| special.iter().any(|key| one.starts_with(key)));
        format!("{name} flags {flags} status {status} {attributes:?}")
    };
    let all = [
        brief(|entry| entry.status = Some(404)),
        brief(|entry| entry.status = Some(503)),
        brief(|entry| entry.outcome = Some(Outcome::Broken)),
        brief(|entry| (entry.status, entry.outcome) = (Some(504), Some(Outcome::Timeout))),
        brief(|entry| (entry.status, entry.outcome) = (Some(429), Some(Outcome::RateLimited))),
        brief(|entry| (entry.status, entry.outcome, entry.series) = (None, None, None)),
        brief(|entry| entry.method = "PURGE".parse().unwrap()),
        brief(|entry| entry.traced.span.as_mut().unwrap().parent = None),
    ];
    expect_test::expect![[r#"
        "POST httproute/default/web" flags 769 status null []
        "POST httproute/default/web" flags 769 status 2 ["error.type: {\"stringValue\":\"503\"}"]
        "POST httproute/default/web" flags 769 status 2 ["error.type: {\"stringValue\":\"broken\"}"]
        "POST httproute/default/web" flags 769 status 2 ["error.type: {\"stringValue\":\"timeout\"}"]
        "POST httproute/default/web" flags 769 status null ["error.type: {\"stringValue\":\"rate_limited\"}"]
        "POST" flags 769 status 2 ["error.type: {\"stringValue\":\"client_gone\"}"]
        "HTTP httproute/default/web" flags 769 status null ["http.request.method_original: {\"stringValue\":\"PURGE\"}"]
        "POST httproute/default/web" flags 257 status null []"#]].assert_eq(&all.join("\n"));
}
