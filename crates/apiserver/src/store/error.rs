//! What can go wrong with the state file, at opening and at writing.

use std::io;
use std::path::{Path, PathBuf};

/// Why a state file cannot be opened. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is of another program.
    #[error("{} is not a state file of serin ({why}); choose another directory, or move this file away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file is ours and broken: cut off, overwritten, or changed on disk.
    #[error(
        "{} is damaged ({why}); put back a copy with `serin restore`, or move it, its -wal and its -head file away to start with \
         no objects", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file, or its write-ahead log, ends before the last acknowledged write: a part was cut off, changed or removed.
    #[error(
        "{} has lost acknowledged writes: it ends at write {found}, write {head} was acknowledged, so it or its -wal file is \
         damaged, cut or missing; put back a copy with `serin restore`, or move its -head file away to go on without these writes",
        path.display()
    )]
    Behind {
        /// The file.
        path: PathBuf,
        /// The last write in it; 0 when the file itself is missing.
        found: u64,
        /// The last write that was acknowledged, as far as is known.
        head: u64,
    },
    /// The file was written by a later version.
    #[error(
        "{} has format {found} and this version reads formats up to {known}; run the newer serin that wrote it", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest format this version reads.
        known: i64,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process; stop it, or choose another directory", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The disk has no room for the first writes.
    #[error("no space left on the disk of {}; free some and start again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot open {}; check that the directory exists and belongs to you", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn corrupt(path: &Path, why: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }

    pub(super) fn behind(path: &Path, found: u64, head: u64) -> Self {
        Self::Behind {
            path: path.to_owned(),
            found,
            head,
        }
    }

    /// What SQLite says while opening, in our words.
    pub(super) fn database(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase,
        };
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Locked {
                path: path.to_owned(),
            },
            Some(DiskFull) => Self::Full {
                path: path.to_owned(),
            },
            Some(DatabaseCorrupt) => Self::corrupt(path, error),
            Some(NotADatabase) => Self::Foreign {
                path: path.to_owned(),
                why: "it is not an SQLite file".into(),
            },
            _ => Self::io(path, io::Error::other(error.to_string())),
        }
    }

    /// The first write after opening failed.
    pub(super) fn first_write(path: &Path, error: &WriteError) -> Self {
        match error {
            WriteError::Full => Self::Full {
                path: path.to_owned(),
            },
            other => Self::io(path, io::Error::other(other.to_string())),
        }
    }
}

/// One row of the state file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// `group/plural/namespace/name` of the object, as far as it could be read.
    pub key: String,
    /// Why it could not be read.
    pub why: String,
}

/// Why a write was not done. Nothing of it is on disk or visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the object has changed")]
    Conflict,
    #[error("the object exists already")]
    Exists,
    #[error("the object does not exist")]
    Missing,
    #[error("no space left on the disk of the state file; free some and try again")]
    Full,
    #[error("the state file cannot be written: {0}")]
    Failed(String),
    #[error("the store is closed")]
    Stopped,
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The wanted resource version is not among the recent changes any more (or never was).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    /// The version asked for.
    pub(crate) wanted: u64,
    /// The oldest version from which changes can be followed.
    pub(crate) oldest: u64,
}
