//! Requests to servers of our own on the loopback, with real sockets and the real clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// A server that answers every request with what `answer` says; the heads of the requests are kept.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&heads), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer, tls) = (Arc::clone(&kept), Arc::clone(&answer), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &kept, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &kept, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            heads,
            _tasks: tasks,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve<S>(
    mut stream: S,
    kept: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> Vec<u8> + Sync),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    kept.lock().unwrap().push(head.clone());
    let bytes = answer(&head);
    if bytes.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn call(uri: &str) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer hunter2"),
    );
    Call {
        method: Method::GET,
        uri: uri.parse().unwrap(),
        headers,
        body: Bytes::new(),
        deadline: Duration::from_secs(20),
        trust: Trust::default(),
        reach: Reach::Private,
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(Egress::default())
}

#[tokio::test]
async fn a_credential_goes_to_its_own_server_only() {
    let other = Server::start(|_| ok("elsewhere")).await;
    let to = format!("http://{}/there", other.address);
    let first = Server::start(move |head| {
        if head.starts_with("get /again") {
            redirect("/here")
        } else if head.starts_with("get /here") {
            ok("here")
        } else {
            redirect(&to)
        }
    })
    .await;
    let (_, body) = fetcher()
        .fetch(call(&format!("http://{}/", first.address)))
        .await
        .unwrap();
    assert_eq!(body, "elsewhere");
    assert!(first.heads()[0].contains("bearer hunter2") && !other.heads()[0].contains("hunter2"));
    let (_, body) = fetcher()
        .fetch(call(&format!("http://{}/again", first.address)))
        .await
        .unwrap();
    assert_eq!(body, "here");
    assert!(
        first
            .heads()
            .iter()
            .all(|head| head.contains("bearer hunter2"))
    );
}

#[tokio::test]
async fn no_redirect_leads_to_a_cloud_or_in_a_circle() {
    let cases = [
        ("http://169.254.169.254/latest", "never asked"),
        ("http://[::ffff:169.254.169.254]/", "never asked"),
        ("/", "more than 5 redirects"),
        ("//169.254.169.254/latest", "never asked"),
        ("elsewhere", "is no address"),
        ("file:///etc/passwd", "is no address"),
        ("ftp://127.0.0.1/", "must be http://HOST"),
    ];
    for (to, why) in cases {
        let server = Server::start(move |_| redirect(to)).await;
        let refused = fetcher()
            .fetch(call(&format!("http://{}/", server.address)))
            .await
            .unwrap_err();
        assert!(refused.contains(why), "{to}: {refused}");
    }
}

#[tokio::test]
async fn private_addresses_are_for_those_who_may() {
    let server = Server::start(|_| ok("secret")).await;
    let public = Call {
        reach: Reach::Public,
        ..call(&format!("http://localhost:{}/", server.address.port()))
    };
    let refused = fetcher().fetch(public.clone()).await.unwrap_err();
    assert!(refused.contains("private address"), "{refused}");
    let hosts = vec![format!("localhost:{}", server.address.port())];
    let listed = Fetcher::new(Egress {
        hosts,
        private: false,
    });
    assert!(listed.fetch(public).await.is_ok());
    let unlisted = listed
        .fetch(call(&format!("http://{}/", server.address)))
        .await
        .unwrap_err();
    assert!(unlisted.contains("not among the hosts"), "{unlisted}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_cap() {
    let server = Server::start(|_| {
        let length = CAP_BYTES * 2;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let mut answer = head.into_bytes();
        answer.resize(answer.len() + length, b'x');
        answer
    })
    .await;
    let refused = fetcher()
        .fetch(call(&format!("http://{}/", server.address)))
        .await
        .unwrap_err();
    assert!(refused.contains("length limit exceeded"), "{refused}");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_deadline() {
    let server = Server::start(|_| Vec::new()).await;
    let asked = Call {
        deadline: Duration::from_millis(50),
        ..call(&format!("http://{}/", server.address))
    };
    let refused = fetcher().fetch(asked).await.unwrap_err();
    assert!(refused.contains("no answer within"), "{refused}");
}

#[tokio::test]
async fn certificates_are_checked_unless_they_are_not_to_be() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let server = Server::start_with(Some(Arc::new(config).into()), |_| ok("safe")).await;
    let asked = |trust: Trust| Call {
        trust,
        ..call(&format!("https://localhost:{}/", server.address.port()))
    };
    let text = STANDARD.encode(cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let trust = |ca: Option<String>, anybody: bool| Trust {
        anybody,
        ca_bundle: ca,
    };
    let refused = fetcher()
        .fetch(asked(trust(None, false)))
        .await
        .unwrap_err();
    assert!(refused.contains("TLS"), "{refused}");
    for trusted in [trust(Some(pem.clone()), false), trust(None, true)] {
        assert_eq!(fetcher().fetch(asked(trusted)).await.unwrap().1, "safe");
    }
    let wrong = fetcher()
        .fetch(asked(trust(Some("no certificate".into()), false)))
        .await;
    assert!(wrong.unwrap_err().contains("caBundle"));
}
