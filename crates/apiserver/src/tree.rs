//! Reading and setting fields of JSON trees without a thought of what may be missing on the way.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Fields of a JSON value.
pub(crate) trait Tree {
    /// The value at a JSON pointer; null when there is none.
    fn at(&self, pointer: &str) -> &Value;

    /// Sets a field of an object; does nothing to any other value.
    fn set(&mut self, name: &str, value: impl Into<Value>);

    /// The object at a field, made in the place of anything else that may be there.
    fn map(&mut self, name: &str) -> &mut Map<String, Value>;
}

impl Tree for Value {
    fn at(&self, pointer: &str) -> &Value {
        self.pointer(pointer).unwrap_or(&NULL)
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(fields) = self.as_object_mut() {
            fields.insert(name.to_owned(), value.into());
        }
    }

    fn map(&mut self, name: &str) -> &mut Map<String, Value> {
        let child = as_map(self).entry(name).or_insert(Value::Null);
        as_map(child)
    }
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_null_and_what_is_wrong_gives_way() {
        let mut value = json!({"a": {"b": [1]}, "c": 5});
        assert_eq!(value.at("/a/b/0"), &json!(1));
        assert_eq!(value.at("/a/x/y"), &Value::Null);
        value.map("c").insert("d".into(), json!(6));
        value.set("e", 7);
        assert_eq!(value, json!({"a": {"b": [1]}, "c": {"d": 6}, "e": 7}));
    }
}
