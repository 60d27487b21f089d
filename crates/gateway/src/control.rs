//! The control loop: objects in; tables, acknowledgements and snapshots out. One thread, beside the workers and that of the watches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::acks;
use crate::admin::Pages;
use crate::handover::Predecessor;
use crate::health;
use crate::live::{Lasting, LiveTable};
use crate::lower::{LowerOptions, lower};
use crate::proxy::Shared;
use crate::replicas::{Progress, Replica};
use crate::table::RouteTable;
use crate::tls::{self, Backends, CertificateTable, Files};
use crate::watch::{Input, Receiver, World};

mod pace;
mod writer;

use pace::Pace;
use writer::Writer;

/// How often it is looked whether files of certificates have changed.
const FILES_EVERY_SECONDS: u64 = 5;

/// How long a drain takes at most, if nothing else is set.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// What the control loop works on.
pub(crate) struct Control {
    shared: Arc<Shared>,
    pages: Arc<Pages>,
    options: LowerOptions,
    lasting: Lasting,
    checks: watch::Sender<Vec<health::Target>>,
    drained: Arc<Notify>,
    world: World,
    table: Arc<RouteTable>,
    saved: watch::Sender<Arc<RouteTable>>,
    /// From Secrets.
    certificates: CertificateTable,
    saved_certificates: watch::Sender<Arc<CertificateTable>>,
    files: Files,
    writer: Writer,
    /// Whether another gateway of this home still finishes its requests.
    predecessor: Option<Predecessor>,
    is_leaving: bool,
    /// Which of several gateways this is; `None` when it is the only one.
    replica: Option<Replica>,
    progress: Progress,
    drain_limit: Duration,
    /// What is wrong with objects, as sentences.
    wrong: Vec<String>,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, pages: Arc<Pages>, options: LowerOptions) -> Self {
        let drained = Arc::new(Notify::new());
        let lasting = Lasting {
            instances: crate::instances::Instances::new(Arc::clone(&drained)),
            turns: Default::default(),
            limits: Default::default(),
            registry: Arc::clone(&pages.registry),
        };
        Self {
            shared,
            pages,
            options,
            lasting,
            checks: watch::Sender::default(),
            drained,
            world: World::default(),
            table: Arc::default(),
            saved: watch::Sender::new(Arc::default()),
            certificates: CertificateTable::default(),
            saved_certificates: watch::Sender::default(),
            files: Files::default(),
            writer: Writer::default(),
            predecessor: None,
            is_leaving: false,
            replica: None,
            progress: Progress::default(),
            drain_limit: DRAIN_LIMIT,
            wrong: Vec::new(),
        }
    }

    /// Serves a table. Instances that it has are opened before the swap, those that it has not are closed after it, so no
    /// request is refused by both tables.
    pub(crate) fn swap(&mut self, table: RouteTable) {
        let table = Arc::new(table);
        let generation = self.shared.table.load().generation + 1;
        let live = LiveTable::build(Arc::clone(&table), generation, &mut self.lasting);
        self.lasting.instances.open(&table);
        let targets = health::targets(&table, &mut self.lasting.instances);
        self.check(targets);
        self.shared.table.store(Arc::new(live));
        self.shared.swapped.send_replace(generation);
        self.lasting.instances.close_others(&table);
        self.table = table;
    }

    fn check(&self, targets: Vec<health::Target>) {
        self.checks.send_if_modified(|known| {
            let is_new = *known != targets;
            *known = targets;
            is_new
        });
    }

    /// The instances that are to be asked whether they are well.
    pub(crate) fn to_check(&self) -> watch::Receiver<Vec<health::Target>> {
        self.checks.subscribe()
    }

    /// The tables that are to be kept on disk.
    pub(crate) fn to_save(&self) -> watch::Receiver<Arc<RouteTable>> {
        self.saved.subscribe()
    }

    /// Files for TLS to instances are below `home`. To be called before a table is there.
    pub(crate) fn set_home(&mut self, home: PathBuf) {
        self.lasting.instances.backends = Backends::new(home);
    }

    /// The certificates of Secrets that are to be kept on disk.
    pub(crate) fn certificates_to_save(&self) -> watch::Receiver<Arc<CertificateTable>> {
        self.saved_certificates.subscribe()
    }

    /// Certificates of files, which go before those of Secrets.
    pub(crate) fn set_files(&mut self, files: Files) {
        self.files = files;
        self.show_certificates();
    }

    /// Certificates of Secrets.
    pub(crate) fn set_certificates(&mut self, certificates: CertificateTable) {
        self.certificates = certificates;
        self.show_certificates();
    }

    fn show_certificates(&self) {
        for problem in &self.files.problems {
            tracing::warn!("{problem}");
        }
        let tables = [&self.files.table, &self.certificates];
        self.shared.tls.certificates.set(tables);
    }

    /// Long-lived connections to an instance that is to go are closed after so long.
    pub(crate) fn set_drain_limit(&mut self, limit: Duration) {
        self.drain_limit = limit;
    }

    /// Closes the long-lived connections of instances that have been closed for longer than the limit.
    pub(crate) fn end_drains(&mut self, now: Instant) {
        let limit = self.drain_limit;
        self.lasting.instances.cut_after(limit, now.into_std());
    }

    /// Until that one has ended no pod is called drained.
    pub(crate) fn set_predecessor(&mut self, predecessor: Option<Predecessor>) {
        self.predecessor = predecessor;
    }

    /// From now on it speaks for all gateways behind a Service, and they for it.
    pub(crate) fn set_replica(&mut self, replica: Replica) {
        self.replica = Some(replica);
    }

    /// From now on nothing is said to the control plane but how far this one is, which others wait for.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// The table in use.
    pub(crate) fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The requests in flight to an instance.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, instance: &str) -> usize {
        self.lasting.instances.in_flight(instance)
    }

    /// Runs until `stop` ends.
    pub(crate) async fn run(&mut self, batches: &mut Receiver, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let start = Instant::from_std(self.shared.started);
        let mut ticks = tokio::time::interval_at(start, Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pace = Pace::default();
        let mut rested_at = None;
        loop {
            let retry_at = self.writer.retry_at();
            tokio::select! {
                () = &mut stop => return,
                batch = batches.next(), if rested_at.is_none() => {
                    let Some(batch) = batch else {
                        return;
                    };
                    if self.take_in(batch) {
                        rested_at = Some(pace.rest(Instant::now()));
                    }
                }
                () = sleep_until(rested_at), if rested_at.is_some() => rested_at = None,
                () = self.drained.notified() => self.acknowledge(),
                () = self.writer.next() => self.acknowledge(),
                () = sleep_until(retry_at) => self.acknowledge(),
                at = ticks.tick() => self.tick(at.duration_since(start).as_secs()),
            }
        }
    }

    /// Takes in what has come; whether it was news of which a table was to be made.
    fn take_in(&mut self, batch: Vec<Input>) -> bool {
        let (mut is_news, mut is_word) = (false, false);
        for input in batch {
            if let Input::Connected(client) = &input {
                self.writer.set_client(client.clone());
            }
            let of_another = input.is_of_another_gateway();
            let changed = self.world.handle(input);
            is_news |= changed && !of_another;
            is_word |= of_another;
        }
        if is_news {
            tell(&self.pages.forbidden, self.world.forbidden());
            self.refresh();
        } else if is_word {
            self.acknowledge();
        }
        is_news && self.world.is_settled()
    }

    /// Makes the table that the objects ask for and serves it, when it is another one.
    fn refresh(&mut self) {
        if !self.world.is_settled() {
            return;
        }
        let lowered = lower(&self.world.objects, &self.table, &self.options);
        let (certificates, wrong) =
            tls::lower(&self.world.objects, &self.certificates, &self.options);
        let wrong = lowered.problems.iter().chain(&wrong);
        let wrong = wrong.map(ToString::to_string);
        self.wrong = wrong.chain(self.world.not_understood()).collect();
        if certificates != self.certificates {
            self.set_certificates(certificates.clone());
            self.saved_certificates.send_replace(Arc::new(certificates));
        }
        // The first reading is told even when it changes nothing: somebody may wait for it.
        let is_first = !self.shared.is_live.load(Ordering::SeqCst);
        if is_first || lowered.table != *self.table {
            self.swap(lowered.table);
            self.saved.send_replace(Arc::clone(&self.table));
        }
        self.tell_problems();
        self.shared.is_live.store(true, Ordering::SeqCst);
        self.acknowledge();
    }

    /// Shows what is wrong with objects and with files.
    fn tell_problems(&self) {
        let backends = self.lasting.instances.backends.problems();
        let all = self.wrong.iter().chain(&self.files.problems).cloned();
        tell(&self.pages.problems, all.chain(backends).collect());
    }

    /// Says what is to be said of the table in use. Unsettled objects are not spoken of: the table is not made of them.
    fn acknowledge(&mut self) {
        if !self.world.is_settled() {
            return;
        }
        if self.predecessor.as_ref().is_some_and(Predecessor::is_gone) {
            self.predecessor = None;
        }
        let (objects, instances) = (&self.world.objects, &self.lasting.instances);
        let in_flight = |uid: &str| instances.in_flight(uid);
        let now = jiff::Timestamp::now();
        let mut due = Vec::new();
        if !self.is_leaving {
            due = acks::due(&self.table, objects, &in_flight, now);
        }
        if self.predecessor.is_some() {
            // It may still have requests under way to a pod that this one knows nothing of.
            due.retain(|due| !matches!(due.target, acks::Target::Pod(_)));
        }
        if let Some(replica) = &self.replica {
            let waiting = replica.settle(&mut due, objects);
            self.pages.waiting.store(Arc::new(waiting));
            self.progress.advance(objects, &in_flight);
            // The first one, as others may wait for it.
            let own = replica.due(&self.progress, objects, now);
            due.splice(0..0, own);
        }
        self.writer.offer(due);
    }

    #[cfg(test)]
    pub(crate) fn problems(&self) -> Vec<String> {
        self.pages.problems.load().to_vec()
    }

    pub(crate) fn refresh_files(&mut self) {
        if self.files.refresh() {
            self.show_certificates();
        }
        self.lasting.instances.backends.refresh();
        self.tell_problems();
    }

    fn tick(&mut self, second: u64) {
        self.pages.registry.tick(second);
        self.end_drains(Instant::now());
        if second.is_multiple_of(FILES_EVERY_SECONDS) {
            self.refresh_files();
        }
        if self.predecessor.as_ref().is_some_and(Predecessor::is_gone) {
            self.acknowledge();
        }
        let in_flight = self.lasting.instances.in_flight_in_all();
        self.pages.in_flight.store(in_flight, Ordering::Relaxed);
    }
}

/// Shows problems, and logs those that are new.
fn tell(shown: &ArcSwap<Vec<String>>, problems: Vec<String>) {
    let known = shown.load();
    for problem in problems.iter().filter(|p| !known.contains(p)) {
        tracing::warn!("{problem}");
    }
    if **known != problems {
        shown.store(Arc::new(problems));
    }
}

/// Never ends without a time.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Saves the last table when the process ends, if the task that saves has not come to it.
pub(crate) fn save_last(home: &Path, table: &RouteTable) {
    if *table != RouteTable::default()
        && let Err(error) = crate::disk::save(&crate::disk::routes(home), table)
    {
        tracing::error!(%error, "the routes cannot be written to disk");
    }
}

#[cfg(test)]
mod tests;
