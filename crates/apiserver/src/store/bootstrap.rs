//! The objects that are always there.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::record::{Draft, Expect, Key, Op, Write};
use super::state::Shared;
use crate::access::{RBAC, roles};
use crate::meta::{self, new_uid, seconds};
use crate::tree::Tree;

const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Writes for those of the objects that are missing, and for roles from which something was taken.
pub(super) fn writes(shared: &Shared) -> Vec<Write> {
    let namespaces = NAMESPACES.map(|name| (Key::new("", "namespaces", "", name), namespace(name)));
    let accounts = NAMESPACES.map(|namespace| {
        let key = Key::new("", "serviceaccounts", namespace, "default");
        (key, service_account(namespace))
    });
    let fresh = namespaces.into_iter().chain(accounts);
    let fresh = fresh.filter(|(key, _)| shared.get(key).is_none());
    let fresh = fresh.map(|(key, object)| new(key, object));
    let roles = roles::defaults().into_iter().filter_map(|role| {
        let plural = if role.at("/kind") == "ClusterRole" {
            "clusterroles"
        } else {
            "clusterrolebindings"
        };
        let key = Key::new(RBAC, plural, "", meta::text(&role, "name"));
        match shared.get(&key) {
            None => Some(new(key, role)),
            Some(present) => roles::mended(&role, &present.value()).map(|mended| Write {
                key,
                expect: Expect::Version(present.rv),
                op: Op::Put(Draft::new(&mended)),
                by: None,
            }),
        }
    });
    fresh.chain(roles).collect()
}

fn new(key: Key, mut object: Value) -> Write {
    let metadata = meta::of_mut(&mut object);
    metadata.insert("uid".into(), new_uid().into());
    metadata.insert("creationTimestamp".into(), seconds(Timestamp::now()).into());
    Write {
        key,
        expect: Expect::Absent,
        op: Op::Put(Draft::new(&object)),
        by: None,
    }
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "generation": 1, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// The account of pods that name none.
fn service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace},
    })
}
