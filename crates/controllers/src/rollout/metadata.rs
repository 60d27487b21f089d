//! Labels and annotations that pods have only while their revision plays a part. An annotation of the ReplicaSet tells them,
//! so that they never count as a change of the template.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};
use serin_api::keys::annotation;
use serin_api::rollout::{PodMetadata, Rollout};
use serin_api::units::RevisionHash;

use super::{Rollouts, uid};
use crate::shell::{Error, ErrorKind, merge};

impl Rollouts {
    /// What is set for a time on the template and on all pods of a ReplicaSet; `None` when they differ.
    pub(super) fn metadata_of(&self, set: &ReplicaSet) -> Option<PodMetadata> {
        if ending(set) != PodMetadata::default() {
            return None;
        }
        let told = told(set);
        if told == PodMetadata::default() {
            return Some(told);
        }
        let pods = self.pods_of_set(set);
        let all = pods.iter().all(|pod| carries(&**pod, &told));
        all.then_some(told)
    }

    fn pods_of_set(&self, set: &ReplicaSet) -> Vec<std::sync::Arc<Pod>> {
        let uid = set.uid().unwrap_or_default();
        let mut pods = self.pods.controlled_by(&uid);
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Sets them on the template first, so that no new pod comes without, then on the pods that are there. What the pods have to
    /// lose is remembered until they have: nothing else would tell whoever goes on after a kill.
    pub(super) async fn set_metadata(
        &self,
        rollout: &Rollout,
        revision: &RevisionHash,
        metadata: &PodMetadata,
    ) -> Result<(), Error> {
        let Some(set) = self.set_of(rollout, revision) else {
            return Ok(());
        };
        let mut before = ending(&set);
        let told = told(&set);
        before.labels.extend(told.labels);
        before.annotations.extend(told.annotations);
        let change = change(&before, metadata);
        let ending = text(&without(before, metadata));
        let annotations = json!({
            annotation::EPHEMERAL_METADATA: text(metadata),
            annotation::ENDING_METADATA: ending,
        });
        let patch = json!({
            "metadata": {"annotations": annotations},
            "spec": {"template": {"metadata": change}},
        });
        let api = self.api::<ReplicaSet>(rollout);
        let changed = merge(&api, &set.name_any(), &patch).await?;
        self.replica_sets.wrote(&uid(rollout), &changed);
        for pod in self.pods_of_set(&set) {
            let patch = json!({"metadata": change});
            match merge(&self.api::<Pod>(rollout), &pod.name_any(), &patch).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Missing => {}
                Err(error) => return Err(error),
            }
        }
        if ending.is_some() {
            let patch = json!({"metadata": {"annotations": {annotation::ENDING_METADATA: null}}});
            let changed = merge(&api, &set.name_any(), &patch).await?;
            self.replica_sets.wrote(&uid(rollout), &changed);
        }
        Ok(())
    }
}

/// The template as it was written: without what is only set for a time.
pub(super) fn strip(template: &mut PodTemplateSpec, set: &ReplicaSet) {
    let told = told(set);
    let Some(metadata) = &mut template.metadata else {
        return;
    };
    for (own, theirs) in [
        (&mut metadata.labels, &told.labels),
        (&mut metadata.annotations, &told.annotations),
    ] {
        if let Some(own) = own {
            own.retain(|key, _| !theirs.contains_key(key));
        }
    }
}

/// What its template has for a time.
fn told(set: &ReplicaSet) -> PodMetadata {
    metadata_in(set, annotation::EPHEMERAL_METADATA)
}

/// What its pods had for a time and have still to lose.
fn ending(set: &ReplicaSet) -> PodMetadata {
    metadata_in(set, annotation::ENDING_METADATA)
}

fn metadata_in(set: &ReplicaSet, key: &str) -> PodMetadata {
    let text = set.annotations().get(key);
    let metadata = text.and_then(|text| serde_json::from_str(text).ok());
    metadata.unwrap_or_default()
}

/// As it stands in an annotation; `None` for nothing at all.
fn text(metadata: &PodMetadata) -> Option<String> {
    let is_empty = *metadata == PodMetadata::default();
    (!is_empty).then(|| serde_json::to_string(metadata).unwrap_or_default())
}

/// What of `before` is not in `after`, whatever its value.
fn without(mut before: PodMetadata, after: &PodMetadata) -> PodMetadata {
    before
        .labels
        .retain(|key, _| !after.labels.contains_key(key));
    let annotations = &after.annotations;
    before
        .annotations
        .retain(|key, _| !annotations.contains_key(key));
    before
}

fn carries<K: Resource>(object: &K, metadata: &PodMetadata) -> bool {
    let labels = metadata.labels.iter();
    let annotations = metadata.annotations.iter();
    labels
        .into_iter()
        .all(|(key, value)| object.labels().get(key) == Some(value))
        && annotations
            .into_iter()
            .all(|(key, value)| object.annotations().get(key) == Some(value))
}

/// A merge patch from one set of labels and annotations to another.
fn change(before: &PodMetadata, after: &PodMetadata) -> Value {
    let one = |before: &std::collections::BTreeMap<String, String>,
               after: &std::collections::BTreeMap<String, String>| {
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        let gone = gone.map(|key| (key.clone(), Value::Null));
        let set = after.iter().map(|(key, value)| (key.clone(), json!(value)));
        gone.chain(set).collect::<Map<_, _>>()
    };
    json!({
        "labels": one(&before.labels, &after.labels),
        "annotations": one(&before.annotations, &after.annotations),
    })
}
