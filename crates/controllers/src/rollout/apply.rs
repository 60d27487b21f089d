//! From an action to writes. Each can be done twice: names are derived, values are set and not added to.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, EvictParams, ObjectMeta, Preconditions};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use serin_api::analysis::{AnalysisRun, AnalysisRunSpec};
use serin_api::experiment::{Experiment, ExperimentSpec};
use serin_api::keys::{annotation, label};
use serin_api::rollout::Rollout;
use serin_api::units::RevisionHash;
use serin_engine::hash::template_digest;
use serin_engine::rollout::{Action, Event, Observed, Role};

use super::observe::{ROLE, STEP_INDEX};
use super::{Rollouts, affinity, uid};
use crate::shell::{Error, create, delete, merge};

impl Rollouts {
    pub(super) async fn apply(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        action: &Action,
    ) -> Result<(), Error> {
        if let Some((revision, patch)) = set_patch(action) {
            return self.change_set(rollout, revision, &patch).await;
        }
        match action {
            Action::Create {
                revision,
                number,
                apart_from,
            } => {
                let set = replica_set(rollout, revision, *number, apart_from.as_ref());
                self.create_set(rollout, &set).await
            }
            Action::CopyConfiguration(copy) => self.copy_configuration(rollout, copy).await,
            Action::DeleteConfiguration(copy) => self.delete_configuration(rollout, copy).await,
            Action::SetMetadata { revision, metadata } => {
                self.set_metadata(rollout, revision, metadata).await
            }
            Action::ScaleWorkload { to } => self.scale_workload(rollout, *to).await,
            Action::Select { service, revision } => self.select(rollout, service, revision).await,
            Action::SelectSubset {
                rule,
                subset,
                revision,
            } => self.select_subset(rollout, rule, subset, revision).await,
            Action::Split {
                route,
                canary,
                additional,
                managed,
            } => {
                let share = (route, *canary);
                self.split(rollout, observed, share, additional, managed)
                    .await
            }
            Action::StartRun {
                name,
                role,
                revision,
                spec,
            } => self.start_run(rollout, name, *role, revision, spec).await,
            Action::StopRun { name } => self.stop_run(rollout, name).await,
            Action::StartExperiment { .. }
            | Action::StopExperiment { .. }
            | Action::ReleaseExperiment { .. }
            | Action::DeleteExperiment { .. } => self.apply_to_experiment(rollout, action).await,
            Action::Restart { pod, uid } => self.evict(rollout, pod, uid).await,
            Action::Ask(question) => {
                self.webhooks.ask(rollout, question);
                Ok(())
            }
            Action::EndEmergency => self.end_emergency(rollout).await,
            Action::DeleteRevision { revision } => {
                self.delete_set(rollout, observed, revision).await
            }
            Action::DeleteRun { name } => self.delete_run(rollout, name).await,
            Action::Renumber { .. }
            | Action::Scale { .. }
            | Action::SetMinReady { .. }
            | Action::KeepUntil { .. }
            | Action::Remember { .. } => Ok(()),
        }
    }

    async fn apply_to_experiment(&self, rollout: &Rollout, action: &Action) -> Result<(), Error> {
        match action {
            Action::StartExperiment {
                name,
                revision,
                in_routes,
                spec,
            } => {
                self.start_experiment(rollout, name, revision, *in_routes, spec)
                    .await
            }
            Action::StopExperiment { name } => {
                let patch = json!({"spec": {"terminate": true}});
                self.change_experiment(rollout, name, &patch).await
            }
            Action::ReleaseExperiment { name } => {
                let patch = json!({"metadata": {"annotations": {annotation::IN_ROUTES: null}}});
                self.change_experiment(rollout, name, &patch).await
            }
            Action::DeleteExperiment { name } => self.delete_experiment(rollout, name).await,
            _ => Ok(()),
        }
    }

    async fn create_set(&self, rollout: &Rollout, set: &ReplicaSet) -> Result<(), Error> {
        if let Some(created) = create(&self.api(rollout), set).await? {
            self.replica_sets.wrote(&uid(rollout), &created);
        }
        Ok(())
    }

