//! A `Table` of the server as lines of text.

use serde_json::Value;

use crate::client::ClientError;
use crate::columns::Columns;

/// How many columns are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Those of priority 0.
    Usual,
    /// All.
    Wide,
}

/// The rows of one kind; more may come with a watch.
pub(super) struct Rows {
    columns: Columns,
    shown: Vec<usize>,
    namespaces: bool,
    prefix: Option<String>,
    first: Vec<Vec<String>>,
}

impl Rows {
    /// Reads a table. `namespaces` puts a column for them in front; `prefix` stands before each name.
    pub(super) fn new(
        table: &Value,
        width: Width,
        namespaces: bool,
        prefix: Option<String>,
    ) -> Result<Self, ClientError> {
        let definitions = table.get("columnDefinitions").and_then(Value::as_array);
        let definitions = definitions.ok_or_else(|| ClientError::Malformed {
            what: "a list without columns".to_owned(),
        })?;
        let mut titles = Vec::new();
        let mut shown = Vec::new();
        if namespaces {
            titles.push("NAMESPACE".to_owned());
        }
        for (place, column) in definitions.iter().enumerate() {
            let priority = column.get("priority").and_then(Value::as_i64).unwrap_or(0);
            if priority > 0 && width == Width::Usual {
                continue;
            }
            let name = column.get("name").and_then(Value::as_str);
            titles.push(name.unwrap_or_default().to_uppercase());
            shown.push(place);
        }
        let mut rows = Self {
            columns: Columns::new(titles),
            shown,
            namespaces,
            prefix,
            first: Vec::new(),
        };
        rows.first = rows.cells(table);
        rows.columns.widen(&rows.first);
        Ok(rows)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The titles and the first rows.
    pub(super) fn text(&self) -> String {
        let mut text = self.columns.title_line();
        for row in &self.first {
            text.push_str(&self.columns.line(row));
        }
        text
    }

    /// The rows of a later table, in the same columns.
    pub(super) fn more(&mut self, table: &Value) -> String {
        let rows = self.cells(table);
        self.columns.widen(&rows);
        rows.iter().map(|row| self.columns.line(row)).collect()
    }

    fn cells(&self, table: &Value) -> Vec<Vec<String>> {
        let rows = table.get("rows").and_then(Value::as_array);
        rows.into_iter()
            .flatten()
            .map(|row| self.row(row))
            .collect()
    }

    fn row(&self, row: &Value) -> Vec<String> {
        let mut line = Vec::new();
        if self.namespaces {
            let namespace = row.pointer("/object/metadata/namespace");
            line.push(namespace.map(cell).unwrap_or_default());
        }
        let cells = row.get("cells").and_then(Value::as_array);
        for (place, column) in self.shown.iter().enumerate() {
            let value = cells.and_then(|cells| cells.get(*column));
            let text = value.map(cell).unwrap_or_default();
            line.push(match &self.prefix {
                Some(prefix) if place == 0 => format!("{prefix}/{text}"),
                _ => text,
            });
        }
        line
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.replace('\n', " "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(width: Width, namespaces: bool, expected: &Expect) {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["web-1", "1/1", "127.64.0.2"], "object": {"metadata": {"namespace": "prod"}}},
                     {"cells": ["web-2", 0, null]}]});
        let rows = Rows::new(&table, width, namespaces, None).unwrap();
        expected.assert_eq(&rows.text());
    }

    #[test]
    fn columns_are_those_that_were_asked_for() {
        check(
            Width::Usual,
            false,
            &expect![[r#"
                NAME    READY
                web-1   1/1
                web-2   0
            "#]],
        );
        check(
            Width::Wide,
            true,
            &expect![[r#"
                NAMESPACE   NAME    READY   IP
                prod        web-1   1/1     127.64.0.2
                            web-2   0       <none>
            "#]],
        );
    }
}
