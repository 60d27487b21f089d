//! Decides what the collector does about one object: a pure function of the present state.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serin_api::kinds;

use crate::access;
use crate::custom;
use crate::lifecycle::{FOREGROUND, ORPHAN};
use crate::meta;
use crate::options::Propagation;
use crate::registry::{Registry, prefix_of_defined};
use crate::store::{Key, Record, Shared, prefix};
use crate::tree::Tree;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Delete the object, if it still is this one.
    Delete {
        key: Key,
        uid: Box<str>,
        propagation: Option<Propagation>,
    },
    /// Take these owners out of the object.
    DropOwners { key: Key, uids: Vec<Box<str>> },
    /// Take this finalizer out of the object.
    DropFinalizer { key: Key, finalizer: &'static str },
    /// Look anew at whether the names of a definition are free.
    Settle { key: Key },
    /// Make the account of pods that name none.
    MakeAccount { namespace: String },
    /// Write down what a role is made of others.
    Aggregate { key: Key },
    /// Say what a namespace that ends still waits for.
    TellRemaining { key: Key, remaining: Remaining },
    /// Let a namespace go that has nothing in it.
    EndNamespace { key: Key },
}

/// What holds a namespace, in the words of its conditions; empty texts say that nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remaining {
    /// Which kinds have how many objects.
    pub(super) content: String,
    /// Which finalizers are on how many objects.
    pub(super) finalizers: String,
}

