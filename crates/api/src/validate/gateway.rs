//! Gateways, their classes and ReferenceGrants of Gateway API.

use super::field::{Field, unique};
use super::names;
use crate::Problem;

pub(super) fn check(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    spec.get("gatewayClassName").require("name the class", out);
    let listeners = spec.get("listeners");
    if listeners.is_empty() {
        out.push(listeners.required("at least one listener"));
    }
    for listener in listeners.items() {
        listener.get("name").require("", out);
        listener.get("protocol").require("", out);
        let port = listener.get("port");
        if port.require("", out) {
            port.port_number(out);
        }
        let host = listener.get("hostname");
        if let Some(why) = host.text().and_then(names::host) {
            out.push(host.invalid(why));
        }
        let from = listener.at("allowedRoutes.namespaces.from");
        from.one_of(&["All", "Same", "Selector"], out);
    }
    unique(listeners.items().map(|l| l.get("name")), out);
}

pub(super) fn class(root: &Field<'_>, out: &mut Vec<Problem>) {
    let controller = root.at("spec.controllerName");
    controller.require("name the controller, such as serin.dev/gateway", out);
}

pub(super) fn grant(root: &Field<'_>, out: &mut Vec<Problem>) {
    for (list, fields) in [("from", &["kind", "namespace"][..]), ("to", &["kind"][..])] {
        let entries = root.get("spec").get(list);
        if entries.is_empty() {
            out.push(entries.required("at least one entry"));
        }
        for entry in entries.items() {
            for field in fields {
                entry.get(field).require("", out);
            }
        }
    }
}
