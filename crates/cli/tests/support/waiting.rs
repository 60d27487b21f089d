//! Waits that end as soon as their condition holds, and fail at a deadline with what was seen last.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at that cannot be watched.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The object, once a condition holds of it.
pub async fn until<K>(api: &Api<K>, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut last = None;
    let wait = async {
        let mut changes = watch_object(api.clone(), name).default_backoff().boxed();
        while let Some(change) = changes.next().await {
            match change {
                Ok(Some(object)) if holds(&object) => return Some(object),
                Ok(object) => last = object,
                Err(_) => {}
            }
        }
        None
    };
    match timeout(PATIENCE, wait).await {
        Ok(Some(object)) => object,
        _ => panic!("{name} waited too long for {what}; last seen: {last:#?}"),
    }
}

/// Ends when there is no such object any more.
pub async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let wait = async {
        let mut changes = watch_object(api.clone(), name).default_backoff().boxed();
        while let Some(change) = changes.next().await {
            if matches!(change, Ok(None)) {
                return;
            }
        }
    };
    let gone = timeout(PATIENCE, wait).await;
    assert!(gone.is_ok(), "{name} does not go");
}

/// What `look` finds, once it finds something. For conditions that cannot be watched.
pub async fn poll<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    poll_within(PATIENCE, what, look).await
}

/// [`poll`] with a deadline of the caller's choice.
pub async fn poll_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited too long for {what}");
        sleep(LOOK).await;
    }
}
