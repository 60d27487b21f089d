//! Hands what the watches have over to the control loop, when it asks for it.
//!
//! While the loop rests nobody reads: events wait in the sockets, where they cost nothing, and many are read at once. An API that
//! sends faster than that is slowed down by its own connection.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::Thread;

use futures::{FutureExt, Stream, StreamExt};
use kube::runtime::watcher::Event;
use tokio::sync::{Notify, mpsc};

use super::{Input, Kind};
use crate::names::ObjectName;

/// Events that are taken in before one table is made of them.
const MOST_AT_ONCE: usize = 1024;
/// Frames of futures are on the heap, so a small stack is enough.
const STACK_BYTES: usize = 512 * 1024;

/// Where the watches put their batches.
pub(crate) struct Sender {
    wanted: Arc<Notify>,
    is_owed: Arc<AtomicBool>,
    batches: mpsc::Sender<Vec<Input>>,
}

/// Where the control loop gets them.
pub(crate) struct Receiver {
    wanted: Arc<Notify>,
    /// Whether one is asked for that was not given.
    is_owed: Arc<AtomicBool>,
    /// Whether one is asked for that has not come.
    is_asked: bool,
    batches: mpsc::Receiver<Vec<Input>>,
    /// Where the watches run, if that is not where the loop runs.
    thread: Option<Thread>,
}

/// Both ends.
pub(crate) fn channel() -> (Sender, Receiver) {
    let (wanted, is_owed) = (Arc::new(Notify::new()), Arc::<AtomicBool>::default());
    // One is asked for at a time.
    let (sender, receiver) = mpsc::channel(1);
    let sender = Sender {
        wanted: Arc::clone(&wanted),
        is_owed: Arc::clone(&is_owed),
        batches: sender,
    };
    let receiver = Receiver {
        wanted,
        is_owed,
        is_asked: false,
        batches: receiver,
        thread: None,
    };
    (sender, receiver)
}

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }

    /// Waits until a batch is asked for; `None` when nobody will.
    pub(super) async fn wanted(&self) -> Option<()> {
        tokio::select! {
            () = self.wanted.notified() => Some(()),
            () = self.batches.closed() => None,
        }
    }

    /// Gives the batch that was asked for, which may be empty.
    pub(super) async fn give(&self, batch: Vec<Input>) -> Option<()> {
        // Before it is there, as the next one may be asked for at once.
        self.is_owed.store(false, Ordering::SeqCst);
        self.batches.send(batch).await.ok()
    }
}

impl Receiver {
    /// Runs what feeds this end on a thread of its own. While nothing is asked for the thread sleeps, and its runtime with it: what
    /// comes meanwhile wakes nobody.
    pub(crate) fn run_on_thread(
        &mut self,
        feed: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let is_owed = Arc::clone(&self.is_owed);
        let builder = std::thread::Builder::new().name("watches".into());
        let thread = builder.stack_size(STACK_BYTES).spawn(move || {
            let mut feed = std::pin::pin!(feed);
            // Whether it goes on.
            let mut until_given = async || {
                poll_fn(|cx| match feed.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(false),
                    Poll::Pending if is_owed.load(Ordering::SeqCst) => Poll::Pending,
                    Poll::Pending => Poll::Ready(true),
                })
                .await
            };
            // Who asks wakes it after asking, so no wish is slept through.
            while runtime.block_on(until_given()) {
                std::thread::park();
            }
        })?;
        self.thread = Some(thread.thread().clone());
        Ok(())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    /// The next batch; `None` when there will be none. Nothing is lost when it is not waited for to the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<Input>> {
        if !self.is_asked {
            self.is_asked = true;
            self.is_owed.store(true, Ordering::SeqCst);
            self.wanted.notify_one();
            self.wake();
        }
        let batch = self.batches.recv().await;
        self.is_asked = false;
        batch
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The thread ends when it sees that nobody is there.
        self.batches.close();
        self.wake();
    }
}

/// Waits for an event, and takes all that are there then.
pub(super) async fn gather<E>(events: &mut (impl Stream<Item = E> + Unpin)) -> Vec<E> {
    let mut gathered: Vec<E> = events.next().await.into_iter().collect();
    let mut known = 0;
    while gathered.len() > known {
        known = gathered.len();
        // A connection gives one event at a time, and reads on when it gets its turn.
        tokio::task::yield_now().await;
        while gathered.len() < MOST_AT_ONCE
            && let Some(Some(event)) = events.next().now_or_never()
        {
            gathered.push(event);
        }
    }
    gathered
}

