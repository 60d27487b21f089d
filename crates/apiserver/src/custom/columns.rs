//! The columns that a definition shows in tables.

use jiff::Timestamp;
use serde_json::{Value, json};
use serin_api::kinds::human_age;

use super::json_path::JsonPath;
use crate::tree::Tree;

/// One column.
#[derive(Debug)]
pub(super) struct PrinterColumn {
    heading: Value,
    type_: String,
    path: JsonPath,
}

/// The columns of a version; without any, the age is shown.
pub(super) fn of(version: &Value) -> Vec<PrinterColumn> {
    let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "The time since the object was made."}]);
    let columns = match version.at("/additionalPrinterColumns") {
        Value::Array(columns) if !columns.is_empty() => columns.clone(),
        _ => age.as_array().cloned().unwrap_or_default(),
    };
    columns.iter().filter_map(column).collect()
}

fn column(column: &Value) -> Option<PrinterColumn> {
    let text = |name: &str| column[name].as_str().unwrap_or_default();
    let description = match text("description") {
        "" => format!(
            "Custom resource definition column (in JSONPath format): {}",
            text("jsonPath")
        ),
        description => description.to_owned(),
    };
    Some(PrinterColumn {
        heading: json!({
            "name": text("name"), "type": text("type"), "format": text("format"), "description": description,
            "priority": column.at("/priority").as_i64().unwrap_or(0),
        }),
        type_: text("type").to_owned(),
        path: JsonPath::parse(text("jsonPath"))?,
    })
}

impl PrinterColumn {
    pub(super) fn heading(&self) -> Value {
        self.heading.clone()
    }

    /// What the object says there, if it is of the type of the column.
    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.first(object) else {
            return Value::Null;
        };
        match (self.type_.as_str(), found) {
            ("date", Value::String(text)) => match text.parse() {
                Ok(time) => human_age(time, now).into(),
                Err(_) => "<invalid>".into(),
            },
            ("string", Value::String(_))
            | ("integer" | "number", Value::Number(_))
            | ("boolean", Value::Bool(_)) => found.clone(),
            ("string", other) if !other.is_null() => other.to_string().into(),
            _ => Value::Null,
        }
    }
}
