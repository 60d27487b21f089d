//! The bounds on what clients may take: time, connections, requests. Each of these tests fails when its bound is taken away. Most run on
//! a virtual clock, on which a wait without end is an hour.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::bad_input::frames::{PREFACE, frame};
use super::world::{Client, Desk, Gate, Upstream, read_head};
use super::{requests, serving, without_instances};
use crate::config::GatewayConfig;
use crate::observers::Observers;
use crate::ports::{Door, Scheme, accepted};
use crate::process::sync_until;
use crate::proxy::{ClientIo, Phase, Settings, converse};
use crate::table::RouteTable;
use crate::waiting::soon;
use crate::{admin, worker};

const HOUR: Duration = Duration::from_secs(3600);

/// What a client says at once, and what byte by byte, with so many seconds before each.
type Says = (&'static [u8], &'static [u8], u64);

/// Seconds until the gateway leaves a client.
async fn left_after(
    change: impl FnOnce(&mut Settings),
    scheme: Scheme,
    (first, rest, period): Says,
) -> u64 {
    let desk = Desk::with(change, RouteTable::default());
    let began = Instant::now();
    let (mut client, served) = desk.client(scheme).await;
    client.write_all(first).await.unwrap();
    let dripping = tokio::spawn(async move {
        for byte in rest {
            tokio::time::sleep(Duration::from_secs(period)).await;
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        // It would stay for ever.
        std::future::pending::<()>().await;
    });
    let _ = tokio::time::timeout(HOUR, served).await;
    dripping.abort();
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_little_by_little_is_left() {
    let hello = &[
        22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let head = b"GET / HTTP/1.1\r\nhost: a\r\n";
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n";
    let cases: [(&str, Scheme, Says, u64); 7] = [
        ("says nothing", Scheme::Http, (b"", b"", 1), 60),
        (
            "is slow with the preface",
            Scheme::Http,
            (b"", PREFACE, 5),
            60 + 5,
        ),
        (
            "is slow with its head",
            Scheme::Http,
            (b"", head, 5),
            60 + 5,
        ),
        (
            "is slow with its second head",
            Scheme::Http,
            (post, head, 5),
            60,
        ),
        (
            "is slow with the PROXY header",
            Scheme::Http,
            (b"", line, 1),
            10 + 1,
        ),
        (
            "says nothing after the PROXY header",
            Scheme::Http,
            (line, b"", 1),
            60,
        ),
        (
            "is slow with the handshake",
            Scheme::Https,
            (b"", hello, 1),
            10 + 1,
        ),
    ];
    for (client, scheme, says, expected) in cases {
        let change = |settings: &mut Settings| {
            settings.proxy_protocol = client.contains("PROXY");
            settings.client_idle = Duration::from_secs(60);
            settings.rest_after = HOUR;
        };
        assert_eq!(
            left_after(change, scheme, says).await,
            expected,
            "one that {client}"
        );
    }
}

/// A request that is never answered, over HTTP/2.
fn head_of_stream(number: u32) -> Vec<u8> {
    frame(1, 5, number, b"\x82\x84\x86\x41\x01a")
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http2_that_gives_no_sign_of_life_is_left() {
    let never = Upstream::silent().await;
    let desk = Desk::with(|settings| settings.head_timeout = HOUR * 2, serving(&never));
    let began = Instant::now();
    let (mut client, served) = desk.client(Scheme::Http).await;
    let request = [PREFACE, &head_of_stream(1)].concat();
    client.write_all(&request).await.unwrap();
    let _ = tokio::time::timeout(HOUR, served).await;
    assert_eq!(began.elapsed().as_secs(), 30 + 20);
}

#[tokio::test]
async fn streams_beyond_the_most_of_a_connection_are_refused() {
    let never = Upstream::silent().await;
    let gate = Gate::serving(serving(&never));
    let mut stream = gate.stream().await;
    let heads: Vec<u8> = (0..200).flat_map(|n| head_of_stream(2 * n + 1)).collect();
    stream.write_all(&[PREFACE, &heads].concat()).await.unwrap();
    let mut refused = 0;
    while refused < 200 - 128 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        // RST_STREAM, REFUSED_STREAM: the client may ask again elsewhere.
        refused += usize::from(head[3] == 3 && payload == [0, 0, 0, 7]);
    }
    gate.until(|| gate.in_flight("w") == 128).await;
}

/// Whoever is beyond the most waits in the socket, and is served when another one has gone.
#[tokio::test(start_paused = true)]
async fn connections_beyond_the_most_wait_to_be_accepted() {
    let desk = Desk::with(|settings| settings.max_connections = 5, without_instances());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = std::collections::VecDeque::new();
    for _ in 0..40 {
        clients.push_back(TcpStream::connect(address).await.unwrap());
    }
    let (scheme, port) = (Scheme::Http, address.port());
    let accepting = worker::accept(desk.worker.clone(), listener, Door { scheme, port });
    let accepting = tokio::spawn(accepting);
    let living = || desk.pages.shared.gauges.connections.load(Ordering::Relaxed);
    while !clients.is_empty() {
        // On this clock that is over when there is nothing left to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(living(), clients.len().min(5));
        clients.pop_front();
    }
    accepting.abort();
}

#[tokio::test]
async fn requests_beyond_the_most_that_are_held_are_answered_at_once() {
    let gate = Gate::with(|settings| settings.max_held = 2, without_instances());
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = gate.client().await;
        held.push(tokio::spawn(async move { client.get("/").await.status }));
    }
    gate.until_held(2).await;
    let answer = gate.client().await.get("/").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint")
    );
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    let upstream = Upstream::saying("one").await;
    gate.swap(serving(&upstream));
    for client in held {
        assert_eq!(client.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn an_instance_that_never_answers_has_the_time_of_the_settings() {
    let never = Upstream::silent().await;
    let patience = Duration::from_millis(50);
    let gate = Gate::with(|settings| settings.head_timeout = patience, serving(&never));
    let mut client: Client = gate.client().await;
    let both = async { [client.get("/").await, client.post("/", "body").await] };
    for answer in soon("two answers", both).await {
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::GATEWAY_TIMEOUT, "timeout")
        );
    }
    assert_eq!(requests(&gate, "web").timeouts, 2);
}

/// What a client sends ahead stays in its socket, but for a little.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_on_before_it_is_answered_fills_nothing_but_the_socket() {
    const SOCKET: usize = 64 * 1024;
    let never = Upstream::silent().await;
    let desk = Desk::with(|settings| settings.head_timeout = HOUR * 2, serving(&never));
    let (mut near, far) = tokio::io::duplex(SOCKET);
    let served = tokio::spawn(converse(desk.somebody(), far, false));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut sent = 0;
    let flood = async {
        while sent < SOCKET * 64 {
            sent += near.write(request).await.unwrap();
        }
    };
    let ended = tokio::time::timeout(HOUR, flood).await;
    assert!(
        ended.is_err() && (SOCKET..SOCKET * 2).contains(&sent),
        "{sent} bytes were taken"
    );
    served.abort();
}

/// What an instance sends and a client of HTTP/2 does not take stays with the instance, however wide the client's windows are.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_over_http2_fills_little_more_than_its_buffer() {
    const BUFFER: u64 = 256 * 1024;
    let endless = Upstream::near(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        let mut written = stream.write_all(head).await;
        while written.is_ok() {
            written = stream.write_all(&[0; 16 * 1024]).await;
        }
    })
    .await;
    let desk = Desk::with(|_| {}, serving(&endless));
    let (mut near, far) = tokio::io::duplex(1024);
    let far = ClientIo::new(far, Bytes::new(), HOUR / 2);
    let served = tokio::spawn(converse(desk.somebody(), far, true));
    let wide = 0x3fff_ffff_u32.to_be_bytes();
    let windows = [
        frame(4, 0, 0, &[&[0, 4], &wide[..]].concat()),
        frame(8, 0, 0, &wide),
    ];
    let request = [PREFACE, &windows.concat(), &head_of_stream(1)].concat();
    near.write_all(&request).await.unwrap();
    tokio::time::timeout(HOUR, served).await.unwrap().unwrap();
    let all = desk.pages.registry.totals();
    let taken: u64 = all.iter().map(|s| s.counts.response_bytes).sum();
    assert!(
        (BUFFER..BUFFER + 128 * 1024).contains(&taken),
        "{taken} bytes were taken"
    );
}

