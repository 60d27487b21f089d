//! Connections that change their protocol (WebSocket): after the 101 the bytes go through as they are.

use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::{AnswerBody, Ticket};
use super::head;
use crate::instances::InFlight;
use crate::series::Outcome;

/// Answers 101 and joins both sides. The request stays in flight until one of them ends.
pub(super) fn join(
    client: OnUpgrade,
    mut answer: Response<Incoming>,
    mut ticket: Ticket,
    answered: Outcome,
    in_flight: InFlight,
) -> Response<AnswerBody> {
    ticket.finish(answered);
    let protocol = answer.headers().get(header::UPGRADE).cloned();
    let upstream = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let _in_flight = in_flight;
        let Ok((client, upstream)) = tokio::try_join!(client, upstream) else {
            return;
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    });
    let (mut parts, _) = answer.into_parts();
    head::strip_hop(&mut parts.headers);
    let upgrade = HeaderValue::from_static("upgrade");
    parts.headers.insert(header::CONNECTION, upgrade);
    if let Some(protocol) = protocol {
        parts.headers.insert(header::UPGRADE, protocol);
    }
    Response::from_parts(parts, AnswerBody::Own(Full::default()))
}
