//! What the controllers of workloads have in common: who owns what, and how an owner is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};
use serin_api::FieldPath;
use serin_engine::workload::{PodView, Selector, controller_of};

use crate::shell::{Cache, Kind};

/// The controller of an object, when that is of the kind `K`.
pub(crate) fn owner<K: Kind>(meta: &ObjectMeta) -> Option<ObjectRef<K>> {
    let owner = controller_of(meta)?;
    if owner.kind != K::kind(&()) || owner.api_version != K::api_version(&()) {
        return None;
    }
    Some(ObjectRef::new(&owner.name).within(meta.namespace.as_deref().unwrap_or_default()))
}

/// The objects that a change of `meta` concerns: its controller; for an orphan everyone of its namespace who selects it.
pub(crate) fn concerned<K: Kind>(
    candidates: &Cache<K>,
    selector: impl Fn(&K) -> Option<&LabelSelector>,
    meta: &ObjectMeta,
) -> Vec<ObjectRef<K>> {
    if controller_of(meta).is_some() {
        return owner(meta).into_iter().collect();
    }
    let labels = meta.labels.clone().unwrap_or_default();
    let selects = |object: &Arc<K>| {
        let raw = selector(object)?;
        let selector = Selector::parse(raw, &FieldPath::new("spec")).ok()?;
        (!selector.is_empty() && selector.matches(&labels)).then(|| ObjectRef::from_obj(&**object))
    };
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    candidates
        .list(namespace)
        .iter()
        .filter_map(selects)
        .collect()
}

/// The pods that ReplicaSets of these uids control.
pub(crate) fn pods_of(pods: &Cache<Pod>, owners: &BTreeSet<&str>) -> Vec<PodView> {
    let own = owners.iter().flat_map(|uid| pods.controlled_by(uid));
    own.map(|pod| PodView::from_pod(&pod)).collect()
}

/// The patch that makes `owner` the controller of an object, if that is still as it was seen.
pub(crate) fn adoption(meta: &ObjectMeta, owner: &OwnerReference) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|other| other.uid != owner.uid);
    owners.push(owner.clone());
    owners_patch(meta, &owners)
}

/// The patch that leaves an object without the owner of this uid, if it is still as it was seen.
pub(crate) fn release(meta: &ObjectMeta, owner_uid: &str) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|other| other.uid != owner_uid);
    owners_patch(meta, &owners)
}

fn owners_patch(meta: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": owners,
    }})
}

/// The selector of a ReplicaSet.
pub(crate) fn selector_of(rs: &ReplicaSet) -> Option<&LabelSelector> {
    rs.spec.as_ref().map(|spec| &spec.selector)
}
