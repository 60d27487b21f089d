//! The controller of Deployments.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::release::ReleasePolicy;
use serin_engine::deployment::{self, Action, Desired, Observed, Update};
use serin_engine::rollout::govern;
use serin_engine::workload::{Claim, ReplicaSetView, as_i32, claim};

use crate::clock::Clock;
use crate::events::tell;
use crate::shell::{self, Cache, Error, ErrorKind, Hub, Next, Reconcile};
use crate::workload::{adoption, concerned, owner, pods_of, release};

pub(crate) fn start(
    hub: &mut Hub,
    deployments: &Cache<Deployment>,
    replica_sets: &Cache<ReplicaSet>,
    pods: &Cache<Pod>,
    policies: &Cache<ReleasePolicy>,
) {
    let controller = Controller {
        policies: policies.clone(),
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        deployments: deployments.clone(),
        replica_sets: replica_sets.clone(),
        pods: pods.clone(),
    };
    let (main, replica_sets, pods) = (deployments.clone(), replica_sets.clone(), pods.clone());
    let policies = policies.clone();
    hub.run(controller, deployments, move || {
        let (candidates, sets) = (main.clone(), replica_sets.clone());
        let governed = main.clone();
        vec![
            policies.triggers(&main, move |policy| {
                let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
                let all = governed.list(namespace).into_iter();
                all.map(|one| ObjectRef::from_obj(&*one)).collect()
            }),
            replica_sets.triggers(&main, move |rs| {
                concerned(&candidates, selector_of, &rs.metadata)
            }),
            // Only pods that come or go matter, and only to the strategy Recreate; a look that changes nothing is cheap.
            pods.triggers(&main, move |pod| {
                let set = owner::<ReplicaSet>(&pod.metadata);
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let set = set.and_then(|key| sets.get(namespace, &key.name));
                set.and_then(|rs| owner(&rs.metadata)).into_iter().collect()
            }),
        ]
    });
}

fn selector_of(deployment: &Deployment) -> Option<&LabelSelector> {
    deployment.spec.as_ref().map(|spec| &spec.selector)
}

struct Controller {
    client: Client,
    clock: Clock,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    policies: Cache<ReleasePolicy>,
}

impl Reconcile for Controller {
    type Object = Deployment;
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, deployment: Arc<Deployment>) -> Result<Next, Error> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        if !self.deployments.is_current(uid) || !self.replica_sets.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let desired = match deployment::lower(&deployment) {
            Ok(desired) => desired,
            Err(problems) => {
                let status = deployment::refused(&deployment, &problems, now);
                self.write_status((*deployment).clone(), status).await?;
                return Ok(Next::Change);
            }
        };
        let observed = self.observe(&deployment, &desired);
        let plan = deployment::plan(&desired, &observed, now);
        let mut current = (*deployment).clone();
        for action in &plan.actions {
            if let Err(error) = self.carry_out(&mut current, &desired, action).await {
                if matches!(action, Action::Create(_)) && error.kind() == ErrorKind::Refused {
                    let status = deployment::failed(&plan, &observed.status, error.why(), now);
                    self.write_status(current, status).await?;
                }
                return Err(error);
            }
            if let Some(note) = action.note() {
                tell(&self.client, &deployment.object_ref(&()), &note, now).await;
            }
        }
        self.write_status(current, plan.status).await?;
        Ok(Next::wake(plan.wake_at))
    }
}

impl Controller {
    fn observe(&self, deployment: &Deployment, desired: &Desired) -> Observed {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let candidates = self.replica_sets.claimable(namespace, &desired.uid);
        let views = candidates
            .iter()
            .map(|rs| ReplicaSetView::from_replica_set(rs));
        let related = views.filter(|rs| {
            let owner = rs.owner_uid.as_deref();
            claim(&desired.pods, &desired.uid, &rs.labels, owner) != Claim::Foreign
        });
        let replica_sets: Vec<_> = related.collect();
        let owners: BTreeSet<_> = replica_sets.iter().map(|rs| rs.uid.as_str()).collect();
        Observed {
            pods: pods_of(&self.pods, &owners),
            taken: self.replica_sets.names(namespace, &desired.name),
            annotations: deployment.metadata.annotations.clone().unwrap_or_default(),
            status: deployment.status.clone().unwrap_or_default(),
            replica_sets,
            hold_rejected: self.holds_rejected(deployment),
        }
    }