/// The end of a connection has to be sent too, by TLS above all.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_end_of_its_connection_is_left() {
    let desk = Desk::with(|_| {}, without_instances());
    let (_near, far) = tokio::io::duplex(1);
    let mut unsent = tokio::io::BufWriter::new(far);
    unsent.write_all(b"more than goes").await.unwrap();
    let io = tokio::io::join(tokio::io::empty(), unsent);
    let began = Instant::now();
    let served = tokio::spawn(converse(desk.somebody(), io, false));
    let _ = tokio::time::timeout(HOUR, served).await;
    assert_eq!(began.elapsed().as_secs(), 1);
}

/// Of those that ask the admin socket nobody is answered before another one has gone, which one that says nothing does, and one
/// that takes nothing.
#[tokio::test(start_paused = true)]
async fn idle_connections_to_the_admin_pages_are_few_and_do_not_stay() {
    let flood = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    for says in [b"".as_slice(), &flood] {
        let desk = Desk::with(|_| {}, without_instances());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let listener = admin::Listener::Unix(UnixListener::bind(&path).unwrap());
        let serving = tokio::spawn(admin::serve(desk.pages.clone(), listener));
        let began = Instant::now();
        let mut idle = Vec::new();
        for _ in 0..32 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(says).await.unwrap();
            idle.push(stream);
        }
        let mut last = UnixStream::connect(&path).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        last.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(HOUR, last.read_to_string(&mut answer)).await;
        assert!(read.is_ok() && answer.ends_with("ok\n"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 30);
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_start_the_first_reading_of_the_api_is_not_waited_for_without_end() {
    let config = GatewayConfig {
        in_cluster: true,
        ..GatewayConfig::default()
    };
    let change = |settings: &mut Settings| {
        settings.hold = HOUR;
        settings.sync_until = sync_until(&config);
    };
    let desk = Desk::with(change, RouteTable::default());
    let (mut client, io) = tokio::io::duplex(1024);
    tokio::spawn(converse(desk.somebody(), io, false));
    let began = Instant::now();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(HOUR, client.read_to_string(&mut answer)).await;
    assert!(
        read.is_ok() && answer.starts_with("HTTP/1.1 404 "),
        "{answer}"
    );
    assert!(began.elapsed().as_secs() <= 10);
}

/// Descriptors are wanting for longer than an accept takes: a loop of accepts would do nothing else.
#[tokio::test(start_paused = true)]
async fn after_an_accept_that_failed_there_is_a_pause() {
    let began = Instant::now();
    let failed = std::io::Error::other("too many open files");
    assert_eq!(accepted::<()>(Err(failed)).await, None);
    assert_eq!(began.elapsed().as_millis(), 20);
}

/// An instance that has changed its protocol with a client, and neither of both ever ends.
#[tokio::test]
async fn a_connection_that_has_changed_its_protocol_ends_however_stubborn_its_sides_are() {
    let upstream = Upstream::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut stream = gate.stream().await;
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n";
    stream.write_all(head).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    gate.shared.phase.send_replace(Phase::Cutting);
    gate.until_drained("w").await;
}

#[tokio::test]
async fn a_line_of_the_access_log_has_no_more_than_the_beginning_of_a_long_path() {
    let home = tempfile::tempdir().unwrap();
    let config = crate::config::AccessLogConfig::default();
    let log = crate::access_log::AccessLog::start(home.path(), &config).unwrap();
    let observers = Observers {
        access_log: Some(log),
        spans: None,
    };
    let gate = Gate::with(|s| s.observers = Arc::new(observers), RouteTable::default());
    let path = format!("/{}", "x".repeat(20_000));
    let request = Request::get(path).header("host", "a");
    let request = request.body(Full::default()).unwrap();
    gate.client().await.send(request).await;
    let read = || std::fs::read_to_string(home.path().join("logs/access.log"));
    gate.until(|| read().is_ok_and(|text| text.ends_with('\n')))
        .await;
    let line: serde_json::Value = serde_json::from_str(&read().unwrap()).unwrap();
    assert_eq!(line["path"].as_str().unwrap().len(), 2048);
}