    async fn end_emergency(&self, rollout: &Rollout) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {annotation::EMERGENCY: null}}});
        let changed = merge(&self.api::<Rollout>(rollout), &rollout.name_any(), &patch).await?;
        self.rollouts.wrote(&uid(rollout), &changed);
        Ok(())
    }

    async fn stop_run(&self, rollout: &Rollout, name: &str) -> Result<(), Error> {
        let api = self.api::<AnalysisRun>(rollout);
        let stopped = merge(&api, name, &json!({"spec": {"terminate": true}})).await?;
        self.runs.wrote(&uid(rollout), &stopped);
        Ok(())
    }

    async fn change_experiment(
        &self,
        rollout: &Rollout,
        name: &str,
        patch: &Value,
    ) -> Result<(), Error> {
        let changed = merge(&self.api::<Experiment>(rollout), name, patch).await?;
        self.experiments.wrote(&uid(rollout), &changed);
        Ok(())
    }

    async fn delete_experiment(&self, rollout: &Rollout, name: &str) -> Result<(), Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let Some(experiment) = self.experiments.get(&namespace, name) else {
            return Ok(());
        };
        let api = self.api::<Experiment>(rollout);
        delete(&api, name, &experiment.uid().unwrap_or_default())
            .await
            .map(drop)
    }

    /// Asks for the end of a pod. A disruption budget may say no: it is asked again later.
    async fn evict(&self, rollout: &Rollout, pod: &str, uid: &str) -> Result<(), Error> {
        let api = self.api::<Pod>(rollout);
        let params = EvictParams {
            delete_options: Some(DeleteParams::default().preconditions(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            })),
            ..EvictParams::default()
        };
        match api.evict(pod, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(()),
            // Either the pod is gone or the API knows no evictions; the uid keeps a younger pod from harm.
            Err(kube::Error::Api(status)) if [404, 405].contains(&status.code) => {
                delete(&api, pod, uid).await.map(drop)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(Error::api(format!("evict pod {pod}"), error)),
        }
    }

    async fn start_experiment(
        &self,
        rollout: &Rollout,
        name: &str,
        revision: &RevisionHash,
        in_routes: bool,
        spec: &ExperimentSpec,
    ) -> Result<(), Error> {
        let hash = label::ROLLOUT_POD_TEMPLATE_HASH.to_owned();
        let held = BTreeMap::from([(annotation::IN_ROUTES.to_owned(), rollout.name_any())]);
        let mut experiment = Experiment::new(name, spec.clone());
        experiment.metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: rollout.namespace(),
            labels: Some(BTreeMap::from([(hash, revision.as_str().to_owned())])),
            annotations: in_routes.then_some(held),
            owner_references: rollout.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        if let Some(created) = create(&self.api(rollout), &experiment).await? {
            self.experiments.wrote(&uid(rollout), &created);
        }
        Ok(())
    }

    async fn change_set(
        &self,
        rollout: &Rollout,
        revision: &RevisionHash,
        patch: &Value,
    ) -> Result<(), Error> {
        let Some(set) = self.set_of(rollout, revision) else {
            return Ok(());
        };
        let changed = merge(&self.api::<ReplicaSet>(rollout), &set.name_any(), patch).await?;
        self.replica_sets.wrote(&uid(rollout), &changed);
        Ok(())
    }

    async fn delete_set(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        revision: &RevisionHash,
    ) -> Result<(), Error> {
        let seen = observed.revision(revision).is_some();
        let Some(set) = self.set_of(rollout, revision).filter(|_| seen) else {
            return Ok(());
        };
        delete(
            &self.api::<ReplicaSet>(rollout),
            &set.name_any(),
            &set.uid().unwrap_or_default(),
        )
        .await
        .map(drop)
    }

    async fn delete_run(&self, rollout: &Rollout, name: &str) -> Result<(), Error> {
        let namespace = rollout.namespace().unwrap_or_default();
        let Some(run) = self.runs.get(&namespace, name) else {
            return Ok(());
        };
        delete(
            &self.api::<AnalysisRun>(rollout),
            name,
            &run.uid().unwrap_or_default(),
        )
        .await
        .map(drop)
    }

    /// The ReplicaSet of a revision: found by its label, as a set that was taken over has a name of its own.
    pub(super) fn set_of(
        &self,
        rollout: &Rollout,
        revision: &RevisionHash,
    ) -> Option<std::sync::Arc<ReplicaSet>> {
        let sets = self.replica_sets.controlled_by(&uid(rollout));
        sets.into_iter().find(|set| {
            let hash = set.labels().get(label::ROLLOUT_POD_TEMPLATE_HASH);
            hash.map(String::as_str) == Some(revision.as_str())
        })
    }

    async fn select(
        &self,
        rollout: &Rollout,
        service: &str,
        revision: &RevisionHash,
    ) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"annotations": {annotation::MANAGED_BY_ROLLOUTS: rollout.name_any()}},
            "spec": {"selector": {label::ROLLOUT_POD_TEMPLATE_HASH: revision.as_str()}},
        });
        let changed = merge(&self.api::<Service>(rollout), service, &patch).await?;
        self.services.wrote(&uid(rollout), &changed);
        Ok(())
    }

    async fn start_run(
        &self,
        rollout: &Rollout,
        name: &str,
        role: Role,
        revision: &RevisionHash,
        spec: &AnalysisRunSpec,
    ) -> Result<(), Error> {
        let (role, step) = match role {
            Role::Step(index) => ("Step", Some(index.to_string())),
            Role::Background => ("Background", None),
            Role::PrePromotion => ("PrePromotion", None),
            Role::PostPromotion => ("PostPromotion", None),
            Role::Bake => ("Bake", None),
        };
        let hash = (
            label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(),
            revision.as_str().to_owned(),
        );
        let role = (ROLE.to_owned(), role.to_owned());
        let step = step.map(|index| (STEP_INDEX.to_owned(), index));
        let mut run = AnalysisRun::new(name, spec.clone());
        run.metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: rollout.namespace(),
            labels: Some([hash, role].into_iter().chain(step).collect()),
            owner_references: rollout.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        if let Some(created) = create(&self.api(rollout), &run).await? {
            self.runs.wrote(&uid(rollout), &created);
        }
        Ok(())
    }
}

