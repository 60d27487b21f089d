//! The one place where writes are decided: checks expected versions, numbers the writes, makes them durable, then visible.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use super::disk::{Disk, Entry, Query};
use super::error::WriteError;
use super::fail;
use super::record::{Change, ChangeKind, Expect, Key, Op, Record, Write};
use super::state::Shared;

type Outcome = Result<Arc<Record>, WriteError>;

/// Carries out batches of writes, one batch at a time.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// `None` keeps nothing on disk.
    disk: Option<Disk>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, disk: Option<Disk>) -> Self {
        Self { shared, disk }
    }

    /// Does all writes of the batch that may be done, in one transaction; one answer for each, in order. A failing disk
    /// fails them all and leaves the state as it was.
    pub(super) fn commit(&mut self, batch: Vec<Write>) -> Vec<Outcome> {
        let mut pending = Pending {
            shared: &self.shared,
            rv: self.shared.version(),
            latest: HashMap::new(),
            changes: Vec::new(),
        };
        let mut outcomes: Vec<Outcome> = batch.into_iter().map(|w| pending.take(w)).collect();
        let changes = pending.changes;
        if changes.is_empty() {
            return outcomes;
        }
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.persist(&changes)
        {
            tracing::error!(%error, writes = changes.len(), "the state file cannot be written");
            let error = WriteError::from(error);
            for outcome in outcomes.iter_mut().filter(|o| o.is_ok()) {
                *outcome = Err(error.clone());
            }
            return outcomes;
        }
        self.shared.publish(changes);
        fail::point("before the answer");
        outcomes
    }
}

impl Committer {
    /// Who has written what; nothing where nothing is kept on disk.
    pub(super) fn history(&self, query: &Query) -> Result<Vec<Entry>, WriteError> {
        match &self.disk {
            Some(disk) => disk.history(query).map_err(WriteError::from),
            None => Ok(Vec::new()),
        }
    }

    /// A copy of all that is committed.
    pub(super) fn copy(&self) -> Result<File, WriteError> {
        match &self.disk {
            Some(disk) => disk.copy(),
            None => Err(WriteError::Failed(
                "the objects of this server are in no file".into(),
            )),
        }
    }
}

#[cfg(test)]
impl Committer {
    pub(super) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }
}

/// The state as it will be after the writes of a batch so far.
struct Pending<'a> {
    shared: &'a Shared,
    rv: u64,
    latest: HashMap<Key, Option<Arc<Record>>>,
    changes: Vec<Arc<Change>>,
}

impl Pending<'_> {
    fn take(&mut self, write: Write) -> Outcome {
        let current = match self.latest.get(&write.key) {
            Some(latest) => latest.clone(),
            None => self.shared.get(&write.key),
        };
        match (write.expect, &current) {
            (Expect::Absent, Some(_)) => return Err(WriteError::Exists),
            (Expect::Version(_), None) => return Err(WriteError::Missing),
            (Expect::Version(rv), Some(now)) if now.rv != rv => return Err(WriteError::Conflict),
            _ => {}
        }
        self.rv += 1;
        let (draft, kind) = match (write.op, &current) {
            (Op::Remove(draft), _) => (draft, ChangeKind::Deleted),
            (Op::Put(draft), None) => (draft, ChangeKind::Added),
            (Op::Put(draft), Some(_)) => (draft, ChangeKind::Modified),
        };
        let record = Arc::new(draft.seal(write.key, self.rv));
        let left = (kind != ChangeKind::Deleted).then(|| Arc::clone(&record));
        self.latest.insert(record.key.clone(), left);
        self.changes.push(Arc::new(Change {
            kind,
            record: Arc::clone(&record),
            previous: current,
            by: write.by,
        }));
        Ok(record)
    }
}
