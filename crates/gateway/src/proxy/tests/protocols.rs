//! What clients and instances may speak beside plain HTTP/1.1.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};

use super::world::{Gate, Upstream, read_head};
use super::{over_http2, requests, serving};
use crate::proxy::Phase;
use crate::table::RouteTable;
use crate::tls::{Certificate, CertificateTable};
use crate::waiting::soon;

async fn echoing() -> (Upstream, RouteTable) {
    let echo = Upstream::echo().await;
    let table = serving(&echo);
    (echo, table)
}

/// The port of `web` speaks HTTP/2.
async fn grpc() -> (Upstream, RouteTable) {
    let upstream = Upstream::grpc().await;
    let table = over_http2(serving(&upstream));
    (upstream, table)
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[tokio::test]
async fn http2_in_front_and_http1_behind() {
    let (_echo, table) = echoing().await;
    let gate = Gate::serving(table);
    let mut sender = gate.http2().await;
    let request = Request::post("http://app.example.com/a?b=c")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-forwarded-for", "6.6.6.6");
    let request = request.body(Full::from("the body")).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(
        (answer.version(), answer.status()),
        (Version::HTTP_2, StatusCode::OK)
    );
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    expect_test::expect![[r#"
        POST /a?b=c
        content-length: 8
        cookie: a=1; b=2
        host: app.example.com
        x-forwarded-for: 127.0.0.1
        x-forwarded-host: app.example.com
        x-forwarded-proto: http

        the body"#]]
    .assert_eq(&String::from_utf8_lossy(&text));
    let requests_at_once = (0..50).map(|number| {
        let mut sender = sender.clone();
        let request = get(&format!("http://app.example.com/{number}"))
            .body(Full::default())
            .unwrap();
        tokio::spawn(async move {
            let answer = sender.send_request(request).await.unwrap();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(format!("GET /{number}\n").as_bytes()));
        })
    });
    for request in requests_at_once.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    assert_eq!(requests(&gate, "web").status[1], 51);
}

#[tokio::test]
async fn grpc_goes_through_with_its_trailers_over_shared_connections() {
    let (upstream, table) = grpc().await;
    let gate = Gate::serving(table);
    let sender = gate.http2().await;
    for _ in 0..20 {
        let mut sender = sender.clone();
        let request = Request::post("http://grpc.example.com/pkg.Service/Method")
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        let request = request.body(Full::from("message")).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(
            answer.headers()["seen"],
            "HTTP/2.0 http://grpc.example.com/pkg.Service/Method Some(\"trailers\")"
        );
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(whole.to_bytes(), "message");
    }
    // One for each worker at most.
    assert!(
        upstream.connections() <= 2,
        "{} connections",
        upstream.connections()
    );
    assert_eq!((upstream.requests(), gate.in_flight("w")), (20, 0));
    let text = gate.client().await.post("/", "over HTTP/1.1").await.text();
    assert_eq!(text, "over HTTP/1.1");
}

#[tokio::test]
async fn an_http2_instance_that_has_gone_costs_no_request() {
    let (first, table_of_first) = grpc().await;
    let (second, table_of_second) = grpc().await;
    let mut both = table_of_first;
    for (name, entry) in &mut both.services {
        let mut more = table_of_second.services[name].ports[0].endpoints.clone();
        more[0].instance = "second".into();
        entry.ports[0].endpoints.extend(more);
    }
    let gate = Gate::serving(both);
    let mut client = gate.client().await;
    for round in 0..40 {
        if round == 20 {
            first.kill();
        }
        assert_eq!(client.post("/", "x").await.text(), "x", "round {round}");
    }
    assert!(second.requests() >= 20);
    assert_eq!(requests(&gate, "web").failures(), 0);
}

#[tokio::test]
async fn a_client_of_http2_is_told_to_go_and_finishes_what_is_under_way() {
    let (_echo, table) = echoing().await;
    let gate = Gate::serving(table);
    let mut sender = gate.http2().await;
    let request = || {
        get("http://app.example.com/")
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    assert!(sender.send_request(request()).await.is_ok());
    let under_way = sender.send_request(request());
    gate.shared.phase.send_replace(Phase::Leaving);
    assert_eq!(under_way.await.unwrap().status(), StatusCode::OK);
    gate.until(|| sender.is_closed()).await;
}

#[tokio::test]
async fn streams_that_are_only_opened_and_reset_end_the_connection() {
    let never = Upstream::silent().await;
    let gate = Gate::serving(serving(&never));
    let sender = gate.http2().await;
    let flood = async {
        while !sender.is_closed() {
            let mut sender = sender.clone();
            let request = get("http://app.example.com/")
                .body(Full::default())
                .unwrap();
            let asked = sender.send_request(request);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(1), asked).await;
        }
    };
    soon("the end of the connection", flood).await;
    gate.until(|| gate.in_flight("w") == 0).await;
}

/// A certificate for these hosts, and what trusts it.
fn certificate(hosts: &[&str]) -> (Certificate, rustls::RootCertStore) {
    let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let signed = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let certificate = Certificate {
        hosts: names.into_iter().collect(),
        chain: signed.cert.pem(),
        key: signed.signing_key.serialize_pem(),
    };
    let mut roots = rustls::RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
    roots.add(der).unwrap();
    (certificate, roots)
}

fn shown(certificate: Certificate) -> CertificateTable {
    CertificateTable {
        certificates: [("default/web".to_owned(), certificate)].into(),
        ..CertificateTable::default()
    }
}

async fn tls(
    gate: &Gate,
    roots: &rustls::RootCertStore,
    host: &'static str,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(gate.tls_address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(host.try_into().unwrap(), stream)
        .await
}

#[tokio::test]
async fn tls_with_both_protocols_and_certificates_that_change() {
    let (_echo, table) = echoing().await;
    let gate = Gate::serving(table);
    let (first, roots) = certificate(&["app.example.com"]);
    assert!(tls(&gate, &roots, "app.example.com", "h2").await.is_err());
    gate.shared.tls.certificates.set([&shown(first)]);

    let stream = tls(&gate, &roots, "app.example.com", "h2").await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
    let (mut over_http2, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = || {
        get("https://app.example.com/")
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let answer = over_http2.send_request(request()).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("x-forwarded-proto: https"));

    let (second, other_roots) = certificate(&["app.example.com"]);
    gate.shared.tls.certificates.set([&shown(second)]);
    assert!(
        tls(&gate, &roots, "app.example.com", "http/1.1")
            .await
            .is_err()
    );
    let mut stream = tls(&gate, &other_roots, "app.example.com", "http/1.1")
        .await
        .unwrap();
    let head = b"GET / HTTP/1.1\r\nhost: app.example.com\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    // Who is connected already is not asked to begin anew.
    assert!(over_http2.send_request(request()).await.is_ok());
    // A name that no certificate is for.
    assert!(
        tls(&gate, &other_roots, "else.example.com", "h2")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn plain_requests_are_sent_to_https_where_that_is_wanted() {
    let (_echo, table) = echoing().await;
    let gate = Gate::with(|settings| settings.https_port = Some(8443), table);
    let mut client = gate.client().await;
    assert_eq!(client.get("/a?b=c").await.status, StatusCode::OK);
    let redirected = CertificateTable {
        redirected: ["app.example.com".to_owned()].into(),
        ..CertificateTable::default()
    };
    gate.shared.tls.certificates.set([&redirected]);
    let answer = client.get("/a?b=c").await;
    assert_eq!(
        (answer.status, &answer.headers[header::LOCATION]),
        (
            StatusCode::PERMANENT_REDIRECT,
            &"https://app.example.com:8443/a?b=c".parse().unwrap()
        )
    );
    assert_eq!(
        client.get("/.well-known/acme-challenge/x").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let (_echo, table) = echoing().await;
    let gate = Gate::with(|settings| settings.proxy_protocol = true, table);
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let text = gate
        .raw(format!("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n{request}").as_bytes())
        .await;
    assert!(text.contains("x-forwarded-for: 192.0.2.7\n"), "{text}");
    // Without the header the connection is closed and nothing is answered.
    assert_eq!(gate.raw(request.as_bytes()).await, "");
    let mut slow = gate.stream().await;
    for part in ["PRO", "XY UNKNOWN\r", "\n", request] {
        slow.write_all(part.as_bytes()).await.unwrap();
        slow.flush().await.unwrap();
    }
    assert!(read_head(&mut slow).await.starts_with("HTTP/1.1 200 OK"));
}
