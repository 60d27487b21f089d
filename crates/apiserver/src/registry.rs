//! Which kinds there are: the built-in ones, and those that definitions in the store install.
//!
//! Nothing is kept that could be stale: a kind that is asked for is looked up in the store by the name of its definition, and
//! what was made of that definition before is used again while it has not changed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use serin_api::kinds::{self, Keeping};

use crate::custom;
use crate::resource::{Definition, Resource};
use crate::store::{Key, Record, Shared, prefix};

/// Every built-in kind in every version, in the order of the tables of kinds.
static BUILT_IN: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let versions = |kind: &'static kinds::Kind| kind.versions().map(move |v| (kind, v));
    let all = kinds::all().iter().chain(kinds::others());
    let all = all.flat_map(versions);
    all.map(|(kind, version)| Arc::new(Resource::built_in(kind, version)))
        .collect()
});

/// The kinds that a server knows; clones share what was made of definitions.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    /// `None`: only the built-in kinds.
    shared: Option<Arc<Shared>>,
    made: Arc<Mutex<BTreeMap<Key, Made>>>,
}

/// The kinds of one definition, one for each version that is served.
#[derive(Clone)]
struct Made {
    /// The version of the definition that they were made of.
    revision: u64,
    kinds: Arc<[Arc<Resource>]>,
}

impl Registry {
    /// The built-in kinds and those that the objects in a store define.
    pub(crate) fn over(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Some(Arc::clone(shared)),
            made: Arc::default(),
        }
    }

    /// Every kind in every version, the built-in ones first.
    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        let definitions = self.definitions();
        self.forget_all_but(&definitions);
        let installed = definitions.iter().flat_map(|d| self.made_of(d).to_vec());
        let is_new = |kind: &Arc<Resource>| built_in(|b| b.is(&kind.group, &kind.kind)).is_none();
        BUILT_IN
            .iter()
            .cloned()
            .chain(installed.filter(is_new))
            .collect()
    }

    /// The kind with this name in addresses.
    pub(crate) fn plural(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let known = |r: &Resource| r.plural == plural && r.group == group && r.version == version;
        built_in(known).or_else(|| {
            let kinds = self.installed(group, plural);
            kinds.iter().find(|kind| known(kind)).cloned()
        })
    }

    /// The kind of this name, as objects and references to owners say it.
    pub(crate) fn kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let known = |r: &Resource| r.kind == kind && r.group == group && r.version == version;
        built_in(known).or_else(|| {
            let definitions = self.definitions();
            let kinds = definitions.iter().flat_map(|d| self.made_of(d).to_vec());
            kinds.into_iter().find(|kind| known(kind))
        })
    }

    /// The kind of stored objects with this name in addresses, in the version in which they are stored.
    pub(crate) fn stored(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        let known = |r: &Resource| r.plural == plural && r.group == group;
        built_in(|r| known(r) && r.version == r.stored_version).or_else(|| {
            let kinds = self.installed(group, plural);
            let stored = kinds
                .iter()
                .find(|kind| kind.version == kind.stored_version);
            stored.or(kinds.first()).cloned()
        })
    }

    /// Writes into a definition what the server says of it; leaves every other object alone.
    pub(crate) fn settle(&self, kind: &Resource, object: &mut Value, now: Timestamp) {
        if !kind.is_definition() {
            return;
        }
        let beside: Vec<Value> = self.definitions().iter().map(|r| r.value()).collect();
        custom::settle(object, &beside, now);
    }

    /// The kinds of the definition with this name; none without it.
    fn installed(&self, group: &str, plural: &str) -> Arc<[Arc<Resource>]> {
        let name = format!("{plural}.{group}");
        let key = Key::new(custom::GROUP, custom::PLURAL, "", &name);
        let found = self.shared.as_ref().and_then(|shared| shared.get(&key));
        found.map_or_else(|| Arc::new([]) as _, |definition| self.made_of(&definition))
    }

    fn definitions(&self) -> Vec<Arc<Record>> {
        let all = prefix(custom::GROUP, custom::PLURAL, None);
        let found = self.shared.as_ref().map(|shared| shared.list(&all, None));
        found.map(|page| page.records).unwrap_or_default()
    }

    fn made_of(&self, definition: &Arc<Record>) -> Arc<[Arc<Resource>]> {
        let revision = definition.rv;
        let known = self.lock().get(&definition.key).cloned();
        if let Some(made) = known.filter(|made| made.revision == revision) {
            return made.kinds;
        }
        let kinds = custom::resources(&definition.value(), revision);
        let kinds: Arc<[_]> = kinds.into_iter().map(Arc::new).collect();
        let made = Made {
            revision,
            kinds: Arc::clone(&kinds),
        };
        self.lock().insert(definition.key.clone(), made);
        kinds
    }

    fn forget_all_but(&self, definitions: &[Arc<Record>]) {
        let there = |key: &Key| definitions.iter().any(|d| d.key == *key);
        let mut made = self.lock();
        if made.len() > definitions.len() {
            made.retain(|key, _| there(key));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn built_in(known: impl Fn(&Resource) -> bool) -> Option<Arc<Resource>> {
    BUILT_IN.iter().find(|kind| known(kind)).cloned()
}

/// Why no object of a kind may be written; `None` when one may.
pub(crate) fn why_read_only(kind: &Resource) -> Option<String> {
    if kind.keeping() != Keeping::Never {
        return None;
    }
    let instead = match kind.kind.as_str() {
        "PersistentVolume" | "PersistentVolumeClaim" => "Pods have the files of this machine",
        _ => "use a Deployment or a Rollout",
    };
    Some(format!("Serin runs no {}: {instead}", kind.kind))
}

/// Why no object of a kind may be made; `None` when one may.
pub(crate) fn why_closed(kind: &Resource) -> Option<&'static str> {
    match &kind.definition {
        Definition::Custom(custom) if custom.ending => {
            Some("create not allowed while custom resource definition is terminating")
        }
        _ => None,
    }
}

/// The key of the definition that installs the kind of an object; there may be no such definition.
pub(crate) fn definition_of(key: &Key) -> Key {
    let name = format!("{}.{}", key.plural(), key.group());
    Key::new(custom::GROUP, custom::PLURAL, "", &name)
}

/// The keys of the objects that a definition installs start with this.
pub(crate) fn prefix_of_defined(definition: &Key) -> String {
    let name = definition.name();
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    prefix(group, plural, None)
}
