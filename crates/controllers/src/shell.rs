//! What all controllers have in common: caches that are watched once, a queue of keys for each controller, back-off, and
//! writes that can be done twice.
//!
//! A controller is a [`Reconcile`]: it gets one object, reads the caches, asks the engine for a plan and carries it out. It is
//! asked about one object once at a time, and never before its own last writes are in the caches: a plan is made on a view
//! that may lag behind others, but not behind itself.
//!
//! Absent on purpose: any decision.

mod cache;
mod error;
mod guarded;
mod index;
mod seen;
mod write;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{self, Action, ReconcileRequest};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

pub(crate) use cache::Cache;
pub(crate) use error::{Error, ErrorKind};
pub(crate) use write::{create, delete, delete_unchanged, edit, merge, replace, write_status};

/// Every object is looked at so often, even if nothing changes.
const RESYNC: Duration = Duration::from_secs(300);
/// How long to wait for one's own write to come into the cache, before looking whether it did.
const OWN_WRITE: Duration = Duration::from_secs(1);
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// A kind that the shell can watch.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// One controller.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// The kind of the objects it looks after.
    type Object: Kind;
    /// Its name in logs.
    const NAME: &'static str;

    /// Brings one object a step further.
    fn reconcile(
        &self,
        object: Arc<Self::Object>,
    ) -> impl Future<Output = Result<Next, Error>> + Send;
}

/// When to look at an object again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something changes.
    Change,
    /// When something changes, but not later than then.
    At(Timestamp),
    /// When one's own last writes have come into the caches.
    OwnWrites,
}

impl Next {
    /// From the `wake_at` of a plan.
    pub(crate) fn wake(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Change, Self::At)
    }

    fn action(self, clock: &Clock) -> Action {
        Action::requeue(match self {
            Self::Change => RESYNC,
            Self::At(at) => clock.until(at).min(RESYNC),
            Self::OwnWrites => OWN_WRITE,
        })
    }
}

/// Where the objects to look at come from.
pub(crate) type Triggers<K> = BoxStream<'static, ObjectRef<K>>;

/// Runs caches and controllers until it is shut down.
pub(crate) struct Hub {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    namespace: Option<String>,
    concurrency: u16,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    /// One for each cache: cancelled when that has listed everything once.
    listed: Vec<CancellationToken>,
}

