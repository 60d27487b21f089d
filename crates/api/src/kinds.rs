//! The table of kinds that are served: names, scope, subresources, columns and schemas.
//!
//! A kind that is not here does not exist for any part of Serin. Absent on purpose: how a kind behaves.

mod cells;
mod columns;
mod others;
mod pods;
mod table;
mod when;

use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

pub use when::human_age;

/// One kind of object that is served.
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version in which objects are served, such as `v1`.
    pub version: &'static str,
    /// The version in which objects are stored. Where it is another one, there is a row of the same names for that.
    pub stored_version: &'static str,
    /// Other versions under which the same objects are served; they differ in their `apiVersion` alone.
    pub also_served: &'static [&'static str],
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
    /// What becomes of its objects.
    pub keeping: Keeping,
    /// What a table of such objects shows.
    pub columns: &'static [Column],
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What becomes of the objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// They are kept.
    Kept,
    /// Each is a question: it is answered, and not kept.
    Answered,
    /// There are none and there will be none, because nothing here would bring them about. Clients that look for some find none.
    Never,
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

/// Every kind whose objects are kept, in the order of discovery.
pub fn all() -> &'static [Kind] {
    table::KINDS
}

/// The kinds whose objects are not kept: reviews, and those that clients look for and that nothing here brings about.
pub fn others() -> &'static [Kind] {
    others::KINDS
}

/// The kind of this name in any version that is served; `group` is empty for the core group.
pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.group == group && k.kind == kind && k.serves(version))
}

/// The kind with this name in addresses, in any version that is served.
pub fn find_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.group == group && k.plural == plural && k.serves(version))
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

/// `apps/v1` of a group and a version, or `v1` for the core group.
pub fn join_api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Which of two versions clients should prefer, the better one first: `v2`, `v1`, `v1beta2`, `v1alpha1`, then all others.
pub fn by_version(a: &str, b: &str) -> Ordering {
    let better = maturity(b).cmp(&maturity(a));
    better.then_with(|| a.cmp(b))
}

/// Stage (2 stable, 1 beta, 0 alpha), major and minor number of a version such as `v1beta2`; `None` of any other text.
fn maturity(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    let (major, stage) = rest.split_at(digits.unwrap_or(rest.len()));
    let (stage, minor) = match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (_, Some(minor)) => (0, minor),
        _ if stage.is_empty() => (2, "0"),
        _ => return None,
    };
    Some((stage, major.parse().ok()?, minor.parse().ok()?))
}

impl Kind {
    /// The `apiVersion` of its objects: `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        join_api_version(self.group, self.version)
    }

    /// Every version that is served with this row, its own first.
    pub fn versions(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.version).chain(self.also_served.iter().copied())
    }

    /// Whether objects are served in this version.
    pub fn serves(&self, version: &str) -> bool {
        self.versions().any(|v| v == version)
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
    /// references read `#/components/schemas/NAME`. It is that of `version`, which is one of [`Kind::versions`]. Made anew on each
    /// call, because it is large and seldom asked for.
    pub fn schema_json(&self, version: &str) -> Value {
        crate::schema::openapi(self, version)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "foo1", "v10", "v1beta2", "v2", "v1beta1", "v1"];
        versions.sort_by(|a, b| by_version(a, b));
        let want = ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo1"];
        assert_eq!(versions, want);
    }
}
