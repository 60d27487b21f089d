//! `workloadRef`: the template of another workload in the place of the Rollout's own.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{PodTemplate, PodTemplateSpec};
use kube::{Resource, ResourceExt};
use serde_json::json;
use serin_api::rollout::Rollout;
use serin_engine::rollout::WorkloadView;
use serin_engine::workload;

use super::{Rollouts, uid};
use crate::shell::{Error, merge};

impl Rollouts {
    /// The Rollout with the template that it names in the place of its own, and the workload that has it.
    pub(super) async fn resolve(
        &self,
        rollout: Arc<Rollout>,
    ) -> Result<(Arc<Rollout>, Option<WorkloadView>), Error> {
        let Some(reference) = &rollout.spec.workload_ref else {
            return Ok((rollout, None));
        };
        let namespace = rollout.namespace().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        let found = match reference.kind.as_deref() {
            Some("Deployment") => self.deployments.get(&namespace, name).and_then(|d| {
                let spec = d.spec.as_ref()?;
                view(&*d, spec.replicas.or(Some(1)), Some(&spec.template))
            }),
            Some("ReplicaSet") => self.replica_sets.get(&namespace, name).and_then(|set| {
                let spec = set.spec.as_ref()?;
                view(&*set, spec.replicas.or(Some(1)), spec.template.as_ref())
            }),
            Some("PodTemplate") => {
                let found = self.api::<PodTemplate>(&rollout).get_opt(name).await;
                let doing = || format!("read PodTemplate {namespace}/{name}");
                let found = found.map_err(|e| Error::api(doing(), e))?;
                found.and_then(|t| view(&t, None, t.template.as_ref()))
            }
            _ => None,
        };
        let Some((template, view)) = found else {
            return Ok((rollout, None));
        };
        let mut resolved = (*rollout).clone();
        resolved.spec.template = Some(template);
        Ok((Arc::new(resolved), Some(view)))
    }

    pub(super) async fn scale_workload(&self, rollout: &Rollout, to: u32) -> Result<(), Error> {
        let Some(reference) = &rollout.spec.workload_ref else {
            return Ok(());
        };
        let name = reference.name.as_deref().unwrap_or_default();
        let patch = json!({"spec": {"replicas": to}});
        match reference.kind.as_deref() {
            Some("Deployment") => {
                let scaled = merge(&self.api::<Deployment>(rollout), name, &patch).await?;
                self.deployments.wrote(&uid(rollout), &scaled);
            }
            Some("ReplicaSet") => {
                let scaled = merge(&self.api::<ReplicaSet>(rollout), name, &patch).await?;
                self.replica_sets.wrote(&uid(rollout), &scaled);
            }
            _ => {}
        }
        Ok(())
    }
}

fn view<K: Resource>(
    object: &K,
    replicas: Option<i32>,
    template: Option<&PodTemplateSpec>,
) -> Option<(PodTemplateSpec, WorkloadView)> {
    let view = WorkloadView {
        generation: object.meta().generation.unwrap_or(0),
        replicas: replicas.map(workload::count),
    };
    Some((template?.clone(), view))
}
