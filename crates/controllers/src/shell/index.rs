//! Who controls which objects of a cache. Without it each look would go through all objects of a kind, and the looks of a fleet
//! through the square of it.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ObjectMeta;
use serin_engine::workload::controller_of;

/// Namespace and name.
pub(super) type Key = (String, String);

/// The objects of a kind by who controls them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Every object, with the uid of its controller; empty for an orphan.
    objects: BTreeMap<Key, String>,
    controlled: BTreeMap<String, BTreeSet<Key>>,
}

impl Index {
    pub(super) fn of<'a>(objects: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        let mut index = Self::default();
        objects.into_iter().for_each(|meta| index.put(meta));
        index
    }

    pub(super) fn put(&mut self, meta: &ObjectMeta) {
        let (key, controller) = (key(meta), controller_of(meta));
        let controller = controller
            .map(|owner| owner.uid.clone())
            .unwrap_or_default();
        let before = self.objects.get(&key);
        if before == Some(&controller) {
            return;
        }
        self.remove(meta);
        let controlled = self.controlled.entry(controller.clone()).or_default();
        controlled.insert(key.clone());
        self.objects.insert(key, controller);
    }

    pub(super) fn remove(&mut self, meta: &ObjectMeta) {
        let key = key(meta);
        let Some(controller) = self.objects.remove(&key) else {
            return;
        };
        if let Some(controlled) = self.controlled.get_mut(&controller) {
            controlled.remove(&key);
            if controlled.is_empty() {
                self.controlled.remove(&controller);
            }
        }
    }

    /// The objects that the owner of this uid controls, by name.
    pub(super) fn controlled_by(&self, uid: &str) -> impl Iterator<Item = &Key> {
        // The empty uid is that of no owner.
        let controlled = self.controlled.get(uid).filter(|_| !uid.is_empty());
        controlled.into_iter().flatten()
    }

    /// The objects of a namespace that nobody controls, by name.
    pub(super) fn orphans(&self, namespace: &str) -> impl Iterator<Item = &Key> {
        let first = (namespace.to_owned(), String::new());
        let all = self.controlled.get("").into_iter();
        all.flat_map(move |orphans| orphans.range(first.clone()..))
            .take_while(move |(of, _)| of == namespace)
    }

    /// The names in a namespace that begin with `prefix`.
    pub(super) fn names(&self, namespace: &str, prefix: &str) -> BTreeSet<String> {
        let first = (namespace.to_owned(), prefix.to_owned());
        let from = self.objects.range(first..);
        from.take_while(|((of, name), _)| of == namespace && name.starts_with(prefix))
            .map(|((_, name), _)| name.clone())
            .collect()
    }
}

fn key(meta: &ObjectMeta) -> Key {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;
    use serde_json::json;

    use super::*;

    fn meta(namespace: &str, name: &str, controller: Option<&str>) -> ObjectMeta {
        let owner = controller.map(|uid| json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true}]));
        let meta = json!({"namespace": namespace, "name": name, "ownerReferences": owner});
        serde_json::from_value(meta).unwrap()
    }

    fn names<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<String> {
        keys.map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect()
    }

    #[test]
    fn objects_are_found_by_who_controls_them() {
        let all = [
            meta("a", "two", Some("x")),
            meta("a", "one", Some("x")),
            meta("b", "one", Some("y")),
            meta("a", "alone", None),
            meta("b", "alone", None),
        ];
        let mut index = Index::of(&all);
        assert_eq!(names(index.controlled_by("x")), ["a/one", "a/two"]);
        assert_eq!(names(index.orphans("a")), ["a/alone"]);
        assert_eq!(names(index.orphans("0")), [""; 0]);
        assert_eq!(names(index.controlled_by("")), [""; 0]);
        // Adopted, given up, gone.
        index.put(&meta("a", "alone", Some("x")));
        index.put(&meta("a", "one", None));
        index.remove(&meta("a", "two", Some("x")));
        index.remove(&meta("a", "never", None));
        assert_eq!(names(index.controlled_by("x")), ["a/alone"]);
        assert_eq!(names(index.orphans("a")), ["a/one"]);
        index.remove(&meta("a", "alone", None));
        assert_eq!(names(index.controlled_by("x")), [""; 0]);
        let left = [all[2].clone(), meta("a", "one", None), all[4].clone()];
        assert_eq!(index, Index::of(&left), "nothing stays of what is gone");
    }

    #[test]
    fn names_are_found_by_how_they_begin() {
        let all = ["web-1", "web-2", "we", "wez", "web"].map(|name| meta("a", name, None));
        let index = Index::of(&all);
        let found: Vec<_> = index.names("a", "web").into_iter().collect();
        assert_eq!(found, ["web", "web-1", "web-2"]);
        assert!(index.names("b", "web").is_empty());
    }
}
