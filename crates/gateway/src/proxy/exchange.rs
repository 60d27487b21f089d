//! One request: choose, connect, send, and try again where that is safe.
//!
//! Safe is: as long as nothing was sent, every request; once it was sent, only one that changes nothing (GET, HEAD, OPTIONS), has
//! no body and got no answer, and only once. While no instance is ready the request is held, up to a bound.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use super::answer::{self, Reason};
use super::body::{self, AnswerBody, Progress, RequestBody, Ticket, Upload, UploadError, Upstream};
use super::forwarded::Hop;
use super::head::{self, Head};
use super::pool::Connection;
use super::{Worker, upgrade};
use crate::instances::{Endpoint, InFlight};
use crate::live::{LiveRule, NoPick, RequestView};
use crate::series::{Outcome, Series};
use crate::table::Protocol;

/// How long an endpoint that could not be reached comes last.
const SUSPECT_MS: u64 = 500;
/// The pause after every endpoint has refused, unless a new table comes first.
const PAUSE: Duration = Duration::from_millis(50);

/// The media type of server-sent events.
const EVENTS: &[u8] = b"text/event-stream";

/// A request on its way.
struct Exchange<'a> {
    worker: &'a Arc<Worker>,
    head: Head,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<RequestBody>,
    /// Of the body, where there is one.
    progress: Option<Arc<Progress>>,
    client_upgrade: Option<OnUpgrade>,
    /// Whether it may be sent once more after it was sent.
    is_repeatable: bool,
    turn: Option<u32>,
    tried: Vec<u64>,
    started: Instant,
    ticket: Ticket,
}

/// Where the request goes in this try.
struct Chosen {
    endpoint: Arc<Endpoint>,
    series: Arc<Series>,
    in_flight: InFlight,
    /// The headers as route and backend change them; `None` when they change nothing.
    headers: Option<HeaderMap>,
    /// The end of the whole exchange.
    deadline: Option<Instant>,
    /// The end of the wait for the answer's head.
    head_deadline: Option<Instant>,
    /// How long that wait is from the last progress of the request's body; `None` where the route sets the deadline.
    head_patience: Option<Duration>,
}

/// What the table says.
enum Choice {
    Go(Chosen),
    /// No endpoint now; the generation of the table that says so.
    Wait(u64, NoPick, Option<Instant>),
    Answer(Reason, &'static str),
}

/// Why a try gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before anything was sent.
    Unsent,
    /// It ended after something was sent.
    Lost,
    /// What came was no answer.
    Garbage,
    /// No answer in time.
    Timeout,
    /// The client's body broke off.
    Client,
    /// The client sent nothing of its body for too long.
    Stalled,
}

/// What comes after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another try, at another endpoint if there is one.
    Again,
    /// The end.
    GiveUp(Reason, Outcome),
}

fn next(failure: Failure, is_repeatable: bool) -> Next {
    match failure {
        Failure::Connect | Failure::Unsent => Next::Again,
        Failure::Lost if is_repeatable => Next::Again,
        Failure::Lost | Failure::Garbage => Next::GiveUp(Reason::Broken, Outcome::Broken),
        Failure::Timeout => Next::GiveUp(Reason::Timeout, Outcome::Timeout),
        Failure::Client => Next::GiveUp(Reason::BadRequest, Outcome::ClientGone),
        Failure::Stalled => Next::GiveUp(Reason::Stalled, Outcome::ClientGone),
    }
}

/// Answers `request`.
pub(super) async fn run(
    worker: &Arc<Worker>,
    hop: &Hop,
    head: Head,
    mut request: Request<Incoming>,
) -> Response<AnswerBody> {
    if *request.method() == Method::CONNECT {
        return answer::own(Reason::NotServed, "CONNECT is not served.\n");
    }
    let client_upgrade = head
        .upgrade
        .is_some()
        .then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    if parts.version == Version::HTTP_2 {
        head::from_http2(&parts.uri, &mut parts.headers);
    } else {
        head::strip_hop(&mut parts.headers);
    }
    parts.headers.remove(header::EXPECT);
    hop.apply(&mut parts.headers);
    worker.retries.deposit();
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_repeatable = is_safe && body.is_end_stream() && client_upgrade.is_none();
    let has_body = !body.is_end_stream();
    let upload = Upload::new(body, worker.shared.settings.body_idle);
    let exchange = Exchange {
        worker,
        is_repeatable,
        head,
        method: parts.method,
        uri: origin_form(parts.uri),
        headers: parts.headers,
        progress: has_body.then(|| upload.progress()),
        body: Some(RequestBody::Client(upload)),
        client_upgrade,
        turn: None,
        tried: Vec::new(),
        started: Instant::now(),
        ticket: Ticket::default(),
    };
    exchange.run().await
}

