//! `serin analyze --record`: writes down what the gateway counts of a route, span by span, in the form that `serin analyze` reads.
//!
//! Absent on purpose: any judgement. What is recorded is what the judge of a release gets: differences of the gateway's totals.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use serin_api::traffic::{Counts, LATENCY_BOUNDS_SECONDS, Stats};
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::RecordArgs;
use crate::context::Context;
use crate::error::{CliError, Exit};

/// How long the gateway may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// A longer answer of the gateway is refused, in bytes.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Spans that may pass without an answer of the gateway, as while it is started again.
const MOST_FAILURES: u32 = 30;
/// The longest recording.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Records until the time is over, or Ctrl-C.
pub(super) async fn run(context: &Context, args: &RecordArgs) -> Result<(), CliError> {
    let Some(route) = &args.record else {
        return Ok(());
    };
    let (every, lasts) = (args.every, args.lasts);
    if every < Duration::from_secs(1) || lasts < every || lasts > LONGEST {
        let why = "--every must be at least 1s, and --for between it and 168h";
        return Err(CliError::new(Exit::Usage, why));
    }
    let namespace = context.namespace.as_deref().unwrap_or("default");
    let socket = serin_gateway::info::admin_socket(context.home.root());
    let first = totals(&socket).await.map_err(|why| {
        let hint = "is this the state directory (--home) of a `serin up` that runs?";
        CliError::failed(format!("cannot ask the gateway: {why}")).hint(hint)
    })?;
    let mut recorder = Recorder::new(series_name(route, namespace), &first);
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = tokio::time::sleep(lasts + every / 2);
    tokio::pin!(end);
    let mut failures = 0;
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = ticks.tick() => {}
        }
        match totals(&socket).await {
            Ok(stats) => {
                failures = 0;
                for line in recorder.span(&stats, Timestamp::now()) {
                    context.printer.result(line)?;
                }
            }
            Err(why) if failures >= MOST_FAILURES => {
                let why = format!("the gateway does not answer any more: {why}");
                return Err(CliError::failed(why));
            }
            Err(_) => failures += 1,
        }
    }
    if recorder.spans == 0 {
        let why = format!("no request came over {}", recorder.route);
        return Err(CliError::failed(why)
            .hint("name the route as `httproute/NAME` or `ingress/NAME`, with -n NAMESPACE"));
    }
    Ok(())
}

/// `httproute/web` and `web` are `httproute/NAMESPACE/web` in the series of the gateway.
fn series_name(route: &str, namespace: &str) -> String {
    match route.split_once('/') {
        Some((kind, name)) => format!("{kind}/{namespace}/{name}"),
        None => format!("httproute/{namespace}/{route}"),
    }
}

/// What was counted so far, to tell what comes on top.
struct Recorder {
    route: String,
    /// By revision.
    totals: BTreeMap<String, Counts>,
    /// The revisions in the order of their lines: who had requests first comes first, so that the last is on trial.
    order: Vec<String>,
    /// Spans with a request.
    spans: usize,
}

impl Recorder {
    fn new(route: String, first: &Stats) -> Self {
        let mut recorder = Self {
            totals: BTreeMap::new(),
            order: Vec::new(),
            spans: 0,
            route,
        };
        recorder.totals = recorder.by_revision(first);
        // Of those that are there at the beginning nobody says who came first; more requests say that it is older.
        recorder.order = recorder.totals.keys().cloned().collect();
        let totals = &recorder.totals;
        let requests = |revision: &String| totals.get(revision).map_or(0, Counts::requests);
        recorder
            .order
            .sort_by_key(|revision| std::cmp::Reverse(requests(revision)));
        recorder
    }

    fn by_revision(&self, stats: &Stats) -> BTreeMap<String, Counts> {
        let mut sums: BTreeMap<String, Counts> = BTreeMap::new();
        let own = stats.series.iter().filter(|s| s.key.route == self.route);
        for series in own.filter(|s| !s.key.revision.is_empty()) {
            let sum = sums.entry(series.key.revision.clone()).or_default();
            sum.add(&series.counts);
        }
        sums
    }

    /// The lines of a span that ends now; none of the one in which the gateway was started again, as its counts began anew.
    fn span(&mut self, stats: &Stats, now: Timestamp) -> Vec<String> {
        let totals = self.by_revision(stats);
        let before = std::mem::replace(&mut self.totals, totals);
        let mut lines = Vec::new();
        for revision in self.totals.keys() {
            if !self.order.contains(revision) {
                self.order.push(revision.clone());
            }
        }
        let began_anew = before.iter().any(|(revision, before)| {
            let now = self.totals.get(revision);
            now.is_none_or(|now| now.since(before).is_none())
        });
        if began_anew {
            return lines;
        }
        for revision in &self.order {
            let none = Counts::default();
            let before = before.get(revision).unwrap_or(&none);
            let span = self.totals.get(revision).and_then(|now| now.since(before));
            let span = span.filter(|span| span.requests() > 0);
            lines.extend(span.map(|span| line(revision, &span, now)));
        }
        self.spans += usize::from(!lines.is_empty());
        lines
    }
}

fn line(revision: &str, span: &Counts, at: Timestamp) -> String {
    let bounds = LATENCY_BOUNDS_SECONDS.iter().map(ToString::to_string);
    let bounds = bounds.chain(["+Inf".to_owned()]);
    let buckets = bounds.zip(&span.latency).filter(|(_, count)| **count > 0);
    let latency: Map<String, Value> = buckets.map(|(bound, n)| (bound, json!(n))).collect();
    let row = json!({
        "at": format!("{at:.3}"), "revision": revision, "requests": span.requests(), "errors": span.errors(),
        "latency": latency,
    });
    row.to_string()
}

/// What the gateway has counted since it started.
async fn totals(socket: &Path) -> Result<Stats, String> {
    let asking = async {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|error| format!("{}: {error}", socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get("/totals")
            .header(hyper::header::HOST, "gateway")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        connection.abort();
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    };
    let answered = timeout(DEADLINE, asking).await;
    answered.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())))
}

#[cfg(test)]
mod tests;
