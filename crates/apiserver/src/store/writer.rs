//! The writer thread: takes what has queued up, commits it as one transaction, answers.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::commit::Committer;
use super::error::WriteError;
use super::record::{Record, Write};

/// Writes that may wait; further callers wait for a place.
const QUEUE: usize = 256;
/// Writes of one transaction. A disk makes a few hundred synced commits in a second, so more writes share each one.
const BATCH: usize = 256;

type Answer = oneshot::Sender<Result<Arc<Record>, WriteError>>;
type Job = (Write, Answer);

/// A handle on the thread; dropping it ends the thread after the writes that were queued, and closes the file.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(committer: Committer) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("serin-store".into())
            .spawn(move || run(committer, queue))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    pub(super) async fn write(&self, write: Write) -> Result<Arc<Record>, WriteError> {
        let jobs = self.jobs.as_ref().ok_or(WriteError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        jobs.send((write, answer))
            .await
            .map_err(|_| WriteError::Stopped)?;
        answered.await.unwrap_or(Err(WriteError::Stopped))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // Waiting here is what lets the next `open` of the same file succeed at once.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the store ended by a panic");
        }
    }
}

fn run(mut committer: Committer, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        let (writes, answers): (Vec<Write>, Vec<Answer>) = jobs.into_iter().unzip();
        for (outcome, answer) in committer.commit(writes).into_iter().zip(answers) {
            // A caller that has gone away does not undo its write.
            let _gone = answer.send(outcome);
        }
    }
}