/// What became of a revision, as annotations.
fn memory(event: &Event) -> Value {
    let taken_back = match event {
        Event::TakenBack(taken_back) => Some(taken_back),
        Event::Promoted { .. } | Event::Forgiven => None,
    };
    let mut annotations = BTreeMap::from([
        (
            annotation::TAKEN_BACK_AT,
            taken_back.map(|t| t.at.to_string()),
        ),
        (annotation::TAKEN_BACK_BY, taken_back.map(|t| t.by.clone())),
        (
            annotation::TAKEN_BACK_WHY,
            taken_back.map(|t| t.why.clone()),
        ),
    ]);
    if let Event::Promoted { at } = event {
        annotations.insert(annotation::PROMOTED_AT, Some(at.to_string()));
    }
    json!({"metadata": {"annotations": annotations}})
}

/// What of the ReplicaSet of a revision an action changes; `None` for one that does anything else.
fn set_patch(action: &Action) -> Option<(&RevisionHash, Value)> {
    let annotate =
        |key: &str, value: Option<String>| json!({"metadata": {"annotations": {key: value}}});
    Some(match action {
        Action::Renumber { revision, number } => {
            let number = Some(number.to_string());
            (revision, annotate(annotation::ROLLOUT_REVISION, number))
        }
        Action::Scale { revision, to } => (revision, json!({"spec": {"replicas": to}})),
        Action::SetMinReady { revision, seconds } => {
            (revision, json!({"spec": {"minReadySeconds": seconds}}))
        }
        Action::KeepUntil { revision, until } => {
            let until = until.map(|at| at.to_string());
            (revision, annotate(annotation::SCALE_DOWN_DEADLINE, until))
        }
        Action::Remember { revision, event } => (revision, memory(event)),
        _ => return None,
    })
}

/// The ReplicaSet of a revision, with no instances yet.
fn replica_set(
    rollout: &Rollout,
    revision: &RevisionHash,
    number: u64,
    apart_from: Option<&RevisionHash>,
) -> ReplicaSet {
    let hash = (
        label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(),
        revision.as_str().to_owned(),
    );
    let mut template = rollout.spec.template.clone().unwrap_or_default();
    let digest = template_digest(&template);
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(hash.0.clone(), hash.1.clone());
    let labels = labels.clone();
    let strategy = &rollout.spec.strategy;
    let wish = strategy.canary.as_ref().map_or_else(
        || {
            strategy
                .blue_green
                .as_ref()
                .and_then(|b| b.anti_affinity.as_ref())
        },
        |canary| canary.anti_affinity.as_ref(),
    );
    if let (Some(stable), Some(wish)) = (apart_from, wish) {
        affinity::inject(&mut template, wish, stable);
    }
    let mut selector = rollout.spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(hash.0, hash.1);
    let mut annotations = BTreeMap::from([
        (annotation::ROLLOUT_REVISION.to_owned(), number.to_string()),
        (annotation::TEMPLATE_DIGEST.to_owned(), digest),
        (
            annotation::ROLLOUT_DESIRED_REPLICAS.to_owned(),
            rollout.spec.replicas.unwrap_or(1).to_string(),
        ),
    ]);
    let cause = rollout.annotations().get(annotation::CHANGE_CAUSE);
    annotations.extend(cause.map(|cause| (annotation::CHANGE_CAUSE.to_owned(), cause.clone())));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{revision}", rollout.name_any())),
            namespace: rollout.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: rollout.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: rollout.spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests;
