//! The proxy with real sockets: workers in front, upstreams of this process behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serin_api::traffic::Counts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::Settings;
use world::{Answer, Client, Gate, Upstream, rule, service, table};

use crate::table::{HeaderChanges, Protocol, RouteTable};
use crate::waiting::soon;

mod bad_input;
mod drains;
mod events;
mod exact;
mod far_side;
mod instances;
mod limits;
mod logs;
mod policies;
mod protocols;
mod rests;
mod secure;
mod simple;
mod spans;
mod weights;
mod world;

/// Every request goes to this one.
fn serving(upstream: &Upstream) -> RouteTable {
    table(
        vec![rule(&[("web", 1)])],
        vec![service("web", &[("w", upstream)])],
    )
}

/// Every request goes to a Service that has no instance.
fn without_instances() -> RouteTable {
    table(vec![rule(&[("web", 1)])], vec![service("web", &[])])
}

/// With instances that speak HTTP/2.
fn over_http2(mut table: RouteTable) -> RouteTable {
    for entry in table.services.values_mut() {
        entry.ports[0].protocol = Protocol::Http2;
    }
    table
}

fn requests(gate: &Gate, revision: &str) -> Counts {
    let all = gate.registry.totals();
    let mut sum = Counts::default();
    for series in all.iter().filter(|s| s.key.revision == revision) {
        sum.add(&series.counts);
    }
    sum
}

#[tokio::test]
async fn a_split_is_exact_and_every_request_is_counted_once() {
    let (stable, canary) = (
        Upstream::saying("stable").await,
        Upstream::saying("canary").await,
    );
    let gate = Gate::serving(table(
        vec![rule(&[("stable", 90), ("canary", 10), ("off", 0)])],
        vec![
            service("stable", &[("s1", &stable)]),
            service("canary", &[("c1", &canary)]),
            service("off", &[("o1", &canary)]),
        ],
    ));
    let mut client = gate.client().await;
    let mut bodies = std::collections::BTreeMap::new();
    for _ in 0..1000 {
        let answer = client.get("/").await;
        *bodies.entry(answer.text()).or_insert(0) += 1;
    }
    assert_eq!(
        bodies,
        [("canary".to_owned(), 100), ("stable".to_owned(), 900)].into()
    );
    assert_eq!(requests(&gate, "stable").status, [0, 900, 0, 0, 0]);
    assert_eq!(requests(&gate, "canary").status, [0, 100, 0, 0, 0]);
    assert_eq!(requests(&gate, "stable").latency.iter().sum::<u64>(), 900);
    assert_eq!(requests(&gate, "off").requests(), 0);
    assert_eq!((stable.requests(), canary.requests()), (900, 100));
    // Keep-alive: far fewer connections than requests.
    assert!(
        stable.connections() <= 2,
        "{} connections",
        stable.connections()
    );
}

