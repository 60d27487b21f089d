//! `exec` over a WebSocket: every message begins with the number of its channel.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

use super::exec::{Channels, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use super::{IDLE, Message, Places, QUEUE, Sink, negotiate, not_upgradable};
use crate::server::Call;
use crate::status::Refusal;

/// The versions that we speak, the best first. The fifth can say that standard input has ended.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// In the fifth version: the channel whose number follows is closed.
const CLOSE: u8 = 255;
const MAX_MESSAGE: usize = 1 << 20;
/// How long the client may take to hang up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers that a WebSocket is spoken from now on, and converses on it.
pub(super) fn switch<F>(
    call: &mut Call,
    places: &Places,
    converse: impl FnOnce(Channels) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(protocol) = negotiate(&call.headers, &header::SEC_WEBSOCKET_PROTOCOL, &PROTOCOLS)
    else {
        let why = format!("the client must speak one of {}", PROTOCOLS.join(", "));
        return Err(Refusal::bad_request(why));
    };
    let Some(key) = call.headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err(Refusal::bad_request("Sec-WebSocket-Key is missing"));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Refusal::bad_request("Sec-WebSocket-Key is no key"))?;
    let upgrade = call.upgrade.take().ok_or_else(not_upgradable)?;
    let place = places.take()?;
    tokio::spawn(async move {
        let _place = place;
        let io = match upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => {
                return tracing::debug!(%error, "a connection did not switch to WebSocket");
            }
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        run(socket, converse).await;
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol),
        ),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn run<F: Future<Output = ()>>(socket: Socket, converse: impl FnOnce(Channels) -> F) {
    let (mut writer, mut reader) = socket.split();
    let (out, mut messages) = mpsc::channel(QUEUE);
    let (stdin, from_stdin) = mpsc::channel(QUEUE);
    let (resize, from_resize) = mpsc::channel(QUEUE);
    let sink = |channel| Sink::new(channel, out.clone());
    let channels = Channels {
        stdin: Some(from_stdin),
        stdout: Some(sink(STDOUT)),
        stderr: Some(sink(STDERR)),
        error: sink(ERROR),
        resize: Some(from_resize),
    };
    drop(out);
    let read = async {
        let (mut stdin, mut resize) = (Some(stdin), Some(resize));
        while let Ok(Some(Ok(frame))) = timeout(IDLE, reader.next()).await {
            let Frame::Binary(message) = frame else {
                continue;
            };
            match message.split_first() {
                Some((&CLOSE, [channel, ..])) if u32::from(*channel) == STDIN => stdin = None,
                Some((channel, _)) if u32::from(*channel) == STDIN => {
                    give(&mut stdin, &message).await
                }
                Some((channel, _)) if u32::from(*channel) == RESIZE => {
                    give(&mut resize, &message).await
                }
                _ => {}
            }
        }
    };
    let write = async {
        while let Some(message) = messages.recv().await {
            if let Message::Data {
                stream, payload, ..
            } = message
                && !payload.is_empty()
            {
                let mut framed = BytesMut::with_capacity(1 + payload.len());
                framed.put_u8(u8::try_from(stream).unwrap_or(CLOSE));
                framed.put_slice(&payload);
                writer.send(Frame::Binary(framed.freeze())).await?;
            }
        }
        let done = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        writer.send(Frame::Close(Some(done))).await
    };
    let talk = async {
        let (ended, ()) = tokio::join!(write, converse(channels));
        if let Err(error) = ended {
            tracing::debug!(%error, "a WebSocket ended early");
        }
        Ok::<_, Error>(())
    };
    tokio::pin!(read);
    tokio::select! {
        // The client is gone, and its command with it.
        () = &mut read => {}
        // It hangs up when it has read all; a connection that is cut while it still writes may lose what it has to read.
        _ = talk => drop(timeout(PATIENCE, read).await),
    }
}

/// Gives the payload of a message on, unless nobody takes it any more.
async fn give(to: &mut Option<mpsc::Sender<Bytes>>, message: &Bytes) {
    if let Some(sender) = to
        && message.len() > 1
        && sender.send(message.slice(1..)).await.is_err()
    {
        *to = None;
    }
}
