//! Code and configuration as one revision: the ConfigMaps and Secrets that a pod template mounts or reads.
//!
//! A template names them, and what a name stands for may change at any time: then all instances get the new content as they
//! start, whatever step a release is at, and no undo brings the old one back. Here each content gets a name of its own, an
//! immutable copy, and the template names the copies before it is hashed. Another content is another template, so it is released,
//! watched and taken back as any other change.
//!
//! Absent on purpose: the content itself. Who reads it says no more of it than its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EphemeralContainer, PodSpec, PodTemplateSpec, Volume,
};
use serin_api::release::ConfigurationKind;

use super::planner::Planner;
use super::{Action, Observed};
use crate::hash::templates_equal;

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// An object that holds configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: ConfigurationKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)
    }
}

/// What is seen of an object that a template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is not there.
    Missing,
    /// Nobody can say, as what governs the Rollout is not known.
    Unknown,
    /// It keeps its name: somebody left it out, or it is a copy already, as after an undo.
    AsItIs,
    /// Its content is part of the revision.
    Content {
        /// Tells contents apart: letters and digits only.
        digest: String,
    },
}

/// An immutable copy of the content that an object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOf {
    /// The object.
    pub source: Reference,
    /// The content.
    pub digest: String,
    /// The name of the copy.
    pub name: String,
}

/// A copy that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyView {
    /// The copy.
    pub copy: Reference,
    /// The name of the object that it was made from.
    pub of: String,
}

/// The configuration of a Rollout. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The copies that the wanted template names.
    pub wanted: Vec<CopyOf>,
    /// What the wanted template needs and is not there.
    pub missing: Vec<Reference>,
    /// The copies of the Rollout that exist.
    pub copies: Vec<CopyView>,
}

/// A template with the names of the copies in it, and what that takes.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Resolved {
    /// The template.
    pub template: PodTemplateSpec,
    /// The copies that it names.
    pub wanted: Vec<CopyOf>,
    /// What it needs and is not there.
    pub missing: Vec<Reference>,
}

/// What a template mounts or reads, and whether it is needed: an optional object may be missing. Credentials with which images
/// are pulled and volumes are mounted are no configuration of the application.
#[must_use]
pub fn references(template: &PodTemplateSpec) -> BTreeMap<Reference, bool> {
    let mut found = BTreeMap::new();
    let mut template = template.clone();
    visit(&mut template, &mut |kind, name, optional| {
        let reference = Reference {
            kind,
            name: name.clone(),
        };
        let needed = found.entry(reference).or_insert(false);
        *needed |= !optional.unwrap_or(false);
    });
    found
}

/// Puts the names of the copies into a template. `sources` has what is seen of each of its references; one that it lacks keeps
/// its name. `current` is the template of the revision that was wanted so far: when nothing has changed but that an object is
/// gone, or not known, its copy goes on.
pub fn resolve(
    template: &PodTemplateSpec,
    sources: &BTreeMap<Reference, Source>,
    copies: &[CopyView],
    current: Option<&PodTemplateSpec>,
) -> Resolved {
    let needed = references(template);
    let mut wanted = Vec::new();
    let mut missing = Vec::new();
    let mut unseen = BTreeSet::new();
    for (reference, source) in sources {
        match source {
            Source::AsItIs => {}
            Source::Unknown => drop(unseen.insert(reference)),
            Source::Missing => {
                unseen.insert(reference);
                missing.push(reference.clone());
            }
            Source::Content { digest } => wanted.push(CopyOf {
                source: reference.clone(),
                digest: digest.clone(),
                name: copy_name(&reference.name, digest),
            }),
        }
    }
    let mut names: BTreeMap<_, _> = wanted
        .iter()
        .map(|copy| (copy.source.clone(), copy.name.clone()))
        .collect();
    let renamed = rename(template, &names);
    if let Some(current) = current.filter(|_| !unseen.is_empty()) {
        let before = copies_in(current, copies);
        names.extend(before.filter(|(reference, _)| unseen.contains(reference)));
        let as_before = rename(template, &names);
        if templates_equal(&as_before, current) {
            return Resolved {
                template: as_before,
                wanted,
                missing: Vec::new(),
            };
        }
    }
    missing.retain(|reference| needed.get(reference) == Some(&true));
    Resolved {
        template: renamed,
        wanted,
        missing,
    }
}

