//! Gateways and their classes: which listeners are served, and which routes each takes.
//!
//! The sockets are those of the process, whatever Gateways say: a listener is served when its port is one of theirs, by itself or by
//! the map of ports in the settings. Gateways are merged: two that name one port are served side by side there.

use std::collections::{BTreeMap, BTreeSet};

use serin_api::Problem;
use serin_api::gateway_api::{self, Gateway, GatewayClass, ParentReference};
use serin_api::keys::GATEWAY_CONTROLLER;
use serin_api::problem::FieldPath;

use super::LowerOptions;
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::table::{Address, ClassVerdict, GatewayVerdict, HostMatch, Verdict};

mod listener;

use listener::Listener;
pub(crate) use listener::certificate_uses;

/// The API group of Gateways and their routes.
const GROUP: &str = "gateway.networking.k8s.io";

/// Every Gateway of a class of ours.
pub(super) struct Gateways<'a> {
    objects: &'a Objects,
    options: &'a LowerOptions,
    addresses: &'a [Address],
    classes: BTreeMap<String, ClassVerdict>,
    of: BTreeMap<ObjectName, Served>,
}

/// A Gateway of ours.
struct Served {
    generation: i64,
    /// Why none of it is served, whatever its listeners are.
    refused: Option<Verdict>,
    /// Why it is not served at the addresses that it asks for.
    unusable: Option<Verdict>,
    listeners: Vec<Listener>,
}

/// What a parent gives a route: a host at one port of the process, without those of narrower listeners.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) host: HostMatch,
    pub(super) except: BTreeSet<HostMatch>,
}

impl<'a> Gateways<'a> {
    /// `addresses` are those at which users reach the gateway.
    pub(super) fn new(
        objects: &'a Objects,
        options: &'a LowerOptions,
        addresses: &'a [Address],
    ) -> Self {
        let ours = objects.classes.iter().filter(|(_, class)| is_ours(class));
        let classes = ours.map(|(name, class)| (name.name.clone(), class_verdict(class)));
        let mut gateways = Self {
            objects,
            options,
            addresses,
            classes: classes.collect(),
            of: BTreeMap::new(),
        };
        for (name, gateway) in &objects.gateways {
            let class = gateways.classes.get(&gateway.spec.gateway_class_name);
            if let Some(class) = class.map(|class| &class.accepted) {
                let served = Served::new(name, gateway, class, &gateways);
                gateways.of.insert(name.clone(), served);
            }
        }
        gateways
    }

    /// Where a parent serves a route with these hosts, or why it does not; `None` when the parent belongs to somebody else.
    pub(super) fn attach(
        &mut self,
        route: &ObjectName,
        parent: &ParentReference,
        hosts: &[HostMatch],
    ) -> Option<Result<Vec<Place>, Verdict>> {
        if !names_gateway(parent) {
            return None;
        }
        let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
        let name = ObjectName::new(namespace, &parent.name);
        let Some(served) = self.of.get_mut(&name) else {
            if self.objects.gateways.contains_key(&name) {
                return None;
            }
            let message = format!(
                "there is no Gateway {name}; make one, or leave out parentRefs to be served at every address of this gateway"
            );
            return Some(Err(Verdict::no("NoMatchingParent", message)));
        };
        Some(served.attach(route, &name, parent, hosts, self.objects))
    }

    /// What is to be said of classes and Gateways.
    pub(super) fn verdicts(
        self,
    ) -> (
        BTreeMap<String, ClassVerdict>,
        BTreeMap<ObjectName, GatewayVerdict>,
    ) {
        let verdict = |(name, served): (ObjectName, Served)| (name, served.verdict());
        (self.classes, self.of.into_iter().map(verdict).collect())
    }
}

/// Whether a class is served by this gateway.
pub(crate) fn is_ours(class: &GatewayClass) -> bool {
    class.spec.controller_name == GATEWAY_CONTROLLER
}

fn class_verdict(class: &GatewayClass) -> ClassVerdict {
    let accepted = if class.spec.parameters_ref.is_some() {
        let why = "there are no parameters for a class; leave out spec.parametersRef";
        Verdict::no("InvalidParameters", why.into())
    } else {
        Verdict::yes("Accepted", "its Gateways are served")
    };
    ClassVerdict {
        generation: class.metadata.generation.unwrap_or_default(),
        accepted,
    }
}

fn names_gateway(parent: &ParentReference) -> bool {
    matches!(parent.kind.as_deref(), None | Some("Gateway"))
        && parent.group.as_deref().is_none_or(|group| group == GROUP)
}

impl Served {
    fn new(name: &ObjectName, gateway: &Gateway, class: &Verdict, all: &Gateways<'_>) -> Self {
        let mut listeners = Vec::with_capacity(gateway.spec.listeners.len());
        for (index, spec) in gateway.spec.listeners.iter().enumerate() {
            let at = FieldPath::new("spec.listeners").index(index);
            let listener = Listener::new(name, spec, &at, all.objects, all.options);
            let conflict = listener.conflict(&listeners);
            listeners.push(listener.with_conflict(conflict));
        }
        Self {
            generation: gateway.metadata.generation.unwrap_or_default(),
            refused: (!class.ok).then(|| {
                let message = format!("its class is not served: {}", class.message);
                Verdict::no("InvalidParameters", message)
            }),
            unusable: unusable_address(gateway, all.addresses),
            listeners,
        }
    }

