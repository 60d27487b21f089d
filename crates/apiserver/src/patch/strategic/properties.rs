//! For every kind: the patch from one object to another, carried out on the first, gives the second.
//!
//! The patch is made here as kubectl makes it: changed fields, nulls for what is gone, and directives for lists.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use serin_api::schema::{self, Fields, Shape};

use super::*;

/// Objects nested deeper have scalar fields only.
const DEEPEST: usize = 9;
const FIELDS: u64 = 4;

/// Makes values at random, the same ones for the same seed.
struct Maker<'a> {
    kind: &'a Resource,
    state: u64,
    path: Vec<String>,
}

impl Maker<'_> {
    /// Below `bound`; the generator is SplitMix64.
    fn pick(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn word(&mut self) -> String {
        ["a", "b", "c", "d", "e"][self.pick(5) as usize].to_owned()
    }

    fn value(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::Object(fields) => self.object(fields),
            Shape::Map(entry) => {
                let mut map = Map::new();
                for _ in 0..self.pick(3) {
                    let name = self.word();
                    let value = self.at(&name, entry);
                    map.insert(name, value);
                }
                Value::Object(map)
            }
            Shape::Array(item) => self.list(item),
            Shape::Integer { .. } | Shape::Number => json!(self.pick(9)),
            Shape::Boolean => json!(self.pick(2) == 0),
            _ => json!(self.word()),
        }
    }

    fn at(&mut self, name: &str, shape: &Shape) -> Value {
        self.path.push(name.to_owned());
        let value = self.value(shape);
        self.path.pop();
        value
    }

    fn object(&mut self, fields: &Fields) -> Value {
        let mut map = Map::new();
        let deep = self.path.len() >= DEEPEST;
        for _ in 0..FIELDS {
            let place = self.pick(fields.fields.len() as u64) as usize;
            let Some((name, shape)) = fields.fields.get(place) else {
                break;
            };
            let nested = matches!(&**shape, Shape::Object(_) | Shape::Array(_) | Shape::Map(_));
            if !(deep && nested) {
                map.insert(name.to_string(), self.at(name, shape));
            }
        }
        Value::Object(map)
    }

    fn list(&mut self, item: &Shape) -> Value {
        let rule = keys::strategic(self.kind, &self.path);
        let mut list: Vec<Value> = Vec::new();
        for _ in 0..self.pick(4) {
            let mut value = self.value(item);
            self.name_element(&rule, item, &mut value);
            if rule == Merge::Atomic || !list.iter().any(|known| same(&rule, known, &value)) {
                list.push(value);
            }
        }
        Value::Array(list)
    }

    fn name_element(&mut self, rule: &Merge<'_>, item: &Shape, value: &mut Value) {
        let (Merge::By(keys), Shape::Object(fields)) = (rule, item) else {
            return;
        };
        for key in keys.iter() {
            if let Some(shape) = fields.get(key) {
                let made = self.at(key, shape);
                value[*key] = made;
            }
        }
    }

    /// Another state of a value: parts of it changed, gone, new or in another order.
    fn changed(&mut self, shape: &Shape, value: &Value) -> Value {
        match (shape, value) {
            (Shape::Object(fields), Value::Object(map)) => {
                let mut next = match self.object(fields) {
                    Value::Object(fresh) if self.pick(2) == 0 => fresh,
                    _ => Map::new(),
                };
                for (name, child) in map {
                    let Some(shape) = fields.get(name) else {
                        continue;
                    };
                    match self.pick(8) {
                        0 => drop(next.remove(name)),
                        1..=4 => drop(next.insert(name.clone(), child.clone())),
                        _ => {
                            self.path.push(name.clone());
                            let child = self.changed(shape, child);
                            self.path.pop();
                            next.insert(name.clone(), child);
                        }
                    }
                }
                Value::Object(next)
            }
            (Shape::Array(item), Value::Array(list)) => self.changed_list(item, list),
            _ => self.value(shape),
        }
    }

    fn changed_list(&mut self, item: &Shape, list: &[Value]) -> Value {
        let rule = keys::strategic(self.kind, &self.path);
        let Value::Array(mut next) = self.list(item) else {
            return Value::Null;
        };
        for old in list {
            let mut value = match self.pick(3) {
                0 => continue,
                1 => old.clone(),
                _ => self.changed(item, old),
            };
            if let Merge::By(keys) = &rule {
                for key in keys.iter() {
                    value[*key] = old[*key].clone();
                }
            }
            if rule == Merge::Atomic || !next.iter().any(|known| same(&rule, known, &value)) {
                let place = self.pick(next.len() as u64 + 1) as usize;
                next.insert(place, value);
            }
        }
        Value::Array(next)
    }
}

