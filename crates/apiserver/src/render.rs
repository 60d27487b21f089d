//! Objects as answers: themselves, rows of a table, or only their metadata.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{self, HeaderName};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::accept::View;
use crate::options::{Continue, Parameters};
use crate::resource::Resource;
use crate::status::Refusal;
use crate::store::Record;
use crate::tree::Tree;

/// The header of every JSON answer.
pub(crate) const JSON: [(HeaderName, HeaderValue); 1] = [(
    header::CONTENT_TYPE,
    HeaderValue::from_static("application/json"),
)];

/// One object of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Stored(Arc<Record>),
    /// It was not stored: a dry run.
    Made(Value),
}

impl Item {
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Stored(record) => record.value(),
            Self::Made(value) => value.clone(),
        }
    }

    fn json(&self) -> Bytes {
        match self {
            Self::Stored(record) => record.json.clone(),
            Self::Made(value) => value.to_string().into(),
        }
    }
}

/// What a row carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

/// How a table is filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableOptions {
    pub(crate) include: Include,
    /// For ages.
    pub(crate) now: Timestamp,
    pub(crate) headings: bool,
}

impl TableOptions {
    pub(crate) fn parse(parameters: &Parameters, now: Timestamp) -> Result<Self, Refusal> {
        let include = match parameters.get("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Refusal::bad_request(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        Ok(Self {
            include,
            now,
            headings: true,
        })
    }
}

/// The metadata of a list.
#[derive(Clone, Debug)]
pub(crate) struct ListMeta {
    pub(crate) version: u64,
    pub(crate) continue_: Option<Continue>,
    /// Objects on later pages, when that is known.
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    fn json(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("resourceVersion".into(), self.version.to_string().into());
        if let Some(key) = &self.continue_ {
            meta.insert("continue".into(), key.text().into());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
        Value::Object(meta)
    }
}

/// One object.
pub(crate) fn object(view: View, kind: &Resource, item: &Item, table: TableOptions) -> Bytes {
    match view {
        View::Plain => kind.label(&item.json()),
        View::Metadata => partial(&item.value()).to_string().into(),
        View::Table => {
            let object = kind.as_served(item.value());
            let meta = json!({"resourceVersion": object.at("/metadata/resourceVersion")});
            table_of(kind, meta, [object].iter(), table)
                .to_string()
                .into()
        }
    }
}

/// Many objects.
pub(crate) fn list(
    view: View,
    kind: &Resource,
    records: &[Arc<Record>],
    meta: &ListMeta,
    table: TableOptions,
) -> Bytes {
    match view {
        View::Plain => plain_list(kind, records, meta),
        View::Metadata => {
            let items: Vec<Value> = records.iter().map(|r| partial(&r.value())).collect();
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta.json(), "items": items,
            });
            list.to_string().into()
        }
        View::Table => {
            let objects = records.iter().map(|r| kind.as_served(r.value()));
            let objects: Vec<Value> = objects.collect();
            table_of(kind, meta.json(), objects.iter(), table)
                .to_string()
                .into()
        }
    }
}

/// The stored bytes go out as they are, without being parsed.
fn plain_list(kind: &Resource, records: &[Arc<Record>], meta: &ListMeta) -> Bytes {
    let size = records.iter().map(|r| r.json.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        kind.list_kind,
        kind.api_version(),
        meta.json()
    );
    body.extend_from_slice(head.as_bytes());
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&kind.label(&record.json));
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.at("/metadata")})
}

fn table_of<'a>(
    kind: &Resource,
    meta: Value,
    objects: impl Iterator<Item = &'a Value>,
    options: TableOptions,
) -> Value {
    let rows = objects.map(|object| {
        let cells = kind.cells(object, options.now);
        match options.include {
            Include::Nothing => json!({"cells": cells}),
            Include::Metadata => json!({"cells": cells, "object": partial(object)}),
            Include::Object => json!({"cells": cells, "object": object}),
        }
    });
    let rows: Vec<Value> = rows.collect();
    let mut table =
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "rows": rows});
    table.set(
        "columnDefinitions",
        if options.headings {
            kind.headings().into()
        } else {
            Value::Null
        },
    );
    table
}
