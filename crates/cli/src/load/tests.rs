//! The generator against servers of this process: one that behaves and several that do not.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::outcome::Fault;
use super::*;
use crate::waiting::soon;

/// What a test server does with a connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers every request as this version.
    Answer(&'static str),
    /// Answers in place of the application, as the gateway does.
    AnswerAsGateway,
    /// Closes the connection in the middle of the answer.
    BreakOff,
    /// Reads and never answers.
    Ignore,
}

struct Server {
    address: SocketAddr,
    /// One permit for each request that was read.
    asked: Arc<Semaphore>,
    connections: Arc<AtomicUsize>,
    _accepting: tokio_util::task::AbortOnDropHandle<()>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Semaphore::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&asked), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(stream, manner, Arc::clone(&told)));
            }
        });
        Self {
            address,
            asked,
            connections,
            _accepting: tokio_util::task::AbortOnDropHandle::new(accepting),
        }
    }

    fn load(&self) -> LoadSpec {
        LoadSpec {
            rate_per_second: 500.0,
            connections: 4,
            expect_version: true,
            ..LoadSpec::new(&format!("http://{}/x", self.address)).unwrap()
        }
    }

    async fn until_asked(&self, requests: u32) {
        let what = format!("{requests} requests");
        let permits = soon(&what, self.asked.acquire_many(requests)).await;
        permits.unwrap().forget();
    }
}

async fn stopped(load: Load) -> Report {
    soon("the end of the load", load.stop()).await
}

async fn serve(mut stream: TcpStream, manner: Manner, asked: Arc<Semaphore>) {
    let mut unread = Vec::new();
    while read_head(&mut stream, &mut unread).await {
        asked.add_permits(1);
        let answer = match manner {
            Manner::Answer(version) => {
                format!("HTTP/1.1 200 OK\r\nx-demo-version: {version}\r\ncontent-length: 2\r\n\r\nok")
            }
            Manner::AnswerAsGateway => {
                "HTTP/1.1 503 Service Unavailable\r\nx-serin-gateway: no-endpoint\r\ncontent-length: 0\r\n\r\n"
                    .to_owned()
            }
            Manner::BreakOff => {
                "HTTP/1.1 200 OK\r\nx-demo-version: v1\r\ncontent-length: 9\r\n\r\nok".to_owned()
            }
            Manner::Ignore => continue,
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if matches!(manner, Manner::BreakOff) {
            return;
        }
    }
}

/// Reads one request without a body; `false` at the end of the connection.
async fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> bool {
    loop {
        if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            unread.drain(..end + 4);
            return true;
        }
        match stream.read_buf(unread).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn only_fault(report: &Report) -> (Fault, String) {
    assert_eq!(report.total.faults.len(), 1, "{report:?}");
    assert_eq!(report.total.lost(), report.total.requests, "{report:?}");
    let failure = &report.failures[0];
    (failure.fault, failure.detail.clone())
}

#[tokio::test]
async fn every_request_of_the_schedule_is_counted_once() {
    let server = Server::start(Manner::Answer("v1")).await;
    let load = Load::start(server.load()).await.unwrap();
    let observer = load.observer();
    server.until_asked(50).await;
    observer.mark("second half");
    server.until_asked(50).await;
    let seen = observer.report().total.requests;
    let report = stopped(load).await;
    assert!((96..=report.total.requests).contains(&seen), "{seen}");
    assert_eq!(report.total.lost(), 0, "{report:?}");
    assert_eq!(report.total.versions["v1"].answers, report.total.requests);
    assert_eq!(report.total.share("v1"), Some(1.0));
    // Number 0 is due at once, so one more request is due than full intervals have passed.
    let due = (report.elapsed.as_secs_f64() * 500.0).floor() as u64 + 1;
    assert_eq!(report.total.requests, due);
    let half = &report.segments[0];
    assert_eq!(half.name, "second half");
    assert!(half.tally.requests < report.total.requests);
    assert!(
        server.connections.load(Ordering::Relaxed) <= 4,
        "connections are kept"
    );
}

#[tokio::test]
async fn without_keep_alive_every_request_has_its_own_connection() {
    let server = Server::start(Manner::Answer("v1")).await;
    let spec = LoadSpec {
        keep_alive: false,
        ..server.load()
    };
    let load = Load::start(spec).await.unwrap();
    server.until_asked(20).await;
    let report = stopped(load).await;
    assert_eq!(report.total.lost(), 0, "{report:?}");
    assert_eq!(
        server.connections.load(Ordering::Relaxed) as u64,
        report.total.requests
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_lost_to_the_delivery() {
    let server = Server::start(Manner::BreakOff).await;
    let load = Load::start(server.load()).await.unwrap();
    server.until_asked(5).await;
    let (fault, detail) = only_fault(&stopped(load).await);
    assert_eq!(fault, Fault::Broken, "{detail}");
}

#[tokio::test]
async fn an_answer_of_the_gateway_is_lost_to_the_delivery() {
    let server = Server::start(Manner::AnswerAsGateway).await;
    let load = Load::start(server.load()).await.unwrap();
    server.until_asked(5).await;
    let (fault, detail) = only_fault(&stopped(load).await);
    assert_eq!(fault, Fault::GatewayAnswer);
    assert_eq!(detail, "status 503 by the gateway: no-endpoint");
}

#[tokio::test]
async fn a_refused_connection_is_lost_to_the_delivery() {
    // Nobody listens on a port that nobody else can have meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let spec = LoadSpec {
        rate_per_second: 100.0,
        ..LoadSpec::new(&format!("http://{address}")).unwrap()
    };
    let load = Load::start(spec).await.unwrap();
    let (fault, detail) = only_fault(&stopped(load).await);
    assert_eq!(fault, Fault::ConnectError);
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_stall_is_counted_for_every_request_that_was_due_in_it() {
    let server = Server::start(Manner::Ignore).await;
    let spec = LoadSpec {
        connections: 2,
        timeout: Duration::from_millis(100),
        ..server.load()
    };
    let load = Load::start(spec).await.unwrap();
    // Both connections are stuck for far longer than requests are apart.
    server.until_asked(4).await;
    let report = stopped(load).await;
    assert_eq!(only_fault(&report).0, Fault::Timeout);
    let due = (report.elapsed.as_secs_f64() * 500.0).floor() as u64 + 1;
    assert_eq!(report.total.requests, due);
    assert!(due > 40, "{due}");
}

#[tokio::test]
async fn a_load_that_cannot_be_made_does_not_start() {
    let spec = LoadSpec {
        connections: 0,
        ..LoadSpec::new("http://127.0.0.1:1").unwrap()
    };
    let problem = Load::start(spec).await.unwrap_err();
    assert_eq!(
        problem.to_string(),
        "the connections are 0, but must be from 1 to 10000"
    );
}
