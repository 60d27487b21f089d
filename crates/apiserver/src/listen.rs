//! A listener for the router: bounded connections, deadlines, and an end that ends watches too.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::status::Refusal;

/// Connections at one time; more wait in the listener's backlog.
const CONNECTIONS: usize = 512;
/// A client that does not begin a next request, or finish the head of one, by then is hung up on.
const HEAD_DEADLINE: Duration = Duration::from_secs(90);
/// A client that does not finish its handshake by then is hung up on.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// What an answer under way gets when the server is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// Of these, what a conversation gets to end by itself before it is told that it is over.
const PARTING: Duration = Duration::from_secs(3);
/// After a failed accept, such as with no file descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// Marks an answer that goes on until somebody ends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endless;

/// What a request that becomes a conversation has of its listener: it is told of the end, and waited for. Without a listener
/// there is no end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifetime {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lifetime {
    /// Carries a conversation beside the connection that it began on.
    pub(crate) fn spawn(&self, conversation: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(conversation);
    }

    /// Ready when the server is told to end.
    pub(crate) async fn ending(&self) {
        self.stop.cancelled().await;
    }

    /// Ready when a conversation must be over: a while after that.
    pub(crate) async fn over(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(PARTING).await;
    }
}

/// Serves `router` on `listener` until `shutdown` is ready; then watches and followed logs end at once, connections without a
/// request are closed, a new request is answered 503, other answers and conversations get a few seconds, and it returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_over(listener, |stream| ready(Ok(stream)), router, shutdown).await;
}

/// As [`serve`], over what `handshake` makes of each connection, such as TLS. Clients like kubectl send a token over TLS only.
pub async fn serve_over<S, H, F>(
    listener: TcpListener,
    handshake: H,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let lifetime = Lifetime::default();
    let Lifetime { stop, tasks } = &lifetime;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let next = async {
            // The semaphore is never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let _no_delay = stream.set_nodelay(true);
                let connection = connection(handshake(stream), router.clone(), lifetime.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "some clients did not finish; their connections are cut"
        );
    }
}

async fn connection<S>(
    handshake: impl Future<Output = io::Result<S>>,
    router: Router,
    lifetime: Lifetime,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = lifetime.stop.clone();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake) => shaken,
        () = stop.cancelled() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
        Err(_) => return tracing::debug!("a handshake did not end in time"),
    };
    let ending = stop.clone();
    let service =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (router, ending, lifetime) = (router.clone(), ending.clone(), lifetime.clone());
            async move {
                if ending.is_cancelled() {
                    return Ok(Refusal::stopping().into_response());
                }
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(lifetime);
                let response = router.oneshot(request).await?;
                Ok::<_, Infallible>(end_with(response, ending))
            }
        });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE);
    let served = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, served).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Cuts an endless answer, at the end of a whole frame, once the server is told to end.
fn end_with(response: Response, stop: CancellationToken) -> Response {
    if response.extensions().get::<Endless>().is_none() {
        return response;
    }
    response
        .map(|body| Body::from_stream(body.into_data_stream().take_until(stop.cancelled_owned())))
}
