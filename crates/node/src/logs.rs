//! The output of containers, as `kubectl logs` asks for it.
//!
//! Works on files alone: it needs neither a running node nor the API, so the logs of a pod are there as long as its files are.

mod format;
mod reader;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::dirs::{Dirs, is_component, numbered};
use crate::shim::record;
use reader::{Progress, Reader};

/// About so many bytes are given at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// The lines of a failed run that its status shows, and their most bytes.
const TERMINATION_LINES: usize = 20;
const TERMINATION_BYTES: usize = 2 << 10;

/// Whose output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// The namespace of the pod; only for messages.
    pub namespace: String,
    /// The name of the pod; only for messages.
    pub pod: String,
    /// The uid of the pod.
    pub uid: String,
    /// The container.
    pub container: String,
    /// Which part, and how.
    pub options: LogOptions,
}

/// Which part of the output, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the run ends.
    pub follow: bool,
    /// The run before the latest one.
    pub previous: bool,
    /// The time before each line.
    pub timestamps: bool,
    /// Only the last so many lines; `None`: all.
    pub tail_lines: Option<u64>,
    /// Only what is not older than so many seconds; `None`: all. Loses against `since_time`.
    pub since_seconds: Option<u64>,
    /// Only what is not older than this; `None`: all.
    pub since_time: Option<Timestamp>,
    /// At most so many bytes; `None`: no limit.
    pub limit_bytes: Option<u64>,
}

/// Why there is no output to give.
#[derive(Debug, Error)]
pub enum LogError {
    /// A name that cannot be the name of an object.
    #[error("{0:?} is no name of a pod or container")]
    BadName(String),
    /// No run of the container has begun.
    #[error("container {container:?} in pod {pod:?} is waiting to start: it has no output yet")]
    NotStarted {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// There is no earlier run, or its output is no longer kept.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// The files cannot be read.
    #[error("the log of container {container:?} cannot be read")]
    Io {
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The output of a container under the state directory `home`. Blocks shortly to find its place; the stream reads as it is asked.
///
/// # Errors
/// When there is no such output; see [`LogError`].
pub fn open_logs(
    home: &Path,
    request: &LogRequest,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, LogError> {
    let LogRequest {
        pod,
        uid,
        container,
        options,
        ..
    } = request;
    for name in [uid, container] {
        if !is_component(name) {
            return Err(LogError::BadName(name.clone()));
        }
    }
    let dirs = Dirs::new(home);
    let run = choose_run(&dirs, uid, container, options.previous).ok_or_else(|| {
        let (container, pod) = (container.clone(), pod.clone());
        if options.previous {
            LogError::NoPrevious { container, pod }
        } else {
            LogError::NotStarted { container, pod }
        }
    })?;
    let since = options.since_time.or_else(|| {
        let ago = i64::try_from(options.since_seconds?).ok()?;
        Timestamp::now()
            .checked_sub(SignedDuration::from_secs(ago))
            .ok()
    });
    let reader = Reader::open(
        &dirs.log(uid, container, run),
        options
            .tail_lines
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        since,
        options.timestamps,
        options.limit_bytes,
    )
    .map_err(|source| LogError::Io {
        container: container.clone(),
        source,
    })?;
    let follow = options.follow.then(|| dirs.run(uid, container, run));
    Ok(stream(reader, follow))
}

/// The last lines of a run's output, for the message of a container that failed; `None` when it wrote nothing.
pub(crate) fn last_lines(dirs: &Dirs, uid: &str, container: &str, run: u32) -> Option<String> {
    let path = dirs.log(uid, container, run);
    let mut reader = Reader::open(&path, Some(TERMINATION_LINES), None, false, None).ok()?;
    let mut text = Vec::new();
    while reader.read(1 << 20, &mut text).ok()? == Progress::More {
        // Only the end is of interest; lines can be long.
        let excess = text.len().saturating_sub(TERMINATION_BYTES);
        text.drain(..excess);
    }
    let excess = text.len().saturating_sub(TERMINATION_BYTES);
    let text = String::from_utf8_lossy(text.get(excess..)?)
        .trim_end()
        .to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number of the latest run of a container, or of the one before it.
pub(crate) fn choose_run(dirs: &Dirs, uid: &str, container: &str, previous: bool) -> Option<u32> {
    // A run without output has no file yet, but it has its directory.
    let mut runs = numbered(&dirs.container(uid, container), "");
    runs.extend(numbered(&dirs.logs(uid, container), ".log"));
    runs.sort_unstable();
    runs.dedup();
    let latest = runs.pop()?;
    if previous { runs.pop() } else { Some(latest) }
}

fn stream(
    reader: Reader,
    follow: Option<PathBuf>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    futures::stream::unfold(Some((reader, follow)), |mut state| async move {
        loop {
            let (mut reader, follow) = state?;
            let step = tokio::task::spawn_blocking(move || {
                // Asked before reading: what is written up to the end is read in this round.
                let ended = follow.as_deref().is_none_or(record::has_ended);
                let mut text = Vec::new();
                let progress = reader.read(CHUNK_BYTES, &mut text);
                (reader, follow, ended, text, progress)
            });
            let (reader, follow, ended, text, progress) = match step.await {
                Ok(step) => step,
                Err(error) => return Some((Err(io::Error::other(error)), None)),
            };
            let last = match progress {
                Ok(Progress::More) => false,
                Ok(Progress::CaughtUp) => ended,
                Ok(Progress::Limit) => true,
                Err(error) => return Some((Err(error), None)),
            };
            state = (!last).then_some((reader, follow));
            if !text.is_empty() {
                return Some((Ok(Bytes::from(text)), state));
            }
            tokio::time::sleep(POLL).await;
        }
    })
}
