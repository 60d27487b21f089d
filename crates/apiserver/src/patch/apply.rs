//! Who has set which field: server-side apply, and the entries that every other write leaves in `metadata.managedFields`.
//!
//! An apply says everything that its manager wants. A field that it set and leaves out the next time is removed, unless
//! another manager has it too; a field that another manager gave another value is a conflict, unless forced. Any other write
//! makes its manager the owner of what it changes, and of nothing else.

mod owned;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::owned::Owned;
use super::keys::{self, Merge};
use crate::meta;
use crate::resource::Resource;
use crate::tree::Tree;

/// The most entries of managers that do not apply; what the oldest of more have set becomes one entry.
const MOST_UPDATERS: usize = 10;
/// The manager of that entry.
const ANCIENT: &str = "ancient-changes";

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    /// `status`, `scale`, or empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// How a manager writes: each way has an entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn word(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Fields to which another manager gave other values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The manager as a message names it: `"kubectl" using apps/v1 at 2026-01-31T12:00:00Z`.
    pub(crate) manager: String,
    /// Such as `.spec.replicas`.
    pub(crate) fields: Vec<String>,
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
    strip_other_part(kind, manager.subresource, &mut config);
    let fields = Owned::of(kind, &config);
    let mut entries: Vec<Entry> = live.map(Entry::all).unwrap_or_default();
    let mine = entries.iter().position(|e| e.is(manager, Operation::Apply));
    let before = mine.map(|place| entries.remove(place));
    let live = live.cloned().unwrap_or_else(|| json!({}));
    if force {
        for entry in &mut entries {
            entry.fields.drop_unequal(&live, &config, &fields);
        }
    } else {
        let conflicts = entries
            .iter()
            .filter_map(|e| e.conflict(&live, &config, &fields));
        let conflicts: Vec<Conflict> = conflicts.collect();
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
    entries.push(same.unwrap_or_else(|| Entry::new(kind, manager, Operation::Apply, fields, now)));
    write_entries(&mut merged, entries);
    Ok(merged)
}

/// Writes into `new` who owns its fields now, after a write by `manager` that is no apply. `given` are the entries that the
/// write itself brought, if it did: they take the place of those before.
pub(crate) fn track(
    kind: &Resource,
    old: Option<&Value>,
    new: &mut Value,
    given: &Value,
    manager: Manager<'_>,
    now: Timestamp,
) {
    let mut entries = entries_before(old, given);
    let (mut before, mut after) = (old.cloned().unwrap_or_else(|| json!({})), new.clone());
    for object in [&mut before, &mut after] {
        strip_identity(object);
        strip_other_part(kind, manager.subresource, object);
    }
    let changed = Owned::changed(kind, &before, &after);
    let mine = entries
        .iter()
        .position(|e| e.is(manager, Operation::Update));
    let mut own = mine.map(|place| entries.remove(place));
    for entry in &mut entries {
        entry.fields.drop_changed(&changed);
        entry.fields.drop_removed(new);
    }
    let fields = match &mut own {
        Some(own) => {
            let mut fields = own.fields.clone();
            fields.drop_removed(new);
            fields.union(&changed)
        }
        None => changed,
    };
    let same = own.filter(|own| own.fields == fields);
    entries.push(same.unwrap_or_else(|| Entry::new(kind, manager, Operation::Update, fields, now)));
    write_entries(new, bounded(entries));
}

/// The entries before a write: those that it brings, unless it says nothing of them; an empty entry asks to forget all.
fn entries_before(old: Option<&Value>, given: &Value) -> Vec<Entry> {
    let list = given.as_array();
    let reset = list.is_some_and(|list| list.iter().all(|entry| *entry == json!({})));
    match list {
        _ if reset => Vec::new(),
        Some(_) => Entry::all(&json!({"metadata": {"managedFields": given}})),
        None => old.map(Entry::all).unwrap_or_default(),
    }
}

/// Makes one entry of the oldest ones when there are too many.
fn bounded(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut updaters, mut kept): (Vec<Entry>, Vec<Entry>) = entries
        .into_iter()
        .filter(|e| !e.fields.is_empty())
        .partition(|e| e.text("operation") == Operation::Update.word());
    if updaters.len() > MOST_UPDATERS {
        updaters.sort_by(|a, b| a.text("time").cmp(b.text("time")));
        let many = updaters.len() - MOST_UPDATERS + 1;
        let mut old = updaters.drain(..many);
        if let Some(mut ancient) = old.next() {
            for entry in old {
                ancient.fields = ancient.fields.union(&entry.fields);
            }
            ancient.head.insert("manager".into(), ANCIENT.into());
            kept.push(ancient);
        }
    }
    kept.extend(updaters);
    kept
}

/// An apply to the object leaves its status alone, and the other way: what is not written is not owned.
fn strip_other_part(kind: &Resource, subresource: &str, config: &mut Value) {
    let Some(top) = config.as_object_mut().filter(|_| kind.has_status) else {
        return;
    };
    if subresource == "status" {
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

/// One manager of an object, as `metadata.managedFields` has it.
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

    fn new(
        kind: &Resource,
        manager: Manager<'_>,
        operation: Operation,
        fields: Owned,
        now: Timestamp,
    ) -> Self {
        let mut head = Map::new();
        head.insert("manager".into(), manager.name.into());
        head.insert("operation".into(), operation.word().into());
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

    fn is(&self, manager: Manager<'_>, operation: Operation) -> bool {
        self.text("manager") == manager.name
            && self.text("subresource") == manager.subresource
            && self.text("operation") == operation.word()
    }

    fn conflict(&self, live: &Value, config: &Value, fields: &Owned) -> Option<Conflict> {
        let fields = self.fields.unequal(live, config, fields);
        (!fields.is_empty()).then(|| Conflict {
            manager: self.named(),
            fields,
        })
    }

    /// As messages name it: one that applies is known by its name alone.
    fn named(&self) -> String {
        let mut name = format!("{:?}", self.text("manager"));
        let subresource = self.text("subresource");
        if !subresource.is_empty() {
            name.push_str(&format!(" with subresource {subresource:?}"));
        }
        if self.text("operation") == Operation::Update.word() {
            name.push_str(&format!(" using {}", self.text("apiVersion")));
            if !self.text("time").is_empty() {
                name.push_str(&format!(" at {}", self.text("time")));
            }
        }
        name
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
            (_, Value::Object(config)) if keys::is_atomic_map(self.kind, &self.path) => {
                self.merge_map(Map::new(), config)
            }
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
