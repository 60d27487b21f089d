//! `exec`: a command in a container, with its streams on channels of one connection.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{
    ExecError, ExecRequest, Execution, ExitCode, PodExec, Sink, pump, spdy, switch_to_spdy,
    upgrades_to, websocket,
};
use crate::listen::Lifetime;
use crate::meta;
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::verbs::container_of;

/// The versions of the protocol of which the error channel carries a Status, the best first.
const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// How long the client may take to open its streams, and to hang up once it was told the end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The channels by their numbers on a WebSocket.
pub(super) const STDIN: u32 = 0;
pub(super) const STDOUT: u32 = 1;
pub(super) const STDERR: u32 = 2;
pub(super) const ERROR: u32 = 3;
pub(super) const RESIZE: u32 = 4;

/// Which streams the client wants.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// The channels of a conversation.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) stdin: Option<mpsc::Receiver<Bytes>>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    pub(super) error: Sink,
    pub(super) resize: Option<mpsc::Receiver<Bytes>>,
}

/// Answers `exec` of a Pod.
pub(crate) async fn exec(server: &ApiServer, mut call: Call) -> Result<Response, Refusal> {
    if !matches!(call.method, Method::GET | Method::POST) {
        return Err(Refusal::method(&call.method));
    }
    let record = server.store.get(&call.target.key());
    let record = record.ok_or_else(|| Refusal::not_found(call.target.subject()))?;
    let pod = record.value();
    let parameters = &call.parameters;
    let wanted = Wanted {
        stdin: parameters.is_on("stdin"),
        stdout: parameters.is_on("stdout"),
        // A terminal has but one way out.
        stderr: parameters.is_on("stderr") && !parameters.is_on("tty"),
        tty: parameters.is_on("tty"),
    };
    let request = ExecRequest {
        pod: call.target.name().to_owned(),
        uid: meta::text(&pod, "uid").to_owned(),
        container: container_of(&call.target, &pod, parameters.get("container"))?,
        command: parameters.all("command").map(str::to_owned).collect(),
        stdin: wanted.stdin,
        tty: wanted.tty,
    };
    if request.command.is_empty() {
        return Err(Refusal::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Refusal::bad_request(
            "you must specify at least one of stdin, stdout, stderr",
        ));
    }
    let Some(pods) = server.exec.clone() else {
        return Err(Refusal::not_implemented(
            "this server was started without a node, so nothing runs on it",
        ));
    };
    let lifetime = call.lifetime.clone();
    if upgrades_to(&call.headers, "websocket") {
        return websocket::switch(&mut call, &server.places, move |channels| {
            carry(pods, request, channels, lifetime)
        });
    }
    if !upgrades_to(&call.headers, "SPDY/3.1") {
        return Err(Refusal::bad_request(
            "upgrade request required: to SPDY/3.1 or websocket",
        ));
    }
    switch_to_spdy(
        &mut call,
        &server.places,
        &PROTOCOLS,
        move |mut streams| async move {
            match timeout(PATIENCE, gather(wanted, &mut streams)).await {
                Ok(Some(channels)) => {
                    carry(pods, request, channels, lifetime).await;
                    // The client hangs up when it has read all.
                    let _ =
                        timeout(PATIENCE, async { while streams.recv().await.is_some() {} }).await;
                }
                Ok(None) | Err(_) => {
                    tracing::debug!("a client did not open the streams of its command")
                }
            }
        },
    )
}

/// Waits until the client has opened every stream that it wants.
async fn gather(wanted: Wanted, streams: &mut mpsc::Receiver<spdy::Stream>) -> Option<Channels> {
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    loop {
        let complete = stdin.is_some() == wanted.stdin
            && stdout.is_some() == wanted.stdout
            && stderr.is_some() == wanted.stderr
            && resize.is_some() == wanted.tty;
        if complete && let Some(error) = error.take() {
            return Some(Channels {
                stdin,
                stdout,
                stderr,
                error,
                resize,
            });
        }
        let stream = streams.recv().await?;
        match stream.headers.get("streamtype").map(String::as_str) {
            Some("stdin") => stdin = Some(stream.incoming),
            Some("stdout") => stdout = Some(stream.outgoing),
            Some("stderr") => stderr = Some(stream.outgoing),
            Some("error") => error = Some(stream.outgoing),
            Some("resize") => resize = Some(stream.incoming),
            _ => return None,
        }
    }
}

