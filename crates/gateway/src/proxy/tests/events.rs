//! A stream of events arrives event by event: the instance sends the next one only when the client has read the last one, so a proxy
//! that waits for more than it has stops here for good.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::world::{Gate, Upstream, read_head};
use super::{over_http2, serving};

const EVENTS: usize = 4;
/// Much longer than an event takes, so that nothing but a proxy that keeps one back is ever so late.
const TOO_LATE: Duration = Duration::from_secs(20);

/// How the instance says where its answer ends.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Chunks,
    Close,
    Length,
    Http2,
}

/// How the client asks.
#[derive(Clone, Copy, Debug)]
enum Front {
    /// A request that takes the short path.
    Get,
    /// One with a body, which takes the long one.
    Post,
    Http2,
}

fn event(number: usize) -> String {
    format!("data: {number}\n\n")
}

/// Sends one event for each permit.
async fn instance(behind: Behind, permits: Arc<Semaphore>) -> Upstream {
    Upstream::raw(move |mut stream, _| {
        let permits = Arc::clone(&permits);
        async move {
            if let Behind::Http2 = behind {
                return http2_instance(stream, permits).await;
            }
            read_head(&mut stream).await;
            let framing = match behind {
                Behind::Chunks => "transfer-encoding: chunked".to_owned(),
                Behind::Length => format!("content-length: {}", EVENTS * event(0).len()),
                Behind::Close | Behind::Http2 => "connection: close".to_owned(),
            };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for number in 0..EVENTS {
                permits.acquire().await.unwrap().forget();
                let event = event(number);
                let sent = match behind {
                    Behind::Chunks => format!("{:x}\r\n{event}\r\n", event.len()),
                    _ => event,
                };
                stream.write_all(sent.as_bytes()).await.unwrap();
            }
            if let Behind::Chunks = behind {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            // With something unread a close would be a reset.
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

async fn http2_instance(stream: tokio::net::TcpStream, permits: Arc<Semaphore>) {
    let service = service_fn(move |_: Request<Incoming>| {
        let permits = Arc::clone(&permits);
        let events = futures::stream::iter(0..EVENTS).then(move |number| {
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Frame::data(Bytes::from(event(number))))
            }
        });
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        let answer = answer.body(StreamBody::new(events)).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn asked(gate: &Gate, front: Front) -> Response<Incoming> {
    let request = match front {
        Front::Post => Request::post("/events").body(Full::from("from=0")),
        Front::Get => Request::get("/events").body(Full::default()),
        Front::Http2 => Request::get("http://app.example.com/events").body(Full::default()),
    };
    let mut request = request.unwrap();
    if let Front::Http2 = front {
        return gate.http2().await.send_request(request).await.unwrap();
    }
    let host = http::HeaderValue::from_static("app.example.com");
    request.headers_mut().insert(header::HOST, host);
    gate.http1().await.send_request(request).await.unwrap()
}

async fn one_by_one(front: Front, behind: Behind) {
    let permits = Arc::new(Semaphore::new(0));
    let upstream = instance(behind, Arc::clone(&permits)).await;
    let mut table = serving(&upstream);
    if let Behind::Http2 = behind {
        table = over_http2(table);
    }
    let gate = Gate::serving(table);
    // The head comes before any event.
    let asked = tokio::time::timeout(TOO_LATE, asked(&gate, front));
    let mut answer = asked
        .await
        .unwrap_or_else(|_| panic!("the head waits for events: {front:?}, {behind:?}"));
    for number in 0..EVENTS {
        permits.add_permits(1);
        let wanted = event(number);
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            let frame = tokio::time::timeout(TOO_LATE, answer.frame()).await;
            let frame =
                frame.unwrap_or_else(|_| panic!("an event is kept back: {front:?}, {behind:?}"));
            let frame = frame.unwrap().unwrap();
            seen.extend_from_slice(&frame.into_data().unwrap());
        }
        assert_eq!(String::from_utf8_lossy(&seen), wanted);
    }
    let rest = answer.collect().await.unwrap().to_bytes();
    assert_eq!(rest, Bytes::new());
}

#[tokio::test]
async fn each_event_arrives_before_the_next_one_is_sent() {
    for front in [Front::Get, Front::Post, Front::Http2] {
        for behind in [Behind::Chunks, Behind::Close, Behind::Length, Behind::Http2] {
            one_by_one(front, behind).await;
        }
    }
}
