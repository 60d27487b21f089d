//! The time, in one place: nothing else in this crate reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Duration, Instant};

/// A clock that never goes back. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine's. It is asked each time, so that a machine that slept is on time again at once.
    Machine { latest_micros: Arc<AtomicI64> },
    /// A start and what the runtime counted since.
    Runtime { base: Timestamp, start: Instant },
}

impl Clock {
    /// The clock of the machine. When that is put back, this one stands still until it is passed again.
    pub fn system() -> Self {
        Self {
            source: Source::Machine {
                latest_micros: Arc::new(AtomicI64::new(i64::MIN)),
            },
        }
    }

    /// A clock that shows `base` now and goes with the timers of tokio: virtual under its paused clock, for tests.
    pub fn starting_at(base: Timestamp) -> Self {
        Self {
            source: Source::Runtime {
                base,
                start: Instant::now(),
            },
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::Machine { latest_micros } => {
                let now = Timestamp::now().as_microsecond();
                let latest = latest_micros.fetch_max(now, Ordering::Relaxed).max(now);
                Timestamp::from_microsecond(latest).unwrap_or(Timestamp::MAX)
            }
            Source::Runtime { base, start } => {
                let elapsed = SignedDuration::try_from(start.elapsed());
                let now = base.checked_add(elapsed.unwrap_or(SignedDuration::MAX));
                now.unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// A count of time that never goes back and goes on while the machine sleeps; only differences of it mean something.
    pub fn elapsed(&self) -> Duration {
        match &self.source {
            Source::Machine { .. } => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::try_from(time).unwrap_or_default()
            }
            Source::Runtime { start, .. } => start.elapsed(),
        }
    }

    /// How long it is until `at`; zero when that is past.
    pub fn until(&self, at: Timestamp) -> Duration {
        let left = at.duration_since(self.now());
        Duration::try_from(left).unwrap_or(Duration::ZERO)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_of_the_runtime_goes_with_its_timers() {
        let base = Timestamp::from_second(1_000).unwrap();
        let clock = Clock::starting_at(base);
        assert_eq!(clock.now(), base);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let hour = SignedDuration::from_hours(1);
        assert!(clock.now() >= base + hour);
        assert_eq!(clock.until(base), Duration::ZERO);
        assert!(clock.until(base + hour + hour) > Duration::from_secs(3590));
    }

    #[test]
    fn the_clock_of_the_machine_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        let Source::Machine { latest_micros } = &clock.source else {
            panic!("it is the machine's");
        };
        latest_micros.fetch_add(60_000_000, Ordering::Relaxed);
        assert!(clock.now() >= first + SignedDuration::from_secs(60));
        assert!(clock.clone().now() >= first + SignedDuration::from_secs(60));
    }
}