/// Runs the command and tells its end, unless the client goes first.
async fn carry(
    pods: Arc<dyn PodExec>,
    request: ExecRequest,
    channels: Channels,
    lifetime: Lifetime,
) {
    let error = channels.error.clone();
    let outputs = [channels.stdout.clone(), channels.stderr.clone()];
    let run = async {
        match pods.exec(request).await {
            Ok(execution) => converse(execution, channels).await,
            Err(error) => Err(error),
        }
    };
    let ended = tokio::select! {
        ended = run => ended,
        () = lifetime.over() => Err(ExecError("the server stops, and has ended the command".into())),
    };
    // Clients of SPDY read the outputs to their ends before they look at the status.
    if ended.is_err() {
        for output in outputs.iter().flatten() {
            output.finish(Bytes::new()).await;
        }
    }
    let status = status(ended).to_string();
    error.finish(Bytes::from(status)).await;
}

async fn converse(execution: Execution, channels: Channels) -> Result<ExitCode, ExecError> {
    let Execution {
        stdin,
        stdout,
        stderr,
        resize,
        end,
    } = execution;
    let write = async {
        if let (Some(mut to), Some(mut from)) = (stdin, channels.stdin) {
            while let Some(bytes) = from.recv().await {
                if to.write_all(&bytes).await.is_err() {
                    // A command that does not read its input to the end is its own affair; the rest of it is dropped.
                    while from.recv().await.is_some() {}
                }
            }
            let _ = to.shutdown().await;
        }
    };
    let size = async {
        let mut from = channels.resize;
        while let Some(bytes) = next(&mut from).await {
            if let Ok(size) = serde_json::from_slice::<Size>(&bytes) {
                resize(size.width, size.height);
            }
        }
    };
    let read = async {
        let out = drain(Some(stdout), channels.stdout.as_ref());
        let err = drain(stderr, channels.stderr.as_ref());
        let (out, err) = tokio::join!(out, err);
        out && err
    };
    let inputs = async { tokio::join!(write, size) };
    let outputs = async {
        // A client that is gone is told nothing, and its command is ended.
        if read.await {
            end.await
        } else {
            Err(ExecError("the client is gone".into()))
        }
    };
    tokio::pin!(inputs, outputs);
    tokio::select! {
        ended = &mut outputs => ended,
        _ = &mut inputs => outputs.await,
    }
}

async fn next(from: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    from.as_mut()?.recv().await
}

/// Carries an output to its channel; one that nobody wants is read all the same, so that the command can go on.
async fn drain(
    from: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    to: Option<&Sink>,
) -> bool {
    match (from, to) {
        (Some(from), Some(to)) => pump(from, to).await,
        (Some(mut from), None) => {
            let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            true
        }
        (None, Some(to)) => to.finish(Bytes::new()).await,
        (None, None) => true,
    }
}

/// The size of a terminal, as clients send it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// What the error channel says of the end.
fn status(ended: Result<ExitCode, ExecError>) -> Value {
    match ended {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(ExecError(why)) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: error executing command in container: {why}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::super::Message;
    use super::*;
    use crate::waiting::soon;

    struct Refuses;

    impl PodExec for Refuses {
        fn exec(&self, _: ExecRequest) -> BoxFuture<'_, Result<Execution, ExecError>> {
            async { Err(ExecError("no".into())) }.boxed()
        }
    }

    #[tokio::test]
    async fn all_that_a_client_reads_ends_when_nothing_could_be_run() {
        let (out, mut messages) = mpsc::channel(8);
        let sink = |stream| Sink::new(stream, out.clone());
        let channels = Channels {
            stdin: None,
            stdout: Some(sink(STDOUT)),
            stderr: Some(sink(STDERR)),
            error: sink(ERROR),
            resize: None,
        };
        drop(out);
        let request = ExecRequest {
            pod: "a".into(),
            uid: String::new(),
            container: "a".into(),
            command: vec!["a".into()],
            stdin: false,
            tty: false,
        };
        let carried = carry(Arc::new(Refuses), request, channels, Lifetime::default());
        soon("the refusal", carried).await;
        let mut ended = Vec::new();
        while let Some(message) = soon("all ends", messages.recv()).await {
            if let Message::Data { stream, last, .. } = message {
                assert!(last);
                ended.push(stream);
            }
        }
        ended.sort_unstable();
        assert_eq!(ended, [STDOUT, STDERR, ERROR]);
    }
}
