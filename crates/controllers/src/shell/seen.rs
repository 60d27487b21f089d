//! Whether one's own writes have come into a cache.
//!
//! Versions of objects of one kind are compared as numbers: the API promises that they grow from write to write. A version
//! that is no number is not waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// After so long a write is no longer waited for: its event was lost, and a plan on the present view can do no harm that the
/// preconditions of its writes do not stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The newest version that a cache has seen, and those that its controllers wait for.
#[derive(Default)]
pub(super) struct Seen {
    newest: AtomicU64,
    /// By the uid of the object for whose sake the write was.
    awaited: Mutex<BTreeMap<String, Awaited>>,
}

#[derive(Clone, Copy)]
struct Awaited {
    version: u64,
    since: Instant,
}

impl Seen {
    pub(super) fn saw(&self, version: Option<&str>) {
        if let Some(version) = version.and_then(|v| v.parse().ok()) {
            self.newest.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// Everything that was written before `start` is in a list that began then.
    pub(super) fn listed_since(&self, start: Instant) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.retain(|_, write| write.since >= start);
    }

    pub(super) fn wrote(&self, for_uid: &str, version: Option<&str>) {
        let Some(version) = version.and_then(|v| v.parse().ok()) else {
            return;
        };
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        // Objects that are gone never ask again.
        awaited.retain(|_, write| write.since.elapsed() < PATIENCE);
        let since = Instant::now();
        let write = awaited
            .entry(for_uid.to_owned())
            .or_insert(Awaited { version, since });
        write.version = write.version.max(version);
        write.since = since;
    }

    /// Whether all that was written for the sake of this object is in the cache.
    pub(super) fn is_current(&self, for_uid: &str) -> bool {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(write) = awaited.get(for_uid) else {
            return true;
        };
        let over = write.since.elapsed() >= PATIENCE;
        if over {
            tracing::warn!(
                uid = for_uid,
                "a write of our own never came into the cache"
            );
        }
        let current = over || self.newest.load(Ordering::Acquire) >= write.version;
        if current {
            awaited.remove(for_uid);
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_is_waited_for_until_it_is_seen() {
        let seen = Seen::default();
        assert!(seen.is_current("a"));
        seen.wrote("a", Some("12"));
        seen.wrote("a", Some("11"));
        seen.saw(Some("11"));
        assert!(!seen.is_current("a"));
        assert!(seen.is_current("b"));
        seen.saw(Some("13"));
        assert!(seen.is_current("a"));
        seen.wrote("a", Some("not a number"));
        assert!(seen.is_current("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_waited_for_for_ever() {
        let seen = Seen::default();
        seen.wrote("a", Some("12"));
        seen.wrote("b", Some("13"));
        tokio::time::advance(Duration::from_secs(1)).await;
        let start = Instant::now();
        seen.wrote("b", Some("14"));
        seen.listed_since(start);
        assert!(seen.is_current("a"));
        assert!(!seen.is_current("b"));
        tokio::time::advance(PATIENCE).await;
        assert!(seen.is_current("b"));
    }
}
