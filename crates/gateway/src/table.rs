//! The route table as plain data: what `lower` gives, what stands in `routes.json`, what `/routes` shows.
//!
//! Absent on purpose: nothing here counts, connects or changes. [`crate::live`] makes it fit for requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{ObjectName, Source};

mod backend_tls;
mod policy;
mod verdict;

pub use backend_tls::*;
pub use policy::*;
pub use verdict::*;

/// Everything that decides where a request goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// The rules of all HTTPRoutes and Ingresses, without those that lost a conflict.
    pub rules: Vec<Rule>,
    /// The Services with the endpoints that may get requests.
    pub services: BTreeMap<ObjectName, ServiceEntry>,
    /// What is to be said of each GatewayClass of ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, ClassVerdict>,
    /// What is to be said of each Gateway of these classes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<ObjectName, GatewayVerdict>,
    /// Where users reach the gateway; empty while nobody knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// The Ingresses that are served, which get these addresses into their status.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ingresses: BTreeSet<ObjectName>,
    /// What is to be said of each HTTPRoute.
    pub routes: BTreeMap<ObjectName, RouteVerdict>,
    /// What is to be said of each VirtualService and DestinationRule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub istio: Vec<(Source, RouteVerdict)>,
}

/// An address at which users reach the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// An IP address or a host name.
    pub value: String,
    /// The ports there; empty: those that routes name, 80 and 443.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

impl Address {
    /// Whether it is an IP address; else it is a host name.
    pub(crate) fn is_ip(&self) -> bool {
        self.value.parse::<IpAddr>().is_ok()
    }
}

/// Requests that match, and where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The object that the rule was lowered from.
    pub source: Source,
    /// When that object was made: of two equal matches the older wins.
    pub created: Timestamp,
    /// The place of the rule in its object: of two equal matches in one object the first wins.
    pub index: u32,
    /// The port of the gateway at which the rule is served; `None`: at every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The hosts, one of which must match.
    pub hosts: Vec<HostMatch>,
    /// Hosts among them that are not this rule's, because a narrower listener of the same Gateway has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<HostMatch>,
    /// The matches, one of which must hold.
    pub matches: Vec<RequestMatch>,
    /// Where requests go. Empty: there is no valid backend, and every request is answered 500.
    pub backends: Vec<Backend>,
    /// Changes to the headers of the request.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_empty")]
    pub headers: HeaderChanges,
    /// Milliseconds from the first byte of the request to the last of the answer. `None`: the default of the gateway
    /// for the head of the answer, none for its body; 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds that one try at one instance may take to the head of its answer. `None` and 0: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub try_timeout_ms: Option<u64>,
    /// What the rule does beside choosing a backend.
    #[serde(default, skip_serializing_if = "RulePolicy::is_empty")]
    pub policy: RulePolicy,
}

/// A host name, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostMatch {
    /// This host.
    Exact(String),
    /// Every host below this domain, at any depth: `*.example.com` of an HTTPRoute, kept as `example.com`.
    Below(String),
    /// Every host one label below this domain: `*.example.com` of an Ingress.
    OneBelow(String),
    /// Every host.
    Any,
}

impl HostMatch {
    /// Whether it takes a host, which is in lower case and without a port.
    pub fn has(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => own == host,
            Self::Below(domain) => is_below(host, domain),
            Self::OneBelow(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
            Self::Any => true,
        }
    }

    /// The hosts that a listener and a route both take. Only Ingresses have [`HostMatch::OneBelow`], which have no listeners.
    pub(crate) fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, host) | (host, Self::Any) => Some(host.clone()),
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (exact @ Self::Exact(host), Self::Below(domain))
            | (Self::Below(domain), exact @ Self::Exact(host)) => {
                is_below(host, domain).then(|| exact.clone())
            }
            (Self::Below(a), Self::Below(b)) if a == b || is_below(b, a) => Some(other.clone()),
            (Self::Below(a), Self::Below(b)) => is_below(a, b).then(|| self.clone()),
            (Self::OneBelow(_), _) | (_, Self::OneBelow(_)) => None,
        }
    }

    /// Whether every host that it takes is one that `other` takes.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.intersect(other).as_ref() == Some(self)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.ends_with('.'))
}

/// All that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, in capitals; `None` is every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers, their names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<ValueMatch>,
    /// `:method`, `:authority`, `:scheme` and `:port`, as Istio matches them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pseudo: Vec<ValueMatch>,
    /// Headers that must not match, their names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<ValueMatch>,
}

impl RequestMatch {
    /// Every request with this path.
    pub fn of_path(path: PathMatch) -> Self {
        Self {
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            pseudo: Vec::new(),
            without: Vec::new(),
        }
    }
}

/// A path without its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// This path, to the letter.
    Exact(String),
    /// This path and every path below it, by whole segments; kept without a slash at its end, so the root is empty.
    Prefix(String),
    /// Every path that begins so, in the middle of a segment too, as Istio has it.
    Begins(String),
    /// A regular expression that must match the whole path.
    Regex(String),
}

/// A header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: ValuePattern,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValuePattern {
    /// To the letter.
    Exact(String),
    /// Its beginning; with the empty one it need only be there.
    Begins(String),
    /// A regular expression that must match the whole value.
    Regex(String),
}

