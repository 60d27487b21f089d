//! What is kept on disk, so that a gateway starts and serves with no control plane: the last good table in
//! `gateway/routes.json`, and the last good certificates in `gateway/certificates.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::unix;

/// Changes when an older program could not read a file any more.
const FORMAT: u32 = 1;
/// The least time between two writes.
const PAUSE: Duration = Duration::from_millis(300);
/// The pause after a failure, unless there is something new to write.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: u32,
    table: T,
}

pub(crate) fn routes(home: &Path) -> PathBuf {
    home.join("gateway").join("routes.json")
}

/// Readable by this user alone, as every file that is written here: it has keys in it.
pub(crate) fn certificates(home: &Path) -> PathBuf {
    home.join("gateway").join("certificates.json")
}

/// What was last good; `None` when there is none or it cannot be read, which is logged and never fatal.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(path = %path.display(), %error, "what was last good cannot be read; starting without it");
            }
            return None;
        }
    };
    match serde_json::from_slice::<Saved<T>>(&bytes) {
        Ok(saved) if saved.format == FORMAT => Some(saved.table),
        Ok(saved) => {
            tracing::error!(path = %path.display(), format = saved.format, "what was last good is of another format; starting without it");
            None
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "what was last good is corrupt; starting without it");
            None
        }
    }
}

/// Writes it, whole or not at all.
pub(crate) fn save<T: Serialize>(path: &Path, table: &T) -> std::io::Result<()> {
    let saved = Saved {
        format: FORMAT,
        table,
    };
    unix::write_whole(path, &serde_json::to_vec(&saved)?)
}

/// Writes each value that comes, the latest only when they come faster than they can be written. A failure is logged and tried
/// again with the next one or after [`RETRY`]. Ends when no other one can come.
pub(crate) async fn keep<T>(path: PathBuf, mut tables: watch::Receiver<Arc<T>>)
where
    T: Serialize + Send + Sync + 'static,
{
    let mut is_behind = false;
    loop {
        let change = tables.changed();
        let changed = if is_behind {
            tokio::time::timeout(RETRY, change).await.unwrap_or(Ok(()))
        } else {
            change.await
        };
        if changed.is_err() {
            return;
        }
        let table = Arc::clone(&tables.borrow_and_update());
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || save(&to, &*table)).await;
        let failed = !matches!(written, Ok(Ok(())));
        if failed && !is_behind {
            tracing::error!(path = %path.display(), result = ?written, "cannot be written; it is served, but a restart would not find it");
        }
        is_behind = failed;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::RouteTable;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_corrupt_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = routes(home.path());
        assert_eq!(load::<RouteTable>(&path), None);
        let table = named("web");
        save(&path, &*table).unwrap();
        assert_eq!(load(&path), Some(RouteTable::clone(&table)));
        std::fs::write(&path, b"{\"format\":1,\"table\":{\"ru").unwrap();
        assert_eq!(load::<RouteTable>(&path), None);
        std::fs::write(
            &path,
            b"{\"format\":2,\"table\":{\"rules\":[],\"services\":{},\"routes\":{}}}",
        )
        .unwrap();
        assert_eq!(load::<RouteTable>(&path), None);
    }

    fn named(name: &str) -> Arc<RouteTable> {
        let mut table = RouteTable::default();
        let name = crate::names::ObjectName::new("default", name);
        table.services.insert(name, Default::default());
        Arc::new(table)
    }

    /// The clock stands still while something is written.
    #[tokio::test(start_paused = true)]
    async fn tables_are_written_now_and_then_the_last_one_always_and_after_a_failure_again() {
        let home = tempfile::tempdir().unwrap();
        let path = routes(home.path());
        // Where its directory is to be.
        let in_the_way = path.parent().unwrap();
        std::fs::write(in_the_way, "").unwrap();
        let (tables, saved) = watch::channel(Arc::default());
        let keeping = tokio::spawn(keep(path.clone(), saved));
        let on_disk = || load::<RouteTable>(&path).map(Arc::new);
        let rest = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
        tables.send_replace(named("first"));
        rest(10).await;
        std::fs::remove_file(in_the_way).unwrap();
        rest(2000).await;
        assert_eq!(on_disk(), Some(named("first")));
        for (name, written) in [
            ("second", "second"),
            ("third", "second"),
            ("last", "second"),
        ] {
            tables.send_replace(named(name));
            rest(10).await;
            assert_eq!(on_disk(), Some(named(written)));
        }
        rest(1000).await;
        assert_eq!(on_disk(), Some(named("last")));
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_given_up_when_nobody_is_left_who_makes_tables() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("gateway"), "in the way").unwrap();
        let (tables, saved) = watch::channel(Arc::default());
        let keeping = tokio::spawn(keep(routes(home.path()), saved));
        tables.send_replace(named("last"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!keeping.is_finished());
        drop(tables);
        let end = tokio::time::timeout(Duration::from_secs(60), keeping).await;
        assert!(end.is_ok(), "it tries for ever");
    }
}
