//! Strategic merge: kubectl's patch for built-in kinds. Lists with a merge key are merged element by element, and
//! directives say what a value cannot: `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`.

use crate::resource::Resource;
use serde_json::{Map, Value};

use super::PatchError;
use super::keys::{self, Merge};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// The object after the patch.
pub(super) fn merge(kind: &Resource, object: Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(malformed("the body is not an object"));
    };
    let mut walk = Walk {
        kind,
        path: Vec::new(),
    };
    walk.map(object, patch).map(Value::Object)
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

/// Where the merge is.
struct Walk<'a> {
    kind: &'a Resource,
    /// Field names from the root; places in lists are not counted.
    path: Vec<String>,
}

impl Walk<'_> {
    fn map(
        &mut self,
        mut live: Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<Map<String, Value>, PatchError> {
        match directive(patch)? {
            Directive::Replace => return Ok(strip_map(patch)),
            Directive::Delete => return Ok(Map::new()),
            Directive::Merge => {}
        }
        if let Some(retain) = patch.get(RETAIN) {
            let retain = retain
                .as_array()
                .ok_or_else(|| malformed(format!("{RETAIN} is not a list")))?;
            live.retain(|name, _| retain.iter().any(|r| r.as_str() == Some(name)));
        }
        for (name, value) in patch {
            if let Some(list) = name.strip_prefix(DELETE_FROM) {
                delete_from(&mut live, list, value)?;
            }
        }
        for (name, value) in patch.iter().filter(|(name, _)| !is_directive(name)) {
            let order = patch.get(&format!("{ORDER}{name}"));
            self.field(&mut live, name, value, order)?;
        }
        for (name, order) in patch {
            // A list that only changes its order has no value in the patch.
            if let Some(list) = name.strip_prefix(ORDER)
                && !patch.contains_key(list)
                && let Some(Value::Array(items)) = live.get_mut(list)
            {
                self.path.push(list.to_owned());
                let rule = keys::strategic(self.kind, &self.path);
                self.path.pop();
                let before = items.clone();
                sort(items, &before, &rule, order)?;
            }
        }
        Ok(live)
    }

    fn field(
        &mut self,
        live: &mut Map<String, Value>,
        name: &str,
        value: &Value,
        order: Option<&Value>,
    ) -> Result<(), PatchError> {
        if value.is_null() {
            live.remove(name);
            return Ok(());
        }
        self.path.push(name.to_owned());
        let merged = match (live.remove(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(self.map(old, new)?),
            (Some(Value::Array(old)), Value::Array(new)) => {
                Value::Array(self.list(old, new, order)?)
            }
            (_, new) => strip(new),
        };
        self.path.pop();
        live.insert(name.to_owned(), merged);
        Ok(())
    }

    fn list(
        &mut self,
        old: Vec<Value>,
        new: &[Value],
        order: Option<&Value>,
    ) -> Result<Vec<Value>, PatchError> {
        let rule = keys::strategic(self.kind, &self.path);
        let replaces = |item: &Value| item[DIRECTIVE].as_str() == Some("replace");
        if rule == Merge::Atomic || new.iter().any(replaces) {
            let is_marker =
                |item: &Value| replaces(item) && item.as_object().is_some_and(|o| o.len() == 1);
            return Ok(new.iter().filter(|i| !is_marker(i)).map(strip).collect());
        }
        let before = old.clone();
        let mut merged = old;
        for item in new {
            match rule {
                Merge::By(ref keys) => self.element(&mut merged, item, keys)?,
                _ if merged.contains(item) => {}
                _ => merged.push(item.clone()),
            }
        }
        if let Some(order) = order {
            sort(&mut merged, &before, &rule, order)?;
        }
        Ok(merged)
    }

    fn element(
        &mut self,
        list: &mut Vec<Value>,
        item: &Value,
        keys: &[&str],
    ) -> Result<(), PatchError> {
        let Value::Object(fields) = item else {
            return Err(malformed(format!(
                "{}: an element is not an object",
                self.path.join(".")
            )));
        };
        let key = key_of(item, keys).ok_or_else(|| {
            malformed(format!(
                "{}: an element has no {}",
                self.path.join("."),
                keys.join(", ")
            ))
        })?;
        let place = list
            .iter()
            .position(|live| key_of(live, keys).as_ref() == Some(&key));
        match (directive(fields)?, place) {
            (Directive::Delete, _) => list.retain(|live| key_of(live, keys).as_ref() != Some(&key)),
            (_, None) => list.push(strip(item)),
            (_, Some(place)) => {
                if let Some(slot) = list.get_mut(place)
                    && let Value::Object(live) = slot.take()
                {
                    *slot = Value::Object(self.map(live, fields)?);
                }
            }
        }
        Ok(())
    }
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, PatchError> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => Ok(Directive::Merge),
        Some("replace") => Ok(Directive::Replace),
        Some("delete") => Ok(Directive::Delete),
        Some(other) => Err(malformed(format!(
            "{DIRECTIVE} may be merge, replace or delete, not {other:?}"
        ))),
    }
}

/// Whether a name is a word to the merge. Other names with a dollar sign are fields, such as `$schema` in a definition.
fn is_directive(name: &str) -> bool {
    matches!(name, DIRECTIVE | RETAIN) || name.starts_with(DELETE_FROM) || name.starts_with(ORDER)
}

