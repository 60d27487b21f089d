//! The `v1` Endpoints object, which `kubectl get endpoints` shows: ready and unready addresses, by ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::members::{Member, Port};
use super::{MANAGER, is_kept, owner};

/// The most addresses that Kubernetes puts into one object.
const MAX_ADDRESSES: usize = 1000;
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// What to write; `None` when the present object says the same.
pub(super) fn plan(
    service: &Service,
    members: &[Member],
    present: Option<&Endpoints>,
) -> Option<Endpoints> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let subsets = subsets(members);
    let mut wanted = Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner(service)]),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|s| !s.is_empty()),
    };
    if let Some(present) = present {
        let same = present.subsets.as_deref().unwrap_or_default()
            == wanted.subsets.as_deref().unwrap_or_default()
            && is_kept(&present.metadata, &wanted.metadata);
        if same {
            return None;
        }
        wanted.metadata.resource_version = present.metadata.resource_version.clone();
        wanted.metadata.uid = present.metadata.uid.clone();
    }
    Some(wanted)
}

fn subsets(members: &[Member]) -> Vec<EndpointSubset> {
    let mut by_ports: BTreeMap<&[Port], (Vec<EndpointAddress>, Vec<EndpointAddress>)> =
        BTreeMap::new();
    let listed = members.iter().filter(|m| !m.terminating || m.ready);
    for member in listed.take(MAX_ADDRESSES) {
        let (ready, unready) = by_ports.entry(&member.ports).or_default();
        let side = if member.ready { ready } else { unready };
        side.push(EndpointAddress {
            hostname: None,
            ip: member.ip.clone(),
            node_name: member.node.clone(),
            target_ref: Some(member.target.clone()),
        });
    }
    let subsets = by_ports
        .into_iter()
        .map(|(ports, (ready, unready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(unready),
            ports: some(ports.iter().map(port).collect()),
        });
    subsets.collect()
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
    }
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|i| !i.is_empty())
}
