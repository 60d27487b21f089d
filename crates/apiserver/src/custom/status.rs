//! The status of a definition: whether its names are free, and whether its kind is served.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::meta;
use crate::tree::Tree;

/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether the kind of a definition is served.
pub(super) fn is_established(definition: &Value) -> bool {
    let conditions = definition.at("/status/conditions").as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.at("/type") == "Established" && c.at("/status") == "True")
}

/// Writes what the server says of a definition: its status and what holds it. `others` are the definitions beside it.
pub(crate) fn settle(definition: &mut Value, others: &[Value], now: Timestamp) {
    hold(definition);
    let conflict = conflict(definition, others);
    let established = is_established(definition) || conflict.is_none();
    let (accepted, was_accepted) = match &conflict {
        None => (
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            definition.at("/spec/names").clone(),
        ),
        Some((reason, message)) => (
            condition("NamesAccepted", false, reason, message),
            definition.at("/status/acceptedNames").clone(),
        ),
    };
    let mut conditions = vec![accepted];
    conditions.push(if established {
        let why = "the initial names have been accepted";
        condition("Established", true, "InitialNamesAccepted", why)
    } else {
        let why = "not all names are accepted";
        condition("Established", false, "NotAccepted", why)
    });
    if meta::is_deleting(definition) {
        let why = "CustomResourceDefinition marked for deletion; its objects are deleted first";
        conditions.push(condition(
            "Terminating",
            true,
            "InstanceDeletionInProgress",
            why,
        ));
    }
    let before = definition.at("/status/conditions").clone();
    for condition in &mut conditions {
        let since = since(&before, condition).unwrap_or_else(|| meta::seconds(now).into());
        condition.set("lastTransitionTime", since);
    }
    let stored = stored_versions(definition);
    let status = definition.map("status");
    status.insert("conditions".into(), conditions.into());
    let accepted = if was_accepted.is_object() {
        was_accepted
    } else {
        json!({"kind": "", "plural": ""})
    };
    status.insert("acceptedNames".into(), accepted);
    status.insert("storedVersions".into(), stored.into());
}

fn hold(definition: &mut Value) {
    if meta::is_deleting(definition) || meta::finalizers(definition).contains(&CLEANUP) {
        return;
    }
    let list = meta::of_mut(definition)
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    if let Value::Array(list) = list {
        list.push(CLEANUP.into());
    }
}

fn condition(type_: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": type_, "status": status, "reason": reason, "message": message})
}

/// Since when a condition has been so, if it has been so before.
fn since(before: &Value, condition: &Value) -> Option<Value> {
    let same = |c: &&Value| {
        c.at("/type") == condition.at("/type") && c.at("/status") == condition.at("/status")
    };
    let found = before.as_array()?.iter().find(same)?;
    Some(found.at("/lastTransitionTime").clone())
}

/// Every version in which objects may be stored.
fn stored_versions(definition: &Value) -> Vec<Value> {
    let before = definition.at("/status/storedVersions").as_array();
    let mut stored = before.cloned().unwrap_or_default();
    let versions = definition.at("/spec/versions").as_array();
    let now = versions.into_iter().flatten();
    for version in now.filter(|v| v.at("/storage") == true) {
        if !stored.contains(version.at("/name")) {
            stored.push(version.at("/name").clone());
        }
    }
    stored
}

/// The first name that another kind of the group has already, with the reason word.
fn conflict(definition: &Value, others: &[Value]) -> Option<(&'static str, String)> {
    let (name, group) = (meta::text(definition, "name"), definition.at("/spec/group"));
    let beside = others
        .iter()
        .filter(|other| meta::text(other, "name") != name && other.at("/spec/group") == group);
    let taken: Vec<&Value> = beside.map(|o| o.at("/status/acceptedNames")).collect();
    let names = definition.at("/spec/names");
    let used: Vec<String> = taken
        .iter()
        .flat_map(|names| resource_names(names))
        .collect();
    let kinds: Vec<&str> = taken.iter().flat_map(|names| kind_names(names)).collect();
    let table = [
        ("PluralConflict", vec![text(names, "plural")], false),
        ("SingularConflict", vec![text(names, "singular")], false),
        ("ShortNamesConflict", short_names(names), false),
        ("KindConflict", vec![text(names, "kind")], true),
        ("ListKindConflict", vec![text(names, "listKind")], true),
    ];
    for (reason, wanted, is_kind) in table {
        let is_taken = |name: &&str| {
            let known = if is_kind {
                kinds.contains(name)
            } else {
                used.iter().any(|used| used == name)
            };
            !name.is_empty() && known
        };
        if let Some(name) = wanted.into_iter().find(is_taken) {
            return Some((reason, format!("{name:?} is already in use")));
        }
    }
    None
}

fn text<'a>(names: &'a Value, field: &str) -> &'a str {
    names[field].as_str().unwrap_or_default()
}

fn short_names(names: &Value) -> Vec<&str> {
    let list = names.at("/shortNames").as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn resource_names(names: &Value) -> Vec<String> {
    let own = [text(names, "plural"), text(names, "singular")];
    own.into_iter()
        .chain(short_names(names))
        .map(str::to_owned)
        .collect()
}

fn kind_names(names: &Value) -> [&str; 2] {
    [text(names, "kind"), text(names, "listKind")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn definition(plural: &str, kind: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true}]}})
    }

    fn lines(definition: &Value) -> String {
        let conditions = definition["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter();
        let lines = conditions.map(|c| {
            format!(
                "{}={} {} {}",
                c["type"], c["status"], c["reason"], c["message"]
            )
        });
        lines.collect::<Vec<_>>().join("\n").replace('"', "")
    }

    #[test]
    fn free_names_are_accepted_and_taken_ones_are_not() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = definition("widgets", "Widget");
        settle(&mut first, &[], now);
        expect![[r#"
            NamesAccepted=True NoConflicts no conflicts found
            Established=True InitialNamesAccepted the initial names have been accepted"#]]
        .assert_eq(&lines(&first));
        assert_eq!(first["status"]["storedVersions"], json!(["v1"]));
        let mut second = definition("gadgets", "Widget");
        settle(&mut second, &[first.clone()], now);
        assert!(!is_established(&second));
        assert!(
            lines(&second).contains("KindConflict") || lines(&second).contains("SingularConflict")
        );
        let again = first.clone();
        settle(
            &mut first,
            &[second],
            "2030-01-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(first, again, "what holds keeps its time");
    }
}
