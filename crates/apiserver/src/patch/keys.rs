//! How lists merge: the one table of list paths with their merge keys, for strategic merge and for server-side apply.
//!
//! The types do not carry this, so it stands here. A list that is not in the table is replaced as a whole.

use crate::custom::ListType;
use crate::resource::{Definition, Resource};

/// How a list takes in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merge<'a> {
    /// It is replaced.
    Atomic,
    /// Its values are a set.
    Set,
    /// Its elements are told apart by these fields.
    By(Vec<&'a str>),
}

/// A [`Merge`] as it stands in the table.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Atomic,
    Set,
    By(&'static [&'static str]),
}

impl Rule {
    fn merge<'a>(self) -> Merge<'a> {
        match self {
            Self::Atomic => Merge::Atomic,
            Self::Set => Merge::Set,
            Self::By(keys) => Merge::By(keys.to_vec()),
        }
    }
}

/// Which objects a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Any,
    /// A Pod, and the pod template of a workload.
    Pod,
    /// The kind of this plural.
    Only(&'static str),
}

struct Row {
    scope: Scope,
    /// The fields on the way, without the places in lists between them.
    path: &'static str,
    strategic: Rule,
    apply: Rule,
}

/// A list whose elements both merges tell apart by one key.
const fn row(scope: Scope, path: &'static str, key: &'static [&'static str]) -> Row {
    ports(scope, path, key, key)
}

const fn by(path: &'static str, key: &'static [&'static str]) -> Row {
    row(Scope::Pod, path, key)
}

/// A list of values that are a set to both merges.
const fn set(scope: Scope, path: &'static str) -> Row {
    Row {
        scope,
        path,
        strategic: Rule::Set,
        apply: Rule::Set,
    }
}

/// Strategic merge knows one key for each list; server-side apply has the whole key.
const fn ports(
    scope: Scope,
    path: &'static str,
    strategic: &'static [&'static str],
    apply: &'static [&'static str],
) -> Row {
    Row {
        scope,
        path,
        strategic: Rule::By(strategic),
        apply: Rule::By(apply),
    }
}

const NAME: &[&str] = &["name"];
const TYPE: &[&str] = &["type"];
const IP: &[&str] = &["ip"];
const MOUNT: &[&str] = &["mountPath"];
const DEVICE: &[&str] = &["devicePath"];
const CONTAINER_PORT: (&[&str], &[&str]) = (&["containerPort"], &["containerPort", "protocol"]);

static TABLE: &[Row] = &[
    set(Scope::Any, "metadata.finalizers"),
    row(Scope::Any, "metadata.ownerReferences", &["uid"]),
    row(Scope::Any, "status.conditions", TYPE),
    set(Scope::Pod, "metadata.finalizers"),
    by("spec.containers", NAME),
    by("spec.containers.env", NAME),
    by("spec.containers.resources.claims", NAME),
    by("spec.containers.volumeDevices", DEVICE),
    by("spec.containers.volumeMounts", MOUNT),
    ports(
        Scope::Pod,
        "spec.containers.ports",
        CONTAINER_PORT.0,
        CONTAINER_PORT.1,
    ),
    by("spec.initContainers", NAME),
    by("spec.initContainers.env", NAME),
    by("spec.initContainers.resources.claims", NAME),
    by("spec.initContainers.volumeDevices", DEVICE),
    by("spec.initContainers.volumeMounts", MOUNT),
    ports(
        Scope::Pod,
        "spec.initContainers.ports",
        CONTAINER_PORT.0,
        CONTAINER_PORT.1,
    ),
    by("spec.ephemeralContainers", NAME),
    by("spec.ephemeralContainers.env", NAME),
    by("spec.ephemeralContainers.resources.claims", NAME),
    by("spec.ephemeralContainers.volumeDevices", DEVICE),
    by("spec.ephemeralContainers.volumeMounts", MOUNT),
    ports(
        Scope::Pod,
        "spec.ephemeralContainers.ports",
        CONTAINER_PORT.0,
        CONTAINER_PORT.1,
    ),
    by("spec.volumes", NAME),
    by("spec.imagePullSecrets", NAME),
    by("spec.hostAliases", IP),
    by("spec.schedulingGates", NAME),
    by("spec.resourceClaims", NAME),
    ports(
        Scope::Pod,
        "spec.topologySpreadConstraints",
        &["topologyKey"],
        &["topologyKey", "whenUnsatisfiable"],
    ),
    row(Scope::Only("pods"), "status.podIPs", IP),
    row(Scope::Only("pods"), "status.resourceClaimStatuses", NAME),
    ports(
        Scope::Only("services"),
        "spec.ports",
        &["port"],
        &["port", "protocol"],
    ),
    row(Scope::Only("serviceaccounts"), "secrets", NAME),
    row(Scope::Only("nodes"), "status.addresses", TYPE),
    Row {
        scope: Scope::Only("nodes"),
        path: "spec.taints",
        strategic: Rule::By(&["key"]),
        apply: Rule::Atomic,
    },
    set(Scope::Only("nodes"), "spec.podCIDRs"),
];

