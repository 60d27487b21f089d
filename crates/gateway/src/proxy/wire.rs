//! A connection of HTTP/1.1 for requests without a body, written and read by the task that serves the request.
//!
//! Such a request is known whole before its first byte goes out, so nothing is to be sent while the answer is read, and no task of
//! the connection's own is needed to do both at once. That saves the channels and the wakeups between the two, which cost more
//! than everything else that happens to a small request. Uploads, upgrades and HTTP/2 are hyper's.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::head;
use super::io::poll_read_some;
use chunks::Chunks;

pub(crate) mod chunks;

/// The longest head of an answer.
const MAX_HEAD: usize = super::pool::MAX_ANSWER_HEAD;
/// Headers of an answer at most.
const MAX_HEADERS: usize = 100;
/// Answers before the answer, such as 103.
const MAX_EARLY: usize = 16;
/// Room for the head of an answer and the body of a small one.
const FIRST_READ: usize = 4 * 1024;
/// Room for what follows.
const NEXT_READ: usize = 64 * 1024;
/// A head of a request that was longer gives its room back.
const KEPT_HEAD: usize = 4 * 1024;

/// A connection that is between two requests. It is passed on often, and in a box that costs little.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// Read and not used yet.
    read: BytesMut,
    /// Where heads of requests are put together.
    head: Vec<u8>,
}

/// What is asked for. It stays with whoever asks, and can be asked for again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a Uri,
    /// The host, where `headers` have none.
    pub(super) host: Option<&'a HeaderValue>,
    pub(super) headers: &'a HeaderMap,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum WireError {
    /// Nothing was sent.
    Unsent,
    /// The connection ended after something was sent.
    Lost,
    /// What came was no answer.
    Garbage,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            head: Vec::new(),
        }
    }

    /// Whether the other end has neither closed nor sent anything, as far as the system has told. It is asked only when it has
    /// told of something.
    pub(super) fn is_quiet(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request without a body, and reads the head of its answer. `source` is what becomes of the body; the answer is passed
    /// on often, and in a box that costs little.
    pub(super) async fn send<B>(
        mut self: Box<Self>,
        asked: Asked<'_>,
        source: impl FnOnce(WireBody) -> B,
    ) -> Result<Box<Response<B>>, WireError> {
        self.head.clear();
        asked.write(&mut self.head);
        let mut sent = match self.stream.write(&self.head).await {
            Ok(0) | Err(_) => return Err(WireError::Unsent),
            Ok(sent) => sent,
        };
        while sent < self.head.len() {
            let left = self.head.get(sent..).unwrap_or_default();
            match self.stream.write(left).await {
                Ok(0) | Err(_) => return Err(WireError::Lost),
                Ok(more) => sent += more,
            }
        }
        if self.head.capacity() > KEPT_HEAD {
            self.head = Vec::new();
        }
        let is_head = *asked.method == Method::HEAD;
        for _ in 0..=MAX_EARLY {
            let head = self.read_head().await?;
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            let framing = head.framing(is_head).ok_or(WireError::Garbage)?;
            let is_kept = head.is_kept() && framing != Framing::ToTheEnd;
            let mut answer = Box::new(Response::new(source(WireBody {
                wire: Some(self),
                framing,
                is_kept,
                broken: None,
            })));
            *answer.status_mut() = head.status;
            *answer.headers_mut() = head.headers;
            return Ok(answer);
        }
        Err(WireError::Garbage)
    }

    async fn read_head(&mut self) -> Result<AnswerHead, WireError> {
        loop {
            if !self.read.is_empty() {
                match parse(&mut self.read) {
                    Ok(Some(head)) => return Ok(head),
                    Ok(None) if self.read.len() < MAX_HEAD => {}
                    Ok(None) | Err(()) => return Err(WireError::Garbage),
                }
            }
            let more =
                poll_fn(|cx| poll_read_some::<FIRST_READ>(&mut self.stream, cx, &mut self.read));
            match more.await {
                Ok(0) | Err(_) => return Err(WireError::Lost),
                Ok(_) => {}
            }
        }
    }

    /// Reads some more of a body, of which so much is known to come.
    fn poll_more(&mut self, cx: &mut Context<'_>, to_come: u64) -> Poll<io::Result<()>> {
        let to_come = usize::try_from(to_come).unwrap_or(NEXT_READ);
        self.read.reserve(to_come.clamp(1, NEXT_READ));
        // It keeps nothing between two polls.
        let read = std::pin::pin!(self.stream.read_buf(&mut self.read));
        match ready!(read.poll(cx)?) {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<'a> Asked<'a> {
    /// What a request asks for that has a host.
    pub(super) fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            target: request.uri(),
            host: None,
            headers: request.headers(),
        }
    }

    fn write(&self, head: &mut Vec<u8>) {
        let target = self.target.path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        for part in [self.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        let host = self.host.map(|host| (&header::HOST, host));
        for (name, value) in host.into_iter().chain(self.headers) {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
    }
}

/// The head of an answer.
struct AnswerHead {
    version: Version,
    status: StatusCode,
    headers: HeaderMap,
}

/// How the end of a body is told.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunks),
    /// The connection ends with it.
    ToTheEnd,
}

/// Takes the head off the bytes that were read; `None` when it is not all there.
fn parse(read: &mut BytesMut) -> Result<Option<AnswerHead>, ()> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut answer,
        read,
        &mut room,
    );
    let length = match parsed.map_err(drop)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let version = match answer.version {
        Some(1) => Version::HTTP_11,
        Some(0) => Version::HTTP_10,
        _ => return Err(()),
    };
    let status = StatusCode::from_u16(answer.code.unwrap_or_default()).map_err(drop)?;
    // Where the values stand, so that they can share the bytes once these are split off.
    let mut spans = Vec::with_capacity(answer.headers.len());
    for parsed in answer.headers.iter() {
        let name = HeaderName::from_bytes(parsed.name.as_bytes()).map_err(drop)?;
        let says_nothing = name == header::CONNECTION
            && version == Version::HTTP_11
            && parsed.value.eq_ignore_ascii_case(b"keep-alive");
        if !says_nothing {
            spans.push((name, head::span(read, parsed.value).ok_or(())?));
        }
    }
    let bytes = read.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(spans.len());
    for (name, span) in spans {
        let value = HeaderValue::from_maybe_shared(bytes.slice(span)).map_err(drop)?;
        headers.append(name, value);
    }
    Ok(Some(AnswerHead {
        version,
        status,
        headers,
    }))
}

