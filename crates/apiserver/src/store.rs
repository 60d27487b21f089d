//! The objects and their history: everything in memory for reading, every write on disk before it is answered.
//!
//! Responsible for: one order of all writes (the resource version), the check of an expected version, group commit,
//! the recent changes that watches follow, and refusing a state file that is not what it should be.
//!
//! Absent on purpose: what an object means. The store sees JSON bytes and a few facts (labels, owners, uid).

mod bootstrap;
mod commit;
mod disk;
mod error;
mod fail;
mod head;
mod record;
mod state;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use self::commit::Committer;
use self::disk::Disk;
pub use self::disk::{Copied, check_copy, copy_of, restore};
pub(crate) use self::disk::{Entry, MOST_ANSWERED, Query, Signature};
pub use self::error::{DamagedRow, StoreError};
pub(crate) use self::error::{Expired, WriteError};
pub(crate) use self::record::{Change, ChangeKind, Draft, Expect, Key, Op, Record, Write, prefix};
pub(crate) use self::state::{Page, Shared};
use self::writer::Writer;

/// A handle on the objects; clones share them. The last clone to go closes the state file.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    sink: Arc<Sink>,
}

/// Where writes go.
enum Sink {
    /// Carried out by the caller, for tests: under a paused clock a foreign thread would let the time run away.
    Inline(Mutex<Committer>),
    /// Carried out by the writer thread.
    Thread(Writer),
}

impl Store {
    /// Opens the state file at `path`, or makes it. Blocks while it reads; call it before serving.
    ///
    /// # Errors
    /// The file belongs to somebody else, is damaged, is in use, is of a newer version, or cannot be read or written. A
    /// single row that cannot be read is not an error: see [`Store::damaged`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (disk, loaded) = Disk::open(path)?;
        let shared = Arc::new(Shared::load(loaded));
        let mut committer = Committer::new(Arc::clone(&shared), Some(disk));
        committer
            .commit(bootstrap::writes(&shared))
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(()), |error| Err(StoreError::first_write(path, &error)))?;
        let writer = Writer::start(committer).map_err(|e| StoreError::io(path, e))?;
        Ok(Self {
            shared,
            sink: Arc::new(Sink::Thread(writer)),
        })
    }

    /// A store that forgets everything, with no thread and no file.
    pub fn in_memory() -> Self {
        let shared = Arc::new(Shared::empty());
        let mut committer = Committer::new(Arc::clone(&shared), None);
        let _namespaces = committer.commit(bootstrap::writes(&shared));
        Self {
            shared,
            sink: Arc::new(Sink::Inline(Mutex::new(committer))),
        }
    }

    /// The rows of the state file that could not be read when it was opened; their objects are not served.
    pub fn damaged(&self) -> &[DamagedRow] {
        self.shared.damaged()
    }

    /// What readers need; it does not keep the state file open.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The object at `key`.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.shared.get(key)
    }

    /// Carries out one write; when it answers, the write is on disk. `Remove` answers the last state of the object.
    pub(crate) async fn write(&self, write: Write) -> Result<Arc<Record>, WriteError> {
        match &*self.sink {
            Sink::Inline(committer) => {
                let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
                let mut results = committer.commit(vec![write]);
                results.pop().unwrap_or(Err(WriteError::Stopped))
            }
            Sink::Thread(writer) => writer.write(write).await,
        }
    }

    /// A copy of the state as of now, as [`check_copy`] and [`restore`] read it: consistent, made between two commits.
    pub(crate) async fn copy(&self) -> Result<File, WriteError> {
        match &*self.sink {
            Sink::Inline(committer) => {
                let committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
                committer.copy()
            }
            Sink::Thread(writer) => writer.copy().await,
        }
    }

    /// Who has written what, the latest first.
    pub(crate) async fn history(&self, query: Query) -> Result<Vec<Entry>, WriteError> {
        match &*self.sink {
            Sink::Inline(committer) => {
                let committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
                committer.history(&query)
            }
            Sink::Thread(writer) => writer.history(query).await,
        }
    }

    /// Told the resource version after every commit with changes to keys of this prefix; an empty one: after every commit.
    pub(crate) fn subscribe(&self, prefix: &str) -> watch::Receiver<u64> {
        self.shared.subscribe(prefix)
    }

    /// A handle that does not keep the store open.
    pub(crate) fn downgrade(&self) -> WeakStore {
        WeakStore {
            shared: Arc::clone(&self.shared),
            sink: Arc::downgrade(&self.sink),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("rv", &self.shared.version())
            .finish_non_exhaustive()
    }
}

/// A store that may be closed already.
pub(crate) struct WeakStore {
    shared: Arc<Shared>,
    sink: Weak<Sink>,
}

impl WeakStore {
    /// The store, unless all handles on it are gone.
    pub(crate) fn upgrade(&self) -> Option<Store> {
        Some(Store {
            shared: Arc::clone(&self.shared),
            sink: self.sink.upgrade()?,
        })
    }
}

#[cfg(test)]
mod tests;
