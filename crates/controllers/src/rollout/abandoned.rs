//! Services and DestinationRules whose Rollout is gone: the hash of its last revision is taken out of their selectors and labels, so
//! that they lead to every pod with their other labels again. It needs no finalizer: one that was missed is found at the next look.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use serin_api::istio::DestinationRule;
use serin_api::keys::{annotation, label};
use serin_api::rollout::Rollout;

use crate::shell::{Cache, Error, Kind, Next, Reconcile, Triggers, edit};

/// The controller of the objects of one kind that Rollouts have set.
#[derive(Clone)]
pub(crate) struct Abandoned<K: Kind> {
    pub(crate) client: Client,
    pub(crate) objects: Cache<K>,
    pub(crate) rollouts: Cache<Rollout>,
}

/// What a Rollout points at its revisions.
pub(crate) trait Pointed: Kind {
    /// For logs.
    const NAME: &'static str;

    /// The paths of the hashes of revisions in it.
    fn hashes(&self) -> Vec<String>;
}

impl Pointed for Service {
    const NAME: &'static str = "abandoned service";

    fn hashes(&self) -> Vec<String> {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        let key = label::ROLLOUT_POD_TEMPLATE_HASH;
        let there = selector.is_some_and(|selector| selector.contains_key(key));
        let path = there.then(|| format!("/spec/selector/{key}"));
        path.into_iter().collect()
    }
}

impl Pointed for DestinationRule {
    const NAME: &'static str = "abandoned destination rule";

    fn hashes(&self) -> Vec<String> {
        let key = label::ROLLOUT_POD_TEMPLATE_HASH;
        let subsets = self.spec.subsets.iter().enumerate();
        let subsets = subsets.filter(|(_, subset)| subset.labels.contains_key(key));
        subsets
            .map(|(at, _)| format!("/spec/subsets/{at}/labels/{key}"))
            .collect()
    }
}

impl<K: Pointed> Reconcile for Abandoned<K> {
    type Object = K;
    const NAME: &'static str = K::NAME;

    async fn reconcile(&self, object: Arc<K>) -> Result<Next, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let key = annotation::MANAGED_BY_ROLLOUTS;
        let Some(owner) = object.annotations().get(key) else {
            return Ok(Next::Change);
        };
        let leaves = object.meta().deletion_timestamp.is_some();
        if leaves || self.rollouts.get(&namespace, owner).is_some() {
            return Ok(Next::Change);
        }
        let annotation = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        let version = json!({"op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version()});
        let paths = object.hashes().into_iter().chain([annotation]);
        let removals = paths.map(|path| json!({"op": "remove", "path": path}));
        let patch: Value = [version].into_iter().chain(removals).collect();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        edit(&api, &object.name_any(), patch).await?;
        Ok(Next::Change)
    }
}

impl<K: Pointed> Abandoned<K> {
    /// A Rollout that goes concerns the objects of its namespace that name it.
    pub(crate) fn triggers(&self) -> Vec<Triggers<K>> {
        let objects = self.objects.clone();
        vec![self.rollouts.triggers(&self.objects, move |rollout| {
            let namespace = rollout.namespace().unwrap_or_default();
            let name = rollout.name_any();
            let all = objects.list(&namespace).into_iter();
            let ours = all.filter(|object| {
                object.annotations().get(annotation::MANAGED_BY_ROLLOUTS) == Some(&name)
            });
            ours.map(|object| ObjectRef::from_obj(&*object)).collect()
        })]
    }
}
