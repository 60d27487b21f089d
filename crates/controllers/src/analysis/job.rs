//! Measurements that are Jobs: one is created, and its outcome is the value.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::api::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serin_api::analysis::{AnalysisPhase, JobMetric};
use serin_engine::analysis::{Judgement, Measured};

use super::provider::{Ask, Provider};
use crate::shell::{Cache, create};

/// Where the name of its Job is kept with a measurement, as in Argo Rollouts.
const JOB_NAME: &str = "job-name";
const RUN_NAME: &str = "analysisrun.argoproj.io/name";
const RUN_METRIC: &str = "analysisrun.argoproj.io/metric-name";
/// What a name of a Job may be long, so that its pods' names fit into a label.
const NAME_BYTES: usize = 52;

/// Makes Jobs and looks at them.
pub(super) struct Jobs {
    pub(super) client: Client,
    pub(super) jobs: Cache<Job>,
}

impl Provider for Jobs {
    fn measure<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Measured> {
        async move {
            let name = ask.begun.as_ref().and_then(|kept| kept.get(JOB_NAME));
            let measured = match (name, &ask.metric.provider.job) {
                (Some(name), _) => self.look(ask, name).await,
                (None, Some(asked)) => self.begin(ask, asked).await,
                (None, None) => Err("the metric has no job".to_owned()),
            };
            measured.unwrap_or_else(Measured::Unavailable)
        }
        .boxed()
    }
}

impl Jobs {
    fn api(&self, ask: &Ask) -> Api<Job> {
        Api::namespaced(self.client.clone(), &ask.namespace)
    }

    /// Makes the Job. Its name is derived, so that doing it twice makes one.
    async fn begin(&self, ask: &Ask, asked: &JobMetric) -> Result<Measured, String> {
        let job = job(ask, asked);
        let name = job.name_any();
        let made = create(&self.api(ask), &job).await;
        made.map_err(|e| format!("the Job cannot be created: {}", e.chain()))?;
        Ok(Measured::Begun(BTreeMap::from([(
            JOB_NAME.to_owned(),
            name,
        )])))
    }

    async fn look(&self, ask: &Ask, name: &str) -> Result<Measured, String> {
        let seen = match self.jobs.get(&ask.namespace, name) {
            Some(seen) => Job::clone(&seen),
            None => {
                let found = self.api(ask).get_opt(name).await;
                let found = found.map_err(|e| format!("Job {name} cannot be read: {e}"))?;
                found.ok_or_else(|| format!("Job {name} was deleted before it was done"))?
            }
        };
        let kept = ask.begun.clone().unwrap_or_default();
        Ok(outcome(&seen).map_or(Measured::Begun(kept), Measured::Verdict))
    }
}

/// What a Job that is done says; `None` while it works.
pub(super) fn outcome(job: &Job) -> Option<Judgement> {
    let status = job.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let holds = |kind: &str| {
        conditions
            .iter()
            .find(|c| c.type_ == kind && c.status == "True")
    };
    if holds("Complete").is_some() {
        return Some(Judgement {
            phase: AnalysisPhase::Successful,
            message: None,
        });
    }
    let failed = holds("Failed")?;
    let why = failed.message.as_deref().or(failed.reason.as_deref());
    let message = format!("Job {}: {}", job.name_any(), why.unwrap_or("it failed"));
    // Some of its pods did their work: that it failed as a whole is for a person to weigh.
    let phase = if status.succeeded.unwrap_or(0) > 0 {
        AnalysisPhase::Inconclusive
    } else {
        AnalysisPhase::Failed
    };
    Some(Judgement::because(phase, message))
}

fn job(ask: &Ask, asked: &JobMetric) -> Job {
    let metadata = asked.metadata.clone().unwrap_or_default();
    let mut annotations = metadata.annotations;
    annotations.insert(RUN_NAME.to_owned(), ask.run.name_any());
    annotations.insert(RUN_METRIC.to_owned(), ask.metric.name.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(ask)),
            namespace: Some(ask.namespace.clone()),
            labels: Some(metadata.labels),
            annotations: Some(annotations),
            owner_references: ask.run.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(asked.spec.clone()),
        status: None,
    }
}

/// The uid of the run, the metric and the number of the measurement, as a name that an object can have.
fn job_name(ask: &Ask) -> String {
    let uid = ask.run.uid().unwrap_or_default();
    let uid = uid.split('-').next().unwrap_or_default();
    let end = format!("-{uid}-{}", ask.number);
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let metric: String = ask.metric.name.chars().map(letter).collect();
    let metric = metric.trim_matches('-');
    let metric = metric
        .get(..NAME_BYTES - end.len().min(NAME_BYTES))
        .unwrap_or(metric);
    let metric = if metric.is_empty() { "m" } else { metric };
    format!("{metric}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outcomes_of_jobs() {
        let phase = |status: serde_json::Value| {
            let job: Job =
                serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status}))
                    .unwrap();
            outcome(&job).map(|judgement| judgement.phase)
        };
        let condition = |kind: &str, status: &str| json!([{"type": kind, "status": status}]);
        assert_eq!(phase(json!({"active": 1})), None);
        assert_eq!(
            phase(json!({"conditions": condition("Failed", "False")})),
            None
        );
        let done = phase(json!({"succeeded": 1, "conditions": condition("Complete", "True")}));
        assert_eq!(done, Some(AnalysisPhase::Successful));
        let failed = condition("Failed", "True");
        assert_eq!(
            phase(json!({"conditions": failed})),
            Some(AnalysisPhase::Failed)
        );
        let some = phase(json!({"succeeded": 1, "failed": 2, "conditions": failed}));
        assert_eq!(some, Some(AnalysisPhase::Inconclusive));
    }
}
