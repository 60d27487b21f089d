//! Several gateways behind one Service: what is acknowledged is what all of them serve.
//!
//! Each replica writes how far it is ([`Progress`]) into a Lease of its own, and says of an object that it is served only when every
//! other replica that gets requests is as far. Who gets requests is what the endpoints of the Service say: a replica that has died has
//! left them, and one that is merely cut off from the API has not, so that it is waited for as long as users reach it.
//!
//! Versions of objects are compared as numbers, within one kind, as Kubernetes allows it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_api::keys::{annotation, label};

use crate::acks::{Due, Target};
use crate::names::ObjectName;
use crate::objects::Objects;

/// The label of the Leases: the name of the Service.
pub(crate) const OF_SERVICE: &str = "serin.dev/gateway";
/// What a replica says of itself.
const PROGRESS: &str = "serin.dev/progress";

/// One of the gateways behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The Service that all of them are behind.
    pub(crate) service: ObjectName,
    /// The name of its pod.
    pub(crate) name: String,
}

/// The highest version of each kind that the table in use was made of. It never goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Progress {
    routes: u64,
    virtual_services: u64,
    destination_rules: u64,
    services: u64,
    /// Of the slices that say which generation of their Service they follow.
    slices: u64,
    /// Of the pods that were asked to go.
    pods: u64,
    /// The uids of those to which something is still in flight.
    busy: BTreeSet<String>,
}

impl Progress {
    /// Takes in what the table in use was made of.
    pub(crate) fn advance(&mut self, objects: &Objects, in_flight: &dyn Fn(&str) -> usize) {
        fn highest<'a>(before: u64, all: impl Iterator<Item = &'a ObjectMeta>) -> u64 {
            all.filter_map(version).fold(before, u64::max)
        }
        let routes = objects.routes.values().map(|o| &o.metadata);
        let virtual_services = objects.virtual_services.values().map(|o| &o.metadata);
        let rules = objects.destination_rules.values().map(|o| &o.metadata);
        let slices = objects.slices.values().map(|o| &o.metadata);
        let leaving = objects.pods.values().filter(|pod| pod.is_terminating());
        self.routes = highest(self.routes, routes);
        self.virtual_services = highest(self.virtual_services, virtual_services);
        self.destination_rules = highest(self.destination_rules, rules);
        self.services = highest(
            self.services,
            objects.services.values().map(|o| &o.metadata),
        );
        self.slices = highest(self.slices, slices.filter(|meta| follows(meta)));
        self.pods = highest(self.pods, leaving.clone().map(|pod| &pod.metadata));
        let busy = leaving
            .map(|pod| pod.uid())
            .filter(|uid| in_flight(uid) > 0);
        self.busy = busy.map(str::to_owned).collect();
    }

    /// Whether a replica that is so far may have it said. What names no instance is anybody's to say.
    fn covers(&self, due: &Due, objects: &Objects) -> bool {
        let wanted = due.resource_version.parse().unwrap_or(u64::MAX);
        match &due.target {
            Target::Route(_) => self.routes >= wanted,
            Target::VirtualService(_) => self.virtual_services >= wanted,
            Target::DestinationRule(_) => self.destination_rules >= wanted,
            Target::Service(name) => {
                let slices = objects.slices.iter();
                let mut own = slices.filter(|(slice, o)| is_of(slice, &o.metadata, name));
                let has = |meta| version(meta).is_some_and(|version| self.slices >= version);
                self.services >= wanted && own.all(|(_, slice)| has(&slice.metadata))
            }
            Target::Pod(name) => {
                let uid = objects.pods.get(name).map(|pod| pod.uid());
                self.pods >= wanted && uid.is_some_and(|uid| !self.busy.contains(uid))
            }
            Target::GatewayClass(_)
            | Target::Gateway(_)
            | Target::Ingress(_)
            | Target::Replica(_) => true,
        }
    }
}

impl Replica {
    /// The Lease that is to be written, unless it says so already.
    pub(crate) fn due(
        &self,
        progress: &Progress,
        objects: &Objects,
        now: Timestamp,
    ) -> Option<Due> {
        let name = ObjectName::new(&self.service.namespace, &self.name);
        if objects.replicas.get(&name).and_then(told).as_ref() == Some(progress) {
            return None;
        }
        let said = serde_json::to_string(progress).unwrap_or_default();
        // The Lease goes with its pod.
        let pod = objects.pods.get(&name);
        let owner = pod
            .and_then(|pod| pod.metadata.uid.as_ref())
            .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": uid}));
        let owners: Vec<Value> = owner.into_iter().collect();
        Some(Due {
            resource_version: String::new(),
            patch: json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": self.name,
                    "namespace": self.service.namespace,
                    "labels": {OF_SERVICE: self.service.name},
                    "annotations": {PROGRESS: said},
                    "ownerReferences": owners,
                },
                "spec": {"holderIdentity": self.name, "renewTime": MicroTime(now)},
            }),
            target: Target::Replica(name),
            said,
        })
    }

    /// Keeps of `due` what every other replica that gets requests is far enough for, and says for whom the rest waits.
    pub(crate) fn settle(&self, due: &mut Vec<Due>, objects: &Objects) -> Vec<String> {
        let mut waiting = Vec::new();
        for name in self.others(objects) {
            let lease = ObjectName::new(&self.service.namespace, &name);
            let progress = objects.replicas.get(&lease).and_then(told);
            let before = due.len();
            due.retain(|one| match &progress {
                Some(progress) => progress.covers(one, objects),
                None => Progress::default().covers(one, objects),
            });
            let held = before - due.len();
            if held > 0 {
                let why = if progress.is_some() {
                    "which is not as far yet"
                } else {
                    "which has said nothing yet; is it a gateway of this version, with --replica and the right to write Leases?"
                };
                waiting.push(format!("{held} acknowledgements wait for {name}, {why}"));
            }
        }
        waiting
    }

    /// The pods that get requests through the Service, without this one.
    fn others(&self, objects: &Objects) -> BTreeSet<String> {
        let slices = objects.slices.iter();
        let own = slices.filter(|(name, slice)| is_of(name, &slice.metadata, &self.service));
        let endpoints = own.flat_map(|(_, slice)| &slice.endpoints);
        let serving = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let serving = conditions.and_then(|c| c.serving.or(c.ready));
            serving.unwrap_or(true)
        });
        let names = serving.filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone());
        names.filter(|name| *name != self.name).collect()
    }
}

/// Drops all of a Lease but what is read here.
pub(crate) fn trim_lease(lease: &mut Lease) {
    crate::objects::trim(&mut lease.metadata);
    lease.spec = None;
    if let Some(annotations) = &mut lease.metadata.annotations {
        annotations.retain(|key, _| key == PROGRESS);
    }
}

fn told(lease: &Lease) -> Option<Progress> {
    let annotations = lease.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(PROGRESS)?).ok()
}

fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

fn follows(meta: &ObjectMeta) -> bool {
    let annotations = meta.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(annotation::SERVICE_GENERATION))
}

fn is_of(slice: &ObjectName, meta: &ObjectMeta, service: &ObjectName) -> bool {
    let of = meta
        .labels
        .as_ref()
        .and_then(|l| l.get(label::SERVICE_NAME));
    slice.namespace == service.namespace && of == Some(&service.name)
}

#[cfg(test)]
mod tests;
