//! Connections that change their protocol: after the 101 the bytes go through as they are, until one side ends or the connection is
//! to go, because its instance has been drained to the limit or the gateway leaves. A WebSocket is then closed by a close of its
//! own, between two frames, so that clients know to come again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::answer::Answer;
use super::body::{AnswerBody, Ticket};
use super::head;
use super::websocket::{CLOSE_TO_CLIENT, CLOSE_TO_SERVER, Frames};
use super::{Living, Worker};
use crate::instances::InFlight;
use crate::series::{Outcome, Series};

/// Bytes that are on their way in one direction.
const BUFFER: usize = 16 * 1024;
/// How long both sides have to take the close in.
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers 101 and joins both sides. The request stays in flight until one of them ends.
pub(super) fn join(
    client: OnUpgrade,
    mut answer: Response<Incoming>,
    mut ticket: Ticket,
    answered: Outcome,
    in_flight: InFlight,
    worker: &Arc<Worker>,
) -> Answer {
    let passed = Passed {
        series: ticket.switch(answered),
        ..Passed::default()
    };
    let living = Living::new(Arc::clone(worker));
    let protocol = answer.headers().get(header::UPGRADE).cloned();
    let is_websocket = protocol
        .as_ref()
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upstream = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let Ok((client, upstream)) = tokio::try_join!(client, upstream) else {
            return;
        };
        let to_go = in_flight.to_go(living.0.shared.phase.subscribe());
        tunnel(client, upstream, is_websocket, to_go, &passed).await;
        passed.tell(&mut ticket);
        drop((ticket, in_flight, living));
    });
    let (mut parts, _) = answer.into_parts();
    head::strip_hop(&mut parts.headers);
    let upgrade = HeaderValue::from_static("upgrade");
    parts.headers.insert(header::CONNECTION, upgrade);
    if let Some(protocol) = protocol {
        parts.headers.insert(header::UPGRADE, protocol);
    }
    Box::new(Response::from_parts(
        parts,
        AnswerBody::Own(Full::default()),
    ))
}

/// How many bytes have passed. They are counted at once where the request counts, as a connection may last for days.
#[derive(Debug, Default)]
struct Passed {
    series: Option<Arc<Series>>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Passed {
    fn up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(series) = &self.series {
            series.add_bytes(bytes as u64, 0);
        }
    }

    fn down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(series) = &self.series {
            series.add_bytes(0, bytes as u64);
        }
    }

    fn tell(&self, ticket: &mut Ticket) {
        let [up, down] = [&self.up, &self.down].map(|count| count.load(Ordering::Relaxed));
        ticket.note_passed(up, down);
    }
}

/// Passes bytes both ways until both directions have ended, one breaks, or the connection is to go.
async fn tunnel(
    client: Upgraded,
    upstream: Upgraded,
    is_websocket: bool,
    to_go: impl Future<Output = ()> + Send,
    passed: &Passed,
) {
    let (mut from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let to_go = to_go.shared();
    let passing = async {
        let [to_client_close, to_server_close] = match is_websocket {
            true => [Some(&CLOSE_TO_CLIENT[..]), Some(&CLOSE_TO_SERVER[..])],
            false => [None, None],
        };
        let down = pass(
            &mut from_upstream,
            to_client,
            to_client_close,
            to_go.clone(),
            |bytes| passed.down(bytes),
        );
        let up = pass(
            &mut from_client,
            to_upstream,
            to_server_close,
            to_go.clone(),
            |bytes| passed.up(bytes),
        );
        tokio::try_join!(down, up)?;
        if to_go.peek().is_some() {
            // Read until the client closes too: a socket that is closed with something unread takes back what it has sent.
            tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
        }
        Ok::<_, io::Error>(())
    };
    let too_long = async {
        to_go.clone().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        _ = passing => {}
        () = too_long => {}
    }
}

/// One direction. When it is to go, a close is put behind the frame that is under way, where there is one to put.
async fn pass(
    from: &mut ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    close: Option<&[u8]>,
    mut to_go: Shared<impl Future<Output = ()>>,
    count: impl Fn(usize),
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = tokio::select! {
            biased;
            () = &mut to_go => break,
            read = from.read_buf(&mut buffer) => read?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        if close.is_some() {
            frames.pass(&buffer);
        }
        to.write_all(&buffer).await?;
        count(read);
    }
    while close.is_some() && !frames.is_between() {
        buffer.clear();
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let end = frames.pass_to_end(&buffer).unwrap_or(buffer.len());
        let whole = buffer.get(..end).unwrap_or_default();
        to.write_all(whole).await?;
        count(whole.len());
    }
    to.write_all(close.unwrap_or_default()).await?;
    to.shutdown().await
}
