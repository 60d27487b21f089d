//! The shapes of objects: which fields there are and of which types.
//!
//! [`of`] gives the compact shape of a kind, made once for all kinds and kept; [`check`] holds an object against it. The
//! OpenAPI document of a kind is large, and made on demand by [`Kind::schema_json`](crate::kinds::Kind::schema_json).
//! Absent on purpose: what values mean; that is [`crate::validate`].

mod build;
mod check;
mod openapi;

use std::sync::Arc;

pub use build::of;
pub(crate) use check::check_metadata;
pub(crate) use check::nearest;
pub use check::{check, without_nulls};
pub(crate) use openapi::openapi;
pub use openapi::openapi_of_custom;

/// What a value looks like. Parts that several kinds have in common are shared.
#[derive(Debug)]
pub enum Shape {
    /// Fields with names that are known.
    Object(Fields),
    /// Elements that all look the same.
    Array(Arc<Shape>),
    /// Entries with free keys and values that all look the same.
    Map(Arc<Shape>),
    /// Text.
    String,
    /// Text that is one of these words.
    Enum(Box<[Box<str>]>),
    /// A point in time as RFC 3339 text.
    Time,
    /// Bytes as base64 text.
    Bytes,
    /// A whole number in this range, both ends included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A 32-bit whole number, or text.
    IntOrString,
    /// An amount: text such as `100m` or `1Gi`, or a bare number.
    Quantity,
    /// Anything.
    Any,
}

/// The fields of an object.
#[derive(Debug)]
pub struct Fields {
    /// By name, sorted.
    pub fields: Box<[(Box<str>, Arc<Shape>)]>,
    /// Those that must be there, sorted.
    pub required: Box<[Box<str>]>,
    /// What fields with other names look like; `None` when there may be none.
    pub extra: Option<Arc<Shape>>,
}

impl Fields {
    /// The shape of a known field.
    pub fn get(&self, name: &str) -> Option<&Arc<Shape>> {
        let found = self
            .fields
            .binary_search_by(|(known, _)| (**known).cmp(name));
        let (_, shape) = self.fields.get(found.ok()?)?;
        Some(shape)
    }

    /// The names of the known fields, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| &**name)
    }
}
