//! Sets of fields, in the form that Kubernetes calls `FieldsV1`: `f:` a field, `k:` a list element by its key, `v:` a value
//! of a set, `.` the element itself.

use std::collections::BTreeMap;

use crate::resource::Resource;
use serde_json::{Map, Value, json};

use crate::patch::keys::{self, Merge};

/// A set of fields as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    /// Whether the place itself is in the set.
    here: bool,
    below: BTreeMap<String, Owned>,
}

impl Owned {
    /// The fields that a configuration sets.
    pub(super) fn of(kind: &Resource, config: &Value) -> Self {
        let mut path = Vec::new();
        match config {
            Value::Object(_) => of_value(kind, &mut path, config),
            _ => Self::default(),
        }
    }

    /// The fields of `new` that `old` does not have, or has with other values.
    pub(super) fn changed(kind: &Resource, old: &Value, new: &Value) -> Self {
        changed(kind, &mut Vec::new(), Some(old), new).unwrap_or_default()
    }

    pub(super) fn parse(fields: &Value) -> Self {
        let map = fields.as_object().into_iter().flatten();
        let mut owned = Self::default();
        for (name, value) in map {
            if name == "." {
                owned.here = true;
            } else {
                owned.below.insert(name.clone(), Self::parse(value));
            }
        }
        // A leaf is written as an empty map.
        owned.here |= owned.below.is_empty();
        owned
    }

    pub(super) fn json(&self) -> Value {
        let mut map = Map::new();
        if self.here && !self.below.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (name, below) in &self.below {
            map.insert(name.clone(), below.json());
        }
        Value::Object(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.below.is_empty()
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        self.here |= other.here;
        for (name, theirs) in &other.below {
            let mine = self.below.remove(name).unwrap_or_default();
            self.below.insert(name.clone(), mine.union(theirs));
        }
        self
    }

    /// What is here and not in `other`. A place that is whole here and has parts there is in both: an empty list that got
    /// elements is not gone.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let below = self.below.iter().filter_map(|(name, mine)| {
            let left = other
                .below
                .get(name)
                .map_or_else(|| mine.clone(), |theirs| mine.minus(theirs));
            (left.here || !left.below.is_empty()).then(|| (name.clone(), left))
        });
        Self {
            here: self.here && !other.here && other.below.is_empty(),
            below: below.collect(),
        }
    }

    /// Removes these fields from an object, and the maps and lists that this empties.
    pub(super) fn remove_from(&self, object: &mut Value) {
        for (name, below) in &self.below {
            let Some(place) = child_mut(object, name) else {
                continue;
            };
            let whole = below.here && !name.starts_with("f:") || below.below.is_empty();
            if !whole {
                below.remove_from(place);
            }
            let emptied = place.as_object().is_some_and(Map::is_empty)
                || place.as_array().is_some_and(Vec::is_empty);
            if whole || emptied {
                remove_child(object, name);
            }
        }
    }

    /// The fields of both sets whose values differ between the objects, as paths.
    pub(super) fn unequal(&self, live: &Value, config: &Value, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        self.visit_unequal(Some(live), Some(config), other, "", &mut found);
        found
    }

    fn visit_unequal(
        &self,
        live: Option<&Value>,
        config: Option<&Value>,
        other: &Self,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let both_leaves = self.below.is_empty() || other.below.is_empty();
        if both_leaves && self.here && other.here && live != config {
            found.push(at.to_owned());
        }
        for (name, mine) in &self.below {
            if let Some(theirs) = other.below.get(name) {
                let path = format!("{at}{}", readable(name));
                let live = live.and_then(|v| child(v, name));
                let config = config.and_then(|v| child(v, name));
                mine.visit_unequal(live, config, theirs, &path, found);
            }
        }
    }

    /// Drops the fields that are in `other` too and have different values in the two objects.
    pub(super) fn drop_unequal(&mut self, live: &Value, config: &Value, other: &Self) {
        self.below.retain(|name, mine| {
            let Some(theirs) = other.below.get(name) else {
                return true;
            };
            let (live, config) = (child(live, name), child(config, name));
            if mine.below.is_empty() || theirs.below.is_empty() {
                return live == config;
            }
            let null = Value::Null;
            mine.drop_unequal(live.unwrap_or(&null), config.unwrap_or(&null), theirs);
            mine.here || !mine.below.is_empty()
        });
    }

    /// Drops the fields that the object does not have any more.
    pub(super) fn drop_removed(&mut self, object: &Value) {
        self.below.retain(|name, mine| match child(object, name) {
            None => false,
            Some(_) if mine.below.is_empty() => true,
            Some(value) => {
                mine.drop_removed(value);
                mine.here || !mine.below.is_empty()
            }
        });
    }

    /// Drops the fields that a write has changed, and with a value that it changed as a whole what is in it.
    pub(super) fn drop_changed(&mut self, changed: &Self) {
        self.below.retain(|name, mine| {
            let Some(changed) = changed.below.get(name) else {
                return true;
            };
            if changed.below.is_empty() {
                return false;
            }
            mine.here &= !changed.here;
            mine.drop_changed(changed);
            mine.here || !mine.below.is_empty()
        });
    }
}

