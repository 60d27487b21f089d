//! AnalysisRuns: takes the measurements that are due and writes what they mean.
//!
//! A measurement is a task of its own: a provider that is slow delays neither the other metrics of its run nor other runs.
//!
//! Absent on purpose: any judgement; that is the engine's.

mod egress;
mod gateway;
mod http;
mod job;
mod json_path;
mod measuring;
mod oauth2;
mod prometheus;
mod provider;
mod secrets;
mod tls;
mod web;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serin_api::analysis::{AnalysisRun, AnalysisRunStatus};
use serin_engine::analysis::{plan, record};
use serin_engine::workload;

use crate::clock::Clock;
use crate::shell::{Cache, Error, Next, Reconcile, Triggers, delete, write_status};

pub use egress::Egress;
pub(crate) use egress::Reach;
pub(crate) use http::{Call, Fetcher};
use measuring::Measuring;
pub(crate) use provider::Providers;
pub(crate) use secrets::read as read_secret;
pub(crate) use tls::Trust;

/// The controller of AnalysisRuns.
pub(crate) struct Analyses {
    client: Client,
    clock: Clock,
    runs: Cache<AnalysisRun>,
    jobs: Cache<Job>,
    measuring: Arc<Measuring>,
}

impl Analyses {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        runs: Cache<AnalysisRun>,
        jobs: Cache<Job>,
        providers: Providers,
    ) -> Self {
        let measuring = Measuring::new(client.clone(), clock.clone(), runs.clone(), providers);
        Self {
            client,
            clock,
            runs,
            jobs,
            measuring: Arc::new(measuring),
        }
    }

    /// Measurements that are done, and Jobs that belong to a measurement.
    pub(crate) fn triggers(&self) -> impl Fn() -> Vec<Triggers<AnalysisRun>> + Send + Sync + use<> {
        let (runs, jobs) = (self.runs.clone(), self.jobs.clone());
        let measuring = Arc::clone(&self.measuring);
        move || {
            let of_job = |job: &Job| {
                let owner = workload::controller_of(&job.metadata);
                let owner = owner.filter(|owner| owner.kind == "AnalysisRun");
                let namespace = job.namespace().unwrap_or_default();
                owner
                    .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
                    .into_iter()
                    .collect()
            };
            vec![jobs.triggers(&runs, of_job), measuring.done()]
        }
    }
}

impl Reconcile for Analyses {
    type Object = AnalysisRun;
    const NAME: &'static str = "analysis";

    async fn reconcile(&self, run: Arc<AnalysisRun>) -> Result<Next, Error> {
        let uid = run.uid().unwrap_or_default();
        if run.metadata.deletion_timestamp.is_some() {
            self.measuring.forget(&uid);
            return Ok(Next::Change);
        }
        if !self.runs.is_current(&uid) {
            return Ok(Next::OwnWrites);
        }
        let namespace = run.namespace().unwrap_or_default();
        let api: Api<AnalysisRun> = Api::namespaced(self.client.clone(), &namespace);
        let before = run.status.clone().unwrap_or_default();
        let step = plan(&run.spec, &before, self.clock.now());
        if step.expired {
            return delete(&api, &run.name_any(), &uid)
                .await
                .map(|_| Next::Change);
        }
        let mut status = step.status;
        let mut taken = Vec::new();
        for order in &step.measure {
            let Some(result) = self.measuring.take(&uid, order) else {
                self.measuring.begin(&run, order);
                continue;
            };
            let (started, ended) = (result.started, result.ended);
            status = record(&run.spec, &status, order, &result.measured, started, ended);
            taken.push((order, result));
        }
        // After a measurement the run is planned again as soon as the written status comes back.
        if status != before
            && let Err(error) = self.write(&api, &run, &uid, status.clone()).await
        {
            for (order, result) in taken {
                self.measuring.give_back(&uid, order, result);
            }
            return Err(error);
        }
        if status.phase.is_completed() {
            self.measuring.forget(&uid);
            self.end_jobs(&namespace, &uid).await?;
        }
        Ok(Next::wake(step.wake_at))
    }
}

impl Analyses {
    async fn write(
        &self,
        api: &Api<AnalysisRun>,
        run: &AnalysisRun,
        uid: &str,
        status: AnalysisRunStatus,
    ) -> Result<(), Error> {
        let mut next = run.clone();
        next.status = Some(status);
        let written = write_status(api, &next).await?;
        self.runs.wrote(uid, &written);
        Ok(())
    }

    /// Jobs that still work for a run that has ended are taken away; those that are done stay for whoever reads their logs.
    async fn end_jobs(&self, namespace: &str, uid: &str) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let jobs = self.jobs.controlled_by(uid);
        let working = jobs
            .iter()
            .filter(|job| job.metadata.deletion_timestamp.is_none() && job::outcome(job).is_none());
        for job in working {
            delete(&api, &job.name_any(), &job.uid().unwrap_or_default()).await?;
        }
        Ok(())
    }
}