    fn holds_rejected(&self, deployment: &Deployment) -> bool {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let policies = self.policies.list(namespace);
        let named = policies.iter().map(|policy| {
            let name = policy.metadata.name.as_deref();
            (name.unwrap_or_default(), &policy.spec)
        });
        govern(&deployment.metadata, named).policy.hold_rejected
    }

    /// `current` is the Deployment after the actions before.
    async fn carry_out(
        &self,
        current: &mut Deployment,
        desired: &Desired,
        action: &Action,
    ) -> Result<(), Error> {
        let namespace = current.metadata.namespace.clone().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let written = match action {
            Action::Create(rs) => shell::create(&api, rs).await?,
            Action::Update(update) => {
                Some(shell::merge(&api, &update.target.name, &patch_of(update)).await?)
            }
            Action::Adopt(target) => {
                let owner = deployment::owner(desired);
                let patch = |meta: &ObjectMeta| adoption(meta, &owner);
                self.change_owners(&api, &namespace, &target.name, patch)
                    .await?
            }
            Action::Release(target) => {
                let patch = |meta: &ObjectMeta| release(meta, &desired.uid);
                self.change_owners(&api, &namespace, &target.name, patch)
                    .await?
            }
            Action::Delete(target) => {
                let version = Some(target.resource_version.as_str());
                shell::delete_unchanged(&api, &target.name, &target.uid, version).await?
            }
            Action::Number { revision } => {
                self.number(current, *revision).await?;
                None
            }
        };
        if let Some(rs) = written {
            self.replica_sets.wrote(&desired.uid, &rs);
        }
        Ok(())
    }

    async fn change_owners(
        &self,
        api: &Api<ReplicaSet>,
        namespace: &str,
        name: &str,
        patch: impl Fn(&ObjectMeta) -> Value,
    ) -> Result<Option<ReplicaSet>, Error> {
        let Some(rs) = self.replica_sets.get(namespace, name) else {
            return Ok(None);
        };
        shell::merge(api, name, &patch(&rs.metadata))
            .await
            .map(Some)
    }

    async fn number(&self, current: &mut Deployment, revision: u64) -> Result<(), Error> {
        let namespace = current.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({"metadata": {
            "uid": current.metadata.uid,
            "resourceVersion": current.metadata.resource_version,
            "annotations": {annotation::DEPLOYMENT_REVISION: revision.to_string()},
        }});
        let name = current.metadata.name.clone().unwrap_or_default();
        *current = shell::merge(&api, &name, &patch).await?;
        let uid = current.metadata.uid.as_deref().unwrap_or_default();
        self.deployments.wrote(uid, current);
        Ok(())
    }

    async fn write_status(
        &self,
        mut current: Deployment,
        status: DeploymentStatus,
    ) -> Result<(), Error> {
        if current.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = current.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        current.status = Some(status);
        match shell::write_status(&api, &current).await {
            Ok(written) => {
                let uid = written.metadata.uid.as_deref().unwrap_or_default();
                self.deployments.wrote(uid, &written);
                Ok(())
            }
            // It is gone, and with it the need for a status.
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn patch_of(update: &Update) -> Value {
    let mut patch = json!({"metadata": {
        "uid": update.target.uid,
        "resourceVersion": update.target.resource_version,
        "annotations": update.annotations,
    }});
    let mut spec = serde_json::Map::new();
    if let Some(replicas) = update.replicas {
        spec.insert("replicas".into(), as_i32(replicas).into());
    }
    if let Some(seconds) = update.min_ready_seconds {
        spec.insert("minReadySeconds".into(), seconds.into());
    }
    if let (Some(patch), false) = (patch.as_object_mut(), spec.is_empty()) {
        patch.insert("spec".into(), spec.into());
    }
    patch
}
