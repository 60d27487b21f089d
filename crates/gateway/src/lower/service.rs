//! Services and their slices: which address may get requests for which port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serin_api::Problem;
use serin_api::keys::{annotation, label};
use serin_api::problem::FieldPath;

use super::annotations;
use super::destination_rule::{Split, Splits};
use super::{Effect, RouteProblem};
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::Objects;
use crate::table::{BackendTls, EndpointEntry, PortEntry, Protocol, ServiceEntry, ServicePolicy};

pub(super) fn lower(
    objects: &Objects,
    splits: &Splits,
    problems: &mut Vec<RouteProblem>,
) -> BTreeMap<ObjectName, ServiceEntry> {
    let mut slices: BTreeMap<ObjectName, Vec<(&ObjectName, &EndpointSlice)>> = BTreeMap::new();
    for (name, slice) in &objects.slices {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|l| l.get(label::SERVICE_NAME)) {
            let service = ObjectName::new(&name.namespace, service);
            slices.entry(service).or_default().push((name, slice));
        }
    }
    let entry = |(name, service): (&ObjectName, &Service)| {
        let own = slices.get(name).map(Vec::as_slice).unwrap_or_default();
        let split = splits.of.get(name);
        let tls = splits.tls_of(name);
        let entry = lower_service((name, service), own, (split, tls), objects, problems);
        (name.clone(), entry)
    };
    objects.services.iter().map(entry).collect()
}

fn lower_service(
    (name, service): (&ObjectName, &Service),
    slices: &[(&ObjectName, &EndpointSlice)],
    (split, tls): (Option<&Split>, Option<&BackendTls>),
    objects: &Objects,
    problems: &mut Vec<RouteProblem>,
) -> ServiceEntry {
    let mut wrong = Vec::new();
    let annotated = annotations::service(&service.metadata, &mut wrong);
    let annotated_tls = annotations::backend_tls(&service.metadata, &server_name(name), &mut wrong);
    problems.extend(wrong.into_iter().map(|problem| RouteProblem {
        source: Source {
            kind: SourceKind::Service,
            name: name.clone(),
        },
        effect: Effect::Partly,
        problem,
    }));
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    let mut entry = ServiceEntry {
        served_generation: served_generation(slices),
        ports: ports
            .into_iter()
            .flatten()
            .filter_map(|port| port_entry(name, port))
            .collect(),
        // What the Service says, and the DestinationRule where the Service is silent.
        policy: annotated.over(split.map(|split| split.policy.clone()).unwrap_or_default()),
        subsets: subsets(split),
    };
    let tls = annotated_tls.or_else(|| tls.cloned());
    for port in &mut entry.ports {
        port.tls = tls.clone().or_else(|| port.tls.take());
    }
    for (name, slice) in slices {
        for problem in add_slice(&mut entry, name, slice, split, objects) {
            problems.push(RouteProblem {
                source: Source {
                    kind: SourceKind::EndpointSlice,
                    name: (*name).clone(),
                },
                effect: Effect::Partly,
                problem,
            });
        }
    }
    for port in &mut entry.ports {
        port.endpoints.sort();
        port.endpoints.dedup_by(|a, b| a.address == b.address);
    }
    entry
}

fn subsets(split: Option<&Split>) -> BTreeMap<String, ServicePolicy> {
    let subsets = split.into_iter().flat_map(|split| &split.subsets);
    subsets
        .map(|s| (s.name.clone(), s.policy.clone()))
        .collect()
}

/// The subsets whose labels a pod carries. What is no pod is in none with labels.
fn subsets_of(
    endpoint: &Endpoint,
    split: Option<&Split>,
    slice: &ObjectName,
    objects: &Objects,
) -> Vec<String> {
    let Some(split) = split else {
        return Vec::new();
    };
    let target = endpoint.target_ref.as_ref().and_then(|t| t.name.as_ref());
    let pod = target.and_then(|name| objects.pods.get(&ObjectName::new(&slice.namespace, name)));
    let labels = pod.and_then(|pod| pod.metadata.labels.as_ref());
    let carries = |(key, value): (&String, &String)| {
        labels.is_some_and(|labels| labels.get(key) == Some(value))
    };
    let of_pod = split
        .subsets
        .iter()
        .filter(|s| s.labels.iter().all(carries));
    of_pod.map(|subset| subset.name.clone()).collect()
}

