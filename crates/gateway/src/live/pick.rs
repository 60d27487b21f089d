//! Which instance gets a request: first the side, then the instance.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::extras::{CompiledHeaders, Extras};
use super::hash;
use super::index::RequestView;
use super::limits::Permit;
use super::shares::Shares;
use super::user::UserKey;
use crate::instances::{Endpoint, InFlight};
use crate::series::Series;
use crate::table::{Ejection, ServicePolicy};

/// Where a rule sends requests.
#[derive(Debug)]
pub(crate) struct LiveRule {
    /// The backends with a share above 0 that can answer: with an endpoint, or without a Service, which is answered 500.
    pub(super) backends: Vec<LiveBackend>,
    pub(super) shares: Shares,
    pub(super) turn: Arc<AtomicU32>,
    /// Counts what reaches no instance.
    pub(crate) unreached: Arc<Series>,
    /// Whether any backend with a share names a Service that is there. If not, nothing is worth waiting for.
    pub(crate) has_service: bool,
    pub(crate) headers: CompiledHeaders,
    pub(crate) answer_headers: Arc<CompiledHeaders>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) try_timeout_ms: Option<u64>,
    pub(crate) extras: Option<Arc<Extras>>,
    /// Whether one that is nobody yet may become a user here.
    pub(crate) makes_users: bool,
}

/// The instances of a Service, or of a subset of it, that may get requests.
#[derive(Debug)]
pub(crate) struct LiveBackend {
    pub(super) endpoints: Vec<LiveEndpoint>,
    pub(super) turn: Arc<AtomicU32>,
    pub(super) headers: CompiledHeaders,
    pub(super) answer_headers: Arc<CompiledHeaders>,
    pub(super) weight: u32,
    /// Of its name, for users who stay.
    pub(super) salt: u64,
    pub(super) affinity: Option<UserKey>,
    pub(super) outliers: Option<Arc<Outliers>>,
    /// Requests at once, and the most of them.
    pub(super) in_flight: Option<(Arc<AtomicUsize>, usize)>,
    /// Requests that are sent again at once, and the most of them.
    pub(super) retries: Option<(Arc<AtomicUsize>, usize)>,
    /// How long one connect may take.
    pub(super) connect_timeout: Option<Duration>,
    /// Whether its Service may be asked; if not, its share is answered 500.
    pub(super) is_valid: bool,
}

#[derive(Debug)]
pub(super) struct LiveEndpoint {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) series: Arc<Series>,
    /// Of its instance, for users who stay.
    pub(super) salt: u64,
}

/// When instances of a backend are left out, and when none are.
#[derive(Debug)]
pub(crate) struct Outliers {
    /// By their answers; `None`: these leave nobody out.
    ejection: Option<Ejection>,
    /// While less of a hundred are left, all are asked. 0 is never.
    least_percent: usize,
    endpoints: Vec<Arc<Endpoint>>,
}

/// What decides where a request goes.
pub(crate) struct Ask<'a> {
    /// The number of the request at its rule.
    pub(crate) turn: u32,
    /// The endpoints that were tried.
    pub(crate) tried: &'a [u64],
    /// Milliseconds since the start of the process.
    pub(crate) now_ms: u64,
    pub(crate) request: &'a RequestView<'a>,
    /// The user, when the rule keeps him on his side.
    pub(crate) user: Option<u64>,
    /// Who one becomes that is nobody yet.
    pub(crate) fresh: Option<u64>,
}

/// An endpoint that was chosen, with its request counted.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) series: &'a Arc<Series>,
    /// The backend, for the changes that it asks for beside those of the rule.
    pub(crate) backend: &'a LiveBackend,
    pub(crate) in_flight: InFlight,
    /// The right to be one of a bounded number.
    pub(crate) permit: Option<Permit>,
    /// Whether the fresh user was needed, whose cookie must be set.
    pub(crate) made_user: bool,
}