/// How the list at `path` (field names only) of an object of this kind merges strategically.
pub(super) fn strategic(kind: &Resource, path: &[String]) -> Merge<'static> {
    find(kind, path).map_or(Merge::Atomic, |r| r.strategic.merge())
}

/// How the list at `path` (field names only) of an object of this kind merges in server-side apply.
pub(super) fn apply<'k>(kind: &'k Resource, path: &[String]) -> Merge<'k> {
    let of_metadata = path.first().is_some_and(|name| name == "metadata");
    match &kind.definition {
        // What a definition says holds for all but the metadata, which every object has.
        Definition::Custom(custom) if !of_metadata => match custom.list_at(path) {
            None | Some(ListType::Atomic) => Merge::Atomic,
            Some(ListType::Set) => Merge::Set,
            Some(ListType::Map(keys)) => Merge::By(keys.iter().map(String::as_str).collect()),
        },
        _ => find(kind, path).map_or(Merge::Atomic, |r| r.apply.merge()),
    }
}

/// Objects that server-side apply takes as one value, of every kind: selectors and references, which make sense only whole.
const ATOMIC_MAPS: &[&str] = &[
    "labelSelector",
    "namespaceSelector",
    "nodeSelector",
    "configMapKeyRef",
    "secretKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "targetRef",
    "involvedObject",
    "claimRef",
];

/// Whether the object at `path` (field names only) is taken as one value by server-side apply.
pub(super) fn is_atomic_map(kind: &Resource, path: &[String]) -> bool {
    let Some(last) = path.last() else {
        return false;
    };
    match &kind.definition {
        Definition::Custom(custom) => custom.is_atomic_map(path),
        Definition::BuiltIn(_) => {
            let of_workload = path.len() == 2 && path.first().is_some_and(|f| f == "spec");
            ATOMIC_MAPS.contains(&last.as_str()) || of_workload && last == "selector"
        }
    }
}

/// The value that a key field has when it is absent; only ports have one.
pub(super) fn default_key(field: &str) -> Option<&'static str> {
    (field == "protocol").then_some("TCP")
}

fn find(kind: &Resource, path: &[String]) -> Option<&'static Row> {
    let (in_pod, short) = match path {
        [spec, template, rest @ ..] if spec == "spec" && template == "template" => (true, rest),
        [spec, job, inner, template, rest @ ..]
            if [spec, job, inner, template] == ["spec", "jobTemplate", "spec", "template"] =>
        {
            (true, rest)
        }
        _ => (kind.plural == "pods", path),
    };
    let is_template = short.len() < path.len();
    let joined = short.join(".");
    TABLE.iter().find(|row| {
        let scope = match row.scope {
            Scope::Any => !is_template,
            Scope::Pod => in_pod,
            Scope::Only(plural) => !is_template && kind.plural == plural,
        };
        scope && row.path == joined
    })
}
