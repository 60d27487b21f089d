//! Whether a definition makes sense, with every problem and its place.

use std::collections::BTreeSet;

use serde_json::Value;
use serin_api::{FieldPath, Problem};

use super::json_path::JsonPath;
use super::node::Node;
use super::rules::Rules;
use super::status::is_established;
use crate::tree::Tree;

/// The annotation without which nobody may define kinds of a group of Kubernetes itself.
const APPROVED: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

/// Every problem of a definition beyond its types.
pub(crate) fn problems(definition: &Value) -> Vec<Problem> {
    let mut out = Vec::new();
    let spec = FieldPath::new("spec");
    names(definition, &spec, &mut out);
    let scope = text(definition, "/spec/scope");
    if !matches!(scope, "" | "Cluster" | "Namespaced") {
        let known = ["Cluster", "Namespaced"];
        out.push(Problem::not_supported(spec.field("scope"), scope, &known));
    }
    let strategy = text(definition, "/spec/conversion/strategy");
    if !matches!(strategy, "" | "None") {
        let at = FieldPath::new("spec.conversion.strategy");
        out.push(Problem::not_supported(at, strategy, &["None"]));
    }
    versions(definition, &spec.field("versions"), &mut out);
    out
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.at(pointer).as_str().unwrap_or_default()
}

fn names(definition: &Value, spec: &FieldPath, out: &mut Vec<Problem>) {
    let group = text(definition, "/spec/group");
    let (plural, kind) = (
        text(definition, "/spec/names/plural"),
        text(definition, "/spec/names/kind"),
    );
    if !group.is_empty() && !group.contains('.') {
        let why = "should be a domain with at least one dot";
        out.push(Problem::invalid(
            spec.field("group"),
            format!("{group:?}"),
            why,
        ));
    }
    let name = text(definition, "/metadata/name");
    if !plural.is_empty() && !group.is_empty() && name != format!("{plural}.{group}") {
        let at = FieldPath::new("metadata.name");
        let why = "must be spec.names.plural+\".\"+spec.group";
        out.push(Problem::invalid(at, format!("{name:?}"), why));
    }
    let label = |text: &str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        text.len() <= 63
            && text.chars().all(known)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
    };
    const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')";
    let names = spec.field("names");
    for (field, value) in [
        ("plural", plural),
        ("singular", text(definition, "/spec/names/singular")),
    ] {
        if !value.is_empty() && !label(value) {
            let at = names.field(field);
            out.push(Problem::invalid(at, format!("{value:?}"), LABEL));
        }
    }
    for (field, value) in [
        ("kind", kind),
        ("listKind", text(definition, "/spec/names/listKind")),
    ] {
        if !value.is_empty() && !label(&value.to_lowercase()) {
            let why = "may have mixed case, but should otherwise match: a DNS-1035 label";
            let at = names.field(field);
            out.push(Problem::invalid(at, format!("{value:?}"), why));
        }
    }
    let short = definition.at("/spec/names/shortNames").as_array();
    for (index, name) in short.into_iter().flatten().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !label(name) {
            let at = names.field("shortNames").index(index);
            out.push(Problem::invalid(at, format!("{name:?}"), LABEL));
        }
    }
    let protected = ["k8s.io", "kubernetes.io"];
    let of_kubernetes = protected
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if of_kubernetes && definition.at("/metadata/annotations")[APPROVED].is_null() {
        let at = FieldPath::new("metadata.annotations").key(APPROVED);
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        out.push(Problem::required(at, why));
    }
}

fn versions(definition: &Value, path: &FieldPath, out: &mut Vec<Problem>) {
    let all: Vec<&Value> = definition
        .at("/spec/versions")
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    if all.is_empty() {
        out.push(Problem::required(
            path.clone(),
            "must have at least one version",
        ));
        return;
    }
    let storing = all.iter().filter(|v| v.at("/storage") == true).count();
    if storing != 1 {
        let why = "must have exactly one version marked as storage version";
        out.push(Problem::invalid(
            path.clone(),
            format!("{storing} of them"),
            why,
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, version) in all.into_iter().enumerate() {
        let at = path.index(index);
        let name = text(version, "/name");
        if !seen.insert(name) {
            out.push(Problem::duplicate(at.field("name"), name));
        }
        one_version(version, &at, out);
    }
}

fn one_version(version: &Value, path: &FieldPath, out: &mut Vec<Problem>) {
    let at = path.field("schema").field("openAPIV3Schema");
    let schema = version.at("/schema/openAPIV3Schema");
    if schema.is_null() {
        out.push(Problem::required(at, "schemas are required"));
    } else {
        Node::compile(schema, &at, out);
        if !matches!(schema.at("/type").as_str(), Some("object") | None) {
            let found = schema.at("/type");
            let why = "must be object at the root";
            out.push(Problem::invalid(at.field("type"), found, why));
        }
        out.extend(Rules::compile(schema).problems(&at));
    }
    columns(version, path, out);
    scale(version, path, out);
}

fn columns(version: &Value, path: &FieldPath, out: &mut Vec<Problem>) {
    let columns = version.at("/additionalPrinterColumns").as_array();
    for (index, column) in columns.into_iter().flatten().enumerate() {
        let at = path.field("additionalPrinterColumns").index(index);
        let type_ = text(column, "/type");
        if !type_.is_empty() && !COLUMN_TYPES.contains(&type_) {
            let at = at.field("type");
            out.push(Problem::not_supported(at, type_, &COLUMN_TYPES));
        }
        let json_path = text(column, "/jsonPath");
        if !json_path.is_empty() && JsonPath::parse(json_path).is_none() {
            let at = at.field("jsonPath");
            let why = "must be a JSON path such as .spec.size or .status.conditions[?(@.type==\"Ready\")].status";
            out.push(Problem::invalid(at, format!("{json_path:?}"), why));
        }
    }
}

fn scale(version: &Value, path: &FieldPath, out: &mut Vec<Problem>) {
    let scale = version.at("/subresources/scale");
    if scale.is_null() {
        return;
    }
    let at = path.field("subresources").field("scale");
    for (name, start) in [
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
    ] {
        let value = scale[name].as_str().unwrap_or_default();
        if !value.is_empty() && (!value.starts_with(start) || value.contains('[')) {
            let why = format!(
                "should be a json path under {}",
                start.trim_end_matches('.')
            );
            let at = at.field(name);
            out.push(Problem::invalid(at, format!("{value:?}"), &why));
        }
    }
}

/// Every problem of a change: what may not be another once objects may be there.
pub(crate) fn changes(new: &Value, old: &Value) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut fixed = vec![("/spec/group", "spec.group")];
    if is_established(old) {
        fixed.push(("/spec/scope", "spec.scope"));
        fixed.push(("/spec/names/kind", "spec.names.kind"));
        fixed.push(("/spec/names/plural", "spec.names.plural"));
    }
    for (pointer, path) in fixed {
        if old.at(pointer) != new.at(pointer) {
            let at = FieldPath::new(path);
            out.push(Problem::invalid(at, new.at(pointer), "field is immutable"));
        }
    }
    let versions = new.at("/spec/versions").as_array();
    let names: Vec<&Value> = versions
        .into_iter()
        .flatten()
        .map(|version| version.at("/name"))
        .collect();
    let stored = old.at("/status/storedVersions").as_array();
    for (index, version) in stored.into_iter().flatten().enumerate() {
        if !names.contains(&version) {
            let at = FieldPath::new("status.storedVersions").index(index);
            out.push(Problem::invalid(
                at,
                version,
                "must appear in spec.versions",
            ));
        }
    }
    out
}
