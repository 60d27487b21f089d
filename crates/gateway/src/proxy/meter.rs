//! Whether the answers of one HTTP/2 connection are taken. A client may keep the window of a stream shut for ever; the connection
//! itself then gets on, so nothing else would notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The answers of one connection that have begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    all: AtomicUsize,
    /// Those that the client would take, if their instance sent more.
    waiting: AtomicUsize,
    /// How often more of any was asked for.
    asked: AtomicU64,
}

/// One of these answers.
#[derive(Debug)]
pub(crate) struct Meter {
    answers: Arc<Answers>,
    is_waiting: bool,
}

impl Answers {
    /// Ends when for one period there were answers to be taken, and the client took nothing of any.
    pub(super) async fn stuck(&self, period: Duration) {
        let mut seen = u64::MAX;
        loop {
            tokio::time::sleep(period).await;
            let asked = self.asked.load(Ordering::Relaxed);
            let all = self.all.load(Ordering::Relaxed);
            if asked == seen && all > 0 && self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = asked;
        }
    }
}

impl Meter {
    pub(super) fn new(answers: &Arc<Answers>) -> Self {
        answers.all.fetch_add(1, Ordering::Relaxed);
        Self {
            answers: Arc::clone(answers),
            is_waiting: false,
        }
    }

    /// The client has taken what there was and asks for more; whether that has still to come.
    pub(super) fn asked(&mut self, is_waiting: bool) {
        self.answers.asked.fetch_add(1, Ordering::Relaxed);
        self.wait(is_waiting);
    }

    fn wait(&mut self, is_waiting: bool) {
        match (self.is_waiting, is_waiting) {
            (false, true) => self.answers.waiting.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.answers.waiting.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        self.is_waiting = is_waiting;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.wait(false);
        self.answers.all.fetch_sub(1, Ordering::Relaxed);
    }
}
