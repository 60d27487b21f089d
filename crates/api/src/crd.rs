//! CustomResourceDefinitions of the kinds that Serin brings to a cluster.
//!
//! A cluster wants structural schemas: no references, a type at every node. What Kubernetes itself defines inside of our kinds,
//! the pod template above all, is left open: with it spelled out the definition would be larger than the annotation of
//! `kubectl apply` may be, and the API server checks pods when they are made.
//!
//! Absent on purpose: installing them; they are data.

use serde_json::{Map, Value, json};

use crate::kinds::{self, Cell, Column, Kind};

/// Where references point to.
const DEFINITIONS: &str = "#/components/schemas/";
/// Types of Kubernetes that are left open.
const LEFT_OPEN: &[&str] = &[
    "io.k8s.api.core.v1.PodTemplateSpec",
    "io.k8s.api.batch.v1.JobSpec",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
];
const OPEN: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// The definitions of all kinds that a cluster does not have by itself, as objects that can be applied.
pub fn definitions() -> Vec<Value> {
    let ours = |kind: &&Kind| kind.group == "argoproj.io" || kind.group.ends_with("serin.dev");
    kinds::all().iter().filter(ours).map(definition).collect()
}

fn definition(kind: &Kind) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.qualified_plural()},
        "spec": {
            "group": kind.group,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "names": names(kind),
            "versions": [version(kind)],
        },
    })
}

fn names(kind: &Kind) -> Value {
    let mut names = json!({
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.singular,
    });
    for (field, list) in [
        ("shortNames", kind.short_names),
        ("categories", kind.categories),
    ] {
        if !list.is_empty() {
            put(&mut names, field, json!(list));
        }
    }
    names
}

fn version(kind: &Kind) -> Value {
    let mut subresources = Map::new();
    if kind.subresources.status {
        subresources.insert("status".into(), json!({}));
    }
    if let Some(paths) = kind.scale_paths() {
        let dotted = |pointer: &str| pointer.replace('/', ".");
        let scale = json!({
            "specReplicasPath": dotted(paths.spec_replicas),
            "statusReplicasPath": dotted(paths.status_replicas),
            "labelSelectorPath": dotted(paths.selector),
        });
        subresources.insert("scale".into(), scale);
    }
    let columns: Vec<_> = kind.columns.iter().filter_map(column).collect();
    json!({
        "name": kind.version,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": root(kind)},
        "subresources": subresources,
        "additionalPrinterColumns": columns,
    })
}

/// A cluster fills columns in by paths alone; those that are computed are left out, and it shows the name by itself.
fn column(column: &Column) -> Option<Value> {
    let Cell::Path(path) = column.cell else {
        return None;
    };
    (path != ".metadata.name").then(|| {
        json!({
            "name": column.name,
            "type": column.type_,
            "description": column.description,
            "priority": column.priority,
            "jsonPath": path,
        })
    })
}

fn root(kind: &Kind) -> Value {
    let document = kind.schema_json(kind.version);
    let none = Map::new();
    let schemas = document.get("schemas").and_then(Value::as_object);
    let name = document.get("root").and_then(Value::as_str);
    let mut inliner = Inliner {
        schemas: schemas.unwrap_or(&none),
        inside: Vec::new(),
    };
    let mut root = inliner.definition(name.unwrap_or_default());
    if let Some(root) = root.as_object_mut() {
        root.remove("required");
        if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("metadata".into(), json!({"type": "object"}));
            let required = properties.contains_key("spec").then(|| json!(["spec"]));
            root.extend(required.map(|fields| ("required".to_owned(), fields)));
        }
    }
    root
}

struct Inliner<'a> {
    schemas: &'a Map<String, Value>,
    /// The definitions that are being inlined: one that contains itself ends open.
    inside: Vec<String>,
}

