//! One listener: whether it can be served, and whether it takes a route.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;
use serin_api::Problem;
use serin_api::gateway_api::{self, ParentReference, RouteGroupKind};
use serin_api::problem::FieldPath;

use super::{GROUP, Place, forbidden, is_ours};
use crate::lower::LowerOptions;
use crate::lower::http_route::parse_host;
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::ports::Scheme;
use crate::table::{HostMatch, ListenerVerdict, Verdict};

/// A listener of a Gateway of ours.
pub(super) struct Listener {
    name: String,
    /// As the Gateway names it, which need not be that of a socket.
    declared: i32,
    protocol: String,
    /// The hosts that it takes.
    host: HostMatch,
    /// The port of the socket; `None` where it cannot be served.
    port: Option<u16>,
    from: From,
    takes_http_routes: bool,
    attached: BTreeSet<ObjectName>,
    accepted: Verdict,
    resolved: Verdict,
    conflicted: Verdict,
}

/// The namespaces whose routes are taken.
enum From {
    All,
    Same,
    /// With these labels; `None` is none of them.
    Selected(Option<LabelSelector>),
}

/// `tls` of a listener.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tls {
    mode: Option<String>,
    certificate_refs: Vec<SecretReference>,
    frontend_validation: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SecretReference {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
}

/// A Secret whose certificate is shown to those who ask for a host.
pub(crate) struct CertificateUse {
    pub(crate) gateway: ObjectName,
    pub(crate) at: FieldPath,
    pub(crate) secret: ObjectName,
    /// `*.DOMAIN` is every host one label below, `*` every host.
    pub(crate) host: String,
}

/// The certificates of all listeners of our Gateways, without those that may not be used.
pub(crate) fn certificate_uses(objects: &Objects) -> Vec<CertificateUse> {
    let mut uses = Vec::new();
    for (name, gateway) in &objects.gateways {
        let class = ObjectName::new("default", &gateway.spec.gateway_class_name);
        if !objects.classes.get(&class).is_some_and(is_ours) {
            continue;
        }
        for (index, spec) in gateway.spec.listeners.iter().enumerate() {
            let at = FieldPath::new("spec.listeners").index(index).field("tls");
            let Ok(tls) = tls_of(spec) else { continue };
            for (at, reference) in references(&tls, &at) {
                let Ok(secret) = reference.secret(name, &at, objects) else {
                    continue;
                };
                let host = spec.hostname.as_deref().unwrap_or("*");
                uses.push(CertificateUse {
                    gateway: name.clone(),
                    at: at.field("name"),
                    secret,
                    host: host.to_ascii_lowercase(),
                });
            }
        }
    }
    uses
}

fn references<'a>(
    tls: &'a Tls,
    at: &FieldPath,
) -> impl Iterator<Item = (FieldPath, &'a SecretReference)> {
    let at = at.field("certificateRefs");
    let all = tls.certificate_refs.iter().enumerate();
    all.map(move |(index, one)| (at.index(index), one))
}

fn tls_of(spec: &gateway_api::Listener) -> Result<Tls, String> {
    let tls = spec
        .tls
        .clone()
        .unwrap_or_else(|| Value::Object(Default::default()));
    serde_json::from_value(tls).map_err(|error| error.to_string())
}

impl SecretReference {
    /// The Secret, unless it is none or may not be used; with the word of `ResolvedRefs`.
    fn secret(
        &self,
        gateway: &ObjectName,
        at: &FieldPath,
        objects: &Objects,
    ) -> Result<ObjectName, (&'static str, Problem)> {
        let kind = self.kind.as_deref().unwrap_or("Secret");
        if kind != "Secret" || !matches!(self.group.as_deref(), None | Some("" | "core")) {
            let problem = Problem::not_supported(at.field("kind"), kind, &["Secret"]);
            return Err(("InvalidCertificateRef", problem));
        }
        let namespace = self.namespace.as_deref().unwrap_or(&gateway.namespace);
        let secret = ObjectName::new(namespace, &self.name);
        let from = ("Gateway", gateway.namespace.as_str());
        match forbidden(from, ("Secret", &secret), at, objects) {
            Some(problem) => Err(("RefNotPermitted", problem)),
            None => Ok(secret),
        }
    }
}

