//! What is measured: counts per route, Service and revision, and their past of ten minutes.
//!
//! A request is recorded once, when its answer has ended, as one status class or one failure. Absent on purpose: nothing here
//! judges the numbers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serin_api::traffic::{
    Counts, LATENCY_BOUNDS_SECONDS, LATENCY_BUCKETS, Series as SeriesCounts, SeriesKey, Stats,
};

/// How long a series stays after its revision has gone.
const KEPT_AFTER_GONE: Duration = Duration::from_secs(15 * 60);
/// How far back windows reach.
const PAST: Duration = Duration::from_secs(10 * 60);
/// Up to this age every second is kept; beyond it every tenth second.
const FINE: Duration = Duration::from_secs(60);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The application answered with this class, 1 to 5, after so long.
    Answered {
        class: u16,
        latency: Duration,
    },
    Connect,
    Broken,
    Timeout,
    NoEndpoint,
    ClientGone,
    /// The gateway answered itself, with this class: a redirect, a fixed answer, a fault that the route asks for.
    Own {
        class: u16,
    },
    /// It was refused with 429.
    RateLimited,
    /// It was refused with 503: too many at once, or an open breaker.
    Overloaded,
}

impl Outcome {
    /// The label of a failure; `None` when there was an answer.
    pub(crate) fn failure(self) -> Option<&'static str> {
        match self {
            Self::Answered { .. } | Self::Own { .. } => None,
            Self::Connect => Some("connect"),
            Self::Broken => Some("broken"),
            Self::Timeout => Some("timeout"),
            Self::NoEndpoint => Some("no_endpoint"),
            Self::ClientGone => Some("client_gone"),
            Self::RateLimited => Some("rate_limited"),
            Self::Overloaded => Some("overloaded"),
        }
    }

    /// Whether a circuit breaker counts it as a failure.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Answered { class, .. } | Self::Own { class } => class == 5,
            Self::Connect | Self::Broken | Self::Timeout | Self::NoEndpoint => true,
            Self::ClientGone | Self::RateLimited | Self::Overloaded => false,
        }
    }
}

/// The counters of one series. Workers add, the ticker reads.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) key: SeriesKey,
    status: [AtomicU64; 5],
    failures: [AtomicU64; 5],
    rate_limited: AtomicU64,
    overloaded: AtomicU64,
    retries: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_sum_micros: AtomicU64,
}

impl Series {
    fn new(key: SeriesKey) -> Self {
        Self {
            key,
            status: Default::default(),
            failures: Default::default(),
            rate_limited: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
            latency_sum_micros: AtomicU64::new(0),
        }
    }

