//! Two histograms of latency, compared bucket by bucket.

use serde::{Deserialize, Serialize};
use serin_api::traffic::{Counts, LATENCY_BOUNDS_SECONDS, quantile_rank};

use super::above;
use super::mixture::{log_ratio, mean};
use super::noise::Noise;

/// What is added to the counts of the past, so that a rate is never 0 or 1 (the choice of Turner, Ly and Grünwald).
const PRIOR: f64 = 0.18;

/// What has been seen of both, and the evidence of each bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tables {
    canary: Vec<u64>,
    stable: Vec<u64>,
    bad: Vec<f64>,
    safe: Vec<f64>,
    noise: Vec<Noise>,
}

impl Tables {
    /// Takes in a span; the logarithms of the evidence that the new version is slower by more than `1 + margin`, and that it
    /// is not, at the bound where stable has its quantile.
    ///
    /// "At most `1 + margin` times slower" means: for each bound, no larger share of the new version lies above `1 + margin`
    /// times the bound than of stable above the bound. Bounds are rounded so that the new version is done no wrong.
    pub(super) fn add(
        &mut self,
        margin: f64,
        quantile: f64,
        canary: &Counts,
        stable: &Counts,
    ) -> (f64, f64) {
        let bounds = LATENCY_BOUNDS_SECONDS.len();
        self.bad.resize(bounds, 0.0);
        self.safe.resize(bounds, 0.0);
        self.noise.resize(bounds, Noise::default());
        let mut compared = Vec::new();
        let rows = self.bad.iter_mut().zip(&mut self.safe).zip(&mut self.noise);
        for (i, ((bad, safe), noise)) in rows.enumerate() {
            let (lower, upper) = around(i, margin);
            let theirs = (above(stable, i), past(&self.stable, i));
            let phi = noise.phi();
            if upper < bounds {
                let mine = (above(canary, upper), past(&self.canary, upper));
                *bad += factor(mine, theirs, true) / phi;
                compared.push(*bad);
            }
            let mine = (above(canary, lower), past(&self.canary, lower));
            *safe += factor(mine, theirs, false) / phi;
            noise.add(above(stable, i));
        }
        grow(&mut self.canary, &canary.latency);
        grow(&mut self.stable, &stable.latency);
        // Which bound it is depends on the data: that is paid for by as much as there are bounds.
        let place = self.slow_bound(quantile);
        let safe = self.safe.get(place).copied().unwrap_or(0.0) - (bounds as f64).ln();
        (mean(&compared), safe)
    }

    /// The lowest bound below which stable has at least its quantile.
    fn slow_bound(&self, quantile: f64) -> usize {
        let few = |i: &usize| {
            let (above, all) = past(&self.stable, *i);
            all.saturating_sub(above) as f64 >= quantile_rank(quantile, all)
        };
        (0..self.stable.len()).find(few).unwrap_or(0)
    }

    /// A quantile of both so far, in seconds.
    pub(super) fn quantiles(&self, quantile: f64) -> (Option<f64>, Option<f64>) {
        let of = |latency: &[u64]| {
            let counts = Counts {
                latency: latency.to_vec(),
                ..Counts::default()
            };
            counts.latency_quantile_seconds(quantile)
        };
        (of(&self.canary), of(&self.stable))
    }
}

/// The bounds on both sides of `1 + margin` times a bound: the last that is not above it, and the first that is not below it, which
/// is the number of bounds when none is. It is counted in whole microseconds and millionths, so that 1.5 times 0.1 s is 0.15 s.
fn around(bound: usize, margin: f64) -> (usize, usize) {
    let micros = |seconds: &f64| (seconds * 1e6).round() as u128;
    let stretch = ((1.0 + margin) * 1e6).round() as u128;
    let stretched = LATENCY_BOUNDS_SECONDS
        .get(bound)
        .map_or(u128::MAX, |b| micros(b) * stretch);
    let upper = LATENCY_BOUNDS_SECONDS.partition_point(|b| micros(b) * 1_000_000 < stretched);
    let lower = LATENCY_BOUNDS_SECONDS.partition_point(|b| micros(b) * 1_000_000 <= stretched);
    (lower.saturating_sub(1), upper)
}

fn grow(sums: &mut Vec<u64>, more: &[u64]) {
    sums.resize(sums.len().max(more.len()), 0);
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

/// Those above a bound, and all.
pub(super) fn past(latency: &[u64], bound: usize) -> (u64, u64) {
    let sum = |from: usize| {
        latency
            .iter()
            .skip(from)
            .fold(0, |sum: u64, n| sum.saturating_add(*n))
    };
    (sum(bound + 1), sum(0))
}

/// Events and trials, of this span and of all before.
type Row = ((u64, u64), (u64, u64));

/// The logarithm of the e-value of one 2x2 table: how much likelier it is with the two rates of the past than with the one rate
/// that comes closest to them among equal ones. 0, which is no evidence, when the past does not point in the direction asked.
fn factor((mine, my_past): Row, (theirs, their_past): Row, slower: bool) -> f64 {
    let rate =
        |(events, trials): (u64, u64)| (events as f64 + PRIOR) / (trials as f64 + 2.0 * PRIOR);
    let (a, b) = (rate(my_past), rate(their_past));
    if my_past.1 == 0 || their_past.1 == 0 || (a > b) != slower || a == b {
        return 0.0;
    }
    let (n, m) = (mine.1 as f64, theirs.1 as f64);
    let equal = (n * a + m * b) / (n + m);
    log_ratio(mine.0, mine.1, a, equal) + log_ratio(theirs.0, theirs.1, b, equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_times_a_factor_is_the_bound_that_people_expect() {
        let at = |seconds: f64| LATENCY_BOUNDS_SECONDS.iter().position(|b| *b == seconds);
        // In floating point 0.1 x 1.5, 0.05 x 1.5 and others lie above the bound that they are.
        let equal = [
            (0.1, 0.5, 0.15),
            (0.01, 0.5, 0.015),
            (0.006, 1.5, 0.015),
            (0.05, 0.0, 0.05),
            (0.04, 0.25, 0.05),
            (0.1, 3.0, 0.4),
            (5.0, 0.5, 7.5),
        ];
        for (bound, margin, expected) in equal {
            let expected = at(expected).unwrap();
            let found = around(at(bound).unwrap(), margin);
            assert_eq!(found, (expected, expected), "{bound} x (1 + {margin})");
        }
        // Between two bounds both are told, and beyond the last there is none above.
        let (between, last) = (around(at(0.1).unwrap(), 0.25), LATENCY_BOUNDS_SECONDS.len());
        assert_eq!(between, (at(0.1).unwrap(), at(0.15).unwrap()));
        assert_eq!(around(last - 1, 0.5), (last - 1, last));
    }

    #[test]
    fn stable_has_its_quantile_below_the_bound_that_counts_say() {
        let stable = [90, 0, 10];
        let tables = Tables {
            stable: stable.to_vec(),
            ..Tables::default()
        };
        assert_eq!(tables.slow_bound(0.9), 0);
        assert_eq!(tables.slow_bound(0.91), 2);
    }
}
