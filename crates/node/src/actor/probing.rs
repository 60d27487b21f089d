//! Asks probes and runs hooks.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pod::probe::{Check, Outcome};
use crate::shim::client::Link;
use crate::shim::wire::ExecOutcome;

/// The most bytes of an answer that are read: more than a health check ever has to say.
const MAX_BODY_BYTES: usize = 10 << 10;
/// The most characters of an answer or an output that a message shows.
const MAX_SHOWN_CHARS: usize = 256;
/// What a command has beyond its own limit for the way to the shim and back.
const EXEC_SLACK: Duration = Duration::from_secs(2);

/// Asks once. Never takes much longer than `limit`.
pub(super) async fn ask(
    check: &Check,
    pod_ip: IpAddr,
    limit: Duration,
    link: Option<&Link>,
) -> Outcome {
    let late = || Outcome::Failure(format!("no answer within {} s", limit.as_secs_f64()));
    match check {
        Check::Http {
            host,
            port,
            path,
            headers,
        } => {
            let host = host.clone().unwrap_or_else(|| pod_ip.to_string());
            timeout(limit, http_get(&host, *port, path, headers))
                .await
                .unwrap_or_else(|_| late())
        }
        Check::Tcp { host, port } => {
            let host = host.clone().unwrap_or_else(|| pod_ip.to_string());
            match timeout(limit, connect(&host, *port)).await {
                Ok(Ok(_)) => Outcome::Success,
                Ok(Err(outcome)) => outcome,
                Err(_) => late(),
            }
        }
        Check::Exec { argv } => match link {
            Some(link) => {
                let done = link.exec(argv.clone(), limit);
                timeout(limit + EXEC_SLACK, done)
                    .await
                    .map_or_else(|_| late(), |outcome| executed(outcome, limit))
            }
            None => Outcome::Failure("the container is not running".into()),
        },
        Check::Sleep { duration } => {
            tokio::time::sleep((*duration).min(limit)).await;
            Outcome::Success
        }
        Check::Unsupported { why } => Outcome::Failure(why.clone()),
    }
}

fn executed(outcome: ExecOutcome, limit: Duration) -> Outcome {
    match outcome {
        ExecOutcome::Exited { code: 0, .. } => Outcome::Success,
        ExecOutcome::Exited { code, output } => Outcome::Failure(format!(
            "command exited with {code}: {}",
            shown(output.as_bytes())
        )),
        ExecOutcome::Killed => Outcome::Failure(format!(
            "command was killed after {} s",
            limit.as_secs_f64()
        )),
        ExecOutcome::NotStarted { message } => Outcome::Failure(message),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Outcome> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let message = format!("dial tcp {host}:{port}: {error}");
        if error.kind() == std::io::ErrorKind::ConnectionRefused {
            Outcome::Refused(message)
        } else {
            Outcome::Failure(message)
        }
    })
}

async fn http_get(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> Outcome {
    let stream = match connect(host, port).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match exchange(stream, host, port, path, headers).await {
        Ok((status, body)) => judge(status, &body),
        Err(error) => Outcome::Failure(format!("Get \"http://{host}:{port}{path}\": {error}")),
    }
}

async fn exchange(
    stream: TcpStream,
    host: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::get(path)
        .header(header::USER_AGENT, "serin-probe/1")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(header::HOST, format!("{host}:{port}"));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if is_good(status) {
            return Ok((status, Bytes::new()));
        }
        // A body is read only to be shown, and a long one not to its end.
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        Ok((status, body.unwrap_or_default()))
    };
    tokio::select! {
        result = exchange => result,
        // The exchange ends by itself once the connection has; this branch only drives it.
        () = async { let _ = connection.await; std::future::pending::<()>().await } => Err("the connection ended".into()),
    }
}

fn is_good(status: StatusCode) -> bool {
    (200..400).contains(&status.as_u16())
}

fn judge(status: StatusCode, body: &[u8]) -> Outcome {
    if is_good(status) {
        return Outcome::Success;
    }
    let mut message = format!("HTTP probe failed with statuscode: {}", status.as_u16());
    let shown = shown(body);
    if !shown.is_empty() {
        message += &format!(": {shown}");
    }
    Outcome::Failure(message)
}

/// The begin of what a program said, on one line and without control characters.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let text: String = text.trim().chars().take(MAX_SHOWN_CHARS).collect();
    text.replace(|c: char| c.is_control(), " ")
}