    /// Counts one request.
    pub(crate) fn record(&self, outcome: Outcome) {
        let [connect, broken, timeout, no_endpoint, client_gone] = &self.failures;
        let counter = match outcome {
            Outcome::Answered { class, latency } => {
                self.record_latency(latency);
                self.status.get(usize::from(class.clamp(1, 5)) - 1)
            }
            Outcome::Own { class } => self.status.get(usize::from(class.clamp(1, 5)) - 1),
            Outcome::RateLimited => Some(&self.rate_limited),
            Outcome::Overloaded => Some(&self.overloaded),
            Outcome::Connect => Some(connect),
            Outcome::Broken => Some(broken),
            Outcome::Timeout => Some(timeout),
            Outcome::NoEndpoint => Some(no_endpoint),
            Outcome::ClientGone => Some(client_gone),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a try that did not end its request: another one follows.
    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bodies of a request and of its answer.
    pub(crate) fn add_bytes(&self, request: u64, response: u64) {
        // Most requests have no body, and an atomic add is not for nothing.
        if request > 0 {
            self.request_bytes.fetch_add(request, Ordering::Relaxed);
        }
        if response > 0 {
            self.response_bytes.fetch_add(response, Ordering::Relaxed);
        }
    }

    fn record_latency(&self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = LATENCY_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        if let Some(counter) = self.latency.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts since the start.
    pub(crate) fn read(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [connect, broken, timeout, no_endpoint, client_gone] =
            self.failures.each_ref().map(load);
        Counts {
            status: self.status.each_ref().map(load),
            connect_failures: connect,
            broken,
            timeouts: timeout,
            no_endpoint,
            client_gone,
            rate_limited: load(&self.rate_limited),
            overloaded: load(&self.overloaded),
            retries: load(&self.retries),
            request_bytes: load(&self.request_bytes),
            response_bytes: load(&self.response_bytes),
            latency: self.latency.iter().map(load).collect(),
            latency_sum_micros: load(&self.latency_sum_micros),
        }
    }
}

/// Every series, shared between the table, the ticker and the admin socket.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    series: HashMap<SeriesKey, Kept>,
}

#[derive(Debug)]
struct Kept {
    series: Arc<Series>,
    /// The second since which no table has it.
    gone_since: Option<u64>,
    /// Cumulative counts at every second of the last minute, oldest first; only where they changed.
    fine: VecDeque<(u64, Counts)>,
    /// The same at every tenth second of the last ten minutes.
    coarse: VecDeque<(u64, Counts)>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a key, the same ones for as long as they are kept.
    pub(crate) fn series(&self, key: SeriesKey) -> Arc<Series> {
        let mut inner = self.lock();
        let kept = inner.series.entry(key).or_insert_with_key(|key| Kept {
            series: Arc::new(Series::new(key.clone())),
            gone_since: None,
            fine: VecDeque::new(),
            coarse: VecDeque::new(),
        });
        kept.gone_since = None;
        Arc::clone(&kept.series)
    }

    /// Takes a snapshot and forgets what is too old. To be called at every full second since the start.
    pub(crate) fn tick(&self, second: u64) {
        self.lock().series.retain(|_, kept| {
            kept.tick(second);
            let gone = kept.gone_since.map(|since| second.saturating_sub(since));
            gone.is_none_or(|gone| gone < KEPT_AFTER_GONE.as_secs())
        });
    }

    /// What happened in the last `window`, at `now`, the time since the start. The window is cut to ten minutes and to the life
    /// of the process, and begins at a full second, or at a full ten seconds when it is longer than a minute.
    pub(crate) fn stats(&self, window: Duration, now: Duration) -> Stats {
        let since = now.saturating_sub(window.min(PAST)).as_secs();
        let is_fine = now.as_secs().saturating_sub(since) < FINE.as_secs();
        let since = if is_fine { since } else { since / 10 * 10 };
        let span = |kept: &Kept| SeriesCounts {
            key: kept.series.key.clone(),
            counts: difference(kept.series.read(), kept.at(since, is_fine)),
        };
        let inner = self.lock();
        let shown = inner.series.values().filter(|kept| kept.is_shown());
        let mut series: Vec<_> = shown.map(span).collect();
        series.sort_by(|a, b| a.key.cmp(&b.key));
        Stats {
            window_seconds: now.saturating_sub(Duration::from_secs(since)).as_secs_f64(),
            series,
        }
    }

    /// Every series with its counts since the start, by key.
    pub(crate) fn totals(&self) -> Vec<SeriesCounts> {
        let inner = self.lock();
        let shown = inner.series.values().filter(|kept| kept.is_shown());
        let total = |kept: &Kept| SeriesCounts {
            key: kept.series.key.clone(),
            counts: kept.series.read(),
        };
        let mut series: Vec<_> = shown.map(total).collect();
        series.sort_by(|a, b| a.key.cmp(&b.key));
        series
    }
}

impl Kept {
    fn tick(&mut self, second: u64) {
        let is_used = Arc::strong_count(&self.series) > 1;
        match (is_used, self.gone_since) {
            (true, _) => self.gone_since = None,
            (false, None) => self.gone_since = Some(second),
            (false, Some(_)) => {}
        }
        let counts = self.series.read();
        if second.is_multiple_of(10) {
            push(&mut self.coarse, second, &counts, PAST);
        }
        push(&mut self.fine, second, &counts, FINE);
    }

    /// The counts at `second`: those of the last snapshot before. `None`: nothing was counted then.
    fn at(&self, second: u64, is_fine: bool) -> Option<&Counts> {
        let past = if is_fine { &self.fine } else { &self.coarse };
        let after = past.partition_point(|(at, _)| *at <= second);
        past.get(after.checked_sub(1)?).map(|(_, counts)| counts)
    }

    /// A series of requests that reached no instance is shown only once there were some.
    fn is_shown(&self) -> bool {
        !self.series.key.revision.is_empty() || self.series.read() != self.series.empty()
    }
}

impl Series {
    fn empty(&self) -> Counts {
        Counts {
            latency: vec![0; LATENCY_BUCKETS],
            ..Counts::default()
        }
    }
}

/// Adds a snapshot if anything changed, and drops those that no window of `reach` needs any more.
fn push(past: &mut VecDeque<(u64, Counts)>, second: u64, counts: &Counts, reach: Duration) {
    if past.back().is_none_or(|(_, last)| last != counts) {
        past.push_back((second, counts.clone()));
    }
    let horizon = second.saturating_sub(reach.as_secs() + 10);
    while past.get(1).is_some_and(|(at, _)| *at <= horizon) {
        past.pop_front();
    }
}

fn difference(mut now: Counts, base: Option<&Counts>) -> Counts {
    let Some(base) = base else { return now };
    for (mine, before) in now.status.iter_mut().zip(base.status) {
        *mine = mine.saturating_sub(before);
    }
    for (mine, before) in now.latency.iter_mut().zip(&base.latency) {
        *mine = mine.saturating_sub(*before);
    }
    let fields = [
        (&mut now.connect_failures, base.connect_failures),
        (&mut now.broken, base.broken),
        (&mut now.timeouts, base.timeouts),
        (&mut now.no_endpoint, base.no_endpoint),
        (&mut now.client_gone, base.client_gone),
        (&mut now.rate_limited, base.rate_limited),
        (&mut now.overloaded, base.overloaded),
        (&mut now.retries, base.retries),
        (&mut now.request_bytes, base.request_bytes),
        (&mut now.response_bytes, base.response_bytes),
        (&mut now.latency_sum_micros, base.latency_sum_micros),
    ];
    for (mine, before) in fields {
        *mine = mine.saturating_sub(before);
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(revision: &str) -> SeriesKey {
        SeriesKey {
            route: "httproute/default/web".into(),
            service: "default/web".into(),
            revision: revision.into(),
        }
    }

    fn answered(class: u16, millis: u64) -> Outcome {
        Outcome::Answered {
            class,
            latency: Duration::from_millis(millis),
        }
    }

    fn requests(registry: &Registry, window: u64, now: u64) -> Vec<u64> {
        let stats = registry.stats(Duration::from_secs(window), Duration::from_secs(now));
        stats.series.iter().map(|s| s.counts.requests()).collect()
    }

    #[test]
    fn each_request_is_in_exactly_one_place() {
        let series = Series::new(key("v1"));
        for outcome in [
            answered(2, 3),
            answered(5, 120_000),
            Outcome::Connect,
            Outcome::Broken,
            Outcome::Timeout,
            Outcome::NoEndpoint,
            Outcome::ClientGone,
        ] {
            series.record(outcome);
        }
        let counts = series.read();
        assert_eq!(
            (counts.requests(), counts.errors(), counts.client_gone),
            (6, 5, 1)
        );
        assert_eq!(counts.latency.iter().sum::<u64>(), 2);
        assert_eq!(
            (counts.latency[3], counts.latency[LATENCY_BUCKETS - 1]),
            (1, 1)
        );
        assert_eq!(counts.latency_sum_micros, 120_003_000);
    }

    #[test]
    fn a_window_holds_what_happened_in_it() {
        let registry = Registry::default();
        let series = registry.series(key("v1"));
        for second in 0..700 {
            registry.tick(second);
            series.record(answered(2, 1));
        }
        assert_eq!(requests(&registry, 10, 699), [11]);
        assert_eq!(requests(&registry, 59, 699), [60]);
        assert_eq!(requests(&registry, 600, 699), [610]);
        assert_eq!(requests(&registry, 5000, 699), [610]);
    }

    #[test]
    fn just_after_the_start_the_window_says_how_short_it_is() {
        let registry = Registry::default();
        let series = registry.series(key("v1"));
        series.record(answered(2, 1));
        registry.tick(0);
        series.record(answered(5, 1));
        let stats = registry.stats(Duration::from_secs(60), Duration::from_millis(2500));
        assert!((stats.window_seconds - 2.5).abs() < 1e-9);
        assert_eq!(stats.series[0].counts.errors(), 1);
    }

    #[test]
    fn the_past_is_bounded() {
        let registry = Registry::default();
        let series = registry.series(key("v1"));
        for second in 0..5_000 {
            registry.tick(second);
            series.record(answered(2, 1));
        }
        let inner = registry.lock();
        let kept = &inner.series[&key("v1")];
        assert!(kept.fine.len() <= 72 && kept.coarse.len() <= 63);
    }

    #[test]
    fn a_series_goes_a_quarter_of_an_hour_after_its_revision() {
        let registry = Registry::default();
        let old = registry.series(key("v1"));
        old.record(answered(2, 1));
        let _current = registry.series(key("v2"));
        drop(old);
        registry.tick(10);
        registry.tick(10 + 899);
        assert_eq!(registry.totals().len(), 2);
        registry.tick(10 + 900);
        assert_eq!(registry.totals().len(), 1);
    }

    #[test]
    fn a_series_without_an_instance_is_shown_once_it_has_a_request() {
        let registry = Registry::default();
        let series = registry.series(key(""));
        assert_eq!(registry.totals().len(), 0);
        series.record(Outcome::NoEndpoint);
        assert_eq!(registry.totals().len(), 1);
    }
}
