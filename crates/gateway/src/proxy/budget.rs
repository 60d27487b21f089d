//! How many requests may be sent twice. When everything fails, sending everything twice makes it worse; a few retries for many
//! requests hide a few failures. A fifth of the requests of the last seconds may be sent once more, and ten a second in any case.
//!
//! A bucket that leaks: each request puts a fifth of a token in, each second ten, each retry takes one out, and what is in it is
//! forgotten over ten seconds. So it holds what an instance that dies leaves behind, however many requests it was answering.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Of each request.
const SHARE: f64 = 0.2;
/// Of each second.
const PER_SECOND: f64 = 10.0;
/// Seconds after which a third of what was put in is left.
const MEMORY: f64 = 10.0;

/// The budget of one worker.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// Requests since the bucket was last looked at.
    came: AtomicU64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            came: AtomicU64::new(0),
            bucket: Mutex::new(Bucket {
                tokens: PER_SECOND,
                since: now,
            }),
        }
    }

    /// A request has come.
    pub(super) fn deposit(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether one more may be sent again.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        let mut bucket = self
            .bucket
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let came = self.came.swap(0, Ordering::Relaxed) as f64;
        let passed = now.saturating_duration_since(bucket.since).as_secs_f64();
        bucket.since = now;
        bucket.tokens = left(bucket.tokens, passed) + put_in(came, passed);
        let has_one = bucket.tokens >= 1.0;
        if has_one {
            bucket.tokens -= 1.0;
        }
        has_one
    }
}

/// Of what was in the bucket, after so many seconds.
fn left(tokens: f64, seconds: f64) -> f64 {
    tokens * (-seconds / MEMORY).exp()
}

/// Of what so many requests, which came evenly over so many seconds, and the seconds themselves have put in.
fn put_in(requests: f64, seconds: f64) -> f64 {
    let tokens = requests * SHARE + seconds * PER_SECOND;
    if seconds > 0.0 {
        tokens * (1.0 - (-seconds / MEMORY).exp()) * MEMORY / seconds
    } else {
        tokens
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
        let taken = |at: Instant| (0..100_000).filter(|_| budget.withdraw(at)).count();
        let come = |requests: u32| (0..requests).for_each(|_| budget.deposit());
        let later = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert_eq!(taken(start), 10);
        assert_eq!(taken(start), 0);
        come(100);
        assert_eq!(taken(start), 20);
        let of_a_second = taken(later(1.0));
        assert!((9..=10).contains(&of_a_second), "{of_a_second}");
        // An instance dies while it answers a thousand, after a second with five thousand requests.
        come(5_000);
        let of_a_death = taken(later(2.0));
        assert!((900..=1_010).contains(&of_a_death), "{of_a_death}");
        // What came a minute ago is no reason to send much twice now.
        come(100_000);
        assert!(budget.withdraw(later(2.0)));
        let of_a_minute = taken(later(62.0));
        assert!((100..=200).contains(&of_a_minute), "{of_a_minute}");
        // Nor is a quiet hour.
        let of_an_hour = taken(later(3_600.0));
        assert!((95..=100).contains(&of_an_hour), "{of_an_hour}");
    }
}