/// Why none was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// No backend with a share has an endpoint.
    NoneReady,
    /// No rule has the request, but the API has not been read since the start.
    NotRead,
    /// Every endpoint was tried, or has been closed since this table was made.
    AllTried,
    /// The share falls to a Service that is not there or may not be asked.
    Invalid,
    /// As many requests are at the Service as it may have.
    Full,
}

impl LiveRule {
    /// The next number of this rule: it decides the backend. Taken once for a request, however often it is tried.
    pub(crate) fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The ids of the endpoints that requests or their copies may go to.
    pub(super) fn endpoint_ids(&self) -> impl Iterator<Item = u64> {
        let mirrors = self.extras.iter().flat_map(|extras| &extras.mirrors);
        let mirrors = mirrors.map(|mirror| &mirror.backend);
        self.backends
            .iter()
            .chain(mirrors)
            .flat_map(LiveBackend::endpoint_ids)
    }

    /// The backend of a user who stays.
    fn side(&self, user: u64) -> Option<usize> {
        let sides = self.backends.iter();
        hash::side(user, sides.map(|b| (b.salt, f64::from(b.weight))))
    }

    /// Whether a user would be where this turn goes. So that fresh users come in exactly the shares that are asked for.
    pub(crate) fn suits(&self, user: u64, turn: u32) -> bool {
        self.side(user) == self.shares.at(turn)
    }

    /// Chooses an endpoint that was not tried and counts the request on it: first of the backend whose turn it is, or that the user
    /// stays at, then of the others with a share.
    pub(crate) fn pick(&self, ask: &Ask<'_>) -> Result<Picked<'_>, NoPick> {
        let first = match ask.user {
            Some(user) => self.side(user),
            None => self.shares.at(ask.turn),
        };
        let Some(first) = first else {
            return Err(NoPick::NoneReady);
        };
        if self.backends.get(first).is_some_and(|b| !b.is_valid) {
            return Err(NoPick::Invalid);
        }
        let count = self.backends.len();
        let order = (0..count).map(|offset| (first + offset) % count);
        let mut why = NoPick::AllTried;
        for backend in order.filter_map(|at| self.backends.get(at)) {
            match backend.pick(ask) {
                Ok(picked) => return Ok(picked),
                // What is too much for one side must not fall upon the other.
                Err(NoPick::Full) => return Err(NoPick::Full),
                Err(other) => why = other,
            }
        }
        Err(match why {
            NoPick::Invalid => NoPick::AllTried,
            other => other,
        })
    }
}

impl LiveBackend {
    /// Of up to eight endpoints from a moving start, the one with the fewest requests in flight; for a user who stays, his own.
    /// Those that could not be reached a moment ago, or are left out, come last.
    pub(crate) fn pick(&self, ask: &Ask<'_>) -> Result<Picked<'_>, NoPick> {
        if !self.is_valid {
            return Err(NoPick::Invalid);
        }
        let permit = match &self.in_flight {
            None => None,
            Some((count, most)) => Some(Permit::counted(count, *most).ok_or(NoPick::Full)?),
        };
        let known = self.affinity.as_ref().and_then(|key| key.user(ask.request));
        let issues = self.affinity.as_ref().is_some_and(UserKey::issues);
        let made = if known.is_none() && issues {
            ask.fresh
        } else {
            None
        };
        let user = known.or(made).or(ask.user);
        let count = self.endpoints.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let from_start = || (0..count).map(|offset| start.wrapping_add(offset) % count);
        let open = || {
            let all = from_start().filter_map(|at| self.endpoints.get(at));
            all.filter(|e| !ask.tried.contains(&e.endpoint.id))
        };
        let outliers = self.outliers.as_ref();
        // Counted only when one is out, which is seldom.
        let are_too_many = OnceCell::new();
        let is_off = || {
            let count = || outliers.is_some_and(|outliers| outliers.are_too_many(ask.now_ms));
            *are_too_many.get_or_init(count)
        };
        let is_out = |e: &LiveEndpoint| e.endpoint.is_out(ask.now_ms) && !is_off();
        let best = match user {
            Some(user) => open().min_by_key(|e| (is_out(e), hash::seat(user, e.salt))),
            None => open()
                .take(8)
                .min_by_key(|e| (is_out(e), e.endpoint.instance.in_flight())),
        };
        // The best may have been closed, or left out with its neighbours: then any other that is open will do.
        let better = best
            .is_some_and(is_out)
            .then(|| open().find(|e| !is_out(e)))
            .flatten();
        let mut candidates = better.into_iter().chain(best).chain(open());
        let entered = candidates.find_map(|e| Some((e, e.endpoint.instance.enter()?)));
        let Some((chosen, in_flight)) = entered else {
            return Err(NoPick::AllTried);
        };
        Ok(Picked {
            in_flight,
            endpoint: &chosen.endpoint,
            series: &chosen.series,
            backend: self,
            permit,
            made_user: made.is_some(),
        })
    }

    pub(crate) fn headers(&self) -> &CompiledHeaders {
        &self.headers
    }

    pub(crate) fn answer_headers(&self) -> &Arc<CompiledHeaders> {
        &self.answer_headers
    }

    pub(crate) fn affinity(&self) -> Option<&UserKey> {
        self.affinity.as_ref()
    }

    /// Requests that are sent again at once, and the most of them; `None`: no bound of the Service.
    pub(crate) fn retries(&self) -> Option<&(Arc<AtomicUsize>, usize)> {
        self.retries.as_ref()
    }

    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    pub(crate) fn outliers(&self) -> Option<&Arc<Outliers>> {
        self.outliers.as_ref()
    }

    pub(super) fn endpoint_ids(&self) -> impl Iterator<Item = u64> {
        self.endpoints.iter().map(|e| e.endpoint.id)
    }
}

impl Outliers {
    /// `None` when nothing leaves an instance out.
    pub(super) fn new(policy: &ServicePolicy, endpoints: &[LiveEndpoint]) -> Option<Arc<Self>> {
        let ejection = policy.ejection;
        let by_answers = ejection.map(|ejection| ejection.min_healthy_percent);
        let by_checks = policy.health.as_ref().map(|check| check.panic_percent);
        let least = by_answers.into_iter().chain(by_checks).max()?;
        let endpoints = endpoints.iter().map(|e| Arc::clone(&e.endpoint));
        Some(Arc::new(Self {
            ejection,
            least_percent: least as usize,
            endpoints: endpoints.collect(),
        }))
    }

