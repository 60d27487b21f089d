//! What lives long: connections that change their protocol, streams of events, long uploads; and how each of them ends.

use std::time::Duration;

use http::{StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{Gate, Upstream, read_head};
use super::{requests, serving, without_instances};
use crate::proxy::Phase;

/// Changes to WebSocket and sends two frames and the beginning of a third one; the rest of it comes when the client has sent
/// something.
async fn websocket() -> Upstream {
    Upstream::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(b"\x81\x02hi\x81\x02ho\x81\x04wo").await.unwrap();
        let mut first = [0_u8; 8];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"rd").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await
}

async fn connected(gate: &Gate) -> TcpStream {
    let mut stream = gate.stream().await;
    let head =
        b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    let mut seen = [0_u8; 12];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"\x81\x02hi\x81\x02ho\x81\x04wo");
    stream
}

/// The close comes behind the frame that was under way, and the connection ends.
async fn is_closed_politely(mut stream: TcpStream) {
    // A frame of the client, masked, that the instance waits for.
    stream
        .write_all(b"\x82\x82\x00\x00\x00\x00ok")
        .await
        .unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"rd\x88\x02\x03\xe9");
}

#[tokio::test]
async fn a_websocket_to_an_instance_that_goes_is_closed_at_the_limit_of_the_drain() {
    let upstream = websocket().await;
    let gate = Gate::serving(serving(&upstream));
    let stream = connected(&gate).await;
    gate.swap(without_instances());
    assert_eq!(gate.in_flight("w"), 1);
    gate.end_drains();
    is_closed_politely(stream).await;
    gate.until_drained("w").await;
}

#[tokio::test]
async fn a_websocket_is_closed_when_the_gateway_goes() {
    let upstream = websocket().await;
    let gate = Gate::serving(serving(&upstream));
    let stream = connected(&gate).await;
    gate.shared.phase.send_replace(Phase::Cutting);
    is_closed_politely(stream).await;
    gate.until_drained("w").await;
}

/// Sends the beginning of an answer of that kind, and never its end.
async fn endless(kind: &'static str) -> Upstream {
    Upstream::raw(move |mut stream, _| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await
}

/// What a client has got when it is over.
async fn drained(kind: &'static str) -> (String, Gate) {
    let upstream = endless(kind).await;
    let gate = Gate::serving(serving(&upstream));
    let mut stream = gate.stream().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut stream).await;
    gate.swap(without_instances());
    gate.end_drains();
    gate.until_drained("w").await;
    // A stream of events leaves the connection as it is, so its end is not to be waited for.
    gate.shared.phase.send_replace(Phase::Closing);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    (String::from_utf8(rest).unwrap(), gate)
}

#[tokio::test]
async fn a_stream_of_events_ends_whole_and_any_other_answer_is_cut() {
    let (events, gate) = drained("text/event-stream; charset=utf-8").await;
    assert!(events.ends_with("data: 1\n\n\r\n0\r\n\r\n"), "{events:?}");
    assert_eq!(
        (
            requests(&gate, "web").status[1],
            requests(&gate, "web").failures()
        ),
        (1, 0)
    );
    let (other, _gate) = drained("application/octet-stream").await;
    assert!(other.ends_with("data: 1\n\n\r\n"), "{other:?}");
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408_and_counts_as_the_clients() {
    let echo = Upstream::echo().await;
    let gate = Gate::with(
        |settings| settings.body_idle = Duration::from_millis(50),
        serving(&echo),
    );
    let text = gate
        .raw(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
        .await;
    assert!(
        text.starts_with("HTTP/1.1 408 ") && text.contains("connection: close"),
        "{text}"
    );
    assert_eq!(
        (
            requests(&gate, "web").client_gone,
            requests(&gate, "web").errors()
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn a_long_upload_is_no_silence_of_the_instance() {
    let echo = Upstream::echo().await;
    let patience = Duration::from_millis(400);
    let gate = Gate::with(|settings| settings.head_timeout = patience, serving(&echo));
    let mut stream = gate.stream().await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 12\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // Each byte well within the patience, also on a busy machine, and all of them together beyond it.
    for _ in 0..12 {
        tokio::time::sleep(patience / 8).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.ends_with("\nxxxxxxxxxxxx"),
        "{text}"
    );
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    let bad = Upstream::dying().await;
    let began = std::time::Instant::now();
    let gate = Gate::serving(serving(&bad));
    let mut client = gate.client().await;
    for _ in 0..60 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.headers.get(header::RETRY_AFTER).is_none());
    }
    let asked = bad.connections();
    // Sixty requests, a fifth of them twice, what a worker begins with, and ten for each second that it took.
    let most = 60 + 12 + 10 + 10 * (began.elapsed().as_secs() as usize + 1);
    assert!(
        (61..=most).contains(&asked),
        "{asked} tries, at most {most}"
    );
}
