//! Copies of a state file: made while it is written to, looked at, and put back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::{
    Disk, Head, HeadFile, Loaded, beside, check_content, check_header, check_whole, head,
    head_path, load, number, remove_if_there, sync_directory_of,
};
use crate::store::error::{StoreError, WriteError};

/// By how much a restored state is ahead of all that was written before: more writes than a power cut can take from the
/// head file. Numbers of lost writes are never given again, so no client takes a new object for one that it knew.
const VERSIONS_AHEAD: u64 = 1_000_000;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many objects.
    pub objects: usize,
    /// The resource version of the last write in it.
    pub version: u64,
}

impl Copied {
    fn of(loaded: &Loaded) -> Self {
        Self {
            objects: loaded.records.len(),
            version: loaded.rv,
        }
    }
}

impl Disk {
    /// A copy of the state as of the last commit: a file without a name, which goes when it is closed.
    pub(in crate::store) fn copy(&self) -> Result<File, WriteError> {
        let path = beside(&self.path, "-copy");
        let copy = || -> io::Result<File> {
            remove_if_there(&path)?;
            make_private(&path)?;
            let to = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
            self.db.execute("VACUUM INTO ?1", [to]).map_err(|error| {
                match WriteError::from(error) {
                    WriteError::Full => io::ErrorKind::StorageFull.into(),
                    other => io::Error::other(other.to_string()),
                }
            })?;
            File::open(&path)
        };
        let copied = copy();
        let removed = remove_if_there(&path);
        match (copied, removed) {
            (Ok(file), Ok(())) => Ok(file),
            (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::StorageFull => {
                Err(WriteError::Full)
            }
            (Err(e), _) | (_, Err(e)) => Err(WriteError::Failed(e.to_string())),
        }
    }
}

/// A copy of a state file that nobody has open: a file without a name, which goes when it is closed.
///
/// # Errors
/// As [`Store::open`](crate::Store::open).
pub fn copy_of(path: &Path) -> Result<File, StoreError> {
    let (disk, _) = Disk::open(path)?;
    disk.copy()
        .map_err(|error| StoreError::first_write(path, &error))
}

/// Reads a copy as far as it must be read to know that it is whole; changes nothing.
///
/// # Errors
/// It is not a state file, is of a newer version, is damaged in any way, or cannot be read.
pub fn check_copy(path: &Path) -> Result<Copied, StoreError> {
    check_header(path)?;
    let database = |e| StoreError::database(path, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(database)?;
    let format = check_content(path, &db)?;
    if format < super::FORMAT_WITH_SUMS {
        return Err(StoreError::corrupt(path, "it is older than checksums"));
    }
    let loaded = load(&db).map_err(database)?;
    check_whole(path, &loaded)?;
    match loaded.damaged.first() {
        Some(row) => Err(StoreError::corrupt(
            path,
            format!("{}: {}", row.key, row.why),
        )),
        None => Ok(Copied::of(&loaded)),
    }
}

/// Puts the objects of a copy in the place of those in the state file at `path`, which nobody may have open. What was there
/// before is kept beside it under `-replaced`. A crash leaves the old state, one that is refused, or the new one.
///
/// # Errors
/// As [`check_copy`], or the state file cannot be replaced. Until all of the copy is on disk nothing is changed.
pub fn restore(copy: &Path, path: &Path) -> Result<Copied, StoreError> {
    let mut copied = check_copy(copy)?;
    let io = |e| StoreError::io(path, e);
    let fresh = beside(path, ".new");
    let clear = || -> io::Result<()> {
        for suffix in ["", "-wal", "-journal", "-head"] {
            remove_if_there(&beside(&fresh, suffix))?;
        }
        Ok(())
    };
    clear().map_err(io)?;
    let mut file = make_private(&fresh).map_err(io)?;
    let mut source = File::open(copy).map_err(|e| StoreError::io(copy, e))?;
    io::copy(&mut source, &mut file)
        .and_then(|_| file.sync_all())
        .map_err(io)?;
    let (disk, _) = Disk::open(&fresh)?;
    let before = match head::read(&head_path(path)).map_err(io)? {
        head::Found::At(head) => head.rv,
        head::Found::Nothing | head::Found::Damaged => 0,
    };
    let version = copied.version.max(before).saturating_add(VERSIONS_AHEAD);
    let digest = disk.digest;
    renumber(&disk.db, version).map_err(|e| StoreError::database(path, &e))?;
    // Closing moves everything into the one file.
    drop(disk);
    fs::remove_file(head_path(&fresh)).map_err(io)?;
    replace(&fresh, path).map_err(io)?;
    let head = Head {
        rv: version,
        digest,
    };
    HeadFile::begin(&head_path(path), head).map_err(io)?;
    copied.version = version;
    Ok(copied)
}

/// Lets the next write come after `version`. Watches cannot go on from before it, so the recent changes go.
fn renumber(db: &Connection, version: u64) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute(
        "UPDATE meta SET value = ?1 WHERE name = 'rv'",
        params![number(version)],
    )?;
    transaction.execute("DELETE FROM log", [])?;
    transaction.commit()
}

/// The write-ahead log goes first: without it the old file is behind its head and refused, and it must never be read into
/// the new one. The head stays, so that the file is missed while none is there.
fn replace(fresh: &Path, path: &Path) -> io::Result<()> {
    let aside = beside(path, "-replaced");
    for suffix in ["-wal", ""] {
        let kept = beside(&aside, suffix);
        remove_if_there(&kept)?;
        match fs::rename(beside(path, suffix), &kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        sync_directory_of(path)?;
    }
    fs::rename(fresh, path)?;
    sync_directory_of(path)
}

fn make_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
