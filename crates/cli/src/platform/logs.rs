//! Joins the API server, which is asked for logs, and the node, which keeps them.

use std::path::PathBuf;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serin_apiserver::{LogError, LogRequest, LogStream, PodLogs};
use serin_node::LogOptions;

/// The logs of the pods of a state directory.
pub(super) struct NodeLogs {
    pub(super) home: PathBuf,
}

impl PodLogs for NodeLogs {
    fn open(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>> {
        let home = self.home.clone();
        async move {
            let request = serin_node::LogRequest {
                namespace: request.namespace,
                pod: request.pod,
                uid: request.uid,
                container: request.container,
                options: LogOptions {
                    follow: request.follow,
                    previous: request.previous,
                    timestamps: request.timestamps,
                    tail_lines: request.tail_lines,
                    since_seconds: None,
                    since_time: request.since,
                    limit_bytes: request.limit_bytes,
                },
            };
            let opened =
                tokio::task::spawn_blocking(move || serin_node::open_logs(&home, &request));
            let lines = opened
                .await
                .map_err(|error| LogError::Failed(error.to_string()))?
                .map_err(|error| refused(&error))?;
            // What has been sent cannot be taken back: a log that breaks off ends.
            let readable = lines.take_while(|chunk| std::future::ready(chunk.is_ok()));
            Ok(readable
                .filter_map(|chunk| std::future::ready(chunk.ok()))
                .boxed())
        }
        .boxed()
    }
}

fn refused(error: &serin_node::LogError) -> LogError {
    use serin_node::LogError::{BadName, Io, NoPrevious, NotStarted};
    let text = crate::error::chain(error);
    match error {
        NotStarted { .. } | NoPrevious { .. } => LogError::NotFound(text),
        BadName(_) | Io { .. } => LogError::Failed(text),
    }
}
