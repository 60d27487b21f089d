//! Requests of the one form that most of them have, read and answered without hyper.
//!
//! Such a request has a method that brings no body, a path, one host, and no header that says anything about this hop or about the
//! framing. It ends where its head ends, so nobody can be mistaken about where the next one begins. Whatever has another form, or
//! is not understood, is put back as it came, and hyper reads it with all its rules.
//!
//! Between two requests a connection holds no buffer.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use super::answer::Answer;
use super::body::{AnswerBody, BodyError};
use super::exchange::{Exchange, Inbound};
use super::front::{Client, Stream};
use super::head::{self, Head, RequestHead};
use super::io::poll_read_some;
use super::{Counted, Phase, Shared};

/// A longer head is hyper's.
const MAX_HEAD: usize = 8 * 1024;
/// Headers of a request at most; one with more is hyper's.
const MAX_HEADERS: usize = 48;
/// What a client may send ahead while its request is answered; the rest waits in its socket.
const MAX_AHEAD: usize = 16 * 1024;
/// Read at once.
const ROOM: usize = 2 * 1024;
/// Up to here a part of a body is sent in one piece with the head.
const SMALL: usize = 16 * 1024;

/// Why the loop over requests has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A request of another form comes; what was read of it.
    Other(Bytes),
    /// The connection is to be closed.
    Close,
    /// It broke, or an answer did, so that there is nothing more to say.
    Cut,
}

