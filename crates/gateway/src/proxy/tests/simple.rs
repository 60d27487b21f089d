//! Requests of the simple form get what others get, however they are mixed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::serving;
use super::world::{Gate, Upstream, read_head};
use crate::proxy::Phase;
use crate::waiting::soon;

/// An instance that gives this answer to every request, and ends.
async fn giving(answer: &'static [u8]) -> Upstream {
    Upstream::raw(move |mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(answer).await;
    })
    .await
}

/// The status line, the headers in order, and the rest.
fn sorted(answer: &str) -> Vec<String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    lines.get_mut(1..).unwrap_or_default().sort();
    lines.push(body.to_owned());
    lines
}

#[tokio::test]
async fn a_simple_request_is_answered_as_any_other() {
    let answers: [&'static [u8]; 8] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: 1\r\nx: 2\r\n\r\nhello",
        b"HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
        b"HTTP/1.1 207 Multi-Status\r\nkeep-alive: timeout=5\r\ncontent-length: 1\r\n\r\nx",
        b"no HTTP\r\n\r\n",
    ];
    for answer in answers {
        let upstream = giving(answer).await;
        for method in ["GET", "HEAD", "OPTIONS"] {
            let ask = async |extra: &str| {
                let gate = Gate::serving(serving(&upstream));
                let request = format!("{method} / HTTP/1.1\r\nhost: a\r\n{extra}\r\n");
                let mut stream = gate.stream().await;
                stream.write_all(request.as_bytes()).await.unwrap();
                let head = read_head(&mut stream).await;
                assert!(head.ends_with("\r\n\r\n"), "{method} {answer:?}: {head:?}");
                gate.until_drained("w").await;
                gate.shared.phase.send_replace(Phase::Closing);
                let mut body = Vec::new();
                stream.read_to_end(&mut body).await.unwrap();
                sorted(&(head + &String::from_utf8_lossy(&body)))
            };
            // `te` is for hyper.
            assert_eq!(
                ask("").await,
                ask("te: trailers\r\n").await,
                "{method} {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order() {
    let echo = Upstream::echo().await;
    let gate = Gate::with(
        |settings| settings.rest_after = Duration::from_millis(5),
        serving(&echo),
    );
    let mut stream = gate.stream().await;
    let simple = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let upload = "POST /3 HTTP/1.1\r\nhost: a\r\ncontent-length: 29\r\n\r\nGET /no HTTP/1.1\r\nhost: a\r\n\r\n";
    let all = simple("/1") + &simple("/2") + upload + &simple("/4");
    stream.write_all(all.as_bytes()).await.unwrap();
    gate.until(|| {
        gate.shared
            .gauges
            .resting
            .load(std::sync::atomic::Ordering::Relaxed)
            == 1
    })
    .await;
    stream.write_all(simple("/5").as_bytes()).await.unwrap();
    gate.until(|| echo.requests() == 5).await;
    gate.until_drained("w").await;
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let order: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("GET /").or(line.strip_prefix("POST /")))
        .collect();
    assert_eq!(order, ["1", "2", "3", "no HTTP/1.1", "4", "5"], "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_it_waits() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let silent = Upstream::raw(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            // Ends when the gateway has closed.
            let _ = stream.read_u8().await;
            let _ = tell.send(()).await;
        }
    })
    .await;
    let gate = Gate::serving(serving(&silent));
    let mut stream = gate.stream().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    gate.until(|| gate.in_flight("w") == 1).await;
    drop(stream);
    soon("the end of the request", told.recv()).await.unwrap();
    gate.until_drained("w").await;
    gate.until(|| super::requests(&gate, "web").client_gone == 1)
        .await;
}
