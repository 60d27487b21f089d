//! A cursor over JSON that knows the path of the place where it stands.

use std::fmt;

use serde_json::{Map, Value};

use crate::{FieldPath, Problem};

/// A field, there or not. Null counts as not there.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) value: Option<&'a Value>,
    pub(super) path: FieldPath,
}

impl<'a> Field<'a> {
    pub(super) fn root(object: &'a Value) -> Self {
        Self {
            value: Some(object),
            path: FieldPath::root(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Self {
        Self {
            value: self
                .value
                .and_then(|v| v.get(name))
                .filter(|v| !v.is_null()),
            path: self.path.field(name),
        }
    }

    /// `a.b.c`.
    pub(super) fn at(&self, path: &str) -> Self {
        path.split('.').fold(self.clone(), |at, name| at.get(name))
    }

    pub(super) fn is_there(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.value?.as_str()
    }

    /// The text; empty when there is none.
    pub(super) fn text_or_empty(&self) -> &'a str {
        self.text().unwrap_or_default()
    }

    pub(super) fn integer(&self) -> Option<i64> {
        self.value?.as_i64()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value?.as_bool()
    }

    pub(super) fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value?.as_object()
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let path = self.path.clone();
        let list = self.value.and_then(Value::as_array);
        let list = list.map(Vec::as_slice).unwrap_or_default();
        list.iter().enumerate().map(move |(index, value)| Field {
            value: Some(value),
            path: path.index(index),
        })
    }

    /// The entries of a map with free keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + use<'a> {
        let path = self.path.clone();
        self.map().into_iter().flatten().map(move |(key, value)| {
            let field = Field {
                value: Some(value),
                path: path.key(key),
            };
            (key.as_str(), field)
        })
    }

    /// Whether it is absent, or a list, a map or a text without anything in it.
    pub(super) fn is_empty(&self) -> bool {
        match self.value {
            None => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        }
    }

    pub(super) fn required(&self, hint: &str) -> Problem {
        Problem::required(self.path.clone(), hint)
    }

    pub(super) fn invalid(&self, why: &str) -> Problem {
        Problem::invalid(self.path.clone(), Shown(self.value), why)
    }

    /// As [`Self::invalid`], for a list that is too long to be shown.
    pub(super) fn invalid_list(&self, why: &str) -> Problem {
        Problem::invalid(self.path.clone(), "the list", why)
    }

    pub(super) fn forbidden(&self, why: &str) -> Problem {
        Problem::forbidden(self.path.clone(), why)
    }

    pub(super) fn warning(&self, message: impl Into<String>) -> Problem {
        Problem::warning(self.path.clone(), message)
    }

    /// Tells that what the field asks for is not done, unless it is empty and asks for nothing.
    pub(super) fn not_yet(&self, instead: &str, out: &mut Vec<Problem>) {
        if !self.is_empty() {
            out.push(self.warning(format!("not carried out yet: {instead}")));
        }
    }

    /// As [`Field::not_yet`], for these texts only.
    pub(super) fn words_not_yet(&self, words: &[&str], instead: &str, out: &mut Vec<Problem>) {
        if self.text().is_some_and(|text| words.contains(&text)) {
            self.not_yet(instead, out);
        }
    }

    /// Refuses an empty field; whether there is something.
    pub(super) fn require(&self, hint: &str, out: &mut Vec<Problem>) -> bool {
        if self.is_empty() {
            out.push(self.required(hint));
        }
        !self.is_empty()
    }

    /// Refuses a text that is not one of the words.
    pub(super) fn one_of(&self, words: &[&str], out: &mut Vec<Problem>) {
        if let Some(text) = self.text()
            && !words.contains(&text)
        {
            out.push(Problem::not_supported(self.path.clone(), text, words));
        }
    }

    pub(super) fn not_negative(&self, out: &mut Vec<Problem>) {
        if self.integer().is_some_and(|n| n < 0) {
            out.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// Refuses a number that is no port.
    pub(super) fn port_number(&self, out: &mut Vec<Problem>) {
        if self.integer().is_some_and(|n| !(1..=65535).contains(&n)) {
            out.push(self.invalid("must be between 1 and 65535, inclusive"));
        }
    }
}

/// Elements whose names stand twice are told, except when they have none.
pub(super) fn unique<'a>(fields: impl Iterator<Item = Field<'a>>, out: &mut Vec<Problem>) {
    let mut seen = std::collections::BTreeSet::new();
    for field in fields {
        let Some(text) = field.text().filter(|text| !text.is_empty()) else {
            continue;
        };
        if !seen.insert(text) {
            out.push(Problem::duplicate(field.path, text));
        }
    }
}

/// A value in a message, cut short when it is long.
struct Shown<'a>(Option<&'a Value>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 200;
        let text = self.0.map_or_else(|| "null".to_owned(), Value::to_string);
        match text.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}
