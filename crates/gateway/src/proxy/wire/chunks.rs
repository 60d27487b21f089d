//! The chunked coding of a body (RFC 9112 section 7.1), read as it comes.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;

/// The longest line with the size of a chunk, with what may stand behind the size.
const MAX_LINE: usize = 4 * 1024;
/// The longest trailers, and the most of them.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;
/// More digits make a size beyond 64 bits.
const MAX_DIGITS: usize = 16;
/// Asked for when it is not known what comes.
const SOME: u64 = 4 * 1024;

/// Where in the body the next byte stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// At the line with a size.
    #[default]
    Size,
    /// In a chunk of which so much is to come.
    Data(u64),
    /// At the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Ended,
}

impl Chunks {
    pub(crate) fn has_ended(&self) -> bool {
        *self == Self::Ended
    }

    /// How much is to be read at least, and may be read at once.
    pub(super) fn to_come(&self) -> u64 {
        match self {
            Self::Data(left) => left.saturating_add(SOME),
            _ => SOME,
        }
    }

    /// The next frame in what was read; `None` when more has to be read first, or the body has ended.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> io::Result<Option<Frame<Bytes>>> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(read, MAX_LINE)? else {
                        return Ok(None);
                    };
                    *self = match size(&line)? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    };
                }
                Self::Data(_) if read.is_empty() => return Ok(None),
                Self::Data(left) => {
                    let count = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    let data = read.split_to(count).freeze();
                    return Ok(Some(Frame::data(data)));
                }
                Self::DataEnd => {
                    let Some(end) = read.first_chunk::<2>() else {
                        return Ok(None);
                    };
                    if end != b"\r\n" {
                        return Err(wrong("a chunk is longer than its size"));
                    }
                    read.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(read)? else {
                        return Ok(None);
                    };
                    *self = Self::Ended;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                Self::Ended => return Ok(None),
            }
        }
    }
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Takes one line off, without its end; `None` when it is not all there.
fn line(read: &mut BytesMut, most: usize) -> io::Result<Option<BytesMut>> {
    let seen = read.get(..most).unwrap_or(read);
    let Some(at) = seen.iter().position(|byte| *byte == b'\n') else {
        return match read.len() < most {
            true => Ok(None),
            false => Err(wrong("a line of the chunked coding is too long")),
        };
    };
    let mut line = read.split_to(at + 1);
    if !line.ends_with(b"\r\n") {
        return Err(wrong("a line of the chunked coding ends without CR"));
    }
    line.truncate(at - 1);
    Ok(Some(line))
}

/// The size of a chunk. Extensions are skipped, as nobody uses them.
fn size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    let is_size =
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| wrong("the size of a chunk is no number"))
}

/// Takes the trailers off, up to the empty line; `None` when they are not all there.
fn trailers(read: &mut BytesMut) -> io::Result<Option<HeaderMap>> {
    let mut room = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let parsed = httparse::parse_headers(read, &mut room);
    let (length, fields) = match parsed.map_err(|_| wrong("the trailers are no headers"))? {
        httparse::Status::Complete(found) => found,
        httparse::Status::Partial if read.len() < MAX_TRAILERS => return Ok(None),
        httparse::Status::Partial => return Err(wrong("the trailers are too long")),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(wrong("the trailers are no headers"));
        };
        trailers.append(name, value);
    }
    read.advance(length);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a body that comes in pieces of this size.
    fn decode(body: &[u8], piece: usize) -> Result<(String, usize, usize), String> {
        let (mut chunks, mut read) = (Chunks::default(), BytesMut::new());
        let (mut data, mut trailers) = (Vec::new(), 0);
        for bytes in body.chunks(piece) {
            read.extend_from_slice(bytes);
            while let Some(frame) = chunks.next(&mut read).map_err(|error| error.to_string())? {
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(other) => trailers += other.into_trailers().map_or(0, |map| map.len()),
                }
            }
        }
        if !chunks.has_ended() {
            return Err("more is to come".into());
        }
        Ok((String::from_utf8(data).unwrap(), trailers, read.len()))
    }

    #[test]
    fn bodies_are_read_in_pieces_of_any_size() {
        let cases: [(&[u8], _); 5] = [
            (b"0\r\n\r\n", ("", 0, 0)),
            (b"5\r\nhello\r\n0\r\n\r\n", ("hello", 0, 0)),
            (
                b"05 \r\nhello\r\nA;x=\"y\"\r\n, dear all\r\n0;last\r\n\r\n",
                ("hello, dear all", 0, 0),
            ),
            (
                b"1\r\na\r\n0\r\ngrpc-status: 0\r\nx: y\r\n\r\n",
                ("a", 2, 0),
            ),
            (b"2\r\n\r\n\r\n0\r\n\r\nHTTP/1.1", ("\r\n", 0, 8)),
        ];
        for (body, (text, trailers, left)) in cases {
            for piece in 1..=body.len() {
                assert_eq!(
                    decode(body, piece),
                    Ok((text.to_owned(), trailers, left)),
                    "{piece}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long = [
            b"5;".as_slice(),
            &[b'x'; MAX_LINE],
            b"\r\nhello\r\n0\r\n\r\n",
        ]
        .concat();
        let endless = [
            b"0\r\n".as_slice(),
            &b"x: y\r\n".repeat(60),
            b"a: ",
            &[b'b'; MAX_TRAILERS],
        ]
        .concat();
        let cases: [(&[u8], _); 9] = [
            (b"\r\n", "the size of a chunk is no number"),
            (b"-5\r\nhello\r\n", "the size of a chunk is no number"),
            (b"0x5\r\nhello\r\n", "the size of a chunk is no number"),
            (b"11111111111111111\r\n", "the size of a chunk is no number"),
            (
                b"5\nhello\r\n",
                "a line of the chunked coding ends without CR",
            ),
            (
                b"4\r\nhello\r\n0\r\n\r\n",
                "a chunk is longer than its size",
            ),
            (b"0\r\nno header\r\n\r\n", "the trailers are no headers"),
            (&long, "a line of the chunked coding is too long"),
            (&endless, "the trailers are too long"),
        ];
        for (body, why) in cases {
            for piece in [1, body.len()] {
                assert_eq!(decode(body, piece), Err(why.to_owned()), "{piece}");
            }
        }
        assert_eq!(decode(b"5\r\nhell", 3), Err("more is to come".to_owned()));
    }
}
