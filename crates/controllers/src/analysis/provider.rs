//! Who can be asked for a metric.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use serin_api::analysis::{AnalysisRun, Metric, MetricProvider};
use serin_engine::analysis::Measured;

use super::egress::Egress;
use super::gateway::Gateway;
use super::http::Fetcher;
use super::job::Jobs;
use super::prometheus::Prometheus;
use super::web::Web;
use crate::clock::Clock;
use crate::shell::Cache;

/// One measurement that is asked for.
#[derive(Clone)]
pub(super) struct Ask {
    /// The metric, with all arguments and secrets filled in.
    pub(super) metric: Metric,
    pub(super) namespace: String,
    pub(super) run: AnalysisRun,
    /// The number of the measurement in its metric, from 1.
    pub(super) number: i32,
    /// What was kept of it, when it was begun before.
    pub(super) begun: Option<BTreeMap<String, String>>,
}

/// Somebody who can be asked. It has a deadline and a cap for everything that it reads, and never fails: that it could not be
/// asked is an answer too.
pub(super) trait Provider: Send + Sync {
    fn measure<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Measured>;
}

/// All that can be asked.
pub(crate) struct Providers {
    serin: Gateway,
    prometheus: Prometheus,
    web: Web,
    job: Jobs,
}

impl Providers {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        jobs: Cache<Job>,
        gateway_socket: Option<PathBuf>,
        egress: &Egress,
    ) -> Self {
        let fetcher = Fetcher::new(egress.clone());
        Self {
            serin: Gateway {
                socket: gateway_socket,
                clock: clock.clone(),
            },
            prometheus: Prometheus {
                fetcher: fetcher.clone(),
                clock,
            },
            web: Web { fetcher },
            job: Jobs { client, jobs },
        }
    }

    /// The one that a metric names.
    pub(super) fn of(&self, named: &MetricProvider) -> Result<&dyn Provider, String> {
        let known: [(bool, &dyn Provider); 4] = [
            (named.serin.is_some(), &self.serin),
            (named.prometheus.is_some(), &self.prometheus),
            (named.web.is_some(), &self.web),
            (named.job.is_some(), &self.job),
        ];
        let mut named = known.into_iter().filter(|(is_named, _)| *is_named);
        match (named.next(), named.next()) {
            (Some((_, provider)), None) => Ok(provider),
            _ => Err("the metric must name one of serin, prometheus, web and job".into()),
        }
    }
}
