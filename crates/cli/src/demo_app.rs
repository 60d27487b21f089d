//! The built-in demo application: `serin demo-app`, which a node runs for the image `serin.dev/demo:TAG`.
//!
//! Responsible for: a small HTTP/1.1 server that says which version and which pod answers, with switches in its environment
//! for everything a release can do wrong ([`settings`] lists them). It ends as a good citizen does: on SIGTERM it takes
//! what is already on its way, finishes it and exits with 0.
//!
//! Absent on purpose: it knows nothing of Serin. It is started, probed and stopped like any other program.

use std::convert::Infallible;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::{Answer, App, Asked};
use self::settings::{Exit, Settings};

mod answer;
mod settings;

/// The version that answered; on every answer.
pub(crate) const VERSION_HEADER: &str = "x-demo-version";
/// The pod that answered; on every answer.
const POD_HEADER: &str = "x-demo-pod";

/// Connections served at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may be idle. Longer than any proxy keeps one, so that the proxy is the side that closes it.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// How long requests in flight may take after the signal to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection that never carried a request is kept after that signal, for a request that is on its way.
const UNUSED_LIMIT: Duration = Duration::from_secs(1);
/// The longest request body that is read, in bytes.
const MAX_REQUEST_BODY: usize = 16 * 1024 * 1024;
/// The most that `LEAK_KB_PER_S` takes, in KiB, so that a forgotten switch does not take a machine down.
const MAX_LEAK_KIB: usize = 1024 * 1024;

/// Runs the application until a signal or one of its switches ends it. The exit code is 0 after a signal, 1 when it cannot
/// listen, 2 when a variable has a value it cannot have, and otherwise what `EXIT_CODE` asks for.
pub(crate) fn run() -> ExitCode {
    let environment =
        |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let settings = match Settings::read(environment) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                complain(&problem.to_string());
            }
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run_until_ended(settings)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    ended.unwrap_or_else(|problem| {
        complain(&problem);
        ExitCode::FAILURE
    })
}

async fn run_until_ended(settings: Settings) -> Result<ExitCode, String> {
    let app = Arc::new(App::new(settings));
    let settings = app.settings();
    // The handlers come first: a signal that arrives during the start is not lost.
    let stop_signal = stop_signal(settings.ignore_sigterm)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; set POD_IP and PORT to an address that is free",
            settings.listen
        )
    })?;
    let address = listener.local_addr().unwrap_or(settings.listen);
    let name = format!("demo {} ({})", settings.version, settings.pod);
    log(&format!("{name}: listening on {address}"));
    tokio::spawn(leak(settings.leak_kib_per_second));
    tokio::spawn(log_errors(name.clone(), settings.error_logs_per_minute));

    tokio::select! {
        drained = serve(listener, Arc::clone(&app), stop_signal) => {
            let how = if drained { "every request was finished" } else { "requests were cut off" };
            log(&format!("{name}: stopped; {how}"));
            Ok(ExitCode::SUCCESS)
        }
        code = exit_by_itself(settings.exit) => {
            log(&format!("{name}: ending with exit code {code}, as EXIT_CODE and EXIT_AFTER_MS ask"));
            Ok(ExitCode::from(code))
        }
    }
}

/// Ends when the process is asked to stop.
fn stop_signal(ignore_sigterm: bool) -> Result<impl Future<Output = ()>, String> {
    let listen_for = |kind| signal(kind).map_err(|error| format!("cannot take signals: {error}"));
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => if !ignore_sigterm { return },
            }
        }
    })
}

async fn exit_by_itself(exit: Option<Exit>) -> u8 {
    match exit {
        Some(exit) => {
            sleep(exit.after).await;
            exit.code
        }
        None => std::future::pending().await,
    }
}

/// Serves until `stop`, then finishes what is in flight; whether all of it was finished.
async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) -> bool {
    let connections = TaskTracker::new();
    let draining = CancellationToken::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let take = |stream: TcpStream, slot: Option<OwnedSemaphorePermit>| {
        let task = serve_connection(stream, Arc::clone(&app), draining.clone());
        connections.spawn(async move {
            task.await;
            drop(slot);
        });
    };

    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some((stream, slot)) = accept(&listener, &slots) => take(stream, Some(slot)),
        }
    }
    for stream in already_queued(listener) {
        take(stream, None);
    }
    draining.cancel();
    connections.close();
    timeout(DRAIN_LIMIT, connections.wait()).await.is_ok()
}

/// The next connection with its slot; `None` when the system had none to give, after a breath.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(_) => {
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Connections that the kernel has already made for us; closing the listener with them would reset them. The listener is
/// closed on return.
fn already_queued(listener: TcpListener) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let Ok(listener) = listener.into_std() else {
        return streams;
    };
    while streams.len() < MAX_CONNECTIONS
        && let Ok((stream, _)) = listener.accept()
    {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        streams.extend(stream);
    }
    streams
}

