//! One object as the store keeps it: JSON bytes and the few facts that are looked up without parsing them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::disk::Signature;
use crate::tree::Tree;
use bytes::Bytes;
use serde_json::{Map, Value};

/// `group/plural/namespace/name`; the group is empty for core kinds, the namespace for objects of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(Arc<str>);

impl Key {
    pub(crate) fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{group}/{plural}/{namespace}/{name}").into())
    }

    /// A key from its text; `None` unless it has four parts and a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [_, plural, _, name] = parts.as_slice() else {
            return None;
        };
        (!plural.is_empty() && !name.is_empty()).then(|| Self(text.into()))
    }

    pub(crate) fn group(&self) -> &str {
        self.part(0)
    }

    pub(crate) fn plural(&self) -> &str {
        self.part(1)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.part(2)
    }

    pub(crate) fn name(&self) -> &str {
        self.part(3)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The start that it has in common with all keys of its kind.
    pub(super) fn kind(&self) -> &str {
        kind_of(&self.0).unwrap_or_default()
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The start of the keys of all objects of a kind, in one namespace or (with `None`) in all.
pub(crate) fn prefix(group: &str, plural: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{group}/{plural}/{namespace}/"),
        None => format!("{group}/{plural}/"),
    }
}

/// The part of a prefix that all keys of a kind have; `None` when it stands for more than one kind.
pub(super) fn kind_of(prefix: &str) -> Option<&str> {
    let (end, _) = prefix.match_indices('/').nth(1)?;
    prefix.get(..=end)
}

/// What is known of an object without parsing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) uid: Box<str>,
    /// Sorted by key.
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// The uids of the owners.
    pub(crate) owners: Box<[Box<str>]>,
    /// Whether it has a deletionTimestamp.
    pub(crate) deleting: bool,
}

impl Facts {
    pub(super) fn of(object: &Value) -> Self {
        let meta = object.at("/metadata");
        let mut labels: Vec<(Box<str>, Box<str>)> = meta
            .at("/labels")
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())))
            .collect();
        labels.sort();
        let owners = meta.at("/ownerReferences").as_array().into_iter().flatten();
        Self {
            uid: meta.at("/uid").as_str().unwrap_or_default().into(),
            labels: labels.into(),
            owners: owners
                .filter_map(|o| Some(o.at("/uid").as_str()?.into()))
                .collect(),
            deleting: meta.at("/deletionTimestamp").is_string(),
        }
    }
}

/// One state of an object, with its resource version in the JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) rv: u64,
    pub(crate) json: Bytes,
    pub(crate) facts: Facts,
}

impl Record {
    /// The record of a row of the state file.
    pub(super) fn parse(key: &str, rv: u64, json: Vec<u8>) -> Result<Self, String> {
        let key = Key::parse(key).ok_or("the key is not group/plural/namespace/name")?;
        let object: Value = serde_json::from_slice(&json).map_err(|e| format!("not JSON: {e}"))?;
        let meta = object.at("/metadata");
        if meta.at("/name").as_str() != Some(key.name())
            || meta.at("/namespace").as_str().unwrap_or_default() != key.namespace()
        {
            return Err("the object has another name than its key".into());
        }
        if meta.at("/resourceVersion").as_str() != Some(rv.to_string().as_str()) {
            return Err("the object has another resource version than its row".into());
        }
        let facts = Facts::of(&object);
        Ok(Self {
            key,
            rv,
            json: json.into(),
            facts,
        })
    }

    /// The object as a tree. Bytes in the store were made from a tree, so they parse; `Null` stands for the impossible.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// An object to be written: all but its resource version, for which the writer has left a gap.
#[derive(Debug)]
pub(crate) struct Draft {
    facts: Facts,
    head: String,
    tail: String,
}

impl Draft {
    pub(crate) fn new(object: &Value) -> Self {
        let empty = Map::new();
        let fields = object.as_object().unwrap_or(&empty);
        let mut head = String::from("{");
        for name in ["apiVersion", "kind"] {
            if let Some(value) = fields.get(name) {
                head.push_str(&format!("\"{name}\":{value},"));
            }
        }
        head.push_str("\"metadata\":{\"resourceVersion\":\"");
        let mut tail = String::from("\"");
        for (name, value) in fields
            .get("metadata")
            .and_then(Value::as_object)
            .unwrap_or(&empty)
        {
            if name != "resourceVersion" {
                push_member(&mut tail, name, value);
            }
        }
        tail.push('}');
        for (name, value) in fields {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                push_member(&mut tail, name, value);
            }
        }
        tail.push('}');
        Self {
            facts: Facts::of(object),
            head,
            tail,
        }
    }

    pub(crate) fn seal(self, key: Key, rv: u64) -> Record {
        let json = format!("{}{rv}{}", self.head, self.tail);
        Record {
            key,
            rv,
            json: json.into(),
            facts: self.facts,
        }
    }
}

fn push_member(text: &mut String, name: &str, value: &Value) {
    text.push_str(&format!(",{}:{value}", Value::from(name)));
}

/// What must be true of the object for a write to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It does not exist.
    Absent,
    /// It is at this resource version.
    Version(u64),
}

/// The change itself, with the state of the object after it (`Remove`: its last one).
#[derive(Debug)]
pub(crate) enum Op {
    Put(Draft),
    Remove(Draft),
}

/// One write.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    pub(crate) op: Op,
    /// For the history; `None` leaves it out.
    pub(crate) by: Option<Box<Signature>>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One committed write.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    /// The object after the change; when deleted, its last state with the version of the deletion.
    pub(crate) record: Arc<Record>,
    /// The object before; `None` when added, or when the change was read back from the state file and nobody knows.
    pub(crate) previous: Option<Arc<Record>>,
    /// Who did it, where the history wants to know.
    pub(crate) by: Option<Box<Signature>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn draft_leaves_only_the_version_open() {
        let object = json!({
            "spec": {"a": [1, "x\"y"]}, "kind": "K", "apiVersion": "v1",
            "metadata": {"name": "n", "resourceVersion": "77", "labels": {"b": "2", "a": "1"}, "uid": "u",
                "ownerReferences": [{"uid": "o"}]}
        });
        let record = Draft::new(&object).seal(Key::new("", "ks", "", "n"), 5);
        let mut want = object.clone();
        want["metadata"]["resourceVersion"] = json!("5");
        assert_eq!(record.value(), want);
        assert_eq!(&*record.facts.labels[0].0, "a");
        assert_eq!(&*record.facts.owners[0], "o");
        let again = Record::parse("/ks//n", 5, record.json.to_vec()).unwrap();
        assert_eq!(again, record);
    }

    #[test]
    fn keys_have_four_parts() {
        let key = Key::new("apps", "deployments", "default", "web");
        assert_eq!(Key::parse(key.as_str()).as_ref(), Some(&key));
        assert_eq!(
            (key.group(), key.plural(), key.namespace(), key.name()),
            ("apps", "deployments", "default", "web")
        );
        assert_eq!(Key::parse("apps/deployments/web"), None);
        assert_eq!(Key::parse("apps/deployments/default/"), None);
    }
}
