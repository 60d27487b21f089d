//! Killing processes, and finding what is left of a platform by every trace that a process can have of it.

use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::support::{Platform, Process, poll};

/// A process of the platform's that is named in a file of `run/`.
pub(crate) async fn pid_in(platform: &Platform, file: &str, field: &str) -> i32 {
    let info: Value = platform.run_file(file).await;
    i32::try_from(info[field].as_i64().unwrap()).unwrap()
}

/// SIGKILL, and waits until the process is gone.
pub(crate) async fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    poll("the end of a killed process", async || {
        (!lives(pid)).then_some(())
    })
    .await;
}

/// SIGKILL, without waiting.
pub(crate) fn kill_now(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Kills the control plane; gives its pid.
pub(crate) async fn kill_control_plane(platform: &Platform) -> i32 {
    let pid = pid_in(platform, "serin.json", "pid").await;
    kill(pid).await;
    pid
}

/// Whether there is such a process and it has not ended.
pub(crate) fn lives(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !is_zombie(pid)
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Processes with a text in their command line, their environment or their working directory: `PID COMMAND`.
pub(crate) fn with_trace(text: &str) -> Vec<String> {
    let found = Process::all().filter(|process| process.has_trace(text));
    found
        .map(|process| format!("{} {}", process.pid, process.command))
        .collect()
}

/// The pids of [`with_trace`].
pub(crate) fn pids_with(text: &str) -> Vec<i32> {
    let found = Process::all().filter(|process| process.has_trace(text));
    found.map(|process| process.pid).collect()
}

/// The shims of a platform.
pub(crate) fn shims(platform: &Platform) -> Vec<(i32, String)> {
    let mut all = platform.processes();
    all.retain(|(_, command)| command == "shim");
    all
}

/// [`with_trace`] of a state directory.
pub(crate) fn of_home(home: &Path) -> Vec<String> {
    with_trace(home.to_str().unwrap())
}

/// A process that has nothing to do with any platform; ends with this value.
pub(crate) struct Stranger(Child);

impl Stranger {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("sleep");
        Self(
            command
                .arg("600")
                .env_clear()
                .current_dir("/")
                .spawn()
                .unwrap(),
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