async fn serve_connection(stream: TcpStream, app: Arc<App>, draining: CancellationToken) {
    let used = CancellationToken::new();
    let service = service_fn(|request| {
        used.cancel();
        respond(Arc::clone(&app), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A broken connection is its client's affair: nothing is left to be said on it.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = draining.cancelled() => {}
    }
    // hyper would close a connection that it has not read from yet, with a request on its way.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = used.cancelled() => {}
        () = sleep(UNUSED_LIMIT) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(DRAIN_LIMIT, connection).await;
}

async fn respond(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if !read_through(body).await {
        let refused = Answer::refused(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
        return Ok(response(&app, refused));
    }
    let answer = app.answer(&Asked {
        path: head.uri.path(),
        ab_test_group: text(&head.headers, "ab-test-group"),
        user_id: text(&head.headers, "user-id"),
    });
    sleep(answer.delay).await;
    Ok(response(&app, answer))
}

/// Reads a body to its end without keeping it; `false` when it is too long or breaks.
async fn read_through(mut body: Incoming) -> bool {
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > MAX_REQUEST_BODY {
            return false;
        }
    }
    true
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn response(app: &App, answer: Answer) -> Response<Full<Bytes>> {
    let mut body = answer.body.to_string();
    body.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in [
        (VERSION_HEADER, &app.settings().version),
        (POD_HEADER, &app.settings().pod),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Takes memory and never gives it back, up to [`MAX_LEAK_KIB`].
async fn leak(kib_per_second: usize) {
    if kib_per_second == 0 {
        return;
    }
    let mut leaked: Vec<Vec<u8>> = Vec::new();
    let mut second = interval(Duration::from_secs(1));
    while leaked.len() * kib_per_second < MAX_LEAK_KIB {
        second.tick().await;
        // Not zero: pages of zeros would not be resident.
        leaked.push(vec![1; kib_per_second * 1024]);
    }
    std::future::pending().await
}

async fn log_errors(name: String, per_minute: u32) {
    if per_minute == 0 {
        return;
    }
    let started = Instant::now();
    let mut due = interval(Duration::from_secs(60) / per_minute);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        due.tick().await;
        let after = started.elapsed().as_secs();
        log(&format!(
            "ERROR {name}: a failure after {after} s, as ERROR_LOGS_PER_MIN asks"
        ));
    }
}

/// Writes a line to the log of the application. With nobody to read it there is nobody to tell either.
fn log(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn complain(problem: &str) {
    let _ = writeln!(std::io::stderr().lock(), "serin demo-app: {problem}");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::waiting::soon;

    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        drained: JoinHandle<bool>,
    }

    async fn start(variables: &[(&str, &str)]) -> Running {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let app = Arc::new(App::new(Settings::read(lookup).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let drained = tokio::spawn(serve(listener, app, async {
            let _ = stopped.await;
        }));
        Running {
            address,
            stop,
            drained,
        }
    }

    async fn ask(stream: &mut TcpStream, head: &str) {
        let request = format!("{head}\r\nhost: demo\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        soon("the end of an answer", read).await.unwrap();
        text
    }

    #[tokio::test]
    async fn an_answer_says_who_gave_it_and_what_it_was_asked() {
        let running = start(&[
            ("VERSION", "v2"),
            ("POD_NAME", "web-1"),
            ("FEATURE_FLAG", "new"),
        ])
        .await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        ask(
            &mut stream,
            "POST /x?y=1 HTTP/1.1\r\nconnection: close\r\nuser-id: 7\r\ncontent-length: 0",
        )
        .await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("x-demo-version: v2\r\n"), "{answer}");
        assert!(answer.contains("x-demo-pod: web-1\r\n"), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "version": "v2", "pod": "web-1", "path": "/x",
                "env": {"VERSION": "v2", "FEATURE_FLAG": "new"},
                "headers": {"user-id": "7"},
            })
        );
        running.stop.send(()).unwrap();
        let drained = soon("the end of the server", running.drained).await;
        assert!(drained.unwrap());
    }

    #[tokio::test]
    async fn what_is_in_flight_or_on_its_way_is_finished() {
        let running = start(&[("LATENCY_MS", "50")]).await;
        let mut in_flight = TcpStream::connect(running.address).await.unwrap();
        ask(&mut in_flight, "GET / HTTP/1.1").await;
        let mut queued = TcpStream::connect(running.address).await.unwrap();
        ask(&mut queued, "GET / HTTP/1.1").await;
        running.stop.send(()).unwrap();
        for stream in [&mut in_flight, &mut queued] {
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        let drained = soon("the end of the server", running.drained).await;
        assert!(drained.unwrap());
        let refused = TcpStream::connect(running.address).await;
        assert!(refused.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn a_connection_that_never_asks_does_not_hold_up_the_end() {
        let running = start(&[]).await;
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        running.stop.send(()).unwrap();
        assert_eq!(rest(&mut silent).await, "");
        let drained = soon("the end of the server", running.drained).await;
        assert!(drained.unwrap());
    }

    #[tokio::test]
    async fn an_exit_by_itself_has_the_asked_code() {
        let exit = Exit {
            after: Duration::ZERO,
            code: 3,
        };
        let code = soon("the exit", exit_by_itself(Some(exit))).await;
        assert_eq!(code, 3);
    }
}
