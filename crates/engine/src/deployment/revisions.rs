//! Which ReplicaSet is which version: the wanted one, the old ones, their numbers and notes, and which are forgotten.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serin_api::keys::{annotation, label};

use super::{Action, Desired, Draft, Observed, Target, Turn};
use crate::hash;
use crate::workload::{ReplicaSetView, as_i32};

/// Annotations of a Deployment that say nothing about its version.
const NOT_OF_A_VERSION: [&str; 7] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    annotation::DEPLOYMENT_REVISION,
    "deployment.kubernetes.io/revision-history",
    annotation::DEPLOYMENT_DESIRED_REPLICAS,
    "deployment.kubernetes.io/max-replicas",
    annotation::UNDO,
    annotation::RETRIED_AT,
];

/// The ReplicaSets of a Deployment.
pub(super) struct Family<'a> {
    /// The one of the wanted template.
    pub(super) new: Option<&'a ReplicaSetView>,
    /// All others, oldest first.
    pub(super) old: Vec<&'a ReplicaSetView>,
}

impl<'a> Family<'a> {
    pub(super) fn of(desired: &Desired, members: &[&'a ReplicaSetView]) -> Self {
        let mut sorted = members.to_vec();
        sorted.sort_by_key(|rs| (rs.created, &rs.name));
        let wanted = sorted
            .iter()
            .position(|rs| !rs.deleting && hash::templates_equal(&rs.template, &desired.template));
        let new = wanted.map(|i| sorted.remove(i));
        Self { new, old: sorted }
    }

    /// All of them; the wanted one first, then the oldest.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a ReplicaSetView> + '_ {
        self.new.into_iter().chain(self.old.iter().copied())
    }

    /// The number that the wanted version has, or gets because it is the newest now.
    pub(super) fn revision(&self) -> u64 {
        let last = self.old.iter().map(|rs| rs.revision).max().unwrap_or(0);
        let own = self.new.map_or(0, |rs| rs.revision);
        own.max(last.saturating_add(1))
    }

    /// Whether every ReplicaSet has answered to its last size.
    pub(super) fn is_settled(&self) -> bool {
        self.all().all(|rs| rs.settled)
    }
}

impl Draft {
    /// Gives the wanted version its number and its notes, on its ReplicaSet and on the Deployment.
    pub(super) fn number(&mut self, desired: &Desired, observed: &Observed, family: &Family<'_>) {
        let Some(new) = family.new else {
            return;
        };
        let revision = family.revision();
        let notes: BTreeMap<_, _> = notes(desired, revision)
            .into_iter()
            .filter(|(key, value)| new.annotations.get(key) != Some(value))
            .collect();
        if revision != new.revision && new.revision > 0 {
            self.turn = Turn::Found;
        }
        if !notes.is_empty() {
            let notes = notes.into_iter().map(|(key, value)| (key, Some(value)));
            self.update(new).annotations.extend(notes);
        }
        if new.min_ready_seconds != desired.min_ready_seconds {
            self.update(new).min_ready_seconds = Some(desired.min_ready_seconds);
        }
        self.number_deployment(observed, revision);
    }

    fn number_deployment(&mut self, observed: &Observed, revision: u64) {
        let known = observed.annotations.get(annotation::DEPLOYMENT_REVISION);
        if known.is_none_or(|text| *text != revision.to_string()) {
            self.numbered = Some(Action::Number { revision });
        }
    }

    /// Makes the ReplicaSet of the wanted version, with so many pods to begin with.
    pub(super) fn create(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        family: &Family<'_>,
        replicas: u32,
    ) {
        let revision = family.revision();
        let collisions = collisions(desired, observed);
        let rs = replica_set(desired, collisions, revision, replicas);
        self.created = Some(Action::Create(Box::new(rs)));
        self.turn = Turn::Created;
        self.number_deployment(observed, revision);
    }

    /// Deletes the oldest versions above the limit, once nothing is under way.
    pub(super) fn forget(&mut self, desired: &Desired, family: &Family<'_>) {
        let done = family.new.is_some_and(|new| {
            new.desired == desired.replicas && new.available >= desired.replicas
        });
        if !done {
            return;
        }
        let mut kept: Vec<_> = family.old.iter().filter(|rs| !rs.deleting).collect();
        let surplus = kept.len().saturating_sub(desired.history_limit);
        kept.sort_by_key(|rs| (rs.revision, rs.created, &rs.name));
        for rs in kept.into_iter().take(surplus) {
            // The way back to one that still has pods, or is being changed, stays open.
            let empty = rs.desired == 0 && rs.replicas == 0 && rs.settled;
            if empty && !self.updates.contains_key(&rs.uid) {
                self.forgotten.push(Action::Delete(Target::of(rs)));
            }
        }
    }
}

/// How often another template already had the name of this one, as of this view.
pub(super) fn collisions(desired: &Desired, observed: &Observed) -> u32 {
    let before = observed.status.collision_count.unwrap_or(0);
    let mut collisions = u32::try_from(before).unwrap_or(0);
    // Each round passes over one taken name, so there are at most so many.
    for _ in 0..=observed.taken.len() {
        if !observed.taken.contains(&name(desired, collisions)) {
            break;
        }
        collisions = collisions.saturating_add(1);
    }
    collisions
}

fn name(desired: &Desired, collisions: u32) -> String {
    let hash = hash::template_hash(&desired.template, collisions);
    format!("{}-{hash}", desired.name)
}

/// What the ReplicaSet of a version carries besides its sizes.
fn notes(desired: &Desired, revision: u64) -> BTreeMap<String, String> {
    let mut notes = desired.annotations.clone();
    notes.retain(|key, _| !NOT_OF_A_VERSION.contains(&key.as_str()));
    notes.insert(annotation::DEPLOYMENT_REVISION.into(), revision.to_string());
    notes
}

fn replica_set(desired: &Desired, collisions: u32, revision: u64, replicas: u32) -> ReplicaSet {
    let hash = hash::template_hash(&desired.template, collisions);
    let hash_label = (label::POD_TEMPLATE_HASH.to_owned(), hash.to_string());
    let mut template = desired.template.clone();
    let meta = template.metadata.get_or_insert_default();
    let labels = meta.labels.get_or_insert_default();
    labels.extend([hash_label.clone()]);
    let labels = labels.clone();
    let mut match_labels = desired.selector.match_labels.clone().unwrap_or_default();
    match_labels.extend([hash_label]);
    let mut annotations = notes(desired, revision);
    annotations.insert(
        annotation::DEPLOYMENT_DESIRED_REPLICAS.into(),
        desired.replicas.to_string(),
    );
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name(desired, collisions)),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(as_i32(replicas)),
            min_ready_seconds: Some(desired.min_ready_seconds).filter(|s| *s > 0),
            selector: LabelSelector {
                match_labels: Some(match_labels),
                match_expressions: desired.selector.match_expressions.clone(),
            },
            template: Some(template),
        }),
        status: None,
    }
}

/// The reference that makes this Deployment the controller of a ReplicaSet.
pub fn owner(desired: &Desired) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: desired.name.clone(),
        uid: desired.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
