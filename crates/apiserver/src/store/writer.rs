//! The writer thread: takes what has queued up, commits it as one transaction, answers.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::commit::Committer;
use super::disk::{Entry, Query};
use super::error::WriteError;
use super::record::{Record, Write};

/// Writes that may wait; further callers wait for a place.
const QUEUE: usize = 256;
/// Writes of one transaction. A disk makes a few hundred synced commits in a second, so more writes share each one.
const BATCH: usize = 256;

type Answer = oneshot::Sender<Result<Arc<Record>, WriteError>>;

enum Job {
    Write(Write, Answer),
    Copy(oneshot::Sender<Result<File, WriteError>>),
    History(Query, oneshot::Sender<Result<Vec<Entry>, WriteError>>),
}

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
        self.ask(|answer| Job::Write(write, answer)).await
    }

    pub(super) async fn copy(&self) -> Result<File, WriteError> {
        self.ask(Job::Copy).await
    }

    pub(super) async fn history(&self, query: Query) -> Result<Vec<Entry>, WriteError> {
        self.ask(|answer| Job::History(query, answer)).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, WriteError>>) -> Job,
    ) -> Result<T, WriteError> {
        let jobs = self.jobs.as_ref().ok_or(WriteError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        jobs.send(job(answer))
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
        let (mut writes, mut answers) = (Vec::new(), Vec::new());
        let (mut copies, mut questions) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write(write, answer) => {
                    writes.push(write);
                    answers.push(answer);
                }
                Job::Copy(answer) => copies.push(answer),
                Job::History(query, answer) => questions.push((query, answer)),
            }
            let full = writes.len() + copies.len() + questions.len() >= BATCH;
            next = if full { None } else { queue.try_recv().ok() };
        }
        // A caller that has gone away does not undo its write.
        for (outcome, answer) in committer.commit(writes).into_iter().zip(answers) {
            let _gone = answer.send(outcome);
        }
        for (query, answer) in questions {
            let _gone = answer.send(committer.history(&query));
        }
        for answer in copies {
            let _gone = answer.send(committer.copy());
        }
    }
}