impl Planner<'_> {
    /// Makes the copies that the wanted revision names, before anything can start with them.
    pub(super) fn copy_configuration(&mut self) {
        let configuration = &self.observed.configuration;
        for copy in &configuration.wanted {
            let exists = configuration
                .copies
                .iter()
                .any(|seen| seen.copy.kind == copy.source.kind && seen.copy.name == copy.name);
            if !exists {
                let CopyOf { source, name, .. } = copy;
                self.note(
                    false,
                    "ConfigurationCopied",
                    format!("{source} is {name:?} for {}", self.current),
                );
                self.actions.push(Action::CopyConfiguration(copy.clone()));
            }
        }
    }

    /// Forgets the copies that no revision names any more.
    pub(super) fn forget_configuration(&mut self) {
        let Observed {
            configuration,
            revisions,
            ..
        } = self.observed;
        if configuration.copies.is_empty() {
            return;
        }
        let revisions = revisions.iter().map(|r| &*r.template);
        let in_use: BTreeSet<Reference> = revisions
            .chain([&self.desired.template])
            .flat_map(|template| references(template).into_keys())
            .collect();
        let idle = configuration.copies.iter();
        let idle = idle.filter(|seen| !in_use.contains(&seen.copy));
        let deletes: Vec<_> = idle
            .map(|seen| Action::DeleteConfiguration(seen.copy.clone()))
            .collect();
        self.actions.extend(deletes);
    }
}

/// `NAME-DIGEST`, where a long name gives way.
fn copy_name(name: &str, digest: &str) -> String {
    let room = LONGEST_NAME.saturating_sub(digest.len() + 1);
    let name: String = name.chars().take(room).collect();
    format!("{}-{digest}", name.trim_end_matches(['.', '-']))
}

/// The copies that a template names, by the objects that they were made from.
fn copies_in<'a>(
    template: &PodTemplateSpec,
    copies: &'a [CopyView],
) -> impl Iterator<Item = (Reference, String)> + 'a {
    let named = references(template);
    let named = copies
        .iter()
        .filter(move |seen| named.contains_key(&seen.copy));
    named.map(|seen| {
        let source = Reference {
            kind: seen.copy.kind,
            name: seen.of.clone(),
        };
        (source, seen.copy.name.clone())
    })
}

fn rename(template: &PodTemplateSpec, names: &BTreeMap<Reference, String>) -> PodTemplateSpec {
    let mut template = template.clone();
    visit(&mut template, &mut |kind, name, _| {
        let reference = Reference {
            kind,
            name: name.clone(),
        };
        if let Some(copy) = names.get(&reference) {
            name.clone_from(copy);
        }
    });
    template
}

/// Calls `f` with each name of a ConfigMap or a Secret, and whether it is optional there.
fn visit(
    template: &mut PodTemplateSpec,
    f: &mut impl FnMut(ConfigurationKind, &mut String, Option<bool>),
) {
    let Some(spec) = &mut template.spec else {
        return;
    };
    let PodSpec {
        containers,
        init_containers,
        ephemeral_containers,
        volumes,
        ..
    } = spec;
    let all = containers
        .iter_mut()
        .chain(init_containers.iter_mut().flatten());
    for Container { env, env_from, .. } in all {
        visit_environment(env.as_mut(), env_from.as_mut(), f);
    }
    for container in ephemeral_containers.iter_mut().flatten() {
        let EphemeralContainer { env, env_from, .. } = container;
        visit_environment(env.as_mut(), env_from.as_mut(), f);
    }
    for volume in volumes.iter_mut().flatten() {
        visit_volume(volume, f);
    }
}

fn visit_environment(
    env: Option<&mut Vec<EnvVar>>,
    env_from: Option<&mut Vec<EnvFromSource>>,
    f: &mut impl FnMut(ConfigurationKind, &mut String, Option<bool>),
) {
    for from in env
        .into_iter()
        .flatten()
        .filter_map(|e| e.value_from.as_mut())
    {
        if let Some(key) = &mut from.config_map_key_ref {
            f(ConfigurationKind::ConfigMap, &mut key.name, key.optional);
        }
        if let Some(key) = &mut from.secret_key_ref {
            f(ConfigurationKind::Secret, &mut key.name, key.optional);
        }
    }
    for from in env_from.into_iter().flatten() {
        if let Some(map) = &mut from.config_map_ref {
            f(ConfigurationKind::ConfigMap, &mut map.name, map.optional);
        }
        if let Some(secret) = &mut from.secret_ref {
            f(ConfigurationKind::Secret, &mut secret.name, secret.optional);
        }
    }
}

fn visit_volume(
    volume: &mut Volume,
    f: &mut impl FnMut(ConfigurationKind, &mut String, Option<bool>),
) {
    if let Some(map) = &mut volume.config_map {
        f(ConfigurationKind::ConfigMap, &mut map.name, map.optional);
    }
    if let Some(secret) = &mut volume.secret
        && let Some(name) = &mut secret.secret_name
    {
        f(ConfigurationKind::Secret, name, secret.optional);
    }
    let projected = volume.projected.iter_mut();
    let sources = projected.filter_map(|p| p.sources.as_mut()).flatten();
    for source in sources {
        if let Some(map) = &mut source.config_map {
            f(ConfigurationKind::ConfigMap, &mut map.name, map.optional);
        }
        if let Some(secret) = &mut source.secret {
            f(ConfigurationKind::Secret, &mut secret.name, secret.optional);
        }
    }
}

#[cfg(test)]
mod tests;
