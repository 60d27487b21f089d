//! One request: choose, connect, send, and try again where that is safe.
//!
//! Safe is: as long as nothing was sent, every request; once it was sent, only one that changes nothing (GET, HEAD, OPTIONS), has
//! no body and got no answer, and only once. While no instance is ready the request is held, up to a bound.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::answer::{self, Answer, Reason};
use super::body::{self, AnswerBody, Busy, Progress, RequestBody, Source, Ticket, Upstream};
use super::failure::{Failure, Next, next, sentence};
use super::forwarded::Hop;
use super::head::{self, Head, RequestHead};
use super::pool::{Connection, Need, SendError};
use super::steps::{Early, Steps, tell_outliers};
use super::wire::Asked;
use super::{Worker, mirror, upgrade};
use crate::live::{LiveRule, NoPick, Permit, RequestView};
use crate::series::Outcome;
use crate::table::Protocol;
use crate::trace::{self, Traced};

mod choice;
mod hold;
mod inbound;

use choice::{Choice, Chosen, entry_of, no_backend, overloaded};

pub(super) use inbound::Inbound;

/// How long an endpoint that could not be reached comes last.
const SUSPECT_MS: u64 = 500;

/// The media type of server-sent events.
const EVENTS: &[u8] = b"text/event-stream";

/// A request on its way.
pub(super) struct Exchange<'a> {
    worker: &'a Arc<Worker>,
    request: Box<RequestHead>,
    body: Option<RequestBody>,
    /// Of the body, where there is one.
    progress: Option<Arc<Progress>>,
    client_upgrade: Option<OnUpgrade>,
    /// Whether it may be sent once more after it was sent.
    is_repeatable: bool,
    /// Whether it has no body, so that a rule may have it sent more often.
    is_bodiless: bool,
    scheme: &'static str,
    client: &'a str,
    listener: u16,
    steps: Steps,
    /// What the Service of the last try lets be sent again at once.
    retry_bound: Option<(Arc<AtomicUsize>, usize)>,
    turn: Option<u32>,
    /// The endpoints that have failed it, since a table was last waited for.
    tried: Vec<u64>,
    started: Instant,
    busy: Busy,
    ticket: Ticket,
}

/// Answers a request that hyper has read.
pub(super) async fn run(
    worker: &Arc<Worker>,
    hop: &Hop,
    head: Head,
    request: Box<Request<Incoming>>,
    busy: Busy,
) -> Answer {
    if *request.method() == Method::CONNECT {
        return answer::own(Reason::NotServed, "CONNECT is not served.\n");
    }
    let mut exchange = begin(worker, hop, head, request, busy);
    Box::pin(exchange.run()).await
}

fn begin<'a>(
    worker: &'a Arc<Worker>,
    hop: &'a Hop,
    head: Head,
    mut request: Box<Request<Incoming>>,
    busy: Busy,
) -> Box<Exchange<'a>> {
    let upgrade = head
        .upgrade
        .is_some()
        .then(|| hyper::upgrade::on(&mut *request));
    let (mut parts, body) = request.into_parts();
    if parts.version == Version::HTTP_2 {
        head::from_http2(&parts.uri, &mut parts.headers);
    } else {
        head::strip_hop(&mut parts.headers);
    }
    parts.headers.remove(header::EXPECT);
    let inbound = Inbound::new(body, upgrade, worker.shared.settings.body_idle, &busy);
    let request = Box::new(RequestHead { head, parts });
    Exchange::new(worker, hop, request, inbound, busy)
}

/// The host of a request that names none.
fn host_of(chosen: &Chosen) -> Option<HeaderValue> {
    HeaderValue::from_str(&chosen.endpoint.address.to_string()).ok()
}

