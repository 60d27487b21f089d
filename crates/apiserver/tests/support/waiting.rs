//! Waits of tests for what may never come: they end at a deadline, and say what was awaited.
//!
//! It is shared by its path, as what is only for tests has no place in a crate.

use std::time::Duration;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `future` gives. Where it gives nothing, the test fails.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// [`soon`], with a deadline of the caller's choice.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(given) => given,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
