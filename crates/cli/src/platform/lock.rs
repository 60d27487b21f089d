//! One control plane a state directory: an exclusive lock on a file, and who holds it.
//!
//! The kernel lets go of the lock when its holder ends, however it ends. The number in the file only names the holder; nobody
//! is believed to be the holder unless the kernel says that this very process holds this very lock.
//!
//! A killed holder lets go a moment after it is gone for everybody else: its other threads are still ending, or a child it was
//! starting has not yet closed what it inherited. That moment is waited for, so that `kill -9` and `serin up` may follow each other.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a lock is waited for whose holder has ended.
const ENDED_HOLDER: Duration = Duration::from_secs(5);
/// How often it is looked whether the kernel has let go of it.
const LOOK: Duration = Duration::from_millis(5);

/// Holds the state directory for as long as it lives.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another control plane has the directory.
    #[error("{} is in use by another `serin up`{}", home.display(), named(*holder))]
    Held {
        /// The directory.
        home: PathBuf,
        /// Who; `None` when the holder has not yet written its number.
        holder: Option<i32>,
    },
    /// The file cannot be written.
    #[error("cannot lock {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn named(holder: Option<i32>) -> String {
    holder
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default()
}

impl HomeLock {
    /// Takes the lock at `path`, or says who has it. Waits only for a holder that has ended.
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let deadline = Instant::now() + ENDED_HOLDER;
        loop {
            match Self::try_take(path) {
                Err(LockError::Held {
                    holder: Some(pid), ..
                }) if has_ended(pid) && Instant::now() < deadline => std::thread::sleep(LOOK),
                result => return result,
            }
        }
    }

    fn try_take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    home: path.parent().unwrap_or(path).to_path_buf(),
                    holder: written_pid(path),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The process that holds a lock, proven by the kernel's table of locks.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: Pid,
    path: PathBuf,
}

impl Holder {
    /// Who holds the lock at `path`; `None` when nobody does.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let pid = written_pid(path)?;
        let pid = Pid::from_raw(pid)?;
        let path = path.to_path_buf();
        let holder = Self { pid, path };
        holder.holds().then_some(holder)
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it still holds the lock.
    pub(crate) fn holds(&self) -> bool {
        let (Ok(metadata), Ok(table)) =
            (fs::metadata(&self.path), fs::read_to_string("/proc/locks"))
        else {
            return false;
        };
        table_has(&table, self.pid(), metadata.ino())
    }

    /// Asks it to end. The process is taken hold of before it is proven to be the holder, so no other one can be hit.
    pub(crate) fn ask_to_end(&self) -> io::Result<()> {
        let process = pidfd_open(self.pid, PidfdFlags::empty())?;
        if self.holds() {
            pidfd_send_signal(&process, Signal::TERM)?;
        }
        Ok(())
    }
}

/// Whether a process is gone, or is only waiting for its parent to ask how it ended.
fn has_ended(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The name before the state is in parentheses and may have some of its own.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn written_pid(path: &Path) -> Option<i32> {
    let text = fs::read_to_string(path).ok()?;
    text.trim().parse().ok()
}

/// Whether a line such as `1: FLOCK  ADVISORY  WRITE 4242 fd:01:1234 0 EOF` names this process and this file. The device is not
/// compared: some file systems show another one there than in the file's own metadata.
fn table_has(table: &str, pid: i32, inode: u64) -> bool {
    table.lines().any(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "FLOCK")
            .skip(3);
        let line_pid = words.next().and_then(|word| word.parse().ok());
        let file = words.next().and_then(|word| word.rsplit(':').next());
        line_pid == Some(pid) && file.and_then(|word| word.parse().ok()) == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(Holder::of(&path).is_none());
        let first = HomeLock::take(&path).unwrap();
        let error = HomeLock::take(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        let holder = Holder::of(&path).unwrap();
        assert_eq!(holder.pid().unsigned_abs(), std::process::id());
        drop(first);
        assert!(!holder.holds());
        assert!(Holder::of(&path).is_none());
    }

    #[test]
    fn the_lock_of_an_ended_holder_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let late = HomeLock::take(&path).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(ended.id()).unwrap();
        ended.wait().unwrap();
        fs::write(&path, format!("{pid}\n")).unwrap();
        let release = std::thread::spawn(move || {
            std::thread::sleep(10 * LOOK);
            drop(late);
        });
        HomeLock::take(&path).unwrap();
        release.join().unwrap();
    }

    #[test]
    fn the_table_of_locks_is_read() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fd:01:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:2b:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:2b:43 0 EOF\n";
        assert!(!table_has(table, 7, 42));
        assert!(table_has(table, 8, 42));
        assert!(!table_has(table, 8, 43));
    }
}
