//! One HTTP/1.1 connection, and requests on it that are never repeated behind the caller's back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// An answer of the gateway.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Who answered: what the demo application calls itself, else the first line of the body.
    pub fn version(&self) -> &str {
        let own = self.headers.get("x-demo-version");
        own.and_then(|value| value.to_str().ok())
            .unwrap_or_else(|| self.body.lines().next().unwrap_or_default())
    }
}

/// One request on a connection of its own; the error says what went wrong.
pub async fn get(gateway: SocketAddr, host: &str, path: &str) -> Result<Answer, String> {
    get_with(gateway, host, path, &[]).await
}

/// [`get`] with headers.
pub async fn get_with(
    gateway: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, String> {
    let mut connection = Connection::open(gateway).await?;
    connection.get(host, path, headers).await
}

/// A kept connection.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
    pub(super) async fn open(gateway: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(gateway)
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("no handshake: {error}"))?;
        // It ends when the sender is dropped or the other side closes; a fault is told to whoever asks on it.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Whether another request can be sent; not when the other side has said that it closes.
    pub(super) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) async fn get(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut request = Request::get(path).header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        match timeout(ANSWER_DEADLINE, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("no answer: {error:?}")),
            Err(_) => Err(format!("no answer within {ANSWER_DEADLINE:?}")),
        }
    }
}
