//! What is left of a run whose shim was killed: processes without a parent that knows them.
//!
//! They are found by what cannot be mistaken: the number *and* the start time of the application, or the pod's uid and the
//! container's name in a process's environment. Each is signalled through a descriptor of the process (pidfd) that was opened
//! before the check, so a number that is used again in between never makes us hit a stranger.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::shim::record;
use crate::shim::tree;
use crate::shim::wire::{Exit, ProcessId, Record};

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Ends everything that is left of a run, and closes its record; gives the record. Blocks until all is gone, at most ten seconds.
pub(crate) fn clean_up(
    dir: &Path,
    record: Option<Record>,
    uid: &str,
    container: &str,
) -> Option<Record> {
    let mine = Mine::new(record.as_ref(), uid, container);
    let begun = Instant::now();
    while mine.kill_all() > 0 && begun.elapsed() < PATIENCE {
        std::thread::sleep(LOOK_AGAIN);
    }
    let mut record = record?;
    record.exit = Some(Exit {
        code: None,
        signal: None,
        finished_at: Timestamp::now(),
        uptime_ms: 0,
    });
    // Without the file it would only be looked at once more.
    let _ = record::write(dir, &record);
    Some(record)
}

struct Mine {
    app: Option<ProcessId>,
    marks: [Vec<u8>; 2],
}

impl Mine {
    fn new(record: Option<&Record>, uid: &str, container: &str) -> Self {
        // Numbers and start times mean nothing in another boot of the machine.
        let same_boot = record.filter(|r| r.boot_id == tree::boot_id());
        Self {
            app: same_boot.and_then(|r| r.app),
            marks: [
                format!("POD_UID={uid}").into_bytes(),
                format!("CONTAINER_NAME={container}").into_bytes(),
            ],
        }
    }

    fn kill_all(&self) -> usize {
        tree::all().filter(|stat| self.kill(stat.pid)).count()
    }

    /// `true` when the process is one of them and is not dead yet.
    fn kill(&self, pid: Pid) -> bool {
        if pid == rustix::process::getpid() {
            return false;
        }
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        self.is_mine(pid) && pidfd_send_signal(process, Signal::KILL).is_ok()
    }

    fn is_mine(&self, pid: Pid) -> bool {
        if self.app.is_some() && tree::identity(pid) == self.app {
            return !tree::is_zombie(pid);
        }
        let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
            return false;
        };
        self.marks.iter().all(|mark| {
            environment
                .split(|b| *b == 0)
                .any(|variable| variable == mark)
        })
    }
}