    /// Whether so few instances are left that those that failed are asked too.
    fn are_too_many(&self, now_ms: u64) -> bool {
        let least = self.least_percent;
        if least == 0 {
            return false;
        }
        let out = self.endpoints.iter().filter(|e| e.is_out(now_ms)).count();
        let left = self.endpoints.len().saturating_sub(out);
        left * 100 < self.endpoints.len() * least
    }

    /// Takes in how a try at `endpoint` ended: with a status, or with none. Whether the endpoint is left out from now on.
    pub(crate) fn tell(&self, endpoint: &Endpoint, status: Option<u16>, now_ms: u64) -> bool {
        let Some(settings) = self.ejection else {
            return false;
        };
        let is_failure = match status {
            None => true,
            Some(status) if settings.gateway_errors_only => (502..=504).contains(&status),
            Some(status) => status >= 500,
        };
        if !is_failure {
            endpoint.failures.store(0, Ordering::Relaxed);
            return false;
        }
        let failures = endpoint.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < settings.failures || endpoint.is_out(now_ms) {
            return false;
        }
        let out = self.endpoints.iter().filter(|e| e.is_out(now_ms)).count();
        let most = self.endpoints.len() * settings.max_percent as usize / 100;
        if out >= most.max(1) {
            return false;
        }
        let times = endpoint.ejections.fetch_add(1, Ordering::Relaxed) + 1;
        let until = now_ms.saturating_add(settings.base_ms.saturating_mul(u64::from(times)));
        endpoint.suspect_until(until);
        endpoint.failures.store(0, Ordering::Relaxed);
        true
    }
}
