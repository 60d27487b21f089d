//! The addresses at which users reach the gateway, as the status of Ingresses and Gateways has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use super::LowerOptions;
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::table::Address;

/// Where users come from, if not straight to the sockets of the process.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// IP addresses and host names that are told instead of all else.
    pub addresses: Vec<String>,
    /// The Service in front of the process, as in a cluster.
    pub service: Option<ObjectName>,
}

/// The addresses; empty while nobody knows them. First what the operator set, then those of the Service, then those of the sockets that
/// are bound to an address of their own.
pub(super) fn addresses(objects: &Objects, options: &LowerOptions) -> Vec<Address> {
    let published = &options.published;
    if !published.addresses.is_empty() {
        return distinct(published.addresses.iter().cloned());
    }
    if let Some(name) = &published.service {
        let service = objects.services.get(name);
        return service.map(of_service).unwrap_or_default();
    }
    let mut ports: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    let sockets = options.sockets.http.iter().chain(&options.sockets.https);
    for socket in sockets.filter(|socket| !socket.ip().is_unspecified()) {
        ports.entry(socket.ip()).or_default().insert(socket.port());
    }
    let one = |(ip, ports): (IpAddr, BTreeSet<u16>)| Address {
        value: ip.to_string(),
        ports: ports.into_iter().collect(),
    };
    ports.into_iter().map(one).collect()
}

/// What the load balancer of a Service has, and its external addresses; without a load balancer its address in the cluster.
fn of_service(service: &Service) -> Vec<Address> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let external = spec.external_ips.iter().flatten().cloned();
    match spec.type_.as_deref() {
        Some("ExternalName") => distinct(spec.external_name.clone()),
        Some("LoadBalancer") => {
            let status = service.status.as_ref();
            let balancer = status.and_then(|status| status.load_balancer.as_ref());
            let points = balancer.and_then(|balancer| balancer.ingress.as_ref());
            let points = points.into_iter().flatten();
            let named = points.filter_map(|point| point.ip.clone().or(point.hostname.clone()));
            distinct(named.chain(external))
        }
        _ => {
            let external = distinct(external);
            if !external.is_empty() {
                return external;
            }
            let own = spec.cluster_ip.iter().filter(|ip| ip.as_str() != "None");
            distinct(own.cloned())
        }
    }
}

/// Each once, in their order. Ports are those of the routes: 80 and 443.
fn distinct(values: impl IntoIterator<Item = String>) -> Vec<Address> {
    let mut all: Vec<Address> = Vec::new();
    for value in values {
        if !value.is_empty() && all.iter().all(|known| known.value != value) {
            all.push(Address {
                value,
                ports: Vec::new(),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::objects;

    fn told(service: &str, options: &LowerOptions) -> String {
        let manifest = format!("kind: Service\nmetadata: {{name: front}}\n{service}");
        let all = addresses(&objects(&manifest), options);
        let one = |a: &Address| format!("{}{:?}", a.value, a.ports);
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_operator_goes_before_the_service_and_that_before_the_sockets() {
        let at = |text: &str| text.parse().unwrap();
        let mut options = LowerOptions::default();
        options.sockets.http = vec![at("0.0.0.0:80"), at("127.0.0.1:8080"), at("[::1]:8080")];
        options.sockets.https = vec![at("127.0.0.1:8443")];
        let spec = "spec: {clusterIP: 10.0.0.7}";
        assert_eq!(told(spec, &options), "127.0.0.1[8080, 8443] ::1[8080]");
        options.published.service = Some(ObjectName::new("default", "front"));
        assert_eq!(told(spec, &options), "10.0.0.7[]");
        options.published.addresses = vec!["a.example".into(), "192.0.2.1".into()];
        assert_eq!(told(spec, &options), "a.example[] 192.0.2.1[]");
    }

    #[test]
    fn a_service_is_reached_by_its_type() {
        let options = |name: &str| LowerOptions {
            published: Published {
                service: Some(ObjectName::new("default", name)),
                ..Published::default()
            },
            ..LowerOptions::default()
        };
        for (service, expected) in [
            (
                "spec: {type: LoadBalancer, clusterIP: 10.0.0.7, externalIPs: [198.51.100.1]}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example}]}}",
                "192.0.2.1[] lb.example[] 198.51.100.1[]",
            ),
            ("spec: {type: LoadBalancer, clusterIP: 10.0.0.7}", ""),
            (
                "spec: {type: NodePort, clusterIP: 10.0.0.7, externalIPs: [198.51.100.1]}",
                "198.51.100.1[]",
            ),
            ("spec: {type: NodePort, clusterIP: 10.0.0.7}", "10.0.0.7[]"),
            ("spec: {clusterIP: None}", ""),
            (
                "spec: {type: ExternalName, externalName: edge.example}",
                "edge.example[]",
            ),
        ] {
            assert_eq!(told(service, &options("front")), expected, "{service}");
        }
        assert_eq!(told("spec: {clusterIP: 10.0.0.7}", &options("gone")), "");
    }
}
