//! From the schemas of the types to compact shapes.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::openapi::{definitions, generator, reference_name};
use super::{Fields, Shape};
use crate::kinds::{self, Kind};

/// The type of amounts, whose schema does not tell it from a number or text.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// One for each row of the table of kinds.
static SHAPES: LazyLock<Vec<Arc<Shape>>> = LazyLock::new(build);

/// The shape of a kind.
pub fn of(kind: &Kind) -> &'static Shape {
    static ANY: Shape = Shape::Any;
    let row = kinds::all().iter().position(|k| k == kind);
    row.and_then(|row| SHAPES.get(row)).map_or(&ANY, |s| s)
}

fn build() -> Vec<Arc<Shape>> {
    let mut generator = generator();
    let roots: Vec<_> = kinds::all()
        .iter()
        .map(|kind| (kind.schema)(&mut generator))
        .collect();
    // Every object has metadata; the types of our own do not say so.
    let metadata =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>();
    let mut builder = Builder {
        definitions: definitions(&mut generator),
        done: BTreeMap::new(),
        string: Arc::new(Shape::String),
        any: Arc::new(Shape::Any),
    };
    let metadata = builder.shape(metadata.as_value());
    roots
        .iter()
        .map(|root| builder.root(root.as_value(), &metadata))
        .collect()
}

struct Builder {
    definitions: BTreeMap<String, Value>,
    /// Definitions by name; `None` while one is being made, so that a type that contains itself ends as anything.
    done: BTreeMap<String, Option<Arc<Shape>>>,
    string: Arc<Shape>,
    any: Arc<Shape>,
}

impl Builder {
    fn root(&mut self, schema: &Value, metadata: &Arc<Shape>) -> Arc<Shape> {
        let shape = self.shape(schema);
        let Shape::Object(root) = &*shape else {
            return shape;
        };
        let mut fields: BTreeMap<_, _> = root.fields.iter().cloned().collect();
        fields.insert("apiVersion".into(), Arc::clone(&self.string));
        fields.insert("kind".into(), Arc::clone(&self.string));
        fields.insert("metadata".into(), Arc::clone(metadata));
        // Metadata without a name is told as a missing name, which says what to do.
        let required = root.required.iter().filter(|name| &***name != "metadata");
        Arc::new(Shape::Object(Fields {
            fields: fields.into_iter().collect(),
            required: required.cloned().collect(),
            extra: None,
        }))
    }

    fn shape(&mut self, schema: &Value) -> Arc<Shape> {
        if let Some(name) = reference_name(schema) {
            return self.definition(name);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            if let Some(choices) = schema.get(word).and_then(Value::as_array) {
                return self.choice(choices);
            }
        }
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return Arc::new(Shape::IntOrString);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema),
            Some("array") => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                Arc::new(Shape::Array(self.shape(items)))
            }
            Some("string") => self.text(schema),
            Some("integer") => Arc::new(integer(schema)),
            Some("number") => Arc::new(Shape::Number),
            Some("boolean") => Arc::new(Shape::Boolean),
            _ => Arc::clone(&self.any),
        }
    }

    fn definition(&mut self, name: &str) -> Arc<Shape> {
        if name == QUANTITY {
            return Arc::new(Shape::Quantity);
        }
        if let Some(done) = self.done.get(name) {
            return Arc::clone(done.as_ref().unwrap_or(&self.any));
        }
        let Some(schema) = self.definitions.remove(name) else {
            return Arc::clone(&self.any);
        };
        self.done.insert(name.to_owned(), None);
        let shape = self.shape(&schema);
        self.done.insert(name.to_owned(), Some(Arc::clone(&shape)));
        shape
    }

    /// An optional field is a choice between a type and null; a set of words is a choice between words.
    fn choice(&mut self, choices: &[Value]) -> Arc<Shape> {
        let is_null = |c: &&Value| {
            c.get("enum")
                .is_some_and(|e| e.get(0) == Some(&Value::Null))
        };
        let real: Vec<_> = choices.iter().filter(|c| !is_null(c)).collect();
        if let [only] = real.as_slice() {
            return self.shape(only);
        }
        let words: Option<Vec<_>> = real.iter().map(|c| words(c)).collect();
        match words {
            Some(words) => Arc::new(Shape::Enum(words.into_iter().flatten().collect())),
            None => Arc::clone(&self.any),
        }
    }

    fn object(&mut self, schema: &Value) -> Arc<Shape> {
        let extra = schema
            .get("additionalProperties")
            .filter(|extra| extra.is_object() || **extra == Value::Bool(true))
            .map(|extra| self.shape(extra));
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Arc::new(extra.map_or(Shape::Any, Shape::Map));
        };
        let mut fields: Vec<_> = properties
            .iter()
            .map(|(name, schema)| (name.as_str().into(), self.shape(schema)))
            .collect();
        fields.sort_by(|(a, _): &(Box<str>, _), (b, _)| a.cmp(b));
        let required = schema.get("required").and_then(Value::as_array);
        let mut required: Vec<Box<str>> = required
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(Into::into))
            .collect();
        required.sort();
        Arc::new(Shape::Object(Fields {
            fields: fields.into(),
            required: required.into(),
            extra,
        }))
    }

    fn text(&self, schema: &Value) -> Arc<Shape> {
        match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => Arc::new(Shape::Time),
            Some("byte") => Arc::new(Shape::Bytes),
            _ => match words(schema) {
                Some(words) => Arc::new(Shape::Enum(words.into())),
                None => Arc::clone(&self.string),
            },
        }
    }
}

