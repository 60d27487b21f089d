//! The access log and the traces, over real sockets.

use super::*;
use crate::access_log::AccessLog;
use crate::config::AccessLogConfig;
use crate::observers::Observers;

#[tokio::test]
async fn each_request_is_one_line_that_says_what_became_of_it() {
    let home = tempfile::tempdir().unwrap();
    let web = Upstream::with(|request| async move {
        let trace = request.headers().get("traceparent").cloned();
        let trace = trace.map(|t| t.to_str().unwrap().to_owned());
        Response::new(Full::from(trace.unwrap_or_default()))
    })
    .await;
    let dying = Upstream::dying().await;
    let config = AccessLogConfig::default();
    let log = AccessLog::start(home.path(), &config).unwrap();
    let mut broken = rule(&[("dying", 1)]);
    broken.index = 1;
    broken.matches = vec![crate::table::RequestMatch::of_path(
        crate::table::PathMatch::Exact("/dies".into()),
    )];
    let mut all = rule(&[("web", 1)]);
    let host = crate::table::HostMatch::Exact("app.example.com".into());
    broken.hosts = vec![host.clone()];
    all.hosts = vec![host];
    let both = vec![
        service("web", &[("w1", &web)]),
        service("dying", &[("d1", &dying)]),
    ];
    let set = |settings: &mut Settings| {
        settings.observers = Arc::new(Observers {
            access_log: Some(log),
            spans: None,
        });
        settings.trace_share = Some(0);
    };
    let gate = Gate::with(set, table(vec![all, broken], both));
    let mut client = gate.client().await;
    let begun = client.post("/a?token=secret", "four").await.text();
    assert!(
        begun.starts_with("00-") && begun.ends_with("-00"),
        "{begun}"
    );
    client.post("/dies", "").await;
    let elsewhere = Request::get("/").header("host", "elsewhere");
    client.send(elsewhere.body(Full::default()).unwrap()).await;

    let path = home.path().join("logs/access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    gate.until(|| read().lines().count() == 3).await;
    let mut lines: Vec<serde_json::Value> = read()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        for changing in ["time", "duration_ms", "latency_ms", "instance"] {
            line.remove(changing);
        }
    }
    assert_eq!(lines[0]["trace_id"], begun[3..35]);
    lines[0].as_object_mut().unwrap().remove("trace_id");
    let trace = lines[1].as_object_mut().unwrap().remove("trace_id");
    assert!(trace.is_some());
    lines[2].as_object_mut().unwrap().remove("trace_id");
    let shown: Vec<_> = lines.iter().map(ToString::to_string).collect();
    expect_test::expect![[r#"
        {"client":"127.0.0.1","host":"app.example.com","method":"POST","path":"/a","protocol":"HTTP/1.1","request_bytes":4,"response_bytes":55,"retries":0,"revision":"web","route":"httproute/default/web","scheme":"http","service":"default/web","status":200}
        {"client":"127.0.0.1","failure":"broken","host":"app.example.com","method":"POST","path":"/dies","protocol":"HTTP/1.1","request_bytes":0,"response_bytes":0,"retries":0,"revision":"dying","route":"httproute/default/web","scheme":"http","service":"default/dying","status":502}
        {"client":"127.0.0.1","host":"elsewhere","method":"GET","path":"/","protocol":"HTTP/1.1","request_bytes":0,"response_bytes":0,"retries":0,"scheme":"http","status":404}"#]].assert_eq(&shown.join("\n"));
    let counts = requests(&gate, "web");
    assert_eq!((counts.request_bytes, counts.response_bytes), (4, 55));
}

#[tokio::test]
async fn a_connection_that_has_changed_its_protocol_is_one_line_with_its_bytes_once_it_has_ended() {
    let home = tempfile::tempdir().unwrap();
    let upstream = Upstream::raw(|mut stream, _| async move {
        world::read_head(&mut stream).await;
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut said = [0_u8; 4];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(b"and goodbye").await.unwrap();
    })
    .await;
    let log = AccessLog::start(home.path(), &AccessLogConfig::default()).unwrap();
    let table = serving(&upstream);
    let set = |settings: &mut Settings| {
        settings.observers = Arc::new(Observers {
            access_log: Some(log),
            spans: None,
        });
    };
    let gate = Gate::with(set, table);
    let mut stream = gate.stream().await;
    let head = b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\n";
    stream.write_all(head).await.unwrap();
    world::read_head(&mut stream).await;
    stream.write_all(b"ping").await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"and goodbye");
    drop(stream);
    let path = home.path().join("logs/access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    gate.until(|| !read().is_empty()).await;
    let line: serde_json::Value = serde_json::from_str(&read()).unwrap();
    let shown = ["status", "request_bytes", "response_bytes"].map(|field| &line[field]);
    assert_eq!(shown, [101, 4, 11]);
}
