//! A kind of object under one version of its group: what an address names, and what is known of its objects.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_api::kinds::{self, Column, Keeping, Kind};
use serin_api::{Problem, defaults, validate};

mod autoscaling;

use crate::custom::{self, Custom};
use crate::tree::Tree;

/// One kind under one of the versions in which it is served.
///
/// The same objects may be served under several versions. They are stored in one of them; the others differ from it in
/// their `apiVersion` alone, but for one kind that is converted.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    /// The version of the address.
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Whether `status` is written apart from the rest.
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// What is told of the version in every answer, when it is going away.
    pub(crate) deprecation: Option<String>,
    /// Paths of fields by which objects can be selected, beyond those that the server knows.
    pub(crate) selectable: Vec<String>,
    /// The version in which objects are stored.
    pub(crate) stored_version: String,
    pub(crate) definition: Definition,
}

/// Where the numbers of the scale subresource stand in an object, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    /// The selector: an object in the form of a `LabelSelector`, or text. `None`: it has none.
    pub(crate) selector: Option<String>,
}

/// Who says what an object of the kind looks like.
#[derive(Clone, Debug)]
pub(crate) enum Definition {
    /// The table of kinds.
    BuiltIn(&'static Kind),
    /// A CustomResourceDefinition.
    Custom(Arc<Custom>),
}

impl Resource {
    /// A built-in kind, under one of its versions.
    pub(crate) fn built_in(kind: &'static Kind, version: &str) -> Self {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            group: kind.group.to_owned(),
            version: version.to_owned(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
            singular: kind.singular.to_owned(),
            list_kind: format!("{}List", kind.kind),
            short_names: owned(kind.short_names),
            categories: owned(kind.categories),
            namespaced: kind.namespaced,
            has_status: kind.subresources.status,
            scale: kind.scale_paths().map(|paths| ScalePaths {
                spec_replicas: paths.spec_replicas.to_owned(),
                status_replicas: paths.status_replicas.to_owned(),
                selector: Some(paths.selector.to_owned()),
            }),
            deprecation: None,
            selectable: Vec::new(),
            stored_version: kind.stored_version.to_owned(),
            definition: Definition::BuiltIn(kind),
        }
    }

    /// Whether it is this kind, whatever the version.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// What becomes of its objects.
    pub(crate) fn keeping(&self) -> Keeping {
        match &self.definition {
            Definition::BuiltIn(kind) => kind.keeping,
            Definition::Custom(_) => Keeping::Kept,
        }
    }

    /// Whether its objects look otherwise than they are stored.
    fn is_converted(&self) -> bool {
        self.version == "v1" && self.is("autoscaling", "HorizontalPodAutoscaler")
    }

    /// `apps/v1`, or `v1` for the core group.
    pub(crate) fn api_version(&self) -> String {
        kinds::join_api_version(&self.group, &self.version)
    }

    /// The `apiVersion` that stored objects have.
    pub(crate) fn stored_api_version(&self) -> String {
        kinds::join_api_version(&self.group, &self.stored_version)
    }

    /// Whether a delete first asks the object to end and waits for its grace period, as only Pods do.
    pub(crate) fn graceful(&self) -> bool {
        self.is("", "Pod")
    }

    /// Whether its objects define other kinds.
    pub(crate) fn is_definition(&self) -> bool {
        self.is(custom::GROUP, "CustomResourceDefinition")
    }

