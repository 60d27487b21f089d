//! A request is held while there is nobody to send it to, up to a bound.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Exchange;
use crate::live::NoPick;
use crate::proxy::Counted;
use crate::proxy::answer::{Answer, Reason};
use crate::series::Outcome;

/// The pause after every endpoint has refused, unless a new table comes first.
const PAUSE: Duration = Duration::from_millis(50);

impl Exchange<'_> {
    /// Waits for another table; `false` when the time is over or too many wait already.
    pub(super) async fn wait(&self, seen: u64, why: NoPick, until: Instant) -> bool {
        let shared = &self.worker.shared;
        let now = Instant::now();
        let _held = Counted::new(&shared.gauges.held);
        if now >= until || shared.gauges.held.load(Ordering::Relaxed) > shared.settings.max_held {
            return false;
        }
        let mut swapped = shared.swapped.subscribe();
        let other_table = swapped.wait_for(|generation| *generation > seen);
        let left = match why {
            NoPick::NoneReady | NoPick::NotRead => until - now,
            _ => PAUSE.min(until - now),
        };
        let changed = tokio::time::timeout(left, other_table).await;
        matches!(changed, Ok(Ok(_))) || !matches!(why, NoPick::NoneReady | NoPick::NotRead)
    }

    pub(super) fn held_too_long(&mut self, why: NoPick) -> Answer {
        match why {
            NoPick::NotRead => {
                let gauges = &self.worker.shared.gauges;
                gauges.no_route.fetch_add(1, Ordering::Relaxed);
                self.own(Reason::NoRoute, "No route has this host and path.\n")
            }
            NoPick::NoneReady => {
                self.ticket.finish(Outcome::NoEndpoint);
                self.own(Reason::NoEndpoint, "No instance is ready.\n")
            }
            _ => {
                self.ticket.finish(Outcome::Connect);
                self.own(Reason::Connect, "No instance could be reached.\n")
            }
        }
    }
}
