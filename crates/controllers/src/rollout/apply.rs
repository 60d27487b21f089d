//! From an action to writes. Each can be done twice: names are derived, values are set and not added to.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use serin_api::analysis::{AnalysisRun, AnalysisRunSpec};
use serin_api::gateway_api::HTTPRoute;
use serin_api::keys::{FIELD_MANAGER, annotation, label};
use serin_api::rollout::{Rollout, Route, Strategy, lower};
use serin_api::units::{RevisionHash, Weight};
use serin_engine::rollout::{Action, Event, Observed, Role};

use super::Rollouts;
use super::observe::{ROLE, STEP_INDEX};
use crate::shell::{Error, create, delete, merge};

impl Rollouts {
    pub(super) async fn apply(
        &self,
        rollout: &Rollout,
        observed: &Observed,
        action: &Action,
    ) -> Result<(), Error> {
        match action {
            Action::Create { revision, number } => {
                self.create_set(rollout, revision, *number).await
            }
            Action::Renumber { revision, number } => {
                let patch = json!({"metadata": {"annotations": {annotation::ROLLOUT_REVISION: number.to_string()}}});
                self.change_set(rollout, revision, &patch).await
            }
            Action::Scale { revision, to } => {
                self.change_set(rollout, revision, &json!({"spec": {"replicas": to}}))
                    .await
            }
            Action::KeepUntil { revision, until } => {
                let until = until.map(|at| at.to_string());
                let patch =
                    json!({"metadata": {"annotations": {annotation::SCALE_DOWN_DEADLINE: until}}});
                self.change_set(rollout, revision, &patch).await
            }
            Action::Select { service, revision } => self.select(rollout, service, revision).await,
            Action::Split { route, canary } => self.split(rollout, route, *canary).await,
            Action::StartRun {
                name,
                role,
                revision,
                spec,
            } => self.start_run(rollout, name, *role, revision, spec).await,
            Action::StopRun { name } => {
                let stopped = merge(
                    &self.api::<AnalysisRun>(rollout),
                    name,
                    &json!({"spec": {"terminate": true}}),
                )
                .await?;
                self.runs.wrote(&uid(rollout), &stopped);
                Ok(())
            }
            Action::Restart { pod, uid } => {
                delete(&self.api::<Pod>(rollout), pod, uid).await.map(drop)
            }
            Action::Remember { revision, event } => {
                self.change_set(rollout, revision, &memory(event)).await
            }
            Action::DeleteRevision { revision } => {
                self.delete_set(rollout, observed, revision).await
            }
            Action::DeleteRun { name } => self.delete_run(rollout, name).await,
        }
    }

