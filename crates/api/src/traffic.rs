//! What the gateway measures, as it hands it to whoever asks: counts and latencies per route, Service and revision.

use serde::{Deserialize, Serialize};

/// Upper bounds of the latency buckets in seconds, ascending; one more bucket holds what is above the last. The bounds grow
/// by a factor of about 1.5 from 1 ms to 60 s, so a quantile is off by at most half of its own value.
pub const LATENCY_BOUNDS_SECONDS: [f64; 28] = [
    0.001, 0.0015, 0.0025, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25,
    0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 5.0, 7.5, 10.0, 15.0, 25.0, 40.0, 60.0,
];

/// The number of latency buckets.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_SECONDS.len() + 1;

/// What one revision of one Service answered on one route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The route: `httproute/NAMESPACE/NAME`, `ingress/NAMESPACE/NAME` or `service/NAMESPACE/NAME` for a request to a Service's own host.
    pub route: String,
    /// The Service that was chosen: `NAMESPACE/NAME`.
    pub service: String,
    /// The revision of the instance that answered; empty when its pods carry none, or when no instance was reached.
    pub revision: String,
}

/// Counts over a span of time. A request is in exactly one status class or one failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Answers of the application by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub status: [u64; 5],
    /// No connection to any instance could be made.
    pub connect_failures: u64,
    /// The connection broke before or in the answer.
    pub broken: u64,
    /// No answer in time.
    pub timeouts: u64,
    /// No instance was ready for as long as a request may wait.
    pub no_endpoint: u64,
    /// The client went away before the answer.
    pub client_gone: u64,
    /// Requests that a rate limit refused with 429. They count neither as requests nor as errors: no instance saw them.
    pub rate_limited: u64,
    /// Requests that were refused with 503 because too many were under way, or because a circuit breaker was open. They count as
    /// neither too.
    pub overloaded: u64,
    /// Tries here that did not end their request: it was tried again and counts where it ended.
    pub retries: u64,
    /// Bytes of the bodies of requests, of those that have ended.
    pub request_bytes: u64,
    /// Bytes of the bodies of answers of the application.
    pub response_bytes: u64,
    /// Latency from the head of the request to the head of the answer, by bucket of [`LATENCY_BOUNDS_SECONDS`].
    pub latency: Vec<u64>,
    /// The sum of those latencies in microseconds.
    pub latency_sum_micros: u64,
}

impl Counts {
    /// Requests in all, without those whose client went away.
    pub fn requests(&self) -> u64 {
        self.status.iter().sum::<u64>() + self.failures()
    }

    /// Requests that the application answered with 5xx or that got no answer of the application.
    pub fn errors(&self) -> u64 {
        self.status[4] + self.failures()
    }

    /// Requests that got no answer of the application.
    pub fn failures(&self) -> u64 {
        self.connect_failures + self.broken + self.timeouts + self.no_endpoint
    }

    /// Errors per request, 0 to 1; `None` without requests.
    pub fn error_ratio(&self) -> Option<f64> {
        let requests = self.requests();
        (requests > 0).then(|| self.errors() as f64 / requests as f64)
    }