impl Listener {
    pub(super) fn new(
        gateway: &ObjectName,
        spec: &gateway_api::Listener,
        at: &FieldPath,
        objects: &Objects,
        options: &LowerOptions,
    ) -> Self {
        let host = host_of(spec, at);
        let socket = socket_of(spec, options).and_then(|port| {
            host.as_ref()
                .map_err(|p| Verdict::no("UnsupportedValue", p.to_string()))?;
            check_tls(spec, at)?;
            Ok(port)
        });
        let (takes_http_routes, kinds) = kinds_of(spec, at);
        let resolved = kinds
            .map(|problem| ("InvalidRouteKinds", problem))
            .or_else(|| missing_certificate(gateway, spec, at, objects));
        Self {
            name: spec.name.clone(),
            declared: spec.port,
            protocol: spec.protocol.clone(),
            host: host.unwrap_or(HostMatch::Any),
            port: socket.as_ref().ok().copied(),
            from: From::of(spec),
            takes_http_routes,
            attached: BTreeSet::new(),
            accepted: match socket {
                Ok(port) => {
                    Verdict::yes("Accepted", &format!("served at port {port} of the gateway"))
                }
                Err(why) => why,
            },
            resolved: match resolved {
                None => Verdict::yes("ResolvedRefs", "all references were found"),
                Some((reason, problem)) => Verdict::no(reason, problem.to_string()),
            },
            conflicted: Verdict::no("NoConflicts", "no other listener is in its way".into()),
        }
    }

    /// Whether one of those before it has its port and host.
    pub(super) fn conflict(&self, before: &[Self]) -> Option<Verdict> {
        let same_port = || {
            before
                .iter()
                .filter(|other| other.declared == self.declared)
        };
        if let Some(other) = same_port().find(|other| other.protocol != self.protocol) {
            let message = format!(
                "listener {} speaks another protocol at this port",
                other.name
            );
            return Some(Verdict::yes("ProtocolConflict", &message));
        }
        let other = same_port().find(|other| other.host == self.host)?;
        let message = format!("listener {} has this port and host", other.name);
        Some(Verdict::yes("HostnameConflict", &message))
    }

    pub(super) fn with_conflict(mut self, conflict: Option<Verdict>) -> Self {
        if let Some(conflict) = conflict {
            self.port = None;
            self.accepted = Verdict::no("PortUnavailable", conflict.message.clone());
            self.conflicted = conflict;
        }
        self
    }

    /// Whether a route names it: by its name, its port, both, or neither.
    pub(super) fn is_meant_by(&self, parent: &ParentReference) -> bool {
        parent
            .section_name
            .as_ref()
            .is_none_or(|name| *name == self.name)
            && parent.port.is_none_or(|port| port == self.declared)
    }

    pub(super) fn is_served(&self) -> bool {
        self.port.is_some() && self.has_certificate()
    }

    /// Without one no handshake succeeds.
    fn has_certificate(&self) -> bool {
        self.protocol != "HTTPS" || self.resolved.ok || self.resolved.reason == "InvalidRouteKinds"
    }

    /// The port of the process and the hosts that it takes, if it is served.
    pub(super) fn scope(&self) -> Option<(u16, HostMatch)> {
        Some((self.port?, self.host.clone()))
    }