/// One connection.
pub(super) struct Swift<'a, S> {
    client: &'a Client,
    io: &'a mut S,
    /// Read and not used yet.
    read: BytesMut,
    /// Ends when idle connections are to be closed.
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Runs on over many requests, and is looked at when it ends.
    timer: Pin<Box<Sleep>>,
    idle_since: Instant,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Swift<'a, S> {
    /// `early` was read already.
    pub(super) fn new(client: &'a Client, io: &'a mut S, early: Bytes) -> Self {
        let shared = &client.worker.shared;
        Self {
            client,
            io,
            read: BytesMut::from(early),
            closing: Box::pin(closing(shared)),
            timer: Box::pin(tokio::time::sleep(shared.settings.client_idle)),
            idle_since: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) -> Next {
        loop {
            if self.read.is_empty() && !self.rest().await {
                return Next::Close;
            }
            let request = match self.head().await {
                Ok(request) => request,
                Err(next) => return next,
            };
            let is_head = request.parts.method == Method::HEAD;
            let Some(answer) = self.respond(request).await else {
                return Next::Cut;
            };
            match self.send(answer, is_head).await {
                Ok(true) => self.idle_since = Instant::now(),
                Ok(false) => return Next::Close,
                Err(_) => return Next::Cut,
            }
        }
    }

    /// Waits until the client says something; `false` when it ends, or its time is over.
    async fn rest(&mut self) -> bool {
        let gauges = &self.client.worker.shared.gauges;
        let _counted = Counted::new(&gauges.resting);
        std::future::poll_fn(|cx| match self.poll_read(cx) {
            Poll::Ready(is_more) => Poll::Ready(is_more),
            Poll::Pending if self.closing.as_mut().poll(cx).is_ready() => Poll::Ready(false),
            Poll::Pending => self.poll_patience(cx).map(|()| false),
        })
        .await
    }

    /// Whether something more came; else the client has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let polled = poll_read_some::<ROOM>(self.io, cx, &mut self.read);
        polled.map(|read| read.is_ok_and(|read| read > 0))
    }

    /// Ends when the client has said nothing for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.idle_since + self.client.worker.shared.settings.client_idle;
        while self.timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Reads a head to its end.
    async fn head(&mut self) -> Result<Box<RequestHead>, Next> {
        let patience = self.client.worker.shared.settings.client_idle;
        let end = Instant::now() + patience;
        loop {
            match parse(&mut self.read) {
                Ok(request) => return Ok(request),
                Err(NotSimple::Partial) if self.read.len() < MAX_HEAD => {}
                Err(NotSimple::Partial | NotSimple::Other) => {
                    return Err(Next::Other(self.read.split().freeze()));
                }
            }
            self.read.reserve(ROOM);
            let read = self.io.read_buf(&mut self.read);
            match tokio::time::timeout_at(end, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Err(Next::Cut),
            }
        }
    }

    /// The answer; `None` when the client does not wait for it.
    async fn respond(&mut self, request: Box<RequestHead>) -> Option<Answer> {
        let Client { worker, hop, .. } = self.client;
        let activity = &self.client.activity;
        let stream = Stream::open(activity);
        let RequestHead { head, parts } = &*request;
        let redirect = self.client.to_https(head, &parts.uri, &parts.headers);
        let answer = match redirect {
            Some(redirect) => redirect,
            None => {
                let busy = activity.busy.clone();
                let mut exchange = Exchange::new(worker, hop, request, Inbound::nothing(), busy);
                let mut answer = Box::pin(exchange.run());
                tokio::select! {
                    biased;
                    answer = answer.as_mut() => answer,
                    () = self.gone() => return None,
                }
            }
        };
        stream.answered();
        Some(answer)
    }

    /// Ends when the client has ended.
    async fn gone(&mut self) {
        std::future::poll_fn(|cx| {
            while self.read.len() < MAX_AHEAD {
                match self.poll_read(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Sends an answer; whether another one may follow.
    async fn send(&mut self, answer: Answer, is_head: bool) -> Result<bool, Broken> {
        let client = self.client;
        let mut out = client.worker.spare.lend();
        let (parts, mut body) = answer.into_parts();
        let framing = Framing::of(parts.status, &body, is_head);
        let is_leaving = *self.client.worker.shared.phase.borrow() != Phase::Serving;
        let is_last = write_head(&mut out, parts.status, &parts.headers, &framing, is_leaving);
        if matches!(framing, Framing::Nothing(_)) {
            drop(body);
            self.write(&mut out, Bytes::new()).await?;
            return Ok(!is_last);
        }
        loop {
            // What is there already goes out with the head.
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.write(&mut out, Bytes::new()).await?;
                    self.frame(&mut body).await?
                }
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    // What has come of it is the client's. It sees a cut connection, never a mixed answer.
                    self.write(&mut out, Bytes::new()).await?;
                    return Err(Broken);
                }
                None => break,
            };
            // Trailers are for those who ask for them, and these are hyper's.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            if framing == Framing::Chunked {
                out.extend_from_slice(format!("{:X}\r\n", data.len()).as_bytes());
            }
            let is_end = body.is_end_stream();
            let end = framing.behind_data(is_end);
            if out.len() + data.len() <= SMALL {
                out.extend_from_slice(&data);
                out.extend_from_slice(end);
            } else {
                self.write(&mut out, data).await?;
                out.extend_from_slice(end);
            }
            if is_end {
                drop(body);
                self.write(&mut out, Bytes::new()).await?;
                return Ok(!is_last);
            }
        }
        out.extend_from_slice(framing.end());
        drop(body);
        self.write(&mut out, Bytes::new()).await?;
        Ok(!is_last)
    }

    /// The next frame of a body, for as long as the client is there.
    async fn frame(
        &mut self,
        body: &mut AnswerBody,
    ) -> Result<Option<Result<Frame<Bytes>, BodyError>>, Broken> {
        tokio::select! {
            biased;
            frame = body.frame() => Ok(frame),
            () = self.gone() => Err(Broken),
        }
    }

    /// Writes what was put together, and `data` behind it.
    async fn write(&mut self, out: &mut Vec<u8>, data: Bytes) -> Result<(), Broken> {
        if data.is_empty() {
            // The system has a cheaper call for one piece.
            self.io.write_all(out).await.map_err(|_| Broken)?;
        } else {
            let mut both = Buf::chain(out.as_slice(), data);
            self.io.write_all_buf(&mut both).await.map_err(|_| Broken)?;
        }
        out.clear();
        self.io.flush().await.map_err(|_| Broken)
    }
}

/// The client has gone, or an answer broke off.
#[derive(Debug)]
struct Broken;

/// Ends when idle connections are to be closed.
fn closing(shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let mut phase = shared.phase.subscribe();
    async move {
        let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await;
    }
}

/// How the end of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no body; the answer may still say how long it would be.
    Nothing(Option<u64>),
    Length(u64),
    Chunked,
}

impl Framing {
    fn of(status: StatusCode, body: &AnswerBody, is_head: bool) -> Self {
        match body.size_hint().exact() {
            _ if matches!(status.as_u16(), 204 | 304) => Self::Nothing(None),
            // What the gateway itself would say; the application has said so in its headers, or not at all.
            length if is_head => Self::Nothing(length.filter(|_| !body.is_end_stream())),
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }

    /// What stands behind a part of the body.
    fn behind_data(self, is_end: bool) -> &'static [u8] {
        match self {
            Self::Chunked if is_end => b"\r\n0\r\n\r\n",
            Self::Chunked => b"\r\n",
            Self::Nothing(_) | Self::Length(_) => b"",
        }
    }

    /// What stands behind a body whose end came by itself.
    fn end(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Nothing(_) | Self::Length(_) => b"",
        }
    }
}

