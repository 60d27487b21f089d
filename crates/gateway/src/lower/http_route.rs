//! HTTPRoutes.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, Method};
use serin_api::Problem;
use serin_api::gateway_api::{
    BackendObjectReference, HTTPRoute, HttpBackendRef, HttpRouteMatch, HttpRouteRule,
    HttpValueMatch, ParentReference,
};
use serin_api::problem::FieldPath;

use super::annotations;
use super::common::{Draft, check_regex, millis, missing};
use super::gateway::{Gateways, Place, forbidden};
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, created};
use crate::table::{
    Backend, HashKey, HostMatch, ParentVerdict, PathMatch, PortRef, RequestMatch, Rule, ValueMatch,
    ValuePattern,
};

mod filters;

struct Context<'a> {
    name: &'a ObjectName,
    objects: &'a Objects,
    refused: Vec<Problem>,
    unresolved: Vec<(&'static str, Problem)>,
}

/// The parent of a route that names none: every address of the gateway.
const EMBEDDED_PARENT: &str = "serin";

/// The rules of a route, once for each port where a parent serves them; `None` when no parent of it is ours.
pub(super) fn lower(
    name: &ObjectName,
    route: &HTTPRoute,
    objects: &Objects,
    gateways: &mut Gateways<'_>,
) -> Option<Draft> {
    let mut cx = Context {
        name,
        objects,
        refused: Vec::new(),
        unresolved: Vec::new(),
    };
    let hosts = cx.hosts(route);
    let (parents, places) = cx.parents(route, &hosts, gateways);
    if parents.is_empty() {
        return None;
    }
    let grouped = grouped(places);
    let spec = FieldPath::new("spec").field("rules");
    let mut rules = Vec::with_capacity(route.spec.rules.len());
    for (index, rule) in route.spec.rules.iter().enumerate() {
        let path = spec.index(index);
        let timeouts = rule.timeouts.clone().unwrap_or_default();
        let at = path.field("timeouts");
        let (headers, mut policy) = cx.filters(&rule.filters, &path, true);
        policy.retry = cx.retry(rule, &path.field("retry"));
        policy.sticky = session(rule);
        annotations::route(&route.metadata, &mut policy, &mut cx.refused);
        let one_try = timeouts.backend_request.as_deref();
        let one_try_at = at.field("backendRequest");
        let whole = timeouts.request.as_deref();
        let lowered = Rule {
            source: Source {
                kind: SourceKind::HttpRoute,
                name: name.clone(),
            },
            created: created(&route.metadata),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            port: None,
            hosts: Vec::new(),
            except: Vec::new(),
            matches: cx.matches(rule, &path),
            backends: cx.backends(rule, &path),
            headers,
            timeout_ms: millis(whole, &at.field("request"), &mut cx.refused),
            try_timeout_ms: millis(one_try, &one_try_at, &mut cx.refused),
            policy,
        };
        rules.extend(grouped.iter().map(|((port, except), hosts)| Rule {
            port: *port,
            hosts: hosts.clone(),
            except: except.iter().cloned().collect(),
            ..lowered.clone()
        }));
    }
    Some(Draft {
        generation: route.metadata.generation.unwrap_or_default(),
        rules,
        refused: cx.refused,
        unresolved: cx.unresolved,
        parents,
    })
}

/// The ports of the gateway and the hosts where a route is served, each without the hosts that are not its own there. No port is
/// every port.
type Places = BTreeMap<(Option<u16>, HostMatch), BTreeSet<HostMatch>>;

/// The hosts of all places that have a port and their exceptions in common.
fn grouped(places: Places) -> BTreeMap<(Option<u16>, BTreeSet<HostMatch>), Vec<HostMatch>> {
    let mut grouped: BTreeMap<_, Vec<HostMatch>> = BTreeMap::new();
    for ((port, host), except) in places {
        grouped.entry((port, except)).or_default().push(host);
    }
    grouped
}

/// The user who stays where his first request went.
fn session(rule: &HttpRouteRule) -> Option<HashKey> {
    let session = rule.session_persistence.as_ref()?;
    let name = session.session_name.as_deref().unwrap_or("serin-session");
    if session.type_.as_deref() == Some("Header") {
        return Some(HashKey::Header(name.to_ascii_lowercase()));
    }
    let lifetime = session.cookie_config.as_ref();
    let lifetime = lifetime.and_then(|config| config.lifetime_type.as_deref());
    let absolute = session.absolute_timeout.as_deref();
    let absolute = absolute.and_then(serin_api::units::parse_unit_duration);
    let seconds = absolute.and_then(|d| u64::try_from(d.as_secs()).ok());
    Some(HashKey::Cookie {
        name: name.to_owned(),
        path: None,
        ttl_seconds: seconds.filter(|_| lifetime == Some("Permanent")),
        issue: true,
    })
}

/// Compiles a regular expression that must match a whole value, within a bound of memory.
pub(crate) fn whole_regex(regex: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{regex})$"))
        .size_limit(256 * 1024)
        .build()
}

/// Compiles a regular expression that may match any part of a value, within the same bound.
pub(crate) fn part_regex(regex: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(regex)
        .size_limit(256 * 1024)
        .build()
}

