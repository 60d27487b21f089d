//! Who is told of a request that has ended, and what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::access_log::AccessLog;
use crate::series::{Outcome, Series};
use crate::spans::Spans;
use crate::trace::Traced;

/// The longest text of a request that is told.
const LONGEST: usize = 2 * 1024;

/// Those who are told. None of them makes a worker wait.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) spans: Option<Spans>,
}

/// One request. It is filled in as the request goes on.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) method: http::Method,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Without its query, which may hold what is nobody's business.
    pub(crate) path: String,
    pub(crate) protocol: http::Version,
    pub(crate) scheme: &'static str,
    pub(crate) client: String,
    pub(crate) traced: Traced,
    pub(crate) started: Instant,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) series: Option<Arc<Series>>,
    /// The instance that was asked last.
    pub(crate) instance: Option<SocketAddr>,
    pub(crate) retries: u32,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// One that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) entry: Entry,
    /// When.
    pub(crate) time: Timestamp,
    /// After how long.
    pub(crate) passed: Duration,
}

impl Observers {
    pub(crate) fn is_empty(&self) -> bool {
        self.access_log.is_none() && self.spans.is_none()
    }

    /// Whether anybody may want to know of such a request.
    pub(crate) fn want(&self, traced: &Traced) -> bool {
        self.access_log.is_some() || traced.span.is_some()
    }

    /// Tells of a request that has just ended.
    pub(crate) fn tell(&self, entry: Entry) {
        let log = self.access_log.as_ref().filter(|log| log.wants(&entry));
        let spans = self.spans.as_ref().filter(|_| entry.traced.span.is_some());
        if log.is_none() && spans.is_none() {
            return;
        }
        let ended = Arc::new(Ended {
            time: Timestamp::now(),
            passed: entry.started.elapsed(),
            entry,
        });
        if let Some(spans) = spans {
            spans.tell(Arc::clone(&ended));
        }
        if let Some(log) = log {
            log.tell(ended);
        }
    }
}

impl Entry {
    /// Why no instance has answered; `None` when one has, or the gateway was asked to.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        match self.outcome {
            Some(outcome) => outcome.failure(),
            // Nobody has answered, so nobody was there to be answered.
            None => self.status.is_none().then_some("client_gone"),
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.failure().is_some() || self.status.is_some_and(|status| status >= 500)
    }
}

/// The beginning of a text that is longer than anybody needs.
pub(crate) fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(LONGEST);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
impl Ended {
    /// One that went well.
    pub(crate) fn example() -> Self {
        use crate::trace::Span;
        use serin_api::traffic::SeriesKey;
        let registry = crate::series::Registry::default();
        let span = Span::example();
        let entry = Entry {
            method: http::Method::POST,
            host: "app.example.com".into(),
            port: Some(8443),
            path: "/a\"\u{1}b".into(),
            protocol: http::Version::HTTP_2,
            scheme: "https",
            client: "192.0.2.1".into(),
            traced: Traced {
                trace: Some(span.trace),
                span: Some(Box::new(span)),
            },
            started: Instant::now(),
            status: Some(200),
            outcome: Some(Outcome::Answered {
                class: 2,
                latency: Duration::from_micros(1500),
            }),
            series: Some(registry.series(SeriesKey {
                route: "httproute/default/web".into(),
                service: "default/web".into(),
                revision: "v2".into(),
            })),
            instance: Some(([127, 0, 0, 1], 9000).into()),
            retries: 1,
            received: 10,
            sent: 2000,
        };
        Self {
            entry,
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            passed: Duration::from_millis(4),
        }
    }

    /// One that the client has left before anybody was asked.
    pub(crate) fn unanswered() -> Self {
        let mut ended = Self::example();
        let entry = &mut ended.entry;
        (entry.status, entry.outcome, entry.series) = (None, None, None);
        (entry.instance, entry.traced) = (None, Traced::default());
        ended
    }
}
