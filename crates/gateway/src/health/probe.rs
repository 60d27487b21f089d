//! One check: a connection, and where a path is asked for the head of its answer. The body is never read.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Target;
use crate::table::Protocol;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// By this applications may tell checks from requests of users.
const USER_AGENT: HeaderValue = HeaderValue::from_static("serin-gateway-health-check");

/// A connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Asks once; why it is not well.
pub(crate) async fn ask(target: Target) -> Result<(), String> {
    let patience = Duration::from_millis(target.check.timeout_ms);
    let asked = tokio::time::timeout(patience, once(&target)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {} ms", patience.as_millis())))
}

async fn once(target: &Target) -> Result<(), String> {
    let connected = TcpStream::connect(target.address).await;
    let stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
    let Some(tls) = &target.tls else {
        return over(stream, target).await;
    };
    let stream = tls.connect(stream).await;
    over(stream.map_err(|error| format!("TLS: {error}"))?, target).await
}

/// Asks over a connection, where there is something to ask for.
async fn over(stream: impl Stream, target: &Target) -> Result<(), String> {
    let Some(path) = &target.check.path else {
        return Ok(());
    };
    let request = request(target, path)?;
    let status = match target.protocol {
        Protocol::Http1 => over_http1(stream, request).await,
        Protocol::Http2 => over_http2(stream, request).await,
    };
    match status.map_err(|error| format!("no answer: {error}"))? {
        200..=399 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

fn request(target: &Target, path: &str) -> Result<Request<Empty<Bytes>>, String> {
    let address = target.address.to_string();
    let host = target.check.host.as_deref().unwrap_or(&address);
    let wrong = |error: http::Error| format!("cannot ask: {error}");
    let request = Request::get(path).header(header::USER_AGENT, USER_AGENT);
    let request = match target.protocol {
        Protocol::Http1 => request.header(header::HOST, host),
        Protocol::Http2 => {
            let path = path.parse::<PathAndQuery>();
            let path = path.map_err(|error| wrong(error.into()))?;
            let scheme = if target.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let uri = Uri::builder().scheme(scheme).authority(host);
            request.uri(uri.path_and_query(path).build().map_err(wrong)?)
        }
    };
    request.body(Empty::new()).map_err(wrong)
}

async fn over_http1(stream: impl Stream, request: Request<Empty<Bytes>>) -> hyper::Result<u16> {
    let mut builder = http1::Builder::new();
    let handshake = builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = handshake.handshake(TokioIo::new(stream)).await?;
    status(sender.send_request(request), connection).await
}

async fn over_http2(stream: impl Stream, request: Request<Empty<Bytes>>) -> hyper::Result<u16> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    status(sender.send_request(request), connection).await
}

/// The status of the answer. The connection ends with this function, whatever it still had to say.
async fn status<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<u16> {
    let mut answer = pin!(answer);
    let connection = pin!(connection);
    tokio::select! {
        biased;
        answered = &mut answer => return Ok(answered?.status().as_u16()),
        ended = connection => ended?,
    }
    // The connection ended well, so the answer is there or says why it is not.
    Ok(answer.await?.status().as_u16())
}
