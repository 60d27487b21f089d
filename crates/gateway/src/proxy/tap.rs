//! Hears the bytes of a client beside the parser, for the one question that the parser answers for us without telling: whether a
//! head carried both `Content-Length` and `Transfer-Encoding`.
//!
//! hyper drops the length, reads the chunks and closes the connection, so nothing can be smuggled. But such a request is an
//! attack or a fault, and its sender is told 400. Nothing that keeps requests apart depends on this.
//!
//! It is also known here whether anything moves on the connection, which the parser does not tell either.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::give_again;

/// Enough for the longest head that is taken, and for what was read with it.
const KEPT_BYTES: usize = super::MAX_HEAD_BYTES + 16 * 1024;
/// An idle connection keeps no more than this.
const IDLE_BYTES: usize = 4 * 1024;

/// What a client sent.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The last bytes.
    kept: Mutex<Vec<u8>>,
    /// Bytes in all.
    count: AtomicU64,
    /// Whether something waits to be sent to the client.
    is_stalled: AtomicBool,
}

/// A stream that is heard.
#[derive(Debug)]
pub(super) struct Tapped<S> {
    stream: S,
    heard: Arc<Heard>,
    /// Read already, and to be read again first.
    early: Bytes,
}

pub(super) fn tap<S>(stream: S) -> (Tapped<S>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let tapped = Tapped {
        stream,
        heard: Arc::clone(&heard),
        early: Bytes::new(),
    };
    (tapped, heard)
}

impl Heard {
    fn add(&self, bytes: &[u8]) {
        self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes
            .last_chunk::<KEPT_BYTES>()
            .map_or(bytes, |last| last.as_slice());
        let excess = (kept.len() + bytes.len()).saturating_sub(KEPT_BYTES);
        let excess = excess.min(kept.len());
        kept.drain(..excess);
        kept.extend_from_slice(bytes);
    }

    /// A head was parsed. When nothing came after it, what was heard is of no more use.
    pub(super) fn head_taken(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.ends_with(b"\r\n\r\n") {
            if kept.capacity() > IDLE_BYTES {
                *kept = Vec::new();
            } else {
                kept.clear();
            }
        }
    }

    /// The bytes that have come so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether the client has yet to take what was written.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// The connection rests: nothing that was heard belongs to a head any more.
    pub(super) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_stalled
            .store(written.is_pending(), Ordering::Relaxed);
        written
    }

    /// Whether the head with this request line carried both ways to tell the length of its body.
    pub(super) fn has_two_lengths(&self, method: &Method, uri: &Uri) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{method} {uri} HTTP/1.1");
        heads(&kept, line.as_bytes())
            .any(|head| carries(head, b"content-length") && carries(head, b"transfer-encoding"))
    }
}

/// Every head that begins with `line`, from there to the end of `bytes`.
fn heads<'a>(bytes: &'a [u8], line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let starts = bytes.windows(line.len().max(1)).enumerate();
    let starts = starts.filter(move |(_, window)| *window == line);
    starts.filter_map(|(at, _)| bytes.get(at..))
}

/// Whether a header of this name stands before the first empty line.
fn carries(head: &[u8], name: &[u8]) -> bool {
    let lines = head.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty()).any(|line| {
        let (key, rest) = line.split_at_checked(name.len()).unwrap_or((line, &[]));
        key.eq_ignore_ascii_case(name) && rest.first() == Some(&b':')
    })
}

impl<S: AsyncRead + Unpin> Tapped<S> {
    /// These bytes come again first.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.early = bytes;
    }

    /// The stream itself, of which nothing is heard.
    pub(super) fn untapped(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.early.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            give_again(&mut self.early, buf);
            Poll::Ready(Ok(()))
        };
        if let Some(fresh) = buf.filled().get(before..).filter(|fresh| !fresh.is_empty()) {
            self.heard.add(fresh);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.heard.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.heard.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.heard.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_lengths(bytes: &str) -> bool {
        let heard = Heard::default();
        heard.add(bytes.as_bytes());
        heard.has_two_lengths(&Method::POST, &Uri::from_static("/a?b=1"))
    }

    #[test]
    fn both_lengths_in_one_head_are_found_in_any_order_and_case() {
        for head in [
            "POST /a?b=1 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /a?b=1 HTTP/1.1\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH: 5\r\n\r\n0\r\n\r\n",
            "POST /a?b=1 HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 5\n\n",
            "GET / HTTP/1.1\r\n\r\nPOST /a?b=1 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(two_lengths(head), "{head}");
        }
    }

    #[test]
    fn a_length_in_a_body_or_in_another_head_is_no_conflict() {
        for head in [
            "POST /a?b=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nContent-Length: 5\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST /a?b=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /a?b=1 HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(!two_lengths(head), "{head}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_when_the_head_is_taken() {
        let heard = Heard::default();
        for _ in 0..10 {
            heard.add(&[b'x'; 20_000]);
        }
        assert_eq!(heard.kept.lock().unwrap().len(), KEPT_BYTES);
        heard.head_taken();
        assert_eq!(heard.kept.lock().unwrap().len(), KEPT_BYTES);
        heard.add(b"GET / HTTP/1.1\r\n\r\n");
        heard.head_taken();
        assert_eq!(heard.kept.lock().unwrap().capacity(), 0);
    }
}
