//! What is decided for a request once, before or beside the choice of an instance: answers of the gateway itself, limits, faults,
//! retries, copies and who the user is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};

use super::Shared;
use super::answer::{self, Answer, Reason};
use super::body::{AnswerBody, Ticket};
use super::mirror::Copy;
use crate::live::{
    Ask, CompiledHeaders, Extras, LiveDirect, LiveMirror, LiveRule, Outliers, Picked, Refusal,
    RequestView, UserKey, draw, draw_fault, wins,
};
use crate::series::Outcome;
use crate::table::Retry;

/// Tries to find a fresh user who is where the turn goes. With a share of one in a thousand one in e⁴ is found elsewhere.
const MOST_DRAWS: u32 = 4096;

/// The state of these steps for one request.
#[derive(Debug, Default)]
pub(super) struct Steps {
    is_admitted: bool,
    abort: Option<StatusCode>,
    /// What the rule says of further tries.
    retry: Option<Arc<Retry>>,
    /// How many of them there were.
    retries: u32,
    fresh: Option<Fresh>,
    /// The cookie of a user who was nobody.
    pub(super) set_cookie: Option<HeaderValue>,
    /// Copies that go out with the first try.
    pub(super) copies: Vec<Copy>,
}

/// One who was nobody.
#[derive(Debug)]
struct Fresh {
    id: String,
    user: u64,
}

/// What ends or delays a request before an instance is chosen.
pub(super) enum Early {
    Answer(Answer),
    Delay(Duration),
}

/// Changes to the headers of an answer: of the rule and of the backend.
#[derive(Debug, Default)]
pub(super) struct AnswerChanges([Option<Arc<CompiledHeaders>>; 2]);

impl AnswerChanges {
    pub(super) fn new(rule: &LiveRule, picked: &Picked<'_>) -> Self {
        let both = [&rule.answer_headers, picked.backend.answer_headers()];
        Self(both.map(|changes| (!changes.is_empty()).then(|| Arc::clone(changes))))
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for changes in self.0.iter().flatten() {
            changes.apply(headers);
        }
    }
}

impl Steps {
    /// The steps of a rule that has any; `None`: the request goes on to an instance.
    pub(super) fn early(
        &mut self,
        (rule, extras): (&LiveRule, &Extras),
        (uri, prefix): (&Uri, Option<usize>),
        request: &RequestView<'_>,
        shared: &Shared,
        ticket: &mut Ticket,
    ) -> Option<Early> {
        if self.is_admitted {
            let status = self.abort.take()?;
            return Some(Early::Answer(fault(status, rule, ticket)));
        }
        self.is_admitted = true;
        if let Some(limits) = &extras.limits {
            match limits.admit(shared.now()) {
                Ok(permit) => ticket.hold(permit, shared.started),
                Err(refusal) => {
                    ticket.move_to(&rule.unreached);
                    return Some(Early::Answer(refused(refusal, ticket)));
                }
            }
        }
        if let Some(direct) = &extras.direct {
            let mut answer = direct_answer(direct, request, prefix, uri);
            rule.answer_headers.apply(answer.headers_mut());
            let class = answer.status().as_u16() / 100;
            ticket.move_to(&rule.unreached);
            ticket.finish(Outcome::Own { class });
            return Some(Early::Answer(answer));
        }
        self.retry = extras.retry.clone();
        let (delay, abort) = extras.fault.as_ref().map(draw_fault).unwrap_or_default();
        self.abort = abort;
        if abort.is_none() {
            self.copies = copies(&extras.mirrors, request, shared);
        }
        if let Some(delay) = delay {
            return Some(Early::Delay(delay));
        }
        let status = self.abort.take()?;
        Some(Early::Answer(fault(status, rule, ticket)))
    }

    /// What decides the choice of an instance.
    pub(super) fn ask<'a>(
        &mut self,
        rule: &LiveRule,
        turn: u32,
        tried: &'a [u64],
        now_ms: u64,
        request: &'a RequestView<'a>,
    ) -> Ask<'a> {
        let mut ask = Ask {
            turn,
            tried,
            now_ms,
            request,
            user: None,
            fresh: None,
        };
        let sticky = sticky(rule);
        ask.user = sticky.and_then(|key| key.user(request));
        if ask.user.is_none() && rule.makes_users {
            ask.fresh = Some(self.fresh(rule, turn));
            if sticky.is_some_and(UserKey::issues) {
                ask.user = ask.fresh;
            }
        }
        ask
    }

    fn fresh(&mut self, rule: &LiveRule, turn: u32) -> u64 {
        let draw_one = || {
            let id = format!("{:016x}", draw());
            let user = crate::live::user_of(&id);
            Fresh { id, user }
        };
        let is_sticky = sticky(rule).is_some();
        let fresh = self.fresh.get_or_insert_with(|| {
            let mut drawn = draw_one();
            let mut draws = 0;
            while is_sticky && draws < MOST_DRAWS && !rule.suits(drawn.user, turn) {
                drawn = draw_one();
                draws += 1;
            }
            drawn
        });
        fresh.user
    }

    /// Sets the cookie of a fresh user, where the choice was made for him.
    pub(super) fn picked(&mut self, rule: &LiveRule, picked: &Picked<'_>, asked: Option<u64>) {
        let Some(fresh) = &self.fresh else { return };
        let by_rule = sticky(rule).filter(|key| key.issues() && asked == Some(fresh.user));
        let by_backend = picked.backend.affinity().filter(|_| picked.made_user);
        if let Some(key) = by_rule.or(by_backend) {
            self.set_cookie = key.set_cookie(&fresh.id);
        }
    }

    /// Whether requests without a body may be sent again by the rule.
    pub(super) fn may_retry(&self) -> bool {
        let retry = self.retry.as_ref();
        retry.is_some_and(|retry| self.retries < retry.attempts)
    }

    /// Whether the rule has the request tried again after this answer.
    pub(super) fn wants_other(&self, status: StatusCode) -> bool {
        let retry = self.retry.as_ref().filter(|_| self.may_retry());
        retry.is_some_and(|retry| retry.statuses.contains(&status.as_u16()))
    }

    /// Whether the rule has it tried again after a broken connection or a try that took too long.
    pub(super) fn retries_failures(&self) -> bool {
        let retry = self.retry.as_ref().filter(|_| self.may_retry());
        retry.is_some_and(|retry| retry.on_failure)
    }

    /// Counts one more try by the rule; the pause before it.
    pub(super) fn count_retry(&mut self) -> Duration {
        self.retries += 1;
        let pause = self.retry.as_ref().map_or(0, |retry| retry.pause_ms);
        Duration::from_millis(pause)
    }
}

