//! The bounds on what instances may take, and on what is kept for them. Each of these tests fails when its bound is taken away.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::super::pool::{Connection, Pool};
use super::super::wire::Wire;
use super::world::{Desk, Gate, Upstream, copied, read_head};
use super::{over_http2, requests, serving};
use crate::ports::Scheme;
use crate::table::RouteTable;
use crate::waiting::soon;
use crate::worker;

const HOUR: Duration = Duration::from_secs(3600);

/// An idle connection of the pool, and the end of it that its instance has.
async fn idle(pool: &Pool, endpoint: u64) -> std::net::TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let wire = Box::new(Wire::new(stream.unwrap()));
    pool.put(Connection::of_wire(wire, endpoint));
    accepted
}

#[tokio::test(start_paused = true)]
async fn few_idle_connections_are_kept_and_not_for_long() {
    const MOST: usize = 128;
    let desk = Desk::with(|_| {}, RouteTable::default());
    let keeping = tokio::spawn(worker::keep_pool(Arc::clone(&desk.worker)));
    let pool = &desk.worker.pool;
    // One that was closed has ended; from the others nothing has come yet.
    let is_kept = |stream: &std::net::TcpStream| !matches!(stream.peek(&mut [0]), Ok(0));
    let mut of_one = Vec::new();
    for _ in 0..MOST + 10 {
        of_one.push(idle(pool, 1).await);
    }
    let kept = || of_one.iter().filter(|stream| is_kept(stream)).count();
    assert_eq!(kept(), MOST);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(kept(), MOST);
    let of_another = idle(pool, 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(kept(), 0);
    pool.keep_only(&[2].into_iter().collect());
    assert!(is_kept(&of_another));
    // The next table does not have its instance.
    desk.pages.shared.swapped.send_modify(|table| *table += 1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!is_kept(&of_another));
    keeping.abort();
}

/// Whether the system has a timer for each connection to this port, and for how many.
fn looked_after(port: u16) -> (bool, usize) {
    // `sl local remote state tx:rx timer:when …`; 01 is an established connection, and 02 the timer that asks for a sign of life.
    let all = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let connections: Vec<Vec<&str>> = all
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|fields: &Vec<&str>| fields[2].ends_with(&remote) && fields[3] == "01")
        .collect();
    let has_timer = |fields: &Vec<&str>| fields[5].starts_with("02:");
    (connections.iter().all(has_timer), connections.len())
}

#[tokio::test]
async fn the_end_of_a_machine_is_noticed() {
    let upstream = Upstream::saying("one").await;
    let gate = Gate::serving(serving(&upstream));
    let mut client = gate.client().await;
    assert_eq!(client.get("/").await.text(), "one");
    // An upload goes over a connection of its own.
    assert_eq!(client.post("/", "body").await.text(), "one");
    let port = upstream.address.port();
    gate.until(|| looked_after(port) == (true, 2)).await;
}

