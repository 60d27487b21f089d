//! Writes of a process that no longer leads do not leave it.
//!
//! A leader that was stopped in the middle of its work wakes up behind its time and goes on where it was. So the question
//! whether it may write is asked at the last moment, for each request, by the clock. What is left is a request that stops
//! between this question and the wire for longer than the margin of a term; its version check in the API is what refuses that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::{Either, MapErr, Ready, ready};
use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use crate::clock::Clock;

/// Whether this process may write, and until when. Clones are one fence.
#[derive(Clone, Debug)]
pub struct Fence {
    clock: Clock,
    /// By [`Clock::elapsed`].
    open_until_ms: Arc<AtomicU64>,
}

/// A write was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process does not lead (any more), so it writes nothing")]
pub struct Fenced;

impl Fence {
    /// A fence that nothing passes until an election opens it.
    pub fn closed(clock: Clock) -> Self {
        Self {
            clock,
            open_until_ms: Arc::default(),
        }
    }

    /// What puts the fence before a client.
    pub fn layer(&self) -> FenceLayer {
        FenceLayer {
            fence: self.clone(),
        }
    }

    pub(super) fn open_until(&self, at: Duration) {
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.open_until_ms.store(ms, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.open_until_ms.store(0, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        let until = Duration::from_millis(self.open_until_ms.load(Ordering::Acquire));
        self.clock.elapsed() < until
    }
}

/// Puts a [`Fence`] before a service of the Kubernetes API.
#[derive(Clone, Debug)]
pub struct FenceLayer {
    fence: Fence,
}

impl<S> Layer<S> for FenceLayer {
    type Service = FencedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FencedService {
            inner,
            fence: self.fence.clone(),
        }
    }
}

/// A service behind a [`Fence`]: everybody may read.
#[derive(Clone, Debug)]
pub struct FencedService<S> {
    inner: S,
    fence: Fence,
}

impl<S> Service<Request<Body>> for FencedService<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future =
        Either<MapErr<S::Future, fn(S::Error) -> BoxError>, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if *request.method() != Method::GET && !self.fence.is_open() {
            return Either::Right(ready(Err(Fenced.into())));
        }
        Either::Left(self.inner.call(request).map_err(Into::into))
    }
}
