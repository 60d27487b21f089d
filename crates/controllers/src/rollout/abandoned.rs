//! Objects of users whose Rollout is gone. What it has set in them is taken out: the hash of its last revision, so that Services and
//! subsets lead to every pod with their other labels again, and its splits. It needs no finalizer: one that was missed is found at
//! the next look.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use serin_api::istio::DestinationRule;
use serin_api::keys::{annotation, label};
use serin_api::rollout::Rollout;

use crate::shell::{Cache, Error, Kind, Next, Reconcile, Triggers, edit};

/// An object of users that a Rollout steers.
pub(crate) trait Steered: Kind {
    /// For logs.
    const NAME: &'static str;

    /// The Rollout of its namespace that it is steered by.
    fn steered_by(&self) -> Option<String>;

    /// A JSON Patch towards what it is without that Rollout; `None` while that has to wait for the gateway. `acknowledged` says
    /// whether there is one to wait for.
    fn given_back(&self, acknowledged: bool) -> Option<Value>;
}

/// The controller of the objects of one kind that Rollouts steer.
#[derive(Clone)]
pub(crate) struct Abandoned<K: Kind> {
    pub(crate) client: Client,
    /// Whether our gateway is there to acknowledge what is set.
    pub(crate) acknowledged: bool,
    pub(crate) objects: Cache<K>,
    pub(crate) rollouts: Cache<Rollout>,
}

impl<K: Steered> Reconcile for Abandoned<K> {
    type Object = K;
    const NAME: &'static str = K::NAME;

    async fn reconcile(&self, object: Arc<K>) -> Result<Next, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let Some(rollout) = object.steered_by() else {
            return Ok(Next::Change);
        };
        let leaves = object.meta().deletion_timestamp.is_some();
        if leaves || self.rollouts.get(&namespace, &rollout).is_some() {
            return Ok(Next::Change);
        }
        if let Some(patch) = object.given_back(self.acknowledged) {
            let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
            edit(&api, &object.name_any(), patch).await?;
        }
        Ok(Next::Change)
    }
}

impl<K: Steered> Abandoned<K> {
    /// A Rollout that has gone concerns the objects of its namespace that it steered.
    pub(crate) fn triggers(&self) -> Vec<Triggers<K>> {
        let objects = self.objects.clone();
        let steered = move |namespace: &str, rollout: &String| {
            let ours = objects.select(namespace, |o: &K| o.steered_by().as_ref() == Some(rollout));
            ours.iter().map(|o| ObjectRef::from_obj(&**o)).collect()
        };
        vec![ended(&self.rollouts, &self.objects, steered)]
    }
}

/// The objects of `main` that the end of a Rollout concerns. It is there until it is deleted whole: the finalizers of others may
/// hold it, and until then it steers.
pub(super) fn ended<M: Kind>(
    rollouts: &Cache<Rollout>,
    main: &Cache<M>,
    concerned: impl Fn(&str, &String) -> Vec<ObjectRef<M>> + Send + 'static,
) -> Triggers<M> {
    rollouts.ends(
        main,
        |rollout: &Rollout| rollout.metadata.name.clone(),
        concerned,
    )
}

