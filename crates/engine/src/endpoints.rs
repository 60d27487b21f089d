//! Where a Service's requests can go: EndpointSlices for the gateway, and the older Endpoints object for people.
//!
//! There is one slice for each revision among the selected pods, so that the split of requests between revisions is a split
//! between slices, and always at least one, so that whoever serves the Service can acknowledge an empty selection too.
//!
//! Absent on purpose: Services without a selector, whose slices somebody else writes, and zones.

mod legacy;
mod members;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serin_api::keys::{annotation, label};

use crate::hash;
use crate::workload::Selector;
use members::{Family, Member, Port};

/// The value of the label `endpointslice.kubernetes.io/managed-by` on the slices of these plans.
pub const MANAGER: &str = "endpointslice-controller.serin.dev";
/// The most endpoints that the API allows in one slice.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PREFIX: usize = 57;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// At least the pods of the Service's namespace that it selects; others are passed over.
    pub pods: Vec<Pod>,
    /// At least the slices of the Service; others are passed over.
    pub slices: Vec<EndpointSlice>,
    /// The Endpoints object of the Service's name.
    pub endpoints: Option<Endpoints>,
}

/// What to write. What is as it should be is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Plan {
    /// Slices to make, or to put in the place of the one of that name when they carry a resource version. They come first.
    pub apply: Vec<EndpointSlice>,
    /// Slices to delete once the others are written, so that no request finds less than before.
    pub delete: Vec<Stale>,
    /// The Endpoints object to make, or to put in the place of the present one when it carries a resource version.
    pub endpoints: Option<Endpoints>,
}

/// A slice that is no longer needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
}

/// The selector of a Service whose endpoints are ours to write; `None` for one without a selector, for an `ExternalName`, and
/// for one that is being deleted.
pub fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    if service.metadata.deletion_timestamp.is_some()
        || spec.type_.as_deref() == Some("ExternalName")
    {
        return None;
    }
    let labels = spec.selector.as_ref().filter(|s| !s.is_empty())?;
    Some(Selector::from_labels(labels))
}

/// Whether a Service whose endpoints are ours to write selects pods with these labels. As [`selector`], with nothing made.
pub fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let spec = service.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| {
        let mut wanted = wanted.iter();
        wanted.all(|(key, value)| labels.get(key) == Some(value))
    }) && selector(service).is_some()
}

/// Decides what to write for a Service.
pub fn plan(service: &Service, observed: &Observed) -> Plan {
    let Some(selector) = selector(service) else {
        return Plan::default();
    };
    let members = members::of(service, &selector, &observed.pods);
    let mut plan = Plan::default();
    let mut present: BTreeMap<&str, &EndpointSlice> = observed
        .slices
        .iter()
        .filter(|slice| is_ours(service, slice))
        .filter_map(|slice| Some((slice.metadata.name.as_deref()?, slice)))
        .collect();
    for wanted in slices(service, &members) {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        match present.remove(name.as_str()) {
            None => plan.apply.push(wanted),
            Some(slice) => plan.apply.extend(replacement(slice, wanted)),
        }
    }
    let stale = present.values().map(|slice| Stale {
        name: slice.metadata.name.clone().unwrap_or_default(),
        uid: slice.metadata.uid.clone().unwrap_or_default(),
    });
    plan.delete.extend(stale);
    plan.endpoints = legacy::plan(service, &members, observed.endpoints.as_ref());
    plan
}

fn is_ours(service: &Service, slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    let is = |key, value: Option<&str>| {
        labels.and_then(|l| l.get(key)).map(String::as_str) == value && value.is_some()
    };
    slice.metadata.namespace == service.metadata.namespace
        && slice.metadata.deletion_timestamp.is_none()
        && is(label::SLICE_MANAGED_BY, Some(MANAGER))
        && is(label::SERVICE_NAME, service.metadata.name.as_deref())
}

/// Members by what a slice can say only once.
type Groups<'a> = BTreeMap<(Family, &'a [Port]), Vec<&'a Member>>;

/// The slices that should be there, by revision. A revision has more than one only when its pods differ in their ports, or
/// are too many for one. A name follows from the place in this order and not from the ports, so that a new port changes a slice
/// and does not replace it.
fn slices(service: &Service, members: &[Member]) -> Vec<EndpointSlice> {
    let mut revisions: BTreeMap<&str, Groups<'_>> = BTreeMap::new();
    for member in members {
        let groups = revisions.entry(&member.revision).or_default();
        let group = groups.entry((member.family, &member.ports)).or_default();
        group.push(member);
    }
    let mut slices = Vec::new();
    for (revision, groups) in revisions {
        let mut place = 0;
        for ((family, ports), members) in groups {
            for chunk in members.chunks(MAX_ENDPOINTS) {
                slices.push(slice(service, (revision, place), family, ports, chunk));
                place += 1;
            }
        }
    }
    if slices.is_empty() {
        slices.push(slice(service, ("", 0), Family::V4, &[], &[]));
    }
    slices
}

fn slice(
    service: &Service,
    (revision, place): (&str, usize),
    family: Family,
    ports: &[Port],
    members: &[&Member],
) -> EndpointSlice {
    let meta = &service.metadata;
    let service_name = meta.name.clone().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let prefix: String = service_name.chars().take(MAX_PREFIX).collect();
    let suffix = match place {
        0 => hash::short(&[uid, revision]),
        place => hash::short(&[uid, revision, &place.to_string()]),
    };
    let labels = [
        (label::SERVICE_NAME, service_name.as_str()),
        (label::SLICE_MANAGED_BY, MANAGER),
        (label::REVISION, revision),
    ];
    let generation = meta.generation.unwrap_or(0).to_string();
    EndpointSlice {
        address_type: family.as_str().into(),
        endpoints: members.iter().map(|m| endpoint(m)).collect(),
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{suffix}")),
            namespace: meta.namespace.clone(),
            labels: Some(owned(labels)),
            annotations: Some(owned([(
                annotation::SERVICE_GENERATION,
                generation.as_str(),
            )])),
            owner_references: Some(vec![owner(service)]),
            ..ObjectMeta::default()
        },
        ports: Some(ports.iter().map(endpoint_port).collect()),
    }
}

fn endpoint(member: &Member) -> Endpoint {
    Endpoint {
        addresses: vec![member.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        node_name: member.node.clone(),
        target_ref: Some(member.target.clone()),
        ..Endpoint::default()
    }
}

fn endpoint_port(port: &Port) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
    }
}

/// What to write in the place of `present`; `None` when it says the same.
fn replacement(present: &EndpointSlice, mut wanted: EndpointSlice) -> Option<EndpointSlice> {
    let same = present.endpoints == wanted.endpoints
        && present.ports.as_deref().unwrap_or_default()
            == wanted.ports.as_deref().unwrap_or_default()
        && present.address_type == wanted.address_type
        && is_kept(&present.metadata, &wanted.metadata);
    wanted.metadata.resource_version = present.metadata.resource_version.clone();
    wanted.metadata.uid = present.metadata.uid.clone();
    (!same).then_some(wanted)
}

/// Whether an object carries all labels, annotations and owners that it should; others do not matter.
fn is_kept(present: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let has = |present: &Option<BTreeMap<_, _>>, wanted: &Option<BTreeMap<String, String>>| {
        let present: Option<&BTreeMap<String, String>> = present.as_ref();
        let mut wanted = wanted.iter().flatten();
        wanted.all(|(key, value)| present.and_then(|p| p.get(key)) == Some(value))
    };
    has(&present.labels, &wanted.labels)
        && has(&present.annotations, &wanted.annotations)
        && present.owner_references == wanted.owner_references
}

fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
