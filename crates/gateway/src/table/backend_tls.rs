//! TLS to the instances of a Service.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the instances of a Service are spoken to by TLS. Files are read where the table is used; relative paths are below the state
/// directory of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// The name that is asked for (SNI).
    pub server_name: String,
    /// The names of which the certificate must have one; `server_name` where there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
    /// Whose word is enough.
    #[serde(default)]
    pub trust: Trust,
    /// What the gateway shows of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Whose word about an instance is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// Those that the system of the gateway trusts.
    #[default]
    System,
    /// Those whose certificates are in this file, as PEM.
    File(PathBuf),
    /// Its own: what passes is secret, but nobody knows with whom.
    Anybody,
}

/// A certificate of the gateway and its key, in files, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl BackendTls {
    /// By the trust of the system, for this name.
    pub fn named(server_name: String) -> Self {
        Self {
            server_name,
            names: BTreeSet::new(),
            trust: Trust::System,
            identity: None,
        }
    }
}
