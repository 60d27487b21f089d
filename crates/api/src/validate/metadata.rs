//! Names, labels and annotations of every object, and selectors over labels.

use super::field::Field;
use super::names;
use crate::Problem;
use crate::kinds::Kind;

/// Annotations of one object take no more than this together, in bytes.
const MOST_ANNOTATIONS: usize = 256 * 1024;

/// Why a text is no such name; `None` when it is one.
type Rule = fn(&str) -> Option<&'static str>;

pub(super) fn check(kind: &Kind, root: &Field<'_>, out: &mut Vec<Problem>) {
    let rule = match (kind.group, kind.kind) {
        ("", "Namespace") => names::label,
        ("", "Service") => names::service,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::subdomain,
    };
    check_names(rule, kind.namespaced, &root.get("metadata"), out);
}

/// As [`check`], with what the names of the kind may look like.
pub(super) fn check_names(
    rule: Rule,
    namespaced: bool,
    metadata: &Field<'_>,
    out: &mut Vec<Problem>,
) {
    name(rule, metadata, out);
    namespace(namespaced, &metadata.get("namespace"), out);
    labels_and_annotations(metadata, out);
    owners(&metadata.get("ownerReferences"), out);
    finalizers(&metadata.get("finalizers"), out);
}

fn owners(owners: &Field<'_>, out: &mut Vec<Problem>) {
    let mut controllers = 0;
    for owner in owners.items() {
        for name in ["apiVersion", "kind", "name", "uid"] {
            let field = owner.get(name);
            if owner.map().is_some() && field.is_empty() {
                out.push(field.required("must not be empty"));
            }
        }
        controllers += usize::from(owner.get("controller").boolean() == Some(true));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        out.push(Problem::invalid(owners.path.clone(), controllers, why));
    }
}

fn finalizers(finalizers: &Field<'_>, out: &mut Vec<Problem>) {
    const STANDARD: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];
    for finalizer in finalizers.items() {
        let text = finalizer.text_or_empty();
        if let Some(why) = names::qualified(text) {
            out.push(finalizer.invalid(why));
        } else if !text.contains('/') && !STANDARD.contains(&text) {
            out.push(finalizer.warning(
                "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers",
            ));
        }
    }
}

/// The same of a pod template, which needs no name.
pub(super) fn labels_and_annotations(metadata: &Field<'_>, out: &mut Vec<Problem>) {
    labels(&metadata.get("labels"), out);
    let annotations = metadata.get("annotations");
    for (key, field) in annotations.entries() {
        // Upper case is borne in the prefix of annotations, other than in labels.
        if let Some(why) = names::qualified(&key.to_lowercase()) {
            out.push(Problem::invalid(field.path, format!("{key:?}"), why));
        }
    }
    let sizes = annotations
        .entries()
        .map(|(key, value)| key.len() + value.text_or_empty().len());
    if sizes.sum::<usize>() > MOST_ANNOTATIONS {
        let why = format!("Too long: must have at most {MOST_ANNOTATIONS} bytes");
        out.push(Problem::invalid(annotations.path, "(not shown)", &why));
    }
}

/// Labels of an object, or those that a selector wants.
pub(super) fn labels(labels: &Field<'_>, out: &mut Vec<Problem>) {
    for (key, field) in labels.entries() {
        if let Some(why) = names::qualified(key) {
            out.push(Problem::invalid(
                field.path.clone(),
                format!("{key:?}"),
                why,
            ));
        }
        if let Some(why) = field.text().and_then(names::label_value) {
            out.push(field.invalid(why));
        }
    }
}

/// A `LabelSelector`.
pub(super) fn selector(selector: &Field<'_>, out: &mut Vec<Problem>) {
    labels(&selector.get("matchLabels"), out);
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key");
        if key.require("", out)
            && let Some(why) = key.text().and_then(names::qualified)
        {
            out.push(key.invalid(why));
        }
        let operator = expression.get("operator");
        operator.one_of(&["In", "NotIn", "Exists", "DoesNotExist"], out);
        let values = expression.get("values");
        match operator.text_or_empty() {
            "In" | "NotIn" => {
                let hint = "must be specified when `operator` is 'In' or 'NotIn'";
                values.require(hint, out);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(values.forbidden(why));
            }
            _ => {}
        }
    }
}

fn name(rule: Rule, metadata: &Field<'_>, out: &mut Vec<Problem>) {
    let (name, prefix) = (metadata.get("name"), metadata.get("generateName"));
    if name.is_empty() && prefix.is_empty() {
        out.push(name.required("name or generateName is required"));
        return;
    }
    if let Some(why) = name.text().filter(|text| !text.is_empty()).and_then(rule) {
        out.push(name.invalid(why));
    }
    // A prefix ends as the name goes on.
    let stem = prefix.text().map(|text| text.trim_end_matches(['-', '.']));
    if let Some(why) = stem.filter(|stem| !stem.is_empty()).and_then(rule) {
        out.push(prefix.invalid(why));
    }
}

fn namespace(namespaced: bool, namespace: &Field<'_>, out: &mut Vec<Problem>) {
    if namespace.is_empty() {
        return;
    }
    if !namespaced {
        out.push(namespace.forbidden("not allowed on this type"));
    } else if let Some(why) = namespace.text().and_then(names::label) {
        out.push(namespace.invalid(why));
    }
}
