//! An object held against a structural schema, in the words of a cluster.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use serin_api::{FieldPath, Problem};

use super::node::{Bounds, ListType, Node, Type};

/// More problems than these are not looked for.
const MOST: usize = 100;

/// Every problem of an object; its metadata is checked elsewhere.
pub(super) fn check_root(node: &Node, object: &Value, out: &mut Vec<Problem>) {
    let mut check = Check { out, at_root: true };
    check.value(node, object, &FieldPath::root());
}

/// Every problem of a value that stands at `path`.
pub(super) fn check(node: &Node, value: &Value, path: &FieldPath) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut check = Check {
        out: &mut out,
        at_root: false,
    };
    check.value(node, value, path);
    out
}

struct Check<'a> {
    out: &'a mut Vec<Problem>,
    /// Whether the value is a whole object, whose type and metadata have been looked at already.
    at_root: bool,
}

impl Check<'_> {
    fn value(&mut self, node: &Node, value: &Value, path: &FieldPath) {
        if self.out.len() >= MOST || value.is_null() && node.nullable {
            return;
        }
        if !has_type(node, value) {
            let want = node.type_.map_or("integer,string", Type::name);
            let why = format!("{path} in body must be of type {want}: {:?}", word(value));
            let problem = Problem::invalid(path.clone(), format!("{:?}", word(value)), &why);
            self.out.push(problem);
            return;
        }
        self.limits(node, value, path);
        self.choices(node, value, path);
        let at_root = std::mem::take(&mut self.at_root);
        match value {
            Value::Object(map) => self.object(node, map, path, at_root),
            Value::Array(list) => self.list(node, list, path),
            _ => {}
        }
    }

    fn object(&mut self, node: &Node, map: &Map<String, Value>, path: &FieldPath, at_root: bool) {
        for name in &node.limits.required {
            let known = at_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            if !known && !map.contains_key(name) {
                self.out.push(Problem::required(path.field(name), ""));
            }
        }
        for (name, child) in map {
            if at_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            if let Some(known) = node.properties.get(name) {
                self.value(known, child, &path.field(name));
            } else if let Some(additional) = &node.additional {
                self.value(additional, child, &path.key(name));
            }
        }
        if node.embedded {
            for name in ["apiVersion", "kind"] {
                if map.get(name).and_then(Value::as_str).unwrap_or_default() == "" {
                    let why = "must not be empty";
                    self.out.push(Problem::required(path.field(name), why));
                }
            }
        }
    }

    fn list(&mut self, node: &Node, list: &[Value], path: &FieldPath) {
        for (index, value) in list.iter().enumerate() {
            if let Some(items) = &node.items {
                self.value(items, value, &path.index(index));
            }
        }
        let key = |value: &Value| match &node.list {
            ListType::Atomic => None,
            ListType::Set => Some(plain(value)),
            ListType::Map(keys) => {
                let pairs = keys.iter().map(|k| (k.clone(), value[k].clone()));
                Some(Value::Object(pairs.collect()).to_string())
            }
        };
        let mut seen = BTreeSet::new();
        for (index, value) in list.iter().enumerate() {
            if let Some(key) = key(value)
                && !seen.insert(key.clone())
            {
                self.out.push(Problem::duplicate(path.index(index), &key));
            }
        }
    }

    fn limits(&mut self, node: &Node, value: &Value, path: &FieldPath) {
        let limits = &node.limits;
        if let Some(words) = &limits.words
            && !words.contains(value)
        {
            let words: Vec<String> = words.iter().map(plain).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let problem = Problem::not_supported(path.clone(), &plain(value), &words);
            self.out.push(problem);
        }
        let mut told = |why: String| {
            let shown = match value {
                Value::Object(_) | Value::Array(_) => format!("{:?}", word(value)),
                other => other.to_string(),
            };
            let why = format!("{path} in body {why}");
            self.out.push(Problem::invalid(path.clone(), shown, &why));
        };
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                number_problems(node, number)
                    .into_iter()
                    .for_each(&mut told);
            }
            Value::String(text) => {
                let chars = text.chars().count() as u64;
                bounds(limits.length, chars, "chars long")
                    .into_iter()
                    .for_each(&mut told);
                if let Some(pattern) = &limits.pattern
                    && !pattern.is_match(text)
                {
                    told(format!("should match '{pattern}'"));
                }
                if !has_format(&limits.format, text) {
                    told(format!("must be of type {}: {text:?}", limits.format));
                }
            }
            Value::Array(list) => {
                let many = list.len() as u64;
                counts(limits.count, many, "items")
                    .into_iter()
                    .for_each(&mut told);
            }
            Value::Object(map) => {
                let many = map.len() as u64;
                counts(limits.size, many, "properties")
                    .into_iter()
                    .for_each(&mut told);
            }
            _ => {}
        }
    }

    fn choices(&mut self, node: &Node, value: &Value, path: &FieldPath) {
        for condition in &node.all_of {
            self.out.extend(check(condition, value, path));
        }
        let holds = |condition: &Node| check(condition, value, path).is_empty();
        let mut told = |why: &str| {
            let shown = format!("{:?}", word(value));
            let why = format!("{path} in body must {why}");
            self.out.push(Problem::invalid(path.clone(), shown, &why));
        };
        if !node.any_of.is_empty() && !node.any_of.iter().any(holds) {
            told("validate at least one schema (anyOf)");
        }
        if !node.one_of.is_empty() && node.one_of.iter().filter(|c| holds(c)).count() != 1 {
            told("validate one and only one schema (oneOf)");
        }
        if node.not.as_deref().is_some_and(holds) {
            told("not validate the schema (not)");
        }
    }
}

