//! The bodies of requests and answers, and what hangs on the end of an answer: the count in flight, the one record of the
//! request, and the connection that goes back to the pool.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::Worker;
use super::pool::Connection;
use crate::instances::InFlight;
use crate::series::{Outcome, Series};

/// The body of a request on its way to an instance.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// What the client sends.
    Client(Incoming),
    /// Nothing, for a request that is sent once more.
    Empty,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Of the application.
    Upstream(Box<Upstream>),
    /// Of the gateway itself.
    Own(Full<Bytes>),
}

/// An answer of the application while it streams.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(super) incoming: Incoming,
    pub(super) ticket: Ticket,
    /// How the answer counts when it ends well.
    pub(super) answered: Outcome,
    pub(super) in_flight: Option<InFlight>,
    pub(super) connection: Option<Connection>,
    pub(super) worker: Arc<Worker>,
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
}

/// The right to record one request, once. Dropped without an outcome, the client has gone.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    series: Option<Arc<Series>>,
}

impl Ticket {
    /// From now on the request counts here.
    pub(super) fn move_to(&mut self, series: &Arc<Series>) {
        self.series = Some(Arc::clone(series));
    }

    /// Records the request.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        if let Some(series) = self.series.take() {
            series.record(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone);
    }
}

/// Why the body of an answer ended early; the client sees a cut connection, never a mixed answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the answer broke off")]
    Broken(#[source] hyper::Error),
    #[error("the answer took longer than its route allows")]
    Timeout,
}

impl AnswerBody {
    pub(super) fn own(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }
}

impl Upstream {
    fn end(&mut self) {
        self.ticket.finish(self.answered);
        if let Some(connection) = self.connection.take() {
            self.worker.pool.put(connection);
        }
        self.in_flight = None;
    }

    fn fail(&mut self, outcome: Outcome) {
        self.ticket.finish(outcome);
        self.connection = None;
        self.in_flight = None;
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(Outcome::Broken);
                Poll::Ready(Some(Err(BodyError::Broken(error))))
            }
            Poll::Pending => {
                let deadline = self.deadline.as_mut();
                if deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
                    self.fail(Outcome::Timeout);
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // An answer without a body, or with one of a known length, ends without being asked once more.
        if self.incoming.is_end_stream() {
            self.end();
        } else {
            // The application had answered; that the client left in the middle does not make it an error.
            self.ticket.finish(self.answered);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Upstream(upstream) => upstream.poll_frame(cx),
            Self::Own(full) => Pin::new(full)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(upstream) => upstream.incoming.is_end_stream(),
            Self::Own(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(upstream) => upstream.incoming.size_hint(),
            Self::Own(full) => full.size_hint(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(incoming) => incoming.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// A timer that ends an answer, when its route sets one.
pub(super) fn deadline(at: Option<std::time::Instant>) -> Option<Pin<Box<Sleep>>> {
    at.map(|at| {
        let left = at.saturating_duration_since(std::time::Instant::now());
        Box::pin(tokio::time::sleep(left.max(Duration::from_millis(1))))
    })
}
