//! The bodies of requests and answers, and what hangs on the end of an answer: the count in flight, the one record of the
//! request, and the connection that goes back to the pool.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::Worker;
use super::meter::Meter;
use super::mirror::{Part, Tee};
use super::pool::Connection;
use super::wire::WireBody;
use crate::instances::InFlight;
use crate::live::Permit;
use crate::observers::{Entry, Observers};
use crate::series::{Outcome, Series};

/// The body of a request on its way to an instance.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// What the client sends.
    Client(Upload),
    /// What the client sends, with copies of it.
    Tee(Box<Tee>),
    /// A copy.
    Copy(mpsc::Receiver<Part>),
    /// Nothing, for a request that is sent once more.
    Empty,
}

/// Something is under way on a connection of a client, as long as a clone lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<()>);

impl Busy {
    /// Whether this is the only one left.
    pub(super) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// What a client sends. It may take any time as long as it gets on.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    _busy: Busy,
    /// When it last got on.
    progress: Arc<Progress>,
    /// How long it may send nothing.
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// When a body last got on, for those who wait for what comes after it.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    last_ms: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    fn touch(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let passed = u64::try_from(self.start.elapsed().as_millis());
        self.last_ms
            .store(passed.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

impl Upload {
    pub(super) fn new(incoming: Incoming, patience: Duration, busy: Busy) -> Self {
        let progress = Progress {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Self {
            incoming,
            _busy: busy,
            progress: Arc::new(progress),
            patience,
            stalled: None,
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.stalled = None;
            let data = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.progress.touch(data.map_or(0, Bytes::len));
            return Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Broken)));
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(UploadError::Stalled)));
        }
        Poll::Pending
    }
}

/// Why the body of a request ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the body of the request broke off")]
    Broken(#[source] hyper::Error),
    #[error("the client sent nothing for too long")]
    Stalled,
    #[error("a copy of a request could not keep up with it")]
    CutOff,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Of the application.
    Upstream(Box<Upstream>),
    /// Of the gateway itself.
    Own(Full<Bytes>),
}

/// Where the body of an answer comes from, with its connection.
#[derive(Debug)]
pub(crate) enum Source {
    /// hyper drives the connection.
    Driven(Incoming, Option<Connection>),
    /// It is read here; the endpoint.
    Wire(WireBody, u64),
}

/// An answer of the application while it streams.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(super) source: Source,
    pub(super) _busy: Busy,
    pub(super) ticket: Ticket,
    /// How the answer counts when it ends well.
    pub(super) answered: Outcome,
    pub(super) in_flight: Option<InFlight>,
    pub(super) worker: Arc<Worker>,
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    /// Whether it is a stream of events, which may end at any time: its client comes again by itself.
    pub(super) is_events: bool,
    /// Ends when the answer is to end; made when it first has to be waited for.
    pub(super) to_go: Option<ToGo>,
    /// Whether it is taken, where a stream may stand still while its connection gets on.
    pub(super) meter: Option<Meter>,
}

/// When an answer is to end, however long it would go on.
pub(crate) struct ToGo(Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for ToGo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToGo")
    }
}

/// The right to record one request, once. Dropped without an outcome, the client has gone.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    series: Option<Arc<Series>>,
    held: Option<Box<Held>>,
    /// Of the body of the request, where there is one.
    upload: Option<Arc<Progress>>,
    /// Bytes of the body of the answer.
    sent: u64,
    /// What observers are told in the end.
    entry: Option<(Arc<Observers>, Box<Entry>)>,
}

/// What a request holds until it has ended.
#[derive(Debug, Default)]
struct Held {
    /// Of its route, and when the process started.
    route: Option<(Permit, std::time::Instant)>,
    /// Of the Service where it is.
    place: Option<Permit>,
    /// Of those that are sent again there.
    retry: Option<Permit>,
}

impl Ticket {
    pub(super) fn new(
        upload: Option<Arc<Progress>>,
        entry: Option<(Arc<Observers>, Box<Entry>)>,
    ) -> Self {
        Self {
            series: None,
            held: None,
            upload,
            sent: 0,
            entry,
        }
    }

    /// What the client is answered.
    pub(super) fn note_status(&mut self, status: StatusCode) {
        if let Some((_, entry)) = &mut self.entry {
            entry.status = Some(status.as_u16());
        }
    }

    /// Who was asked.
    pub(super) fn note_instance(&mut self, address: SocketAddr) {
        if let Some((_, entry)) = &mut self.entry {
            entry.instance = Some(address);
        }
    }

    /// From now on the request counts here.
    pub(super) fn move_to(&mut self, series: &Arc<Series>) {
        self.series = Some(Arc::clone(series));
    }

    /// Keeps the permit of the route until the end.
    pub(super) fn hold(&mut self, permit: Permit, started: std::time::Instant) {
        self.held.get_or_insert_default().route = Some((permit, started));
    }

    /// Keeps the permit of the Service, in the place of that of an earlier try.
    pub(super) fn hold_place(&mut self, permit: Permit) {
        self.held.get_or_insert_default().place = Some(permit);
    }

    /// Keeps the permit to be sent again until the end.
    pub(super) fn hold_retry(&mut self, permit: Permit) {
        self.held.get_or_insert_default().retry = Some(permit);
    }

