//! The paths of `jsonPath`: fields, indexes and wildcards, as `kubectl` writes them.

use std::fmt;

use serde_json::Value;

/// Parts that one path may have, and values that it may find.
const MOST_PARTS: usize = 32;
const MOST_FOUND: usize = 100_000;

/// `{$.data.ok}`, `{.items[0].up}`, `{.items[*].up}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Field(String),
    /// Counted from the end when negative.
    Index(i64),
    Every,
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// The sentence for the person; filters, slices and recursive descent are not known.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "jsonPath {text:?}: use fields, indexes and [*], such as {{$.data.ok}} or {{.items[0].up}}"
            )
        };
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .map_or(Some(inner), |rest| rest.strip_suffix('}'));
        let mut rest = inner.ok_or_else(wrong)?.trim();
        rest = rest.strip_prefix('$').unwrap_or(rest);
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if parts.len() == MOST_PARTS {
                return Err(wrong());
            }
            let (part, tail) = part(rest).ok_or_else(wrong)?;
            parts.push(part);
            rest = tail;
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// What is there: one value, or a list when the path has a wildcard. `None` when there is nothing.
    pub(super) fn find(&self, document: &Value) -> Option<Value> {
        let mut found = vec![document];
        for part in &self.parts {
            found = found
                .into_iter()
                .flat_map(|value| step(value, part))
                .take(MOST_FOUND)
                .collect();
        }
        if self.parts.contains(&Part::Every) {
            return Some(Value::Array(found.into_iter().cloned().collect()));
        }
        found.first().copied().cloned()
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn part(rest: &str) -> Option<(Part, &str)> {
    if let Some(rest) = rest.strip_prefix('.') {
        if let Some(rest) = rest.strip_prefix('*') {
            return Some((Part::Every, rest));
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at_checked(end)?;
        // `..` is a descent, and `$.` alone is the whole document.
        return (!name.is_empty()).then(|| (Part::Field(name.to_owned()), tail));
    }
    let (inside, tail) = rest.strip_prefix('[')?.split_once(']')?;
    let inside = inside.trim();
    let quoted = ['\'', '"'].into_iter().find_map(|quote| {
        inside
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
    });
    let part = match (quoted, inside) {
        (Some(name), _) => Part::Field(name.to_owned()),
        (None, "*") => Part::Every,
        (None, number) => Part::Index(number.parse().ok()?),
    };
    Some((part, tail))
}

fn step<'a>(value: &'a Value, part: &Part) -> Vec<&'a Value> {
    match (part, value) {
        (Part::Field(name), _) => value.get(name).into_iter().collect(),
        (Part::Every, Value::Array(items)) => items.iter().collect(),
        (Part::Every, Value::Object(fields)) => fields.values().collect(),
        (Part::Index(index), Value::Array(items)) => {
            let place = usize::try_from(*index).ok().or_else(|| {
                let back = usize::try_from(index.unsigned_abs()).ok()?;
                items.len().checked_sub(back)
            });
            place
                .and_then(|place| items.get(place))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let document = json!({"a": {"b.c": [1, 2, {"d": null}]}, "items": [{"up": 1}, {"up": 0}]});
        let table = [
            ("{$.items[0].up}", Some(json!(1))),
            ("{.items[-1].up}", Some(json!(0))),
            ("$.items[*].up", Some(json!([1, 0]))),
            ("{.a['b.c'][1]}", Some(json!(2))),
            ("{.a[\"b.c\"][2].d}", Some(json!(null))),
            ("{$}", Some(document.clone())),
            ("{.nothing[*]}", Some(json!([]))),
            ("{.items[7].up}", None),
            ("{.nothing.deeper}", None),
        ];
        for (path, expected) in table {
            assert_eq!(
                JsonPath::parse(path).unwrap().find(&document),
                expected,
                "{path}"
            );
        }
        for wrong in ["{..a}", "{.a[?(@.b)]}", "{.a", "a", "{.a[0:2]}", "{.}"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
