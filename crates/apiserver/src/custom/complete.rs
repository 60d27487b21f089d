//! What a structural schema makes of an object before it is looked at: unknown fields go, absent ones are filled in.

use serde_json::{Map, Value};
use serin_api::{FieldPath, Problem};

use super::node::Node;

/// Unknown fields beyond these are taken out, but not told.
const TOLD: usize = 100;

/// The fields that were taken out.
#[derive(Default)]
pub(super) struct Unknown(Vec<FieldPath>);

impl Unknown {
    pub(super) fn problems(self) -> Vec<Problem> {
        self.0
            .into_iter()
            .map(|path| Problem::unknown(path, None))
            .collect()
    }

    fn tell(&mut self, path: FieldPath) {
        if self.0.len() < TOLD {
            self.0.push(path);
        }
    }
}

/// Takes out what the schema of a whole object does not have.
pub(super) fn prune_root(node: &Node, object: &mut Value, unknown: &mut Unknown) {
    prune_object(node, object, &FieldPath::root(), true, unknown);
}

fn prune(node: &Node, value: &mut Value, path: &FieldPath, unknown: &mut Unknown) {
    match value {
        Value::Object(_) => prune_object(node, value, path, node.embedded, unknown),
        Value::Array(list) => {
            let Some(items) = &node.items else {
                return;
            };
            for (index, value) in list.iter_mut().enumerate() {
                prune(items, value, &path.index(index), unknown);
            }
        }
        _ => {}
    }
}

/// `whole`: it has an `apiVersion`, a `kind` and metadata, whether the schema says so or not.
fn prune_object(
    node: &Node,
    value: &mut Value,
    path: &FieldPath,
    whole: bool,
    unknown: &mut Unknown,
) {
    let Some(map) = value.as_object_mut() else {
        return;
    };
    // A place that says nothing of its fields keeps none, unless it says that it keeps all.
    map.retain(|name, value| {
        if whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        if let Some(known) = node.properties.get(name) {
            prune(known, value, &path.field(name), unknown);
            return true;
        }
        if let Some(additional) = &node.additional {
            prune(additional, value, &path.key(name), unknown);
            return true;
        }
        if !node.preserve {
            unknown.tell(path.field(name));
        }
        node.preserve
    });
}

/// Fills in absent fields. A field that is null counts as absent when it may not be null and has a default.
pub(super) fn fill_defaults(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            fill_object(node, map);
            for (name, child) in map.iter_mut() {
                let known = node.properties.get(name);
                if let Some(child_node) = known.or(node.additional.as_deref()) {
                    fill_defaults(child_node, child);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                list.iter_mut().for_each(|item| fill_defaults(items, item));
            }
        }
        _ => {}
    }
}

fn fill_object(node: &Node, map: &mut Map<String, Value>) {
    for (name, child) in &node.properties {
        let absent = match map.get(name) {
            None => true,
            Some(Value::Null) => !child.nullable,
            Some(_) => false,
        };
        if let Some(default) = &child.default
            && absent
        {
            map.insert(name.clone(), default.clone());
        } else if absent && map.contains_key(name) {
            map.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn completed(schema: Value, mut object: Value) -> (Value, Vec<String>) {
        let node = Node::compile(&schema, &FieldPath::root(), &mut Vec::new());
        let mut unknown = Unknown::default();
        prune_root(&node, &mut object, &mut unknown);
        fill_defaults(&node, &mut object);
        let problems = unknown.problems();
        (
            object,
            problems.iter().map(|p| p.path.to_string()).collect(),
        )
    }

    #[test]
    fn what_is_not_known_goes_and_what_is_absent_comes() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "size": {"type": "integer", "default": 3},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "known": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "d"}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "maybe": {"type": "string", "nullable": true},
                "null": {"type": "string"},
            }},
        }});
        let object = json!({"apiVersion": "x/v1", "metadata": {"anything": 1}, "junk": 1, "spec": {
            "free": {"a": {"b": 1}, "known": {"x": 1, "y": 2}}, "list": [{}, {"z": 1}], "labels": {"k": "v"}, "typo": 5,
            "maybe": null, "null": null}});
        let (object, unknown) = completed(schema.clone(), object);
        let want = json!({"apiVersion": "x/v1", "metadata": {"anything": 1}, "spec": {
            "size": 3, "free": {"a": {"b": 1}, "known": {"x": 1}}, "list": [{"a": "d"}, {"a": "d"}], "labels": {"k": "v"},
            "maybe": null}});
        assert_eq!(object, want);
        assert_eq!(
            unknown,
            ["junk", "spec.free.known.y", "spec.list[1].z", "spec.typo"]
        );
        let (object, _) = completed(schema, json!({}));
        assert_eq!(object, json!({"spec": {"size": 3}}));
    }
}
