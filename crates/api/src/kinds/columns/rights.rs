//! Roles, and whom they are given to.

use serde_json::{Value, json};

use super::super::cells::{list, text as text_at};
use super::super::{Cell, Column};
use super::{AGE, NAME, text};

pub(in super::super) static ROLE: &[Column] = &[
    NAME,
    text(
        "Created At",
        "When the object was made.",
        Cell::Path(".metadata.creationTimestamp"),
    ),
];

pub(in super::super) static ROLE_BINDING: &[Column] = &[
    NAME,
    text(
        "Role",
        "The role that is given.",
        Cell::Computed(|object, _| json!(role(object))),
    ),
    AGE,
    text(
        "Users",
        "The users that have it.",
        Cell::Computed(|object, _| json!(subjects(object, "User"))),
    )
    .wide(),
    text(
        "Groups",
        "The groups that have it.",
        Cell::Computed(|object, _| json!(subjects(object, "Group"))),
    )
    .wide(),
    text(
        "ServiceAccounts",
        "The service accounts that have it.",
        Cell::Computed(|object, _| json!(subjects(object, "ServiceAccount"))),
    )
    .wide(),
];

fn role(binding: &Value) -> String {
    let (kind, name) = (
        text_at(binding, "/roleRef/kind"),
        text_at(binding, "/roleRef/name"),
    );
    format!("{kind}/{name}")
}

fn subjects(binding: &Value, kind: &str) -> String {
    let of_kind = list(binding, "/subjects")
        .iter()
        .filter(|subject| text_at(subject, "/kind") == kind);
    let names = of_kind.map(|subject| {
        let (namespace, name) = (text_at(subject, "/namespace"), text_at(subject, "/name"));
        if namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        }
    });
    names.collect::<Vec<_>>().join(", ")
}
