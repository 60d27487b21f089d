//! The frames of SPDY/3.1, as bytes and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;

const HEAD: usize = 8;
/// The longest data that is taken in one frame; clients copy in pieces of 32 KiB.
const MAX_DATA: usize = 1 << 20;
/// The longest frame of any other type.
const MAX_CONTROL: usize = 64 << 10;
const VERSION: u16 = 3;
const CONTROL: u32 = 1 << 31;
const FIN: u8 = 1;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream; its headers are compressed.
    Open {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    Data {
        stream: u32,
        fin: bool,
        payload: Bytes,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Later headers of a stream: nothing is done with them, but they are part of the compressed whole.
    Headers {
        headers: Bytes,
    },
    /// Settings, windows and whatever else: nothing is done with it.
    Other,
}

/// Takes the next frame out of `buffer`; `None` until it is whole.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
    let Some((mut head, _)) = buffer.split_at_checked(HEAD) else {
        return Ok(None);
    };
    let first = head.get_u32();
    let flags_and_length = head.get_u32();
    let [flags, a, b, c] = flags_and_length.to_be_bytes();
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    let is_control = first & CONTROL != 0;
    let limit = if is_control { MAX_CONTROL } else { MAX_DATA };
    if length > limit {
        return Err(SpdyError::TooLong { length, limit });
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let payload = buffer.split_to(length).freeze();
    let fin = flags & FIN != 0;
    if !is_control {
        let stream = first;
        return Ok(Some(Frame::Data {
            stream,
            fin,
            payload,
        }));
    }
    let [v, w, t, u] = (first & !CONTROL).to_be_bytes();
    match u16::from_be_bytes([v, w]) {
        VERSION => control(u16::from_be_bytes([t, u]), fin, payload).map(Some),
        version => Err(SpdyError::Version(version)),
    }
}

fn control(type_: u16, fin: bool, mut payload: Bytes) -> Result<Frame, SpdyError> {
    let mut number = || payload.try_get_u32().map_err(|_| SpdyError::Cut);
    Ok(match type_ {
        1 => {
            let stream = number()?;
            let _associated = number()?;
            payload.try_get_u16().map_err(|_| SpdyError::Cut)?;
            Frame::Open {
                stream,
                fin,
                headers: payload,
            }
        }
        3 => Frame::Reset { stream: number()? },
        6 => Frame::Ping { id: number()? },
        7 => Frame::GoAway,
        8 => {
            number()?;
            Frame::Headers { headers: payload }
        }
        _ => Frame::Other,
    })
}

/// The answer to a new stream.
pub(super) fn reply(stream: u32, headers: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(4 + headers.len());
    payload.put_u32(stream);
    payload.put_slice(headers);
    encode_control(2, &payload)
}

pub(super) fn ping(id: u32) -> Bytes {
    encode_control(6, &id.to_be_bytes())
}

/// Ends the session: no stream is taken any more, and nothing was wrong.
pub(super) fn go_away() -> Bytes {
    const LAST_STREAM: u32 = 0;
    const OK: u32 = 0;
    let mut payload = BytesMut::with_capacity(8);
    payload.put_u32(LAST_STREAM);
    payload.put_u32(OK);
    encode_control(7, &payload)
}

/// Refuses a stream.
pub(super) fn refuse(stream: u32) -> Bytes {
    const REFUSED_STREAM: u32 = 3;
    let mut payload = BytesMut::with_capacity(8);
    payload.put_u32(stream);
    payload.put_u32(REFUSED_STREAM);
    encode_control(3, &payload)
}

/// The head of the data of a stream that follows.
pub(super) fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD] {
    head(stream & !CONTROL, if fin { FIN } else { 0 }, length)
}

fn encode_control(type_: u16, payload: &[u8]) -> Bytes {
    let first = CONTROL | u32::from(VERSION) << 16 | u32::from(type_);
    let mut frame = BytesMut::with_capacity(HEAD + payload.len());
    frame.put_slice(&head(first, 0, payload.len()));
    frame.put_slice(payload);
    frame.freeze()
}

/// `length` is below 2^24: our frames carry at most one read.
fn head(first: u32, flags: u8, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    let second = u32::from(flags) << 24 | length;
    let whole = u64::from(first) << 32 | u64::from(second);
    whole.to_be_bytes()
}