/// The words that a text may be; `None` when it may be any.
fn words(schema: &Value) -> Option<Vec<Box<str>>> {
    let words = schema.get("enum")?.as_array()?;
    words.iter().map(|w| w.as_str().map(Into::into)).collect()
}

fn integer(schema: &Value) -> Shape {
    let (min, max) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("uint" | "uint64") => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    };
    Shape::Integer { min, max }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(shape: &'a Shape, path: &str) -> &'a Shape {
        path.split('.').fold(shape, |shape, step| match shape {
            Shape::Object(fields) => fields.get(step).unwrap_or_else(|| panic!("no {step}")),
            Shape::Array(items) => items,
            other => panic!("{step} in {other:?}"),
        })
    }

    #[test]
    fn shapes_are_what_the_types_say() {
        let deployment = of(kinds::find("apps", "v1", "Deployment").unwrap());
        let rollout = of(kinds::find("argoproj.io", "v1alpha1", "Rollout").unwrap());
        let shown = |shape: &Shape, path| format!("{:?}", at(shape, path));
        assert_eq!(
            shown(deployment, "spec.replicas"),
            "Integer { min: -2147483648, max: 2147483647 }"
        );
        assert_eq!(
            shown(deployment, "spec.strategy.rollingUpdate.maxSurge"),
            "IntOrString"
        );
        assert_eq!(shown(deployment, "metadata.creationTimestamp"), "Time");
        assert_eq!(shown(deployment, "metadata.labels"), "Map(String)");
        assert_eq!(
            shown(
                deployment,
                "spec.template.spec.containers.items.resources.limits"
            ),
            "Map(Quantity)"
        );
        assert_eq!(
            shown(rollout, "spec.strategy.canary.steps.items.setWeight"),
            shown(deployment, "spec.replicas")
        );
        assert_eq!(
            shown(rollout, "spec.strategy.canary.steps.items.plugin"),
            "Any"
        );
        assert!(shown(rollout, "status.phase").starts_with("Enum([\"Healthy\""));
    }

    #[test]
    fn the_pod_spec_is_shared() {
        let spec = |group, version, kind| {
            let Shape::Object(root) = of(kinds::find(group, version, kind).unwrap()) else {
                panic!("no object");
            };
            let Shape::Object(spec) = &**root.get("spec").unwrap() else {
                panic!("no object");
            };
            Arc::as_ptr(spec.get("template").unwrap())
        };
        let deployment = spec("apps", "v1", "Deployment");
        assert_eq!(deployment, spec("apps", "v1", "ReplicaSet"));
        assert_eq!(deployment, spec("argoproj.io", "v1alpha1", "Rollout"));
    }

    /// Bytes of a shape and of what is in it, each shared part once.
    fn bytes(shape: &Arc<Shape>, seen: &mut std::collections::BTreeSet<*const Shape>) -> usize {
        if !seen.insert(Arc::as_ptr(shape)) {
            return 0;
        }
        let inside = match &**shape {
            Shape::Object(fields) => {
                let entry =
                    |(name, shape): &(Box<str>, Arc<Shape>)| name.len() + 24 + bytes(shape, seen);
                let required: usize = fields.required.iter().map(|name| name.len() + 16).sum();
                fields.fields.iter().map(entry).sum::<usize>() + required
            }
            Shape::Array(inner) | Shape::Map(inner) => bytes(inner, seen),
            _ => 0,
        };
        size_of::<Shape>() + 16 + inside
    }

    #[test]
    fn all_shapes_together_are_small() {
        let mut seen = std::collections::BTreeSet::new();
        let total: usize = SHAPES.iter().map(|shape| bytes(shape, &mut seen)).sum();
        assert!(total < 400_000, "{total} bytes in {} parts", seen.len());
    }
}
