//! The controller of PodDisruptionBudgets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use serin_engine::disruption::{self, Desired, Observed};
use serin_engine::workload::{PodView, count};

use crate::clock::Clock;
use crate::shell::{self, Cache, Error, ErrorKind, Hub, Next, Reconcile};

pub(crate) fn start(hub: &mut Hub, replica_sets: &Cache<ReplicaSet>, pods: &Cache<Pod>) {
    let budgets = hub.watch();
    let controller = Controller {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        budgets: budgets.clone(),
        replica_sets: replica_sets.clone(),
        pods: pods.clone(),
    };
    let (main, pods) = (budgets.clone(), pods.clone());
    hub.run(controller, &budgets, move || {
        let candidates = main.clone();
        vec![pods.triggers(&main, move |pod| concerned(&candidates, pod))]
    });
}

/// The budgets that a pod falls under.
fn concerned(
    budgets: &Cache<PodDisruptionBudget>,
    pod: &Pod,
) -> Vec<ObjectRef<PodDisruptionBudget>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let takes = |budget: &Arc<PodDisruptionBudget>| {
        let selector = disruption::lower(budget).ok()?.selector?;
        selector
            .matches(&labels)
            .then(|| ObjectRef::from_obj(&**budget))
    };
    budgets.list(namespace).iter().filter_map(takes).collect()
}

struct Controller {
    client: Client,
    clock: Clock,
    budgets: Cache<PodDisruptionBudget>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
}

impl Reconcile for Controller {
    type Object = PodDisruptionBudget;
    const NAME: &'static str = "disruption";

    async fn reconcile(&self, budget: Arc<PodDisruptionBudget>) -> Result<Next, Error> {
        let uid = budget.metadata.uid.as_deref().unwrap_or_default();
        if !self.budgets.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        // What is wrong with a selector was said when it was written.
        let Ok(desired) = disruption::lower(&budget) else {
            return Ok(Next::Change);
        };
        let observed = self.observe(&budget, &desired);
        let plan = disruption::plan(&desired, &observed, self.clock.now());
        if budget.status.as_ref() != Some(&plan.status) {
            let changed = PodDisruptionBudget {
                status: Some(plan.status),
                ..(*budget).clone()
            };
            self.write_status(&changed).await?;
        }
        Ok(Next::wake(plan.wake_at))
    }
}

impl Controller {
    fn observe(&self, budget: &PodDisruptionBudget, desired: &Desired) -> Observed {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let no_labels = BTreeMap::new();
        let selected = self.pods.select(namespace, |pod| {
            let selector = desired.selector.as_ref();
            let labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
            selector.is_some_and(|selector| selector.matches(labels))
        });
        let pods: Vec<_> = selected.iter().map(|pod| PodView::from_pod(pod)).collect();
        let owners: BTreeSet<&str> = pods.iter().filter_map(|p| p.owner_uid.as_deref()).collect();
        let alone = pods.iter().filter(|pod| pod.owner_uid.is_none()).count();
        let replica_sets = self.replica_sets.list(namespace);
        let wanted = replica_sets
            .iter()
            .filter(|rs| {
                rs.metadata
                    .uid
                    .as_deref()
                    .is_some_and(|uid| owners.contains(uid))
            })
            .map(|rs| rs.spec.as_ref().and_then(|s| s.replicas).map_or(1, count));
        Observed {
            expected: wanted.fold(
                u32::try_from(alone).unwrap_or(u32::MAX),
                u32::saturating_add,
            ),
            pods,
            status: budget.status.clone(),
        }
    }

    async fn write_status(&self, budget: &PodDisruptionBudget) -> Result<(), Error> {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        match shell::write_status(&api, budget).await {
            Ok(written) => {
                let uid = budget.metadata.uid.as_deref().unwrap_or_default();
                self.budgets.wrote(uid, &written);
                Ok(())
            }
            // It is gone, and with it the need for a status.
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }
}