impl Inliner<'_> {
    fn definition(&mut self, name: &str) -> Value {
        let known = self.schemas.get(name);
        let (Some(schema), false) = (known, self.inside.iter().any(|n| n == name)) else {
            return open_object();
        };
        if LEFT_OPEN.contains(&name) {
            return open_object();
        }
        self.inside.push(name.to_owned());
        let inlined = self.schema(schema);
        self.inside.pop();
        inlined
    }

    fn schema(&mut self, schema: &Value) -> Value {
        let mut inlined = self.bare(schema);
        if let (Some(inlined), Some(words)) = (inlined.as_object_mut(), schema.get("description")) {
            inlined.insert("description".into(), words.clone());
        }
        inlined
    }

    fn bare(&mut self, schema: &Value) -> Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(reference.strip_prefix(DEFINITIONS).unwrap_or(reference));
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            if let Some(choices) = schema.get(word).and_then(Value::as_array) {
                return self.choice(choices);
            }
        }
        if schema.get(INT_OR_STRING).is_some() {
            return json!({INT_OR_STRING: true});
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema),
            Some("array") => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                json!({"type": "array", "items": self.schema(items)})
            }
            Some("integer") => integer(schema),
            Some(simple @ ("string" | "number" | "boolean")) => {
                let mut kept = json!({"type": simple});
                for word in ["enum", "format", "pattern", "minimum", "maximum"] {
                    if let Some(value) = schema.get(word) {
                        put(&mut kept, word, value.clone());
                    }
                }
                kept
            }
            _ => json!({OPEN: true}),
        }
    }

    /// A choice between words is an enumeration; any other choice is left open, for a structural schema cannot say it.
    fn choice(&mut self, choices: &[Value]) -> Value {
        if let [only] = choices {
            return self.schema(only);
        }
        let words: Option<Vec<_>> = choices
            .iter()
            .map(|choice| choice.get("enum")?.as_array().cloned())
            .collect();
        match words {
            Some(words) => json!({"type": "string", "enum": words.concat()}),
            None => json!({OPEN: true}),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let extra = schema.get("additionalProperties");
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return match extra {
                Some(extra) if extra.is_object() => {
                    json!({"type": "object", "additionalProperties": self.schema(extra)})
                }
                _ => open_object(),
            };
        };
        let fields: Map<_, _> = properties
            .iter()
            .map(|(name, schema)| (name.clone(), self.schema(schema)))
            .collect();
        let mut object = json!({"type": "object", "properties": fields});
        if extra.is_some_and(|extra| *extra != Value::Bool(false)) {
            put(&mut object, OPEN, json!(true));
        }
        if let Some(required) = schema.get("required") {
            put(&mut object, "required", required.clone());
        }
        object
    }
}

fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn open_object() -> Value {
    json!({"type": "object", OPEN: true})
}

/// Kubernetes knows signed formats; that a number is not negative is said by its minimum.
fn integer(schema: &Value) -> Value {
    match schema.get("format").and_then(Value::as_str) {
        Some(format @ ("int32" | "int64")) => json!({"type": "integer", "format": format}),
        Some(_) => json!({"type": "integer", "minimum": 0}),
        None => json!({"type": "integer"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of structural schemas: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.
    fn assert_structural(schema: &Value, at: &str) {
        let object = schema
            .as_object()
            .unwrap_or_else(|| panic!("{at}: {schema}"));
        for word in [
            "$ref", "allOf", "anyOf", "oneOf", "not", "nullable", "default", "title",
        ] {
            assert!(!object.contains_key(word), "{at} has {word}");
        }
        let typed = object.contains_key("type");
        let is_open = object.contains_key(OPEN) || object.contains_key(INT_OR_STRING);
        assert!(typed || is_open, "{at} has no type: {schema}");
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert!(!object.contains_key("additionalProperties"), "{at}");
            for (name, schema) in properties {
                assert_structural(schema, &format!("{at}.{name}"));
            }
        }
        for word in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(word) {
                assert_structural(schema, &format!("{at}[]"));
            }
        }
    }

    #[test]
    fn every_definition_is_structural_and_small_enough_for_kubectl_apply() {
        let all = definitions();
        assert!(all.len() >= 5);
        for definition in all {
            let name = definition["metadata"]["name"].as_str().unwrap();
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            assert_structural(schema, name);
            let bytes = definition.to_string().len();
            assert!(bytes < 200_000, "{name} has {bytes} bytes");
        }
    }

    #[test]
    fn a_rollout_is_described_to_its_depth() {
        let all = definitions();
        let of = |plural: &str| {
            all.iter()
                .find(|d| d["spec"]["names"]["plural"] == plural)
                .unwrap()
        };
        let version = &of("rollouts")["spec"]["versions"][0];
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let step = &spec["strategy"]["properties"]["canary"]["properties"]["steps"]["items"];
        assert_eq!(step["properties"]["setWeight"]["type"], "integer");
        let surge = &spec["strategy"]["properties"]["canary"]["properties"]["maxSurge"];
        assert_eq!(surge[INT_OR_STRING], true);
        assert_eq!(spec["template"][OPEN], true);
        assert_eq!(
            version["subresources"]["scale"],
            json!({
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.HPAReplicas",
                "labelSelectorPath": ".status.selector",
            })
        );
        assert_eq!(of("clusteranalysistemplates")["spec"]["scope"], "Cluster");
    }
}
