//! A ConfigMap that the instances read, as a part of the revisions.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serin_api::release::ConfigurationKind;
use serin_api::units::RevisionHash;

use super::{Scenario, World};
use crate::rollout::configuration::{
    Configuration, CopyOf, CopyView, Reference, Resolved, Source, references, resolve,
};

/// The ConfigMap that the template of [`Scenario::Configured`] names.
pub(super) const NAME: &str = "settings";
/// The content with which instances answer badly.
const BAD: u64 = 3;

/// The ConfigMap and its copies, as they are and as the controller last saw them.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Whether the Rollout of the world reads it at all.
    used: bool,
    now: Seen,
    seen: Seen,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// `None`: it is not there.
    content: Option<u64>,
    copies: BTreeSet<String>,
}

impl Settings {
    pub(super) fn new(scenario: Scenario) -> Self {
        let now = Seen {
            content: Some(1),
            copies: BTreeSet::new(),
        };
        Self {
            used: scenario == Scenario::Configured,
            seen: now.clone(),
            now,
        }
    }

    /// Another content; 0 deletes it.
    pub(super) fn write(&mut self, content: u64) {
        self.now.content = (content > 0).then_some(content);
    }

    pub(super) fn heal(&mut self) {
        self.now.content.get_or_insert(1);
    }

    /// The controller sees what is there.
    pub(super) fn look(&mut self) {
        self.seen = self.now.clone();
    }

    /// Keeps a content under a name of its own; `false` when it is another one by now.
    pub(super) fn copy(&mut self, copy: &CopyOf) -> bool {
        let same = self.now.content.map(digest).as_ref() == Some(&copy.digest);
        if same {
            self.now.copies.insert(copy.name.clone());
        }
        same
    }

    pub(super) fn forget(&mut self, copy: &Reference) {
        self.now.copies.remove(&copy.name);
    }

    /// The template with the names of the copies in it, and what the controller knows of them.
    pub(super) fn resolve(
        &self,
        template: &PodTemplateSpec,
        current: Option<&PodTemplateSpec>,
    ) -> (Option<PodTemplateSpec>, Configuration) {
        if !self.used {
            return (None, Configuration::default());
        }
        let named = references(template).into_keys();
        let sources: BTreeMap<_, _> = named
            .map(|reference| {
                let source = self.seen.source(&reference.name);
                (reference, source)
            })
            .collect();
        let copies: Vec<_> = self.seen.copies.iter().map(|name| view(name)).collect();
        let Resolved {
            template,
            wanted,
            missing,
        } = resolve(template, &sources, &copies, current);
        let configuration = Configuration {
            wanted,
            missing,
            copies,
        };
        (Some(template), configuration)
    }
}

impl Seen {
    fn source(&self, name: &str) -> Source {
        match self.content {
            Some(content) if name == NAME => Source::Content {
                digest: digest(content),
            },
            _ if self.copies.contains(name) => Source::AsItIs,
            _ => Source::Missing,
        }
    }
}

fn digest(content: u64) -> String {
    format!("c{content}")
}

fn view(copy: &str) -> CopyView {
    CopyView {
        copy: Reference {
            kind: ConfigurationKind::ConfigMap,
            name: copy.to_owned(),
        },
        of: NAME.to_owned(),
    }
}

/// The name of the ConfigMap that a template reads.
pub(super) fn read_by(template: &PodTemplateSpec) -> Option<String> {
    references(template).into_keys().next().map(|r| r.name)
}

/// Whether instances that read this answer badly.
pub(super) fn is_bad(reads: Option<&String>) -> bool {
    reads.is_some_and(|name| *name == format!("{NAME}-{}", digest(BAD)))
}

impl World {
    /// The template of the revision that was wanted so far.
    pub(super) fn template_so_far(&self) -> Option<&PodTemplateSpec> {
        let current = self.status.current_pod_hash.as_deref()?;
        let set = self.sets.get(&RevisionHash::new(current))?;
        Some(&set.template)
    }

    /// Who is to have instances finds the configuration that they read.
    pub(super) fn configuration_is_there(&self) -> Result<(), String> {
        let mut sets = self.sets.iter().filter(|(_, set)| set.desired > 0);
        let without = sets.find(|(_, set)| {
            let reads = set.reads.as_ref();
            reads.is_some_and(|name| !self.settings.now.copies.contains(name))
        });
        without.map_or(Ok(()), |(hash, set)| {
            Err(format!(
                "{hash} has instances that read {:?}, which is not there",
                set.reads
            ))
        })
    }

    /// After healing: the users have the content that is wanted, and no copy is kept that nobody names.
    pub(super) fn configuration_at_rest(&self) -> Result<(), String> {
        let named = |copy: &String| {
            let mut sets = self.sets.values();
            sets.any(|set| set.reads.as_ref() == Some(copy))
        };
        if let Some(idle) = self.settings.now.copies.iter().find(|copy| !named(copy)) {
            return Err(format!("at rest with {idle}, which no revision names"));
        }
        let template = self.spec.template.as_ref();
        let follows = template.and_then(read_by).as_deref() == Some(NAME);
        let current = self.template_so_far().and_then(read_by);
        let wanted = self.settings.now.content.map(digest);
        let wanted = wanted.map(|digest| format!("{NAME}-{digest}"));
        if self.settings.used && follows && current != wanted {
            return Err(format!("at rest with {current:?}, not {wanted:?}"));
        }
        Ok(())
    }
}
