//! TLS between the gateway and instances.

use std::path::{Path, PathBuf};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::*;
use crate::table::{BackendTls, HealthCheck, Identity, Protocol, Trust};

const NAME: &str = "web.default.svc";
/// How long a request is held that no instance takes.
const SHORT: Duration = Duration::from_millis(200);

/// One whose word is in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
}

impl Authority {
    fn new(path: PathBuf) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        std::fs::write(&path, own.pem()).unwrap();
        Self {
            certificate: own.der().clone(),
            issuer: Issuer::new(params, key),
            path,
        }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// What an instance of this name shows; with `asks_clients` it wants one of this authority from those who come.
    fn acceptor(&self, name: &str, asks_clients: bool) -> TlsAcceptor {
        let (certificate, key) = self.sign(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match asks_clients {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(self.certificate.clone()).unwrap();
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = ["h2", "http/1.1"].map(|p| p.as_bytes().to_vec()).into();
        TlsAcceptor::from(Arc::new(config))
    }

    fn trusted(&self) -> BackendTls {
        BackendTls {
            trust: Trust::File(self.path.clone()),
            ..BackendTls::named(NAME.into())
        }
    }
}

/// Says what was spoken to it.
async fn upstream(acceptor: TlsAcceptor) -> Upstream {
    Upstream::raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let tls = stream.get_ref().1;
            let name = tls.server_name().unwrap_or_default().to_owned();
            let is_http2 = tls.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let name = name.clone();
                async move {
                    let text = format!("{:?} {} at {name}", request.version(), request.uri());
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = format!("{text} {}", String::from_utf8_lossy(&body));
                    Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(text)))
                }
            });
            let stream = TokioIo::new(stream);
            let _ = match is_http2 {
                true => {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(stream, service).await
                }
                false => {
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder.serve_connection(stream, service).await
                }
            };
        }
    })
    .await
}

fn secure_table(upstream: &Upstream, protocol: Protocol, tls: BackendTls) -> RouteTable {
    let (name, mut entry) = service("web", &[("w1", upstream)]);
    entry.ports[0].protocol = protocol;
    entry.ports[0].tls = Some(tls);
    table(vec![rule(&[("web", 1)])], vec![(name, entry)])
}

fn authority(home: &Path) -> Authority {
    Authority::new(home.join("ca.pem"))
}

#[tokio::test]
async fn instances_are_spoken_to_by_tls() {
    let home = tempfile::tempdir().unwrap();
    let authority = authority(home.path());
    let web = upstream(authority.acceptor(NAME, false)).await;
    let gate = Gate::serving(secure_table(&web, Protocol::Http1, authority.trusted()));
    let mut client = gate.client().await;
    assert_eq!(
        client.get("/a?b").await.text(),
        format!("HTTP/1.1 /a?b at {NAME} ")
    );
    let posted = client.post("/a", "body").await.text();
    assert_eq!(posted, format!("HTTP/1.1 /a at {NAME} body"));
    assert_eq!(
        client.get("/b").await.text(),
        format!("HTTP/1.1 /b at {NAME} ")
    );
    assert_eq!(web.connections(), 1);
    gate.swap(secure_table(&web, Protocol::Http2, authority.trusted()));
    for _ in 0..2 {
        let text = client.post("/a?b", "body").await.text();
        assert_eq!(
            text,
            format!("HTTP/2.0 https://app.example.com/a?b at {NAME} body")
        );
    }
    assert_eq!(web.connections(), 2);
}

#[tokio::test]
async fn a_protocol_is_changed_over_tls() {
    let home = tempfile::tempdir().unwrap();
    let authority = authority(home.path());
    let acceptor = authority.acceptor(NAME, false);
    let chat = Upstream::raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            let head =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let mut said = [0_u8; 4];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let gate = Gate::serving(secure_table(&chat, Protocol::Http1, authority.trusted()));
    let mut stream = gate.stream().await;
    let head = b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let head = world::read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(b"ping").await.unwrap();
    let mut said = [0_u8; 4];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"ping");
}

