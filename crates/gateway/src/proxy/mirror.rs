//! Copies of requests to another Service. They never make the request wait: a copy that cannot keep up with its body is cut off,
//! and its answer is read and thrown away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::mpsc;

use super::body::{RequestBody, Upload};
use super::pool::Need;
use super::{Shared, Worker};
use crate::instances::{Endpoint, InFlight};
use crate::live::Picked;
use crate::series::{Outcome, Series};

/// The longest that a copy may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Copies of one worker process under way at once; more are not made.
const MOST: usize = 1024;
/// Parts of a body that a copy may be behind.
const BEHIND: usize = 64;

/// Where a copy goes.
#[derive(Debug)]
pub(super) struct Copy {
    endpoint: Arc<Endpoint>,
    series: Arc<Series>,
    in_flight: InFlight,
}

/// A part of a body. A body that ends without [`Part::End`] was cut off.
#[derive(Debug)]
pub(crate) enum Part {
    Data(Bytes),
    End,
}

/// A body that goes to copies too.
#[derive(Debug)]
pub(crate) struct Tee {
    pub(super) upload: Upload,
    copies: Vec<mpsc::Sender<Part>>,
}

impl Copy {
    /// `None` when too many are under way.
    pub(super) fn new(picked: Picked<'_>, shared: &Shared) -> Option<Self> {
        let is_free = shared.gauges.copies.load(Ordering::Relaxed) < MOST;
        is_free.then(|| Self {
            endpoint: Arc::clone(picked.endpoint),
            series: Arc::clone(picked.series),
            in_flight: picked.in_flight,
        })
    }
}

impl Tee {
    /// A part has come.
    pub(super) fn data(&mut self, bytes: &Bytes) {
        self.copies
            .retain(|copy| copy.try_send(Part::Data(bytes.clone())).is_ok());
    }

    /// The body has ended well.
    pub(super) fn end(&mut self) {
        for copy in self.copies.drain(..) {
            let _ = copy.try_send(Part::End);
        }
    }
}

/// Sends the copies of `request` off; what is left to be sent to the instance that answers.
pub(super) fn send(
    worker: &Arc<Worker>,
    copies: Vec<Copy>,
    request: Request<RequestBody>,
) -> Request<RequestBody> {
    let (parts, body) = request.into_parts();
    let mut senders = Vec::new();
    for copy in copies {
        let body = if body.is_end_stream() {
            RequestBody::Empty
        } else {
            let (sender, receiver) = mpsc::channel(BEHIND);
            senders.push(sender);
            RequestBody::Copy(receiver)
        };
        let mut copied = Request::new(body);
        *copied.method_mut() = parts.method.clone();
        *copied.uri_mut() = parts.uri.clone();
        *copied.version_mut() = parts.version;
        *copied.headers_mut() = parts.headers.clone();
        tokio::spawn(run(Arc::clone(worker), copy, copied));
    }
    let body = match body {
        RequestBody::Client(upload) if !senders.is_empty() => RequestBody::Tee(Box::new(Tee {
            upload,
            copies: senders,
        })),
        other => other,
    };
    Request::from_parts(parts, body)
}

async fn run(worker: Arc<Worker>, copy: Copy, request: Request<RequestBody>) {
    let copies = &worker.shared.gauges.copies;
    copies.fetch_add(1, Ordering::Relaxed);
    let outcome = tokio::time::timeout(TIMEOUT, exchange(&worker, &copy, request)).await;
    copy.series.record(outcome.unwrap_or(Outcome::Timeout));
    copies.fetch_sub(1, Ordering::Relaxed);
    drop(copy.in_flight);
}

async fn exchange(worker: &Worker, copy: &Copy, request: Request<RequestBody>) -> Outcome {
    let started = Instant::now();
    let timeout = worker.shared.settings.connect_timeout;
    let need = match request.body().is_end_stream() {
        true => Need::Bodiless,
        false => Need::Any,
    };
    let opened = match worker.pool.take(&copy.endpoint, need, true) {
        Some(connection) => Ok(connection),
        None => worker.pool.open(&copy.endpoint, timeout, need).await,
    };
    let Ok(connection) = opened else {
        return Outcome::Connect;
    };
    let Ok(answer) = connection.send(Box::new(request)).await else {
        return Outcome::Broken;
    };
    let answered = Outcome::Answered {
        class: answer.status().as_u16() / 100,
        latency: started.elapsed(),
    };
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return Outcome::Broken;
        }
    }
    if let Some(connection) = body.take_connection() {
        worker.pool.put(connection);
    }
    answered
}
