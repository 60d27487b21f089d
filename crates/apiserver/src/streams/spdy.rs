//! The part of SPDY/3.1 that Kubernetes streams over: kubectl opens streams, both sides write into them and close them.
//!
//! Responsible for: frames, compressed headers, pings, and the bounds of all of these. Absent on purpose: streams that the server
//! opens, priorities, settings and windows, which the clients of Kubernetes neither send nor heed; what is not read here is not
//! read from the connection, so that a slow reader slows the sender.

mod frame;
mod headers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use self::frame::Frame;
use self::headers::{Packer, Unpacker};
use super::{IDLE, Message, QUEUE, Sink};

/// Streams of a connection that the client has not closed.
const MAX_STREAMS: usize = 256;

/// Why a connection ends before its time.
#[derive(Debug, Error)]
pub(crate) enum SpdyError {
    #[error("a frame is cut off")]
    Cut,
    #[error("a frame of {length} bytes: the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("version {0} of SPDY")]
    Version(u16),
    #[error("the headers of a stream: {0}")]
    Headers(&'static str),
    #[error("nothing came for {} s", IDLE.as_secs())]
    Idle,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// What the client writes; ends when it closes the stream.
    pub(crate) incoming: mpsc::Receiver<Bytes>,
    /// What the server writes.
    pub(crate) outgoing: Sink,
}

/// Speaks on a connection and hands on every stream that is opened on it, until the client ends it, nobody takes streams, or
/// [`Message::End`] has come through the queue of what is said.
pub(super) async fn run<T>(
    io: T,
    opened: mpsc::Sender<Stream>,
    (out, messages): (mpsc::Sender<Message>, mpsc::Receiver<Message>),
) -> Result<(), SpdyError>
where
    T: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(io);
    let session = Session {
        out,
        opened,
        streams: HashMap::new(),
        unpacker: Unpacker::new(),
        packer: Packer::new()?,
    };
    tokio::select! {
        ended = session.read(reader) => ended,
        ended = write(writer, messages) => ended,
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Message>,
) -> Result<(), SpdyError> {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Data {
                stream,
                payload,
                last,
            } => {
                let head = frame::data_head(stream, last, payload.len());
                writer.write_all(&head).await?;
                writer.write_all(&payload).await?;
            }
            Message::Control(frame) => writer.write_all(&frame).await?,
            Message::End => {
                writer.write_all(&frame::go_away()).await?;
                writer.shutdown().await?;
                return Ok(());
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

struct Session {
    out: mpsc::Sender<Message>,
    opened: mpsc::Sender<Stream>,
    /// By number: where what comes for a stream goes.
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    unpacker: Unpacker,
    packer: Packer,
}

impl Session {
    async fn read(mut self, mut reader: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = frame::next(&mut buffer)? {
                if !self.handle(frame).await? {
                    return Ok(());
                }
            }
            let read = tokio::time::timeout(IDLE, reader.read_buf(&mut buffer)).await;
            if read.map_err(|_| SpdyError::Idle)?? == 0 {
                return Ok(());
            }
        }
    }

    /// `false` when the connection is to end.
    async fn handle(&mut self, frame: Frame) -> Result<bool, SpdyError> {
        match frame {
            Frame::Open {
                stream,
                fin,
                headers,
            } => {
                let headers = self.unpacker.read(&headers)?;
                return self.open(stream, fin, headers).await;
            }
            Frame::Data {
                stream,
                fin,
                payload,
            } => {
                if let Some(to) = self.streams.get(&stream) {
                    let gone = !payload.is_empty() && to.send(payload).await.is_err();
                    if fin || gone {
                        self.streams.remove(&stream);
                    }
                }
            }
            Frame::Reset { stream } => {
                self.streams.remove(&stream);
            }
            // Odd numbers are of the client; an even one would be the answer to a ping that we never send.
            Frame::Ping { id } if id % 2 == 1 => return self.say(frame::ping(id)).await,
            Frame::Headers { headers } => {
                self.unpacker.read(&headers)?;
            }
            Frame::GoAway => return Ok(false),
            Frame::Ping { .. } | Frame::Other => {}
        }
        Ok(true)
    }

    async fn open(
        &mut self,
        id: u32,
        fin: bool,
        headers: BTreeMap<String, String>,
    ) -> Result<bool, SpdyError> {
        if self.streams.len() >= MAX_STREAMS || self.streams.contains_key(&id) {
            return self.say(frame::refuse(id)).await;
        }
        let reply = frame::reply(id, &self.packer.write(&[])?);
        if !self.say(reply).await? {
            return Ok(false);
        }
        let (to, incoming) = mpsc::channel(QUEUE);
        if !fin {
            self.streams.insert(id, to);
        }
        let stream = Stream {
            headers,
            incoming,
            outgoing: Sink::new(id, self.out.clone()),
        };
        Ok(self.opened.send(stream).await.is_ok())
    }

    async fn say(&self, frame: Bytes) -> Result<bool, SpdyError> {
        Ok(self.out.send(Message::Control(frame)).await.is_ok())
    }
}
