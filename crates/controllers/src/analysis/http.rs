//! One GET with a deadline and a cap, over a unix socket or TCP.

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Duration, timeout};

/// An answer larger than this is an error.
const CAP_BYTES: usize = 8 * 1024 * 1024;

/// Whom to ask.
pub(super) enum Server<'a> {
    Unix(&'a Path),
    /// `HOST:PORT`.
    Tcp(&'a str),
}

/// The body of an answer, whatever its status.
///
/// # Errors
/// A sentence for the person.
pub(super) async fn get(
    server: Server<'_>,
    path: &str,
    deadline: Duration,
) -> Result<(StatusCode, Bytes), String> {
    let answer = async {
        match server {
            Server::Unix(socket) => {
                let stream = UnixStream::connect(socket).await;
                exchange(
                    stream.map_err(|e| format!("{}: {e}", socket.display()))?,
                    "localhost",
                    path,
                )
                .await
            }
            Server::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await;
                exchange(
                    stream.map_err(|e| format!("{authority}: {e}"))?,
                    authority,
                    path,
                )
                .await
            }
        }
    };
    timeout(deadline, answer)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", deadline.as_secs_f32())))
}

async fn exchange<S>(stream: S, host: &str, path: &str) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| e.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), CAP_BYTES).collect().await;
        let body = body.map_err(|e| format!("the answer could not be read: {e}"))?;
        Ok((status, body.to_bytes()))
    };
    // The connection is driven here and ends with the exchange: nothing is left behind when the deadline cuts it.
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        end = &mut connection => {
            end.map_err(failed)?;
            exchange.await
        }
    }
}
