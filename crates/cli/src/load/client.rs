//! One connection of the load: a request at a time, each with one ending.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::outcome::{Answer, Ending};
use super::spec::LoadSpec;
use crate::demo_app::VERSION_HEADER;

/// By this header the gateway tells that it answered itself, and why.
const GATEWAY_HEADER: &str = "x-serin-gateway";
/// The most that is kept of a header, in characters.
const MAX_LABEL: usize = 64;

/// Sends the requests of the spec, over a connection that it makes when it has none.
pub(crate) struct Client {
    spec: Arc<LoadSpec>,
    addresses: Arc<[SocketAddr]>,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Drives the socket; it closes with this value.
    _driver: AbortOnDropHandle<()>,
}

impl Client {
    pub(crate) fn new(spec: Arc<LoadSpec>, addresses: Arc<[SocketAddr]>) -> Self {
        Self {
            spec,
            addresses,
            connection: None,
        }
    }

    /// Sends one request and reads its answer to the end, until the deadline at most; after the deadline it sends nothing.
    pub(crate) async fn send(&mut self, deadline: Instant) -> Ending {
        if Instant::now() >= deadline {
            return Ending::Timeout;
        }
        // An unfinished request leaves its connection in an unknown state: it is dropped with the future.
        timeout_at(deadline, self.send_once())
            .await
            .unwrap_or(Ending::Timeout)
    }

    async fn send_once(&mut self) -> Ending {
        if let Some(kept) = self.connection.take()
            && let Some(ending) = self.send_over(kept).await
        {
            return ending;
        }
        let fresh = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                return Ending::ConnectError {
                    why: reason(error.as_ref()),
                };
            }
        };
        self.send_over(fresh)
            .await
            .unwrap_or_else(|| Ending::Broken {
                why: "the connection was closed before the request was sent".to_owned(),
            })
    }

    /// Sends the request over this connection; `None` when the connection was closed before any of it was sent, so that
    /// nothing is lost by sending it over another.
    async fn send_over(&mut self, mut connection: Connection) -> Option<Ending> {
        connection.sender.ready().await.ok()?;
        let request = self.request();
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let never_sent = error.take_message().is_some();
                let why = reason(error.error());
                return (!never_sent).then_some(Ending::Broken { why });
            }
        };
        match read(response).await {
            Ok(answer) => {
                self.connection = self.spec.keep_alive.then_some(connection);
                Some(Ending::Answer(answer))
            }
            Err(error) => Some(Ending::Broken {
                why: reason(&error),
            }),
        }
    }

    async fn connect(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(&*self.addresses).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // How it ends is told to the request that is on it.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.spec.method.clone();
        // Both were checked with the spec; what stands here otherwise is never sent.
        *request.uri_mut() = self.spec.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&self.spec.host) {
            headers.insert(header::HOST, host);
        }
        if !self.spec.keep_alive {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

async fn read(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, mut body) = response.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Answer {
        status: head.status.as_u16(),
        version: label(&head.headers, VERSION_HEADER),
        gateway_reason: label(&head.headers, GATEWAY_HEADER),
    })
}

fn label(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    Some(text.chars().take(MAX_LABEL).collect())
}

/// An error with its causes in one line.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::waiting::soon;

    /// Answers one request of each connection and closes it without having announced that.
    async fn answer_once_each(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            let answer = b"HTTP/1.1 204 No Content\r\nx-demo-version: v1\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_kept_connection_that_closed_while_idle_costs_no_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = AbortOnDropHandle::new(tokio::spawn(answer_once_each(listener)));
        let spec = LoadSpec::new(&format!("http://{address}")).unwrap();
        let mut client = Client::new(Arc::new(spec), Arc::new([address]));
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_secs(30);
            let expected = Answer {
                status: 204,
                version: Some("v1".to_owned()),
                gateway_reason: None,
            };
            assert_eq!(client.send(deadline).await, Ending::Answer(expected));
            let kept = client.connection.as_ref().unwrap();
            soon("the end of the connection", async {
                while !kept._driver.is_finished() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        drop(server);
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_sends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spec = LoadSpec::new(&format!("http://{address}")).unwrap();
        let mut client = Client::new(Arc::new(spec), Arc::new([address]));
        assert_eq!(client.send(Instant::now()).await, Ending::Timeout);
    }
}
