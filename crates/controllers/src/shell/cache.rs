//! All objects of a kind in memory, watched once for all controllers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use tokio::sync::broadcast;
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::guarded::Guarded;
use super::index::{Index, Key};
use super::seen::Seen;
use super::{Kind, Triggers};

/// Changes that a controller may be behind; one that is further behind looks at everything.
const BEHIND: usize = 1024;
/// How long the API may take for a page of a list.
const PAGE: Duration = Duration::from_secs(30);
/// What the annotations begin with that mean something to us on objects of which the metadata alone is kept.
const OURS: &str = "serin.dev/";

/// All objects of a kind, as far as they are seen. Clones share everything.
#[derive(Clone)]
pub(crate) struct Cache<K: Kind> {
    store: Store<K>,
    /// Changed after the store: what it names may be gone, and is passed over.
    index: Arc<RwLock<Index>>,
    changes: broadcast::Sender<Change<K>>,
    seen: Arc<Seen>,
    /// Cancelled when everything was listed once, or the API does not have this kind. The store can be waited for too, but
    /// wakes only one of several who do.
    listed: CancellationToken,
}

#[derive(Clone)]
enum Change<K> {
    /// The object before and after it; `None` where it was not there.
    Of(Option<Arc<K>>, Option<Arc<K>>),
    /// The whole list was read again: anything may have changed.
    All,
}

/// Keeps a cache up to date.
pub(super) struct Feeder<K: Kind> {
    api: Api<Guarded<K>>,
    config: watcher::Config,
    writer: Mutex<reflector::store::Writer<K>>,
    cache: Cache<K>,
}

pub(super) fn new<K: Kind>(api: Api<Guarded<K>>, label: Option<&str>) -> (Cache<K>, Feeder<K>) {
    let (store, writer) = reflector::store();
    let (changes, _) = broadcast::channel(BEHIND);
    let cache = Cache {
        store,
        index: Arc::default(),
        changes,
        seen: Arc::default(),
        listed: CancellationToken::new(),
    };
    let feeder = Feeder {
        api,
        config: watcher::Config {
            label_selector: label.map(str::to_owned),
            ..watcher::Config::default()
        },
        writer: Mutex::new(writer),
        cache: cache.clone(),
    };
    (cache, feeder)
}

impl<K: Kind> Cache<K> {
    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// The objects of a namespace, by name.
    pub(crate) fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.select(namespace, |_| true)
    }

    /// Those of a namespace that are so, by name. It asks about each: for what a look needs each time there is an index.
    pub(crate) fn select(&self, namespace: &str, is_so: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let mut objects = self.store.state_filter(|object| {
            object.meta().namespace.as_deref() == Some(namespace) && is_so(object)
        });
        objects.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        objects
    }

    /// The objects that the owner of this uid controls, by name.
    pub(crate) fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        self.found(index.controlled_by(uid))
    }

    /// The objects that the owner of this uid controls, and those of a namespace that nobody controls.
    pub(crate) fn claimable(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        self.found(index.controlled_by(uid).chain(index.orphans(namespace)))
    }

    /// The names in a namespace that begin with `prefix`.
    pub(crate) fn names(&self, namespace: &str, prefix: &str) -> BTreeSet<String> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.names(namespace, prefix)
    }

    fn found<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Arc<K>> {
        keys.filter_map(|(namespace, name)| self.get(namespace, name))
            .collect()
    }

    /// All of them.
    pub(super) fn keys(&self) -> Vec<ObjectRef<K>> {
        let objects = self.store.state();
        objects
            .iter()
            .map(|object| ObjectRef::from_obj(&**object))
            .collect()
    }

    pub(super) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Cancelled when everything was listed once, or the API does not have the kind: then there is nothing to list until
    /// somebody installs it.
    pub(crate) fn listed(&self) -> CancellationToken {
        self.listed.clone()
    }

    /// The objects of `main` that a change of an object of this kind concerns. `concerned` is asked about the object before
    /// and after a change.
    pub(crate) fn triggers<M: Kind>(
        &self,
        main: &Cache<M>,
        concerned: impl Fn(&K) -> Vec<ObjectRef<M>> + Send + 'static,
    ) -> Triggers<M> {
        self.keys_of(main, move |before, after| {
            let versions = before.into_iter().chain(after);
            versions.flat_map(&concerned).collect()
        })
    }

    /// The objects of `main` that are concerned when what an object of this kind stood for has ended: the object went, or stands
    /// for something else. What it stands for is asked about each change and must be cheap; `concerned` is asked, with the
    /// namespace, about an end alone.
    pub(crate) fn ends<M: Kind, T: PartialEq>(
        &self,
        main: &Cache<M>,
        stands_for: impl Fn(&K) -> Option<T> + Send + 'static,
        concerned: impl Fn(&str, &T) -> Vec<ObjectRef<M>> + Send + 'static,
    ) -> Triggers<M> {
        self.keys_of(main, move |before, after| {
            let Some(before) = before else {
                return Vec::new();
            };
            let ended =
                stands_for(before).filter(|was| after.and_then(&stands_for).as_ref() != Some(was));
            let namespace = before.meta().namespace.as_deref().unwrap_or_default();
            ended.map_or_else(Vec::new, |ended| concerned(namespace, &ended))
        })
    }

    /// What `concerned` makes of each change; all keys of `main` when changes were missed.
    fn keys_of<M: Kind>(
        &self,
        main: &Cache<M>,
        concerned: impl Fn(Option<&K>, Option<&K>) -> Vec<ObjectRef<M>> + Send + 'static,
    ) -> Triggers<M> {
        let main = main.clone();
        let changes = self.changes.subscribe();
        let keys = futures::stream::unfold(changes, |mut changes| async move {
            let change = match changes.recv().await {
                Ok(change) => change,
                Err(broadcast::error::RecvError::Lagged(_)) => Change::All,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((change, changes))
        })
        .flat_map(move |change| {
            let keys = match &change {
                Change::Of(before, after) => concerned(before.as_deref(), after.as_deref()),
                Change::All => main.keys(),
            };
            futures::stream::iter(keys)
        });
        keys.boxed()
    }

    /// Notes a write for the sake of the object `for_uid`.
    pub(crate) fn wrote(&self, for_uid: &str, object: &K) {
        self.seen
            .wrote(for_uid, object.meta().resource_version.as_deref());
    }

    /// Whether all writes for the sake of this object have come back.
    pub(crate) fn is_current(&self, for_uid: &str) -> bool {
        self.seen.is_current(for_uid)
    }
}

