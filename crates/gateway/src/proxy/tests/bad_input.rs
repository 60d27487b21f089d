//! What a client must not send.

use super::world::{Gate, Upstream, rule, service, table};
use crate::table::RouteTable;

#[tokio::test]
async fn what_could_smuggle_a_request_is_answered_400_and_closed() {
    let upstream = Upstream::saying("seen").await;
    let gate = Gate::serving(table(
        vec![rule(&[("web", 1)])],
        vec![service("web", &[("w", &upstream)])],
    ));
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
