//! The state in memory: objects, two indexes for the collector, and the recent changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;

use super::disk::Loaded;
use super::error::{DamagedRow, Expired};
use super::record::{Change, ChangeKind, Key, Record, kind_of};

/// The most changes that watches can go back.
pub(super) const RING_CHANGES: usize = 8192;
/// The most bytes of JSON that the recent changes hold in memory.
const RING_BYTES: usize = 16 << 20;

/// Stands for all kinds together.
const ANY: &str = "";

/// The state, shared by the writer and all readers.
pub(crate) struct Shared {
    state: RwLock<State>,
    /// The version of the last change of each kind that somebody watches, and of [`ANY`]: a change is to wake only those whom it
    /// concerns.
    versions: Mutex<HashMap<Box<str>, watch::Sender<u64>>>,
    damaged: Vec<DamagedRow>,
}

#[derive(Default)]
struct State {
    rv: u64,
    objects: BTreeMap<Key, Arc<Record>>,
    by_uid: HashMap<Box<str>, Key>,
    dependents: HashMap<Box<str>, BTreeSet<Key>>,
    ring: Ring,
}

/// Records of one list, in the order of their keys.
pub(crate) struct Page {
    /// The version of the whole state at that moment.
    pub(crate) rv: u64,
    pub(crate) records: Vec<Arc<Record>>,
}

impl Shared {
    pub(super) fn empty() -> Self {
        Self::load(Loaded::default())
    }

    pub(super) fn load(loaded: Loaded) -> Self {
        let mut state = State {
            rv: loaded.rv,
            ..State::default()
        };
        state.ring.begin(loaded.rv);
        for record in loaded.records {
            state.insert(Arc::new(record));
        }
        state.ring.restore(loaded.log);
        Self {
            versions: Mutex::default(),
            state: RwLock::new(state),
            damaged: loaded.damaged,
        }
    }

    /// The rows of the state file that could not be read when it was opened.
    pub(crate) fn damaged(&self) -> &[DamagedRow] {
        &self.damaged
    }

    /// The resource version of the last write.
    pub(crate) fn version(&self) -> u64 {
        self.read(|s| s.rv)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.read(|s| s.objects.get(key).cloned())
    }

    /// Where the object with this uid is.
    pub(crate) fn find_uid(&self, uid: &str) -> Option<Key> {
        self.read(|s| s.by_uid.get(uid).cloned())
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Arc<Record>> {
        self.read(|s| {
            let keys = s.dependents.get(uid).into_iter().flatten();
            keys.filter_map(|k| s.objects.get(k).cloned()).collect()
        })
    }

    /// All objects whose key starts with `prefix` (an empty one: all there are) and comes after `after`.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>) -> Page {
        self.read(|s| {
            let start = match after {
                Some(after) => Bound::Excluded(after),
                None => Bound::Included(prefix),
            };
            let records = s
                .objects
                .range::<str, _>((start, Bound::Unbounded))
                .take_while(|(key, _)| key.as_str().starts_with(prefix))
                .map(|(_, record)| Arc::clone(record));
            Page {
                rv: s.rv,
                records: records.collect(),
            }
        })
    }

    /// As [`Shared::list`] from the start, of the state at version `rv`: the present one, with every change since then taken
    /// back.
    pub(crate) fn list_at(&self, prefix: &str, rv: u64) -> Result<Page, Expired> {
        self.read(|s| {
            let expired = Expired {
                wanted: rv,
                oldest: s.ring.floor,
            };
            if rv < s.ring.floor || rv > s.rv {
                return Err(expired);
            }
            let present = s
                .objects
                .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            let present = present.take_while(|(key, _)| key.as_str().starts_with(prefix));
            let mut objects: BTreeMap<&Key, &Arc<Record>> = present.collect();
            let since: Vec<_> = s.ring.after(rv).collect();
            for change in since.into_iter().rev() {
                let key = &change.record.key;
                if !key.as_str().starts_with(prefix) {
                    continue;
                }
                match (change.kind, &change.previous) {
                    (ChangeKind::Added, _) => drop(objects.remove(key)),
                    (_, Some(before)) => drop(objects.insert(key, before)),
                    // It was read back from the state file, and what was there before is not known.
                    (_, None) => return Err(expired),
                }
            }
            Ok(Page {
                rv,
                records: objects.into_values().cloned().collect(),
            })
        })
    }