/// A JSON Patch that removes these, if the object is as it was seen.
pub(super) fn removal<K: Resource>(object: &K, paths: impl IntoIterator<Item = String>) -> Value {
    let version = json!({"op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version()});
    let removals = paths
        .into_iter()
        .map(|path| json!({"op": "remove", "path": path}));
    [version].into_iter().chain(removals).collect()
}

/// Where an annotation stands.
pub(super) fn annotation_path(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('/', "~1"))
}

/// By whom an object that leads to pods, or to a canary, is pointed there.
pub(super) fn pointed_by<K: Resource>(object: &K) -> Option<String> {
    let annotations = object.annotations();
    annotations.get(annotation::MANAGED_BY_ROLLOUTS).cloned()
}

/// Takes the hashes of revisions out of it, which stand at `paths`, and whose they were.
fn unpointed<K: Resource>(object: &K, paths: impl Iterator<Item = String>) -> Value {
    removal(
        object,
        paths.chain([annotation_path(annotation::MANAGED_BY_ROLLOUTS)]),
    )
}

impl Steered for Service {
    const NAME: &'static str = "abandoned service";

    fn steered_by(&self) -> Option<String> {
        pointed_by(self)
    }

    fn given_back(&self, _acknowledged: bool) -> Option<Value> {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        let key = label::ROLLOUT_POD_TEMPLATE_HASH;
        let there = selector.is_some_and(|selector| selector.contains_key(key));
        let path = there.then(|| format!("/spec/selector/{key}"));
        Some(unpointed(self, path.into_iter()))
    }
}

impl Steered for DestinationRule {
    const NAME: &'static str = "abandoned destination rule";

    fn steered_by(&self) -> Option<String> {
        pointed_by(self)
    }

    fn given_back(&self, _acknowledged: bool) -> Option<Value> {
        let key = label::ROLLOUT_POD_TEMPLATE_HASH;
        let subsets = self.spec.subsets.iter().enumerate();
        let pointed = subsets.filter(|(_, subset)| subset.labels.contains_key(key));
        let paths = pointed.map(|(at, _)| format!("/spec/subsets/{at}/labels/{key}"));
        Some(unpointed(self, paths))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::select_all;
    use jiff::Timestamp;
    use kube::api::{DeleteParams, PostParams};
    use serin_apiserver::{ApiServer, Store};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::Clock;
    use crate::shell::{Hub, merge};
    use crate::waiting::soon;

    async fn create<K: Kind + serde::Serialize>(client: &Client, object: Value) {
        let api: Api<K> = Api::default_namespaced(client.clone());
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Looks at others for each change of a Rollout would cost a fleet the square of its size.
    #[tokio::test(start_paused = true)]
    async fn a_rollout_that_lives_on_asks_for_no_look() {
        let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
        for name in ["first", "second"] {
            let labels = json!({"app": name});
            let spec = json!({
                "selector": {"matchLabels": labels}, "strategy": {"canary": {}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}},
            });
            let rollout = json!({"metadata": {"name": name}, "spec": spec});
            create::<Rollout>(&client, rollout).await;
            let annotations = json!({annotation::MANAGED_BY_ROLLOUTS: name});
            let metadata = json!({"name": name, "annotations": annotations});
            let spec = json!({"ports": [{"port": 80}]});
            create::<Service>(&client, json!({"metadata": metadata, "spec": spec})).await;
        }
        let (clock, shutdown) = (
            Clock::starting_at(Timestamp::UNIX_EPOCH),
            CancellationToken::new(),
        );
        let mut hub = Hub::new(client.clone(), clock, None, 1, shutdown.clone());
        let abandoned = Abandoned::<Service> {
            client: client.clone(),
            acknowledged: false,
            objects: hub.watch(),
            rollouts: hub.watch(),
        };
        for listed in [abandoned.objects.listed(), abandoned.rollouts.listed()] {
            soon("a list", listed.cancelled()).await;
        }
        let mut looks = select_all(abandoned.triggers());
        let rollouts: Api<Rollout> = Api::default_namespaced(client);
        for replicas in 1..=5 {
            let change = json!({"spec": {"replicas": replicas}});
            merge(&rollouts, "first", &change).await.unwrap();
        }
        for gone in ["second", "first"] {
            let params = DeleteParams::default();
            rollouts.delete(gone, &params).await.unwrap();
        }
        for expected in ["second", "first"] {
            let what = format!("a look at {expected}");
            let look = soon(&what, looks.next()).await;
            assert_eq!(look.unwrap().name, expected);
        }
        shutdown.cancel();
        soon("the end of the hub", hub.join()).await;
    }
}
