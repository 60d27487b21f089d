//! The last good table on disk: `gateway/routes.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::table::RouteTable;
use crate::unix;

/// Changes when an older program could not read the file any more.
const FORMAT: u32 = 1;
/// The least time between two writes.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: u32,
    table: T,
}

pub(crate) fn path(home: &Path) -> PathBuf {
    home.join("gateway").join("routes.json")
}

/// The last good table; `None` when there is none or it cannot be read, which is logged and never fatal.
pub(crate) fn load(home: &Path) -> Option<RouteTable> {
    let path = path(home);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(path = %path.display(), %error, "the last good routes cannot be read; starting without routes");
            }
            return None;
        }
    };
    match serde_json::from_slice::<Saved<RouteTable>>(&bytes) {
        Ok(saved) if saved.format == FORMAT => Some(saved.table),
        Ok(saved) => {
            tracing::error!(
                format = saved.format,
                "the last good routes are of another format; starting without routes"
            );
            None
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the last good routes are corrupt; starting without routes");
            None
        }
    }
}

/// Writes the table, whole or not at all.
pub(crate) fn save(home: &Path, table: &RouteTable) -> std::io::Result<()> {
    let saved = Saved {
        format: FORMAT,
        table,
    };
    unix::write_whole(&path(home), &serde_json::to_vec(&saved)?)
}

/// Writes each table that comes, the latest only when they come faster than they can be written. A failure is logged and tried
/// again with the next table or after a second.
pub(crate) async fn keep(home: PathBuf, mut tables: watch::Receiver<Arc<RouteTable>>) {
    let mut is_behind = false;
    loop {
        if is_behind {
            let _ = tokio::time::timeout(Duration::from_secs(1), tables.changed()).await;
        } else if tables.changed().await.is_err() {
            return;
        }
        let table = Arc::clone(&tables.borrow_and_update());
        let home = home.clone();
        let written = tokio::task::spawn_blocking(move || save(&home, &table)).await;
        let failed = !matches!(written, Ok(Ok(())));
        if failed && !is_behind {
            tracing::error!(result = ?written, "the routes cannot be written to disk; they are served, but a restart would not find them");
        }
        is_behind = failed;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_corrupt_is_not() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(load(home.path()), None);
        let mut table = RouteTable::default();
        table.services.insert(
            crate::names::ObjectName::new("default", "web"),
            Default::default(),
        );
        save(home.path(), &table).unwrap();
        assert_eq!(load(home.path()), Some(table));
        std::fs::write(path(home.path()), b"{\"format\":1,\"table\":{\"ru").unwrap();
        assert_eq!(load(home.path()), None);
        std::fs::write(
            path(home.path()),
            b"{\"format\":2,\"table\":{\"rules\":[],\"services\":{},\"routes\":{}}}",
        )
        .unwrap();
        assert_eq!(load(home.path()), None);
    }
}
