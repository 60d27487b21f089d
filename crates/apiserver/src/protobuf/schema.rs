//! The table of messages: made by `cargo xtask protobuf`, read once.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The name of the only field of a message that is a bare list in JSON.
pub(super) const LIST: &str = "[]";

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Whether an empty value is there too.
    pub(super) kept: bool,
    pub(super) type_: Type,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// By text.
    Map,
    /// Its fields stand in its place.
    Inlined,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Time {
        micros: bool,
    },
    /// `RawExtension`, `FieldsV1`.
    Json,
    IntOrString,
    Quantity,
    /// A message of the table.
    Message(&'static str),
}

/// The fields of a message by its name in the table; none when it is not there.
pub(super) fn message(name: &str) -> &'static [Field] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// Whether a message is a bare list in JSON.
pub(super) fn is_list(name: &str) -> bool {
    message(name).iter().any(|field| field.name == LIST)
}

/// The fields of a kind of object.
pub(super) fn kind(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    // The options of a request are the same in every group.
    let name = if kind == "DeleteOptions" {
        "meta.v1.DeleteOptions".to_owned()
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        format!("{package}.{version}.{kind}")
    };
    TABLE.get(name.as_str()).map(Vec::as_slice)
}

type Table = HashMap<&'static str, Vec<Field>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| parse(include_str!("messages.txt")));

fn parse(text: &'static str) -> Table {
    let mut table = Table::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(field) = field(line) {
            table.entry(current).or_default().push(field);
        } else if !line.is_empty() {
            current = line;
            table.entry(current).or_default();
        }
    }
    table
}

/// A line such as `6 revisionHistoryLimit *int32`; `None` for one that names a message.
fn field(line: &'static str) -> Option<Field> {
    let mut words = line.splitn(3, ' ');
    let (number, name, type_) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let kept = type_.starts_with('*');
    let type_ = type_.trim_start_matches('*');
    let (shape, type_) = match (type_.strip_prefix("[]"), type_.strip_prefix("map:")) {
        (Some(item), _) => (Shape::List, item),
        (_, Some(value)) => (Shape::Map, value),
        _ if name == "-" => (Shape::Inlined, type_),
        _ => (Shape::One, type_),
    };
    let type_ = match type_ {
        "string" => Type::Text,
        "bytes" => Type::Bytes,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "Time" => Type::Time { micros: false },
        "MicroTime" => Type::Time { micros: true },
        "FieldsV1" | "RawExtension" => Type::Json,
        "IntOrString" => Type::IntOrString,
        "Quantity" => Type::Quantity,
        message => Type::Message(message),
    };
    Some(Field {
        number,
        name,
        shape,
        kept,
        type_,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert!(TABLE.len() > 200);
        for (name, fields) in TABLE.iter() {
            for field in fields {
                if let Type::Message(inner) = field.type_ {
                    assert!(TABLE.contains_key(inner), "{name}.{}: {inner}", field.name);
                }
                let inlined = field.shape == Shape::Inlined;
                assert_eq!(inlined, field.name == "-", "{name}: {field:?}");
            }
        }
    }

    #[test]
    fn every_kind_that_is_built_into_clusters_is_known() {
        let installed = ["apiextensions.k8s.io", "gateway.networking.k8s.io"];
        for found in serin_api::kinds::all() {
            let own = !found.group.contains('.') || found.group.ends_with(".k8s.io");
            if own && !installed.contains(&found.group) {
                let known = kind(&found.api_version(), found.kind);
                assert!(known.is_some(), "{} {}", found.api_version(), found.kind);
            }
        }
    }
}