    /// Takes a route, or says why not. `scopes` are those of all listeners of the Gateway: a request goes to the narrowest that takes
    /// its host, and to no other.
    pub(super) fn attach(
        &mut self,
        route: &ObjectName,
        gateway: &ObjectName,
        hosts: &[HostMatch],
        scopes: &[(u16, HostMatch)],
        objects: &Objects,
    ) -> Result<Vec<Place>, Verdict> {
        let name = &self.name;
        let Some(port) = self.port else {
            let message = format!("listener {name} is not served: {}", self.accepted.message);
            return Err(Verdict::no("NoMatchingParent", message));
        };
        if !self.takes_http_routes || !self.from.has(&route.namespace, gateway, objects) {
            let message = format!(
                "listener {name} takes no HTTPRoutes of namespace {}: see its allowedRoutes",
                route.namespace
            );
            return Err(Verdict::no("NotAllowedByListeners", message));
        }
        let common = hosts.iter().filter_map(|host| self.host.intersect(host));
        let common: Vec<HostMatch> = common.collect();
        if common.is_empty() {
            let message = format!("no host of the route is one of listener {name}");
            return Err(Verdict::no("NoMatchingListenerHostname", message));
        }
        self.attached.insert(route.clone());
        let is_narrower = |other: &HostMatch| *other != self.host && other.is_within(&self.host);
        let narrower = scopes
            .iter()
            .filter(|(at, other)| *at == port && is_narrower(other));
        let narrower: Vec<&HostMatch> = narrower.map(|(_, other)| other).collect();
        let place = |host: HostMatch| {
            let within = narrower.iter().filter(|other| other.is_within(&host));
            Place {
                port,
                except: within.map(|other| (*other).clone()).collect(),
                host,
            }
        };
        let is_elsewhere = |host: &HostMatch| narrower.iter().any(|other| host.is_within(other));
        let own = common.into_iter().filter(|host| !is_elsewhere(host));
        Ok(own.map(place).collect())
    }

    pub(super) fn verdict(self) -> ListenerVerdict {
        let programmed = if self.is_served() {
            Verdict::yes("Programmed", "requests are taken")
        } else if self.port.is_none() {
            Verdict::no("Invalid", self.accepted.message.clone())
        } else {
            Verdict::no("Invalid", self.resolved.message.clone())
        };
        ListenerVerdict {
            name: self.name,
            takes_http_routes: self.takes_http_routes,
            attached: i32::try_from(self.attached.len()).unwrap_or(i32::MAX),
            accepted: self.accepted,
            programmed,
            resolved: self.resolved,
            conflicted: self.conflicted,
        }
    }
}

fn host_of(spec: &gateway_api::Listener, at: &FieldPath) -> Result<HostMatch, Problem> {
    let Some(host) = spec.hostname.as_deref().filter(|host| !host.is_empty()) else {
        return Ok(HostMatch::Any);
    };
    match parse_host(host) {
        Some((true, domain)) => Ok(HostMatch::Below(domain)),
        Some((false, host)) => Ok(HostMatch::Exact(host)),
        None => Err(Problem::invalid(
            at.field("hostname"),
            host,
            "must be a host name, without a port, or *.DOMAIN",
        )),
    }
}

/// The port of the socket that serves the listener.
fn socket_of(spec: &gateway_api::Listener, options: &LowerOptions) -> Result<u16, Verdict> {
    let scheme = match spec.protocol.as_str() {
        "HTTP" => Scheme::Http,
        "HTTPS" => Scheme::Https,
        other => {
            let message = format!("{other} is not served; HTTP and HTTPS are");
            return Err(Verdict::no("UnsupportedProtocol", message));
        }
    };
    let wanted = u16::try_from(spec.port).unwrap_or_default();
    options.sockets.socket(scheme, wanted).ok_or_else(|| {
        let message = format!(
            "the gateway does not speak {} at port {wanted}; it listens at {}. Let it listen there too, or map the port by gatewayPorts of gateway/config.json",
            spec.protocol, options.sockets
        );
        Verdict::no("PortUnavailable", message)
    })
}

fn check_tls(spec: &gateway_api::Listener, at: &FieldPath) -> Result<(), Verdict> {
    let at = at.field("tls");
    let refused = |problem: Problem| Verdict::no("UnsupportedValue", problem.to_string());
    let tls =
        tls_of(spec).map_err(|why| Verdict::no("UnsupportedValue", format!("{at}: {why}")))?;
    if spec.protocol != "HTTPS" {
        return Ok(());
    }
    if let Some(mode) = tls.mode.as_deref().filter(|mode| *mode != "Terminate") {
        let problem = Problem::not_supported(at.field("mode"), mode, &["Terminate"]);
        return Err(refused(problem));
    }
    if tls.frontend_validation.is_some() {
        let why = "certificates of clients are not checked";
        return Err(refused(Problem::forbidden(
            at.field("frontendValidation"),
            why,
        )));
    }
    Ok(())
}