/// The target without scheme and authority.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let path = uri.into_parts().path_and_query;
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

impl Exchange<'_> {
    async fn run(mut self) -> Response<AnswerBody> {
        let hold_until = self.started + self.worker.shared.settings.hold;
        loop {
            let failure = match self.choose() {
                Choice::Answer(reason, sentence) => return answer::own(reason, sentence),
                Choice::Wait(seen, why, deadline) => {
                    let until = deadline.map_or(hold_until, |d| d.min(hold_until));
                    if !self.wait(seen, why, until).await {
                        return self.held_too_long(why);
                    }
                    self.tried.clear();
                    continue;
                }
                Choice::Go(chosen) => match self.attempt(chosen).await {
                    Ok(answer) => return answer,
                    Err(failure) => failure,
                },
            };
            let is_repeatable = self.is_repeatable
                && (failure != Failure::Lost || self.worker.retries.withdraw(Instant::now()));
            if let Next::GiveUp(reason, outcome) = next(failure, is_repeatable) {
                self.ticket.finish(outcome);
                return answer::own(reason, sentence(failure));
            }
            if failure == Failure::Lost {
                self.is_repeatable = false;
                self.body = Some(RequestBody::Empty);
            }
            self.worker
                .shared
                .gauges
                .retries
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks the table in use. Nothing of the table is kept over an await.
    fn choose(&mut self) -> Choice {
        let shared = &self.worker.shared;
        // Asked before the table is, so that a table that comes in between is waited for and found there.
        let may_know_more = shared.may_know_more_soon();
        let table = shared.table.load();
        let view = RequestView {
            host: &self.head.host,
            port: self.head.port,
            path: self.uri.path(),
            query: self.uri.query().unwrap_or_default(),
            method: &self.method,
            headers: &self.headers,
        };
        let Some(rule) = table.find(&view) else {
            if may_know_more {
                return Choice::Wait(
                    table.generation,
                    NoPick::NotRead,
                    shared.settings.sync_until,
                );
            }
            shared.gauges.no_route.fetch_add(1, Ordering::Relaxed);
            return Choice::Answer(Reason::NoRoute, "No route has this host and path.\n");
        };
        if !rule.has_service {
            if may_know_more {
                return Choice::Wait(
                    table.generation,
                    NoPick::NotRead,
                    shared.settings.sync_until,
                );
            }
            self.ticket.move_to(&rule.unreached);
            self.ticket.finish(Outcome::NoEndpoint);
            return Choice::Answer(
                Reason::NoBackend,
                "The route names no Service that exists.\n",
            );
        }
        let (deadline, head_deadline) = self.deadlines(rule);
        let turn = *self.turn.get_or_insert_with(|| rule.next_turn());
        match rule.pick(turn, &self.tried, shared.now_ms()) {
            Ok(picked) => {
                let changes_nothing = rule.headers.is_empty() && picked.headers.is_empty();
                let headers = (!changes_nothing).then(|| {
                    let mut headers = self.headers.clone();
                    rule.headers.apply(&mut headers);
                    picked.headers.apply(&mut headers);
                    headers
                });
                Choice::Go(Chosen {
                    endpoint: Arc::clone(picked.endpoint),
                    series: Arc::clone(picked.series),
                    in_flight: picked.in_flight,
                    headers,
                    deadline,
                    head_deadline,
                    head_patience: (rule.timeout_ms.is_none() && rule.try_timeout_ms.is_none())
                        .then_some(shared.settings.head_timeout),
                })
            }
            Err(why) => {
                self.ticket.move_to(&rule.unreached);
                Choice::Wait(table.generation, why, deadline)
            }
        }
    }

    /// When the whole exchange and when the wait for the head end; `None` is never.
    fn deadlines(&self, rule: &LiveRule) -> (Option<Instant>, Option<Instant>) {
        let after = |ms: u64| (ms > 0).then(|| self.started + Duration::from_millis(ms));
        let whole = rule.timeout_ms.and_then(after);
        let head = match rule.timeout_ms {
            None => Some(Instant::now() + self.worker.shared.settings.head_timeout),
            Some(_) => whole,
        };
        let one_try = rule.try_timeout_ms.filter(|ms| *ms > 0);
        let one_try = one_try.map(|ms| Instant::now() + Duration::from_millis(ms));
        (whole, one_try.into_iter().chain(head).min())
    }

    /// Waits for another table; `false` when the time is over or too many wait already.
    async fn wait(&self, seen: u64, why: NoPick, until: Instant) -> bool {
        let shared = &self.worker.shared;
        let now = Instant::now();
        let _held = Held::new(&shared.gauges.held);
        if now >= until || shared.gauges.held.load(Ordering::Relaxed) > shared.settings.max_held {
            return false;
        }
        let mut swapped = shared.swapped.subscribe();
        let other_table = swapped.wait_for(|generation| *generation > seen);
        let left = match why {
            NoPick::NoneReady | NoPick::NotRead => until - now,
            NoPick::AllTried => PAUSE.min(until - now),
        };
        let changed = tokio::time::timeout(left, other_table).await;
        matches!(changed, Ok(Ok(_))) || why == NoPick::AllTried
    }

    fn held_too_long(mut self, why: NoPick) -> Response<AnswerBody> {
        match why {
            NoPick::NotRead => {
                let gauges = &self.worker.shared.gauges;
                gauges.no_route.fetch_add(1, Ordering::Relaxed);
                answer::own(Reason::NoRoute, "No route has this host and path.\n")
            }
            NoPick::NoneReady => {
                self.ticket.finish(Outcome::NoEndpoint);
                answer::own(Reason::NoEndpoint, "No instance is ready.\n")
            }
            NoPick::AllTried => {
                self.ticket.finish(Outcome::Connect);
                answer::own(Reason::Connect, "No instance could be reached.\n")
            }
        }
    }

    /// One try at one endpoint; pooled connections that turn out to be dead do not count as a try.
    async fn attempt(&mut self, mut chosen: Chosen) -> Result<Response<AnswerBody>, Failure> {
        self.tried.push(chosen.endpoint.id);
        loop {
            let probe = !self.is_repeatable;
            if chosen.endpoint.protocol == Protocol::H2c {
                // HTTP/2 has no upgrades: the request goes as one that asks for none.
                self.client_upgrade = None;
                self.head.upgrade = None;
            }
            let pooled = match &self.client_upgrade {
                None => self.worker.pool.take(&chosen.endpoint, probe),
                Some(_) => None,
            };
            let is_pooled = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => self.connect(&chosen).await?,
            };
            self.ticket.move_to(&chosen.series);
            let request = self.request(&mut chosen);
            let sent = connection.send(request);
            let answered = match chosen.head_deadline {
                None => sent.await,
                Some(at) => self.in_time(sent, at, chosen.head_patience).await?,
            };
            let mut error = match answered {
                Ok(answer) => return Ok(self.answer(answer, chosen, connection)),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) => self.take_back(unsent, &mut chosen),
                None => return Err(classify(error.error())),
            }
            if !is_pooled {
                return Err(Failure::Unsent);
            }
        }
    }

    /// Waits for the head of the answer. Where the patience is the gateway's own it begins anew while the body of the request
    /// gets on: a long upload is no silence of the instance.
    async fn in_time<T>(
        &self,
        sent: impl Future<Output = T>,
        mut at: Instant,
        patience: Option<Duration>,
    ) -> Result<T, Failure> {
        let mut sent = std::pin::pin!(sent);
        loop {
            if let Ok(answered) = tokio::time::timeout_at(at.into(), sent.as_mut()).await {
                return Ok(answered);
            }
            let progress = self.progress.as_ref().map(|progress| progress.last());
            match progress
                .zip(patience)
                .map(|(last, patience)| last + patience)
            {
                Some(later) if later > at => at = later,
                _ => return Err(Failure::Timeout),
            }
        }
    }

    async fn connect(&self, chosen: &Chosen) -> Result<Connection, Failure> {
        let timeout = self.worker.shared.settings.connect_timeout;
        let upgradable = self.client_upgrade.is_some();
        let opened = self.worker.pool.open(&chosen.endpoint, timeout, upgradable);
        match opened.await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                tracing::debug!(address = %chosen.endpoint.address, %error, "an endpoint cannot be reached");
                let until = self.worker.shared.now_ms() + SUSPECT_MS;
                chosen
                    .endpoint
                    .suspect_until
                    .store(until, Ordering::Relaxed);
                Err(Failure::Connect)
            }
        }
    }

    /// The request as the instance gets it. What may be needed again is kept.
    fn request(&mut self, chosen: &mut Chosen) -> Request<RequestBody> {
        let mut headers = match chosen.headers.take() {
            Some(changed) => {
                chosen.headers = self.is_repeatable.then(|| changed.clone());
                changed
            }
            None if self.is_repeatable => self.headers.clone(),
            None => std::mem::take(&mut self.headers),
        };
        if !headers.contains_key(header::HOST) {
            let address = HeaderValue::from_str(&chosen.endpoint.address.to_string());
            headers.extend(address.ok().map(|address| (header::HOST, address)));
        }
        if let Some(protocol) = &self.head.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        let body = self.body.take().unwrap_or(RequestBody::Empty);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        request
    }

    /// Puts back what was not sent.
    fn take_back(&mut self, unsent: Request<RequestBody>, chosen: &mut Chosen) {
        let (mut parts, body) = unsent.into_parts();
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            // Over HTTP/2 the host went there.
            parts.headers.entry(header::HOST).or_insert(host);
        }
        self.body = Some(body);
        if self.headers.is_empty() {
            self.headers = parts.headers;
        } else if !self.is_repeatable {
            chosen.headers = Some(parts.headers);
        }
    }

    fn answer(
        &mut self,
        answer: Response<Incoming>,
        chosen: Chosen,
        connection: Connection,
    ) -> Response<AnswerBody> {
        let latency = self.started.elapsed();
        let answered = Outcome::Answered {
            class: answer.status().as_u16() / 100,
            latency,
        };
        let ticket = std::mem::take(&mut self.ticket);
        if let Some(client) = self.client_upgrade.take()
            && answer.status() == http::StatusCode::SWITCHING_PROTOCOLS
        {
            let in_flight = chosen.in_flight;
            return upgrade::join(client, answer, ticket, answered, in_flight, self.worker);
        }
        let (mut parts, incoming) = answer.into_parts();
        head::strip_hop(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let is_events = kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENTS));
        let upstream = Upstream {
            is_events,
            to_go: None,
            incoming,
            ticket,
            answered,
            in_flight: Some(chosen.in_flight),
            connection: Some(connection),
            worker: Arc::clone(self.worker),
            deadline: body::deadline(chosen.deadline),
        };
        Response::from_parts(parts, AnswerBody::Upstream(Box::new(upstream)))
    }
}