/// The name by which instances of a Service are known unless something else is said.
pub(super) fn server_name(service: &ObjectName) -> String {
    format!("{}.{}.svc", service.name, service.namespace)
}

fn port_entry(service: &ObjectName, port: &ServicePort) -> Option<PortEntry> {
    let app_protocol = port.app_protocol.as_deref();
    Some(PortEntry {
        name: port.name.clone().unwrap_or_default(),
        port: u16::try_from(port.port).ok()?,
        protocol: Protocol::of(app_protocol),
        tls: Protocol::is_secure(app_protocol).then(|| BackendTls::named(server_name(service))),
        endpoints: Vec::new(),
    })
}

/// The oldest generation among the slices: only when every slice follows a generation does the table serve it.
fn served_generation(slices: &[(&ObjectName, &EndpointSlice)]) -> Option<i64> {
    let generation = |slice: &EndpointSlice| -> Option<i64> {
        let annotations = slice.metadata.annotations.as_ref()?;
        annotations
            .get(annotation::SERVICE_GENERATION)?
            .parse()
            .ok()
    };
    let all: Option<Vec<i64>> = slices.iter().map(|(_, slice)| generation(slice)).collect();
    all?.into_iter().min()
}

fn add_slice(
    entry: &mut ServiceEntry,
    name: &ObjectName,
    slice: &EndpointSlice,
    split: Option<&Split>,
    objects: &Objects,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let labels = slice.metadata.labels.as_ref();
    let revision = labels.and_then(|l| l.get(label::REVISION));
    let revision = revision.cloned().unwrap_or_default();
    let ports = slice.ports.as_deref().unwrap_or_default();
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        if !may_get_requests(endpoint, name, objects) {
            continue;
        }
        let addresses = FieldPath::new("endpoints").index(index).field("addresses");
        let Some(address) = endpoint.addresses.first() else {
            problems.push(Problem::required(addresses, "one IP address"));
            continue;
        };
        let Ok(ip) = address.parse::<IpAddr>() else {
            let why = "only IP addresses are served";
            problems.push(Problem::invalid(addresses.index(0), address, why));
            continue;
        };
        let subsets = subsets_of(endpoint, split, name, objects);
        for slice_port in ports {
            let number = slice_port.port.and_then(|p| u16::try_from(p).ok());
            let Some(number) = number else { continue };
            let port_name = slice_port.name.as_deref().unwrap_or_default();
            let Some(port) = entry.ports.iter_mut().find(|p| p.name == port_name) else {
                continue;
            };
            let address = SocketAddr::new(ip, number);
            port.endpoints.push(EndpointEntry {
                address,
                instance: instance(endpoint, address),
                revision: revision.clone(),
                subsets: subsets.clone(),
            });
        }
    }
    problems
}

/// Ready, and its pod is known and not asked to go. A pod that is not known any more is gone, even when its slice still
/// names it; one that is not known yet gets requests when its own event has come.
fn may_get_requests(endpoint: &Endpoint, slice: &ObjectName, objects: &Objects) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let is_ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let is_terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    if !is_ready || is_terminating {
        return false;
    }
    let Some(target) = endpoint
        .target_ref
        .as_ref()
        .filter(|t| t.kind.as_deref() == Some("Pod"))
    else {
        return true;
    };
    let namespace = target.namespace.as_deref().unwrap_or(&slice.namespace);
    let name = ObjectName::new(namespace, target.name.as_deref().unwrap_or_default());
    objects.pods.get(&name).is_some_and(|pod| {
        !pod.is_terminating() && target.uid.as_deref().is_none_or(|uid| uid == pod.uid())
    })
}

fn instance(endpoint: &Endpoint, address: SocketAddr) -> String {
    let target = endpoint.target_ref.as_ref();
    let target = target.filter(|t| t.kind.as_deref() == Some("Pod"));
    match target.and_then(|t| t.uid.clone()) {
        Some(uid) => uid,
        None => address.to_string(),
    }
}
