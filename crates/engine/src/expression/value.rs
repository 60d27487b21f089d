//! What an expression can be.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One value. Texts, lists and maps are shared, so that a copy costs nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number; it may be NaN or infinite.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// A list.
    List(Arc<[Value]>),
    /// A map.
    Map(Arc<BTreeMap<String, Value>>),
}

impl Value {
    /// A list of numbers.
    pub fn list_of(numbers: &[f64]) -> Self {
        Self::List(numbers.iter().map(|n| Self::Float(*n)).collect())
    }

    /// From JSON. A whole number that fits stays one; the depth of the document bounds the recursion, and serde_json reads no
    /// document deeper than 128.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Nil,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => number.as_i64().map_or_else(
                || Self::Float(number.as_f64().unwrap_or(f64::NAN)),
                Self::Integer,
            ),
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                let fields = fields.iter();
                let map = fields.map(|(key, value)| (key.clone(), Self::from_json(value)));
                Self::Map(Arc::new(map.collect()))
            }
        }
    }

    /// The number, if it is one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether two values are the same, whole numbers and others mixed; NaN is not the same as itself.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same(b))
            }
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => a == b,
                _ => self == other,
            },
        }
    }

    /// The order of two numbers or two texts: `None` when there is none (NaN), an error when they cannot be compared.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Ok(Some(a.cmp(b))),
            (Self::Text(a), Self::Text(b)) => Ok(Some(a.cmp(b))),
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
                _ => Err(format!(
                    "{} and {} cannot be compared",
                    self.kind(),
                    other.kind()
                )),
            },
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Map(fields) => write!(f, "a map of {}", fields.len()),
        }
    }
}
