//! AnalysisRuns: takes the measurements that are due and writes what they mean.
//!
//! Absent on purpose: any judgement; that is the engine's.

mod gateway;
mod http;
mod prometheus;

use std::path::PathBuf;
use std::sync::Arc;

use kube::{Api, Client, ResourceExt};
use serin_api::analysis::{AnalysisRun, Metric};
use serin_engine::analysis::{Measured, plan, record};

use crate::clock::Clock;
use crate::shell::{Cache, Error, Next, Reconcile, delete, write_status};

/// The controller of AnalysisRuns.
pub(crate) struct Analyses {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) runs: Cache<AnalysisRun>,
    /// The admin socket of the gateway; `None` without one.
    pub(crate) gateway_socket: Option<PathBuf>,
}

impl Reconcile for Analyses {
    type Object = AnalysisRun;
    const NAME: &'static str = "analysis";

    async fn reconcile(&self, run: Arc<AnalysisRun>) -> Result<Next, Error> {
        let uid = run.uid().unwrap_or_default();
        if run.metadata.deletion_timestamp.is_some() {
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
        let started = self.clock.now();
        let measuring = step
            .measure
            .iter()
            .map(|order| self.measure(&order.metric, &namespace));
        let measured = futures::future::join_all(measuring).await;
        let now = self.clock.now();
        let status =
            step.measure
                .iter()
                .zip(&measured)
                .fold(step.status, |status, (order, measured)| {
                    record(&run.spec, &status, &order.metric, measured, started, now)
                });
        // After a measurement the run is planned again as soon as the written status comes back.
        if status != before {
            let mut next = AnalysisRun::clone(&run);
            next.status = Some(status);
            let written = write_status(&api, &next).await?;
            self.runs.wrote(&uid, &written);
        }
        Ok(Next::wake(step.wake_at))
    }
}

impl Analyses {
    async fn measure(&self, metric: &Metric, namespace: &str) -> Measured {
        let provider = &metric.provider;
        match (&provider.serin, &provider.prometheus) {
            (Some(serin), None) => match &self.gateway_socket {
                Some(socket) => gateway::measure(socket, metric, serin, namespace).await,
                None => Measured::Unavailable("there is no gateway here to ask".into()),
            },
            (None, Some(prometheus)) => prometheus::measure(prometheus).await,
            _ => Measured::Unavailable(
                "the metric names no provider that this version of Serin carries out".into(),
            ),
        }
    }
}