fn same(rule: &Merge<'_>, a: &Value, b: &Value) -> bool {
    match rule {
        Merge::By(keys) => key_of(a, keys) == key_of(b, keys),
        _ => a == b,
    }
}

/// The patch that makes `new` of `old`.
fn difference(kind: &Resource, path: &mut Vec<String>, old: &Value, new: &Value) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        path.push(name.clone());
        match (old.get(name), value) {
            (Some(before), value) if before == value => {}
            (Some(Value::Object(_)), Value::Object(_)) => {
                let child = difference(kind, path, &old[name], value);
                patch.insert(name.clone(), child);
            }
            (Some(Value::Array(before)), Value::Array(after)) => {
                list_difference(kind, path, before, after, &mut patch);
            }
            _ => drop(patch.insert(name.clone(), value.clone())),
        }
        path.pop();
    }
    Value::Object(patch)
}

fn list_difference(
    kind: &Resource,
    path: &mut Vec<String>,
    old: &[Value],
    new: &[Value],
    patch: &mut Map<String, Value>,
) {
    let name = path.last().cloned().unwrap_or_default();
    let rule = keys::strategic(kind, path);
    let find = |list: &[Value], item: &Value| list.iter().find(|i| same(&rule, i, item)).cloned();
    let gone: Vec<&Value> = old.iter().filter(|i| find(new, i).is_none()).collect();
    match &rule {
        Merge::Atomic => drop(patch.insert(name, json!(new))),
        Merge::Set => {
            let added: Vec<&Value> = new.iter().filter(|i| !old.contains(i)).collect();
            patch.insert(format!("{DELETE_FROM}{name}"), json!(gone));
            patch.insert(format!("{ORDER}{name}"), json!(new));
            patch.insert(name, json!(added));
        }
        Merge::By(keys) => {
            let named = |item: &Value| {
                let pairs = keys.iter().map(|k| ((*k).to_owned(), item[*k].clone()));
                pairs.collect::<Map<String, Value>>()
            };
            let mut items: Vec<Value> = Vec::new();
            for item in gone {
                let mut marked = named(item);
                marked.insert(DIRECTIVE.into(), "delete".into());
                items.push(marked.into());
            }
            for item in new {
                match find(old, item) {
                    None => items.push(item.clone()),
                    Some(before) if before == *item => {}
                    Some(before) => {
                        let mut child = difference(kind, path, &before, item);
                        for (key, value) in named(item) {
                            child[key] = value;
                        }
                        items.push(child);
                    }
                }
            }
            let order: Vec<Value> = new.iter().map(|i| named(i).into()).collect();
            patch.insert(format!("{ORDER}{name}"), json!(order));
            patch.insert(name, json!(items));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_patch_from_one_object_to_another_gives_the_other(seed in any::<u64>()) {
        for kind in serin_api::kinds::all() {
            let resource = Resource::built_in(kind, kind.version);
            let mut maker = Maker { kind: &resource, state: seed, path: Vec::new() };
            let shape = schema::of(kind);
            let old = maker.value(shape);
            let new = maker.changed(shape, &old);
            let patch = difference(&resource, &mut Vec::new(), &old, &new);
            let patched = merge(&resource, old.clone(), &patch);
            prop_assert_eq!(patched, Ok(new), "{:?}: {} with {}", kind, old, patch);
        }
    }
}
