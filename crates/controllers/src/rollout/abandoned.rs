//! Services whose Rollout is gone: the hash of its last revision is taken out of their selectors, so that they lead to every
//! pod with their other labels again. It needs no finalizer: a Service that was missed is found at the next look.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use serin_api::keys::{annotation, label};
use serin_api::rollout::Rollout;

use crate::shell::{Cache, Error, Next, Reconcile, Triggers, merge};

/// The controller of Services that a Rollout has set.
#[derive(Clone)]
pub(crate) struct Abandoned {
    pub(crate) client: Client,
    pub(crate) services: Cache<Service>,
    pub(crate) rollouts: Cache<Rollout>,
}

impl Reconcile for Abandoned {
    type Object = Service;
    const NAME: &'static str = "abandoned service";

    async fn reconcile(&self, service: Arc<Service>) -> Result<Next, Error> {
        let namespace = service.namespace().unwrap_or_default();
        let owner = service.annotations().get(annotation::MANAGED_BY_ROLLOUTS);
        let Some(owner) = owner else {
            return Ok(Next::Change);
        };
        let leaves = service.metadata.deletion_timestamp.is_some();
        if leaves || self.rollouts.get(&namespace, owner).is_some() {
            return Ok(Next::Change);
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": service.resource_version(),
                "annotations": {annotation::MANAGED_BY_ROLLOUTS: null},
            },
            "spec": {"selector": {label::ROLLOUT_POD_TEMPLATE_HASH: null}},
        });
        let api: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
        merge(&api, &service.name_any(), &patch).await?;
        Ok(Next::Change)
    }
}

impl Abandoned {
    /// A Rollout that goes concerns the Services of its namespace that name it.
    pub(crate) fn triggers(&self) -> Vec<Triggers<Service>> {
        let services = self.services.clone();
        vec![self.rollouts.triggers(&self.services, move |rollout| {
            let namespace = rollout.namespace().unwrap_or_default();
            let name = rollout.name_any();
            let all = services.list(&namespace).into_iter();
            let ours = all.filter(|service| {
                service.annotations().get(annotation::MANAGED_BY_ROLLOUTS) == Some(&name)
            });
            ours.map(|service| ObjectRef::from_obj(&*service)).collect()
        })]
    }
}
