//! Kinds that are installed while the server runs: what a CustomResourceDefinition says, made ready for use.
//!
//! Responsible for: whether a definition makes sense, its structural schemas (checking, pruning, defaults), its CEL rules, its
//! printer columns and its status. Everything here is a pure function of the definition and an object.
//!
//! Absent on purpose: conversion by webhooks. Versions of one kind differ in their `apiVersion` alone.

mod check;
mod columns;
mod complete;
mod definition;
mod json_path;
mod node;
mod rules;
mod scale;
mod status;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use serin_api::{FieldPath, Problem, validate};

use self::columns::PrinterColumn;
pub(crate) use self::definition::{changes, problems};
pub(crate) use self::node::ListType;
use self::node::Node;
use self::rules::Rules;
pub(crate) use self::status::{CLEANUP, settle};
use crate::meta;
use crate::resource::{Definition, Resource, ScalePaths};
use crate::tree::Tree;

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// The name of definitions in addresses.
pub(crate) const PLURAL: &str = "customresourcedefinitions";

/// One version of a kind that was installed.
#[derive(Debug)]
pub(crate) struct Custom {
    schema: Node,
    rules: Rules,
    columns: Vec<PrinterColumn>,
    /// The schema as it was written, for OpenAPI.
    source: Value,
    /// Whether the definition is being deleted: then no object is made any more.
    pub(crate) ending: bool,
    /// The version of the definition, which documents of the kind change with.
    pub(crate) revision: u64,
}

/// The kinds of a stored definition, one for each version that is served; none while its names are not accepted.
pub(crate) fn resources(definition: &Value, revision: u64) -> Vec<Resource> {
    if !status::is_established(definition) {
        return Vec::new();
    }
    let versions = definition.at("/spec/versions").as_array();
    let served = versions.into_iter().flatten();
    served
        .filter(|version| version.at("/served") == true)
        .map(|version| resource(definition, version, revision))
        .collect()
}

fn resource(definition: &Value, version: &Value, revision: u64) -> Resource {
    let text = |pointer: &str| {
        let found = definition.at(pointer).as_str();
        found.unwrap_or_default().to_owned()
    };
    let list = |pointer: &str| {
        let names = definition.at(pointer).as_array().into_iter().flatten();
        names
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect()
    };
    let kind = text("/status/acceptedNames/kind");
    let all = definition.at("/spec/versions").as_array();
    let stored = all.into_iter().flatten().find(|v| v.at("/storage") == true);
    let name_of = |version: &Value| version.at("/name").as_str().unwrap_or_default().to_owned();
    let source = version.at("/schema/openAPIV3Schema").clone();
    let custom = Custom {
        // What does not make sense was refused when the definition was written.
        schema: Node::compile(&source, &FieldPath::root(), &mut Vec::new()),
        rules: Rules::compile(&source),
        columns: columns::of(version),
        source,
        ending: meta::is_deleting(definition),
        revision,
    };
    Resource {
        group: text("/spec/group"),
        version: name_of(version),
        list_kind: text("/status/acceptedNames/listKind"),
        plural: text("/status/acceptedNames/plural"),
        singular: text("/status/acceptedNames/singular"),
        short_names: list("/status/acceptedNames/shortNames"),
        categories: list("/status/acceptedNames/categories"),
        namespaced: text("/spec/scope") == "Namespaced",
        has_status: version.at("/subresources/status").is_object(),
        scale: scale_paths(version.at("/subresources/scale")),
        deprecation: deprecation(definition, version),
        selectable: selectable(version),
        stored_version: stored.map(name_of).unwrap_or_default(),
        definition: Definition::Custom(custom.into()),
        kind,
    }
}

fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if version.at("/deprecated") != true {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = text(version.at("/deprecationWarning"));
    let group = text(definition.at("/spec/group"));
    let (name, kind) = (
        text(version.at("/name")),
        text(definition.at("/spec/names/kind")),
    );
    Some(if told.is_empty() {
        format!("{group}/{name} {kind} is deprecated")
    } else {
        told
    })
}

/// The fields by which a version lets its objects be selected: `spec.color` of `.spec.color`.
fn selectable(version: &Value) -> Vec<String> {
    let fields = version
        .at("/selectableFields")
        .as_array()
        .into_iter()
        .flatten();
    let paths = fields.filter_map(|field| field.at("/jsonPath").as_str()?.strip_prefix('.'));
    paths.map(str::to_owned).collect()
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let pointer = |name: &str| {
        let path = scale.at(name).as_str()?;
        Some(path.replace('.', "/"))
    };
    Some(ScalePaths {
        spec_replicas: pointer("/specReplicasPath")?,
        status_replicas: pointer("/statusReplicasPath")?,
        selector: pointer("/labelSelectorPath"),
    })
}

impl Custom {
    /// Takes out what the schema does not have, and fills in what it says of absent fields. The problems name what was
    /// taken out.
    pub(crate) fn complete(&self, object: &mut Value) -> Vec<Problem> {
        let mut unknown = complete::Unknown::default();
        complete::prune_root(&self.schema, object, &mut unknown);
        complete::fill_defaults(&self.schema, object);
        unknown.problems()
    }

    /// Every problem of an object by itself.
    pub(crate) fn check(&self, resource: &Resource, object: &Value) -> Vec<Problem> {
        let mut problems = validate::check_metadata(resource.namespaced, object);
        check::check_root(&self.schema, object, &mut problems);
        if let Some(paths) = &resource.scale {
            problems.extend(scale::problems(paths, object));
        }
        if problems.is_empty() {
            problems.extend(self.rules.check(object, None));
        }
        problems
    }

    /// Every problem of a change: the rules that look at what was there before.
    pub(crate) fn check_change(&self, old: &Value, new: &Value) -> Vec<Problem> {
        let alone = self.rules.check(new, None);
        let mut problems = self.rules.check(new, Some(old));
        problems.retain(|problem| !alone.contains(problem));
        problems
    }

    /// How the list at a path of field names merges in server-side apply.
    pub(crate) fn list_at(&self, path: &[String]) -> Option<&ListType> {
        self.schema.list_at(path)
    }

    /// Whether server-side apply takes the object at a path of field names as one value.
    pub(crate) fn is_atomic_map(&self, path: &[String]) -> bool {
        self.schema.at(path).is_some_and(|node| node.atomic_map)
    }

    /// The OpenAPI schema, in the form of [`serin_api::kinds::Kind::schema_json`].
    pub(crate) fn schema_json(&self, resource: &Resource) -> Value {
        serin_api::schema::openapi_of_custom(
            &resource.group,
            &resource.version,
            &resource.kind,
            &self.source,
        )
    }

    pub(crate) fn headings(&self) -> Vec<Value> {
        let name = json!({"name": "Name", "type": "string", "format": "name", "description": "The name, unique in the namespace.", "priority": 0});
        let columns = self.columns.iter().map(PrinterColumn::heading);
        std::iter::once(name).chain(columns).collect()
    }

    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let columns = self.columns.iter().map(|c| c.cell(object, now));
        std::iter::once(object.at("/metadata/name").clone())
            .chain(columns)
            .collect()
    }
}

/// The fields of a JSON object; none of any other value.
fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
