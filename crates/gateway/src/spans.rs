//! Spans: what the gateway tells a collector of OpenTelemetry (OTLP over HTTP, as JSON) of requests whose trace is recorded.
//!
//! Workers never wait for it. The queue is bounded; what does not fit, and what the collector does not take, is dropped and counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::OtlpConfig;
use crate::observers::Ended;

mod collector;
mod otlp;

use collector::{Collector, Refused};
use otlp::{Rejected, Resource};

/// Spans that may wait to be sent.
const QUEUE: usize = 8 * 1024;
/// The most that go in one request.
const BATCH: usize = 512;
/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(500);
/// How often one batch is sent while the collector asks for patience or cannot be reached.
const TRIES: u32 = 5;
/// The pause before the second try; each one after it is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever a collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What is left at the end of the process has so long to be sent.
const LAST: Duration = Duration::from_secs(2);

/// Where workers leave what they have to tell.
#[derive(Debug)]
pub(crate) struct Spans {
    queue: mpsc::Sender<Arc<Ended>>,
    counts: Arc<Counts>,
}

/// What has become of spans.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Counts {
    fn count_dropped(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

impl Spans {
    /// Spans for the collector of the settings, whose files are below `home`, and what sends them.
    ///
    /// # Errors
    /// A sentence with the field that is wrong.
    pub(crate) fn new(config: &OtlpConfig, home: &Path) -> Result<(Self, Exporter), String> {
        let (queue, spans) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let exporter = Exporter {
            spans,
            collector: Collector::new(config, home)?,
            resource: Resource::new(config.service_name.clone()),
            counts: Arc::clone(&counts),
            batch: Vec::new(),
            complaint: String::new(),
        };
        Ok((Self { queue, counts }, exporter))
    }

    /// Hands a request with a span to the exporter.
    pub(crate) fn tell(&self, ended: Arc<Ended>) {
        if self.queue.try_send(ended).is_err() {
            self.counts.count_dropped(1);
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Sends spans to the collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: mpsc::Receiver<Arc<Ended>>,
    collector: Collector,
    resource: Resource,
    counts: Arc<Counts>,
    /// What is to be sent next. It stays here while it is sent, so that nothing is lost when that is given up.
    batch: Vec<Arc<Ended>>,
    /// What was last said to be wrong.
    complaint: String,
}

/// An exporter at work.
#[derive(Debug)]
pub(crate) struct Exporting {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what is left, for a bounded time.
    pub(crate) async fn finish(self) {
        let _ = self.end.send(());
        let _ = timeout(LAST, self.task).await;
    }
}

impl Exporter {
    /// Begins to send, on the runtime of the caller.
    pub(crate) fn start(mut self) -> Exporting {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = self.follow() => {}
                _ = ended => self.send_rest().await,
            }
        });
        Exporting { end, task }
    }

    /// Until nobody is left who could tell anything.
    async fn follow(&mut self) {
        while self.spans.recv_many(&mut self.batch, BATCH).await > 0 {
            if self.batch.len() < BATCH {
                sleep(GATHER).await;
                self.fill();
            }
            let sent = self.send_patiently().await;
            self.note(sent);
        }
    }

    /// Once for each batch: nobody waits for a collector any more.
    async fn send_rest(&mut self) {
        self.fill();
        while !self.batch.is_empty() {
            let sent = self.collector.send(self.body()).await;
            self.note(sent);
            self.fill();
        }
    }

    /// Fills up the batch with what waits.
    fn fill(&mut self) {
        while self.batch.len() < BATCH
            && let Ok(ended) = self.spans.try_recv()
        {
            self.batch.push(ended);
        }
    }

    fn body(&self) -> Bytes {
        otlp::request(&self.resource, &self.batch).into()
    }

    /// Sends the batch, again where that may help.
    async fn send_patiently(&mut self) -> Result<Rejected, Refused> {
        let body = self.body();
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.collector.send(body.clone()).await {
                Err(refused) if refused.is_passing => {
                    self.complain(&refused.why);
                    sleep(refused.after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    pause *= 2;
                }
                sent => return sent,
            }
        }
        self.collector.send(body).await
    }

    /// Counts what has become of the batch.
    fn note(&mut self, sent: Result<Rejected, Refused>) {
        let all = self.batch.len();
        self.batch.clear();
        let dropped = match sent {
            Ok(rejected) if rejected.spans == 0 => {
                self.complaint.clear();
                0
            }
            Ok(rejected) => {
                self.complain(&rejected.why);
                usize::try_from(rejected.spans).map_or(all, |spans| spans.min(all))
            }
            Err(refused) => {
                self.complain(&refused.why);
                all
            }
        };
        let exported = (all - dropped) as u64;
        self.counts.exported.fetch_add(exported, Ordering::Relaxed);
        self.counts.count_dropped(dropped);
    }

    /// Once for each thing that is wrong.
    fn complain(&mut self, why: &str) {
        if self.complaint != why {
            tracing::warn!(error = %why, "the collector does not take spans; they are dropped when it is not back in time");
            why.clone_into(&mut self.complaint);
        }
    }
}

#[cfg(test)]
mod tests;
