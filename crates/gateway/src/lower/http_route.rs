//! HTTPRoutes.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use serin_api::Problem;
use serin_api::gateway_api::{
    HTTPRoute, HttpBackendRef, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, HttpValueMatch,
    ParentReference,
};
use serin_api::problem::FieldPath;
use serin_api::units::parse_duration_text;

use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::created;
use crate::table::{
    Backend, HeaderChanges, HostMatch, PathMatch, PortRef, RequestMatch, Rule, ValueMatch,
    ValuePattern,
};

/// What came of one HTTPRoute.
pub(super) struct Draft {
    /// Whether a parent is one that this gateway serves.
    pub(super) is_ours: bool,
    /// Its `metadata.generation`.
    pub(super) generation: i64,
    /// Its rules; of use only when nothing is refused.
    pub(super) rules: Vec<Rule>,
    /// Why the route is refused.
    pub(super) refused: Vec<Problem>,
    /// The backends that cannot be served, with the reason word of `ResolvedRefs`.
    pub(super) unresolved: Vec<(&'static str, Problem)>,
}

struct Context<'a> {
    name: &'a ObjectName,
    services: &'a BTreeMap<ObjectName, Service>,
    refused: Vec<Problem>,
    unresolved: Vec<(&'static str, Problem)>,
}

pub(super) fn lower(
    name: &ObjectName,
    route: &HTTPRoute,
    services: &BTreeMap<ObjectName, Service>,
) -> Draft {
    let mut cx = Context {
        name,
        services,
        refused: Vec::new(),
        unresolved: Vec::new(),
    };
    let hosts = cx.hosts(route);
    let spec = FieldPath::new("spec").field("rules");
    let rules = route.spec.rules.iter().enumerate().map(|(index, rule)| {
        let path = spec.index(index);
        let timeouts = rule.timeouts.clone().unwrap_or_default();
        let at = path.field("timeouts");
        Rule {
            source: Source {
                kind: SourceKind::HttpRoute,
                name: name.clone(),
            },
            created: created(&route.metadata),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            hosts: hosts.clone(),
            matches: cx.matches(rule, &path),
            backends: cx.backends(rule, &path),
            headers: cx.filters(&rule.filters, &path),
            timeout_ms: cx.duration(timeouts.request.as_deref(), &at.field("request")),
            try_timeout_ms: cx.duration(
                timeouts.backend_request.as_deref(),
                &at.field("backendRequest"),
            ),
        }
    });
    let rules = rules.collect();
    Draft {
        is_ours: route.spec.parent_refs.is_empty() || route.spec.parent_refs.iter().any(is_ours),
        generation: route.metadata.generation.unwrap_or_default(),
        rules,
        refused: cx.refused,
        unresolved: cx.unresolved,
    }
}

/// Whether a parent is one that this gateway serves: any Gateway, and any Service by its own host name.
pub(crate) fn is_ours(parent: &ParentReference) -> bool {
    matches!(parent.kind.as_deref(), None | Some("Gateway" | "Service"))
}

/// Compiles a regular expression that must match a whole value, within a bound of memory.
pub(crate) fn whole_regex(regex: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{regex})$"))
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
    fn hosts(&mut self, route: &HTTPRoute) -> Vec<HostMatch> {
        let mut hosts = Vec::new();
        let of_services = |parent: &&ParentReference| parent.kind.as_deref() == Some("Service");
        for parent in route.spec.parent_refs.iter().filter(of_services) {
            let namespace = parent.namespace.as_deref().unwrap_or(&self.name.namespace);
            let short = format!("{}.{namespace}", parent.name);
            let long = ["", ".svc", ".svc.cluster.local"].map(|end| format!("{short}{end}"));
            hosts.extend(long.map(HostMatch::Exact));
        }
        let only_services =
            !hosts.is_empty() && route.spec.parent_refs.iter().all(|p| of_services(&p));
        if only_services {
            return hosts;
        }
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
        if route.spec.hostnames.is_empty() {
            hosts.push(HostMatch::Any);
        }
        hosts
    }