/// Takes scheme and authority off a target.
fn to_origin_form(uri: &mut Uri) {
    if uri.authority().is_some() {
        let path = std::mem::take(uri).into_parts().path_and_query;
        *uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        worker: &'a Arc<Worker>,
        hop: &'a Hop,
        mut request: Box<RequestHead>,
        inbound: Inbound,
        busy: Busy,
    ) -> Box<Self> {
        let RequestHead { head, parts } = &mut *request;
        hop.apply(&mut parts.headers);
        let settings = &worker.shared.settings;
        let observers = &settings.observers;
        let traced = match settings.looks_at_traces() {
            true => trace::pass(
                &mut parts.headers,
                settings.trace_share,
                observers.spans.is_some(),
            ),
            false => Traced::default(),
        };
        worker.retries.deposit();
        let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let is_bodiless = inbound.progress.is_none() && inbound.upgrade.is_none();
        let entry = observers
            .want(&traced)
            .then(|| (Arc::clone(observers), entry_of(head, parts, hop, traced)));
        to_origin_form(&mut parts.uri);
        Box::new(Self {
            worker,
            request,
            is_repeatable: is_safe && is_bodiless,
            is_bodiless,
            scheme: hop.scheme(),
            client: hop.address.to_str().unwrap_or_default(),
            listener: hop.listener,
            steps: Steps::default(),
            ticket: Ticket::new(inbound.progress.clone(), entry),
            progress: inbound.progress,
            body: Some(inbound.body),
            client_upgrade: inbound.upgrade,
            retry_bound: None,
            turn: None,
            tried: Vec::new(),
            started: Instant::now(),
            busy,
        })
    }

    pub(super) async fn run(&mut self) -> Answer {
        let hold_until = self.started + self.worker.shared.settings.hold;
        loop {
            let failure = match self.choose() {
                Choice::Answer(reason, sentence) => return self.own(reason, sentence),
                Choice::Early(Early::Answer(answer)) => {
                    self.ticket.note_status(answer.status());
                    return answer;
                }
                Choice::Early(Early::Delay(delay)) => {
                    tokio::time::sleep(delay).await;
                    continue;
                }
                Choice::Wait(seen, why, deadline) => {
                    let until = deadline.map_or(hold_until, |d| d.min(hold_until));
                    if !self.wait(seen, why, until).await {
                        return self.held_too_long(why);
                    }
                    self.tried.clear();
                    continue;
                }
                Choice::Go(mut chosen) => match self.attempt(&mut chosen).await {
                    Ok(answer) => return self.answer(answer, chosen),
                    Err(failure) => {
                        self.tried.push(chosen.endpoint.id);
                        failure
                    }
                },
            };
            let rule_retries = self.is_bodiless && self.steps.retries_failures();
            let is_known_lost =
                matches!(failure, Failure::Lost | Failure::Garbage | Failure::Timeout);
            let may_repeat = is_known_lost
                && (rule_retries || (self.is_repeatable && failure == Failure::Lost))
                && self.may_send_again();
            let is_repeatable = may_repeat && self.is_repeatable;
            let rule_retries = may_repeat && rule_retries;
            if let Next::GiveUp(reason, outcome) = next(failure, is_repeatable, rule_retries) {
                self.ticket.finish(outcome);
                return self.own(reason, sentence(failure));
            }
            if !matches!(failure, Failure::Connect | Failure::Unsent) {
                self.again_by_rule(failure, rule_retries).await;
            }
            self.worker
                .shared
                .gauges
                .retries
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer of the gateway itself.
    fn own(&mut self, reason: Reason, sentence: &'static str) -> Answer {
        let answer = answer::own(reason, sentence);
        self.ticket.note_status(answer.status());
        answer
    }

    /// Whether one more try, after something was sent, is within the bounds: the budget of the worker, and what the Service lets be
    /// sent again at once.
    fn may_send_again(&mut self) -> bool {
        let permit = match &self.retry_bound {
            Some((count, most)) if !self.ticket.holds_retry() => {
                match Permit::counted(count, *most) {
                    Some(permit) => Some(permit),
                    None => return false,
                }
            }
            _ => None,
        };
        if !self.worker.retries.withdraw(Instant::now()) {
            return false;
        }
        if let Some(permit) = permit {
            self.ticket.hold_retry(permit);
        }
        true
    }

    /// Something was sent, and it is sent again.
    async fn again_by_rule(&mut self, failure: Failure, rule_retries: bool) {
        self.body = Some(RequestBody::Empty);
        self.ticket.count_retry();
        if rule_retries || failure == Failure::Unwanted {
            let pause = self.steps.count_retry();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        } else {
            self.is_repeatable = false;
        }
    }

    /// Whether the headers are needed again after they were sent.
    fn keeps_headers(&self) -> bool {
        self.is_repeatable || (self.is_bodiless && self.steps.may_retry())
    }

    /// Asks the table in use. Nothing of the table is kept over an await.
    fn choose(&mut self) -> Choice {
        let shared = &self.worker.shared;
        // Asked before the table is, so that a table that comes in between is waited for and found there.
        let may_know_more = shared.may_know_more_soon();
        let table = shared.table.load();
        let sync_until = shared.settings.sync_until;
        let not_read = || Choice::Wait(table.generation, NoPick::NotRead, sync_until);
        let RequestHead { head, parts } = &*self.request;
        let view = RequestView {
            host: &head.host,
            port: head.port,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            method: &parts.method,
            headers: &parts.headers,
            scheme: self.scheme,
            client: self.client,
            listener: self.listener,
        };
        let Some((rule, prefix)) = table.find(&view) else {
            if may_know_more {
                return not_read();
            }
            shared.gauges.no_route.fetch_add(1, Ordering::Relaxed);
            return Choice::Answer(Reason::NoRoute, "No route has this host and path.\n");
        };
        if let Some(extras) = &rule.extras {
            let at = (&parts.uri, prefix);
            let ticket = &mut self.ticket;
            let early = self.steps.early((rule, extras), at, &view, shared, ticket);
            if let Some(early) = early {
                return Choice::Early(early);
            }
        }
        if !rule.has_service {
            if may_know_more {
                return not_read();
            }
            return no_backend(rule, &mut self.ticket);
        }
        let (deadline, head_deadline) = self.deadlines(rule);
        let turn = *self.turn.get_or_insert_with(|| rule.next_turn());
        let now_ms = shared.now_ms();
        let ask = self.steps.ask(rule, turn, &self.tried, now_ms, &view);
        match rule.pick(&ask) {
            Ok(mut picked) => {
                self.steps.picked(rule, &picked, ask.user);
                self.retry_bound = picked.backend.retries().cloned();
                if let Some(permit) = picked.permit.take() {
                    self.ticket.hold_place(permit);
                }
                let at = (&parts.uri, prefix);
                let deadlines = (deadline, head_deadline);
                Choice::Go(Box::new(Chosen::new(
                    rule,
                    picked,
                    at,
                    &parts.headers,
                    deadlines,
                    &shared.settings,
                )))
            }
            Err(NoPick::Invalid) => no_backend(rule, &mut self.ticket),
            Err(NoPick::Full) => overloaded(rule, &mut self.ticket),
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

    /// One try at one endpoint, and what is learnt of the endpoint.
    async fn attempt(&mut self, chosen: &mut Chosen) -> Result<Box<Response<Source>>, Failure> {
        self.ticket.note_instance(chosen.endpoint.address);
        let sent = self.send(chosen).await;
        let status = sent.as_ref().ok().map(|answer| answer.status());
        if !matches!(sent, Err(Failure::Client)) {
            let outliers = chosen.outliers.as_ref();
            tell_outliers(outliers, &chosen.endpoint, status, &self.worker.shared);
        }
        let answer = sent?;
        let is_unwanted = self.is_bodiless && self.steps.wants_other(answer.status());
        if is_unwanted && self.may_send_again() {
            return Err(Failure::Unwanted);
        }
        Ok(answer)
    }

    /// Sends the request; pooled connections that turn out to be dead do not count as a try.
    async fn send(&mut self, chosen: &mut Chosen) -> Result<Box<Response<Source>>, Failure> {
        loop {
            let probe = !self.is_repeatable;
            if chosen.endpoint.protocol == Protocol::Http2 {
                // HTTP/2 has no upgrades: the request goes as one that asks for none.
                self.client_upgrade = None;
                self.request.head.upgrade = None;
            }
            let need = match &self.client_upgrade {
                Some(_) => Need::Upgrade,
                None if self.is_bodiless => Need::Bodiless,
                None => Need::Any,
            };
            let pooled = self.worker.pool.take(&chosen.endpoint, need, probe);
            let is_pooled = pooled.is_some();
            let connection = match pooled {
                Some(connection) => connection,
                // Rare, and large: in a box it costs the others nothing.
                None => Box::pin(self.connect(chosen, need)).await?,
            };
            self.ticket.move_to(&chosen.series);
            let sent = if connection.is_wire() && self.steps.copies.is_empty() {
                self.ask(connection, chosen).await
            } else {
                // Large too.
                Box::pin(self.send_over(connection, chosen)).await
            };
            match sent {
                Err(Failure::Unsent) if is_pooled => {}
                sent => return sent,
            }
        }
    }

    /// Sends the request as it stands, and keeps it.
    async fn ask(
        &self,
        connection: Connection,
        chosen: &Chosen,
    ) -> Result<Box<Response<Source>>, Failure> {
        let parts = &self.request.parts;
        let headers = chosen.headers.as_ref().unwrap_or(&parts.headers);
        let host = match headers.contains_key(header::HOST) {
            true => None,
            false => host_of(chosen),
        };
        let asked = Asked {
            method: &parts.method,
            target: chosen.target.as_ref().unwrap_or(&parts.uri),
            host: host.as_ref(),
            headers,
        };
        self.in_time(std::pin::pin!(connection.ask(asked)), chosen)
            .await?
    }

    /// Makes a request of its own and gives it away; it comes back when nothing of it was sent.
    async fn send_over(
        &mut self,
        connection: Connection,
        chosen: &mut Chosen,
    ) -> Result<Box<Response<Source>>, Failure> {
        let mut request = self.request(chosen);
        if !self.steps.copies.is_empty() {
            let copies = std::mem::take(&mut self.steps.copies);
            request = mirror::send(self.worker, copies, request);
        }
        let sent = connection.send(Box::new(request));
        match self.in_time(std::pin::pin!(sent), chosen).await? {
            Ok(answer) => Ok(answer),
            Err(SendError::Unsent(unsent)) => {
                self.take_back(*unsent, chosen);
                Err(Failure::Unsent)
            }
            Err(SendError::Failed(failure)) => Err(failure),
        }
    }

    /// Waits for the head of the answer. Where the patience is the gateway's own it begins anew while the body of the request
    /// gets on: a long upload is no silence of the instance.
    async fn in_time<T>(
        &self,
        mut sent: Pin<&mut impl Future<Output = T>>,
        chosen: &Chosen,
    ) -> Result<T, Failure> {
        let Some(mut at) = chosen.head_deadline else {
            return Ok(sent.await);
        };
        loop {
            if let Some(answered) = self.worker.timers.until(at.into(), sent.as_mut()).await {
                return Ok(answered);
            }
            let progress = self.progress.as_ref().map(|progress| progress.last());
            match progress
                .zip(chosen.head_patience)
                .map(|(last, patience)| last + patience)
            {
                Some(later) if later > at => at = later,
                _ => return Err(Failure::Timeout),
            }
        }
    }

    async fn connect(&self, chosen: &Chosen, need: Need) -> Result<Connection, Failure> {
        let timeout = chosen.connect_timeout;
        let opened = self.worker.pool.open(&chosen.endpoint, timeout, need);
        match opened.await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                tracing::debug!(address = %chosen.endpoint.address, %error, "an endpoint cannot be reached");
                let now_ms = self.worker.shared.now_ms();
                chosen.endpoint.suspect_until(now_ms + SUSPECT_MS);
                Err(Failure::Connect)
            }
        }
    }

    /// The request as the instance gets it. What may be needed again is kept.
    fn request(&mut self, chosen: &mut Chosen) -> Request<RequestBody> {
        let keeps_headers = self.keeps_headers();
        let RequestHead { head, parts } = &mut *self.request;
        let mut headers = match chosen.headers.take() {
            Some(changed) => {
                chosen.headers = keeps_headers.then(|| changed.clone());
                changed
            }
            None if keeps_headers => parts.headers.clone(),
            None => std::mem::take(&mut parts.headers),
        };
        if !headers.contains_key(header::HOST) {
            headers.extend(host_of(chosen).map(|host| (header::HOST, host)));
        }
        if let Some(protocol) = &head.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        let body = self.body.take().unwrap_or(RequestBody::Empty);
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = chosen.target.as_ref().unwrap_or(&parts.uri).clone();
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
        let headers = &mut self.request.parts.headers;
        if headers.is_empty() {
            *headers = parts.headers;
        } else if !self.keeps_headers() {
            chosen.headers = Some(parts.headers);
        }
    }

    #[expect(
        clippy::boxed_local,
        reason = "it comes in a box, which is moved at less cost"
    )]
    fn answer(&mut self, answer: Box<Response<Source>>, chosen: Box<Chosen>) -> Answer {
        let latency = self.started.elapsed();
        let answered = Outcome::Answered {
            class: answer.status().as_u16() / 100,
            latency,
        };
        self.ticket.note_status(answer.status());
        let ticket = std::mem::take(&mut self.ticket);
        let (mut parts, source) = answer.into_parts();
        let source = match (self.client_upgrade.take(), source) {
            (Some(client), Source::Driven(incoming, _))
                if parts.status == http::StatusCode::SWITCHING_PROTOCOLS =>
            {
                let answer = Response::from_parts(parts, incoming);
                let in_flight = chosen.in_flight;
                return upgrade::join(client, answer, ticket, answered, in_flight, self.worker);
            }
            (_, source) => source,
        };
        head::strip_hop(&mut parts.headers);
        parts.version = Version::HTTP_11;
        chosen.answer_changes.apply(&mut parts.headers);
        if let Some(cookie) = self.steps.set_cookie.take() {
            parts.headers.append(header::SET_COOKIE, cookie);
        }
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let is_events = kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENTS));
        let upstream = Upstream {
            is_events,
            to_go: None,
            meter: None,
            source,
            _busy: self.busy.clone(),
            ticket,
            answered,
            in_flight: Some(chosen.in_flight),
            worker: Arc::clone(self.worker),
            deadline: body::deadline(chosen.deadline),
        };
        Box::new(Response::from_parts(
            parts,
            AnswerBody::Upstream(Box::new(upstream)),
        ))
    }
}
