//! What is said of Ingresses: at which addresses they are served.

use k8s_openapi::api::networking::v1::{
    Ingress, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressPortStatus,
    IngressStatus,
};
use serde_json::json;

use super::{Due, Target, test_uid, version};
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::table::{Address, RouteTable};

/// The patches that are due. While nobody knows an address, what was said stays.
pub(super) fn due(table: &RouteTable, objects: &Objects) -> Vec<Due> {
    if table.addresses.is_empty() {
        return Vec::new();
    }
    let points: Vec<_> = table.addresses.iter().map(point).collect();
    let served = table.ingresses.iter();
    let served = served.filter_map(|name| Some((name, objects.ingresses.get(name)?)));
    served
        .filter(|(_, ingress)| said(ingress) != points)
        .map(|(name, ingress)| status(name, ingress, &points))
        .collect()
}

fn said(ingress: &Ingress) -> &[IngressLoadBalancerIngress] {
    let status = ingress.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let points = balancer.and_then(|balancer| balancer.ingress.as_deref());
    points.unwrap_or_default()
}

fn status(name: &ObjectName, ingress: &Ingress, points: &[IngressLoadBalancerIngress]) -> Due {
    let status = IngressStatus {
        load_balancer: Some(IngressLoadBalancerStatus {
            ingress: Some(points.to_vec()),
        }),
    };
    Due {
        target: Target::Ingress(name.clone()),
        resource_version: version(&ingress.metadata),
        said: format!("{points:?}"),
        // The addresses are all that this status has.
        patch: json!([
            test_uid(&ingress.metadata),
            {"op": "add", "path": "/status", "value": status},
        ]),
    }
}

fn point(address: &Address) -> IngressLoadBalancerIngress {
    let ports = address.ports.iter().map(|port| IngressPortStatus {
        port: i32::from(*port),
        protocol: "TCP".into(),
        error: None,
    });
    let ports: Vec<_> = ports.collect();
    let value = Some(address.value.clone());
    let (ip, hostname) = if address.is_ip() {
        (value, None)
    } else {
        (None, value)
    };
    IngressLoadBalancerIngress {
        ip,
        hostname,
        ports: (!ports.is_empty()).then_some(ports),
    }
}
