//! Which of several processes acts: leader election by a Lease, and the fence that holds back everybody else.
//!
//! A candidate never compares its clock with another's. It takes a Lease over only after it has itself watched it stand
//! unchanged for the whole duration, and it acts only until a margin before the others may do so. Time is counted by a clock
//! that goes on while the machine sleeps, so that a leader that was suspended knows it when it wakes.
//!
//! Absent on purpose: what the leader does. It is given a client whose writes end with its term ([`Fence`]).

mod fence;
mod record;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use record::{Record, Sight, Turn};

pub use fence::{Fence, FenceLayer, Fenced};

/// How a leader is elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease: who has it, leads.
    pub name: String,
    /// Who this process is; no two may say the same.
    pub identity: String,
    /// How long a Lease stands after it was renewed before another one takes it, 1 second or more.
    pub duration: Duration,
}

impl Election {
    /// How long the leader acts after a renewal: a margin less than the others wait.
    fn term(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// How often the Lease is looked at, and renewed.
    fn pace(&self) -> Duration {
        self.duration / 8
    }
}

/// Runs `lead` while this process is the leader, again and again until `shutdown`. The token that `lead` gets is cancelled at
/// the end of a term; its writes, made through a client with the [`FenceLayer`], are refused from then on at once.
pub async fn elected<F>(
    client: Client,
    election: Election,
    clock: Clock,
    fence: Fence,
    shutdown: CancellationToken,
    lead: impl Fn(CancellationToken) -> F,
) where
    F: Future<Output = ()>,
{
    let api = Api::namespaced(client, &election.namespace);
    let mut candidate = Candidate {
        api,
        election,
        clock,
        fence,
        sight: Sight::default(),
    };
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = candidate.acquire() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!(identity = candidate.election.identity, "leads");
        let stop = shutdown.child_token();
        let term = async {
            tokio::select! {
                () = candidate.hold() => tracing::warn!("the lease is lost"),
                () = shutdown.cancelled() => {}
            }
            stop.cancel();
        };
        // The Lease is renewed until the last deed of the term is done, or its time is over.
        tokio::join!(lead(stop.clone()), term);
        if shutdown.is_cancelled() {
            candidate.release().await;
        }
        candidate.fence.close();
    }
}

struct Candidate {
    api: Api<Lease>,
    election: Election,
    clock: Clock,
    fence: Fence,
    sight: Sight,
}

impl Candidate {
    /// Returns when this process leads.
    async fn acquire(&mut self) {
        loop {
            let wait = match self.turn().await {
                Turn::Lead => return,
                Turn::Wait(left) => left.min(self.election.pace()),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns when this process leads no more.
    async fn hold(&mut self) {
        loop {
            tokio::time::sleep(self.election.pace()).await;
            if let Turn::Wait(_) = self.turn().await
                && !self.fence.is_open()
            {
                return;
            }
        }
    }

    /// Looks at the Lease once, and writes it if it is this one's to write.
    async fn turn(&mut self) -> Turn {
        let pace = self.election.pace();
        match tokio::time::timeout(pace, self.look()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be read or written");
                Turn::Wait(pace)
            }
            Err(_) => {
                tracing::warn!("the API did not answer for the lease in time");
                Turn::Wait(pace)
            }
        }
    }

    async fn look(&mut self) -> Result<Turn, kube::Error> {
        let lease = self.api.get_opt(&self.election.name).await?;
        // Taken before the write is sent: whoever sees it sees it later.
        let now = self.clock.elapsed();
        let turn = self
            .sight
            .turn(lease.as_ref(), &self.election.identity, now);
        if let Turn::Wait(_) = turn {
            if self.sight.is_held_by_another(&self.election.identity) {
                self.fence.close();
            }
            return Ok(turn);
        }
        let next = Record::next(lease.as_ref(), &self.election, self.clock.now());
        let written = match lease {
            None => self.api.create(&PostParams::default(), &next).await,
            // It carries the version that was read: of two who write, one is refused.
            Some(_) => {
                let name = &self.election.name;
                self.api.replace(name, &PostParams::default(), &next).await
            }
        };
        match written {
            Ok(lease) => {
                self.sight.see(Some(&lease), now);
                self.fence.open_until(now + self.election.term());
                Ok(Turn::Lead)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Turn::Wait(self.election.pace()))
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves the Lease to the next one at once.
    async fn release(&mut self) {
        if !self.fence.is_open() {
            return;
        }
        let left = async {
            let lease = self.api.get_opt(&self.election.name).await?;
            let Some(mut lease) = lease.filter(|lease| {
                Record::of(lease).holder.as_deref() == Some(self.election.identity.as_str())
            }) else {
                return Ok(());
            };
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            let name = &self.election.name;
            let written = self.api.replace(name, &PostParams::default(), &lease).await;
            written.map(|_| ())
        };
        match tokio::time::timeout(self.election.pace(), left).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease was not released"),
            Err(_) => tracing::debug!("the lease was not released in time"),
        }
    }
}
