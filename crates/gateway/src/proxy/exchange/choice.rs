//! What the table says of a request, and what is needed to carry it out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, Uri};

use super::super::Settings;
use super::super::answer::Reason;
use super::super::body::Ticket;
use super::super::forwarded::Hop;
use super::super::head::Head;
use super::super::steps::{AnswerChanges, Early, changed_headers};
use crate::instances::{Endpoint, InFlight};
use crate::live::{LiveRule, NoPick, Outliers, Picked};
use crate::observers::Entry;
use crate::series::{Outcome, Series};
use crate::trace::Traced;

/// Where the request goes in this try.
pub(super) struct Chosen {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) series: Arc<Series>,
    pub(super) in_flight: InFlight,
    /// The headers as route and backend change them; `None` when they change nothing.
    pub(super) headers: Option<HeaderMap>,
    /// The target, where the rule has another one than the client.
    pub(super) target: Option<Uri>,
    pub(super) answer_changes: AnswerChanges,
    pub(super) outliers: Option<Arc<Outliers>>,
    /// How long a connect may take.
    pub(super) connect_timeout: Duration,
    /// The end of the whole exchange.
    pub(super) deadline: Option<Instant>,
    /// The end of the wait for the answer's head.
    pub(super) head_deadline: Option<Instant>,
    /// How long that wait is from the last progress of the request's body; `None` where the route sets the deadline.
    pub(super) head_patience: Option<Duration>,
}

/// What the table says.
pub(super) enum Choice {
    Go(Box<Chosen>),
    /// No endpoint now; the generation of the table that says so.
    Wait(u64, NoPick, Option<Instant>),
    Answer(Reason, &'static str),
    /// The rule itself answers or delays.
    Early(Early),
}

impl Chosen {
    /// The try that was picked. `at` is the target of the client and how much of its path matched, `deadlines` the end of the whole
    /// exchange and that of the wait for the answer's head.
    pub(super) fn new(
        rule: &LiveRule,
        picked: Picked<'_>,
        at: (&Uri, Option<usize>),
        headers: &HeaderMap,
        deadlines: (Option<Instant>, Option<Instant>),
        settings: &Settings,
    ) -> Self {
        let (uri, prefix) = at;
        let rewrite = rule.extras.as_ref().and_then(|e| e.rewrite.as_ref());
        let connect_timeout = picked.backend.connect_timeout();
        let sets_no_time = rule.timeout_ms.is_none() && rule.try_timeout_ms.is_none();
        Self {
            endpoint: Arc::clone(picked.endpoint),
            series: Arc::clone(picked.series),
            headers: changed_headers(headers, rule, &picked),
            target: rewrite.and_then(|rewrite| rewrite.target(uri, prefix)),
            answer_changes: AnswerChanges::new(rule, &picked),
            outliers: picked.backend.outliers().cloned(),
            connect_timeout: connect_timeout.unwrap_or(settings.connect_timeout),
            in_flight: picked.in_flight,
            deadline: deadlines.0,
            head_deadline: deadlines.1,
            head_patience: sets_no_time.then_some(settings.head_timeout),
        }
    }
}

/// What observers are told of a request from its beginning.
pub(super) fn entry_of(head: &Head, parts: &Parts, hop: &Hop, traced: Traced) -> Box<Entry> {
    Box::new(Entry {
        method: parts.method.clone(),
        host: head.host.to_string(),
        port: head.port,
        path: parts.uri.path().to_owned(),
        protocol: parts.version,
        scheme: hop.scheme(),
        client: hop.address.to_str().unwrap_or_default().to_owned(),
        traced,
        started: Instant::now(),
        status: None,
        outcome: None,
        series: None,
        instance: None,
        retries: 0,
        received: 0,
        sent: 0,
    })
}

/// The answer when the Service has as many requests as it may have.
pub(super) fn overloaded(rule: &LiveRule, ticket: &mut Ticket) -> Choice {
    ticket.move_to(&rule.unreached);
    ticket.finish(Outcome::Overloaded);
    let sentence = "As many requests are at the Service as it may have.\n";
    Choice::Answer(Reason::Overloaded, sentence)
}

/// The share falls to a Service that is not there.
pub(super) fn no_backend(rule: &LiveRule, ticket: &mut Ticket) -> Choice {
    ticket.move_to(&rule.unreached);
    ticket.finish(Outcome::NoEndpoint);
    Choice::Answer(
        Reason::NoBackend,
        "The route names no Service that exists.\n",
    )
}
