//! What the gateway has to say to the control plane: which generation of a route and of a Service it serves, at which addresses,
//! and which pods are drained. A pure function of the table in use and the objects as they were last seen gives the patches that
//! are due.
//!
//! Absent on purpose: nothing here sends a patch, and nothing is remembered. What is already said is in the objects.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;
use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::gateway_api::{HTTPRoute, RouteParentStatus};
use serin_api::istio::IstioStatus;
use serin_api::keys::{self, GATEWAY_CONTROLLER};

use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, PodLife};
use crate::table::{ParentVerdict, RouteTable, RouteVerdict, ServiceEntry, Verdict};

mod gateways;
mod ingresses;

/// Whose status is patched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An HTTPRoute.
    Route(ObjectName),
    /// A GatewayClass.
    GatewayClass(String),
    /// A Gateway.
    Gateway(ObjectName),
    /// An Ingress.
    Ingress(ObjectName),
    /// A VirtualService.
    VirtualService(ObjectName),
    /// A DestinationRule.
    DestinationRule(ObjectName),
    /// A Service.
    Service(ObjectName),
    /// The Lease of a gateway that is one of several.
    Replica(ObjectName),
    /// A Pod.
    Pod(ObjectName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(name) => write!(f, "HTTPRoute {name}"),
            Self::GatewayClass(name) => write!(f, "GatewayClass {name}"),
            Self::Gateway(name) => write!(f, "Gateway {name}"),
            Self::Ingress(name) => write!(f, "Ingress {name}"),
            Self::VirtualService(name) => write!(f, "VirtualService {name}"),
            Self::DestinationRule(name) => write!(f, "DestinationRule {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Replica(name) => write!(f, "Lease {name}"),
            Self::Pod(name) => write!(f, "Pod {name}"),
        }
    }
}

/// One patch of one status.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Whose.
    pub target: Target,
    /// The object as it was when this became due: a patch that was sent for it is not sent again until it changes.
    pub resource_version: String,
    /// What is said, without times: two patches that say the same need not both be sent.
    pub said: String,
    /// A JSON Patch. It first tests the uid, so that it never speaks of an object that was made anew under the same name. A Lease is
    /// applied whole, as it may have to be made.
    pub patch: Value,
}

/// The patches that are due. `table` must be the one in use and lowered from `objects`; `in_flight` gives the requests in
/// flight to a pod by its uid.
#[must_use]
pub fn due(
    table: &RouteTable,
    objects: &Objects,
    in_flight: &dyn Fn(&str) -> usize,
    now: Timestamp,
) -> Vec<Due> {
    let routes = objects.routes.iter().filter_map(|(name, route)| {
        let verdict = table.routes.get(name);
        route_status(name, route, verdict, now)
    });
    let gateways = gateways::due(table, objects, now);
    let istio = table.istio.iter();
    let istio = istio.filter_map(|(source, verdict)| istio_status(source, objects, verdict, now));
    let services = objects.services.iter().filter_map(|(name, service)| {
        let entry = table.services.get(name)?;
        service_served(name, service, entry, now)
    });
    let pods = objects.pods.iter();
    let pods = pods
        .filter(|(_, pod)| pod.is_terminating() && !pod.is_drained() && in_flight(pod.uid()) == 0);
    let pods = pods.map(|(name, pod)| pod_drained(name, pod, now));
    gateways
        .into_iter()
        .chain(ingresses::due(table, objects))
        .chain(routes)
        .chain(istio)
        .chain(services)
        .chain(pods)
        .collect()
}

fn route_status(
    name: &ObjectName,
    route: &HTTPRoute,
    verdict: Option<&RouteVerdict>,
    now: Timestamp,
) -> Option<Due> {
    let old = route.status.as_ref().map(|s| s.parents.as_slice());
    let old = old.unwrap_or_default();
    let is_foreign = |parent: &&RouteParentStatus| parent.controller_name != GATEWAY_CONTROLLER;
    let foreign: Vec<_> = old.iter().filter(is_foreign).cloned().collect();
    let is_alone = foreign.is_empty();
    let of_parent = |verdict: &RouteVerdict, said: &ParentVerdict| {
        let parent = said.parent.clone();
        let known = old
            .iter()
            .find(|p| !is_foreign(p) && p.parent_ref == parent);
        let known = known.map(|p| p.conditions.clone()).unwrap_or_default();
        let accepted = said.refused.as_ref().unwrap_or(&verdict.accepted);
        RouteParentStatus {
            parent_ref: parent,
            controller_name: GATEWAY_CONTROLLER.into(),
            conditions: route_conditions(known, verdict, accepted, now),
        }
    };
    // A route that is nobody's of ours any more keeps no word of ours.
    let ours = verdict.into_iter().flat_map(|verdict| {
        let all = verdict.parents.iter();
        all.map(move |said| of_parent(verdict, said))
    });
    let parents: Vec<_> = foreign.into_iter().chain(ours).collect();
    if parents == old {
        return None;
    }
    let mut operations = vec![test_uid(&route.metadata)];
    if !is_alone {
        operations.push(test_version(&route.metadata));
    }
    operations.push(json!({"op": "add", "path": "/status", "value": {"parents": parents}}));
    Some(Due {
        target: Target::Route(name.clone()),
        resource_version: version(&route.metadata),
        said: words(&verdict),
        patch: Value::Array(operations),
    })
}

