//! Rollouts: reads the caches into one view, asks the engine, carries out the plan, writes the status once.
//!
//! Absent on purpose: any decision. A plan that breaks an invariant is refused here and told to the person, never applied.

mod abandoned;
mod affinity;
mod apply;
mod configuration;
mod metadata;
mod named;
mod observe;
mod routers;
mod webhooks;
mod workload_ref;

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use serin_api::analysis::{AnalysisRun, AnalysisTemplate};
use serin_api::experiment::Experiment;
use serin_api::gateway_api::HTTPRoute;
use serin_api::istio::{DestinationRule, VirtualService};
use serin_api::release::{ConfigurationKind, ReleasePolicy};
use serin_api::rollout::{Rollout, RolloutStatus};
use serin_engine::rollout::group::membership;
use serin_engine::rollout::{Note, Observed, Plan, plan, refused};
use serin_engine::{invariants, workload};

use crate::clock::Clock;
use crate::events;
use crate::shell::{Cache, Error, Next, Reconcile, Triggers, write_status};

pub(crate) use abandoned::{Abandoned, Steered};
pub(crate) use configuration::Digests;
pub(crate) use named::Named;
pub(crate) use routers::AbandonedExperiments;
pub(crate) use webhooks::Webhooks;

/// After a refused plan, the next look comes this soon: the view may have been behind.
const AFTER_REFUSAL: SignedDuration = SignedDuration::from_secs(5);

/// The controller of Rollouts.
#[derive(Clone)]
pub(crate) struct Rollouts {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    /// Whether our gateway is there to acknowledge what is set.
    pub(crate) acknowledged: bool,
    pub(crate) rollouts: Cache<Rollout>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) services: Cache<Service>,
    /// For templates that are referenced.
    pub(crate) deployments: Cache<Deployment>,
    pub(crate) routes: Cache<HTTPRoute>,
    pub(crate) ingresses: Cache<Ingress>,
    pub(crate) virtual_services: Cache<VirtualService>,
    pub(crate) destination_rules: Cache<DestinationRule>,
    pub(crate) runs: Cache<AnalysisRun>,
    pub(crate) experiments: Cache<Experiment>,
    pub(crate) templates: Cache<AnalysisTemplate>,
    pub(crate) policies: Cache<ReleasePolicy>,
    /// What is known of ConfigMaps and Secrets but their contents.
    pub(crate) config_maps: Cache<PartialObjectMeta<ConfigMap>>,
    pub(crate) secrets: Cache<PartialObjectMeta<Secret>>,
    pub(crate) digests: Digests,
    pub(crate) named: Named,
    pub(crate) webhooks: Arc<Webhooks>,
}

impl Reconcile for Rollouts {
    type Object = Rollout;
    const NAME: &'static str = "rollout";

    async fn reconcile(&self, rollout: Arc<Rollout>) -> Result<Next, Error> {
        let uid = rollout.uid().unwrap_or_default();
        if rollout.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Change);
        }
        if !self.sees_own_writes(&uid) {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let governed = self.governed(&rollout);
        let (rollout, workload) = self.resolve(rollout).await?;
        // Boxed, as they are large: not every thread has a large stack.
        let configured = Box::pin(self.configure(rollout, &governed)).await?;
        let (rollout, configuration) = configured;
        let observed = Observed {
            configuration,
            ..Box::pin(self.observe(&rollout, workload, governed)).await?
        };
        let plan = plan(&rollout.spec, &observed, now);
        let broken = invariants::check(&rollout.spec, &observed, &plan);
        if !broken.is_empty() {
            self.refuse(&rollout, &observed, &broken).await?;
            return Ok(Next::At(now + AFTER_REFUSAL));
        }
        for action in &plan.actions {
            tracing::info!(rollout = rollout.name_any(), "{action}");
            self.apply(&rollout, &observed, action).await?;
        }
        self.finish(&rollout, &plan).await?;
        Ok(Next::wake(plan.wake_at))
    }
}

impl Rollouts {
    fn sees_own_writes(&self, uid: &str) -> bool {
        self.rollouts.is_current(uid)
            && self.replica_sets.is_current(uid)
            && self.services.is_current(uid)
            && self.deployments.is_current(uid)
            && self.routes.is_current(uid)
            && self.ingresses.is_current(uid)
            && self.virtual_services.is_current(uid)
            && self.destination_rules.is_current(uid)
            && self.runs.is_current(uid)
            && self.experiments.is_current(uid)
            && self.config_maps.is_current(uid)
            && self.secrets.is_current(uid)
    }