/// The values of the key fields; `None` when one is missing.
fn key_of(item: &Value, keys: &[&str]) -> Option<Vec<Value>> {
    keys.iter().map(|k| item.get(k).cloned()).collect()
}

fn delete_from(
    live: &mut Map<String, Value>,
    list: &str,
    values: &Value,
) -> Result<(), PatchError> {
    let values = values
        .as_array()
        .ok_or_else(|| malformed(format!("{DELETE_FROM}{list} is not a list")))?;
    if let Some(Value::Array(items)) = live.get_mut(list) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// Brings the elements that the order names into it; each of the others goes before the first that stood behind it.
fn sort(
    items: &mut Vec<Value>,
    before: &[Value],
    rule: &Merge<'_>,
    order: &Value,
) -> Result<(), PatchError> {
    let order = order
        .as_array()
        .ok_or_else(|| malformed(format!("{ORDER}… is not a list")))?;
    let identity = |item: &Value| match rule {
        Merge::By(keys) => key_of(item, keys),
        _ => Some(vec![item.clone()]),
    };
    let wanted: Vec<_> = order.iter().map(identity).collect();
    let was: Vec<_> = before.iter().map(identity).collect();
    let place = |item: &Value| was.iter().position(|w| *w == identity(item));
    let rank = |item: &Value| wanted.iter().position(|w| *w == identity(item));
    let (mut sorted, others): (Vec<Value>, Vec<Value>) = std::mem::take(items)
        .into_iter()
        .partition(|i| rank(i).is_some());
    sorted.sort_by_key(rank);
    let mut from = 0;
    for other in others {
        let behind = |later: &Value| {
            place(later)
                .zip(place(&other))
                .is_some_and(|(later, other)| later > other)
        };
        let found = sorted.iter().skip(from).position(behind);
        let at = found.map_or(sorted.len(), |offset| from + offset);
        sorted.insert(at, other);
        from = at + 1;
    }
    *items = sorted;
    Ok(())
}

/// A value that is taken as a whole: without directives, and without the nulls that would delete.
fn strip(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(strip_map(map)),
        Value::Array(items) => {
            let kept = items
                .iter()
                .filter(|i| i[DIRECTIVE].as_str() != Some("delete"));
            Value::Array(kept.map(strip).collect())
        }
        other => other.clone(),
    }
}

fn strip_map(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map
        .iter()
        .filter(|(name, value)| !is_directive(name) && !value.is_null());
    kept.map(|(name, value)| (name.clone(), strip(value)))
        .collect()
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: &str, live: Value, patch: Value, want: Value) {
        let kind = crate::resource::tests::of_kind(kind);
        assert_eq!(merge(&kind, live, &patch), Ok(want));
    }

    fn template(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn elements_merge_by_their_key() {
        check(
            "Deployment",
            template(
                json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}]),
            ),
            template(
                json!([{"name": "a", "image": "2", "tty": null}, {"name": "c", "image": "3", "x": null}]),
            ),
            template(
                json!([{"name": "a", "image": "2"}, {"name": "b", "image": "1"}, {"name": "c", "image": "3"}]),
            ),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}}),
        );
        check(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": 1}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}, {"port": 81}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}, {"port": 81}]}}),
        );
    }

    #[test]
    fn directives() {
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"volumes": [{"name": "x"}]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
                "spec": {"volumes": [{"$patch": "replace"}, {"name": "y"}]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}, "spec": {"volumes": [{"name": "y"}]}}),
        );
        check(
            "Pod",
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"tolerations": [{"key": "a"}]}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}, "spec": {"tolerations": [{"key": "b"}]}}),
            json!({"metadata": {"labels": {}}, "spec": {"tolerations": [{"key": "b"}]}}),
        );
    }

    #[test]
    fn order_of_elements() {
        let names =
            |names: &[&str]| json!(names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>());
        let ordered = |order: &[&str], new: &[&str]| json!({"spec": {"$setElementOrder/containers": names(order), "containers": names(new)}});
        let pod = |list: &[&str]| json!({"spec": {"containers": names(list)}});
        check(
            "Pod",
            pod(&["a", "b", "c"]),
            ordered(&["c", "a"], &[]),
            pod(&["b", "c", "a"]),
        );
        check(
            "Pod",
            pod(&["a", "x"]),
            ordered(&["b", "a"], &["b"]),
            pod(&["b", "a", "x"]),
        );
        check(
            "Pod",
            pod(&["x", "a"]),
            ordered(&["a", "b"], &["b"]),
            pod(&["x", "a", "b"]),
        );
        check(
            "Pod",
            pod(&["a", "b"]),
            json!({"spec": {"$setElementOrder/containers": names(&["b", "a"])}}),
            pod(&["b", "a"]),
        );
    }

    #[test]
    fn mistakes_are_told() {
        let kind = crate::resource::tests::of_kind("Pod");
        let live = json!({"spec": {"containers": [{"name": "a"}]}});
        for patch in [
            json!({"spec": {"containers": [{"image": "x"}]}}),
            json!({"spec": {"containers": ["x"]}}),
            json!({"spec": {"$patch": "swap"}}),
            json!([1]),
        ] {
            assert!(
                matches!(
                    merge(&kind, live.clone(), &patch),
                    Err(PatchError::Malformed(_))
                ),
                "{patch}"
            );
        }
    }
}
