//! The pods of a Service as places to send requests to.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::workload::{PodView, Selector};

const TCP: &str = "TCP";

/// One pod.
pub(super) struct Member {
    pub(super) revision: String,
    pub(super) family: Family,
    pub(super) ip: String,
    pub(super) node: Option<String>,
    pub(super) target: ObjectReference,
    /// Whether new requests may be sent to it.
    pub(super) ready: bool,
    /// Whether it answers, though it may be on its way out.
    pub(super) serving: bool,
    pub(super) terminating: bool,
    /// Ordered by name.
    pub(super) ports: Vec<Port>,
}

/// The kind of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A port of the Service, as a number on the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) protocol: String,
    pub(super) app_protocol: Option<String>,
}

/// The selected pods that have an address and have not ended, by name.
pub(super) fn of(service: &Service, selector: &Selector, pods: &[Pod]) -> Vec<Member> {
    let mut members: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.namespace == service.metadata.namespace)
        .filter_map(|pod| member(service, selector, pod))
        .collect();
    members.sort_by(|a, b| a.target.name.cmp(&b.target.name));
    members
}

fn member(service: &Service, selector: &Selector, pod: &Pod) -> Option<Member> {
    let view = PodView::from_pod(pod);
    if view.is_finished() || !selector.matches(&view.labels) {
        return None;
    }
    let ip = pod.status.as_ref()?.pod_ip.clone()?;
    let family = match ip.parse().ok()? {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let spec = service.spec.as_ref()?;
    let publish_always = spec.publish_not_ready_addresses == Some(true);
    let mut ports: Vec<_> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| resolve(port, pod))
        .collect();
    ports.sort();
    Some(Member {
        revision: view.revision.to_string(),
        family,
        ip,
        node: view.node,
        target: ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: Some(view.name),
            uid: Some(view.uid),
            ..ObjectReference::default()
        },
        ready: publish_always || (view.ready && !view.terminating),
        serving: view.ready,
        terminating: view.terminating,
        ports,
    })
}

/// `None` when the port is named after one that no container of the pod has.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or(TCP);
    let number = match &port.target_port {
        None => port.port,
        // 0 and "" are how Go writes a field that was not given.
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => {
            container_ports(pod)
                .find(|p| {
                    p.name.as_ref() == Some(name)
                        && p.protocol.as_deref().unwrap_or(TCP) == protocol
                })?
                .container_port
        }
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        number,
        protocol: protocol.to_owned(),
        app_protocol: port.app_protocol.clone(),
    })
}

/// The ports of the containers, and of the init containers that run beside them.
fn container_ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    })
    .flat_map(|container| container.ports.iter().flatten())
}