    /// The changes after version `rv` to keys with `prefix`, and the version up to which that is all of them.
    pub(crate) fn changes(
        &self,
        rv: u64,
        prefix: &str,
    ) -> Result<(Vec<Arc<Change>>, u64), Expired> {
        self.read(|s| {
            let oldest = s.ring.floor_of(prefix);
            // A version from the future is of another state file: the caller must list again.
            if rv < oldest || rv > s.rv {
                return Err(Expired { wanted: rv, oldest });
            }
            let found = s
                .ring
                .after(rv)
                .filter(|c| c.record.key.as_str().starts_with(prefix));
            Ok((found.cloned().collect(), s.rv))
        })
    }

    /// Told the version after every change to keys with `prefix`, and sometimes after another one.
    pub(super) fn subscribe(&self, prefix: &str) -> watch::Receiver<u64> {
        let kind = kind_of(prefix).unwrap_or(ANY);
        let mut versions = self.versions();
        let version = versions.entry(kind.into());
        let version = version.or_insert_with(|| watch::Sender::new(self.version()));
        version.subscribe()
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Sender<u64>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes committed changes visible, all at once, and wakes the watches.
    pub(super) fn publish(&self, changes: Vec<Arc<Change>>) {
        let keys: Vec<Key> = changes.iter().map(|c| c.record.key.clone()).collect();
        let rv = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                state.apply(change);
            }
            state.rv
        };
        let versions = self.versions();
        for kind in keys.iter().map(Key::kind).chain([ANY]) {
            if let Some(version) = versions.get(kind) {
                version.send_replace(rv);
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn apply(&mut self, change: Arc<Change>) {
        self.rv = change.record.rv;
        self.remove(&change.record.key);
        if change.kind != ChangeKind::Deleted {
            self.insert(Arc::clone(&change.record));
        }
        self.ring.push(change);
    }

    fn insert(&mut self, record: Arc<Record>) {
        self.by_uid
            .insert(record.facts.uid.clone(), record.key.clone());
        for owner in &record.facts.owners {
            let keys = self.dependents.entry(owner.clone()).or_default();
            keys.insert(record.key.clone());
        }
        self.objects.insert(record.key.clone(), record);
    }

    fn remove(&mut self, key: &Key) {
        let Some(record) = self.objects.remove(key) else {
            return;
        };
        self.by_uid.remove(&record.facts.uid);
        for owner in &record.facts.owners {
            if let Some(keys) = self.dependents.get_mut(owner) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

/// The recent changes, without a gap.
#[derive(Default)]
struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this version is here.
    floor: u64,
    /// Every change of any kind after this version is here or in `dropped`.
    start: u64,
    /// The last change of each kind that is here no longer: a kind that seldom changes is known from further back.
    dropped: HashMap<Box<str>, u64>,
}

impl Ring {
    /// Holds every change after this version from now on.
    fn begin(&mut self, version: u64) {
        self.floor = version;
        self.start = version;
    }

    fn push(&mut self, change: Arc<Change>) {
        self.bytes += change.record.json.len();
        self.changes.push_back(change);
        while self.changes.len() > RING_CHANGES || self.bytes > RING_BYTES {
            let Some(oldest) = self.changes.pop_front() else {
                return;
            };
            self.bytes -= oldest.record.json.len();
            self.floor = oldest.record.rv;
            match self.dropped.get_mut(oldest.record.key.kind()) {
                Some(last) => *last = self.floor,
                None => {
                    let kind = oldest.record.key.kind().into();
                    self.dropped.insert(kind, self.floor);
                }
            }
        }
    }

    /// Every change after this version to keys with `prefix` is here.
    fn floor_of(&self, prefix: &str) -> u64 {
        match kind_of(prefix) {
            Some(kind) => self.dropped.get(kind).copied().unwrap_or(self.start),
            None => self.floor,
        }
    }

    /// Fills an empty ring with the log of the state file, as far back as it has no gap.
    fn restore(&mut self, log: Vec<Change>) {
        let Some(last) = log
            .last()
            .map(|c| c.record.rv)
            .filter(|rv| *rv == self.floor)
        else {
            return;
        };
        let whole = log
            .iter()
            .rev()
            .zip(0..)
            .take_while(|(c, back)| c.record.rv + back == last)
            .count();
        let skipped = log.len() - whole;
        let mut known: HashMap<Key, Arc<Record>> = HashMap::new();
        self.begin(last - whole as u64);
        for change in log.into_iter().skip(skipped) {
            let record = Arc::clone(&change.record);
            let previous = known.insert(record.key.clone(), Arc::clone(&record));
            let previous = previous.filter(|_| change.kind != ChangeKind::Added);
            self.push(Arc::new(Change { previous, ..change }));
        }
    }

    fn after(&self, rv: u64) -> impl Iterator<Item = &Arc<Change>> {
        let start = self.changes.partition_point(|c| c.record.rv <= rv);
        self.changes.range(start..)
    }
}