impl<K: Kind> Feeder<K> {
    /// Watches until a list is not answered, for which the watcher would wait without end; then it is to be begun again.
    pub(super) async fn feed(&self) {
        let kind = K::plural(&());
        let events = watch(self.api.clone(), self.config.clone());
        let mut events = events.default_backoff().boxed();
        let mut listing_since = Instant::now();
        let mut is_listing = false;
        loop {
            let next = if is_listing {
                timeout(PAGE, events.next()).await
            } else {
                Ok(events.next().await)
            };
            let Ok(Some(event)) = next else {
                tracing::warn!(%kind, "a list is not answered");
                return;
            };
            is_listing = matches!(event, Ok(Event::Init | Event::InitApply(_)));
            match event {
                Ok(event) => self.take(event, &mut listing_since),
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                    if status.code == 404 =>
                {
                    if !self.cache.listed.is_cancelled() {
                        tracing::info!(%kind, "the API does not have this kind (yet)");
                    }
                    self.cache.listed.cancel();
                }
                Err(error) => {
                    tracing::warn!(%kind, %error, "a watch failed and is begun again");
                }
            }
        }
    }

    fn take(&self, event: Event<Guarded<K>>, listing_since: &mut Instant) {
        match event {
            Event::Init => {
                *listing_since = Instant::now();
                self.write(&Event::Init);
            }
            Event::InitApply(object) => {
                if let Some(object) = self.read(object) {
                    self.write(&Event::InitApply(object));
                }
            }
            Event::InitDone => {
                self.write(&Event::InitDone);
                let all = self.cache.store.state();
                self.index(|index| *index = Index::of(all.iter().map(|object| object.meta())));
                self.cache.seen.listed_since(*listing_since);
                self.cache.listed.cancel();
                self.tell(Change::All);
            }
            Event::Apply(object) => {
                let version = object.meta().resource_version.clone();
                if let Some(object) = self.read(object) {
                    let before = self.cache.store.get(&ObjectRef::from_obj(&object));
                    let after = Arc::new(object.clone());
                    self.write(&Event::Apply(object));
                    self.index(|index| index.put(after.meta()));
                    self.tell(Change::Of(before, Some(after)));
                }
                self.cache.seen.saw(version.as_deref());
            }
            Event::Delete(object) => {
                let version = object.meta().resource_version.clone();
                if let Some(object) = self.read(object) {
                    let last = Arc::new(object.clone());
                    self.write(&Event::Delete(object));
                    self.index(|index| index.remove(last.meta()));
                    self.tell(Change::Of(Some(last), None));
                }
                self.cache.seen.saw(version.as_deref());
            }
        }
    }

    /// What is kept of an object. One that cannot be read is left out and named, so that it stops nobody else.
    fn read(&self, object: Guarded<K>) -> Option<K> {
        match object.read() {
            Ok(mut object) => {
                trim(&mut object);
                Some(object)
            }
            Err(invalid) => {
                let kind = K::kind(&());
                let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
                let name = invalid.metadata.name.as_deref().unwrap_or_default();
                tracing::error!(%kind, namespace, name, error = %invalid, "an object is passed over");
                None
            }
        }
    }

    fn write(&self, event: &Event<K>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.apply_watcher_event(event);
    }

    fn index(&self, change: impl FnOnce(&mut Index)) {
        let index = self.cache.index.write();
        change(&mut index.unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, change: Change<K>) {
        // Nobody listens before the controllers run; they begin with everything.
        let _ = self.cache.changes.send(change);
    }
}

/// Takes away what nobody here reads. Of a kind whose metadata alone is kept that is every annotation but our own: `kubectl
/// apply` leaves the whole content in one. Such an object is never written back; any other may be, and keeps them.
fn trim<K: Kind>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = meta.annotations.as_mut().filter(|_| K::metadata_api()) {
        annotations.retain(|key, _| key.starts_with(OURS));
    }
}
