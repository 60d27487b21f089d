//! Services and the lists of their endpoints.

use super::field::{Field, unique};
use super::{metadata, names, probes};
use crate::Problem;

pub(super) fn check(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if !spec.require("", out) {
        return;
    }
    let kind = spec.get("type");
    kind.one_of(
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        out,
    );
    kind.words_not_yet(
        &["LoadBalancer", "NodePort"],
        "no port of the machine is opened for it; route to it with an Ingress or an HTTPRoute",
        out,
    );
    kind.words_not_yet(&["ExternalName"], "requests are not sent there", out);
    let affinity = spec.get("sessionAffinity");
    affinity.one_of(&["ClientIP", "None"], out);
    affinity.words_not_yet(
        &["ClientIP"],
        "requests of one client go to any of the pods",
        out,
    );
    metadata::labels(&spec.get("selector"), out);
    let ports = spec.get("ports");
    if kind.text() == Some("ExternalName") {
        let name = spec.get("externalName");
        if name.require("", out)
            && let Some(why) = name.text().and_then(names::subdomain)
        {
            out.push(name.invalid(why));
        }
    } else if spec.get("clusterIP").text() != Some("None") {
        ports.require("", out);
    }
    let several = ports.items().count() > 1;
    let inside = matches!(kind.text(), None | Some("ClusterIP"));
    for port in ports.items() {
        service_port(&port, several, out);
        let node_port = port.get("nodePort");
        if inside && node_port.integer().is_some_and(|n| n != 0) {
            out.push(node_port.forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    unique(ports.items().map(|p| p.get("name")), out);
    unique_ports(&ports, out);
}

fn service_port(port: &Field<'_>, several: bool, out: &mut Vec<Problem>) {
    let name = port.get("name");
    if name.is_empty() {
        if several {
            out.push(name.required("each port needs a name when there are several"));
        }
    } else if let Some(why) = name.text().and_then(names::label) {
        out.push(name.invalid(why));
    }
    port.get("port").port_number(out);
    let protocol = port.get("protocol");
    protocol.one_of(&["SCTP", "TCP", "UDP"], out);
    protocol.words_not_yet(&["SCTP", "UDP"], "only TCP is forwarded", out);
    probes::port_number_or_name(&port.get("targetPort"), out);
    let node_port = port.get("nodePort");
    if node_port.integer() != Some(0) {
        node_port.port_number(out);
    }
}

fn unique_ports(ports: &Field<'_>, out: &mut Vec<Problem>) {
    let mut seen = std::collections::BTreeSet::new();
    for port in ports.items() {
        let number = port.get("port").integer();
        let protocol = port.get("protocol").text().unwrap_or("TCP");
        if let Some(number) = number
            && !seen.insert((number, protocol))
        {
            out.push(Problem::duplicate(
                port.path,
                &format!("{number}/{protocol}"),
            ));
        }
    }
}

pub(super) fn endpoint_slice(root: &Field<'_>, out: &mut Vec<Problem>) {
    root.get("addressType")
        .one_of(&["FQDN", "IPv4", "IPv6"], out);
    for endpoint in root.get("endpoints").items() {
        endpoint
            .get("addresses")
            .require("must contain at least 1 address", out);
    }
    for port in root.get("ports").items() {
        port.get("port").port_number(out);
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], out);
    }
}