/// Leaves out the states of an object that a later one of the same batch has taken the place of.
pub(super) fn newest(batch: Vec<Input>) -> Vec<Input> {
    let mut seen: HashSet<(Kind, ObjectName)> = HashSet::new();
    let mut kept = Vec::with_capacity(batch.len().min(16));
    for input in batch.into_iter().rev() {
        match &input {
            Input::Event(kind, Event::Apply(object) | Event::Delete(object)) => {
                if !seen.insert((*kind, ObjectName::of(object))) {
                    continue;
                }
            }
            // A list that is read anew is not mixed with what was said before it.
            Input::Event(kind, _) | Input::Unknown(kind) | Input::Forbidden(kind, _) => {
                seen.retain(|(of, _)| of != kind);
            }
            Input::Connected(_) => seen.clear(),
        }
        kept.push(input);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::watch::RawObject;

    fn object(name: &str, version: u32) -> RawObject {
        RawObject::of(&json!({"metadata": {"name": name, "resourceVersion": version.to_string()}}))
    }

    fn shown(input: &Input) -> String {
        let version = |object: &RawObject| {
            let meta = kube::Resource::meta(object);
            format!(
                "{}{}",
                meta.name.as_deref().unwrap(),
                meta.resource_version.as_deref().unwrap()
            )
        };
        match input {
            Input::Event(kind, event) => match event {
                Event::Apply(object) => format!("{kind:?} {}", version(object)),
                Event::Delete(object) => format!("{kind:?} -{}", version(object)),
                Event::InitApply(object) => format!("{kind:?} list {}", version(object)),
                Event::Init => format!("{kind:?} list"),
                Event::InitDone => format!("{kind:?} listed"),
            },
            Input::Unknown(kind) | Input::Forbidden(kind, _) => format!("{kind:?} not read"),
            Input::Connected(_) => "connected".into(),
        }
    }

    #[test]
    fn of_each_object_the_newest_state_counts() {
        use Event::{Apply, Delete, Init, InitApply, InitDone};
        let of = Input::Event;
        let batch = vec![
            of(Kind::Route, Apply(object("a", 1))),
            of(Kind::Route, Apply(object("b", 2))),
            of(Kind::Service, Apply(object("a", 3))),
            of(Kind::Route, Delete(object("a", 4))),
            of(Kind::Route, Apply(object("b", 5))),
            of(Kind::Service, Apply(object("a", 6))),
            of(Kind::Route, Init),
            of(Kind::Route, InitApply(object("b", 7))),
            of(Kind::Route, InitDone),
            of(Kind::Route, Apply(object("b", 8))),
            of(Kind::Route, Apply(object("b", 9))),
            Input::Unknown(Kind::Ingress),
        ];
        let kept: Vec<_> = newest(batch).iter().map(shown).collect();
        expect_test::expect![[r#"
            Route -a4
            Route b5
            Service a6
            Route list
            Route list b7
            Route listed
            Route b9
            Ingress not read"#]]
        .assert_eq(&kept.join("\n"));
    }

    #[tokio::test]
    async fn what_comes_while_nobody_asks_is_one_batch() {
        let (source, mut events) = mpsc::channel::<u32>(1);
        let mut events = futures::stream::poll_fn(move |cx| events.poll_recv(cx));
        let writing = tokio::spawn(async move {
            for event in 0..100 {
                source.send(event).await.unwrap();
            }
            source
        });
        let gathered = gather(&mut events).await;
        assert_eq!(gathered, (0..100).collect::<Vec<_>>());
        drop(writing.await.unwrap());
        assert!(gather(&mut events).await.is_empty());
    }

    #[tokio::test]
    async fn events_that_come_without_end_do_not_keep_a_table_from_being_made() {
        let mut events = futures::stream::iter(0..5000);
        assert_eq!(gather(&mut events).await.len(), 1024);
    }

    #[tokio::test]
    async fn nothing_is_given_before_it_is_asked_for_and_nothing_is_lost() {
        let (sender, mut receiver) = channel();
        let unknown = || vec![Input::Unknown(Kind::Ingress)];
        assert!(sender.wanted().now_or_never().is_none());
        assert!(receiver.next().now_or_never().is_none());
        assert_eq!(sender.wanted().now_or_never(), Some(Some(())));
        // The wait was given up; the batch is there for the next one.
        sender.give(unknown()).await.unwrap();
        assert_eq!(receiver.next().await.map(|batch| batch.len()), Some(1));
        assert!(sender.wanted().now_or_never().is_none());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.wanted().await, None);
    }

    #[tokio::test]
    async fn on_a_thread_of_its_own_the_feed_runs_while_it_is_asked_and_ends_with_the_loop() {
        let (sender, mut receiver) = channel();
        let (ended, end) = tokio::sync::oneshot::channel();
        let feed = async move {
            while sender.wanted().await.is_some() {
                // Something of the runtime: it must run while a batch is waited for.
                tokio::task::yield_now().await;
                let _ = sender.give(vec![Input::Unknown(Kind::Ingress)]).await;
            }
            let _ = ended.send(());
        };
        receiver.run_on_thread(feed).unwrap();
        for _ in 0..10_000 {
            assert_eq!(receiver.next().await.map(|batch| batch.len()), Some(1));
        }
        drop(receiver);
        end.await.unwrap();
    }
}
