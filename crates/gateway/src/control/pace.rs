//! How often tables are made. A change that comes alone is served at once; of many in a row each costs little, and the workers keep
//! their cores.

use std::time::Duration;

use tokio::time::Instant;

/// After a table the next one is not made before this time has passed.
const REST: Duration = Duration::from_millis(20);
/// When tables have followed one another for a while, changes come all the time: what is made of them costs a quarter then.
const LONG_REST: Duration = Duration::from_millis(100);
/// So many tables one right after the other are a while.
const MANY: u32 = 10;

/// Remembers how long tables have followed one another.
#[derive(Debug, Default)]
pub(super) struct Pace {
    in_a_row: u32,
    rested_at: Option<Instant>,
}

impl Pace {
    /// A table was made at `now`: when the next one may be made.
    #[must_use]
    pub(super) fn rest(&mut self, now: Instant) -> Instant {
        let follows = self.rested_at.is_some_and(|at| now < at + REST);
        self.in_a_row = if follows {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
        let rest = if self.in_a_row < MANY {
            REST
        } else {
            LONG_REST
        };
        let until = now + rest;
        self.rested_at = Some(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rests in milliseconds when each table is made so long after the rest before it.
    fn rests(after: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let rests = after.into_iter().map(|after| {
            now += Duration::from_millis(after);
            let until = pace.rest(now);
            let rest = until - now;
            now = until;
            rest.as_millis()
        });
        rests.collect()
    }

    #[test]
    fn rests_get_longer_when_changes_come_all_the_time_and_short_again_after_a_pause() {
        assert_eq!(rests([0; 10]), [20; 10]);
        assert_eq!(rests([1; 13])[9..], [20, 100, 100, 100]);
        let mut with_pause = vec![1; 12];
        with_pause.extend([20, 1]);
        assert_eq!(rests(with_pause)[10..], [100, 100, 20, 20]);
        assert_eq!(rests([30; 20]), [20; 20]);
    }
}
