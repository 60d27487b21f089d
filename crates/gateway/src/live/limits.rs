//! How many requests of a route are let through: a token bucket, a bound of requests at once, a circuit breaker. Their state lasts
//! from table to table for as long as their settings stay.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::table::{Breaker, Limits, RateLimit};

/// The limits of one route.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    rate: Option<Bucket>,
    max_in_flight: Option<usize>,
    in_flight: Arc<AtomicUsize>,
    breaker: Option<Arc<LiveBreaker>>,
}

/// Why a request is not let through, and how long to wait before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many in too short a time.
    Rate(Duration),
    /// Too many at once.
    InFlight,
    /// The breaker is open.
    Open(Duration),
}

/// The right of one request to be under way. What it learns is told to the breaker; dropped before, it tells nothing.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    in_flight: Option<Counted>,
    probe: Option<Probe>,
}

impl LiveLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        let breaker = limits
            .breaker
            .map(|settings| Arc::new(LiveBreaker::new(settings)));
        Self {
            rate: limits.rate.map(Bucket::new),
            max_in_flight: limits.max_in_flight.map(|most| most as usize),
            in_flight: Arc::default(),
            breaker,
        }
    }

    /// Lets one request through, or not. `now` is the time since the start of the process.
    pub(crate) fn admit(&self, now: Duration) -> Result<Permit, Refusal> {
        let in_flight = match self.max_in_flight {
            None => None,
            Some(most) => Some(Counted::new(&self.in_flight, most).ok_or(Refusal::InFlight)?),
        };
        let probe = match &self.breaker {
            None => None,
            Some(breaker) => Some(breaker.admit(now).map_err(Refusal::Open)?),
        };
        if let Some(rate) = &self.rate {
            rate.take(now).map_err(Refusal::Rate)?;
        }
        Ok(Permit { in_flight, probe })
    }
}

impl Permit {
    /// A permit that counts among `most` at once; `None` when there are so many.
    pub(crate) fn counted(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        Some(Self {
            in_flight: Some(Counted::new(count, most)?),
            probe: None,
        })
    }

    /// The request has ended: whether well.
    pub(crate) fn ended(mut self, is_success: bool, now: Duration) {
        self.in_flight = None;
        if let Some(probe) = self.probe.take() {
            probe.tell(is_success, now);
        }
    }
}

/// One of a bounded number.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(count));
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A token bucket as one word: the time at which it would be full again (GCRA).
#[derive(Debug)]
struct Bucket {
    /// Microseconds for one token.
    each: u64,
    /// Microseconds that the bucket may be ahead of the time.
    slack: u64,
    full_at: AtomicU64,
}

impl Bucket {
    fn new(limit: RateLimit) -> Self {
        let each = (limit.period_ms * 1000 / u64::from(limit.requests.max(1))).max(1);
        Self {
            each,
            slack: each.saturating_mul(u64::from(limit.burst.max(1)) - 1),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes a token, or says after which time there will be one.
    fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = micros(now);
        let next = |full_at: u64| {
            let from = full_at.max(now);
            (from - now <= self.slack).then_some(from + self.each)
        };
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match taken {
            Ok(_) => Ok(()),
            Err(full_at) => Err(Duration::from_micros(
                full_at.saturating_sub(now).saturating_sub(self.slack),
            )),
        }
    }
}

/// A circuit breaker.
#[derive(Debug)]
struct LiveBreaker {
    settings: Breaker,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many failures in a row.
    Closed(u32),
    /// Until this time since the start.
    Open(Duration),
    /// One request finds out.
    Probing,
}

/// What a request that was let through owes the breaker.
#[derive(Debug)]
struct Probe {
    breaker: Arc<LiveBreaker>,
    is_only: bool,
    has_told: bool,
}

impl LiveBreaker {
    fn new(settings: Breaker) -> Self {
        Self {
            settings,
            state: Mutex::new(State::Closed(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, now: Duration) -> Result<Probe, Duration> {
        let mut state = self.lock();
        let is_only = match *state {
            State::Closed(_) => false,
            State::Open(until) if now < until => return Err(until - now),
            State::Probing => return Err(self.open_time()),
            State::Open(_) => {
                *state = State::Probing;
                true
            }
        };
        Ok(Probe {
            breaker: Arc::clone(self),
            is_only,
            has_told: false,
        })
    }

    fn open_time(&self) -> Duration {
        Duration::from_millis(self.settings.open_ms)
    }
}

impl Probe {
    fn tell(mut self, is_success: bool, now: Duration) {
        self.has_told = true;
        let mut state = self.breaker.lock();
        *state = match (*state, is_success) {
            (State::Closed(_), true) => State::Closed(0),
            (State::Closed(failures), false) if failures + 1 >= self.breaker.settings.failures => {
                State::Open(now + self.breaker.open_time())
            }
            (State::Closed(failures), false) => State::Closed(failures + 1),
            (State::Probing, true) if self.is_only => State::Closed(0),
            (State::Probing, false) if self.is_only => State::Open(now + self.breaker.open_time()),
            // A request from before it opened says nothing new.
            (state, _) => state,
        };
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.is_only && !self.has_told {
            // It learned nothing, so the next one may probe at once.
            *self.breaker.lock() = State::Open(Duration::ZERO);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_bucket_lets_its_rate_through_and_says_when_to_come_again() {
        let bucket = Bucket::new(RateLimit {
            requests: 100,
            period_ms: 1000,
            burst: 5,
        });
        // 200 a second for ten seconds: half of them, and the burst.
        let passed = (0..2000).filter(|n| bucket.take(ms(n * 5)).is_ok()).count();
        assert!((1000..=1005).contains(&passed), "{passed}");
        assert!(bucket.take(ms(9_995)).is_err_and(|wait| wait <= ms(10)));
        let burst = (0..9).filter(|_| bucket.take(ms(60_000)).is_ok()).count();
        assert_eq!(burst, 5);
    }

    #[test]
    fn only_so_many_are_under_way_at_once() {
        let limits = LiveLimits::new(&Limits {
            max_in_flight: Some(2),
            ..Limits::default()
        });
        let first = limits.admit(ms(0)).unwrap();
        let _second = limits.admit(ms(0)).unwrap();
        assert_eq!(limits.admit(ms(0)).unwrap_err(), Refusal::InFlight);
        first.ended(true, ms(1));
        assert!(limits.admit(ms(1)).is_ok());
    }

    #[test]
    fn a_breaker_opens_probes_with_one_request_and_closes_again() {
        let limits = LiveLimits::new(&Limits {
            breaker: Some(Breaker {
                failures: 3,
                open_ms: 1000,
            }),
            ..Limits::default()
        });
        let fail = |at| limits.admit(at).unwrap().ended(false, at);
        let refusal = |at| limits.admit(at).err();
        fail(ms(0));
        fail(ms(1));
        limits.admit(ms(2)).unwrap().ended(true, ms(2));
        (3..6).for_each(|at| fail(ms(at)));
        assert_eq!(refusal(ms(505)), Some(Refusal::Open(ms(500))));
        let probe = limits.admit(ms(1005)).unwrap();
        assert_eq!(refusal(ms(1006)), Some(Refusal::Open(ms(1000))));
        probe.ended(false, ms(1010));
        assert_eq!(refusal(ms(2009)), Some(Refusal::Open(ms(1))));
        // A probe whose client goes away leaves the question open.
        drop(limits.admit(ms(2010)).unwrap());
        limits.admit(ms(2011)).unwrap().ended(true, ms(2011));
        assert_eq!(refusal(ms(2012)), None);
    }
}