#[tokio::test]
async fn an_instance_that_is_another_one_gets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let authority = authority(home.path());
    let stranger = Authority::new(home.path().join("stranger.pem"));
    let web = upstream(authority.acceptor("other.example.com", false)).await;
    let trusted = || authority.trusted();
    let named = |names: &[&str]| BackendTls {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..trusted()
    };
    let anybody = BackendTls {
        trust: Trust::Anybody,
        ..trusted()
    };
    let absent = BackendTls {
        trust: Trust::File(home.path().join("absent.pem")),
        ..trusted()
    };
    let gate = Gate::with_hold(SHORT, RouteTable::default());
    let mut client = gate.client().await;
    for (tls, is_answered) in [
        (trusted(), false),
        (named(&["a.example.com", "other.example.com"]), true),
        (named(&["a.example.com"]), false),
        (stranger.trusted(), false),
        (BackendTls::named("other.example.com".into()), false),
        (absent, false),
        (anybody, true),
    ] {
        gate.swap(secure_table(&web, Protocol::Http1, tls.clone()));
        let answer = client.post("/a", "secret").await;
        let expected = if is_answered {
            (200, "")
        } else {
            (502, "connect")
        };
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            expected,
            "{tls:?}"
        );
    }
}

#[tokio::test]
async fn the_gateway_shows_who_it_is_where_that_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let authority = authority(home.path());
    let web = upstream(authority.acceptor(NAME, true)).await;
    let (own, key) = authority.sign("gateway");
    let identity = Identity {
        certificate: home.path().join("own.pem"),
        key: home.path().join("own.key"),
    };
    std::fs::write(&identity.certificate, own.pem()).unwrap();
    std::fs::write(&identity.key, key.serialize_pem()).unwrap();
    let known = BackendTls {
        identity: Some(identity),
        ..authority.trusted()
    };
    let gate = Gate::with_hold(
        SHORT,
        secure_table(&web, Protocol::Http1, authority.trusted()),
    );
    let mut client = gate.client().await;
    assert_eq!(client.get("/").await.status, StatusCode::BAD_GATEWAY);
    gate.swap(secure_table(&web, Protocol::Http1, known));
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_new_file_is_taken_up_and_a_bad_one_leaves_what_was_good() {
    let home = tempfile::tempdir().unwrap();
    let first = authority(home.path());
    let web = upstream(first.acceptor(NAME, false)).await;
    let table = || secure_table(&web, Protocol::Http1, first.trusted());
    let gate = Gate::with_hold(SHORT, table());
    let mut client = gate.client().await;
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    let change = |write: &dyn Fn()| {
        let modified = || std::fs::metadata(&first.path).unwrap().modified().unwrap();
        let before = modified();
        while modified() == before {
            write();
        }
        gate.refresh_files();
    };
    change(&|| std::fs::write(&first.path, "no certificate").unwrap());
    let problems = gate.problems();
    assert!(
        problems.len() == 1 && problems[0].ends_with("; what was there before is used on"),
        "{problems:?}"
    );
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    change(&|| drop(Authority::new(first.path.clone())));
    assert_eq!(gate.problems(), Vec::<String>::new());
    // The connection that is there stays; one that comes asks again.
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    gate.swap(RouteTable::default());
    gate.swap(table());
    assert_eq!(client.get("/").await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn health_is_asked_for_by_tls_too() {
    let home = tempfile::tempdir().unwrap();
    let authority = authority(home.path());
    let web = upstream(authority.acceptor(NAME, false)).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let checked = |tls| {
            let mut table = secure_table(&web, protocol, tls);
            let entry = table.services.values_mut().next().unwrap();
            entry.policy.health = Some(HealthCheck {
                path: Some("/healthz".into()),
                host: None,
                port: None,
                interval_ms: 100,
                timeout_ms: 5_000,
                failures: 1,
                successes: 1,
                panic_percent: 0,
            });
            table
        };
        let gate = Gate::serving(checked(authority.trusted()));
        gate.check_health();
        gate.until(|| gate.shared.health.passed.load(Ordering::Relaxed) > 0)
            .await;
        gate.swap(checked(BackendTls::named(NAME.into())));
        gate.until(|| !gate.shared.health.out.load().is_empty())
            .await;
        let out = gate.shared.health.out.load();
        assert!(out[0].why.starts_with("TLS: "), "{out:?}");
    }
}