#[tokio::test]
async fn headers_of_one_hop_stay_and_the_client_is_named() {
    let echo = Upstream::echo().await;
    let mut changed = rule(&[("web", 1)]);
    changed.headers = HeaderChanges {
        set: vec![("x-set".into(), "new".into())],
        add: vec![("x-add".into(), "two".into())],
        remove: vec!["x-remove".into()],
    };
    let gate = Gate::serving(table(vec![changed], vec![service("web", &[("w1", &echo)])]));
    let mut client = gate.client().await;
    let request = Request::get("/a?b=c")
        .header("host", "app.example.com")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("x-forwarded-for", "10.1.1.1")
        .header("x-set", "old")
        .header("x-add", "one")
        .header("x-remove", "gone")
        .header("via", "1.1 edge");
    let answer = client.send(request.body(Full::default()).unwrap()).await;
    expect_test::expect![[r#"
        GET /a?b=c
        host: app.example.com
        via: 1.1 edge
        x-add: one
        x-add: two
        x-forwarded-for: 127.0.0.1
        x-forwarded-host: app.example.com
        x-forwarded-proto: http
        x-set: new

    "#]]
    .assert_eq(&answer.text());
    let names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["server", "content-length"]);
}

#[tokio::test]
async fn endpoints_come_and_go_under_load_and_no_request_is_lost() {
    let gate = Arc::new(Gate::serving(RouteTable::default()));
    let first = Upstream::saying("v0").await;
    let serve = |upstream: &Upstream, instance: &str| {
        table(
            vec![rule(&[("web", 1)])],
            vec![service("web", &[(instance, upstream)])],
        )
    };
    gate.swap(serve(&first, "i0"));
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = Vec::new();
    for worker in 0..8 {
        let (gate, stop) = (Arc::clone(&gate), Arc::clone(&stop));
        load.push(tokio::spawn(async move {
            let mut client = gate.client().await;
            let mut bad = Vec::new();
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = match worker % 2 {
                    0 => client.get("/").await,
                    _ => client.post("/", "body").await,
                };
                count += 1;
                if answer.status != StatusCode::OK {
                    bad.push(answer.text());
                }
            }
            (count, bad)
        }));
    }
    let mut current = ("i0".to_owned(), first);
    for number in 1..30 {
        let instance = format!("i{number}");
        let next = Upstream::saying("next").await;
        gate.until(|| current.1.requests() > 20).await;
        gate.swap(serve(&next, &instance));
        gate.until_drained(&current.0).await;
        // Nothing comes any more, so it may die the hard way.
        current.1.kill();
        current = (instance, next);
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for task in load {
        let (count, bad) = task.await.unwrap();
        assert_eq!(bad, Vec::<String>::new());
        total += count;
    }
    assert!(total > 0);
    let counted = requests(&gate, "web");
    assert_eq!((counted.status[1], counted.failures()), (total, 0));
}

#[tokio::test]
async fn a_connect_failure_is_tried_elsewhere_whatever_the_method() {
    let (dead, alive) = (Upstream::saying("dead").await, Upstream::echo().await);
    dead.kill();
    let gate = Gate::serving(table(
        vec![rule(&[("web", 1)])],
        vec![service("web", &[("d", &dead), ("a", &alive)])],
    ));
    let mut client = gate.client().await;
    for _ in 0..50 {
        let answer = client.post("/", "the whole body").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.text().ends_with("the whole body"));
    }
    assert_eq!(requests(&gate, "web").status[1], 50);
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_gateway_says_so_after_the_bound() {
    let dead = Upstream::saying("dead").await;
    dead.kill();
    let gate = Gate::with_hold(
        Duration::from_millis(120),
        table(
            vec![rule(&[("web", 1)])],
            vec![service("web", &[("d", &dead)])],
        ),
    );
    let answer = gate.client().await.post("/", "x").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::BAD_GATEWAY, "connect")
    );
    assert_eq!(requests(&gate, "").connect_failures, 1);
    // At once, each 50 ms, and at the end.
    let tries = gate.shared.gauges.retries.load(Ordering::Relaxed);
    assert!((1..=4).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_used() {
    let (closed, mut closes) = mpsc::channel(1);
    let upstream = Upstream::raw(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            world::read_head(&mut stream).await;
            // It promises to stay and goes.
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut client = gate.client().await;
    for _ in 0..100 {
        let answer = client.post("/", "").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "ok")
        );
        soon("the end of a connection", closes.recv())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_never_came_is_asked_for_once_more_only_when_that_is_safe() {
    let good = Upstream::saying("good").await;
    let bad = Upstream::dying().await;
    let gate = Gate::serving(table(
        vec![rule(&[("web", 1)])],
        vec![service("web", &[("b", &bad), ("g", &good)])],
    ));
    let mut client = gate.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, StatusCode::OK);
    }
    assert_eq!(requests(&gate, "web").failures(), 0);
    let mut broken = 0;
    for _ in 0..10 {
        let answer = client.post("/", "x").await;
        if answer.status == StatusCode::BAD_GATEWAY {
            assert_eq!(answer.reason(), "broken");
            broken += 1;
        }
    }
    assert!(broken > 0);
    assert_eq!(requests(&gate, "web").broken, broken);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_never_mixed() {
    let half = Upstream::raw(|mut stream, _| async move {
        world::read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .await
            .unwrap();
    })
    .await;
    let gate = Gate::serving(table(
        vec![rule(&[("web", 1)])],
        vec![service("web", &[("h", &half)])],
    ));
    let text = gate.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("half"),
        "{text}"
    );
    assert_eq!(requests(&gate, "web").broken, 1);
}