impl Remaining {
    fn of(content: &[&Arc<Record>]) -> Self {
        let mut kinds = BTreeMap::<String, usize>::new();
        let mut finalizers = BTreeMap::<String, usize>::new();
        for record in content {
            let kind = format!("{}.{}", record.key.plural(), record.key.group());
            *kinds.entry(kind).or_default() += 1;
            for finalizer in meta::finalizers(&record.value()) {
                *finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
        let told = |counts: BTreeMap<String, usize>, start: &str, verb: &str| {
            let each = counts
                .iter()
                .map(|(name, count)| format!("{name} {verb} {count} resource instances"));
            let each: Vec<String> = each.collect();
            if each.is_empty() {
                String::new()
            } else {
                format!("{start}: {}", each.join(", "))
            }
        };
        Self {
            content: told(kinds, "Some resources are remaining", "has"),
            finalizers: told(
                finalizers,
                "Some content in the namespace has finalizers remaining",
                "in",
            ),
        }
    }
}

/// What is to be done about `record` now; what it waits for makes its key suspect again.
pub(super) fn plan(registry: &Registry, shared: &Shared, record: &Arc<Record>) -> Vec<Step> {
    let is_namespace = record.key.group().is_empty() && record.key.plural() == "namespaces";
    if record.facts.deleting && is_namespace {
        return empty_namespace(shared, record);
    }
    if is_namespace {
        return account_of(shared, record);
    }
    if is_cluster_role(&record.key) && !record.facts.deleting && is_aggregated(record) {
        return vec![Step::Aggregate {
            key: record.key.clone(),
        }];
    }
    let is_definition = is_definition(&record.key);
    if record.facts.deleting && is_definition {
        return end_definition(shared, record);
    }
    if record.facts.deleting {
        return release_dependents(shared, record);
    }
    if is_definition {
        return vec![Step::Settle {
            key: record.key.clone(),
        }];
    }
    if record.facts.owners.is_empty() {
        return Vec::new();
    }
    check_owners(registry, shared, record)
}

fn account_of(shared: &Shared, namespace: &Record) -> Vec<Step> {
    let namespace = namespace.key.name();
    let account = Key::new("", "serviceaccounts", namespace, "default");
    let missing = shared.get(&account).is_none().then(|| Step::MakeAccount {
        namespace: namespace.to_owned(),
    });
    missing.into_iter().collect()
}

pub(super) fn is_cluster_role(key: &Key) -> bool {
    key.group() == access::RBAC && key.plural() == "clusterroles"
}

/// Whether a role is made of others.
fn is_aggregated(role: &Record) -> bool {
    role.value().at("/aggregationRule").is_object()
}

/// All roles of the cluster that are made of others.
pub(super) fn aggregated_roles(shared: &Shared) -> Vec<Key> {
    let all = shared.list(&prefix(access::RBAC, "clusterroles", None), None);
    let aggregated = all.records.iter().filter(|role| is_aggregated(role));
    aggregated.map(|role| role.key.clone()).collect()
}

fn empty_namespace(shared: &Shared, namespace: &Record) -> Vec<Step> {
    let all = shared.list("", None).records;
    let content: Vec<_> = all
        .iter()
        .filter(|r| r.key.namespace() == namespace.key.name())
        .collect();
    if content.is_empty() {
        return vec![Step::EndNamespace {
            key: namespace.key.clone(),
        }];
    }
    let tell = Step::TellRemaining {
        key: namespace.key.clone(),
        remaining: Remaining::of(&content),
    };
    let left = content.into_iter().filter(|r| !r.facts.deleting);
    let deletions = left.map(|r| delete(r, None));
    std::iter::once(tell).chain(deletions).collect()
}

fn is_definition(key: &Key) -> bool {
    key.group() == custom::GROUP && key.plural() == custom::PLURAL
}

/// The other definitions, when `key` is that of one.
pub(super) fn definitions_beside(shared: &Shared, key: &Key) -> Vec<Key> {
    if !is_definition(key) {
        return Vec::new();
    }
    let all = shared.list(&prefix(custom::GROUP, custom::PLURAL, None), None);
    all.records.iter().map(|r| r.key.clone()).collect()
}

/// The objects of a kind go before its definition does.
fn end_definition(shared: &Shared, definition: &Arc<Record>) -> Vec<Step> {
    let objects = prefix_of_defined(&definition.key);
    let objects = shared.list(&objects, None).records;
    if objects.is_empty() {
        let mut steps = vec![Step::DropFinalizer {
            key: definition.key.clone(),
            finalizer: custom::CLEANUP,
        }];
        steps.extend(release_dependents(shared, definition));
        return steps;
    }
    let left = objects.iter().filter(|r| !r.facts.deleting);
    left.map(|r| delete(r, None)).collect()
}

/// An owner that is being deleted may wait for its dependents, to go first or to forget it.
fn release_dependents(shared: &Shared, owner: &Record) -> Vec<Step> {
    let object = owner.value();
    let finalizers = meta::finalizers(&object);
    let dependents = shared.dependents(&owner.facts.uid);
    let drop_finalizer = |finalizer| Step::DropFinalizer {
        key: owner.key.clone(),
        finalizer,
    };
    if finalizers.contains(&ORPHAN) {
        if dependents.is_empty() {
            return vec![drop_finalizer(ORPHAN)];
        }
        let uids = || vec![owner.facts.uid.clone()];
        let forget = |r: &Arc<Record>| Step::DropOwners {
            key: r.key.clone(),
            uids: uids(),
        };
        return dependents.iter().map(forget).collect();
    }
    if finalizers.contains(&FOREGROUND) {
        if !dependents.iter().any(|d| blocks(d, &owner.facts.uid)) {
            return vec![drop_finalizer(FOREGROUND)];
        }
        let left = dependents.iter().filter(|r| !r.facts.deleting);
        return left
            .map(|r| delete(r, propagation_below(shared, r)))
            .collect();
    }
    Vec::new()
}

/// Whether this dependent holds its owner until it is gone.
fn blocks(dependent: &Record, owner: &str) -> bool {
    let object = dependent.value();
    let owners = object
        .at("/metadata/ownerReferences")
        .as_array()
        .into_iter()
        .flatten();
    let reference = owners.filter(|o| o.at("/uid").as_str() == Some(owner));
    reference
        .filter_map(|o| o.at("/blockOwnerDeletion").as_bool())
        .any(|blocks| blocks)
}

/// Whether an owner may be an object of the state file that could not be read: then nobody knows that it is gone.
fn may_be_unreadable(registry: &Registry, shared: &Shared, record: &Record, uid: &str) -> bool {
    let damaged = shared.damaged();
    if damaged.is_empty() {
        return false;
    }
    let object = record.value();
    let owners = object.at("/metadata/ownerReferences").as_array();
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| {
        let text = |pointer| owner.at(pointer).as_str().unwrap_or_default();
        let (group, version) = kinds::split_api_version(text("/apiVersion"));
        let Some(kind) = registry.kind(group, version, text("/kind")) else {
            return false;
        };
        let all = prefix(group, &kind.plural, Some(record.key.namespace()));
        let key = format!("{all}{}", text("/name"));
        text("/uid") == uid && damaged.iter().any(|row| row.key == key)
    })
}

/// An object lives as long as one of its owners.
fn check_owners(registry: &Registry, shared: &Shared, record: &Arc<Record>) -> Vec<Step> {
    let (alive, gone): (Vec<&Box<str>>, Vec<_>) = record.facts.owners.iter().partition(|uid| {
        shared.find_uid(uid).is_some() || may_be_unreadable(registry, shared, record, uid)
    });
    let waits = |uid: &str| {
        let owner = shared.find_uid(uid).and_then(|key| shared.get(&key));
        owner
            .is_some_and(|o| o.facts.deleting && meta::finalizers(&o.value()).contains(&FOREGROUND))
    };
    let waiting = alive.iter().filter(|uid| waits(uid)).count();
    if alive.is_empty() {
        return vec![delete(record, propagation_of(&record.value()))];
    }
    if waiting == alive.len() {
        return vec![delete(record, propagation_below(shared, record))];
    }
    if gone.is_empty() {
        return Vec::new();
    }
    vec![Step::DropOwners {
        key: record.key.clone(),
        uids: gone.into_iter().cloned().collect(),
    }]
}

/// What an earlier delete of the object asked for.
fn propagation_of(object: &Value) -> Option<Propagation> {
    let finalizers = meta::finalizers(object);
    if finalizers.contains(&ORPHAN) {
        Some(Propagation::Orphan)
    } else if finalizers.contains(&FOREGROUND) {
        Some(Propagation::Foreground)
    } else {
        Some(Propagation::Background)
    }
}

/// Below an owner that waits, its dependents wait for theirs.
fn propagation_below(shared: &Shared, record: &Record) -> Option<Propagation> {
    let has_dependents = !shared.dependents(&record.facts.uid).is_empty();
    has_dependents.then_some(Propagation::Foreground)
}

fn delete(record: &Record, propagation: Option<Propagation>) -> Step {
    Step::Delete {
        key: record.key.clone(),
        uid: record.facts.uid.clone(),
        propagation,
    }
}
