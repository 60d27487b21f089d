//! `exec` over a WebSocket, where every message begins with the number of its channel, and SPDY inside a WebSocket.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

use super::exec::{Channels, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use super::{
    CHUNK, IDLE, Message, Places, QUEUE, Sink, negotiate, not_upgradable, spdy, speak_spdy,
};
use crate::server::Call;
use crate::status::Refusal;

/// The versions that we speak, the best first. The fifth can say that standard input has ended.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// In the fifth version: the channel whose number follows is closed.
const CLOSE: u8 = 255;
const MAX_MESSAGE: usize = 1 << 20;
/// How long the client may take to hang up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers that channels are spoken on a WebSocket from now on, and converses on them.
pub(super) fn switch<F>(
    call: &mut Call,
    places: &Places,
    converse: impl FnOnce(Channels) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    upgrade(call, places, &PROTOCOLS, move |socket| {
        run(socket, converse)
    })
}

/// Answers that SPDY is spoken inside a WebSocket from now on, and converses on its streams.
pub(super) fn switch_to_spdy<F>(
    call: &mut Call,
    places: &Places,
    protocols: &[&'static str],
    converse: impl FnOnce(mpsc::Receiver<spdy::Stream>) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    upgrade(call, places, protocols, move |socket| async move {
        let (near, far) = tokio::io::duplex(CHUNK);
        tunnel(socket, near, speak_spdy(far, converse)).await;
    })
}

fn upgrade<F>(
    call: &mut Call,
    places: &Places,
    protocols: &[&'static str],
    speak: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(protocol) = negotiate(&call.headers, &header::SEC_WEBSOCKET_PROTOCOL, protocols)
    else {
        let why = format!("the client must speak one of {}", protocols.join(", "));
        return Err(Refusal::bad_request(why));
    };
    let Some(key) = call.headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err(Refusal::bad_request("Sec-WebSocket-Key is missing"));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Refusal::bad_request("Sec-WebSocket-Key is no key"))?;
    let upgrade = call.upgrade.take().ok_or_else(not_upgradable)?;
    let place = places.take()?;
    call.lifetime.spawn(async move {
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
        speak(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await).await;
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
        writer.send(Frame::Close(Some(done()))).await
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

/// Carries the bytes of `near` in messages, until the client goes or `talk`, on the other side of it, is over.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    near: DuplexStream,
    talk: impl Future<Output = ()>,
) {
    let (mut writer, mut reader) = socket.split();
    let (mut from, mut to) = tokio::io::split(near);
    let read = async {
        while let Some(Ok(frame)) = reader.next().await {
            if let Frame::Binary(bytes) = frame
                && to.write_all(&bytes).await.is_err()
            {
                // The talk is over; the client hangs up when it has read that.
                while let Some(Ok(_)) = reader.next().await {}
            }
        }
    };
    let write = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            writer.send(Frame::Binary(buffer.split().freeze())).await?;
            buffer.reserve(CHUNK);
        }
        writer.send(Frame::Close(Some(done()))).await
    };
    let talk = async {
        if let ((), Err(error)) = tokio::join!(talk, write) {
            tracing::debug!(%error, "a WebSocket ended early");
        }
    };
    tokio::pin!(read);
    tokio::select! {
        () = &mut read => {}
        () = talk => drop(timeout(PATIENCE, read).await),
    }
}

fn done() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting::soon;

    #[tokio::test]
    async fn bytes_go_through_a_tunnel_both_ways_and_the_end_is_told() {
        let (client, server) = tokio::io::duplex(64);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let (near, mut far) = tokio::io::duplex(16);
        // It answers what it is told, as long as that is, and is over.
        let talk = async move {
            let mut told = [0; 100];
            far.read_exact(&mut told).await.unwrap();
            far.write_all(&told).await.unwrap();
        };
        let told: Vec<u8> = (0..100).collect();
        let ask = async {
            for part in told.chunks(33) {
                let part = Bytes::copy_from_slice(part);
                client.send(Frame::Binary(part)).await.unwrap();
            }
            let mut answered = Vec::new();
            loop {
                match client.next().await.unwrap().unwrap() {
                    Frame::Binary(part) => answered.extend_from_slice(&part),
                    Frame::Close(frame) => break (answered, frame.unwrap().code),
                    other => panic!("{other:?}"),
                }
            }
        };
        let both = async { tokio::join!(ask, tunnel(server, near, talk)) };
        let (answered, ()) = soon("the end of the tunnel", both).await;
        assert_eq!(answered, (told.clone(), CloseCode::Normal));
    }
}
