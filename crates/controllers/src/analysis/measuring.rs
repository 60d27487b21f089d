//! Measurements under way: one task each, started at most once, their results kept until they are written.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use serin_api::analysis::AnalysisRun;
use serin_engine::analysis::{Measured, Order};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Duration, timeout};

use super::provider::{Ask, Providers};
use super::secrets;
use crate::clock::Clock;
use crate::shell::{Cache, Triggers};

/// Measurements that are taken in the same moment; more wait for their turn.
const AT_ONCE: usize = 256;
/// No measurement takes longer than this, whatever its provider allows.
const LONGEST: Duration = Duration::from_secs(300);
/// Ends of measurements that nobody has looked at yet.
const QUEUE: usize = 1024;

/// What came of one measurement, and when.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) measured: Measured,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
}

/// The uid of a run and the name of a metric.
type Key = (String, String);

enum State {
    UnderWay(AbortHandle),
    Done(Box<Taken>),
}

pub(super) struct Measuring {
    shared: Arc<Shared>,
    ends: Mutex<mpsc::Sender<ObjectRef<AnalysisRun>>>,
}

struct Shared {
    client: Client,
    clock: Clock,
    runs: Cache<AnalysisRun>,
    providers: Providers,
    turns: Semaphore,
    states: Mutex<BTreeMap<Key, State>>,
}

impl Shared {
    fn states(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measuring {
    pub(super) fn new(
        client: Client,
        clock: Clock,
        runs: Cache<AnalysisRun>,
        providers: Providers,
    ) -> Self {
        let shared = Shared {
            client,
            clock,
            runs,
            providers,
            turns: Semaphore::new(AT_ONCE),
            states: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            ends: Mutex::new(mpsc::channel(1).0),
        }
    }

    /// The runs of which a measurement has come to its end.
    pub(super) fn done(&self) -> Triggers<AnalysisRun> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = sender;
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|key| (key, receiver))
        })
        .boxed()
    }

    /// The result of an order, if it is there; it is then no longer kept.
    pub(super) fn take(&self, uid: &str, order: &Order) -> Option<Taken> {
        let mut states = self.shared.states();
        let key = (uid.to_owned(), order.metric.name.clone());
        match states.get(&key)? {
            State::UnderWay(_) => None,
            State::Done(_) => match states.remove(&key) {
                Some(State::Done(taken)) => Some(*taken),
                _ => None,
            },
        }
    }

    /// Keeps a result that could not be written.
    pub(super) fn give_back(&self, uid: &str, order: &Order, taken: Taken) {
        let key = (uid.to_owned(), order.metric.name.clone());
        self.shared.states().insert(key, State::Done(taken.into()));
    }

    /// Begins a measurement unless it is under way.
    pub(super) fn begin(&self, run: &AnalysisRun, order: &Order) {
        let key = (run.uid().unwrap_or_default(), order.metric.name.clone());
        let mut states = self.shared.states();
        if states.contains_key(&key) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let ends = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let ask = Ask {
            metric: order.metric.clone(),
            namespace: run.namespace().unwrap_or_default(),
            run: run.clone(),
            number: order.number,
            begun: order.begun.clone(),
        };
        let place = key.clone();
        let task = tokio::spawn(async move {
            let taken = shared.measure(ask.clone()).await;
            shared.keep(place, &ask, taken);
            let name = ask.run.name_any();
            let _ = ends
                .send(ObjectRef::new(&name).within(&ask.namespace))
                .await;
        });
        states.insert(key, State::UnderWay(task.abort_handle()));
    }

    /// Ends what is under way for a run, and forgets what was found.
    pub(super) fn forget(&self, uid: &str) {
        self.shared.states().retain(|(of, _), state| {
            if of != uid {
                return true;
            }
            if let State::UnderWay(task) = state {
                task.abort();
            }
            false
        });
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        for state in self.shared.states().values() {
            if let State::UnderWay(task) = state {
                task.abort();
            }
        }
    }
}

impl Shared {
    /// Keeps a result until its run takes it; one whose run is gone is forgotten.
    fn keep(&self, place: Key, ask: &Ask, taken: Taken) {
        let run = self.runs.get(&ask.namespace, &ask.run.name_any());
        let mut states = self.states();
        if run.is_some_and(|run| run.uid() == ask.run.uid()) {
            states.insert(place, State::Done(taken.into()));
        } else {
            states.remove(&place);
        }
    }

    async fn measure(&self, ask: Ask) -> Taken {
        // The turn is waited for outside of the deadline: it is nobody's fault.
        let turn = self.turns.acquire().await;
        let started = self.clock.now();
        // A provider that panics is a provider that did not answer.
        let measuring = AssertUnwindSafe(self.ask(ask)).catch_unwind();
        let measured = match timeout(LONGEST, measuring).await {
            Ok(Ok(measured)) => measured,
            Ok(Err(_)) => Measured::Unavailable("the provider failed unexpectedly".into()),
            Err(_) => Measured::Unavailable(format!("no answer within {} s", LONGEST.as_secs())),
        };
        drop(turn);
        Taken {
            measured,
            started,
            ended: self.clock.now(),
        }
    }

    async fn ask(&self, mut ask: Ask) -> Measured {
        let revealed = secrets::reveal(&self.client, &ask.run, &mut ask.metric.provider).await;
        let secrets = match revealed {
            Ok(secrets) => secrets,
            Err(why) => return Measured::Unavailable(why),
        };
        let measured = match self.providers.of(&ask.metric.provider) {
            Ok(provider) => provider.measure(&ask).await,
            Err(why) => Measured::Unavailable(why),
        };
        secrets.hide_in(measured)
    }
}
