//! Spans of requests, from the client to the collector.

use super::*;
use crate::config::OtlpConfig;
use crate::observers::Observers;
use crate::spans::Spans;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn client_gateway_and_instance_are_steps_of_one_trace() {
    let (told, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let collector = Upstream::with(move |request| {
        let told = told.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            told.send(body).unwrap();
            Response::new(Full::from("{}"))
        }
    })
    .await;
    let web = Upstream::with(|request| async move {
        let trace = request.headers().get("traceparent").cloned();
        let trace = trace.map(|t| t.to_str().unwrap().to_owned());
        Response::new(Full::from(trace.unwrap_or_default()))
    })
    .await;
    let config = OtlpConfig::new(format!("http://{}", collector.address));
    let (spans, exporter) = Spans::new(&config, std::path::Path::new("/nowhere")).unwrap();
    let exporting = exporter.start();
    let set = |settings: &mut Settings| {
        settings.observers = Arc::new(Observers {
            access_log: None,
            spans: Some(spans),
        });
    };
    let table = serving(&web);
    let gate = Gate::with(set, table);
    let mut client = gate.client().await;
    let mut sent = async |traceparent: &str| {
        let request = Request::get("/a?token=secret").header("host", "app.example.com");
        let request = request.header("traceparent", traceparent);
        let answer = client.send(request.body(Full::default()).unwrap()).await;
        answer.text()
    };
    let unrecorded = format!("00-{TRACE}-00f067aa0ba902b7-00");
    assert_eq!(sent(&unrecorded).await, unrecorded);
    let passed = sent(&format!("00-{TRACE}-00f067aa0ba902b7-01")).await;
    assert_eq!(requests(&gate, "web").status[1], 2);
    drop(gate);
    exporting.finish().await;
    let body = soon("the spans", bodies.recv()).await.unwrap();
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 1);
    let span = &spans[0];
    let shown = [&span["traceId"], &span["parentSpanId"], &span["name"]];
    assert_eq!(
        shown,
        [TRACE, "00f067aa0ba902b7", "GET httproute/default/web"]
    );
    let own = span["spanId"].as_str().unwrap();
    assert_eq!(passed, format!("00-{TRACE}-{own}-01"));
    let attributes = span["attributes"].to_string();
    let instance = web.address.to_string();
    for told in [
        r#""key":"serin.revision","value":{"stringValue":"web"}"#,
        &instance,
    ] {
        assert!(attributes.contains(told), "{attributes}");
    }
    assert!(!attributes.contains("secret"), "{attributes}");
}
