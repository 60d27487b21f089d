//! The controller of ReplicaSets.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource};
use serde_json::Value;
use serin_engine::replica_set::{self, Action, Desired, Observed, Plan};
use serin_engine::rollout::Note;
use serin_engine::workload::{Claim, PodView, claim};

use crate::clock::Clock;
use crate::events::tell;
use crate::shell::{self, Cache, Error, ErrorKind, Hub, Next, Reconcile};
use crate::workload::{adoption, concerned, release, selector_of};

/// Actions of one batch that are under way in the same moment.
const PARALLEL: usize = 16;

pub(crate) fn start(hub: &mut Hub, replica_sets: &Cache<ReplicaSet>, pods: &Cache<Pod>) {
    let controller = Controller {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        replica_sets: replica_sets.clone(),
        pods: pods.clone(),
    };
    let (main, pods) = (replica_sets.clone(), pods.clone());
    hub.run(controller, replica_sets, move || {
        let candidates = main.clone();
        vec![pods.triggers(&main, move |pod| {
            concerned(&candidates, selector_of, &pod.metadata)
        })]
    });
}

struct Controller {
    client: Client,
    clock: Clock,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
}

impl Reconcile for Controller {
    type Object = ReplicaSet;
    const NAME: &'static str = "replicaset";

    async fn reconcile(&self, rs: Arc<ReplicaSet>) -> Result<Next, Error> {
        let uid = rs.metadata.uid.as_deref().unwrap_or_default();
        if !self.replica_sets.is_current(uid) || !self.pods.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let desired = match replica_set::lower(&rs) {
            Ok(desired) => desired,
            Err(problems) => {
                let status = replica_set::refused(&rs, &problems, now);
                self.write_status(&rs, status).await?;
                return Ok(Next::Change);
            }
        };
        let observed = self.observe(&rs, &desired);
        let plan = replica_set::plan(&desired, &observed, now);
        if let Err(error) = self.apply(&rs, &desired, &plan).await {
            if error.is_create {
                let before = &observed.status;
                let why = error.cause.why();
                let status = replica_set::failed(&plan, before, "FailedCreate", why, now);
                self.write_status(&rs, status).await?;
                let note = Note {
                    warning: true,
                    reason: "FailedCreate",
                    message: error.cause.to_string(),
                };
                tell(&self.client, &rs.object_ref(&()), &note, now).await;
            }
            return Err(error.cause);
        }
        self.write_status(&rs, plan.status).await?;
        Ok(Next::wake(plan.wake_at))
    }
}

/// An action of a batch that failed.
struct Failed {
    is_create: bool,
    cause: Error,
}

impl Controller {
    fn observe(&self, rs: &ReplicaSet, desired: &Desired) -> Observed {
        let namespace = rs.metadata.namespace.as_deref().unwrap_or_default();
        let candidates = self.pods.claimable(namespace, &desired.uid);
        let views = candidates.iter().map(|pod| PodView::from_pod(pod));
        let related = views.filter(|pod| {
            let owner = pod.owner_uid.as_deref();
            claim(&desired.selector, &desired.uid, &pod.labels, owner) != Claim::Foreign
        });
        Observed {
            pods: related.collect(),
            // A long name is cut in the names of its pods.
            taken: self
                .pods
                .names(namespace, desired.name.get(..20).unwrap_or(&desired.name)),
            status: rs.status.clone().unwrap_or_default(),
        }
    }

    async fn apply(&self, rs: &ReplicaSet, desired: &Desired, plan: &Plan) -> Result<(), Failed> {
        for batch in &plan.batches {
            // Each action is carried through to its answer, also when another one fails: what was written must be known.
            let mut calls = Vec::new();
            for action in batch {
                calls.push(self.carry_out(rs, desired, action));
            }
            let answers: Vec<_> = futures::stream::iter(calls)
                .buffered(PARALLEL)
                .collect()
                .await;
            for (action, answer) in batch.iter().zip(answers) {
                answer.map_err(|cause| Failed {
                    is_create: matches!(action, Action::Create(_)),
                    cause,
                })?;
            }
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        rs: &ReplicaSet,
        desired: &Desired,
        action: &Action,
    ) -> Result<(), Error> {
        let namespace = rs.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let written = match action {
            Action::Create(pod) => shell::create(&api, pod).await?,
            Action::Delete { name, uid } => shell::delete(&api, name, uid).await?,
            Action::Adopt { name, .. } => {
                let owner = replica_set::owner(desired);
                let patch = |meta: &ObjectMeta| adoption(meta, &owner);
                self.change_owners(&api, namespace, name, patch).await?
            }
            Action::Release { name, .. } => {
                let patch = |meta: &ObjectMeta| release(meta, &desired.uid);
                self.change_owners(&api, namespace, name, patch).await?
            }
        };
        if let Some(pod) = written {
            self.pods.wrote(&desired.uid, &pod);
        }
        Ok(())
    }

    async fn change_owners(
        &self,
        api: &Api<Pod>,
        namespace: &str,
        name: &str,
        patch: impl Fn(&ObjectMeta) -> Value,
    ) -> Result<Option<Pod>, Error> {
        let Some(pod) = self.pods.get(namespace, name) else {
            return Ok(None);
        };
        shell::merge(api, name, &patch(&pod.metadata))
            .await
            .map(Some)
    }

    async fn write_status(&self, rs: &ReplicaSet, status: ReplicaSetStatus) -> Result<(), Error> {
        if rs.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = rs.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        let changed = ReplicaSet {
            status: Some(status),
            ..rs.clone()
        };
        match shell::write_status(&api, &changed).await {
            Ok(written) => {
                let uid = rs.metadata.uid.as_deref().unwrap_or_default();
                self.replica_sets.wrote(uid, &written);
                Ok(())
            }
            // It is gone, and with it the need for a status.
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }
}
