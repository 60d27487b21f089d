//! Which requests are of the simple form.

use super::*;
use crate::ports::{Door, Scheme};
use crate::proxy::Worker;
use crate::testing::settings;
use crate::tls::Tls;

fn shown(bytes: &str) -> String {
    let mut read = BytesMut::from(bytes);
    match parse(&mut read) {
        Err(NotSimple::Partial) => "more".into(),
        Err(NotSimple::Other) => {
            assert_eq!(read, bytes, "what is put back is whole");
            "other".into()
        }
        Ok(simple) => {
            let mut text = format!("{} {}", simple.parts.method, simple.parts.uri);
            for (name, value) in &simple.parts.headers {
                text += &format!(" {name}={}", String::from_utf8_lossy(value.as_bytes()));
            }
            text + &format!(" for {}, {} left", simple.head.host, read.len())
        }
    }
}

#[test]
fn requests_that_end_with_their_head_are_simple() {
    let cases = [
        (
            "GET /a?b=c HTTP/1.1\r\nHost: App.example.com:80\r\nAccept:  */* \r\n\r\n",
            "GET /a?b=c host=App.example.com:80 accept=*/* for app.example.com, 0 left",
        ),
        (
            "DELETE / HTTP/1.1\r\nhost: a\r\nConnection: Keep-Alive\r\ncookie: a\r\ncookie: b\r\n\r\nGET",
            "DELETE / host=a cookie=a cookie=b for a, 3 left",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nx:\r\ny: \r\n\r\n",
            "GET / host=a x= y= for a, 0 left",
        ),
        (
            "HEAD //x HTTP/1.1\nhost: a\n\n",
            "HEAD //x host=a for a, 0 left",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nx: \u{e9}\r\n\r\n",
            "GET / host=a x=\u{e9} for a, 0 left",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(shown(bytes), expected);
        for end in 1..bytes.find("\r\n\r\n").unwrap_or(0) {
            if bytes.is_char_boundary(end) {
                assert_eq!(shown(&bytes[..end]), "more", "{}", &bytes[..end]);
            }
        }
    }
}

#[test]
fn everything_else_is_put_back_as_it_came() {
    let with = |line: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n");
    let lines = [
        "content-length: 0",
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Connection: close",
        "connection: keep-alive, x",
        "connection: upgrade",
        "upgrade: websocket",
        "expect: 100-continue",
        "te: trailers",
        "trailer: x",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "http2-settings: x",
        "host: b",
        "x : y",
        "x\0: y",
        "x: \u{1}",
        " folded",
    ];
    let mut requests: Vec<String> = lines.map(with).into();
    requests.extend(
        [
            "POST / HTTP/1.1\r\nhost: a\r\n\r\n",
            "get / HTTP/1.1\r\nhost: a\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET /\r\n\r\n",
            "\x16\x03\x01",
        ]
        .map(str::to_owned),
    );
    requests.push(with(&"x: y\r\n".repeat(MAX_HEADERS)));
    for request in requests {
        assert_eq!(shown(&request), "other", "{request:?}");
    }
}

/// glibc has pieces of up to so many bytes at hand; a larger one costs a search for each request.
const AT_HAND: usize = 1032;

#[tokio::test]
async fn the_frame_of_a_request_is_a_small_piece_of_memory() {
    let shared = Shared::new(settings(), Tls::new().unwrap());
    let worker = Arc::new(Worker::new(Arc::new(shared)));
    let door = Door {
        scheme: Scheme::Http,
        port: 80,
    };
    let client = Client::new(worker, ([127, 0, 0, 1], 1).into(), door);
    let Client { worker, hop, .. } = &client;
    let mut read = BytesMut::from("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let request = parse(&mut read).unwrap();
    let busy = client.activity.busy.clone();
    let mut exchange = Exchange::new(worker, hop, request, Inbound::nothing(), busy);
    for frame in [size_of_val(&*exchange), size_of_val(&exchange.run())] {
        assert!(frame <= AT_HAND, "{frame} bytes");
    }
}
