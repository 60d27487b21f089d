//! A command in a running container that somebody talks with, as `kubectl exec` asks for it.
//!
//! The streams are made here and opened by the shim, so that the bytes never pass through it: named pipes in the directory of the
//! run, or a terminal. The shim tells the end, and ends the command when its connection is closed.

mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::fs::{CWD, Mode};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use self::terminal::Terminal;
use super::client::{connect, read_line, say};
use super::wire::{ExecOutcome, Reply, Request, Streams};
use crate::dirs::{Dirs, is_component};
use crate::logs::choose_run;

/// How long a shim may take to start a command.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// A connection carries one command, so one number will do.
const ID: u64 = 1;

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRequest {
    /// The uid of the pod.
    pub uid: String,
    /// The container.
    pub container: String,
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// Whether something will be written to it.
    pub stdin: bool,
    /// Whether it gets a terminal of its own.
    pub terminal: bool,
}

/// A command that runs. It is ended when `end` is dropped.
pub struct Conversation {
    /// Its standard input; `None` unless asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output, with a terminal all that it shows.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets columns and rows of its terminal; does nothing without one.
    pub resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Its end.
    pub end: BoxFuture<'static, Ending>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this code: 128 and the signal when it was ended by one.
    Exited(i32),
    /// With its container, or it is not known.
    Lost,
}

/// Why a command does not run.
#[derive(Debug, Error)]
pub enum ConversationError {
    /// A name that cannot be the name of an object.
    #[error("{0:?} is no name of a pod or container")]
    BadName(String),
    /// No run of the container lives.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// It cannot be started; the sentence names the program.
    #[error("{0}")]
    NotStarted(String),
    /// The streams cannot be made, or the shim does not answer.
    #[error("the streams of the command")]
    Io(#[from] io::Error),
}

/// Starts a command in a container under the state directory `home`.
///
/// # Errors
/// The container does not run, or the command cannot be started in it.
pub async fn converse(
    home: &Path,
    request: ConversationRequest,
) -> Result<Conversation, ConversationError> {
    for name in [&request.uid, &request.container] {
        if !is_component(name) {
            return Err(ConversationError::BadName(name.clone()));
        }
    }
    let not_running = || ConversationError::NotRunning(request.container.clone());
    let dirs = Dirs::new(home);
    let run = choose_run(&dirs, &request.uid, &request.container, false).ok_or_else(not_running)?;
    let dir = dirs.run(&request.uid, &request.container, run);
    let stream = connect(&dir).await.map_err(|_| not_running())?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let made = Ends::make(&dir, &request)?;
    let order = Request::Converse {
        id: ID,
        argv: request.argv.clone(),
        streams: made.streams(),
    };
    say(&mut writer, &order).await?;
    let begun = timeout(START_DEADLINE, begun(&mut reader)).await;
    begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(made.into_conversation(end(reader, writer).boxed()))
}

/// Waits until the command runs.
async fn begun(reader: &mut BufReader<OwnedReadHalf>) -> Result<(), ConversationError> {
    loop {
        match next(reader).await? {
            Reply::Begun { .. } => return Ok(()),
            Reply::Executed {
                outcome: ExecOutcome::NotStarted { message },
                ..
            } => return Err(ConversationError::NotStarted(message)),
            Reply::Executed { .. } => {
                return Err(io::Error::other("it ended before its start").into());
            }
            Reply::Status(record) if record.exit.is_some() => {
                return Err(ConversationError::NotStarted(
                    "the container has ended".into(),
                ));
            }
            Reply::Status(_) => {}
        }
    }
}

/// Waits until the command ends. `hold` keeps the connection, and so the command, for as long.
async fn end(mut reader: BufReader<OwnedReadHalf>, hold: OwnedWriteHalf) -> Ending {
    let ending = loop {
        match next(&mut reader).await {
            Ok(Reply::Executed {
                outcome: ExecOutcome::Exited { code, .. },
                ..
            }) => break Ending::Exited(code),
            Ok(Reply::Executed { .. }) | Err(_) => break Ending::Lost,
            Ok(Reply::Begun { .. } | Reply::Status(_)) => {}
        }
    };
    drop(hold);
    ending
}

async fn next(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Reply> {
    let mut line = Vec::new();
    read_line(reader, &mut line).await?;
    Ok(serde_json::from_slice(&line)?)
}

/// This side of the streams of a command.
enum Ends {
    Pipes {
        /// Removes the names of the pipes once both sides have them open.
        names: Names,
        stdin: Option<pipe::Sender>,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    Terminal {
        terminal: Terminal,
        device: PathBuf,
    },
}

impl Ends {
    fn make(dir: &Path, request: &ConversationRequest) -> io::Result<Self> {
        if request.terminal {
            let (terminal, device) = Terminal::open()?;
            return Ok(Self::Terminal { terminal, device });
        }
        let mut names = Names::new(dir);
        let stdin = match request.stdin {
            // Open for reading too, so that it can be opened before anybody reads.
            true => Some(
                pipe::OpenOptions::new()
                    .read_write(true)
                    .open_sender(names.add("in")?)?,
            ),
            false => None,
        };
        let stdout = pipe::OpenOptions::new().open_receiver(names.add("out")?)?;
        let stderr = pipe::OpenOptions::new().open_receiver(names.add("err")?)?;
        Ok(Self::Pipes {
            names,
            stdin,
            stdout,
            stderr,
        })
    }

    /// The other side, for the shim.
    fn streams(&self) -> Streams {
        match self {
            Self::Pipes { names, stdin, .. } => Streams::Pipes {
                stdin: stdin.as_ref().map(|_| names.of("in")),
                stdout: names.of("out"),
                stderr: names.of("err"),
            },
            Self::Terminal { device, .. } => Streams::Terminal {
                path: device.clone(),
            },
        }
    }

    fn into_conversation(self, end: BoxFuture<'static, Ending>) -> Conversation {
        match self {
            Self::Pipes {
                stdin,
                stdout,
                stderr,
                ..
            } => Conversation {
                stdin: stdin.map(|stdin| Box::new(stdin) as Box<dyn AsyncWrite + Send + Unpin>),
                stdout: Box::new(stdout),
                stderr: Some(Box::new(stderr)),
                resize: Box::new(|_, _| {}),
                end,
            },
            Self::Terminal { terminal, .. } => {
                let window = terminal.clone();
                Conversation {
                    stdin: Some(Box::new(terminal.clone())),
                    stdout: Box::new(terminal),
                    stderr: None,
                    resize: Box::new(move |columns, rows| window.resize(columns, rows)),
                    end,
                }
            }
        }
    }
}

/// The names of the pipes of one command; they go with this value.
struct Names {
    dir: PathBuf,
    base: String,
    made: Vec<PathBuf>,
}

impl Names {
    fn new(dir: &Path) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            dir: dir.to_owned(),
            base: format!("x{}-{number}", std::process::id()),
            made: Vec::new(),
        }
    }

    /// As the shim knows it.
    fn of(&self, end: &str) -> String {
        format!("{}.{end}", self.base)
    }

    fn add(&mut self, end: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(self.of(end));
        // Left over from a process that had the same number.
        let _ = std::fs::remove_file(&path);
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
        self.made.push(path.clone());
        Ok(path)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for path in &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}
