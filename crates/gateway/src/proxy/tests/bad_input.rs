//! What a client must not send.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::serving;
use super::world::{Gate, Upstream, read_head};
use crate::table::RouteTable;
use crate::waiting::soon;

#[tokio::test]
async fn what_could_smuggle_a_request_is_answered_400_and_closed() {
    let upstream = Upstream::saying("seen").await;
    let gate = Gate::serving(serving(&upstream));
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 5\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nfoo: bar\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\0y: 1\r\n\r\n",
        "GET  /  HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\n content-length: 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\0: chunked\r\n\r\n0\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\rx-b: 2\r\n\r\n",
        "G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let text = gate.raw(format!("{head}{smuggled}").as_bytes()).await;
        assert!(
            text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.0 400 "),
            "{head:?} gave {text:?}"
        );
        assert_eq!(text.matches("HTTP/1.").count(), 1, "{head:?} gave {text:?}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn heads_that_are_too_big_are_refused() {
    let gate = Gate::serving(RouteTable::default());
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(40_000)
    );
    assert!(gate.raw(long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    assert!(gate.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

/// A body whose chunks are wrong is found out only when the request has been passed on, so what must hold is: the connection
/// is closed, nothing behind is taken for a request, and the instance never sees a whole one.
#[tokio::test]
async fn chunks_that_could_smuggle_a_request_end_the_connection() {
    let upstream = Upstream::echo().await;
    let gate = Gate::serving(serving(&upstream));
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "3 \x00\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabcXX0\r\n\r\n",
        "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
    ] {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let text = gate
            .raw(format!("{head}{chunks}{smuggled}").as_bytes())
            .await;
        assert!(
            text.matches("HTTP/1.").count() <= 1,
            "{chunks:?} gave {text:?}"
        );
        assert!(
            !text.contains("/smuggled") && !text.starts_with("HTTP/1.1 200"),
            "{chunks:?} gave {text:?}"
        );
    }
}

/// Frames of HTTP/2 as they are on the wire.
pub(super) mod frames {
    pub(in super::super) const PREFACE: &[u8] =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    pub(in super::super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }
}

#[tokio::test]
async fn floods_of_http2_frames_end_the_connection_and_nothing_grows() {
    use frames::{PREFACE, frame};
    let upstream = Upstream::saying("seen").await;
    let gate = Gate::serving(serving(&upstream));
    // A head that never ends: HEADERS without END_HEADERS, then CONTINUATION for ever.
    let endless: Vec<u8> = (0..5_000)
        .flat_map(|_| frame(9, 0, 1, b"\x00\x01a\x01b"))
        .collect();
    let continuation = [frame(1, 0, 1, b"\x82\x84\x86"), endless].concat();
    // More headers than are taken, all in one block.
    let large: Vec<u8> = (0..4_000).flat_map(|_| *b"\x00\x01a\x01b").collect();
    let too_many = [frame(
        1,
        5,
        1,
        &[b"\x82\x84\x86\x41\x01a", &large[..16_000]].concat(),
    )]
    .concat();
    // A frame longer than was agreed on, a frame on a stream that never was, a window that overflows.
    let too_long = frame(0, 0, 1, &[0; 20_000]);
    let nowhere = frame(0, 0, 7, b"data");
    let overflow = frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2);
    // Streams that are opened and reset at once.
    let resets: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| {
            [
                frame(1, 5, 2 * n + 1, b"\x82\x84\x86\x41\x01a"),
                frame(3, 0, 2 * n + 1, &[0, 0, 0, 8]),
            ]
            .concat()
        })
        .collect();
    for bytes in [continuation, too_long, nowhere, overflow, resets] {
        // It is the gateway that ends it.
        gate.raw_until_closed(&[PREFACE, &bytes].concat()).await;
    }
    // A head that is too large is a matter of its stream alone: 431 or a reset, and the connection may go on.
    let mut stream = gate.stream().await;
    let bytes = [PREFACE, &too_many, &frame(7, 0, 0, &[0; 8])].concat();
    stream.write_all(&bytes).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(gate.client().await.get("/").await.text(), "seen");
    gate.until(|| gate.shared.gauges.connections.load(Ordering::Relaxed) == 0)
        .await;
}

#[tokio::test]
async fn headers_of_one_hop_never_pass_whichever_way() {
    let leaking = Upstream::raw(|mut stream, _| async move {
        while read_head(&mut stream).await.ends_with("\r\n\r\n") {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\n\
                proxy-connection: keep-alive\r\nupgrade: h2c\r\nx-open: 1\r\n\r\n";
            let _ = stream.write_all(head).await;
        }
    })
    .await;
    let gate = Gate::serving(serving(&leaking));
    let over_http1 = gate.client().await.get("/").await.headers;
    let request = Request::get("http://a/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let over_http2 = gate.http2().await.send_request(request).await.unwrap();
    for headers in [&over_http1, over_http2.headers()] {
        let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-open"]);
    }
}

#[tokio::test]
async fn clients_that_send_little_by_little_are_left_and_cost_others_nothing() {
    let upstream = Upstream::saying("seen").await;
    let patience = Duration::from_millis(200);
    let gate = Gate::with(
        |settings| settings.client_idle = patience,
        serving(&upstream),
    );
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = gate.stream().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-")
            .await
            .unwrap();
        slow.push(stream);
    }
    assert_eq!(gate.client().await.get("/").await.text(), "seen");
    for mut stream in slow {
        // Each is closed by the gateway, answered 408 or not at all.
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let _ = soon("the end of a slow client", read).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "));
    }
}

/// A client that reads nothing, and for which little is kept on the way.
async fn reading_nothing(gate: &Gate) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(gate.address).await.unwrap()
}