    fn attach(
        &mut self,
        route: &ObjectName,
        gateway: &ObjectName,
        parent: &ParentReference,
        hosts: &[HostMatch],
        objects: &Objects,
    ) -> Result<Vec<Place>, Verdict> {
        if let Some(refused) = &self.refused {
            let message = format!("Gateway {gateway} is not served: {}", refused.message);
            return Err(Verdict::no("NoMatchingParent", message));
        }
        let mut nearest = Verdict::no(
            "NoMatchingParent",
            format!("Gateway {gateway} has no listener with this sectionName and port"),
        );
        let scopes: Vec<_> = self.listeners.iter().filter_map(Listener::scope).collect();
        let mut places: Option<Vec<Place>> = None;
        let named = |listener: &&mut Listener| listener.is_meant_by(parent);
        for listener in self.listeners.iter_mut().filter(named) {
            match listener.attach(route, gateway, hosts, &scopes, objects) {
                Ok(taken) => places.get_or_insert_default().extend(taken),
                Err(why) if rank(&why) >= rank(&nearest) => nearest = why,
                Err(_) => {}
            }
        }
        places.ok_or(nearest)
    }

    fn verdict(self) -> GatewayVerdict {
        let is_served = |listener: &Listener| self.refused.is_none() && listener.is_served();
        let served = self.listeners.iter().filter(|l| is_served(l)).count();
        let all = self.listeners.len();
        let accepted = match (self.refused.clone(), served) {
            (Some(refused), _) => refused,
            (None, 0) => Verdict::no(
                "ListenersNotValid",
                "none of its listeners can be served; each says why".into(),
            ),
            (None, _) if served < all => Verdict::yes(
                "ListenersNotValid",
                "some of its listeners cannot be served; each says why",
            ),
            (None, _) => Verdict::yes("Accepted", "served"),
        };
        let programmed = match self.unusable.clone() {
            Some(unusable) => unusable,
            None if served == 0 => Verdict::no("Invalid", "none of its listeners is served".into()),
            None => Verdict::yes("Programmed", "requests are taken"),
        };
        let listeners = self.listeners.into_iter();
        GatewayVerdict {
            generation: self.generation,
            accepted,
            programmed,
            listeners: listeners.map(Listener::verdict).collect(),
        }
    }
}

/// How near a listener came to taking a route that it does not take: the nearest is told.
fn rank(why: &Verdict) -> u8 {
    match why.reason.as_str() {
        "NoMatchingListenerHostname" => 2,
        "NotAllowedByListeners" => 1,
        _ => 0,
    }
}

/// Addresses that are asked for and that the gateway does not have.
fn unusable_address(gateway: &Gateway, addresses: &[Address]) -> Option<Verdict> {
    let reachable: Vec<&str> = addresses.iter().map(|a| a.value.as_str()).collect();
    let wanted = gateway.spec.addresses.iter();
    let wanted = wanted.filter_map(|address| address.get("value")?.as_str());
    let missing: Vec<&str> = wanted
        .filter(|wanted| !reachable.contains(wanted))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!(
        "the gateway is reached at {}, not at {}; leave out spec.addresses or have it listen there",
        reachable.join(", "),
        missing.join(", ")
    );
    Some(Verdict::no("AddressNotUsable", message))
}

/// A reference that a ReferenceGrant must allow, because it leads to another namespace.
pub(super) fn forbidden(
    from: (&str, &str),
    (kind, to): (&str, &ObjectName),
    at: &FieldPath,
    objects: &Objects,
) -> Option<Problem> {
    let (from_kind, namespace) = from;
    if to.namespace == namespace || is_granted(objects, from, (kind, to)) {
        return None;
    }
    let why = format!(
        "no ReferenceGrant of namespace {} lets {from_kind}s of namespace {namespace} refer to the {kind}",
        to.namespace
    );
    Some(Problem::forbidden(at.field("namespace"), &why))
}

fn is_granted(objects: &Objects, from: (&str, &str), (kind, to): (&str, &ObjectName)) -> bool {
    let (from_kind, namespace) = from;
    let grants = objects.grants.iter();
    let mut grants = grants.filter(|(name, _)| name.namespace == to.namespace);
    grants.any(|(_, grant)| {
        let may = grant.spec.from.iter().any(|from| {
            from.group == GROUP && from.kind == from_kind && from.namespace == namespace
        });
        may && grant
            .spec
            .to
            .iter()
            .any(|one: &gateway_api::ReferenceGrantTo| {
                matches!(one.group.as_str(), "" | "core")
                    && one.kind == kind
                    && one.name.as_ref().is_none_or(|name| *name == to.name)
            })
    })
}
