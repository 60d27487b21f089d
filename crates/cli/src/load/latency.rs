//! Latencies in a fixed amount of memory.

use std::time::Duration;

use serde::Serialize;

/// Bits of a latency that are kept below its highest one.
const PRECISION_BITS: u32 = 4;
/// Buckets per doubling of the latency.
const PER_OCTAVE: usize = 1 << PRECISION_BITS;
/// Latencies from 2^27 µs (134 s) on share the last bucket; no request may take that long.
const OCTAVES: usize = 27;
const BUCKETS: usize = (OCTAVES - PRECISION_BITS as usize + 1) * PER_OCTAVE;

/// A histogram of latencies. Buckets grow with the latency, so a quantile is at most 6.25 % too high and never too low.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "LatencySummary")]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: Duration,
    max: Duration,
}

/// What is told of a histogram; `None` without latencies.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LatencySummary {
    count: u64,
    mean_ms: Option<f64>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(latency)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += latency;
        self.max = self.max.max(latency);
    }

    /// The latency that the share `q` (0 to 1) of the requests did not exceed; `None` without requests.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut reached = 0;
        for (index, count) in self.counts.iter().enumerate() {
            reached += count;
            if reached >= rank {
                return Some(upper_bound(index).min(self.max));
            }
        }
        Some(self.max)
    }

    fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.sum.div_f64(self.count as f64))
    }
}

impl From<Histogram> for LatencySummary {
    fn from(histogram: Histogram) -> Self {
        let millis = |latency: Duration| latency.as_micros() as f64 / 1000.0;
        let quantile = |q| histogram.quantile(q).map(millis);
        Self {
            count: histogram.count,
            mean_ms: histogram.mean().map(millis),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

/// The bucket of a latency: its highest bit and the [`PRECISION_BITS`] below it.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let highest = micros.checked_ilog2().unwrap_or(0);
    let shift = highest.saturating_sub(PRECISION_BITS);
    let index = shift as usize * PER_OCTAVE + (micros >> shift) as usize;
    index.min(BUCKETS - 1)
}

/// The latency just above everything in the bucket.
fn upper_bound(index: usize) -> Duration {
    let shift = (index / PER_OCTAVE).saturating_sub(1);
    let top = index - shift * PER_OCTAVE + 1;
    Duration::from_micros((top as u64) << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_close_below_the_bound_of_its_bucket() {
        let mut previous = 0;
        for exponent in 0..27 {
            for step in 0..64_u64 {
                let micros = (1_u64 << exponent) + ((step << exponent) >> 6);
                let index = bucket(Duration::from_micros(micros));
                let bound = upper_bound(index).as_micros() as f64;
                assert!(index >= previous, "{micros}");
                assert!(bound > micros as f64, "{micros}: {bound}");
                assert!(
                    bound <= (micros as f64 * 1.0625).max(micros as f64 + 1.0),
                    "{micros}: {bound}"
                );
                previous = index;
            }
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(134)), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        for (q, exact) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = histogram.quantile(q).unwrap().as_secs_f64() * 1000.0;
            assert!(
                (exact..=exact * 1.0625).contains(&found),
                "{q}: {found} for {exact}"
            );
        }
        assert_eq!(histogram.quantile(1.5), None);
        let summary = serde_json::to_value(&histogram).unwrap();
        assert_eq!(summary["count"], 100);
        assert_eq!(summary["meanMs"], 50.5);
        assert_eq!(summary["maxMs"], 100.0);
    }
}
