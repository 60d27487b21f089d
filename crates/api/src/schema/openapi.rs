//! The OpenAPI v3 schemas of kinds, as the types say them.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;

/// Where references point to.
const DEFINITIONS: &str = "#/components/schemas/";
/// The name under which every kind refers to its metadata.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of one kind with every definition it refers to: `{"root": NAME, "schemas": {NAME: SCHEMA}}`.
pub(crate) fn openapi(kind: &Kind, version: &str) -> Value {
    let mut generator = generator();
    let root = (kind.schema)(&mut generator);
    let mut schemas = definitions(&mut generator);
    let root = reference_name(root.as_value())
        .unwrap_or(kind.kind)
        .to_owned();
    complete_root([kind.group, version, kind.kind], &mut schemas, &root);
    let prefix = prefix(kind.group, version);
    let full = |name: &str| {
        if name.contains('.') {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        }
    };
    let renamed: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, mut schema)| {
            tidy(&mut schema, &full);
            (full(&name), schema)
        })
        .collect();
    json!({"root": full(&root), "schemas": renamed})
}

/// As [`Kind::schema_json`] of a kind that is not in the table, from the schema of its definition.
pub fn openapi_of_custom(group: &str, version: &str, kind: &str, schema: &Value) -> Value {
    let root = format!("{}.{kind}", prefix(group, version));
    let mut schema = schema.clone();
    // The metadata is that of every object, whatever the definition says of it.
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("metadata");
    }
    let mut schemas = BTreeMap::from([(root.clone(), schema)]);
    complete_root([group, version, kind], &mut schemas, &root);
    for (name, schema) in &mut schemas {
        if *name != root {
            tidy(schema, &str::to_owned);
        }
    }
    json!({"root": root, "schemas": schemas})
}

/// A generator of schemas in the dialect of OpenAPI v3.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::openapi3().into_generator()
}

/// The definitions that the generator has met.
pub(super) fn definitions(generator: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    generator.take_definitions(true).into_iter().collect()
}

/// The name that a `$ref` of this schema points to.
pub(super) fn reference_name(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(DEFINITIONS)
}

/// `io.argoproj.v1alpha1` for our own types, whose names have no package.
fn prefix(group: &str, version: &str) -> String {
    let mut parts: Vec<_> = group.split('.').rev().collect();
    parts.push(version);
    parts.join(".")
}

/// Types of our own say `spec` and `status`; what every object has is added here.
fn complete_root(
    [group, version, kind]: [&str; 3],
    schemas: &mut BTreeMap<String, Value>,
    root: &str,
) {
    if !schemas.contains_key(METADATA) {
        let mut generator = generator();
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>();
        schemas.extend(definitions(&mut generator));
    }
    let Some(Value::Object(schema)) = schemas.get_mut(root) else {
        return;
    };
    let gvk = json!([{"group": group, "version": version, "kind": kind}]);
    schema.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
    let properties = schema
        .entry("properties")
        .or_insert_with(|| json!({}))
        .as_object_mut();
    if let Some(properties) = properties {
        let reference = format!("{DEFINITIONS}{METADATA}");
        let added = [
            (
                "apiVersion",
                json!({"type": "string", "description": "Group and version of the kind."}),
            ),
            (
                "kind",
                json!({"type": "string", "description": "The kind."}),
            ),
            (
                "metadata",
                json!({"allOf": [{"$ref": reference}], "description": "What every object has: names, labels, annotations."}),
            ),
        ];
        for (name, schema) in added {
            properties.entry(name).or_insert(schema);
        }
    }
}

/// Gives references their full names, and takes out what only a generator of code wants.
fn tidy(schema: &mut Value, full: &impl Fn(&str) -> String) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(|s| tidy(s, full)),
        Value::Object(map) => {
            map.remove("title");
            // The types fill absent fields in with these; they are no defaults of the API.
            map.remove("default");
            collapse_optional(map);
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                let name = name.strip_prefix(DEFINITIONS).unwrap_or(name);
                let reference = format!("{DEFINITIONS}{}", full(name));
                map.insert("$ref".to_owned(), Value::String(reference));
            }
            for (key, value) in map.iter_mut() {
                match value {
                    // The keys of this map are names of fields, such as `default`, not words of the schema language.
                    Value::Object(fields) if key == "properties" => {
                        fields.values_mut().for_each(|s| tidy(s, full));
                    }
                    _ => tidy(value, full),
                }
            }
        }
        _ => {}
    }
}

/// An optional field is one that is not required; the types say instead that it may be null, which readers of such
/// documents do not understand.
fn collapse_optional(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("enum") != Some(&json!([null])));
    if choices.len() == 1
        && let Some(only) = schema.remove("anyOf")
    {
        schema.insert("allOf".to_owned(), only);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        match schema {
            Value::Array(list) => list.iter().for_each(|s| references(s, found)),
            Value::Object(map) => {
                found.extend(reference_name(schema));
                map.values().for_each(|s| references(s, found));
            }
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_every_kind_is_defined() {
        for kind in kinds::all() {
            let document = kind.schema_json(kind.version);
            let schemas = document["schemas"].as_object().unwrap();
            let root = &schemas[document["root"].as_str().unwrap()];
            for field in ["apiVersion", "kind", "metadata"] {
                assert!(root["properties"].get(field).is_some(), "{kind:?} {field}");
            }
            let mut found = Vec::new();
            references(&document, &mut found);
            for name in found {
                assert!(schemas.contains_key(name), "{kind:?} {name}");
            }
            assert!(schemas.keys().all(|name| name.contains('.')), "{kind:?}");
        }
    }

    #[test]
    fn roots_have_the_names_of_a_cluster() {
        let root = |group, kind| {
            let kind = kinds::find(group, "v1", kind).unwrap();
            kind.schema_json("v1")["root"].clone()
        };
        assert_eq!(root("apps", "Deployment"), "io.k8s.api.apps.v1.Deployment");
        assert_eq!(
            root("gateway.networking.k8s.io", "HTTPRoute"),
            "io.k8s.networking.gateway.v1.HTTPRoute"
        );
    }
}