    /// The latency in seconds below which the share `q` (0 to 1) of the answers lies, linear within its bucket as
    /// `histogram_quantile` of Prometheus does; the last bound when it lies above. `None` without answers.
    pub fn latency_quantile_seconds(&self, q: f64) -> Option<f64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = quantile_rank(q, total);
        let mut below = 0_u64;
        let mut lower = 0.0;
        for (count, upper) in self.latency.iter().zip(LATENCY_BOUNDS_SECONDS) {
            let reached = below + count;
            if *count > 0 && reached as f64 >= rank {
                return Some(
                    lower
                        + (upper - lower) * ((rank - below as f64) / *count as f64).clamp(0.0, 1.0),
                );
            }
            below = reached;
            lower = upper;
        }
        LATENCY_BOUNDS_SECONDS.last().copied()
    }

    /// What was counted since `before`; `None` when anything is less than it was, as after a new start.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let mut status = [0; 5];
        for ((difference, now), then) in status.iter_mut().zip(self.status).zip(before.status) {
            *difference = now.checked_sub(then)?;
        }
        let then = before.latency.iter().chain(std::iter::repeat(&0));
        let latency = self
            .latency
            .iter()
            .zip(then)
            .map(|(now, then)| now.checked_sub(*then));
        Some(Self {
            status,
            connect_failures: self.connect_failures.checked_sub(before.connect_failures)?,
            broken: self.broken.checked_sub(before.broken)?,
            timeouts: self.timeouts.checked_sub(before.timeouts)?,
            no_endpoint: self.no_endpoint.checked_sub(before.no_endpoint)?,
            client_gone: self.client_gone.checked_sub(before.client_gone)?,
            overloaded: self.overloaded.checked_sub(before.overloaded)?,
            rate_limited: self.rate_limited.checked_sub(before.rate_limited)?,
            retries: self.retries.checked_sub(before.retries)?,
            request_bytes: self.request_bytes.checked_sub(before.request_bytes)?,
            response_bytes: self.response_bytes.checked_sub(before.response_bytes)?,
            latency: latency.collect::<Option<_>>()?,
            latency_sum_micros: self
                .latency_sum_micros
                .checked_sub(before.latency_sum_micros)?,
        })
    }

    /// Adds another span.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.status.iter_mut().zip(other.status) {
            *mine += theirs;
        }
        self.connect_failures += other.connect_failures;
        self.broken += other.broken;
        self.timeouts += other.timeouts;
        self.no_endpoint += other.no_endpoint;
        self.client_gone += other.client_gone;
        self.rate_limited += other.rate_limited;
        self.overloaded += other.overloaded;
        self.retries += other.retries;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.latency
            .resize(self.latency.len().max(other.latency.len()), 0);
        for (mine, theirs) in self.latency.iter_mut().zip(&other.latency) {
            *mine += theirs;
        }
        self.latency_sum_micros += other.latency_sum_micros;
    }
}

/// One series over the asked window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Whose counts.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// The counts.
    pub counts: Counts,
}

/// The answer of the gateway to `GET /stats?window=SECONDS`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The span that the counts really cover, in seconds; shorter than asked just after a start.
    pub window_seconds: f64,
    /// Every series with its counts in the span, those without requests too.
    pub series: Vec<Series>,
}

/// How many of `total` make up the quantile `q`, 0 to 1. As decimals are meant: 0.07 of 100 is 7, not the 7.000000000000001 of
/// their nearest binary numbers, which would ask for an eighth.
pub fn quantile_rank(q: f64, total: u64) -> f64 {
    let rank = q * total as f64;
    let whole = rank.round();
    // Both the decimal and the product are rounded by at most half of this.
    let rounding = 2.0 * f64::EPSILON * whole;
    if (rank - whole).abs() <= rounding {
        whole
    } else {
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(latency: &[(usize, u64)]) -> Counts {
        let mut counts = Counts {
            latency: vec![0; LATENCY_BUCKETS],
            ..Counts::default()
        };
        for (bucket, n) in latency {
            counts.latency[*bucket] = *n;
        }
        counts
    }

    #[test]
    fn no_request_gives_no_ratio_and_no_quantile() {
        assert_eq!(Counts::default().error_ratio(), None);
        assert_eq!(Counts::default().latency_quantile_seconds(0.95), None);
    }

    #[test]
    fn failures_and_server_errors_count_as_errors() {
        let counts = Counts {
            status: [0, 985, 0, 2, 8],
            connect_failures: 5,
            client_gone: 9,
            ..Counts::default()
        };
        assert_eq!((counts.requests(), counts.errors()), (1000, 13));
        assert_eq!(counts.error_ratio(), Some(0.013));
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let counts = counts(&[(5, 90), (11, 10)]);
        assert_eq!(
            counts.latency_quantile_seconds(0.5),
            Some(0.006 + 0.004 * 50.0 / 90.0)
        );
        assert!((counts.latency_quantile_seconds(0.95).unwrap() - 0.0875).abs() < 1e-9);
        assert_eq!(counts.latency_quantile_seconds(1.5), None);
    }

    #[test]
    fn a_quantile_at_the_edge_of_a_bucket_stays_in_it() {
        // 0.07 of 100 requests are 7, all of them in the first bucket; the eighth took seconds.
        for (q, first) in [(0.07, 7), (0.55, 55), (0.9, 90), (0.95, 95)] {
            let counts = counts(&[(0, first), (20, 100 - first)]);
            assert_eq!(counts.latency_quantile_seconds(q), Some(0.001), "{q}");
        }
        assert_eq!(quantile_rank(0.5, 3), 1.5);
        assert_eq!(quantile_rank(0.999_999_9, 1_000), 999.999_9);
    }

    #[test]
    fn beyond_the_last_bound_the_last_bound_is_told() {
        assert_eq!(
            counts(&[(LATENCY_BUCKETS - 1, 3)]).latency_quantile_seconds(0.5),
            Some(60.0)
        );
    }
}
