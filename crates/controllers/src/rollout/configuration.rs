//! ConfigMaps and Secrets as part of a revision: reads what a template names, and keeps immutable copies of it.
//!
//! Of a content only its digest leaves this module, and only for the name of a copy. That of a Secret is salted with the uid of
//! the Secret, which nobody sees who may not see the Secret: a short password cannot be guessed from the name of its copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serin_api::keys::{annotation, label};
use serin_api::release::ConfigurationKind;
use serin_api::rollout::Rollout;
use serin_api::units::RevisionHash;
use serin_engine::rollout::Governed;
use serin_engine::rollout::configuration::{
    Configuration, CopyOf, CopyView, Reference, Source, references, resolve,
};
use serin_engine::workload::controller_of;

use super::observe::template_of;
use super::{Rollouts, owner, uid};
use crate::shell::{Cache, Error, Kind, Triggers, create, delete};

/// Digests that are remembered; beyond that they are made anew.
const MOST_DIGESTS: usize = 65_536;
/// Bytes of a digest in the name of a copy, two letters each.
const DIGEST_BYTES: usize = 6;
/// Made by the cluster for one ServiceAccount, and worth nothing as a copy.
const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";

/// The digests of contents, by the uid of the object, each with the version of the object that has it.
#[derive(Clone, Default)]
pub(crate) struct Digests(Arc<Mutex<BTreeMap<String, (String, Known)>>>);

/// What is known of a content; `None` for one that is not copied.
type Known = Option<String>;

impl Digests {
    fn get(&self, of: &ObjectMeta) -> Option<Known> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, digest) = known.get(of.uid.as_deref()?)?;
        (Some(version) == of.resource_version.as_ref()).then(|| digest.clone())
    }

    fn keep(&self, of: &ObjectMeta, digest: &Known) {
        let (Some(uid), Some(version)) = (&of.uid, &of.resource_version) else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_DIGESTS {
            known.clear();
        }
        known.insert(uid.clone(), (version.clone(), digest.clone()));
    }
}

/// A ConfigMap or a Secret with its content.
pub(super) trait Content: Kind + Serialize + DeserializeOwned {
    const KIND: ConfigurationKind;

    /// Tells contents apart; `None` for one that is of no use as a copy.
    fn digest(&self) -> Known;

    /// The same content under another name, for ever.
    fn copied(self, metadata: ObjectMeta) -> Self;
}

impl Content for ConfigMap {
    const KIND: ConfigurationKind = ConfigurationKind::ConfigMap;

    fn digest(&self) -> Known {
        Some(hash(&(&self.data, &self.binary_data)))
    }

    fn copied(self, metadata: ObjectMeta) -> Self {
        Self {
            metadata,
            immutable: Some(true),
            ..self
        }
    }
}

impl Content for Secret {
    const KIND: ConfigurationKind = ConfigurationKind::Secret;

    fn digest(&self) -> Known {
        if self.type_.as_deref() == Some(ACCOUNT_TOKEN) {
            return None;
        }
        let data: &Option<BTreeMap<String, ByteString>> = &self.data;
        Some(hash(&(&self.metadata.uid, &self.type_, data)))
    }

    fn copied(self, metadata: ObjectMeta) -> Self {
        Self {
            metadata,
            immutable: Some(true),
            ..self
        }
    }
}