/// What [`Owned::changed`] says of one place; `None` when nothing differs there.
fn changed(
    kind: &Resource,
    path: &mut Vec<String>,
    old: Option<&Value>,
    new: &Value,
) -> Option<Owned> {
    if old == Some(new) {
        return None;
    }
    let is_atomic = match new {
        Value::Object(_) => keys::is_atomic_map(kind, path),
        Value::Array(_) => keys::apply(kind, path) == Merge::Atomic,
        _ => true,
    };
    let Some(old) = old.filter(|_| !is_atomic) else {
        return Some(of_value(kind, path, new));
    };
    let below: BTreeMap<String, Owned> = match new {
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, v)| !v.is_null());
            fields
                .filter_map(|(name, child)| {
                    path.push(name.clone());
                    let owned = changed(kind, path, old.get(name), child);
                    path.pop();
                    Some((format!("f:{name}"), owned?))
                })
                .collect()
        }
        Value::Array(items) => elements(kind, path, items)
            .filter_map(|(name, item)| {
                let before = child(old, &name);
                let mut owned = changed(kind, path, before, item)?;
                owned.here |= before.is_none();
                Some((name, owned))
            })
            .collect(),
        _ => BTreeMap::new(),
    };
    // What has become empty, or lost parts only, has nothing new in it.
    let emptied = below.is_empty() && !matches!(new, Value::Object(m) if m.is_empty());
    let owned = Owned {
        here: below.is_empty(),
        below,
    };
    (!emptied).then_some(owned)
}

/// The elements of a list that is no atom, with their names.
fn elements<'i>(
    kind: &Resource,
    path: &[String],
    items: &'i [Value],
) -> impl Iterator<Item = (String, &'i Value)> + use<'i> {
    let rule = keys::apply(kind, path);
    let name = move |item: &Value| match &rule {
        Merge::By(keys) => element_key(item, keys),
        _ => format!("v:{item}"),
    };
    let named: Vec<_> = items.iter().map(|item| (name(item), item)).collect();
    named.into_iter()
}

fn of_value(kind: &Resource, path: &mut Vec<String>, value: &Value) -> Owned {
    let below: BTreeMap<String, Owned> = match value {
        Value::Object(_) if keys::is_atomic_map(kind, path) => BTreeMap::new(),
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, v)| !v.is_null());
            fields
                .map(|(name, child)| {
                    path.push(name.clone());
                    let owned = of_value(kind, path, child);
                    path.pop();
                    (format!("f:{name}"), owned)
                })
                .collect()
        }
        Value::Array(items) => match keys::apply(kind, path) {
            Merge::Atomic => BTreeMap::new(),
            Merge::Set => items
                .iter()
                .map(|item| (format!("v:{item}"), leaf()))
                .collect(),
            Merge::By(keys) => {
                let element = |item: &Value| {
                    let mut owned = of_value(kind, path, item);
                    owned.here = true;
                    (element_key(item, &keys), owned)
                };
                items.iter().map(element).collect()
            }
        },
        _ => BTreeMap::new(),
    };
    Owned {
        here: below.is_empty(),
        below,
    }
}

fn leaf() -> Owned {
    Owned {
        here: true,
        below: BTreeMap::new(),
    }
}

/// The `k:` name of a list element; an absent key field has its default, or null.
pub(super) fn element_key(item: &Value, keys: &[&str]) -> String {
    let field = |key: &&str| {
        let value = item.get(*key).cloned();
        let value = value.or_else(|| keys::default_key(key).map(Value::from));
        ((*key).to_owned(), value.unwrap_or_default())
    };
    format!("k:{}", Value::Object(keys.iter().map(field).collect()))
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match name.split_at_checked(2)? {
        ("f:", field) => value.get(field),
        ("k:" | "v:", _) => value.as_array()?.iter().find(|item| is_element(item, name)),
        _ => None,
    }
}

fn child_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match name.split_at_checked(2)? {
        ("f:", field) => value.get_mut(field),
        ("k:" | "v:", _) => value
            .as_array_mut()?
            .iter_mut()
            .find(|item| is_element(item, name)),
        _ => None,
    }
}

fn remove_child(value: &mut Value, name: &str) {
    match value {
        Value::Object(map) => {
            map.remove(name.trim_start_matches("f:"));
        }
        Value::Array(items) => items.retain(|item| !is_element(item, name)),
        _ => {}
    }
}

fn is_element(item: &Value, name: &str) -> bool {
    let Some((form, text)) = name.split_at_checked(2) else {
        return false;
    };
    let Ok(wanted) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    match (form, &wanted) {
        ("v:", wanted) => item == wanted,
        ("k:", Value::Object(keys)) => {
            let names: Vec<&str> = keys.keys().map(String::as_str).collect();
            element_key(item, &names) == name
        }
        _ => false,
    }
}

/// `.spec`, `[name="web"]` or `["value"]`.
fn readable(name: &str) -> String {
    match name.split_at_checked(2) {
        Some(("f:", field)) => format!(".{field}"),
        Some(("k:", text)) => {
            let keys = serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some((_, text)) => format!("[{text}]"),
        None => String::new(),
    }
}
