//! The admin pages, on a unix socket for this user alone and, when set, on a TCP address: `/metrics`, `/stats?window=SECONDS`,
//! `/healthz`, `/readyz`, `/routes`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::access_log::AccessLog;
use crate::ports::accepted;
use crate::prometheus;
use crate::proxy::{ClientIo, Shared};
use crate::series::Registry;
use crate::spans::{Counts, Spans};

const MOST_CONNECTIONS: usize = 32;
/// How long a client may ask nothing, or take nothing of an answer.
const IDLE: Duration = Duration::from_secs(30);
const DEFAULT_WINDOW_SECONDS: f64 = 60.0;

/// What the pages show.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Arc<Registry>,
    /// Every problem of the objects that the table was lowered from, as sentences.
    pub(crate) problems: ArcSwap<Vec<String>>,
    /// Every kind that may not be read, as sentences.
    pub(crate) forbidden: ArcSwap<Vec<String>>,
    /// For which other gateways acknowledgements wait, as sentences.
    pub(crate) waiting: ArcSwap<Vec<String>>,
    /// Requests in flight, as the control loop last saw them.
    pub(crate) in_flight: AtomicUsize,
}

/// Where the pages are served.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Serves the pages until the task is dropped.
pub(crate) async fn serve(pages: Arc<Pages>, listener: Listener) {
    let limit = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&limit).acquire_owned().await {
        if let Some(stream) = accepted(listener.accept().await).await {
            let pages = Arc::clone(&pages);
            tokio::spawn(async move {
                connection(pages, stream).await;
                drop(permit);
            });
        }
    }
}

async fn connection(pages: Arc<Pages>, stream: Box<dyn Stream>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let uri = request.uri();
        let answer = answer(&pages, request.method(), uri.path(), uri.query());
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = ClientIo::new(stream, Bytes::new(), IDLE);
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

fn answer(
    pages: &Pages,
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".into(),
        );
    }
    match path {
        "/healthz" => page(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" if pages.is_ready() => page(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => page(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "the API has not been read yet\n".into(),
        ),
        "/metrics" => page(StatusCode::OK, "text/plain; version=0.0.4", pages.metrics()),
        "/routes" => page(StatusCode::OK, "application/json", pages.routes()),
        "/totals" => {
            let totals = serin_api::traffic::Stats {
                window_seconds: pages.shared.started.elapsed().as_secs_f64(),
                series: pages.registry.totals(),
            };
            let text = serde_json::to_string(&totals).unwrap_or_default();
            page(StatusCode::OK, "application/json", text)
        }
        "/stats" => match window(query) {
            Ok(window) => {
                let stats = pages.registry.stats(window, pages.shared.started.elapsed());
                let text = serde_json::to_string(&stats).unwrap_or_default();
                page(StatusCode::OK, "application/json", text)
            }
            Err(why) => page(StatusCode::BAD_REQUEST, "text/plain", why.into()),
        },
        _ => page(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /healthz, /readyz, /metrics, /routes, /stats?window=SECONDS and /totals\n"
                .into(),
        ),
    }
}

fn window(query: Option<&str>) -> Result<Duration, &'static str> {
    let given = query
        .into_iter()
        .flat_map(|q| q.split('&'))
        .find_map(|pair| pair.strip_prefix("window="));
    let seconds = match given {
        None => DEFAULT_WINDOW_SECONDS,
        Some(text) => text.parse().map_err(|_| "window must be seconds\n")?,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "window must be seconds from 0\n")
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Pages {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            registry: Arc::default(),
            problems: ArcSwap::default(),
            forbidden: ArcSwap::default(),
            waiting: ArcSwap::default(),
            in_flight: AtomicUsize::default(),
        }
    }

    /// Whether it should get requests: its routes are those of the API, or it has waited for them long enough.
    fn is_ready(&self) -> bool {
        let until = self.shared.settings.sync_until;
        self.shared.is_live.load(Ordering::Relaxed)
            || until.is_none_or(|until| std::time::Instant::now() >= until)
    }

    fn metrics(&self) -> String {
        let gauges = &self.shared.gauges;
        let observers = &self.shared.settings.observers;
        let log = observers.access_log.as_ref();
        let spans = observers.spans.as_ref().map(Spans::counts);
        let count = |of: fn(&Counts) -> &AtomicU64| {
            spans.map_or(0, |counts| of(counts).load(Ordering::Relaxed))
        };
        let own = prometheus::Gauges {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            connections: gauges.connections.load(Ordering::Relaxed),
            resting: gauges.resting.load(Ordering::Relaxed),
            held: gauges.held.load(Ordering::Relaxed),
            generation: self.shared.table.load().generation,
            no_route: gauges.no_route.load(Ordering::Relaxed),
            bad_requests: gauges.bad_requests.load(Ordering::Relaxed),
            retries: gauges.retries.load(Ordering::Relaxed),
            forbidden: self.forbidden.load().len(),
            ejections: gauges.ejections.load(Ordering::Relaxed),
            checks_passed: self.shared.health.passed.load(Ordering::Relaxed),
            checks_failed: self.shared.health.failed.load(Ordering::Relaxed),
            unhealthy: self.shared.health.out.load().len(),
            log_dropped: log.map_or(0, AccessLog::dropped),
            spans_exported: count(|counts| &counts.exported),
            spans_dropped: count(|counts| &counts.dropped),
        };
        prometheus::render(&self.registry.totals(), &own)
    }

    fn routes(&self) -> String {
        let live = self.shared.table.load();
        let shown = serde_json::json!({
            "generation": live.generation,
            "live": self.shared.is_live.load(Ordering::Relaxed),
            "problems": **self.problems.load(),
            "forbidden": **self.forbidden.load(),
            "waiting": **self.waiting.load(),
            "unhealthy": **self.shared.health.out.load(),
            "table": *live.table,
        });
        serde_json::to_string_pretty(&shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_seconds() {
        assert_eq!(window(None), Ok(Duration::from_secs(60)));
        assert_eq!(
            window(Some("a=b&window=2.5")),
            Ok(Duration::from_millis(2500))
        );
        assert!(window(Some("window=-1")).is_err());
        assert!(window(Some("window=soon")).is_err());
        assert!(window(Some("window=inf")).is_err());
    }
}