/// What is wrong with the certificates, of which an HTTPS listener needs one.
fn missing_certificate(
    gateway: &ObjectName,
    spec: &gateway_api::Listener,
    at: &FieldPath,
    objects: &Objects,
) -> Option<(&'static str, Problem)> {
    if spec.protocol != "HTTPS" {
        return None;
    }
    let at = at.field("tls");
    let tls = tls_of(spec).unwrap_or_default();
    if tls.certificate_refs.is_empty() {
        let problem = Problem::required(
            at.field("certificateRefs"),
            "name a Secret of type kubernetes.io/tls",
        );
        return Some(("InvalidCertificateRef", problem));
    }
    let wrong = |(at, reference): (FieldPath, &SecretReference)| {
        let secret = match reference.secret(gateway, &at, objects) {
            Ok(secret) => secret,
            Err(why) => return Some(why),
        };
        let why = crate::tls::unusable(objects.secrets.get(&secret))?;
        let problem = Problem::invalid(at.field("name"), &reference.name, &why);
        Some(("InvalidCertificateRef", problem))
    };
    references(&tls, &at).find_map(wrong)
}

/// Whether HTTPRoutes are taken, and a kind of route that is not known.
fn kinds_of(spec: &gateway_api::Listener, at: &FieldPath) -> (bool, Option<Problem>) {
    let kinds = spec
        .allowed_routes
        .iter()
        .flat_map(|allowed| &allowed.kinds);
    let is_http_route = |kind: &RouteGroupKind| {
        kind.kind == "HTTPRoute" && kind.group.as_deref().is_none_or(|group| group == GROUP)
    };
    let kinds: Vec<_> = kinds.collect();
    let unknown = kinds.iter().position(|kind| !is_http_route(kind));
    let problem = unknown.and_then(|index| {
        let at = at.field("allowedRoutes").field("kinds").index(index);
        let kind = &kinds.get(index)?.kind;
        Some(Problem::not_supported(
            at.field("kind"),
            kind,
            &["HTTPRoute"],
        ))
    });
    let takes = kinds.is_empty() || kinds.iter().any(|kind| is_http_route(kind));
    (takes, problem)
}

impl From {
    fn of(spec: &gateway_api::Listener) -> Self {
        let namespaces = spec
            .allowed_routes
            .as_ref()
            .and_then(|a| a.namespaces.as_ref());
        match namespaces.and_then(|n| n.from.as_deref()) {
            Some("All") => Self::All,
            Some("Selector") => Self::Selected(namespaces.and_then(|n| n.selector.clone())),
            _ => Self::Same,
        }
    }

    fn has(&self, namespace: &str, gateway: &ObjectName, objects: &Objects) -> bool {
        match self {
            Self::All => true,
            Self::Same => namespace == gateway.namespace,
            Self::Selected(selector) => {
                let name = ObjectName::new("default", namespace);
                let found = objects.namespaces.get(&name);
                let labels = found
                    .and_then(|n| n.metadata.labels.clone())
                    .unwrap_or_default();
                found.is_some() && selector.as_ref().is_some_and(|s| selects(s, &labels))
            }
        }
    }
}

/// Whether a selector takes labels; one with an operator that is not known takes none.
fn selects(selector: &LabelSelector, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let mut exact = selector.match_labels.iter().flatten();
    let mut asked = selector.match_expressions.iter().flatten();
    exact.all(|(key, value)| labels.get(key) == Some(value))
        && asked.all(|one| {
            let value = labels.get(&one.key);
            let listed = |value: &String| one.values.as_ref().is_some_and(|v| v.contains(value));
            match one.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