    async fn create_set(
        &self,
        rollout: &Rollout,
        revision: &RevisionHash,
        number: u64,
    ) -> Result<(), Error> {
        let set = replica_set(rollout, revision, number);
        if let Some(created) = create(&self.api(rollout), &set).await? {
            self.replica_sets.wrote(&uid(rollout), &created);
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
    fn set_of(
        &self,
        rollout: &Rollout,
        revision: &RevisionHash,
    ) -> Option<std::sync::Arc<ReplicaSet>> {
        let sets = self
            .replica_sets
            .list(&rollout.namespace().unwrap_or_default());
        let ours = uid(rollout);
        sets.into_iter().find(|set| {
            let owned = serin_engine::workload::controller_of(set.meta())
                .is_some_and(|owner| owner.uid == ours);
            owned
                && set
                    .labels()
                    .get(label::ROLLOUT_POD_TEMPLATE_HASH)
                    .map(String::as_str)
                    == Some(revision.as_str())
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

    async fn split(&self, rollout: &Rollout, route: &Route, weight: Weight) -> Result<(), Error> {
        let Route::HttpRoute(name) = route;
        let namespace = rollout.namespace().unwrap_or_default();
        let Some(object) = self.routes.get(&namespace, name) else {
            return Ok(());
        };
        let Some(Strategy::Canary(canary)) = lower(&rollout.spec).desired.map(|d| d.strategy)
        else {
            return Ok(());
        };
        let services = (
            canary.stable_service.as_deref().unwrap_or_default(),
            canary.canary_service.as_deref().unwrap_or_default(),
        );
        let patch = weight_patch(&object, services, weight);
        let doing = || format!("set the weights of HTTPRoute {namespace}/{name}");
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|e| Error::api(doing(), kube::Error::SerdeError(e)))?;
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let api = self.api::<HTTPRoute>(rollout);
        let changed = api
            .patch(name, &params, &Patch::<()>::Json(patch))
            .await
            .map_err(|e| Error::api(doing(), e))?;
        self.routes.wrote(&uid(rollout), &changed);
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

fn uid(rollout: &Rollout) -> String {
    rollout.uid().unwrap_or_default()
}

/// The ReplicaSet of a revision, with no instances yet.
fn replica_set(rollout: &Rollout, revision: &RevisionHash, number: u64) -> ReplicaSet {
    let hash = (
        label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(),
        revision.as_str().to_owned(),
    );
    let mut template = rollout.spec.template.clone().unwrap_or_default();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(hash.0.clone(), hash.1.clone());
    let labels = labels.clone();
    let mut selector = rollout.spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(hash.0, hash.1);
    let mut annotations = BTreeMap::from([
        (annotation::ROLLOUT_REVISION.to_owned(), number.to_string()),
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

/// A patch that sets the two weights in every rule that names both Services, and nothing else: fields of a route that we do
/// not know stay. It is refused when the route has changed meanwhile.
fn weight_patch(route: &HTTPRoute, (stable, canary): (&str, &str), weight: Weight) -> Value {
    let version = route.resource_version();
    let mut patch: Vec<_> = version
        .into_iter()
        .map(|v| json!({"op": "test", "path": "/metadata/resourceVersion", "value": v}))
        .collect();
    for (r, rule) in route.spec.rules.iter().enumerate() {
        let both = [stable, canary]
            .iter()
            .all(|name| rule.backend_refs.iter().any(|b| b.name == *name));
        for (b, backend) in rule.backend_refs.iter().enumerate().filter(|_| both) {
            let share = match backend.name.as_str() {
                name if name == canary => weight,
                name if name == stable => weight.complement(),
                _ => continue,
            };
            let path = format!("/spec/rules/{r}/backendRefs/{b}/weight");
            patch.push(json!({"op": "add", "path": path, "value": share.percent()}));
        }
    }
    Value::Array(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn only_the_weights_of_rules_with_both_services_are_set() {
        let spec = json!({"rules": [
            {"backendRefs": [{"name": "stable"}]},
            {"backendRefs": [{"name": "stable", "weight": 95}, {"name": "canary", "weight": 5}, {"name": "other"}]},
        ]});
        let mut route = HTTPRoute::new("web", serde_json::from_value(spec).unwrap());
        route.metadata.resource_version = Some("7".into());
        let patch = weight_patch(&route, ("stable", "canary"), Weight::new(20).unwrap());
        let lines: Vec<_> = patch
            .as_array()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        expect![[r#"
            {"op":"test","path":"/metadata/resourceVersion","value":"7"}
            {"op":"add","path":"/spec/rules/1/backendRefs/0/weight","value":80}
            {"op":"add","path":"/spec/rules/1/backendRefs/1/weight","value":20}"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_replica_set_selects_its_own_pods_only() {
        let spec = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        });
        let rollout = Rollout::new("web", serde_json::from_value(spec).unwrap());
        let set = replica_set(&rollout, &RevisionHash::new("abc"), 3);
        let spec = set.spec.as_ref().unwrap();
        let selected = spec.selector.match_labels.as_ref().unwrap();
        assert_eq!(
            selected
                .get(label::ROLLOUT_POD_TEMPLATE_HASH)
                .map(String::as_str),
            Some("abc")
        );
        let labels = spec
            .template
            .as_ref()
            .unwrap()
            .metadata
            .as_ref()
            .unwrap()
            .labels
            .as_ref()
            .unwrap();
        assert!(selected.iter().all(|(k, v)| labels.get(k) == Some(v)));
        assert_eq!(
            (set.name_any().as_str(), spec.replicas),
            ("web-abc", Some(0))
        );
    }
}
