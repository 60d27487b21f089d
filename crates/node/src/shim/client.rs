//! The node's end of a shim: starting one, finding one again, and the task that speaks with it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::record::{self, Found};
use super::wire::{ExecOutcome, Handshake, MAX_LINE_BYTES, Record, Reply, Request, SOCKET, Spec};

/// How long a shim may take from its start to its greeting.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long a shim that holds its lock may take to answer its socket.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_RETRY: Duration = Duration::from_millis(20);
/// Orders that wait for a shim; more are refused.
const QUEUE: usize = 32;

/// Starts a shim in `dir` (which must exist and be fresh) and waits until its application runs.
///
/// # Errors
/// A sentence for the person, with the path and the reason.
pub(crate) async fn start(shim: &Path, dir: &Path, spec: &Spec) -> Result<Record, String> {
    let mut child = Command::new(shim)
        .arg("shim")
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start the shim {}: {e}", shim.display()))?;
    let greeting = timeout(START_DEADLINE, greet(&mut child, spec)).await;
    let result = match greeting {
        Ok(Ok(Handshake::Started(record))) => Ok(record),
        Ok(Ok(Handshake::Failed { message })) => Err(message),
        Ok(Err(error)) => Err(format!("the shim {}: {error}", shim.display())),
        Err(_) => Err(format!(
            "the shim {} did not answer in {} s",
            shim.display(),
            START_DEADLINE.as_secs()
        )),
    };
    if result.is_err() {
        let _ = child.kill().await;
    }
    // Takes its exit status whenever it comes: no zombie is left while the node lives.
    tokio::spawn(async move { child.wait().await });
    result
}

async fn greet(child: &mut tokio::process::Child, spec: &Spec) -> io::Result<Handshake> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("its pipes are missing"));
    };
    // A shim that fails early does not read to the end; what it says matters more than the broken pipe.
    let _ = stdin.write_all(&serde_json::to_vec(spec)?).await;
    drop(stdin);
    let mut line = String::new();
    BufReader::new(stdout)
        .take(MAX_LINE_BYTES as u64)
        .read_line(&mut line)
        .await?;
    if line.is_empty() {
        return Err(io::Error::other("it ended without a word"));
    }
    Ok(serde_json::from_str(&line)?)
}

/// What is heard of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The application ended.
    Ended(Record),
    /// The shim is gone and left no exit status; the application may still run.
    Lost(Option<Record>),
}

/// The way to give orders to a living shim.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Stop {
        signal: i32,
        grace: Duration,
    },
    Exec {
        argv: Vec<String>,
        timeout: Duration,
        done: oneshot::Sender<ExecOutcome>,
    },
}

impl Link {
    /// Asks for the end: `signal` now, SIGKILL after `grace`. Lost only when the shim is gone, which is the end too.
    pub(crate) async fn stop(&self, signal: i32, grace: Duration) {
        let _ = self.orders.send(Order::Stop { signal, grace }).await;
    }

    /// Runs a command beside the application. Gives [`ExecOutcome::NotStarted`] when the shim cannot be asked.
    pub(crate) async fn exec(&self, argv: Vec<String>, timeout: Duration) -> ExecOutcome {
        let (done, outcome) = oneshot::channel();
        let order = Order::Exec {
            argv,
            timeout,
            done,
        };
        let gone = || ExecOutcome::NotStarted {
            message: "the container is gone".into(),
        };
        if self.orders.send(order).await.is_err() {
            return gone();
        }
        outcome.await.unwrap_or_else(|_| gone())
    }
}

/// Opens the link to the run in `dir`; the second half ends with the last news of it.
pub(crate) fn link(dir: PathBuf) -> (Link, impl Future<Output = News> + Send + 'static) {
    let (orders, inbox) = mpsc::channel(QUEUE);
    (Link { orders }, follow(dir, inbox))
}

/// Speaks with the shim, again after a broken connection, until the run has come to its end.
async fn follow(dir: PathBuf, mut orders: mpsc::Receiver<Order>) -> News {
    let mut deadline = Instant::now() + CONNECT_DEADLINE;
    loop {
        if let Ok(stream) = connect(&dir).await {
            if let Some(record) = converse(stream, &mut orders).await {
                return News::Ended(record);
            }
            deadline = Instant::now() + CONNECT_DEADLINE;
        }
        match inspect(&dir).await {
            Ok(Found::Ended(record)) => return News::Ended(record),
            Ok(Found::Lost(record)) => return News::Lost(record),
            Ok(Found::Alive) | Err(_) if Instant::now() < deadline => {}
            Ok(Found::Alive) | Err(_) => {
                // Without the socket nothing can be asked of it; it is still the parent of the application. Keep trying.
                tracing::warn!(dir = %dir.display(), "a shim lives and does not answer its socket");
                deadline = Instant::now() + 12 * CONNECT_DEADLINE;
            }
        }
        sleep(CONNECT_RETRY).await;
    }
}

/// [`record::inspect`] off the runtime's threads.
pub(crate) async fn inspect(dir: &Path) -> io::Result<Found> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || record::inspect(&dir))
        .await
        .map_err(io::Error::other)?
}

/// Connects through an open directory: the path that the system sees is short, however long the real one is.
pub(super) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let open = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
    UnixStream::connect(path).await
}

/// One connection; `Some` when it told the end of the run.
async fn converse(stream: UnixStream, orders: &mut mpsc::Receiver<Order>) -> Option<Record> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut waiting: HashMap<u64, oneshot::Sender<ExecOutcome>> = HashMap::new();
    let mut next_id = 0_u64;
    let mut line = Vec::new();
    let mut open = true;
    loop {
        tokio::select! {
            // Reading a line is not lost when an order comes in between: what was read stays in `line`.
            read = read_line(&mut reader, &mut line) => {
                match read.and_then(|()| serde_json::from_slice(&line).map_err(Into::into)) {
                    Ok(Reply::Status(record)) if record.exit.is_some() => {
                        let _ = say(&mut writer, &Request::Forget).await;
                        return Some(record);
                    }
                    Ok(Reply::Status(_) | Reply::Begun { .. }) => {}
                    Ok(Reply::Executed { id, outcome }) => {
                        if let Some(done) = waiting.remove(&id) {
                            let _ = done.send(outcome);
                        }
                    }
                    Err(_) => return None,
                }
                line.clear();
            }
            order = orders.recv(), if open => {
                let Some(order) = order else {
                    open = false;
                    continue;
                };
                next_id += 1;
                let request = into_request(order, next_id, &mut waiting);
                if say(&mut writer, &request).await.is_err() {
                    return None;
                }
            }
        }
    }
}

fn into_request(
    order: Order,
    id: u64,
    waiting: &mut HashMap<u64, oneshot::Sender<ExecOutcome>>,
) -> Request {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    match order {
        Order::Stop { signal, grace } => Request::Stop {
            signal,
            grace_ms: millis(grace),
        },
        Order::Exec {
            argv,
            timeout,
            done,
        } => {
            waiting.insert(id, done);
            Request::Exec {
                id,
                argv,
                timeout_ms: millis(timeout),
            }
        }
    }
}

pub(super) async fn read_line(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<()> {
    reader.read_until(b'\n', line).await?;
    if line.last() != Some(&b'\n') || line.len() > 2 * MAX_LINE_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

pub(super) async fn say(writer: &mut OwnedWriteHalf, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