/// Writes the head of an answer; whether it is the last one of the connection.
fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: &Framing,
    is_leaving: bool,
) -> bool {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        let is_framing = *name == header::CONTENT_LENGTH
            && (*framing != Framing::Nothing(None) || status == StatusCode::NO_CONTENT);
        if is_framing || *name == header::CONNECTION {
            continue;
        }
        write_header(out, name, value.as_bytes());
    }
    match framing {
        Framing::Nothing(None) => {}
        Framing::Length(length) | Framing::Nothing(Some(length)) => {
            write_header(out, &header::CONTENT_LENGTH, length.to_string().as_bytes());
        }
        Framing::Chunked => write_header(out, &header::TRANSFER_ENCODING, b"chunked"),
    }
    let says_close = headers
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes() == b"close");
    let is_last = is_leaving || says_close;
    if is_last {
        write_header(out, &header::CONNECTION, b"close");
    }
    out.extend_from_slice(b"\r\n");
    is_last
}

fn write_header(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Why there is no request of the simple form.
#[derive(Debug)]
enum NotSimple {
    /// The head is not all there.
    Partial,
    /// It has another form.
    Other,
}

/// Takes a request of the simple form off what was read; whatever else there is stays.
fn parse(read: &mut BytesMut) -> Result<Box<RequestHead>, NotSimple> {
    // What the request keeps of its head; the room of what was read is used again.
    let bytes = Bytes::copy_from_slice(read.get(..MAX_HEAD).unwrap_or(read));
    let part = |part: &[u8]| head::span(&bytes, part).map(|span| bytes.slice(span));
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(&bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err(NotSimple::Partial),
        Err(_) => return Err(NotSimple::Other),
    };
    let simple = build(&request, part).ok_or(NotSimple::Other)?;
    read.advance(length);
    Ok(simple)
}

/// For the fuzzers: the headers of a request of the simple form and how many bytes it has.
pub(crate) fn simple(bytes: &[u8]) -> Option<(HeaderMap, usize)> {
    let mut read = BytesMut::from(bytes);
    let found = parse(&mut read);
    let taken = bytes.len() - read.len();
    assert!(found.is_ok() || taken == 0, "what is put back is whole");
    Some((found.ok()?.parts.headers, taken))
}

/// `None` when it has another form.
fn build(
    parsed: &httparse::Request<'_, '_>,
    part: impl Fn(&[u8]) -> Option<Bytes>,
) -> Option<Box<RequestHead>> {
    let (Some(1), Some(method), Some(path)) = (parsed.version, parsed.method, parsed.path) else {
        return None;
    };
    let (parts, ()) = Request::new(()).into_parts();
    let head = Head::default();
    let mut request = Box::new(RequestHead { head, parts });
    let RequestHead { head, parts } = &mut *request;
    parts.method = simple_method(method).filter(|_| path.starts_with('/'))?;
    parts.uri = Uri::from_maybe_shared(part(path.as_bytes())?).ok()?;
    // Those that tell of the client come to them.
    parts.headers.reserve(parsed.headers.len() + 3);
    let mut has_host = false;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        match role(&name, header.value) {
            Role::Host if has_host => return None,
            Role::Host => {
                *head = Head::named(str::from_utf8(header.value).ok()?)?;
                has_host = true;
            }
            Role::Stays => continue,
            Role::NotSimple => return None,
            Role::Passes => {}
        }
        let value = HeaderValue::from_maybe_shared(part(header.value)?).ok()?;
        parts.headers.append(name, value);
    }
    has_host.then_some(request)
}

fn simple_method(method: &str) -> Option<Method> {
    match method {
        "GET" => Some(Method::GET),
        "HEAD" => Some(Method::HEAD),
        "DELETE" => Some(Method::DELETE),
        "OPTIONS" => Some(Method::OPTIONS),
        _ => None,
    }
}

/// What a header means for the form of its request.
enum Role {
    Passes,
    /// It passes, and there has to be one.
    Host,
    /// It says what is so anyway, to this hop only.
    Stays,
    NotSimple,
}

fn role(name: &HeaderName, value: &[u8]) -> Role {
    match name.as_str() {
        "host" => Role::Host,
        "connection" if value.eq_ignore_ascii_case(b"keep-alive") => Role::Stays,
        "connection" | "content-length" | "transfer-encoding" | "upgrade" | "expect" | "te"
        | "trailer" | "keep-alive" | "proxy-connection" | "http2-settings" => Role::NotSimple,
        _ => Role::Passes,
    }
}

#[cfg(test)]
mod tests;