/// A Service and its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// The Service.
    pub service: ObjectName,
    /// Its port.
    pub port: PortRef,
    /// The subset of its instances; `None` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// The share as a part of the sum of all; not one request at 0.
    pub weight: u32,
    /// Changes to the headers of what goes here.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_empty")]
    pub headers: HeaderChanges,
    /// Changes to the headers of its answers.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_empty")]
    pub answer_headers: HeaderChanges,
}

impl Backend {
    /// A backend with all instances of a Service.
    pub fn new(service: ObjectName, port: PortRef, weight: u32) -> Self {
        Self {
            service,
            port,
            subset: None,
            weight,
            headers: HeaderChanges::default(),
            answer_headers: HeaderChanges::default(),
        }
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
    /// The first one.
    First,
}

/// Changes to headers, carried out in the order set, add, remove. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderChanges {
    /// Put in the place of every value of that name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Put behind the values of that name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// A Service with what may get requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    /// The generation of the Service that all of its slices follow; `None` when a slice does not say so or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_generation: Option<i64>,
    /// Its ports, in their order.
    pub ports: Vec<PortEntry>,
    /// How its instances are treated.
    #[serde(default, skip_serializing_if = "ServicePolicy::is_empty")]
    pub policy: ServicePolicy,
    /// The subsets of its instances, and how they are treated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subsets: BTreeMap<String, ServicePolicy>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortEntry {
    /// Its name; empty when it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its number.
    pub port: u16,
    /// What is spoken to its endpoints.
    #[serde(default, skip_serializing_if = "Protocol::is_http1")]
    pub protocol: Protocol,
    /// How that is kept secret; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// The endpoints that are ready and whose pod is not asked to go, by address.
    pub endpoints: Vec<EndpointEntry>,
}

/// What is spoken to an endpoint.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge where there is no TLS.
    #[serde(alias = "h2c")]
    Http2,
}

impl Protocol {
    /// What `appProtocol` of a port means; HTTP/1.1 when it is not set. `kubernetes.io/h2c` is the name of Kubernetes, the others
    /// are those that meshes read.
    pub fn of(app_protocol: Option<&str>) -> Self {
        match app_protocol {
            Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => Self::Http2,
            _ => Self::Http1,
        }
    }

    /// Whether `appProtocol` of a port says that TLS is spoken.
    pub fn is_secure(app_protocol: Option<&str>) -> bool {
        matches!(app_protocol, Some("https" | "kubernetes.io/wss"))
    }

    fn is_http1(&self) -> bool {
        *self == Self::Http1
    }
}

/// A place that may get requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose requests in flight are counted together: the uid of the pod, or the address when no pod stands behind it.
    pub instance: String,
    /// The revision of the pod; empty when it carries none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The subsets that it belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<String>,
}

impl ServiceEntry {
    /// The port that `port` means; `None` when the Service has no such port.
    pub fn port(&self, port: &PortRef) -> Option<&PortEntry> {
        match port {
            PortRef::First => self.ports.first(),
            PortRef::Number(number) => self.ports.iter().find(|p| p.port == *number),
            PortRef::Name(name) => self.ports.iter().find(|p| p.name == *name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostMatch {
        match text.strip_prefix("*.") {
            Some(domain) => HostMatch::Below(domain.into()),
            None if text.is_empty() => HostMatch::Any,
            None => HostMatch::Exact(text.into()),
        }
    }

    #[test]
    fn hosts_of_listener_and_route_are_cut_to_what_both_take() {
        for (listener, route, both) in [
            ("", "", Some("")),
            ("", "a.example.com", Some("a.example.com")),
            ("a.example.com", "", Some("a.example.com")),
            ("a.example.com", "a.example.com", Some("a.example.com")),
            ("a.example.com", "b.example.com", None),
            ("*.example.com", "a.b.example.com", Some("a.b.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", "a.badexample.com", None),
            ("a.example.com", "*.example.com", Some("a.example.com")),
            ("*.example.com", "*.a.example.com", Some("*.a.example.com")),
            ("*.a.example.com", "*.example.com", Some("*.a.example.com")),
            ("*.example.com", "*.example.org", None),
        ] {
            let (listener, route) = (host(listener), host(route));
            let both = both.map(host);
            assert_eq!(listener.intersect(&route), both, "{listener:?} {route:?}");
            assert_eq!(route.intersect(&listener), both, "{route:?} {listener:?}");
        }
    }

    #[test]
    fn a_host_is_taken_by_what_it_is_within() {
        for (taken, name) in [
            ("", "a.example.com"),
            ("*.example.com", "a.b.example.com"),
            ("a.example.com", "a.example.com"),
        ] {
            assert!(host(taken).has(name) && host(name).is_within(&host(taken)));
        }
        for (not_taken, name) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "aexample.com"),
            ("b.example.com", "a.example.com"),
        ] {
            assert!(!host(not_taken).has(name) && !host(name).is_within(&host(not_taken)));
        }
        let one_below = HostMatch::OneBelow("example.com".into());
        assert!(one_below.has("a.example.com") && !one_below.has("a.b.example.com"));
        assert!(!host("").is_within(&host("*.example.com")));
    }
}