/// Answers over HTTP/2; to `/never` not at all.
async fn http2(head: &'static str) -> Upstream {
    Upstream::raw(move |stream, requests| async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            requests.fetch_add(1, Ordering::Relaxed);
            async move {
                if request.uri().path() == "/never" {
                    std::future::pending::<()>().await;
                }
                let answer = Response::builder().header("x", head);
                answer.body(Full::<Bytes>::default())
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

#[tokio::test]
async fn another_connection_is_opened_when_one_of_http2_has_enough_to_do() {
    let upstream = http2("").await;
    let gate = Gate::serving(over_http2(serving(&upstream)));
    let sender = gate.http2().await;
    let ask = |path: &str| {
        let request = Request::get(format!("http://a{path}")).body(Full::default());
        let mut sender = sender.clone();
        async move { sender.send_request(request.unwrap()).await }
    };
    assert_eq!(ask("/").await.unwrap().status(), StatusCode::OK);
    let mut asked = Vec::new();
    for (in_all, connections) in [(100, 1), (101, 2)] {
        while asked.len() < in_all {
            asked.push(tokio::spawn(ask("/never")));
        }
        gate.until(|| upstream.requests() == 1 + in_all).await;
        assert_eq!(upstream.connections(), connections);
    }
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_http2_that_gives_no_sign_of_life_is_given_up() {
    let dead = Upstream::raw(|mut stream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let desk = Desk::with(|s| s.head_timeout = HOUR * 2, over_http2(serving(&dead)));
    let (mut client, served) = desk.client(Scheme::Http).await;
    let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let began = Instant::now();
    client.write_all(request).await.unwrap();
    let head = tokio::time::timeout(HOUR, read_head(&mut client)).await;
    assert!(head.unwrap().starts_with("HTTP/1.1 502 "));
    assert_eq!(began.elapsed().as_secs(), 10 + 5);
    served.abort();
}

/// As large a head as nobody needs: one that was read whole would be passed on.
#[tokio::test]
async fn a_head_that_is_too_large_is_no_answer() {
    static LARGE: [u8; 200_000] = [b'y'; 200_000];
    let large = std::str::from_utf8(&LARGE).unwrap();
    let over_http1 = Upstream::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: ")
            .await;
        let _ = stream.write_all(&LARGE).await;
        let _ = stream.write_all(b"\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let h2c = http2(large).await;
    for table in [serving(&over_http1), over_http2(serving(&h2c))] {
        let gate = Gate::serving(table);
        let mut client = gate.client().await;
        for answer in [client.get("/").await, client.post("/", "body").await] {
            assert_eq!(
                (answer.status, answer.reason()),
                (StatusCode::BAD_GATEWAY, "broken")
            );
        }
        assert_eq!(requests(&gate, "web").broken, 2);
    }
}

/// What comes behind an answer belongs to nobody: the next request gets its own.
#[tokio::test]
async fn an_instance_that_says_too_much_is_not_believed_again() {
    let upstream = Upstream::raw(|mut stream, requests| async move {
        read_head(&mut stream).await;
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut client = gate.client().await;
    for number in 0..10 {
        let answer = match number % 2 {
            0 => client.get("/").await,
            _ => client.post("/", "body").await,
        };
        assert_eq!(answer.text(), number.to_string());
    }
    assert_eq!(upstream.connections(), 10);
}

#[tokio::test]
async fn copies_beyond_the_most_are_not_made() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let shadow = Upstream::with(move |request| {
        told.lock().unwrap().push(request.uri().path().to_owned());
        async { Response::new(Full::default()) }
    })
    .await;
    let web = Upstream::saying("web").await;
    let gate = Gate::serving(copied(&web, &shadow));
    let copies: &AtomicUsize = &gate.shared.gauges.copies;
    let mut client = gate.client().await;
    // As many as there may be are under way elsewhere.
    copies.fetch_add(1024, Ordering::Relaxed);
    assert_eq!(client.get("/without").await.text(), "web");
    copies.fetch_sub(1024, Ordering::Relaxed);
    assert_eq!(client.get("/with").await.text(), "web");
    gate.until(|| requests(&gate, "shadow").requests() == 1)
        .await;
    gate.until(|| copies.load(Ordering::Relaxed) == 0).await;
    assert_eq!(*seen.lock().unwrap(), ["/with"]);
}

#[tokio::test]
async fn a_copy_that_does_not_keep_up_with_a_body_is_cut_off() {
    let web = Upstream::with(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::from(body.len().to_string()))
    })
    .await;
    let (go, (tell, mut told)) = (Arc::new(Notify::new()), mpsc::channel(1));
    let wait = Arc::clone(&go);
    let shadow = Upstream::raw(move |mut stream, _| {
        let (wait, tell) = (Arc::clone(&wait), tell.clone());
        async move {
            wait.notified().await;
            let mut seen = Vec::new();
            let _ = stream.read_to_end(&mut seen).await;
            tell.send(seen.len()).await.unwrap();
        }
    })
    .await;
    let gate = Gate::serving(copied(&web, &shadow));
    let large = "x".repeat(64 * 1024 * 1024);
    let answer = gate.client().await.post("/", &large).await;
    assert_eq!(answer.text(), large.len().to_string());
    go.notify_one();
    let seen = soon("the end of the copy", told.recv()).await.unwrap();
    assert!(seen < large.len(), "{seen} bytes were kept for the copy");
    gate.until(|| requests(&gate, "shadow").broken == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_never_answered_is_given_up() {
    let never = Upstream::silent().await;
    let desk = Desk::with(|s| s.head_timeout = HOUR * 2, copied(&never, &never));
    let (mut client, served) = desk.client(Scheme::Http).await;
    let began = Instant::now();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let timeouts = || {
        let all = desk.pages.registry.totals();
        let copies = all.iter().filter(|s| s.key.revision == "shadow");
        copies.map(|s| s.counts.timeouts).sum::<u64>()
    };
    while timeouts() == 0 && began.elapsed() < HOUR {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((30..=31).contains(&began.elapsed().as_secs()));
    served.abort();
}
