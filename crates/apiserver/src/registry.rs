//! Which kinds there are: the built-in ones.

use std::sync::{Arc, LazyLock};

use serin_api::kinds;

use crate::resource::Resource;

/// Every built-in kind in every version, in the order of the table of kinds.
static BUILT_IN: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let versions = |kind: &'static kinds::Kind| kind.versions().map(move |v| (kind, v));
    let all = kinds::all().iter().flat_map(versions);
    all.map(|(kind, version)| Arc::new(Resource::built_in(kind, version)))
        .collect()
});

/// The kinds that a server knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {}

impl Registry {
    /// Every kind in every version, in the order of discovery.
    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        BUILT_IN.clone()
    }

    /// The kind with this name in addresses.
    pub(crate) fn plural(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let found = BUILT_IN
            .iter()
            .find(|r| r.plural == plural && r.group == group && r.version == version);
        found.cloned()
    }

    /// The kind of this name, as objects and their owners' references say it.
    pub(crate) fn kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let found = BUILT_IN
            .iter()
            .find(|r| r.kind == kind && r.group == group && r.version == version);
        found.cloned()
    }

    /// The kind of stored objects with this name in addresses, in the version in which they are stored.
    pub(crate) fn stored(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        let found = BUILT_IN
            .iter()
            .find(|r| r.plural == plural && r.group == group && r.version == r.stored_version);
        found.cloned()
    }
}
