//! What is said of GatewayClasses and Gateways.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;
use serde_json::json;
use serin_api::conditions;
use serin_api::gateway_api::{
    Gateway, GatewayClass, GatewayClassStatus, GatewayStatus, GatewayStatusAddress, ListenerStatus,
    RouteGroupKind,
};

use super::{Due, Target, condition, test_uid, test_version, version, words};
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::table::{Address, ClassVerdict, GatewayVerdict, ListenerVerdict, RouteTable, Verdict};

/// The patches that are due.
pub(super) fn due(table: &RouteTable, objects: &Objects, now: Timestamp) -> Vec<Due> {
    let classes = objects.classes.iter().filter_map(|(name, class)| {
        let verdict = table.classes.get(&name.name)?;
        class_status(&name.name, class, verdict, now)
    });
    let gateways = objects.gateways.iter().filter_map(|(name, gateway)| {
        let verdict = table.gateways.get(name)?;
        gateway_status(name, gateway, verdict, &table.addresses, now)
    });
    classes.chain(gateways).collect()
}

fn class_status(
    name: &str,
    class: &GatewayClass,
    verdict: &ClassVerdict,
    now: Timestamp,
) -> Option<Due> {
    let old = class.status.as_ref();
    let known = old.map(|old| old.conditions.clone()).unwrap_or_default();
    let said = [("Accepted", &verdict.accepted)];
    let status = GatewayClassStatus {
        conditions: with(known, &said, verdict.generation, now),
    };
    let target = Target::GatewayClass(name.into());
    (old != Some(&status)).then(|| written(target, &class.metadata, words(verdict), &status))
}

fn gateway_status(
    name: &ObjectName,
    gateway: &Gateway,
    verdict: &GatewayVerdict,
    addresses: &[Address],
    now: Timestamp,
) -> Option<Due> {
    let old = gateway.status.as_ref();
    let known = old.map(|old| old.conditions.clone()).unwrap_or_default();
    let said = [
        ("Accepted", &verdict.accepted),
        ("Programmed", &verdict.programmed),
    ];
    let told = |address: &Address| GatewayStatusAddress {
        type_: Some(
            if address.is_ip() {
                "IPAddress"
            } else {
                "Hostname"
            }
            .into(),
        ),
        value: address.value.clone(),
    };
    let listeners = verdict.listeners.iter();
    let listeners = listeners.map(|one| listener_status(one, old, verdict.generation, now));
    let status = GatewayStatus {
        addresses: addresses.iter().map(told).collect(),
        conditions: with(known, &said, verdict.generation, now),
        listeners: listeners.collect(),
    };
    let target = Target::Gateway(name.clone());
    (old != Some(&status)).then(|| {
        let said = words(&(verdict, addresses));
        written(target, &gateway.metadata, said, &status)
    })
}

fn listener_status(
    verdict: &ListenerVerdict,
    old: Option<&GatewayStatus>,
    generation: i64,
    now: Timestamp,
) -> ListenerStatus {
    let old = old.and_then(|old| old.listeners.iter().find(|l| l.name == verdict.name));
    let known = old.map(|old| old.conditions.clone()).unwrap_or_default();
    let said = [
        ("Accepted", &verdict.accepted),
        ("Programmed", &verdict.programmed),
        ("ResolvedRefs", &verdict.resolved),
        ("Conflicted", &verdict.conflicted),
    ];
    let route = RouteGroupKind {
        group: Some("gateway.networking.k8s.io".into()),
        kind: "HTTPRoute".into(),
    };
    ListenerStatus {
        name: verdict.name.clone(),
        supported_kinds: verdict
            .takes_http_routes
            .then_some(route)
            .into_iter()
            .collect(),
        attached_routes: verdict.attached,
        conditions: with(known, &said, generation, now),
    }
}

/// `known` with what is said now. Times stay where the status stays.
fn with(
    mut known: Vec<Condition>,
    said: &[(&str, &Verdict)],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    for (kind, verdict) in said {
        conditions::set(&mut known, condition(kind, verdict, generation, now));
    }
    known
}

/// A patch that writes the whole status, so nobody may have changed it since.
fn written(target: Target, metadata: &ObjectMeta, said: String, status: &impl Serialize) -> Due {
    Due {
        target,
        resource_version: version(metadata),
        said,
        patch: json!([
            test_uid(metadata),
            test_version(metadata),
            {"op": "add", "path": "/status", "value": status},
        ]),
    }
}
