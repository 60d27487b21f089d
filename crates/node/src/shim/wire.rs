//! What the node and a shim say to each other, and what a shim leaves on disk.
//!
//! The node writes a [`Spec`] to the shim's standard input (so that secrets of the environment never touch the disk) and
//! reads one [`Handshake`] line from its standard output. From then on both speak lines of JSON over the unix socket.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of the socket in the directory of a run.
pub(crate) const SOCKET: &str = "s";
/// The file that a living shim holds locked.
pub(crate) const LOCK: &str = "lock";
/// The record of a run; once it is there, the directory is used up.
pub(crate) const RECORD: &str = "state.json";
/// The most bytes of a spec that a shim reads.
pub(crate) const MAX_SPEC_BYTES: u64 = 4 << 20;
/// The most bytes of one line between node and shim.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 10;
/// The most bytes of an executed command's output that are kept.
pub(crate) const MAX_EXEC_OUTPUT_BYTES: usize = 10 << 10;

/// What a shim has to run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// The working directory; must exist.
    pub(crate) cwd: PathBuf,
    /// Where the output goes.
    pub(crate) log: LogSpec,
}

impl Spec {
    /// Names this spec, without giving any of it away.
    pub(crate) fn hash(&self) -> String {
        use std::hash::{Hash, Hasher};
        let mut hasher = fnv::FnvHasher::default();
        (&self.argv, &self.env, &self.cwd, &self.log.path).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Values of the environment may be secret and are left out.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("program", &self.argv.first())
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// Where and how much output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogSpec {
    /// The file that is written; older ones have `.1`, `.2` … behind its name.
    pub(crate) path: PathBuf,
    /// The size in bytes at which a file is put aside.
    pub(crate) max_bytes: u64,
    /// How many files are kept, the one being written included; at least 1.
    pub(crate) max_files: u32,
    /// Bytes a second that are kept in the long run; what comes faster is counted and dropped.
    pub(crate) max_bytes_per_second: u64,
}

/// The first and only line on a shim's standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Handshake {
    /// The application runs.
    Started(Record),
    /// It does not, and the shim is gone.
    Failed {
        /// A sentence that names the path and the reason.
        message: String,
    },
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// What is known of one run of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Names the spec that was run.
    pub(crate) spec_hash: String,
    /// The boot of the machine in which it ran.
    pub(crate) boot_id: String,
    /// The application; `None` when it never started.
    pub(crate) app: Option<ProcessId>,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// How it ended; `None` while it runs, or when its shim died with it.
    pub(crate) exit: Option<Exit>,
}

/// How an application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// When.
    pub(crate) finished_at: Timestamp,
    /// How long it ran on the monotonic clock, in milliseconds.
    pub(crate) uptime_ms: u64,
}

/// What the node asks of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// End the application: `signal` now, SIGKILL after `grace_ms`. A second one can only bring the end nearer.
    Stop {
        /// The number of the signal.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// Run a command beside the application, in its environment.
    Exec {
        /// Comes back in the answer.
        id: u64,
        /// The program and its arguments.
        argv: Vec<String>,
        /// Milliseconds until it is killed.
        timeout_ms: u64,
    },
    /// Run a command beside the application, in its environment, with streams that the caller has made. It ends when the caller
    /// hangs up.
    Converse {
        /// Comes back in the answers.
        id: u64,
        /// The program and its arguments.
        argv: Vec<String>,
        /// Its standard streams.
        streams: Streams,
    },
    /// The exit status is known: a shim that could not write it down need not stay for it.
    Forget,
}

/// The standard streams of a command, by paths from the directory of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Streams {
    /// Named pipes.
    Pipes {
        /// `None`: nothing can be read.
        stdin: Option<String>,
        /// Of its output.
        stdout: String,
        /// Of its errors.
        stderr: String,
    },
    /// A terminal for all three, which it is in control of.
    Terminal {
        /// The device.
        path: PathBuf,
    },
}

/// What a shim tells, unasked at each change and to each new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The state of the run.
    Status(Record),
    /// The command of a [`Request::Converse`] runs: the other ends of its streams are open.
    Begun {
        /// Of the request.
        id: u64,
    },
    /// A command has ended.
    Executed {
        /// Of the request.
        id: u64,
        /// How.
        outcome: ExecOutcome,
    },
}

/// How an executed command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExecOutcome {
    /// By itself, or by a signal of its own making (then the code is 128 + signal).
    Exited {
        /// The exit code.
        code: i32,
        /// What it wrote, at most [`MAX_EXEC_OUTPUT_BYTES`].
        output: String,
    },
    /// It was killed at its deadline, or with its container.
    Killed,
    /// It could not be started.
    NotStarted {
        /// Why.
        message: String,
    },
}
