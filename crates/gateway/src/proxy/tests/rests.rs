//! Connections that rest between their requests.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::Phase;
use super::serving;
use super::world::{Gate, Upstream, read_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_millis(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn gate(upstream: &Upstream) -> Gate {
    Gate::with(|settings| settings.rest_after = SOON, serving(upstream))
}

impl Gate {
    #[track_caller]
    fn until_resting(&self, count: usize) -> impl Future<Output = ()> {
        self.until(move || self.shared.gauges.resting.load(Ordering::Relaxed) == count)
    }
}

/// Reads one answer whose body is `says`.
async fn reads(stream: &mut tokio::net::TcpStream, says: &str) {
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut body = vec![0; says.len()];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), says);
}

#[tokio::test]
async fn a_connection_that_rests_is_served_as_before() {
    let upstream = Upstream::saying("one").await;
    let gate = gate(&upstream);
    let mut client = gate.client().await;
    for turn in 1..=3 {
        assert_eq!(client.get("/").await.text(), "one");
        gate.until_resting(1).await;
        assert_eq!(upstream.requests(), turn);
    }
    // Its end is noticed while it rests.
    drop(client);
    gate.until(|| gate.shared.gauges.connections.load(Ordering::Relaxed) == 0)
        .await;
    gate.until_resting(0).await;
}

#[tokio::test]
async fn what_a_client_begins_to_say_before_the_rest_is_not_lost() {
    let upstream = Upstream::saying("one").await;
    let gate = gate(&upstream);
    let mut stream = gate.stream().await;
    let (first, rest) = REQUEST.split_at(9);
    stream.write_all(&[REQUEST, first].concat()).await.unwrap();
    reads(&mut stream, "one").await;
    // Several times as long as it takes to come to rest: a head has begun, so the connection must not.
    tokio::time::sleep(SOON * 10).await;
    assert_eq!(gate.shared.gauges.resting.load(Ordering::Relaxed), 0);
    stream.write_all(rest).await.unwrap();
    reads(&mut stream, "one").await;
    gate.until_resting(1).await;
}

#[tokio::test]
async fn an_upload_that_pauses_is_no_rest() {
    let upstream = Upstream::echo().await;
    let gate = gate(&upstream);
    let mut stream = gate.stream().await;
    stream.write_all(REQUEST).await.unwrap();
    read_head(&mut stream).await;
    gate.until_resting(1).await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nGET /";
    stream.write_all(head).await.unwrap();
    gate.until(|| gate.in_flight("w") == 1).await;
    tokio::time::sleep(SOON * 10).await;
    assert_eq!(gate.shared.gauges.resting.load(Ordering::Relaxed), 0);
    stream.write_all(b"12345").await.unwrap();
    gate.until_resting(1).await;
    let mut answers = Vec::new();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut answers).await.unwrap();
    assert!(String::from_utf8(answers).unwrap().ends_with("GET /12345"));
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_when_the_gateway_goes_and_when_it_rests_too_long() {
    let upstream = Upstream::saying("one").await;
    let gate = gate(&upstream);
    let mut stream = gate.stream().await;
    stream.write_all(REQUEST).await.unwrap();
    reads(&mut stream, "one").await;
    gate.until_resting(1).await;
    gate.shared.phase.send_replace(Phase::Closing);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);

    let change = |settings: &mut super::super::Settings| {
        settings.rest_after = SOON;
        settings.client_idle = Duration::from_millis(50);
    };
    let gate = Gate::with(change, serving(&upstream));
    let text = gate.raw(REQUEST).await;
    assert!(text.ends_with("one"), "{text}");
}