fn sticky(rule: &LiveRule) -> Option<&UserKey> {
    rule.extras
        .as_ref()
        .and_then(|extras| extras.sticky.as_ref())
}

/// The headers as route and backend change them; `None` when they change nothing.
pub(super) fn changed_headers(
    headers: &HeaderMap,
    rule: &LiveRule,
    picked: &Picked<'_>,
) -> Option<HeaderMap> {
    let backend = picked.backend.headers();
    let rewrite = rule.extras.as_ref().and_then(|e| e.rewrite.as_ref());
    let host = rewrite.and_then(|rewrite| rewrite.host.as_ref());
    if rule.headers.is_empty() && backend.is_empty() && host.is_none() {
        return None;
    }
    let mut headers = headers.clone();
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
    rule.headers.apply(&mut headers);
    backend.apply(&mut headers);
    Some(headers)
}

/// Tells how a try ended, when the backend leaves failing instances out.
pub(super) fn tell_outliers(
    outliers: Option<&Arc<Outliers>>,
    endpoint: &crate::instances::Endpoint,
    status: Option<StatusCode>,
    shared: &Shared,
) {
    let Some(outliers) = outliers else { return };
    let status = status.map(|status| status.as_u16());
    if outliers.tell(endpoint, status, shared.now_ms()) {
        tracing::info!(address = %endpoint.address, "an instance is left out for a while: it failed several times in a row");
        let ejections = &shared.gauges.ejections;
        ejections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn fault(status: StatusCode, rule: &LiveRule, ticket: &mut Ticket) -> Answer {
    ticket.move_to(&rule.unreached);
    ticket.finish(Outcome::Own {
        class: status.as_u16() / 100,
    });
    answer::with_status(Reason::Fault, status, "A fault that the route asks for.\n")
}

fn refused(refusal: Refusal, ticket: &mut Ticket) -> Answer {
    let (reason, sentence, wait, outcome) = match refusal {
        Refusal::Rate(wait) => (
            Reason::RateLimited,
            "More requests come than the route lets through.\n",
            wait,
            Outcome::RateLimited,
        ),
        Refusal::InFlight => (
            Reason::Overloaded,
            "As many requests are under way as the route lets through.\n",
            Duration::ZERO,
            Outcome::Overloaded,
        ),
        Refusal::Open(wait) => (
            Reason::CircuitOpen,
            "The route is closed for a while, because its requests failed.\n",
            wait,
            Outcome::Overloaded,
        ),
    };
    ticket.finish(outcome);
    let mut answer = answer::own(reason, sentence);
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    if let Ok(after) = HeaderValue::from_str(&seconds.to_string()) {
        answer.headers_mut().insert(header::RETRY_AFTER, after);
    }
    answer
}

fn direct_answer(
    direct: &LiveDirect,
    request: &RequestView<'_>,
    prefix: Option<usize>,
    uri: &Uri,
) -> Answer {
    match direct {
        LiveDirect::Fixed(status, body) => {
            let mut answer =
                Response::new(AnswerBody::own(Bytes::copy_from_slice(body.as_bytes())));
            *answer.status_mut() = *status;
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, text);
            Box::new(answer)
        }
        LiveDirect::Redirect(redirect) => {
            let (host, port) = (request.host, request.port);
            let location = redirect.location(request.scheme, host, port, uri, prefix);
            let mut answer = Response::new(AnswerBody::own(Bytes::new()));
            *answer.status_mut() = redirect.status;
            if let Some(location) = location {
                answer.headers_mut().insert(header::LOCATION, location);
            }
            Box::new(answer)
        }
    }
}

/// The copies whose lots win, each with an instance that takes it.
fn copies(mirrors: &[LiveMirror], request: &RequestView<'_>, shared: &Shared) -> Vec<Copy> {
    let copy = |mirror: &LiveMirror| {
        let ask = Ask {
            turn: 0,
            tried: &[],
            now_ms: shared.now_ms(),
            request,
            user: None,
            fresh: None,
        };
        Copy::new(mirror.backend.pick(&ask).ok()?, shared)
    };
    mirrors
        .iter()
        .filter(|mirror| wins(mirror.per_million))
        .filter_map(copy)
        .collect()
}
