//! The record of a run on disk, and what the directory of a run tells after its starter has forgotten it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::wire::{LOCK, RECORD, Record};

/// The most bytes of a record that are read.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// What a run directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A shim lives in it.
    Alive,
    /// The application ended and its shim wrote down how.
    Ended(Record),
    /// The shim is gone and nobody knows how the application ended; it may even run still. `None` when it never got as far as
    /// starting it, or when the record cannot be read.
    Lost(Option<Record>),
}

/// Looks into a run directory. A directory without a living shim is used up by the look: a shim that is only just being
/// started there will refuse to go on, so that the same run never happens twice.
///
/// # Errors
/// When the directory cannot be read or its lock cannot be tried.
pub(crate) fn inspect(dir: &Path) -> io::Result<Found> {
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(dir.join(LOCK))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Found::Alive),
        Err(error) => return Err(error.into()),
    }
    let record = match read(dir) {
        Ok(Some(record)) if record.exit.is_some() => return Ok(Found::Ended(record)),
        Ok(Some(record)) => return Ok(Found::Lost(Some(record))),
        Ok(None) => None,
        // Torn by a crash of the machine: as good as none.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        Err(error) => return Err(error),
    };
    write_bytes(dir, b"null\n")?;
    Ok(Found::Lost(record))
}

/// Whether the run of a directory is over as far as its files tell; a directory that is gone is over. Changes nothing.
pub(crate) fn has_ended(dir: &Path) -> bool {
    match read(dir) {
        Ok(Some(record)) => record.exit.is_some(),
        Ok(None) => !dir.exists(),
        Err(_) => false,
    }
}

/// Writes the record, all of it or nothing.
pub(crate) fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    write_bytes(dir, &text)
}

/// `None` when there is no record, or only the mark of [`inspect`].
pub(crate) fn read(dir: &Path) -> io::Result<Option<Record>> {
    let file = match File::open(dir.join(RECORD)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn write_bytes(dir: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = dir.join("state.json.new");
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(text);
    drop(file);
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(temporary, dir.join(RECORD))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::wire::{Exit, ProcessId};
    use super::*;

    fn record(exit: Option<Exit>) -> Record {
        Record {
            spec_hash: "0".into(),
            boot_id: "b".into(),
            app: Some(ProcessId {
                pid: 1,
                start_ticks: 2,
            }),
            started_at: Timestamp::UNIX_EPOCH,
            exit,
        }
    }

    #[test]
    fn a_directory_tells_what_became_of_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let look = || inspect(dir.path()).unwrap();
        assert_eq!(look(), Found::Lost(None));
        assert_eq!(look(), Found::Lost(None), "the mark is no record");
        write(dir.path(), &record(None)).unwrap();
        assert_eq!(look(), Found::Lost(Some(record(None))));
        let exit = Exit {
            code: Some(3),
            signal: None,
            finished_at: Timestamp::UNIX_EPOCH,
            uptime_ms: 5,
        };
        write(dir.path(), &record(Some(exit))).unwrap();
        assert_eq!(look(), Found::Ended(record(Some(exit))));
        fs::write(dir.path().join(RECORD), "{\"spec_h").unwrap();
        assert_eq!(look(), Found::Lost(None), "a torn record is none");
    }

    #[test]
    fn a_held_lock_means_alive() {
        let dir = tempfile::tempdir().unwrap();
        let lock = File::create(dir.path().join(LOCK)).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert_eq!(inspect(dir.path()).unwrap(), Found::Alive);
    }
}