    fn matches(&mut self, rule: &HttpRouteRule, path: &FieldPath) -> Vec<RequestMatch> {
        if rule.matches.is_empty() {
            return vec![RequestMatch {
                path: PathMatch::Prefix(String::new()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            }];
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
            path: self.path_match(one, &at.field("path")),
            method: one.method.clone(),
            headers: self.value_matches(&one.headers, &at.field("headers"), true),
            query: self.value_matches(&one.query_params, &at.field("queryParams"), false),
        }
    }

    fn path_match(&mut self, one: &HttpRouteMatch, at: &FieldPath) -> PathMatch {
        let path = one.path.clone().unwrap_or_default();
        let value = path.value.unwrap_or_else(|| "/".into());
        let kind = path.type_.as_deref().unwrap_or("PathPrefix");
        if kind == "RegularExpression" {
            self.regex(&value, &at.field("value"));
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
                    self.regex(&one.value, &at.field("value"));
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

    fn regex(&mut self, regex: &str, at: &FieldPath) {
        if let Err(error) = whole_regex(regex) {
            self.refused
                .push(Problem::invalid(at.clone(), regex, &regex_problem(&error)));
        }
    }

    fn duration(&mut self, text: Option<&str>, at: &FieldPath) -> Option<u64> {
        let text = text?;
        let millis = parse_duration_text(text).and_then(|d| u64::try_from(d.as_millis()).ok());
        if millis.is_none() {
            let why = "must be a duration such as \"10s\" or \"500ms\"; \"0s\" is no limit";
            self.refused.push(Problem::invalid(at.clone(), text, why));
        }
        millis
    }

    fn backends(&mut self, rule: &HttpRouteRule, path: &FieldPath) -> Vec<Backend> {
        let at = path.field("backendRefs");
        let all = rule.backend_refs.iter().enumerate();
        all.filter_map(|(index, backend)| self.backend(backend, &at.index(index)))
            .collect()
    }

    fn backend(&mut self, backend: &HttpBackendRef, at: &FieldPath) -> Option<Backend> {
        let headers = self.filters(&backend.filters, at);
        let weight = backend.weight.unwrap_or(1);
        let Ok(weight) = u32::try_from(weight) else {
            let why = "must be 0 or more";
            self.refused
                .push(Problem::invalid(at.field("weight"), weight, why));
            return None;
        };
        let namespace = backend.namespace.as_deref().unwrap_or(&self.name.namespace);
        let service = ObjectName::new(namespace, &backend.name);
        let port = match backend.port.map(u16::try_from) {
            None => PortRef::First,
            Some(Ok(port)) => PortRef::Number(port),
            Some(Err(_)) => {
                let why = "must be 1 to 65535";
                let port = backend.port.unwrap_or_default();
                self.refused
                    .push(Problem::invalid(at.field("port"), port, why));
                return None;
            }
        };
        if let Some(unresolved) = self.unresolved(backend, &service, &port, at) {
            let not_found = unresolved.0 == "BackendNotFound";
            self.unresolved.push(unresolved);
            if !not_found {
                return None;
            }
        }
        Some(Backend {
            service,
            port,
            weight,
            headers,
        })
    }

    fn unresolved(
        &self,
        backend: &HttpBackendRef,
        service: &ObjectName,
        port: &PortRef,
        at: &FieldPath,
    ) -> Option<(&'static str, Problem)> {
        let kind = backend.kind.as_deref().unwrap_or("Service");
        let group = backend.group.as_deref().unwrap_or_default();
        if kind != "Service" || !group.is_empty() {
            let problem = Problem::not_supported(at.field("kind"), kind, &["Service"]);
            return Some(("InvalidKind", problem));
        }
        if service.namespace != self.name.namespace {
            let why = "a Service of another namespace needs a ReferenceGrant, which this version does not read";
            let problem = Problem::forbidden(at.field("namespace"), why);
            return Some(("RefNotPermitted", problem));
        }
        let Some(found) = self.services.get(service) else {
            let why = "there is no such Service";
            let problem = Problem::invalid(at.field("name"), &backend.name, why);
            return Some(("BackendNotFound", problem));
        };
        let ports = found.spec.as_ref().and_then(|s| s.ports.as_deref());
        let ports = ports.unwrap_or_default();
        let has = match port {
            PortRef::Number(number) => ports.iter().any(|p| p.port == i32::from(*number)),
            PortRef::First | PortRef::Name(_) => !ports.is_empty(),
        };
        (!has).then(|| {
            let why = format!("Service {service} has no such port");
            let port = backend.port.unwrap_or_default();
            let problem = Problem::invalid(at.field("port"), port, &why);
            ("BackendNotFound", problem)
        })
    }

    fn filters(&mut self, filters: &[HttpRouteFilter], path: &FieldPath) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        let at = path.field("filters");
        for (index, filter) in filters.iter().enumerate() {
            let at = at.index(index);
            if filter.type_ != "RequestHeaderModifier" {
                let known = ["RequestHeaderModifier"];
                self.refused.push(Problem::not_supported(
                    at.field("type"),
                    &filter.type_,
                    &known,
                ));
                continue;
            }
            let at = at.field("requestHeaderModifier");
            let Some(modifier) = &filter.request_header_modifier else {
                self.refused.push(Problem::required(at, ""));
                continue;
            };
            match HeaderModifier::deserialize(modifier) {
                Ok(modifier) => self.header_changes(modifier, &at, &mut changes),
                Err(error) => {
                    let why = error.to_string();
                    self.refused.push(Problem::invalid(at, modifier, &why));
                }
            }
        }
        changes
    }

    fn header_changes(
        &mut self,
        modifier: HeaderModifier,
        at: &FieldPath,
        changes: &mut HeaderChanges,
    ) {
        let pairs = |headers: Vec<Header>, at: FieldPath, refused: &mut Vec<Problem>| {
            let mut lowered = Vec::with_capacity(headers.len());
            for (index, header) in headers.into_iter().enumerate() {
                let at = at.index(index);
                if HeaderValue::from_str(&header.value).is_err() {
                    let why = "is no header value";
                    refused.push(Problem::invalid(at.field("value"), &header.value, why));
                }
                if let Some(name) = changeable(&header.name, &at.field("name"), refused) {
                    lowered.push((name, header.value));
                }
            }
            lowered
        };
        changes
            .set
            .extend(pairs(modifier.set, at.field("set"), &mut self.refused));
        changes
            .add
            .extend(pairs(modifier.add, at.field("add"), &mut self.refused));
        for (index, name) in modifier.remove.iter().enumerate() {
            let at = at.field("remove").index(index);
            changes
                .remove
                .extend(changeable(name, &at, &mut self.refused));
        }
    }
}

/// The name in lower case, unless it is none or one that frames the message.
fn changeable(name: &str, at: &FieldPath, refused: &mut Vec<Problem>) -> Option<String> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        refused.push(Problem::invalid(at.clone(), name, "is no header name"));
        return None;
    };
    let framing = [
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
    ];
    if framing.contains(&parsed.as_str()) {
        let why = "this header frames the message; it cannot be changed";
        refused.push(Problem::forbidden(at.clone(), why));
        return None;
    }
    Some(parsed.as_str().to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderModifier {
    #[serde(default)]
    set: Vec<Header>,
    #[serde(default)]
    add: Vec<Header>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}
