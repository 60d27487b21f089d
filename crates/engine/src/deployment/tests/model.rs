//! A small world for plans: a store with ReplicaSets and pods, a view of it that lags behind, and two shells that carry out
//! what is planned on the view. Writes of a shell are seen at once, as the real one waits for its own writes; everything else
//! is seen when it is delivered.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use serin_api::keys::annotation;

use crate::deployment::{self, Action, Desired, Target};
use crate::replica_set;
use crate::workload::{Availability, Phase, PodView, ReplicaSetView, as_i32, available};

/// The objects of one moment.
#[derive(Clone, Default)]
pub(super) struct Objects {
    pub(super) sets: BTreeMap<String, ReplicaSet>,
    pub(super) pods: BTreeMap<String, PodView>,
}

pub(super) struct World {
    pub(super) now: i64,
    version: u64,
    pub(super) deployment: Deployment,
    pub(super) truth: Objects,
    pub(super) seen: Objects,
    /// Ready pods that were lost to faults, which no plan can help: who has seen one ready counts it as available when its time has
    /// come, until he learns of the fault.
    pub(super) lost: u32,
    /// What the bounds allow: the widest since the last calm.
    pub(super) ceiling: u32,
    pub(super) floor: u32,
}

impl World {
    pub(super) fn new(spec: serde_json::Value) -> Self {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "uid": "deployment", "generation": 1},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "v1"}]},
                },
            },
        }))
        .unwrap();
        let mut world = Self {
            now: 1_000,
            version: 1,
            deployment,
            truth: Objects::default(),
            seen: Objects::default(),
            lost: 0,
            ceiling: 0,
            floor: 0,
        };
        world.edit(spec);
        world.floor = 0;
        world
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    /// Puts fields of the spec in the place of those that are there.
    pub(super) fn edit(&mut self, fields: serde_json::Value) {
        let mut spec = serde_json::to_value(&self.deployment.spec).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.deployment.spec = serde_json::from_value(spec).unwrap();
        let generation = self.deployment.metadata.generation.get_or_insert(0);
        *generation += 1;
        let bounds = self.desired().bounds();
        self.ceiling = self.ceiling.max(bounds.ceiling);
        self.floor = self.floor.min(bounds.floor);
    }

    pub(super) fn image(&mut self, image: &str) {
        let spec = self.deployment.spec.clone().unwrap();
        let mut template = serde_json::to_value(spec.template).unwrap();
        template["spec"]["containers"][0]["image"] = json!(image);
        self.edit(json!({"template": template}));
    }

    pub(super) fn desired(&self) -> Desired {
        deployment::lower(&self.deployment).unwrap()
    }

    pub(super) fn status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(super) fn observed(&self) -> deployment::Observed {
        let sets = self.seen.sets.values();
        deployment::Observed {
            replica_sets: sets.map(ReplicaSetView::from_replica_set).collect(),
            taken: self.seen.sets.keys().cloned().collect(),
            pods: self.seen.pods.values().cloned().collect(),
            annotations: self
                .deployment
                .metadata
                .annotations
                .clone()
                .unwrap_or_default(),
            status: self.status(),
            hold_rejected: false,
        }
    }

    /// Plans for the Deployment and carries the plan out, but for a crash after `limit` actions. Whether anything changed.
    pub(super) fn run_deployment(&mut self, limit: usize) -> bool {
        let plan = deployment::plan(&self.desired(), &self.observed(), self.now());
        let mut changed = false;
        for (i, action) in plan.actions.iter().enumerate() {
            if i >= limit || !self.apply(action) {
                return changed;
            }
            changed = true;
        }
        changed |= self.status() != plan.status;
        self.deployment.status = Some(plan.status);
        changed
    }

    /// `false` when the object is no longer as it was seen.
    fn apply(&mut self, action: &Action) -> bool {
        match action {
            Action::Create(rs) => self.create_set(rs),
            Action::Update(update) => {
                let replicas = update.replicas.map(as_i32);
                self.change_set(&update.target, |rs| {
                    let notes = rs.metadata.annotations.get_or_insert_default();
                    for (key, value) in &update.annotations {
                        match value {
                            Some(value) => drop(notes.insert(key.clone(), value.clone())),
                            None => drop(notes.remove(key)),
                        }
                    }
                    let spec = rs.spec.get_or_insert_default();
                    if let Some(seconds) = update.min_ready_seconds {
                        spec.min_ready_seconds = Some(seconds);
                    }
                    if replicas.is_some() && spec.replicas != replicas {
                        spec.replicas = replicas;
                        *rs.metadata.generation.get_or_insert(0) += 1;
                    }
                })
            }
            Action::Delete(target) => {
                let known = self.truth.sets.get(&target.name);
                let same = known.is_some_and(|rs| is(rs, target));
                if same {
                    let uid = Some(target.uid.clone());
                    let own = |pod: &PodView| pod.owner_uid == uid;
                    assert!(
                        !self.truth.pods.values().any(own),
                        "a ReplicaSet with pods is forgotten"
                    );
                    self.truth.sets.remove(&target.name);
                    self.seen.sets.remove(&target.name);
                }
                same
            }
            Action::Number { revision } => {
                let notes = self.deployment.metadata.annotations.get_or_insert_default();
                notes.insert(annotation::DEPLOYMENT_REVISION.into(), revision.to_string());
                true
            }
            Action::Adopt(_) | Action::Release(_) => panic!("nobody takes anything away here"),
        }
    }

    fn create_set(&mut self, rs: &ReplicaSet) -> bool {
        let name = rs.metadata.name.clone().unwrap();
        if self.truth.sets.contains_key(&name) {
            return true;
        }
        let version = self.next_version();
        let mut rs = rs.clone();
        rs.metadata = ObjectMeta {
            uid: Some(format!("{name}@{version}")),
            resource_version: Some(version),
            generation: Some(1),
            creation_timestamp: Some(Time(self.now())),
            ..rs.metadata
        };
        self.truth.sets.insert(name.clone(), rs.clone());
        self.seen.sets.insert(name, rs);
        true
    }

    fn change_set(&mut self, target: &Target, change: impl FnOnce(&mut ReplicaSet)) -> bool {
        let version = self.next_version();
        let Some(rs) = self.truth.sets.get_mut(&target.name) else {
            return false;
        };
        if !is(rs, target) {
            return false;
        }
        change(rs);
        rs.metadata.resource_version = Some(version);
        self.seen.sets.insert(target.name.clone(), rs.clone());
        true
    }

    /// Plans for a ReplicaSet that is seen and carries the plan out, but for a crash after `limit` actions.
    pub(super) fn run_set(&mut self, name: &str, limit: usize) -> bool {
        let Some(rs) = self.seen.sets.get(name).cloned() else {
            return false;
        };
        let desired = replica_set::lower(&rs).unwrap();
        let observed = replica_set::Observed {
            pods: self.seen.pods.values().cloned().collect(),
            taken: self.seen.pods.keys().cloned().collect(),
            status: rs.status.clone().unwrap_or_default(),
        };
        let plan = replica_set::plan(&desired, &observed, self.now());
        let mut changed = false;
        for (i, action) in plan.batches.iter().flatten().enumerate() {
            if i >= limit {
                return changed;
            }
            self.apply_to_pods(action);
            changed = true;
        }
        if Some(&plan.status) != rs.status.as_ref() {
            let target = Target {
                name: name.to_owned(),
                uid: desired.uid,
                resource_version: rs.metadata.resource_version.unwrap_or_default(),
            };
            changed |= self.change_set(&target, |rs| rs.status = Some(plan.status));
        }
        changed
    }

    fn apply_to_pods(&mut self, action: &replica_set::Action) {
        match action {
            replica_set::Action::Create(pod) => {
                let version = self.next_version();
                let mut view = PodView::from_pod(pod);
                view.uid = format!("{}@{version}", view.name);
                view.created = self.now();
                view.node = Some("local".into());
                let owner = view.owner_uid.clone();
                if self.truth.sets.values().any(|rs| rs.metadata.uid == owner) {
                    let pods = &mut self.truth.pods;
                    pods.entry(view.name.clone())
                        .or_insert_with(|| view.clone());
                    let pod = pods[&view.name].clone();
                    self.seen.pods.insert(view.name, pod);
                }
            }
            replica_set::Action::Delete { name, uid } => {
                if let Some(pod) = self.truth.pods.get_mut(name)
                    && pod.uid == *uid
                {
                    pod.terminating = true;
                    self.seen.pods.insert(name.clone(), pod.clone());
                } else {
                    self.seen.pods.remove(name);
                }
            }
            other => panic!("nobody takes anything away here: {other:?}"),
        }
    }

    /// The names of pods, in order.
    pub(super) fn pods_where(&self, test: impl Fn(&PodView) -> bool) -> Vec<String> {
        let pods = self.truth.pods.values();
        pods.filter(|p| test(p)).map(|p| p.name.clone()).collect()
    }

    pub(super) fn is_available(&self, pod: &PodView) -> bool {
        let seconds = self.desired().min_ready_seconds;
        let min_ready = SignedDuration::from_secs(i64::from(seconds));
        available(pod, min_ready, self.now()) == Availability::Available
    }

    pub(super) fn make_ready(&mut self, name: &str) {
        let now = self.now();
        let image = |world: &Self, pod: &PodView| {
            let sets = world.truth.sets.values();
            let mut own = sets.filter(|rs| rs.metadata.uid == pod.owner_uid);
            let template = own.next()?.spec.as_ref()?.template.clone()?;
            template.spec?.containers[0].image.clone()
        };
        let pod = &self.truth.pods[name];
        let bad = image(self, pod).is_none_or(|image| image.starts_with("bad"));
        let pod = self.truth.pods.get_mut(name).unwrap();
        if pod.is_live() && !pod.ready && !bad {
            pod.phase = Phase::Running;
            pod.ready = true;
            pod.ready_since = Some(now);
        }
    }

    /// A fault: readiness is lost, or the pod ends, or a person deletes it.
    pub(super) fn harm(&mut self, name: &str, how: Harm) {
        let pod = self.truth.pods.get_mut(name).unwrap();
        let was_ready = pod.is_live() && pod.ready;
        match how {
            Harm::Unready => (pod.ready, pod.ready_since) = (false, None),
            Harm::Failed => (pod.ready, pod.phase) = (false, Phase::Failed),
            Harm::Deleted => pod.terminating = true,
        }
        self.lost += u32::from(was_ready);
    }

    pub(super) fn deliver_all(&mut self) {
        self.seen = self.truth.clone();
    }

    /// Delivers one object: the one at `at` among those that differ.
    pub(super) fn deliver(&mut self, at: usize) {
        let names = |a: &BTreeMap<String, _>, b: &BTreeMap<String, _>| {
            let mut names: Vec<String> = a.keys().chain(b.keys()).cloned().collect();
            names.sort();
            names.dedup();
            names
        };
        let pods: Vec<_> = names(&self.truth.pods, &self.seen.pods)
            .into_iter()
            .filter(|n| self.truth.pods.get(n) != self.seen.pods.get(n))
            .collect();
        let sets: Vec<_> = self
            .truth
            .sets
            .keys()
            .chain(self.seen.sets.keys())
            .filter(|n| self.truth.sets.get(*n) != self.seen.sets.get(*n))
            .cloned()
            .collect();
        let total = pods.len() + sets.len();
        if total == 0 {
            return;
        }
        let at = at % total;
        if let Some(name) = pods.get(at) {
            copy(&self.truth.pods, &mut self.seen.pods, name);
        } else {
            copy(
                &self.truth.sets,
                &mut self.seen.sets,
                &sets[at - pods.len()],
            );
        }
    }

    pub(super) fn totals(&self) -> (u32, u32) {
        let live = self.pods_where(PodView::is_live).len();
        let good = self.pods_where(|p| self.is_available(p)).len();
        (u32::try_from(live).unwrap(), u32::try_from(good).unwrap())
    }

    /// One round in which everything is seen, every plan is carried out, and every pod gets on.
    pub(super) fn round(&mut self) -> bool {
        self.deliver_all();
        let mut changed = self.run_deployment(usize::MAX);
        for name in self.truth.sets.keys().cloned().collect::<Vec<_>>() {
            self.deliver_all();
            changed |= self.run_set(&name, usize::MAX);
        }
        for name in self.pods_where(|p| p.terminating) {
            self.truth.pods.remove(&name);
            changed = true;
        }
        for name in self.pods_where(|p| p.is_live() && !p.ready) {
            self.make_ready(&name);
            changed |= self.truth.pods[&name].ready;
        }
        self.now += 5;
        changed
    }

    /// Rounds without faults until nothing changes; the bounds are checked after each.
    pub(super) fn settle(&mut self, mut check: impl FnMut(&Self)) {
        let mut quiet = 0;
        for _ in 0..400 {
            quiet = if self.round() { 0 } else { quiet + 1 };
            check(self);
            // A few rounds more, for what only time brings.
            if quiet > 5 {
                self.calm_down();
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Nothing is under way: from now on the bounds of the present spec count, if they hold.
    fn calm_down(&mut self) {
        let bounds = self.desired().bounds();
        let (total, good) = self.totals();
        if good >= bounds.floor && total <= bounds.ceiling {
            (self.lost, self.ceiling, self.floor) = (0, bounds.ceiling, bounds.floor);
        }
    }
}

/// What can happen to a pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Unready,
    Failed,
    Deleted,
}

fn is(rs: &ReplicaSet, target: &Target) -> bool {
    rs.metadata.uid.as_ref() == Some(&target.uid)
        && rs.metadata.resource_version.as_ref() == Some(&target.resource_version)
}

fn copy<T: Clone>(from: &BTreeMap<String, T>, to: &mut BTreeMap<String, T>, name: &str) {
    match from.get(name) {
        Some(object) => to.insert(name.to_owned(), object.clone()),
        None => to.remove(name),
    };
}
