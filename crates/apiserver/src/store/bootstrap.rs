//! The objects that are always there.

use jiff::Timestamp;
use serde_json::json;

use super::record::{Draft, Expect, Key, Op, Write};
use super::state::Shared;
use crate::meta::{new_uid, seconds};

const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Writes for those of the objects that are missing.
pub(super) fn writes(shared: &Shared) -> Vec<Write> {
    let now = seconds(Timestamp::now());
    let namespaces = NAMESPACES.map(|name| (Key::new("", "namespaces", "", name), name));
    let missing = namespaces
        .into_iter()
        .filter(|(key, _)| shared.get(key).is_none());
    let write = |(key, name): (Key, &str)| {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name, "uid": new_uid(), "creationTimestamp": now, "generation": 1,
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        Write {
            key,
            expect: Expect::Absent,
            op: Op::Put(Draft::new(&object)),
        }
    };
    missing.map(write).collect()
}
