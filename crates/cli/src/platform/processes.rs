//! Processes of this state directory that live on their own, and how to end one without ever hitting a stranger.
//!
//! A process number in a file may by now be that of another program, or the file may be lost. So processes are found by the
//! very command line that we start them with, which names the state directory; files are not asked.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A process of ours.
#[derive(Debug)]
pub(crate) struct OwnProcess {
    pid: Pid,
    arguments: Vec<OsString>,
}

impl OwnProcess {
    /// Every process that is `serin COMMAND --home HOME`.
    pub(crate) fn all(command: &str, home: &Path) -> Vec<Self> {
        let arguments: Vec<OsString> = vec![command.into(), "--home".into(), home.into()];
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let process = Self {
                pid,
                arguments: arguments.clone(),
            };
            process.lives().then_some(process)
        });
        found.collect()
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it is still there.
    pub(crate) fn lives(&self) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid()));
        line.is_ok_and(|line| begins_with(&line, &self.arguments))
    }

    /// Sends a signal. The process is taken hold of before it is proven to be ours.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            opened => opened?,
        };
        if self.lives() {
            pidfd_send_signal(&process, signal)?;
        }
        Ok(())
    }

    /// Asks it to end, and kills it when it has not after `patience`.
    pub(crate) async fn end(&self, patience: Duration) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        if self.ended(patience).await {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        self.ended(patience).await;
        Ok(())
    }

    async fn ended(&self, patience: Duration) -> bool {
        let gone = async {
            while self.lives() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(patience, gone).await.is_ok()
    }
}

/// Whether the arguments after the program, ended by zeros in `line`, begin with `wanted`.
fn begins_with(line: &[u8], wanted: &[OsString]) -> bool {
    let mut arguments = line.split(|byte| *byte == 0).skip(1);
    wanted
        .iter()
        .all(|word| arguments.next() == Some(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_command_line_is_believed() {
        let wanted = ["keeper".into(), "--home".into(), "/h".into()];
        assert!(begins_with(
            b"/bin/serin\0keeper\0--home\0/h\0--listen\0x\0",
            &wanted
        ));
        assert!(!begins_with(
            b"/bin/serin\0keeper\0--home\0/other\0",
            &wanted
        ));
        assert!(!begins_with(b"", &wanted));
        assert!(OwnProcess::all("keeper", Path::new("/no/such/home")).is_empty());
    }
}