/// What is wrong with a regular expression, in one line.
pub(super) fn regex_problem(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!(
        "is no regular expression: {}",
        last.trim_start_matches("error: ")
    )
}

/// A host as Gateway API and Ingress write it, in lower case; `None` when it is none.
pub(super) fn parse_host(host: &str) -> Option<(bool, String)> {
    let (wildcard, rest) = match host.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, host),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let valid = rest.len() <= 253 && rest.split('.').all(is_label);
    valid.then(|| (wildcard, rest.to_ascii_lowercase()))
}

impl Context<'_> {
    /// The hosts that the route names.
    fn hosts(&mut self, route: &HTTPRoute) -> Vec<HostMatch> {
        if route.spec.hostnames.is_empty() {
            return vec![HostMatch::Any];
        }
        let mut hosts = Vec::new();
        for (index, host) in route.spec.hostnames.iter().enumerate() {
            match parse_host(host) {
                Some((true, domain)) => hosts.push(HostMatch::Below(domain)),
                Some((false, host)) => hosts.push(HostMatch::Exact(host)),
                None => self.refused.push(Problem::invalid(
                    FieldPath::new("spec.hostnames").index(index),
                    host,
                    "must be a host name, without a port, or *.DOMAIN",
                )),
            }
        }
        hosts
    }

    /// What each parent that is ours says, and where they serve the route. A route without parents is served everywhere, a
    /// Service as parent serves it by the host name of the Service, a Gateway at its listeners.
    fn parents(
        &self,
        route: &HTTPRoute,
        hosts: &[HostMatch],
        gateways: &mut Gateways<'_>,
    ) -> (Vec<ParentVerdict>, Places) {
        let mut parents = Vec::new();
        let mut places = Places::new();
        if route.spec.parent_refs.is_empty() {
            let everywhere = |host: &HostMatch| ((None, host.clone()), BTreeSet::new());
            places.extend(hosts.iter().map(everywhere));
            parents.push(ParentVerdict {
                parent: ParentReference {
                    name: EMBEDDED_PARENT.into(),
                    ..ParentReference::default()
                },
                refused: None,
            });
        }
        for parent in &route.spec.parent_refs {
            let refused = if parent.kind.as_deref() == Some("Service") {
                let own = self.service_hosts(parent);
                places.extend(own.map(|host| ((None, host), BTreeSet::new())));
                None
            } else {
                match gateways.attach(self.name, parent, hosts) {
                    None => continue,
                    Some(Err(why)) => Some(why),
                    Some(Ok(taken)) => {
                        for Place { port, host, except } in taken {
                            // Where two Gateways give the same, what either of them gives is given.
                            let known = places.entry((Some(port), host));
                            let known = known.or_insert_with(|| except.clone());
                            known.retain(|host| except.contains(host));
                        }
                        None
                    }
                }
            };
            parents.push(ParentVerdict {
                parent: parent.clone(),
                refused,
            });
        }
        (parents, places)
    }

    fn service_hosts(&self, parent: &ParentReference) -> [HostMatch; 3] {
        let namespace = parent.namespace.as_deref().unwrap_or(&self.name.namespace);
        let short = format!("{}.{namespace}", parent.name);
        ["", ".svc", ".svc.cluster.local"].map(|end| HostMatch::Exact(format!("{short}{end}")))
    }

    fn matches(&mut self, rule: &HttpRouteRule, path: &FieldPath) -> Vec<RequestMatch> {
        if rule.matches.is_empty() {
            return vec![RequestMatch::of_path(PathMatch::Prefix(String::new()))];
        }
        let at = path.field("matches");
        let all = rule.matches.iter().enumerate();
        all.map(|(index, one)| self.one_match(one, &at.index(index)))
            .collect()
    }

    fn one_match(&mut self, one: &HttpRouteMatch, at: &FieldPath) -> RequestMatch {
        if let Some(method) = &one.method
            && (Method::from_bytes(method.as_bytes()).is_err()
                || method.to_ascii_uppercase() != *method)
        {
            let why = "must be a method in capitals";
            self.refused
                .push(Problem::invalid(at.field("method"), method, why));
        }
        RequestMatch {
            method: one.method.clone(),
            headers: self.value_matches(&one.headers, &at.field("headers"), true),
            query: self.value_matches(&one.query_params, &at.field("queryParams"), false),
            ..RequestMatch::of_path(self.path_match(one, &at.field("path")))
        }
    }

    fn path_match(&mut self, one: &HttpRouteMatch, at: &FieldPath) -> PathMatch {
        let path = one.path.clone().unwrap_or_default();
        let value = path.value.unwrap_or_else(|| "/".into());
        let kind = path.type_.as_deref().unwrap_or("PathPrefix");
        if kind == "RegularExpression" {
            check_regex(&value, &at.field("value"), &mut self.refused);
            return PathMatch::Regex(value);
        }
        if !value.starts_with('/') {
            self.refused.push(Problem::invalid(
                at.field("value"),
                &value,
                "must begin with /",
            ));
        }
        match kind {
            "Exact" => PathMatch::Exact(value),
            "PathPrefix" => PathMatch::Prefix(value.trim_end_matches('/').to_owned()),
            other => {
                let known = ["Exact", "PathPrefix", "RegularExpression"];
                self.refused
                    .push(Problem::not_supported(at.field("type"), other, &known));
                PathMatch::Exact(value)
            }
        }
    }

    fn value_matches(
        &mut self,
        matches: &[HttpValueMatch],
        at: &FieldPath,
        are_headers: bool,
    ) -> Vec<ValueMatch> {
        let mut lowered: Vec<ValueMatch> = Vec::with_capacity(matches.len());
        for (index, one) in matches.iter().enumerate() {
            let at = at.index(index);
            let name = if are_headers {
                one.name.to_ascii_lowercase()
            } else {
                one.name.clone()
            };
            if one.name.is_empty()
                || (are_headers && HeaderName::from_bytes(name.as_bytes()).is_err())
            {
                self.refused
                    .push(Problem::invalid(at.field("name"), &one.name, "is no name"));
            }
            let value = match one.type_.as_deref().unwrap_or("Exact") {
                "Exact" => ValuePattern::Exact(one.value.clone()),
                "RegularExpression" => {
                    check_regex(&one.value, &at.field("value"), &mut self.refused);
                    ValuePattern::Regex(one.value.clone())
                }
                other => {
                    let known = ["Exact", "RegularExpression"];
                    self.refused
                        .push(Problem::not_supported(at.field("type"), other, &known));
                    continue;
                }
            };
            // Of two entries with one name only the first counts, as Gateway API has it.
            if !lowered.iter().any(|known| known.name == name) {
                lowered.push(ValueMatch { name, value });
            }
        }
        lowered.sort();
        lowered
    }

    fn backends(&mut self, rule: &HttpRouteRule, path: &FieldPath) -> Vec<Backend> {
        let at = path.field("backendRefs");
        let all = rule.backend_refs.iter().enumerate();
        all.filter_map(|(index, backend)| self.backend(backend, &at.index(index)))
            .collect()
    }

    fn backend(&mut self, backend: &HttpBackendRef, at: &FieldPath) -> Option<Backend> {
        let (headers, policy) = self.filters(&backend.filters, at, false);
        let weight = backend.weight.unwrap_or(1);
        let Ok(weight) = u32::try_from(weight) else {
            let why = "must be 0 or more";
            self.refused
                .push(Problem::invalid(at.field("weight"), weight, why));
            return None;
        };
        let reference = BackendObjectReference {
            group: backend.group.clone(),
            kind: backend.kind.clone(),
            namespace: backend.namespace.clone(),
            name: backend.name.clone(),
            port: backend.port,
        };
        let (service, port) = self.reference(&reference, at)?;
        Some(Backend {
            weight,
            headers,
            answer_headers: policy.answer_headers,
            ..Backend::new(service, port, 1)
        })
    }

    /// The Service and the port that a reference means. One that may not be asked is no Service at all, so that its share is
    /// answered 500.
    fn reference(
        &mut self,
        reference: &BackendObjectReference,
        at: &FieldPath,
    ) -> Option<(ObjectName, PortRef)> {
        let namespace = reference.namespace.as_deref();
        let namespace = namespace.unwrap_or(&self.name.namespace);
        let service = ObjectName::new(namespace, &reference.name);
        let port = match reference.port.map(u16::try_from) {
            None => PortRef::First,
            Some(Ok(port)) => PortRef::Number(port),
            Some(Err(_)) => {
                let port = reference.port.unwrap_or_default();
                let why = "must be 1 to 65535";
                self.refused
                    .push(Problem::invalid(at.field("port"), port, why));
                return None;
            }
        };
        let Some(unresolved) = self.unresolved(reference, &service, &port, at) else {
            return Some((service, port));
        };
        let is_missing = unresolved.0 == "BackendNotFound";
        self.unresolved.push(unresolved);
        let nobody = ObjectName::new("", &reference.name);
        Some((if is_missing { service } else { nobody }, port))
    }

    fn unresolved(
        &self,
        reference: &BackendObjectReference,
        service: &ObjectName,
        port: &PortRef,
        at: &FieldPath,
    ) -> Option<(&'static str, Problem)> {
        let kind = reference.kind.as_deref().unwrap_or("Service");
        let group = reference.group.as_deref().unwrap_or_default();
        if kind != "Service" || !matches!(group, "" | "core") {
            let problem = Problem::not_supported(at.field("kind"), kind, &["Service"]);
            return Some(("InvalidKind", problem));
        }
        let from = ("HTTPRoute", self.name.namespace.as_str());
        if let Some(problem) = forbidden(from, ("Service", service), at, self.objects) {
            return Some(("RefNotPermitted", problem));
        }
        let (why, is_port) = missing(self.objects, service, port)?;
        let problem = if is_port {
            Problem::invalid(at.field("port"), reference.port.unwrap_or_default(), &why)
        } else {
            Problem::invalid(at.field("name"), &reference.name, &why)
        };
        Some(("BackendNotFound", problem))
    }
}
