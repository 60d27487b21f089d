//! What is made of the answers of instances, good and bad.

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the instance was sent, and the answer as the gateway has it: status, headers, body, trailers, and whether the connection
/// may serve another request.
async fn exchange(method: Method, answer: &'static [u8], ends: bool) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let instance = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        // In as many packets as the system makes of it.
        for part in answer.chunks(7) {
            // The gateway leaves when it has read enough.
            let _ = stream.write_all(part).await;
            tokio::task::yield_now().await;
        }
        let kept = if ends { None } else { Some(stream) };
        (String::from_utf8(seen).unwrap(), kept)
    });
    let wire = Box::new(Wire::new(TcpStream::connect(address).await.unwrap()));
    let request = Request::builder()
        .method(method)
        .uri("/a?b=c")
        .header("host", "app.example.com")
        .header("x-one", "1");
    let request = request.body(()).unwrap();
    let sent = wire.send(Asked::of(&request), |body| body).await;
    let shown = match sent {
        Ok(answer) => show(*answer).await,
        Err(WireError::Unsent) => "unsent".into(),
        Err(WireError::Lost) => "lost".into(),
        Err(WireError::Garbage) => "garbage".into(),
    };
    let (seen, _kept) = instance.await.unwrap();
    (seen, shown)
}

async fn show(answer: Response<WireBody>) -> String {
    let mut text = answer.status().as_u16().to_string();
    for (name, value) in answer.headers() {
        text += &format!(" {name}={}", value.to_str().unwrap());
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => text += &format!(" {:?}", String::from_utf8_lossy(&data)),
            Ok(Err(other)) => {
                let trailers = other.into_trailers().unwrap();
                text += &format!(" and {} trailers", trailers.len());
            }
            Err(error) => text += &format!(" {:?}", error.kind()),
        }
    }
    let is_kept = body.take_wire().is_some();
    // The pieces in which a body comes are chance.
    text.replace("\" \"", "") + if is_kept { ", kept" } else { "" }
}

#[tokio::test]
async fn a_request_goes_out_as_it_is() {
    let (seen, _) = exchange(Method::DELETE, b"HTTP/1.1 204 No Content\r\n\r\n", false).await;
    let expected = "DELETE /a?b=c HTTP/1.1\r\nhost: app.example.com\r\nx-one: 1\r\n\r\n";
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_end_of_an_answer_is_found_however_it_is_told() {
    let cases: [(&[u8], &str); 13] = [
        (
            b"HTTP/1.1 204 No Content\r\nx:\r\ny: \r\n\r\n",
            "204 x= y=, kept",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Two: a b\r\n\r\nhello",
            "200 content-length=5 x-two=a b \"hello\", kept",
        ),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "200 content-length=0, kept"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "200 content-length=5 content-length=5 \"hello\", kept",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nx: 1\r\n\r\n",
            "200 transfer-encoding=Chunked \"hello!\" and 1 trailers, kept",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204, kept"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 content-length=5, kept"),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
            "200 content-length=1 \"a\", kept",
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 1\r\n\r\na",
            "200 connection=Close content-length=1 \"a\"",
        ),
        // What is so anyway is not passed on.
        (
            b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\ncontent-length: 1\r\n\r\na",
            "200 content-length=1 \"a\", kept",
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", "200 content-length=1 \"a\""),
        (
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na",
            "200 connection=keep-alive content-length=1 \"a\", kept",
        ),
        // Who sends more than he said is not believed again.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc", "200 content-length=1 \"a\""),
    ];
    for (answer, expected) in cases {
        let (_, shown) = exchange(Method::GET, answer, false).await;
        assert_eq!(shown, expected);
    }
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(
        exchange(Method::HEAD, head, false).await.1,
        "200 content-length=5, kept"
    );
    let unbounded = b"HTTP/1.1 200 OK\r\n\r\nas long as it takes";
    assert_eq!(
        exchange(Method::GET, unbounded, true).await.1,
        "200 \"as long as it takes\""
    );
}

#[tokio::test]
async fn what_is_no_answer_is_told_from_what_broke_off() {
    let cases: [(&[u8], &str); 15] = [
        (b"", "lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "lost"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "lost"),
        (b"SSH-2.0-OpenSSH\r\n", "garbage"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "garbage"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
            "garbage",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na", "garbage"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\na",
            "garbage",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
            "garbage",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "garbage",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
            "garbage",
        ),
        (
            b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "garbage",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "200 content-length=3 \"ab\" UnexpectedEof",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nx\r\n",
            "200 transfer-encoding=chunked \"a\" InvalidData",
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(exchange(Method::GET, answer, true).await.1, expected);
    }
}

#[tokio::test]
async fn a_head_without_end_is_read_no_further_than_its_bound() {
    let endless: &'static [u8] = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; 2 * MAX_HEAD]]
        .concat()
        .leak();
    assert_eq!(exchange(Method::GET, endless, true).await.1, "garbage");
    let many: &'static [u8] = [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        &b"x: y\r\n".repeat(MAX_HEADERS + 1),
        b"\r\n",
    ]
    .concat()
    .leak();
    assert_eq!(exchange(Method::GET, many, true).await.1, "garbage");
    let early: &'static [u8] = b"HTTP/1.1 102 Processing\r\n\r\n"
        .repeat(MAX_EARLY + 1)
        .leak();
    assert_eq!(exchange(Method::GET, early, true).await.1, "garbage");
}

#[tokio::test]
async fn an_end_of_the_other_side_is_seen_before_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (instance, _) = listener.accept().await.unwrap();
    let wire = Wire::new(stream);
    assert!(wire.is_quiet());
    drop(instance);
    wire.stream().readable().await.unwrap();
    assert!(!wire.is_quiet());
}