impl Hub {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        namespace: Option<String>,
        concurrency: u16,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            client,
            clock,
            namespace,
            concurrency,
            shutdown,
            tasks: JoinSet::new(),
            listed: Vec::new(),
        }
    }

    /// Watches a kind. Call it once for each kind and share the cache.
    pub(crate) fn watch<K: Kind>(&mut self) -> Cache<K> {
        self.watch_labelled(None)
    }

    /// Watches the objects of a kind that have this label, whatever its value; all of them without one.
    pub(crate) fn watch_labelled<K: Kind>(&mut self, label: Option<&str>) -> Cache<K> {
        let api: Api<_> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (cache, feeder) = cache::new::<K>(api, label);
        self.listed.push(cache.listed());
        let feeder = Arc::new(feeder);
        let shutdown = self.shutdown.clone();
        self.supervise(format!("watch of {}", K::plural(&())), move || {
            let (feeder, shutdown) = (Arc::clone(&feeder), shutdown.clone());
            // A watch has nothing under way that could be waited for.
            async move {
                tokio::select! {
                    () = feeder.feed() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        });
        cache
    }

    /// Runs a controller on the objects of `main`, asked by changes of these and by `triggers`. It begins when all kinds that
    /// are watched so far have been listed.
    pub(crate) fn run<R: Reconcile>(
        &mut self,
        reconciler: R,
        main: &Cache<R::Object>,
        triggers: impl Fn() -> Vec<Triggers<R::Object>> + Send + Sync + 'static,
    ) {
        let reconciler = Arc::new(reconciler);
        let listed = self.listed.clone();
        let (main, clock) = (main.clone(), self.clock.clone());
        let (concurrency, shutdown) = (self.concurrency, self.shutdown.clone());
        let triggers = Arc::new(triggers);
        self.supervise(format!("controller {}", R::NAME), move || {
            let (reconciler, listed) = (Arc::clone(&reconciler), listed.clone());
            let queue = Queue {
                // Subscribed before the caches are read, so that no change is missed between.
                triggers: triggers(),
                main: main.clone(),
                clock: clock.clone(),
                concurrency,
                shutdown: shutdown.clone(),
            };
            async move {
                for cache in &listed {
                    cache.cancelled().await;
                }
                queue.serve(reconciler).await;
            }
        });
    }

    /// Resolves after the shutdown, when nothing is under way any more.
    pub(crate) async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Starts a task, and starts it again with back-off when it ends or panics, until the shutdown.
    fn supervise<F>(&mut self, name: String, mut start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let mut failures = 0;
            loop {
                let started = tokio::time::Instant::now();
                let run = AssertUnwindSafe(start()).catch_unwind();
                let outcome = tokio::select! {
                    outcome = run => outcome,
                    () = stopped(&shutdown) => return,
                };
                if shutdown.is_cancelled() {
                    return;
                }
                let why = outcome.map_or_else(|panic| panic_text(&*panic), |()| "it ended".into());
                if started.elapsed() > BACKOFF_CAP {
                    failures = 0;
                }
                let delay = backoff(failures);
                failures += 1;
                tracing::error!(task = %name, why, ?delay, "a part stopped and is started again");
                tokio::select! {
                    () = sleep(delay) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        });
    }
}

/// A while after the shutdown, in which what is under way may end.
async fn stopped(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(Duration::from_secs(5)).await;
}

/// The queue of one controller.
struct Queue<K: Kind> {
    triggers: Vec<Triggers<K>>,
    main: Cache<K>,
    clock: Clock,
    concurrency: u16,
    shutdown: CancellationToken,
}

impl<K: Kind> Queue<K> {
    async fn serve<R: Reconcile<Object = K>>(self, reconciler: Arc<R>) {
        let mut keys = SelectAll::new();
        keys.push(
            self.main
                .triggers(&self.main, |object: &K| vec![ObjectRef::from_obj(object)]),
        );
        keys.extend(self.triggers);
        // What was there before the first change.
        keys.push(futures::stream::iter(self.main.keys()).boxed());
        let shutdown = self.shutdown.clone();
        let requests = keys
            .take_until(async move { shutdown.cancelled().await })
            .map(|key| Ok::<_, std::convert::Infallible>(ReconcileRequest::from(key)));
        let failures = Arc::new(Failures::default());
        let counted = Arc::clone(&failures);
        let clock = self.clock.clone();
        let results = controller::applier(
            move |object: Arc<K>, _| {
                let (reconciler, clock) = (Arc::clone(&reconciler), clock.clone());
                let failures = Arc::clone(&failures);
                async move {
                    let key = key_of(&*object);
                    let started = Instant::now();
                    let next = guarded(&*reconciler, object).await;
                    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    tracing::debug!(controller = R::NAME, key, took_us, "looked");
                    let next = next?;
                    failures.forget(&key);
                    Ok(next.action(&clock))
                }
                .boxed()
            },
            move |object: Arc<K>, error: &Error, _| counted.retry::<R>(&key_of(&*object), error),
            Arc::new(()),
            self.main.store(),
            requests,
            controller::Config::default().concurrency(self.concurrency),
        );
        results.for_each(|_| std::future::ready(())).await;
    }
}

/// Turns a panic into an error, so that it ends this one look and nothing else.
async fn guarded<R: Reconcile>(reconciler: &R, object: Arc<R::Object>) -> Result<Next, Error> {
    AssertUnwindSafe(reconciler.reconcile(object))
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(Error::panicked(panic_text(&*panic))))
}

/// How often each object failed in a row.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<String, u32>>);

impl Failures {
    fn forget(&self, key: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    fn retry<R: Reconcile>(&self, key: &str, error: &Error) -> Action {
        // Somebody else was faster: no failure, only an old view.
        if error.kind() == ErrorKind::Conflict {
            tracing::debug!(controller = R::NAME, key, %error, "looks again");
            return Action::requeue(AFTER_CONFLICT);
        }
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_insert(0);
        let delay = backoff(*count);
        *count = count.saturating_add(1);
        tracing::warn!(
            controller = R::NAME,
            key,
            error = error.chain(),
            ?delay,
            "tries again"
        );
        Action::requeue(delay)
    }
}

fn backoff(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.min(16));
    BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_CAP)
}

fn key_of<K: Kind>(object: &K) -> String {
    let key: ObjectRef<DynamicObject> = ObjectRef::from_obj(object).erase();
    key.to_string()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("no message"))
}

#[cfg(test)]
mod tests;
