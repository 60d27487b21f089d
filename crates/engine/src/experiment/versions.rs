//! The versions of an experiment: each a ReplicaSet, and a Service when it asks for one.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::conditions::time;
use serin_api::experiment::{ExperimentTemplate, TemplatePhase, TemplateStatus};
use serin_api::keys::label;

use super::{
    Action, PROGRESS_DEADLINE, Planner, SCALE_DOWN_DELAY, Seen, SetView, seconds, service_name,
    set_name,
};
use crate::hash::{template_text, text_hash};

impl Planner<'_> {
    /// Starts what is missing and tells how far each version is.
    pub(super) fn run_versions(&mut self) {
        let versions = self.spec.templates.iter();
        let told: Vec<_> = versions.map(|version| self.run_version(version)).collect();
        self.next.template_statuses = told;
    }

    fn run_version(&mut self, version: &ExperimentTemplate) -> TemplateStatus {
        let known = self.next.template_statuses.iter();
        let before = known.clone().find(|status| status.name == version.name);
        let mut status = before.cloned().unwrap_or_else(|| TemplateStatus {
            name: version.name.clone(),
            ..TemplateStatus::default()
        });
        let set = set_name(&self.observed.name, &version.name);
        let made = replica_set(&self.observed.name, version, &set);
        status.pod_template_hash = hash_of(&made);
        match self.observed.sets.get(&set) {
            Some(Seen::Foreign) => {
                fail(
                    &mut status,
                    format!("ReplicaSet {set:?} is somebody else's"),
                );
            }
            Some(Seen::Ours(view)) => {
                self.count(&mut status, view);
                if !self.has_ended() {
                    self.follow(version, &made, view, &mut status);
                }
            }
            None if !self.has_ended() => {
                status.status = Some(TemplatePhase::Progressing);
                status.last_transition_time = Some(time(self.now));
                self.actions.push(Action::CreateSet(Box::new(made)));
            }
            None => self.count(&mut status, &SetView::default()),
        }
        status
    }

    /// What is seen of the instances; a change of their numbers is progress.
    fn count(&self, status: &mut TemplateStatus, view: &SetView) {
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let before = status.clone();
        status.replicas = number(view.replicas);
        status.updated_replicas = number(view.replicas);
        status.ready_replicas = number(view.ready);
        status.available_replicas = number(view.available);
        if *status != before || status.last_transition_time.is_none() {
            status.last_transition_time = Some(time(self.now));
        }
    }

    /// Brings a version that has a ReplicaSet to its instances and its Service.
    fn follow(
        &mut self,
        version: &ExperimentTemplate,
        made: &ReplicaSet,
        view: &SetView,
        status: &mut TemplateStatus,
    ) {
        let wanted = wanted(version);
        if view.desired != wanted {
            self.actions.push(Action::Scale {
                set: set_name(&self.observed.name, &version.name),
                to: wanted,
            });
        }
        let served = self.serve(version, made, status);
        if [Some(TemplatePhase::Failed), Some(TemplatePhase::Error)].contains(&status.status) {
            return;
        }
        if view.available >= wanted && view.desired == wanted && served {
            status.status = Some(TemplatePhase::Running);
            return;
        }
        status.status = Some(TemplatePhase::Progressing);
        let limit = seconds(self.spec.progress_deadline_seconds, PROGRESS_DEADLINE);
        let since = status
            .last_transition_time
            .as_ref()
            .map_or(self.now, |t| t.0);
        match since.checked_add(limit) {
            Ok(deadline) if deadline <= self.now => {
                status.status = Some(TemplatePhase::Failed);
                status.message = Some(format!(
                    "version {:?} has {} of {wanted} instances available and did not get on for {} s (progressDeadlineSeconds)",
                    version.name,
                    view.available,
                    limit.as_secs()
                ));
            }
            Ok(deadline) => self.wake(deadline),
            Err(_) => {}
        }
    }

    /// Makes the Service of a version that asks for one. `true` when it is there, or none is asked for.
    fn serve(
        &mut self,
        version: &ExperimentTemplate,
        made: &ReplicaSet,
        status: &mut TemplateStatus,
    ) -> bool {
        let Some(name) = service_name(&self.observed.name, version) else {
            return true;
        };
        match self.observed.services.get(&name) {
            Some(Seen::Ours(())) => {
                status.service_name = Some(name);
                true
            }
            Some(Seen::Foreign) => {
                fail(status, format!("Service {name:?} is somebody else's"));
                false
            }
            None => match service(&name, made) {
                Some(made) => {
                    self.actions.push(Action::CreateService(Box::new(made)));
                    false
                }
                None => {
                    status.message = Some("no Service, as no container names a port".into());
                    true
                }
            },
        }
    }

    /// After the end: keeps the versions for a while and as long as a route may lead to them, then takes their instances and
    /// Services away.
    pub(super) fn wind_down(&mut self) {
        let delay = seconds(self.spec.scale_down_delay_seconds, SCALE_DOWN_DELAY);
        for version in &self.spec.templates {
            let set = set_name(&self.observed.name, &version.name);
            let Some(view) = self.observed.sets.get(&set).and_then(Seen::ours) else {
                continue;
            };
            if view.desired == 0 {
                self.forget_service(version);
                continue;
            }
            match view.keep_until {
                None if !delay.is_zero() => {
                    let until = self.now.checked_add(delay).unwrap_or(self.now);
                    self.wake(until);
                    self.actions.push(Action::KeepUntil { set, until });
                }
                Some(until) if until > self.now => self.wake(until),
                _ if self.observed.in_routes => {}
                _ => self.actions.push(Action::Scale { set, to: 0 }),
            }
        }
    }

    fn forget_service(&mut self, version: &ExperimentTemplate) {
        let name = service_name(&self.observed.name, version);
        let seen = name.and_then(|name| {
            let seen = self.observed.services.get(&name)?;
            seen.ours().map(|()| name)
        });
        let mut statuses = self.next.template_statuses.iter_mut();
        if let Some(status) = statuses.find(|status| status.name == version.name) {
            status.service_name.clone_from(&seen);
        }
        self.actions
            .extend(seen.map(|name| Action::DeleteService { name }));
    }
}