    async fn finish(&self, rollout: &Rollout, plan: &Plan) -> Result<(), Error> {
        self.write(rollout, &plan.status).await?;
        for note in &plan.notes {
            self.tell(rollout, note).await;
        }
        Ok(())
    }

    async fn refuse(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        broken: &[invariants::Violation],
    ) -> Result<(), Error> {
        let told: Vec<_> = broken.iter().map(ToString::to_string).collect();
        let message = format!("a plan was refused: {}", told.join("; "));
        tracing::error!(rollout = rollout.name_any(), message);
        let note = Note {
            warning: true,
            reason: "PlanRefused",
            message,
        };
        self.tell(rollout, &note).await;
        let status = refused(observed, broken, self.clock.now());
        self.write(rollout, &status).await
    }

    async fn write(&self, rollout: &Rollout, status: &RolloutStatus) -> Result<(), Error> {
        if rollout.status.as_ref() == Some(status) {
            return Ok(());
        }
        let mut next = rollout.clone();
        next.status = Some(status.clone());
        let written = write_status(&self.api(rollout), &next).await?;
        self.rollouts
            .wrote(&rollout.uid().unwrap_or_default(), &written);
        Ok(())
    }

    async fn tell(&self, rollout: &Rollout, note: &Note) {
        let reference = rollout.object_ref(&());
        events::tell(&self.client, &reference, note, self.clock.now()).await;
    }

    fn api<K>(&self, rollout: &Rollout) -> kube::Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        kube::Api::namespaced(
            self.client.clone(),
            &rollout.namespace().unwrap_or_default(),
        )
    }

    /// Whose changes concern which Rollouts.
    pub(crate) fn triggers(&self) -> Vec<Triggers<Rollout>> {
        let mut triggers = vec![
            self.replica_sets.triggers(&self.rollouts, owner),
            self.runs.triggers(&self.rollouts, owner),
            self.experiments.triggers(&self.rollouts, owner),
            self.ingresses.triggers(&self.rollouts, owner),
        ];
        triggers.push(self.naming(&self.services));
        triggers.push(self.naming(&self.deployments));
        triggers.push(self.naming(&self.routes));
        triggers.push(self.naming(&self.ingresses));
        triggers.push(self.naming(&self.virtual_services));
        triggers.push(self.naming(&self.destination_rules));
        triggers.push(self.naming(&self.templates));
        triggers.push(self.governing());
        triggers.push(self.grouped());
        triggers.push(self.configuring(&self.config_maps, ConfigurationKind::ConfigMap));
        triggers.push(self.configuring(&self.secrets, ConfigurationKind::Secret));
        triggers
    }

    /// A policy concerns every Rollout of its namespace: one that it no longer selects too.
    fn governing(&self) -> Triggers<Rollout> {
        let rollouts = self.rollouts.clone();
        self.policies
            .triggers(&self.rollouts, move |policy: &ReleasePolicy| {
                let namespace = policy.namespace().unwrap_or_default();
                let all = rollouts.list(&namespace).into_iter();
                all.map(|rollout| ObjectRef::from_obj(&*rollout)).collect()
            })
    }

    /// A member of a release group concerns the others.
    fn grouped(&self) -> Triggers<Rollout> {
        let rollouts = self.clone();
        self.rollouts
            .triggers(&self.rollouts, move |rollout: &Rollout| {
                let Some((group, _)) = membership(&rollout.metadata) else {
                    return Vec::new();
                };
                let others = rollouts.others_in(rollout, &group);
                others.map(|other| ObjectRef::from_obj(&*other)).collect()
            })
    }

    /// Changes of objects that a Rollout names.
    fn naming<K: crate::shell::Kind>(&self, cache: &Cache<K>) -> Triggers<Rollout> {
        let (rollouts, named) = (self.rollouts.clone(), self.named.clone());
        cache.triggers(&self.rollouts, move |object: &K| {
            let meta = object.meta();
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let name = meta.name.as_deref().unwrap_or_default();
            let concerned = rollouts.select(namespace, |rollout| named.has(rollout, name));
            let concerned = concerned.iter();
            concerned
                .map(|rollout| ObjectRef::from_obj(&**rollout))
                .collect()
        })
    }
}

fn uid(rollout: &Rollout) -> String {
    rollout.uid().unwrap_or_default()
}

/// The Rollout that an object belongs to.
fn owner<K: Resource>(object: &K) -> Vec<ObjectRef<Rollout>> {
    let meta = object.meta();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let owner = workload::controller_of(meta).filter(|owner| owner.kind == "Rollout");
    owner
        .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
        .into_iter()
        .collect()
}