impl AnswerHead {
    /// `None` when what it says makes no sense (RFC 9112 section 6.3).
    fn framing(&self, is_head: bool) -> Option<Framing> {
        if self.status == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for it.
            return None;
        }
        if is_head || matches!(self.status.as_u16(), 204 | 304) {
            return Some(Framing::Length(0));
        }
        let mut codings = self.headers.get_all(header::TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            let is_chunked =
                coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            let is_alone = !self.headers.contains_key(header::CONTENT_LENGTH)
                && self.version == Version::HTTP_11;
            return (is_chunked && is_alone).then(|| Framing::Chunked(Chunks::default()));
        }
        let mut lengths = self
            .headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .map(length);
        let Some(first) = lengths.next() else {
            return Some(Framing::ToTheEnd);
        };
        let first = first?;
        lengths
            .all(|other| other == Some(first))
            .then_some(Framing::Length(first))
    }

    /// Whether the connection may serve another request.
    fn is_kept(&self) -> bool {
        let values = self.headers.get_all(header::CONNECTION).iter();
        let mut tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut says =
            |what: &[u8]| tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(what));
        match self.version {
            Version::HTTP_11 => !says(b"close"),
            _ => says(b"keep-alive"),
        }
    }
}

fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    // `parse` would take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The body of an answer, with the connection from which it comes.
#[derive(Debug)]
pub(super) struct WireBody {
    /// `None` when it has ended badly.
    wire: Option<Box<Wire>>,
    framing: Framing,
    is_kept: bool,
    /// Told at the next poll, so that what came before is passed on first.
    broken: Option<io::Error>,
}

impl WireBody {
    /// The connection, when the body has ended and another request may follow.
    pub(super) fn take_wire(&mut self) -> Option<Box<Wire>> {
        let is_free = self.is_kept && self.is_end_stream();
        let mut wire = self
            .wire
            .take()
            .filter(|wire| is_free && wire.read.is_empty())?;
        // Its room belongs to the answers that were read into it.
        wire.read = BytesMut::new();
        Some(wire)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(None);
        };
        match &mut self.framing {
            Framing::Length(0) => Poll::Ready(None),
            Framing::Length(left) => {
                if wire.read.is_empty() {
                    ready!(wire.poll_more(cx, *left)?);
                }
                let count = wire
                    .read
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Poll::Ready(Some(Ok(Frame::data(wire.read.split_to(count).freeze()))))
            }
            Framing::Chunked(chunks) => loop {
                if let Some(frame) = chunks.next(&mut wire.read)? {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if chunks.has_ended() {
                    return Poll::Ready(None);
                }
                ready!(wire.poll_more(cx, chunks.to_come())?);
            },
            Framing::ToTheEnd => {
                if wire.read.is_empty() {
                    match ready!(wire.poll_more(cx, u64::MAX)) {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                            self.framing = Framing::Length(0);
                            return Poll::Ready(None);
                        }
                        more => more?,
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(wire.read.split().freeze()))))
            }
        }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match self.poll_data(cx) {
            Poll::Ready(Some(Err(error))) => {
                self.wire = None;
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.has_ended(),
            Framing::ToTheEnd => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.framing {
            Framing::Length(left) => SizeHint::with_exact(*left),
            Framing::Chunked(_) | Framing::ToTheEnd => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
