//! Server-side apply: merges a configuration into an object, and remembers which applier set which field.
//!
//! A field that an applier set and leaves out the next time is removed, unless another applier set it too. A field with
//! another applier's value is a conflict, unless forced. A write that is no apply takes what it changes out of the
//! appliers' hands. Absent on purpose: entries for managers that do not apply; an apply takes their fields over unasked.

mod owned;

use crate::resource::Resource;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::owned::Owned;
use super::keys::{self, Merge};
use crate::meta;
use crate::tree::Tree;

/// Who applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    /// `status`, or empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// A field to which another applier gave another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: String,
    /// Such as `.spec.replicas`.
    pub(crate) field: String,
}

/// The object after `config` was applied to `live` (`None`: it does not exist yet).
pub(crate) fn apply(
    kind: &Resource,
    live: Option<&Value>,
    config: &Value,
    manager: Manager<'_>,
    force: bool,
    now: Timestamp,
) -> Result<Value, Vec<Conflict>> {
    let mut config = config.clone();
    strip_identity(&mut config);
    strip_other_part(kind, manager, &mut config);
    let fields = Owned::of(kind, &config);
    let mut entries: Vec<Entry> = live.map(Entry::all).unwrap_or_default();
    let mine = entries.iter().position(|e| e.is(manager));
    let before = mine.map(|place| entries.remove(place));
    let live = live.cloned().unwrap_or_else(|| json!({}));
    if force {
        for entry in &mut entries {
            entry.fields.drop_unequal(&live, &config, &fields);
        }
    } else {
        let conflicts: Vec<Conflict> = entries
            .iter()
            .flat_map(|e| e.conflicts(&live, &config, &fields))
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    let mut merged = Walk::new(kind).merge(Some(live), &config);
    if let Some(before) = &before {
        let kept = entries
            .iter()
            .fold(fields.clone(), |all, e| all.union(&e.fields));
        before.fields.minus(&kept).remove_from(&mut merged);
    }
    let same = before.filter(|b| b.fields == fields);
    entries.push(same.unwrap_or_else(|| Entry::new(kind, manager, fields, now)));
    write_entries(&mut merged, entries);
    Ok(merged)
}

/// Takes out of the appliers' hands what a write that is no apply has changed.
pub(crate) fn release(old: &Value, new: &mut Value) {
    let mut entries = Entry::all(old);
    for entry in &mut entries {
        entry.fields.drop_changed(old, new);
    }
    write_entries(new, entries);
}

/// An apply to the object leaves its status alone, and the other way: what is not written is not owned.
fn strip_other_part(kind: &Resource, manager: Manager<'_>, config: &mut Value) {
    let Some(top) = config.as_object_mut().filter(|_| kind.has_status) else {
        return;
    };
    if manager.subresource == "status" {
        top.retain(|name, _| name == "status");
    } else {
        top.remove("status");
    }
}

/// What says which object it is, or belongs to the server, is nobody's to own.
fn strip_identity(config: &mut Value) {
    if let Some(top) = config.as_object_mut() {
        top.remove("apiVersion");
        top.remove("kind");
    }
    let server_side = [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let metadata = meta::of_mut(config);
    metadata.retain(|name, _| !server_side.contains(&name.as_str()));
    if metadata.is_empty()
        && let Some(top) = config.as_object_mut()
    {
        top.remove("metadata");
    }
}

/// One applier of an object, as `metadata.managedFields` has it.
struct Entry {
    fields: Owned,
    /// All but the fields.
    head: Map<String, Value>,
}

impl Entry {
    fn all(object: &Value) -> Vec<Self> {
        let list = object.at("/metadata/managedFields").as_array();
        let entries = list.into_iter().flatten().filter_map(Value::as_object);
        entries
            .map(|entry| {
                let mut head = entry.clone();
                let fields = Owned::parse(&head.remove("fieldsV1").unwrap_or_default());
                Self { fields, head }
            })
            .collect()
    }

    fn new(kind: &Resource, manager: Manager<'_>, fields: Owned, now: Timestamp) -> Self {
        let mut head = Map::new();
        head.insert("manager".into(), manager.name.into());
        head.insert("operation".into(), "Apply".into());
        head.insert("apiVersion".into(), kind.api_version().into());
        head.insert("time".into(), meta::seconds(now).into());
        head.insert("fieldsType".into(), "FieldsV1".into());
        if !manager.subresource.is_empty() {
            head.insert("subresource".into(), manager.subresource.into());
        }
        Self { fields, head }
    }

    fn text(&self, name: &str) -> &str {
        self.head
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn is(&self, manager: Manager<'_>) -> bool {
        self.text("manager") == manager.name && self.text("subresource") == manager.subresource
    }

    fn conflicts(&self, live: &Value, config: &Value, fields: &Owned) -> Vec<Conflict> {
        let unequal = self.fields.unequal(live, config, fields);
        let conflict = |field| Conflict {
            manager: self.text("manager").to_owned(),
            field,
        };
        unequal.into_iter().map(conflict).collect()
    }
}

fn write_entries(object: &mut Value, entries: Vec<Entry>) {
    let kept = entries.into_iter().filter(|e| !e.fields.is_empty());
    let list: Vec<Value> = kept
        .map(|mut e| {
            e.head.insert("fieldsV1".into(), e.fields.json());
            Value::Object(e.head)
        })
        .collect();
    let metadata = meta::of_mut(object);
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), list.into());
    }
}

/// Where the merge is: field names from the root.
struct Walk<'a> {
    kind: &'a Resource,
    path: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(kind: &'a Resource) -> Self {
        Self {
            kind,
            path: Vec::new(),
        }
    }

    fn merge(&mut self, live: Option<Value>, config: &Value) -> Value {
        match (live, config) {
            (Some(Value::Object(live)), Value::Object(config)) => self.merge_map(live, config),
            (_, Value::Object(config)) => self.merge_map(Map::new(), config),
            (Some(Value::Array(live)), Value::Array(config)) => self.merge_list(live, config),
            (_, Value::Array(config)) => self.merge_list(Vec::new(), config),
            (_, config) => config.clone(),
        }
    }

    fn merge_map(&mut self, mut live: Map<String, Value>, config: &Map<String, Value>) -> Value {
        for (name, value) in config.iter().filter(|(_, v)| !v.is_null()) {
            self.path.push(name.clone());
            let merged = self.merge(live.remove(name), value);
            self.path.pop();
            live.insert(name.clone(), merged);
        }
        Value::Object(live)
    }

    fn merge_list(&mut self, mut live: Vec<Value>, config: &[Value]) -> Value {
        match keys::apply(self.kind, &self.path) {
            Merge::Atomic => return Value::Array(config.to_vec()),
            Merge::Set => {
                for item in config {
                    if !live.contains(item) {
                        live.push(item.clone());
                    }
                }
            }
            Merge::By(keys) => {
                for item in config {
                    let wanted = owned::element_key(item, &keys);
                    match live
                        .iter_mut()
                        .find(|l| owned::element_key(l, &keys) == wanted)
                    {
                        Some(slot) => *slot = self.merge(Some(slot.take()), item),
                        None => live.push(self.merge(None, item)),
                    }
                }
            }
        }
        Value::Array(live)
    }
}

#[cfg(test)]
mod tests;
