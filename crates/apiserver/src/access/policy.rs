//! The rights that the objects of RBAC give, as one value: made of the store, asked without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::RBAC;
use super::attributes::{Asked, Attributes};
use super::rule::Rule;
use super::user::{User, as_service_account};
use crate::store::{Record, Shared};

/// Namespace and name; the namespace of a ClusterRole is empty.
type RoleName = (String, String);

/// Who may do what.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    roles: BTreeMap<RoleName, Arc<[Rule]>>,
    /// By namespace; those of the cluster are under the empty one.
    bindings: BTreeMap<String, Vec<Binding>>,
}

/// What is said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed {
        /// Which binding gives it.
        why: String,
    },
    Denied {
        /// What is wrong with bindings that might have given it; mostly empty.
        why: String,
    },
}

/// A role, given to subjects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Binding {
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    namespace: String,
    role_ref: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Role {
    rules: Vec<Rule>,
}

impl Policy {
    /// The policy of the objects of RBAC among `records`. One that cannot be read gives nothing.
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a Arc<Record>>) -> Self {
        let mut policy = Self::default();
        for record in records {
            let key = &record.key;
            let (namespace, name) = (key.namespace().to_owned(), key.name().to_owned());
            match key.plural() {
                "roles" | "clusterroles" => {
                    let role: Role = read(record);
                    policy.roles.insert((namespace, name), role.rules.into());
                }
                "rolebindings" | "clusterrolebindings" => {
                    let binding = Binding {
                        name,
                        namespace: namespace.clone(),
                        ..read(record)
                    };
                    policy.bindings.entry(namespace).or_default().push(binding);
                }
                _ => {}
            }
        }
        policy
    }

    /// Whether `user` may do what is asked for.
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        if user.is_master() {
            return Decision::Allowed { why: String::new() };
        }
        let mut lost = Vec::new();
        for binding in self.bindings_of(user, attributes.namespace()) {
            match self.rules_of(binding) {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::Allowed {
                        why: binding.reason(),
                    };
                }
                Some(_) => {}
                None => lost.push(binding.lost_role()),
            }
        }
        Decision::Denied {
            why: lost.join(", "),
        }
    }

    /// Whether `user` may do what is asked for.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        matches!(self.decide(user, attributes), Decision::Allowed { .. })
    }

    /// All that `user` may do in a namespace, or with an empty one in the whole cluster.
    pub(super) fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let every = || "*".to_owned();
        let mut all = Vec::new();
        if user.is_master() {
            all.push(Rule {
                verbs: vec![every()],
                api_groups: vec![every()],
                resources: vec![every()],
                ..Rule::default()
            });
            all.push(Rule {
                verbs: vec![every()],
                non_resource_urls: vec![every()],
                ..Rule::default()
            });
        }
        for binding in self.bindings_of(user, namespace) {
            let rules = self.rules_of(binding).unwrap_or_default();
            let within = !binding.namespace.is_empty();
            // Rights within a namespace are on no address outside of it.
            let given = rules
                .iter()
                .filter(|r| !within || r.non_resource_urls.is_empty());
            all.extend(given.cloned());
        }
        all
    }

    /// The rules of a role that a binding in `namespace` refers to; `None` when there is no such role.
    pub(super) fn role(&self, namespace: &str, role: &RoleRef) -> Option<&[Rule]> {
        let namespace = if role.kind == "ClusterRole" {
            ""
        } else {
            namespace
        };
        let found = self.roles.get(&(namespace.to_owned(), role.name.clone()));
        found.map(|rules| &**rules)
    }

    fn rules_of(&self, binding: &Binding) -> Option<&[Rule]> {
        self.role(&binding.namespace, &binding.role_ref)
    }

    /// The bindings of the cluster, and those of the namespace, that are for this user.
    fn bindings_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Binding> {
        let within = (!namespace.is_empty()).then_some(namespace);
        let places = std::iter::once("").chain(within);
        let all = places
            .filter_map(|place| self.bindings.get(place))
            .flatten();
        all.filter(move |binding| binding.subjects.iter().any(|s| s.is(user)))
    }
}

impl Binding {
    fn reason(&self) -> String {
        let RoleRef { kind, name } = &self.role_ref;
        if self.namespace.is_empty() {
            format!(
                "RBAC: allowed by ClusterRoleBinding {:?} of {kind} {name:?}",
                self.name
            )
        } else {
            let own = format!("{}/{}", self.name, self.namespace);
            format!("RBAC: allowed by RoleBinding {own:?} of {kind} {name:?}")
        }
    }

    fn lost_role(&self) -> String {
        let RoleRef { kind, name } = &self.role_ref;
        format!("RBAC: {}.{RBAC} {name:?} not found", kind.to_lowercase())
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.groups.contains(&self.name),
            "ServiceAccount" => {
                as_service_account(&user.name) == Some((&self.namespace, &self.name))
            }
            _ => false,
        }
    }
}

fn read<T: Default + for<'de> Deserialize<'de>>(record: &Record) -> T {
    serde_json::from_slice(&record.json).unwrap_or_else(|error| {
        tracing::warn!(key = %record.key, %error, "an object of RBAC cannot be read and gives nothing");
        T::default()
    })
}

/// The policy of a store, made anew when its objects of RBAC have changed.
#[derive(Clone)]
pub(crate) struct Policies {
    shared: Arc<Shared>,
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    /// The version of the store that was looked at last; `None` when it never was.
    seen: Option<u64>,
    /// The versions of the objects that the policy is made of.
    of: Vec<u64>,
    policy: Arc<Policy>,
}

impl Policies {
    pub(crate) fn over(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            made: Arc::default(),
        }
    }

    /// The policy as of now.
    pub(crate) fn now(&self) -> Arc<Policy> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.shared.version();
        if made.seen == Some(version) {
            return Arc::clone(&made.policy);
        }
        let records = self.shared.list(&format!("{RBAC}/"), None).records;
        let of: Vec<u64> = records.iter().map(|r| r.rv).collect();
        if made.seen.is_none() || made.of != of {
            made.policy = Arc::new(Policy::of(&records));
            made.of = of;
        }
        made.seen = Some(version);
        Arc::clone(&made.policy)
    }
}

impl Asked {
    /// `in the namespace "x"` or `at the cluster scope`.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Resource { namespace, .. } if !namespace.is_empty() => {
                format!("in the namespace {namespace:?}")
            }
            _ => "at the cluster scope".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
