//! Identities.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED};
use crate::tree::Tree;

/// Who a request is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:serviceaccount:default:builder`.
    pub name: String,
    /// Empty when there is none.
    pub uid: String,
    /// Rights are given to groups too.
    pub groups: Vec<String>,
    /// What else is known, such as the pod that a token is for.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A part of the platform itself, which may do everything. The name is what the history and managed fields of others say.
    pub fn of_the_system(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    pub(super) fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The service account of this name.
    pub(super) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let mut groups = service_account_groups(namespace).to_vec();
        groups.push(AUTHENTICATED.to_owned());
        Self {
            name: service_account_name(namespace, name),
            uid: uid.to_owned(),
            groups,
            extra: BTreeMap::new(),
        }
    }

    /// Whether it may do everything.
    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// As reviews show it.
    pub(super) fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info.set("uid", self.uid.as_str());
        }
        if !self.extra.is_empty() {
            info.set("extra", json!(self.extra));
        }
        info
    }
}

pub(super) fn service_account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

pub(super) fn service_account_groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Namespace and name of a service account, from the name of its user.
pub(super) fn as_service_account(user: &str) -> Option<(&str, &str)> {
    let rest = user.strip_prefix("system:serviceaccount:")?;
    rest.split_once(':').filter(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !name.contains(':')
    })
}

/// On whose behalf something is done, and what they call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) user: Arc<User>,
    pub(crate) verb: Box<str>,
    /// The program, as it names itself; empty when it does not.
    pub(crate) agent: Box<str>,
}

impl Author {
    /// The server itself, of its own accord.
    pub(crate) fn server() -> Self {
        Self {
            user: Arc::new(User::of_the_system("system:apiserver")),
            verb: "".into(),
            agent: "".into(),
        }
    }
}