fn hash(value: &impl Serialize) -> String {
    // Maps of texts: each has a JSON form.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let bytes = digest(&SHA256, &text);
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The digest in the name of a copy: two Rollouts that share an object have a copy each, so that none goes with the other.
pub(super) fn digest_for(rollout: &Rollout, content: &str) -> String {
    let mut digest = hash(&(rollout.name_any(), content));
    digest.truncate(DIGEST_BYTES * 2);
    digest
}

impl Rollouts {
    /// The Rollout with the names of the copies in its template.
    pub(super) async fn configure(
        &self,
        rollout: Arc<Rollout>,
        governed: &Governed,
    ) -> Result<(Arc<Rollout>, Configuration), Error> {
        let mut configuration = Configuration {
            copies: self.copies_of(&rollout),
            ..Configuration::default()
        };
        let kinds = &governed.policy.configuration;
        let unknown = !governed.problems.is_empty();
        let named = rollout.spec.template.as_ref().map(references);
        let mut sources = BTreeMap::new();
        for reference in named.unwrap_or_default().into_keys() {
            if unknown {
                sources.insert(reference, Source::Unknown);
            } else if kinds.contains(&reference.kind) {
                let source = self.source(&rollout, &reference).await?;
                sources.insert(reference, source);
            }
        }
        let Some(template) = rollout
            .spec
            .template
            .as_ref()
            .filter(|_| !sources.is_empty())
        else {
            return Ok((rollout, configuration));
        };
        let current = rollout.status.as_ref();
        let current = current.and_then(|s| s.current_pod_hash.as_deref());
        let current = current.and_then(|hash| self.set_of(&rollout, &RevisionHash::new(hash)));
        let current = current.map(|set| template_of(&set));
        let resolved = resolve(template, &sources, &configuration.copies, current.as_ref());
        configuration.wanted = resolved.wanted;
        configuration.missing = resolved.missing;
        let mut configured = (*rollout).clone();
        configured.spec.template = Some(resolved.template);
        Ok((Arc::new(configured), configuration))
    }

    fn copies_of(&self, rollout: &Rollout) -> Vec<CopyView> {
        let ours = uid(rollout);
        let maps = self.config_maps.controlled_by(&ours);
        let maps = maps
            .iter()
            .map(|o| (ConfigurationKind::ConfigMap, &o.metadata));
        let secrets = self.secrets.controlled_by(&ours);
        let secrets = secrets
            .iter()
            .map(|o| (ConfigurationKind::Secret, &o.metadata));
        let copies = maps.chain(secrets);
        let copies = copies.filter(|(_, meta)| is_copy(meta, &ours));
        copies.map(|(kind, meta)| copy_view(kind, meta)).collect()
    }

    async fn source(&self, rollout: &Rollout, reference: &Reference) -> Result<Source, Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let name = &reference.name;
        match reference.kind {
            ConfigurationKind::ConfigMap => {
                let seen = self.config_maps.get(&namespace, name);
                let seen = seen.as_ref().map(|o| &o.metadata);
                self.source_of::<ConfigMap>(rollout, name, seen).await
            }
            ConfigurationKind::Secret => {
                let seen = self.secrets.get(&namespace, name);
                let seen = seen.as_ref().map(|o| &o.metadata);
                self.source_of::<Secret>(rollout, name, seen).await
            }
        }
    }

    async fn source_of<K: Content>(
        &self,
        rollout: &Rollout,
        name: &str,
        seen: Option<&ObjectMeta>,
    ) -> Result<Source, Error> {
        let Some(seen) = seen else {
            return Ok(Source::Missing);
        };
        let left_out = seen.annotations.as_ref();
        let left_out = left_out.and_then(|all| all.get(annotation::VERSIONED));
        if left_out.is_some_and(|v| v == "false") || is_copy(seen, &uid(rollout)) {
            return Ok(Source::AsItIs);
        }
        let known = match self.digests.get(seen) {
            Some(known) => known,
            None => {
                let Some(object) = read::<K>(&self.api(rollout), name).await? else {
                    return Ok(Source::Missing);
                };
                let digest = object.digest();
                self.digests.keep(object.meta(), &digest);
                digest
            }
        };
        Ok(known.map_or(Source::AsItIs, |content| Source::Content {
            digest: digest_for(rollout, &content),
        }))
    }

    pub(super) async fn copy_configuration(
        &self,
        rollout: &Rollout,
        copy: &CopyOf,
    ) -> Result<(), Error> {
        match copy.source.kind {
            ConfigurationKind::ConfigMap => {
                let made = self.copy::<ConfigMap>(rollout, copy).await?;
                self.config_maps.wrote(&uid(rollout), &made);
            }
            ConfigurationKind::Secret => {
                let made = self.copy::<Secret>(rollout, copy).await?;
                self.secrets.wrote(&uid(rollout), &made);
            }
        }
        Ok(())
    }

    async fn copy<K: Content>(
        &self,
        rollout: &Rollout,
        copy: &CopyOf,
    ) -> Result<PartialObjectMeta<K>, Error> {
        let api = self.api::<K>(rollout);
        let doing = || format!("copy {} as {:?}", copy.source, copy.name);
        let source = read(&api, &copy.source.name).await?;
        let same = |object: &K| {
            let content = object.digest();
            content
                .map(|content| digest_for(rollout, &content))
                .as_ref()
                == Some(&copy.digest)
        };
        let Some(source) = source.filter(same) else {
            return Err(Error::changed(doing(), "it has changed in the meantime"));
        };
        let made = create(&api, &source.copied(copy_metadata(rollout, copy))).await?;
        let made = match made {
            Some(made) => made,
            // It was made before and is not in our view yet; or it is of a Rollout of this name that is gone, and goes too.
            None => {
                let there = read(&api, &copy.name).await?;
                let ours = there.filter(|o| is_copy(o.meta(), &uid(rollout)));
                ours.ok_or_else(|| Error::taken(doing()))?
            }
        };
        Ok(described(&made))
    }

    pub(super) async fn delete_configuration(
        &self,
        rollout: &Rollout,
        copy: &Reference,
    ) -> Result<(), Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let (name, ours) = (&copy.name, uid(rollout));
        match copy.kind {
            ConfigurationKind::ConfigMap => {
                let seen = self.config_maps.get(&namespace, name);
                let seen = seen.filter(|o| is_copy(&o.metadata, &ours));
                let of = seen.and_then(|o| o.uid()).unwrap_or_default();
                delete(&self.api::<ConfigMap>(rollout), name, &of).await?;
            }
            ConfigurationKind::Secret => {
                let seen = self.secrets.get(&namespace, name);
                let seen = seen.filter(|o| is_copy(&o.metadata, &ours));
                let of = seen.and_then(|o| o.uid()).unwrap_or_default();
                delete(&self.api::<Secret>(rollout), name, &of).await?;
            }
        }
        Ok(())
    }

    /// A change of an object concerns the Rollouts that may name it, where any policy asks for that.
    pub(super) fn configuring<K: Kind>(
        &self,
        cache: &Cache<PartialObjectMeta<K>>,
        kind: ConfigurationKind,
    ) -> Triggers<Rollout> {
        let (rollouts, policies) = (self.rollouts.clone(), self.policies.clone());
        cache.triggers(&self.rollouts, move |object: &PartialObjectMeta<K>| {
            let namespace = object.namespace().unwrap_or_default();
            let policies = policies.list(&namespace);
            if policies.iter().all(|p| p.spec.configuration.is_none()) {
                return owner(object);
            }
            let reference = Reference {
                kind,
                name: object.name_any(),
            };
            let mut concerned = rollouts.list(&namespace);
            concerned.retain(|rollout| {
                let spec = &rollout.spec;
                let named = spec.template.as_ref().map(references).unwrap_or_default();
                spec.workload_ref.is_some() || named.contains_key(&reference)
            });
            let concerned = concerned
                .iter()
                .map(|rollout| ObjectRef::from_obj(&**rollout));
            concerned.chain(owner(object)).collect()
        })
    }
}

