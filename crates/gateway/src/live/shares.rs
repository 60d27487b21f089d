//! Which backend has the next turn: the smooth weighted round robin, written out once as a sequence.
//!
//! Over every run as long as the sum of the (reduced) weights each backend has exactly its share, spread as evenly as can be,
//! and a backend without a share has not one turn. The counter that walks the sequence is shared by all workers, so the
//! share holds for all of them together.

/// Weights are kept to this many parts; a share is never off by more than a hundredth of a percent.
const MOST_PARTS: u32 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Shares {
    sequence: Vec<u16>,
}

impl Shares {
    /// For backends with these weights, all above 0.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let weights = reduce(weights);
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        let mut current = vec![0_i64; weights.len()];
        let mut sequence = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        for _ in 0..total {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += i64::from(*weight);
            }
            // The first of the largest, so that the order of the backends decides a tie.
            let best = current.iter().enumerate().rev().max_by_key(|(_, c)| **c);
            let Some(best) = best.map(|(index, _)| index) else {
                break;
            };
            if let Some(current) = current.get_mut(best) {
                *current -= total;
            }
            sequence.push(u16::try_from(best).unwrap_or(u16::MAX));
        }
        Self { sequence }
    }

    /// The index of the backend whose turn it is; `None` without backends.
    pub(crate) fn at(&self, turn: u32) -> Option<usize> {
        match self.sequence.as_slice() {
            [] => None,
            [only] => Some(usize::from(*only)),
            sequence => {
                let at = turn as usize % sequence.len();
                sequence.get(at).map(|index| usize::from(*index))
            }
        }
    }
}

/// The same shares in the smallest whole numbers, their sum at most [`MOST_PARTS`] and none of them 0.
fn reduce(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<u32> = weights.iter().map(|w| w / divisor).collect();
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if total <= u64::from(MOST_PARTS) {
        return weights;
    }
    let scaled = |w: &u32| {
        let parts = (u64::from(*w) * u64::from(MOST_PARTS) + total / 2) / total;
        u32::try_from(parts).unwrap_or(MOST_PARTS).max(1)
    };
    weights.iter().map(scaled).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[u32], turns: u32) -> Vec<usize> {
        let shares = Shares::new(weights);
        let mut counts = vec![0; weights.len()];
        for turn in 0..turns {
            counts[shares.at(turn).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_exact() {
        assert_eq!(counts(&[90, 10], 1000), [900, 100]);
        assert_eq!(counts(&[95, 5], 20_000), [19_000, 1_000]);
        assert_eq!(counts(&[70, 30, 1], 1010), [700, 300, 10]);
        assert_eq!(counts(&[1], 7), [7]);
        assert_eq!(counts(&[999_999, 1], 10_001), [10_000, 1]);
    }

    #[test]
    fn shares_hold_over_short_runs() {
        let shares = Shares::new(&[95, 5]);
        let mut second = 0;
        for turn in 0..2000 {
            second += u32::from(shares.at(turn) == Some(1));
            let exact = f64::from(turn + 1) * 0.05;
            assert!(
                (f64::from(second) - exact).abs() <= 1.0,
                "after {turn} turns"
            );
        }
    }

    #[test]
    fn no_backend_no_turn() {
        assert_eq!(Shares::new(&[]).at(3), None);
    }
}