fn has_type(node: &Node, value: &Value) -> bool {
    if node.int_or_string {
        return value.is_string() || is_whole(value);
    }
    match node.type_ {
        None => true,
        Some(Type::Object) => value.is_object(),
        Some(Type::Array) => value.is_array(),
        Some(Type::String) => value.is_string(),
        Some(Type::Boolean) => value.is_boolean(),
        Some(Type::Number) => value.is_number(),
        Some(Type::Integer) => is_whole(value),
    }
}

/// Whether it is a whole number, also when it is written as `3.0`.
fn is_whole(value: &Value) -> bool {
    let float = value.as_f64().filter(|n| n.fract() == 0.0);
    value.is_i64() || value.is_u64() || float.is_some()
}

/// The word for the type of a value.
fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as a message shows it: text without its quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn number_problems(node: &Node, number: f64) -> Vec<String> {
    let limits = &node.limits;
    let mut out = Vec::new();
    if let Some(least) = limits.minimum {
        let or_equal = if limits.above_minimum {
            ""
        } else {
            "or equal to "
        };
        if number < least || limits.above_minimum && number <= least {
            out.push(format!("should be greater than {or_equal}{least}"));
        }
    }
    if let Some(most) = limits.maximum {
        let or_equal = if limits.below_maximum {
            ""
        } else {
            "or equal to "
        };
        if number > most || limits.below_maximum && number >= most {
            out.push(format!("should be less than {or_equal}{most}"));
        }
    }
    if let Some(step) = limits.multiple_of
        && (number / step).fract() != 0.0
    {
        out.push(format!("should be a multiple of {step}"));
    }
    let range = match limits.format.as_str() {
        "int32" => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    };
    if range.is_some_and(|(least, most)| number < least || number > most) {
        out.push(format!("must be of type {}", limits.format));
    }
    out
}

fn bounds(bounds: Bounds, found: u64, unit: &str) -> Vec<String> {
    let least = bounds.least.filter(|least| found < *least);
    let most = bounds.most.filter(|most| found > *most);
    let least = least.map(|least| format!("should be at least {least} {unit}"));
    let most = most.map(|most| format!("should be at most {most} {unit}"));
    least.into_iter().chain(most).collect()
}

fn counts(bounds: Bounds, found: u64, unit: &str) -> Vec<String> {
    let least = bounds.least.filter(|least| found < *least);
    let most = bounds.most.filter(|most| found > *most);
    let least = least.map(|least| format!("should have at least {least} {unit}"));
    let most = most.map(|most| format!("should have at most {most} {unit}"));
    least.into_iter().chain(most).collect()
}

/// Whether a text has a format; one that is not known is met by any text, as in a cluster.
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => text.parse::<jiff::SignedDuration>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => text.parse::<uuid::Uuid>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn problems(schema: Value, value: Value, want: Expect) {
        let mut wrong = Vec::new();
        let node = Node::compile(&schema, &FieldPath::root(), &mut wrong);
        assert_eq!(wrong, [], "the schema itself");
        let found = check(&node, &value, &FieldPath::new("spec"));
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        want.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn values_outside_their_limits() {
        let schema = json!({"type": "object", "required": ["name", "gone"], "maxProperties": 9, "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]*$"},
            "size": {"type": "integer", "minimum": 1, "maximum": 10, "exclusiveMaximum": true},
            "tier": {"type": "string", "enum": ["gold", "silver"]},
            "port": {"x-kubernetes-int-or-string": true},
            "at": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 2},
            "gone": {"type": "string", "nullable": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "multipleOf": 5}},
        }});
        problems(
            schema,
            json!({"name": "A", "size": 10, "tier": "tin", "port": true, "at": "now", "tags": ["a", "b", "a"],
                "map": {"x": "1", "y": 7}}),
            expect![[r#"
                spec.gone: Required value
                spec.at: Invalid value: "now": spec.at in body must be of type date-time: "now"
                spec.map[x]: Invalid value: "string": spec.map[x] in body must be of type integer: "string"
                spec.map[y]: Invalid value: 7: spec.map[y] in body should be a multiple of 5
                spec.name: Invalid value: "A": spec.name in body should be at least 2 chars long
                spec.name: Invalid value: "A": spec.name in body should match '^[a-z]*$'
                spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
                spec.size: Invalid value: 10: spec.size in body should be less than 10
                spec.tags: Invalid value: "array": spec.tags in body should have at most 2 items
                spec.tags[2]: Duplicate value: "a"
                spec.tier: Unsupported value: "tin": supported values: "gold", "silver""#]],
        );
    }

    #[test]
    fn choices_of_schemas() {
        let schema = json!({"type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "integer"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            "anyOf": [{"required": ["c"]}, {"properties": {"a": {"enum": ["x"]}}, "required": ["a"]}],
            "allOf": [{"properties": {"c": {"maximum": 3}}}],
            "not": {"required": ["a", "c"]},
        });
        problems(schema.clone(), json!({"a": "x"}), expect![""]);
        problems(
            schema,
            json!({"a": "y", "b": "z", "c": 4}),
            expect![[r#"
                spec.c: Invalid value: 4: spec.c in body should be less than or equal to 3
                spec: Invalid value: "object": spec in body must validate one and only one schema (oneOf)
                spec: Invalid value: "object": spec in body must not validate the schema (not)"#]],
        );
    }
}