/// `known` as the verdict has it. Times stay where the status stays.
fn route_conditions(
    mut known: Vec<Condition>,
    verdict: &RouteVerdict,
    accepted: &Verdict,
    now: Timestamp,
) -> Vec<Condition> {
    known.retain(|c| c.type_ != "PartiallyInvalid" || verdict.partly.is_some());
    let condition = |kind: &str, v: &Verdict| condition(kind, v, verdict.generation, now);
    conditions::set(&mut known, condition("Accepted", accepted));
    conditions::set(&mut known, condition("ResolvedRefs", &verdict.resolved));
    if let Some(partly) = &verdict.partly {
        let partly = Verdict::yes("UnsupportedValue", partly);
        conditions::set(&mut known, condition("PartiallyInvalid", &partly));
    }
    known
}

fn condition(kind: &str, verdict: &Verdict, generation: i64, now: Timestamp) -> Condition {
    Condition {
        type_: kind.into(),
        status: conditions::word(verdict.ok),
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
        observed_generation: Some(generation),
        last_transition_time: conditions::time(now),
    }
}

fn istio_status(
    source: &Source,
    objects: &Objects,
    verdict: &RouteVerdict,
    now: Timestamp,
) -> Option<Due> {
    let name = source.name.clone();
    let (target, metadata, old) = match source.kind {
        SourceKind::VirtualService => {
            let found = objects.virtual_services.get(&name)?;
            let target = Target::VirtualService(name);
            (target, &found.metadata, found.status.as_ref())
        }
        SourceKind::DestinationRule => {
            let found = objects.destination_rules.get(&name)?;
            let target = Target::DestinationRule(name);
            (target, &found.metadata, found.status.as_ref())
        }
        _ => return None,
    };
    let known = old.map(|old| old.conditions.clone()).unwrap_or_default();
    let status = IstioStatus {
        conditions: route_conditions(known, verdict, &verdict.accepted, now),
        observed_generation: Some(verdict.generation),
    };
    if old == Some(&status) {
        return None;
    }
    Some(Due {
        target,
        resource_version: version(metadata),
        said: words(verdict),
        // All of it is written, so nobody may have changed it since.
        patch: json!([
            test_uid(metadata),
            test_version(metadata),
            {"op": "add", "path": "/status", "value": status},
        ]),
    })
}

fn service_served(
    name: &ObjectName,
    service: &Service,
    entry: &ServiceEntry,
    now: Timestamp,
) -> Option<Due> {
    let generation = entry.served_generation?;
    let known = service
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref());
    let old = conditions::get(known.unwrap_or_default(), keys::condition::SERVED);
    if old.is_some_and(|c| c.status == "True" && c.observed_generation == Some(generation)) {
        return None;
    }
    let mut conditions = known.map(<[_]>::to_vec).unwrap_or_default();
    conditions::set(
        &mut conditions,
        Condition {
            type_: keys::condition::SERVED.into(),
            status: conditions::word(true),
            reason: "Served".into(),
            message: "the gateway serves the endpoints of this generation".into(),
            observed_generation: Some(generation),
            last_transition_time: conditions::time(now),
        },
    );
    let (path, value) = match &service.status {
        None => ("/status", json!({"conditions": conditions})),
        Some(_) => ("/status/conditions", json!(conditions)),
    };
    Some(Due {
        target: Target::Service(name.clone()),
        resource_version: version(&service.metadata),
        said: format!("Served {generation}"),
        // All conditions are written, so nobody may have changed them since.
        patch: json!([
            test_uid(&service.metadata),
            test_version(&service.metadata),
            {"op": "add", "path": path, "value": value},
        ]),
    })
}

fn pod_drained(name: &ObjectName, pod: &PodLife, now: Timestamp) -> Due {
    let drained = json!({
        "type": keys::condition::DRAINED,
        "status": "True",
        "reason": "NothingInFlight",
        "message": "no request is in flight and none will come",
        "lastTransitionTime": conditions::time(now),
    });
    let conditions = pod.status.as_ref().map(|s| s.conditions.is_some());
    let mut operations = vec![test_uid(&pod.metadata)];
    let (path, value) = match conditions {
        Some(true) => ("/status/conditions/-", drained),
        // A list is made, so nobody may have made it since.
        Some(false) => ("/status/conditions", json!([drained])),
        None => ("/status", json!({"conditions": [drained]})),
    };
    if conditions != Some(true) {
        operations.push(test_version(&pod.metadata));
    }
    operations.push(json!({"op": "add", "path": path, "value": value}));
    Due {
        target: Target::Pod(name.clone()),
        resource_version: version(&pod.metadata),
        said: format!("Drained {}", pod.uid()),
        patch: Value::Array(operations),
    }
}

/// What a verdict says, to be compared.
fn words(verdict: &impl Serialize) -> String {
    serde_json::to_string(verdict).unwrap_or_default()
}

fn test_uid(meta: &ObjectMeta) -> Value {
    json!({"op": "test", "path": "/metadata/uid", "value": meta.uid})
}

fn test_version(meta: &ObjectMeta) -> Value {
    json!({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version})
}

fn version(meta: &ObjectMeta) -> String {
    meta.resource_version.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
