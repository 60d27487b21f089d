//! How many requests may be sent twice. When everything fails, sending everything twice makes it worse; a few retries for many
//! requests hide a few failures. A fifth of the requests may be sent once more, and ten a second in any case.
//!
//! A token bucket: each request puts a fifth of a token in, each second ten, each retry takes one out.

use std::sync::Mutex;
use std::time::Instant;

/// Of each request.
const SHARE: f64 = 0.2;
/// Of each second.
const PER_SECOND: f64 = 10.0;
/// The bucket holds so many.
const MOST: f64 = 100.0;

/// The budget of one worker.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Bucket {
            tokens: PER_SECOND,
            since: now,
        }))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut bucket = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut bucket)
    }

    /// A request has come.
    pub(super) fn deposit(&self) {
        self.with(|bucket| bucket.tokens = (bucket.tokens + SHARE).min(MOST));
    }

    /// Whether one more may be sent again.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        self.with(|bucket| {
            let passed = now.saturating_duration_since(bucket.since).as_secs_f64();
            bucket.since = now;
            bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(MOST);
            let has_one = bucket.tokens >= 1.0;
            if has_one {
                bucket.tokens -= 1.0;
            }
            has_one
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_ten_a_second_may_be_sent_again() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let taken = |at: Instant| (0..1000).filter(|_| budget.withdraw(at)).count();
        assert_eq!(taken(start), 10);
        assert_eq!(taken(start), 0);
        assert_eq!(taken(start + Duration::from_secs(1)), 10);
        for _ in 0..100 {
            budget.deposit();
        }
        assert!((19..=20).contains(&taken(start + Duration::from_secs(1))));
        for _ in 0..100_000 {
            budget.deposit();
        }
        assert_eq!(taken(start + Duration::from_secs(60)), 100);
    }
}
