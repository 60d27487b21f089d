//! Timers of a worker, which waits use one after the other.
//!
//! Nearly every wait for an answer ends long before its time, and to arm a timer for it and to disarm it again costs more than to
//! look at one. So a timer stays armed for the wait that it was first armed for; when it rings too early for the one that has it
//! then, it is armed anew.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// More than so many that rest are not kept.
const MOST: usize = 128;

/// Those that nobody has.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Timers {
    /// Waits, but not longer than until then. `None`: the time has come first, and the wait may go on.
    pub(super) async fn until<T>(
        &self,
        at: Instant,
        mut wait: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut timer = self.lend(at);
        std::future::poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => timer.poll(cx, at).map(|()| None),
        })
        .await
    }

    fn lend(&self, at: Instant) -> Lent<'_> {
        let rested = self.with(Vec::pop);
        Lent {
            timers: self,
            sleep: Some(rested.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(at)))),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Pin<Box<Sleep>>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One that a wait has.
struct Lent<'a> {
    timers: &'a Timers,
    /// `None` when it was given back.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Lent<'_> {
    /// Ends when that time has come.
    fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else {
            return Poll::Ready(());
        };
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(sleep) = self.sleep.take() else {
            return;
        };
        self.timers.with(|rested| {
            if rested.len() < MOST {
                rested.push(sleep);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Seconds until a wait without an end was given up.
    async fn given_up(timers: &Timers, after: Duration) -> f64 {
        let began = Instant::now();
        let wait = std::pin::pin!(pending::<()>());
        assert_eq!(timers.until(began + after, wait).await, None);
        began.elapsed().as_secs_f64().round()
    }

    #[tokio::test(start_paused = true)]
    async fn every_wait_has_its_own_time_whoever_had_the_timer_before() {
        let timers = Timers::default();
        let quick = std::pin::pin!(tokio::time::sleep(Duration::from_secs(50)));
        let at = Instant::now() + MINUTE;
        assert_eq!(timers.until(at, quick).await, Some(()));
        // It rings ten seconds from now, and is not to.
        assert!((60.0..61.0).contains(&given_up(&timers, MINUTE).await));
        // It has rung.
        assert!((60.0..61.0).contains(&given_up(&timers, MINUTE).await));
        // It would ring too late.
        let waits = std::pin::pin!(tokio::time::sleep(Duration::from_secs(1)));
        timers.until(Instant::now() + MINUTE, waits).await;
        assert!((1.0..2.0).contains(&given_up(&timers, Duration::from_secs(1)).await));
        assert_eq!(timers.with(|rested| rested.len()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_dropped_gives_its_timer_back_and_few_are_kept() {
        let timers = Timers::default();
        let at = Instant::now() + MINUTE;
        let waits = (0..MOST + 10).map(|_| async {
            let quick = std::pin::pin!(tokio::time::sleep(Duration::from_secs(1)));
            timers.until(at, quick).await
        });
        futures::future::join_all(waits).await;
        assert_eq!(timers.with(|rested| rested.len()), MOST);
        let endless = std::pin::pin!(pending::<()>());
        let dropped = timers.until(at, endless);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), dropped)
                .await
                .is_err()
        );
        assert_eq!(timers.with(|rested| rested.len()), MOST);
    }
}