/// What has to be answered is answered before more is read. So a client that asks on and takes nothing is left, and nothing grows.
#[tokio::test]
async fn floods_of_pings_and_settings_fill_nothing_but_the_socket() {
    use frames::{PREFACE, frame};
    const MOST_BYTES: usize = 256 * 1024 * 1024;
    let patience = Duration::from_millis(200);
    let gate = Gate::with(
        |settings| settings.client_idle = patience,
        RouteTable::default(),
    );
    let pings = frame(6, 0, 0, b"flooding").repeat(4096);
    let settings = frame(4, 0, 0, b"").repeat(4096);
    for flood in [pings, settings] {
        let mut stream = reading_nothing(&gate).await;
        let mut sent = 0;
        let writing = async {
            stream.write_all(PREFACE).await?;
            while sent < MOST_BYTES {
                stream.write_all(&flood).await?;
                sent += flood.len();
            }
            Ok::<_, std::io::Error>(())
        };
        let ended = soon("the end of a flood", writing).await;
        assert!(ended.is_err(), "all of {sent} bytes were taken");
    }
}

/// Answers without end.
async fn endless() -> Upstream {
    Upstream::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
        let mut written = stream.write_all(head).await;
        while written.is_ok() {
            written = stream.write_all(&[0; 16 * 1024]).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_left() {
    let endless = endless().await;
    let patience = Duration::from_millis(200);
    let gate = Gate::with(
        |settings| settings.client_idle = patience,
        serving(&endless),
    );
    let mut stream = reading_nothing(&gate).await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request).await.unwrap();
    gate.until(|| gate.in_flight("w") == 1).await;
    gate.until(|| gate.in_flight("w") == 0).await;
}

#[tokio::test]
async fn too_many_headers_over_http2_reach_no_instance() {
    // One that takes any number of headers: what is refused is refused by the gateway.
    let upstream = Upstream::raw(|mut stream, requests| async move {
        read_head(&mut stream).await;
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let gate = Gate::serving(serving(&upstream));
    let mut sender = gate.http2().await;
    for (count, length) in [(200, 1), (2, 20_000)] {
        let mut request = Request::get("http://a/");
        for number in 0..count {
            request = request.header(format!("x-{number}"), "y".repeat(length));
        }
        let request = request.body(Full::default()).unwrap();
        let answer = sender.send_request(request).await;
        let status = answer.map(|answer| answer.status().as_u16()).unwrap_or(431);
        assert_eq!(status, 431, "{count} headers of {length} bytes");
    }
    assert_eq!(upstream.requests(), 0);
}

/// The connection itself gets on, so nothing but its streams says that they stand still.
#[tokio::test]
async fn a_client_of_http2_that_takes_nothing_of_its_answers_is_left() {
    let endless = endless().await;
    let patience = Duration::from_millis(200);
    let gate = Gate::with(
        |settings| settings.client_idle = patience,
        serving(&endless),
    );
    let mut sender = gate.http2().await;
    let request = Request::get("http://a/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(gate.in_flight("w"), 1);
    gate.until(|| gate.in_flight("w") == 0).await;
    drop(answer);
}