fn hash_of(set: &ReplicaSet) -> Option<String> {
    let labels = set.metadata.labels.as_ref()?;
    labels.get(label::ROLLOUT_POD_TEMPLATE_HASH).cloned()
}

fn fail(status: &mut TemplateStatus, why: String) {
    status.status = Some(TemplatePhase::Error);
    status.message = Some(why);
}

/// The instances of a version; 1 when it does not say.
fn wanted(version: &ExperimentTemplate) -> u32 {
    u32::try_from(version.replicas.unwrap_or(1)).unwrap_or(0)
}

/// The ReplicaSet of a version. The name of the experiment is part of the hash, so that no Service of a Rollout that runs the
/// same template leads to its pods.
fn replica_set(experiment: &str, version: &ExperimentTemplate, set: &str) -> ReplicaSet {
    let mut template: PodTemplateSpec = version.template.clone();
    let text = format!(
        "{experiment}\n{}\n{}",
        version.name,
        template_text(&template)
    );
    let hash = text_hash(&text, 0).as_str().to_owned();
    let labels = template.metadata.get_or_insert_default();
    let labels = labels.labels.get_or_insert_default();
    labels.insert(label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = version.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(), hash);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set.to_owned()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (EXPERIMENT.to_owned(), experiment.to_owned()),
                (TEMPLATE.to_owned(), version.name.clone()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: i32::try_from(wanted(version)).ok(),
            min_ready_seconds: version.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// On the ReplicaSet of a version, as in Argo Rollouts: the experiment.
const EXPERIMENT: &str = "experiment.argoproj.io/name";
/// The same: the version.
const TEMPLATE: &str = "experiment.argoproj.io/template-name";

/// A Service that leads to the pods of a ReplicaSet, at every port that a container names; `None` when none does.
fn service(name: &str, set: &ReplicaSet) -> Option<Service> {
    let spec = set.spec.as_ref()?;
    let pod = spec.template.as_ref()?.spec.as_ref()?;
    let named = pod.containers.iter().flat_map(|c| c.ports.iter().flatten());
    let ports: Vec<_> = named
        .map(|port| ServicePort {
            // Of several ports each needs a name.
            name: Some(
                port.name
                    .clone()
                    .unwrap_or_else(|| format!("port-{}", port.container_port)),
            ),
            port: port.container_port,
            protocol: port.protocol.clone(),
            target_port: Some(IntOrString::Int(port.container_port)),
            ..ServicePort::default()
        })
        .collect();
    (!ports.is_empty()).then(|| Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: set.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: spec.selector.match_labels.clone(),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}
