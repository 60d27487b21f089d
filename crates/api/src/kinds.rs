//! The table of kinds that are served: names, scope, subresources, columns and schemas.
//!
//! A kind that is not here does not exist for any part of Serin. Absent on purpose: how a kind behaves.

mod cells;
mod columns;
mod pods;
mod table;
mod when;

use std::fmt;

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

pub use when::human_age;

/// One kind of object that is served.
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version, such as `v1`.
    pub version: &'static str,
    /// The name in manifests, such as `Deployment`.
    pub kind: &'static str,
    /// The name in addresses, such as `deployments`.
    pub plural: &'static str,
    /// The name of one on the command line, such as `deployment`.
    pub singular: &'static str,
    /// Short names of the command line, such as `deploy`.
    pub short_names: &'static [&'static str],
    /// Names that stand for several kinds, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether each object belongs to a namespace.
    pub namespaced: bool,
    /// Which parts of the object have addresses of their own.
    pub subresources: Subresources,
    /// What a table of such objects shows.
    pub columns: &'static [Column],
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Parts of an object that have addresses of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresources {
    /// Whether `status` is written apart from the rest.
    pub status: bool,
    /// Whether the replicas can be read and set alone.
    pub scale: bool,
}

/// Where the numbers of the scale subresource stand in an object, as JSON pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The replicas that are wanted.
    pub spec_replicas: &'static str,
    /// The replicas that are there.
    pub status_replicas: &'static str,
    /// The selector: an object in the form of a `LabelSelector`, or text.
    pub selector: &'static str,
}

/// One column of a table.
#[derive(Clone, Copy)]
pub struct Column {
    /// The heading, such as `Up-to-date`.
    pub name: &'static str,
    /// The OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: &'static str,
    /// The OpenAPI format; `name` marks the column of the object's name, empty says nothing.
    pub format: &'static str,
    /// 0 is always shown, above 0 only in wide tables.
    pub priority: i32,
    /// What it says, for a person.
    pub description: &'static str,
    /// How it is filled in.
    pub cell: Cell,
}

/// How a cell is filled in.
#[derive(Clone, Copy)]
pub enum Cell {
    /// With the value at a path such as `.status.phase`; null when there is none.
    Path(&'static str),
    /// With what the function makes of the object at a point in time.
    Computed(fn(&Value, Timestamp) -> Value),
}

impl Column {
    /// The cell of `object` at the time `now`.
    pub fn value(&self, object: &Value, now: Timestamp) -> Value {
        match self.cell {
            Cell::Path(path) => {
                let mut steps = path.split('.').filter(|step| !step.is_empty());
                let found = steps.try_fold(object, |at, step| at.get(step));
                found.cloned().unwrap_or(Value::Null)
            }
            Cell::Computed(compute) => compute(object, now),
        }
    }
}

/// Every kind, in the order of discovery.
pub fn all() -> &'static [Kind] {
    table::KINDS
}

/// The kind of this name; `group` is empty for the core group.
pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.group == group && k.version == version && k.kind == kind)
}

/// The kind with this name in addresses.
pub fn find_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind that an object says it is, by its `apiVersion` and `kind`.
pub fn of(object: &Value) -> Option<&'static Kind> {
    let (group, version) = split_api_version(object.get("apiVersion")?.as_str()?);
    find(group, version, object.get("kind")?.as_str()?)
}

/// Group and version of `apps/v1`, or of `v1`, whose group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

impl Kind {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` for the core group: the name in messages and in the names of definitions.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether a delete first asks the object to end and waits for its grace period, as only Pods do.
    pub fn graceful(&self) -> bool {
        self.group.is_empty() && self.kind == "Pod"
    }

    /// Where the numbers of the scale subresource stand; `None` without that subresource.
    pub fn scale_paths(&self) -> Option<ScalePaths> {
        let (status_replicas, selector) = match self.kind {
            "Rollout" => ("/status/HPAReplicas", "/status/selector"),
            _ => ("/status/replicas", "/spec/selector"),
        };
        self.subresources.scale.then_some(ScalePaths {
            spec_replicas: "/spec/replicas",
            status_replicas,
            selector,
        })
    }

    /// The OpenAPI v3 schema with every definition it refers to: `{"root": NAME, "schemas": {NAME: SCHEMA}}`, in which
    /// references read `#/components/schemas/NAME`. Made anew on each call, because it is large and seldom asked for.
    pub fn schema_json(&self) -> Value {
        crate::schema::openapi(self)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({}, {})", self.api_version(), self.kind)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.version, self.kind) == (other.group, other.version, other.kind)
    }
}

impl Eq for Kind {}