async fn read<K: Content>(api: &Api<K>, name: &str) -> Result<Option<K>, Error> {
    let found = api.get_opt(name).await;
    found.map_err(|e| Error::api(format!("read {} {name:?}", K::KIND), e))
}

fn is_copy(meta: &ObjectMeta, of: &str) -> bool {
    let labels = meta.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(label::CONFIGURATION_COPY))
        && controller_of(meta).is_some_and(|owner| owner.uid == of)
}

fn copy_view(kind: ConfigurationKind, meta: &ObjectMeta) -> CopyView {
    let of = meta.annotations.as_ref();
    let of = of.and_then(|all| all.get(annotation::COPY_OF));
    CopyView {
        copy: Reference {
            kind,
            name: meta.name.clone().unwrap_or_default(),
        },
        of: of.cloned().unwrap_or_default(),
    }
}

fn copy_metadata(rollout: &Rollout, copy: &CopyOf) -> ObjectMeta {
    let marker = (label::CONFIGURATION_COPY.to_owned(), "true".to_owned());
    let of = (annotation::COPY_OF.to_owned(), copy.source.name.clone());
    ObjectMeta {
        name: Some(copy.name.clone()),
        namespace: rollout.namespace(),
        labels: Some(BTreeMap::from([marker])),
        annotations: Some(BTreeMap::from([of])),
        owner_references: rollout.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn described<K: Content>(object: &K) -> PartialObjectMeta<K> {
    PartialObjectMeta {
        types: None,
        metadata: object.meta().clone(),
        _phantom: std::marker::PhantomData,
    }
}
