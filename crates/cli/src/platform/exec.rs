//! Joins the API server, which is asked for commands in containers, and the node, which runs them.

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use serin_apiserver::{ExecError, ExecRequest, Execution, PodExec};
use serin_node::{ConversationRequest, Ending};

/// The commands in the pods of a state directory.
pub(super) struct NodeExec {
    pub(super) home: PathBuf,
}

impl PodExec for NodeExec {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Execution, ExecError>> {
        async move {
            let request = ConversationRequest {
                uid: request.uid,
                container: request.container,
                argv: request.command,
                stdin: request.stdin,
                terminal: request.tty,
            };
            let begun = serin_node::converse(&self.home, request).await;
            let begun = begun.map_err(|error| ExecError(crate::error::chain(&error)))?;
            let resize = begun.resize;
            let end = begun.end.map(|ending| match ending {
                Ending::Exited(code) => Ok(code),
                Ending::Lost => Err(ExecError("its container has ended".into())),
            });
            Ok(Execution {
                stdin: begun.stdin,
                stdout: begun.stdout,
                stderr: begun.stderr,
                resize,
                end: end.boxed(),
            })
        }
        .boxed()
    }
}
