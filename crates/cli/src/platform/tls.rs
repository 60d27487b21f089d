//! TLS for the API: clients such as kubectl send a token over nothing less, not even on loopback.

use std::sync::Arc;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, IssueError, Renewed};

/// Makes ready to shake hands under these names.
pub(super) fn acceptor(
    authority: Authority,
    names: Vec<String>,
) -> Result<TlsAcceptor, IssueError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = Renewed::begin(authority, names, Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
) {
    let handshake = |stream: TcpStream| acceptor.accept(stream);
    serin_apiserver::serve_over(listener, handshake, router, shutdown.cancelled()).await;
}