    pub(super) fn holds_retry(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.retry.is_some())
    }

    /// A try was made that is made again.
    pub(super) fn count_retry(&mut self) {
        if let Some((_, entry)) = &mut self.entry {
            entry.retries += 1;
        }
        if let Some(series) = &self.series {
            series.count_retry();
        }
    }

    /// Records a request whose connection changes its protocol. Its bytes are counted as they pass, and observers are told when
    /// this ticket is dropped.
    pub(super) fn switch(&mut self, outcome: Outcome) -> Option<Arc<Series>> {
        let series = self.series.clone();
        self.finish(outcome);
        series
    }

    /// What passed from the client, and to it, since the protocol changed.
    pub(super) fn note_passed(&mut self, received: u64, sent: u64) {
        if let Some((_, entry)) = &mut self.entry {
            (entry.received, entry.sent) = (received, sent);
        }
    }

    /// Records the request.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        if let Some(series) = self.series.take() {
            series.record(outcome);
            let received = self.upload.as_ref().map_or(0, |upload| upload.bytes());
            series.add_bytes(received, self.sent);
            if let Some((_, entry)) = &mut self.entry {
                entry.outcome = Some(outcome);
                entry.series = Some(series);
                (entry.received, entry.sent) = (received, self.sent);
            }
        }
        if let Some(held) = self.held.take()
            && let Some((permit, started)) = held.route
            && outcome != Outcome::ClientGone
        {
            permit.ended(!outcome.is_failure(), started.elapsed());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone);
        if let Some((observers, entry)) = self.entry.take() {
            observers.tell(*entry);
        }
    }
}

/// Why the body of an answer ended early; the client sees a cut connection, never a mixed answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the answer broke off")]
    Broken(#[source] hyper::Error),
    #[error("the answer broke off")]
    Cut(#[source] std::io::Error),
    #[error("the answer took longer than its route allows")]
    Timeout,
    #[error("the instance is to go and the answer did not end in time")]
    Drained,
}

impl AnswerBody {
    pub(super) fn own(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }
}

impl Source {
    pub(super) fn driven(incoming: Incoming, connection: Connection) -> Self {
        Self::Driven(incoming, Some(connection))
    }

    pub(super) fn wire(body: WireBody, endpoint: u64) -> Self {
        Self::Wire(body, endpoint)
    }

    /// The connection, once the body has ended; none when no other request may follow.
    pub(super) fn take_connection(&mut self) -> Option<Connection> {
        match self {
            Self::Driven(_, connection) => connection.take(),
            Self::Wire(body, endpoint) => {
                let wire = body.take_wire()?;
                Some(Connection::of_wire(wire, *endpoint))
            }
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Driven(incoming, _) => {
                Pin::new(incoming).poll_frame(cx).map_err(BodyError::Broken)
            }
            Self::Wire(body, _) => Pin::new(body).poll_frame(cx).map_err(BodyError::Cut),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Driven(incoming, _) => incoming.is_end_stream(),
            Self::Wire(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Driven(incoming, _) => incoming.size_hint(),
            Self::Wire(body, _) => body.size_hint(),
        }
    }
}

impl Upstream {
    fn end(&mut self) {
        self.ticket.finish(self.answered);
        if let Some(connection) = self.source.take_connection() {
            self.worker.pool.put(connection);
        }
        self.in_flight = None;
    }

    fn is_to_go(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(in_flight) = &self.in_flight else {
            return false;
        };
        let phase = &self.worker.shared.phase;
        let to_go = self
            .to_go
            .get_or_insert_with(|| ToGo(Box::pin(in_flight.to_go(phase.subscribe()))));
        to_go.0.as_mut().poll(cx).is_ready()
    }

    fn fail(&mut self, outcome: Outcome) {
        self.ticket.finish(outcome);
        drop(self.source.take_connection());
        self.in_flight = None;
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_next(cx);
        if let Some(meter) = &mut self.meter {
            meter.asked(polled.is_pending());
        }
        polled
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.source).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.ticket.sent += bytes as u64;
                if self.source.is_end_stream() {
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
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => {
                let deadline = self.deadline.as_mut();
                if deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
                    self.fail(Outcome::Timeout);
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
                if !self.is_to_go(cx) {
                    return Poll::Pending;
                }
                // The application had answered and would go on; that is no failure of its own.
                let answered = self.answered;
                self.fail(answered);
                Poll::Ready((!self.is_events).then_some(Err(BodyError::Drained)))
            }
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // An answer without a body, or with one of a known length, ends without being asked once more.
        if self.source.is_end_stream() {
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
            Self::Upstream(upstream) => upstream.source.is_end_stream(),
            Self::Own(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(upstream) => upstream.source.size_hint(),
            Self::Own(full) => full.size_hint(),
        }
    }
}

impl Tee {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let polled = self.upload.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.data(bytes);
                }
                if self.upload.incoming.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Client(upload) => upload.poll_frame(cx),
            Self::Tee(tee) => tee.poll_frame(cx),
            Self::Copy(parts) => match parts.poll_recv(cx) {
                Poll::Ready(Some(Part::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(Some(Part::End)) => Poll::Ready(None),
                Poll::Ready(None) => Poll::Ready(Some(Err(UploadError::CutOff))),
                Poll::Pending => Poll::Pending,
            },
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(upload) => upload.incoming.is_end_stream(),
            Self::Tee(tee) => tee.upload.incoming.is_end_stream(),
            Self::Copy(_) => false,
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(upload) => upload.incoming.size_hint(),
            Self::Tee(tee) => tee.upload.incoming.size_hint(),
            Self::Copy(_) => SizeHint::default(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// A timer that ends an answer, when its route sets one.
pub(super) fn deadline(at: Option<Instant>) -> Option<Pin<Box<Sleep>>> {
    at.map(|at| {
        let left = at.saturating_duration_since(Instant::now());
        Box::pin(tokio::time::sleep(left.max(Duration::from_millis(1))))
    })
}