fn classify(error: &hyper::Error) -> Failure {
    let stalled = || {
        let source = std::error::Error::source(error);
        let source = source.and_then(|source| source.downcast_ref::<UploadError>());
        matches!(source, Some(UploadError::Stalled))
    };
    if error.is_user() && stalled() {
        Failure::Stalled
    } else if error.is_user() {
        Failure::Client
    } else if error.is_parse() {
        Failure::Garbage
    } else {
        Failure::Lost
    }
}

fn sentence(failure: Failure) -> &'static str {
    match failure {
        Failure::Timeout => "The instance did not answer in time.\n",
        Failure::Client => "The body of the request broke off.\n",
        Failure::Stalled => "Nothing of the body of the request came for too long.\n",
        Failure::Garbage => "The instance sent no HTTP answer.\n",
        Failure::Connect | Failure::Unsent | Failure::Lost => {
            "The connection to the instance broke before its answer.\n"
        }
    }
}

/// One more request that is held.
struct Held<'a>(&'a std::sync::atomic::AtomicUsize);

impl<'a> Held<'a> {
    fn new(gauge: &'a std::sync::atomic::AtomicUsize) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_repeated_only_when_that_is_safe() {
        let again = |failure, repeatable| next(failure, repeatable) == Next::Again;
        let safe = [
            Failure::Connect,
            Failure::Unsent,
            Failure::Lost,
            Failure::Garbage,
            Failure::Timeout,
            Failure::Client,
        ]
        .map(|failure| (again(failure, true), again(failure, false)));
        let expected = [
            (true, true),
            (true, true),
            (true, false),
            (false, false),
            (false, false),
            (false, false),
        ];
        assert_eq!(safe, expected);
    }
}
