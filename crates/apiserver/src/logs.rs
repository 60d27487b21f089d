//! What the server asks of whoever keeps the logs of pods.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// Which part of which log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// The namespace of the Pod.
    pub namespace: String,
    /// The name of the Pod.
    pub pod: String,
    /// The uid of the Pod.
    pub uid: String,
    /// The container; it is one of the Pod's.
    pub container: String,
    /// Whether the answer goes on while the container writes.
    pub follow: bool,
    /// Only so many lines from the end; `None`: all.
    pub tail_lines: Option<u64>,
    /// Only lines written since then; `None`: from the start.
    pub since: Option<Timestamp>,
    /// Of the run before the present one.
    pub previous: bool,
    /// Whether each line starts with its time.
    pub timestamps: bool,
    /// At most so many bytes; `None`: no limit.
    pub limit_bytes: Option<u64>,
}

/// The bytes of a log as they come; the stream ends with the log, or with the container when followed.
pub type LogStream = BoxStream<'static, Bytes>;

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// There is none (yet): the container has not run, or not twice.
    NotFound(String),
    /// It is there and cannot be read.
    Failed(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LogError {}

/// Whoever keeps the logs of pods.
pub trait PodLogs: Send + Sync {
    /// Opens a log for reading.
    ///
    /// # Errors
    /// There is no such log, or it cannot be read.
    fn open(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>>;
}
