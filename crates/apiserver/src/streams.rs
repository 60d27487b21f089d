//! Requests that become a conversation: a command in a container (`exec`) and ports of a pod (`portforward`).
//!
//! Responsible for: the upgrade of the connection, the protocols that kubectl and Kubernetes' libraries speak then (SPDY/3.1 for both;
//! WebSocket for `exec`, and with SPDY inside for `portforward`), and carrying bytes both ways with a bound on everything.
//!
//! Absent on purpose: how a command is run. Whoever keeps the pods implements [`PodExec`].

mod exec;
mod forward;
mod spdy;
mod websocket;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::server::Call;
use crate::status::Refusal;

pub(crate) use exec::exec;
pub(crate) use forward::forward;

/// Conversations at one time.
const MAX_CONVERSATIONS: usize = 64;
/// A connection on which nothing is heard for so long is given up, as by a kubelet.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// How long it may take to tell the client the end of a conversation.
const GOODBYE: Duration = Duration::from_secs(1);
/// Messages that wait in each direction of a stream.
const QUEUE: usize = 16;
/// The most bytes of a message.
const CHUNK: usize = 32 << 10;
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A command to run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// The name of the Pod.
    pub pod: String,
    /// The uid of the Pod.
    pub uid: String,
    /// The container; it is one of the Pod's.
    pub container: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Whether something will be written to it.
    pub stdin: bool,
    /// Whether it gets a terminal; then its standard error comes with its output.
    pub tty: bool,
}

/// A command that runs. It is ended when this is dropped.
pub struct Execution {
    /// Its standard input; `None` unless asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output, with a terminal all that it shows.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets columns and rows of its terminal.
    pub resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Its end.
    pub end: BoxFuture<'static, Result<ExitCode, ExecError>>,
}

/// How a command has ended: 128 and the signal when it was ended by one.
pub type ExitCode = i32;

/// Why a command could not be run, or its end is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecError(pub String);

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExecError {}

/// Whoever runs commands in containers.
pub trait PodExec: Send + Sync {
    /// Starts a command.
    ///
    /// # Errors
    /// The container does not run, or the command cannot be started in it.
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Execution, ExecError>>;
}

/// Bounds the conversations of a server.
#[derive(Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONVERSATIONS)))
    }
}

impl Places {
    fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.0)
            .try_acquire_owned()
            .map_err(|_| Refusal::busy("too many commands and forwarded ports are open already"))
    }
}

/// What is said on a connection.
#[derive(Clone, Debug)]
enum Message {
    /// Bytes of a stream, or of a channel.
    Data {
        stream: u32,
        payload: Bytes,
        /// Whether they are its last.
        last: bool,
    },
    /// A frame that is written as it is.
    Control(Bytes),
    /// Nothing comes after it.
    End,
}

/// The server's half of a stream.
#[derive(Clone, Debug)]
struct Sink {
    stream: u32,
    out: mpsc::Sender<Message>,
}

impl Sink {
    fn new(stream: u32, out: mpsc::Sender<Message>) -> Self {
        Self { stream, out }
    }

    /// `false` when the connection is gone.
    async fn send(&self, payload: Bytes) -> bool {
        self.say(payload, false).await
    }

    /// Says the last of it.
    async fn finish(&self, payload: Bytes) -> bool {
        self.say(payload, true).await
    }

    async fn say(&self, payload: Bytes, last: bool) -> bool {
        let stream = self.stream;
        let message = Message::Data {
            stream,
            payload,
            last,
        };
        self.out.send(message).await.is_ok()
    }
}

/// Copies what comes to a sink until there is no more, then closes it. `false` when the connection is gone.
async fn pump(mut from: impl AsyncRead + Unpin, to: &Sink) -> bool {
    use tokio::io::AsyncReadExt;
    let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
    // A terminal whose last process is gone answers with an error: that is its end.
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        if !to.send(buffer.split().freeze()).await {
            return false;
        }
        buffer.reserve(CHUNK);
    }
    to.finish(Bytes::new()).await
}

/// Whether the client asks for a protocol in the place of HTTP.
fn upgrades_to(headers: &HeaderMap, protocol: &str) -> bool {
    let value = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok());
    value.is_some_and(|value| value.eq_ignore_ascii_case(protocol))
}

/// The first of `ours` that the client names in a header, which may be there several times.
fn negotiate(
    headers: &HeaderMap,
    name: &HeaderName,
    ours: &[&'static str],
) -> Option<&'static str> {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let theirs: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
    ours.iter().find(|own| theirs.contains(own)).copied()
}

/// Answers that SPDY is spoken from now on, in the first of `protocols` that the client has, and speaks it.
fn switch_to_spdy<F>(
    call: &mut Call,
    places: &Places,
    protocols: &[&'static str],
    converse: impl FnOnce(mpsc::Receiver<spdy::Stream>) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(protocol) = negotiate(&call.headers, &PROTOCOL, protocols) else {
        let why = format!("the client must speak one of {}", protocols.join(", "));
        return Err(Refusal::bad_request(why));
    };
    let upgrade = call.upgrade.take().ok_or_else(not_upgradable)?;
    let place = places.take()?;
    call.lifetime.spawn(async move {
        let _place = place;
        match upgrade.await {
            Ok(io) => speak_spdy(hyper_util::rt::TokioIo::new(io), converse).await,
            Err(error) => tracing::debug!(%error, "a connection did not switch to SPDY"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("SPDY/3.1")),
        (PROTOCOL, HeaderValue::from_static(protocol)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Speaks SPDY until the client ends it, or the conversation is over and the client was told.
async fn speak_spdy<F>(
    io: impl AsyncRead + AsyncWrite,
    converse: impl FnOnce(mpsc::Receiver<spdy::Stream>) -> F,
) where
    F: Future<Output = ()>,
{
    let (opened, streams) = mpsc::channel(QUEUE);
    let (out, messages) = mpsc::channel(QUEUE);
    let end = out.clone();
    let talk = async {
        converse(streams).await;
        let told = async {
            let _ = end.send(Message::End).await;
            std::future::pending().await
        };
        let _: Result<(), _> = timeout(GOODBYE, told).await;
    };
    tokio::select! {
        ended = spdy::run(io, opened, (out, messages)) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a SPDY connection ended early");
            }
        }
        () = talk => {}
    }
}

fn not_upgradable() -> Refusal {
    Refusal::bad_request("upgrade request required: this connection cannot be upgraded")
}