    /// Whether changes of what is wanted are counted. In a cluster they are not for kinds that nobody brings about; Services
    /// count here, because the data plane says which of their states it serves.
    pub(crate) fn has_generation(&self) -> bool {
        const WITHOUT: [(&str, &str); 12] = [
            ("", "ConfigMap"),
            ("", "Endpoints"),
            ("", "Event"),
            ("", "Namespace"),
            ("", "Node"),
            ("", "Secret"),
            ("", "ServiceAccount"),
            ("coordination.k8s.io", "Lease"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
            ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
            ("rbac.authorization.k8s.io", "Role"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
        ];
        !WITHOUT.iter().any(|(group, kind)| self.is(group, kind))
    }

    /// Fills in what an object leaves out, and takes out what a definition does not have, which is told. Doing it twice is
    /// harmless.
    pub(crate) fn complete(&self, object: &mut Value) -> Vec<Problem> {
        match &self.definition {
            Definition::BuiltIn(kind) => {
                defaults::apply(kind, object);
                Vec::new()
            }
            Definition::Custom(custom) => custom.complete(object),
        }
    }

    /// Whether a definition installed it.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.definition, Definition::Custom(_))
    }

    /// Every problem of an object by itself.
    pub(crate) fn check(&self, object: &Value) -> Vec<Problem> {
        match &self.definition {
            Definition::BuiltIn(kind) => {
                let mut problems = validate::check(kind, object);
                if self.is_definition() && problems.is_empty() {
                    problems.extend(custom::problems(object));
                }
                problems
            }
            Definition::Custom(custom) => custom.check(self, object),
        }
    }

    /// Every problem of a change: fields that may not change, or not so.
    pub(crate) fn check_update(&self, old: &Value, new: &Value) -> Vec<Problem> {
        match &self.definition {
            Definition::BuiltIn(kind) => {
                let mut problems = validate::check_update(kind, old, new);
                if self.is_definition() {
                    problems.extend(custom::changes(new, old));
                }
                problems
            }
            Definition::Custom(custom) => {
                let mut problems = validate::check_metadata_update(old, new);
                problems.extend(custom.check_change(old, new));
                problems
            }
        }
    }

    /// The OpenAPI schema with all that it refers to, as [`Kind::schema_json`] has it.
    pub(crate) fn schema_json(&self) -> Value {
        match &self.definition {
            Definition::BuiltIn(kind) => kind.schema_json(&self.version),
            Definition::Custom(custom) => custom.schema_json(self),
        }
    }

    /// What stands over the columns of a table.
    pub(crate) fn headings(&self) -> Vec<Value> {
        match &self.definition {
            Definition::BuiltIn(kind) => kind.columns.iter().map(heading).collect(),
            Definition::Custom(custom) => custom.headings(),
        }
    }

    /// One row of a table.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.definition {
            Definition::BuiltIn(kind) => {
                let cells = kind.columns.iter();
                cells
                    .map(|c| ago(c.type_, c.value(object, now), now))
                    .collect()
            }
            Definition::Custom(custom) => custom.cells(object, now),
        }
    }

    /// What the documents about the kind change with, besides the program.
    pub(crate) fn revision(&self) -> u64 {
        match &self.definition {
            Definition::BuiltIn(_) => 0,
            Definition::Custom(custom) => custom.revision,
        }
    }

    /// The bytes of a stored object as they are served under this version.
    pub(crate) fn label(&self, json: &Bytes) -> Bytes {
        // The store writes the version first, so only the head of the text changes.
        const HEAD: &[u8] = b"{\"apiVersion\":\"";
        let after = json.strip_prefix(HEAD);
        let end = after.and_then(|after| after.iter().position(|b| *b == b'"'));
        let (Some(after), Some(end)) = (after, end) else {
            return json.clone();
        };
        let (stored, rest) = after.split_at(end);
        let wanted = self.api_version();
        if stored == wanted.as_bytes() {
            return json.clone();
        }
        if self.is_converted()
            && let Ok(object) = serde_json::from_slice(json)
        {
            return self.as_served(object).to_string().into();
        }
        [HEAD, wanted.as_bytes(), rest].concat().into()
    }

    /// A stored object as it is served under this version.
    pub(crate) fn as_served(&self, mut object: Value) -> Value {
        if self.is_converted() {
            autoscaling::to_v1(&mut object);
        }
        object.set("apiVersion", self.api_version());
        object
    }

    /// An object of this version as it is stored.
    pub(crate) fn as_stored(&self, mut object: Value) -> Value {
        if self.is_converted() {
            autoscaling::to_v2(&mut object);
        }
        object.set("apiVersion", self.stored_api_version());
        object
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (&self.group, &self.version, &self.plural) == (&other.group, &other.version, &other.plural)
    }
}

impl Eq for Resource {}

fn heading(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.type_, "format": column.format, "description": column.description,
        "priority": column.priority,
    })
}

/// A date is shown as the time since then.
fn ago(type_: &str, value: Value, now: Timestamp) -> Value {
    let date = value.as_str().filter(|_| type_ == "date");
    match date.and_then(|text| text.parse().ok()) {
        Some(date) => kinds::human_age(date, now).into(),
        None => value,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The built-in kind of this name, in the version in which it is stored.
    pub(crate) fn of_kind(name: &str) -> Resource {
        let kind = kinds::all().iter().find(|k| k.kind == name).unwrap();
        Resource::built_in(kind, kind.version)
    }

    #[test]
    fn a_stored_object_is_served_in_the_version_that_is_asked_for() {
        let kind = kinds::find("gateway.networking.k8s.io", "v1", "HTTPRoute").unwrap();
        let beta = Resource::built_in(kind, "v1beta1");
        let stored =
            Bytes::from_static(b"{\"apiVersion\":\"gateway.networking.k8s.io/v1\",\"kind\":\"x\"}");
        let served = beta.label(&stored);
        let want = b"{\"apiVersion\":\"gateway.networking.k8s.io/v1beta1\",\"kind\":\"x\"}";
        assert_eq!(&served[..], want);
        assert_eq!(Resource::built_in(kind, "v1").label(&stored), stored);
        let value = serde_json::from_slice(&served).unwrap();
        assert_eq!(
            beta.as_stored(value),
            serde_json::from_slice::<Value>(&stored).unwrap()
        );
    }
}