#[tokio::test]
async fn garbage_and_silence_get_an_answer() {
    let garbage = Upstream::raw(|mut stream, _| async move {
        world::read_head(&mut stream).await;
        stream
            .write_all(b"\x16\x03\x01 this is no http\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let silent = Upstream::raw(|mut stream, _| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let mut slow = rule(&[("silent", 1)]);
    slow.timeout_ms = Some(50);
    slow.index = 1;
    slow.matches[0].path = crate::table::PathMatch::Prefix("/silent".into());
    let gate = Gate::serving(table(
        vec![rule(&[("garbage", 1)]), slow],
        vec![
            service("garbage", &[("g", &garbage)]),
            service("silent", &[("s", &silent)]),
        ],
    ));
    let mut client = gate.client().await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::BAD_GATEWAY, "broken")
    );
    let answer = client.get("/silent").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "timeout")
    );
    assert_eq!(
        (
            requests(&gate, "garbage").broken,
            requests(&gate, "silent").timeouts
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_drain_waits_for_the_request_in_flight_and_lets_no_new_one_in() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let slow = Upstream::with(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Response::new(Full::new(Bytes::from_static(b"slow")))
        }
    })
    .await;
    let fast = Upstream::saying("fast").await;
    let of = |upstream: &Upstream, instance: &str| {
        table(
            vec![rule(&[("web", 1)])],
            vec![service("web", &[(instance, upstream)])],
        )
    };
    let gate = Gate::serving(of(&slow, "old"));
    let mut waiting = gate.client().await;
    let answer = tokio::spawn(async move { waiting.get("/").await.text() });
    soon("the request", arrived.notified()).await;
    gate.swap(of(&fast, "new"));
    assert_eq!(gate.in_flight("old"), 1);
    for _ in 0..20 {
        assert_eq!(gate.client().await.get("/").await.text(), "fast");
    }
    assert_eq!(gate.in_flight("old"), 1);
    go.notify_one();
    gate.until_drained("old").await;
    assert_eq!(answer.await.unwrap(), "slow");
    assert_eq!(slow.requests(), 1);
}

#[tokio::test]
async fn requests_are_held_until_an_instance_is_ready() {
    let gate = Arc::new(Gate::serving(without_instances()));
    let mut held = gate.client().await;
    let answer = tokio::spawn(async move { held.post("/", "kept").await });
    gate.until_held(1).await;
    let echo = Upstream::echo().await;
    gate.swap(serving(&echo));
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().ends_with("kept"));
    assert_eq!(requests(&gate, "").no_endpoint, 0);
}

#[tokio::test]
async fn when_no_instance_gets_ready_the_client_is_told_when_to_come_again() {
    let gate = Gate::with_hold(Duration::from_millis(20), without_instances());
    let mut client = gate.client().await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint")
    );
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(requests(&gate, "").no_endpoint, 1);
    gate.swap(table(vec![rule(&[("missing", 1)])], vec![]));
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::INTERNAL_SERVER_ERROR, "no-backend")
    );
    gate.swap(RouteTable::default());
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::NOT_FOUND, "no-route")
    );
}

#[tokio::test]
async fn after_a_start_a_host_without_a_route_waits_for_the_first_reading_of_the_api() {
    let soon = Some(std::time::Instant::now() + Duration::from_secs(20));
    let gate = Arc::new(Gate::with(|s| s.sync_until = soon, RouteTable::default()));
    let mut client = gate.client().await;
    let answer = tokio::spawn(async move { client.post("/", "kept").await });
    gate.until_held(1).await;
    let echo = Upstream::echo().await;
    gate.swap(serving(&echo));
    assert!(answer.await.unwrap().text().ends_with("kept"));
    // Once it was read, what has no route has none.
    gate.swap(RouteTable::default());
    gate.shared.is_live.store(true, Ordering::SeqCst);
    assert_eq!(gate.client().await.get("/").await.reason(), "no-route");
    // And nobody waits longer than the bound.
    let past = Some(std::time::Instant::now());
    let gate = Gate::with(|s| s.sync_until = past, RouteTable::default());
    assert_eq!(gate.client().await.get("/").await.reason(), "no-route");
}

#[tokio::test]
async fn a_client_that_leaves_is_no_error_of_the_application() {
    let arrived = Arc::new(Notify::new());
    let tell = Arc::clone(&arrived);
    let never = Upstream::with(move |_| {
        tell.notify_one();
        std::future::pending()
    })
    .await;
    let gate = Gate::serving(serving(&never));
    let mut stream = gate.stream().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    soon("the request", arrived.notified()).await;
    drop(stream);
    gate.until(|| requests(&gate, "web").client_gone == 1).await;
    assert_eq!(
        (requests(&gate, "web").errors(), gate.in_flight("w")),
        (0, 0)
    );
}

#[tokio::test]
async fn bodies_of_any_size_stream_both_ways() {
    let echo = Upstream::with(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body))
    })
    .await;
    let gate = Gate::serving(serving(&echo));
    let mut client = gate.client().await;
    let big: String = "0123456789".repeat(500_000);
    for body in ["", "x", big.as_str()] {
        let answer = client.post("/", body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.text() == body);
    }
    let chunked = gate
        .raw(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .await;
    assert!(
        chunked.starts_with("HTTP/1.1 100 ") && chunked.ends_with("abcde"),
        "{chunked}"
    );
}

#[tokio::test]
async fn answers_without_a_body_end_at_once() {
    let upstream = Upstream::with(|request| async move {
        let mut response = Response::new(Full::default());
        match request.uri().path() {
            "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/304" => *response.status_mut() = StatusCode::NOT_MODIFIED,
            _ => *response.body_mut() = Full::new(Bytes::from_static(b"long body")),
        }
        response
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut client = gate.client().await;
    for (method, path, status) in [
        (Method::GET, "/204", 204),
        (Method::GET, "/304", 304),
        (Method::HEAD, "/", 200),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "a");
        let answer: Answer = client.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (status, "")
        );
    }
    let head = Request::head("/")
        .header("host", "a")
        .body(Full::default())
        .unwrap();
    assert_eq!(client.send(head).await.headers[header::CONTENT_LENGTH], "9");
    assert_eq!(requests(&gate, "web").status, [0, 3, 1, 0, 0]);
    assert_eq!(gate.in_flight("w"), 0);
}

#[tokio::test]
async fn a_connection_may_change_its_protocol() {
    let upstream = Upstream::raw(|mut stream, _| async move {
        let head = world::read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = [0_u8; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut stream = gate.stream().await;
    stream
        .write_all(
            b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await
        .unwrap();
    let head = world::read_head(&mut stream).await.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"),
        "{head}"
    );
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0_u8; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!((&back, gate.in_flight("w")), (b"ping", 1));
    drop(stream);
    gate.until(|| gate.in_flight("w") == 0).await;
    let counts = requests(&gate, "web");
    let bytes = (counts.request_bytes, counts.response_bytes);
    assert_eq!((counts.status[0], bytes), (1, (4, 4)));
}

#[tokio::test]
async fn while_it_leaves_every_answer_says_so() {
    let upstream = Upstream::saying("ok").await;
    let gate = Gate::serving(serving(&upstream));
    let mut client: Client = gate.client().await;
    assert!(
        !client
            .get("/")
            .await
            .headers
            .contains_key(header::CONNECTION)
    );
    gate.shared.phase.send_replace(super::Phase::Leaving);
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, &answer.headers[header::CONNECTION]),
        (StatusCode::OK, &"close".parse().unwrap())
    );
}
