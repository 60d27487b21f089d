//! VirtualServices of Istio: of the rules for a host the first that matches counts.

use std::collections::BTreeMap;

use serin_api::Problem;
use serin_api::istio::{
    Destination, HeaderOperations, HttpMatchRequest, HttpRoute, HttpRouteDestination, Percent,
    StringMatch, VirtualService,
};
use serin_api::problem::FieldPath;

use super::annotations;
use super::common::{Draft, HeaderReader, check_regex, millis, missing, per_million};
use super::destination_rule::{Splits, service_of};
use super::http_route::parse_host;
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, created};
use crate::table::{
    Backend, Direct, Fault, HeaderChanges, HostMatch, Mirror, PathMatch, PathRewrite, PortRef,
    Redirect, RequestMatch, Retry, Rewrite, Rule, RulePolicy, ValueMatch, ValuePattern,
};

/// What Istio tries again when `retryOn` is absent.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,503";

struct Context<'a> {
    name: &'a ObjectName,
    objects: &'a Objects,
    splits: &'a Splits,
    refused: Vec<Problem>,
    unresolved: Vec<(&'static str, Problem)>,
}

pub(super) fn lower(
    name: &ObjectName,
    service: &VirtualService,
    objects: &Objects,
    splits: &Splits,
) -> Draft {
    let mut cx = Context {
        name,
        objects,
        splits,
        refused: Vec::new(),
        unresolved: Vec::new(),
    };
    let hosts = cx.hosts(&service.spec.hosts);
    let mut rules = Vec::with_capacity(service.spec.http.len());
    for (index, route) in service.spec.http.iter().enumerate() {
        let at = FieldPath::new("spec.http").index(index);
        let (headers, answer_headers) = cx.headers(route.headers.as_ref(), &at.field("headers"));
        let mut policy = cx.policy(route, &at);
        policy.answer_headers = answer_headers;
        annotations::route(&service.metadata, &mut policy, &mut cx.refused);
        let retries = route.retries.as_ref();
        let one_try = retries.and_then(|r| r.per_try_timeout.as_deref());
        let one_try_at = at.field("retries").field("perTryTimeout");
        rules.push(Rule {
            source: Source {
                kind: SourceKind::VirtualService,
                name: name.clone(),
            },
            created: created(&service.metadata),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            port: None,
            hosts: hosts.clone(),
            except: Vec::new(),
            matches: cx.matches(route, &at),
            backends: cx.backends(&route.route, &at.field("route")),
            headers,
            timeout_ms: millis(
                route.timeout.as_deref(),
                &at.field("timeout"),
                &mut cx.refused,
            ),
            try_timeout_ms: millis(one_try, &one_try_at, &mut cx.refused),
            policy,
        });
    }
    Draft {
        generation: service.metadata.generation.unwrap_or_default(),
        parents: Vec::new(),
        rules,
        refused: cx.refused,
        unresolved: cx.unresolved,
    }
}

impl Context<'_> {
    /// A host is a name of the outside; that of a Service counts in all of its forms.
    fn hosts(&mut self, hosts: &[String]) -> Vec<HostMatch> {
        let at = FieldPath::new("spec.hosts");
        if hosts.is_empty() {
            let hint = "name the hosts whose requests are routed";
            self.refused.push(Problem::required(at.clone(), hint));
        }
        let mut lowered = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            if host == "*" {
                lowered.push(HostMatch::Any);
                continue;
            }
            let Some((is_wildcard, host)) = parse_host(host) else {
                let why = "must be a host name, without a port, *.DOMAIN or *";
                self.refused
                    .push(Problem::invalid(at.index(index), host, why));
                continue;
            };
            if is_wildcard {
                lowered.push(HostMatch::Below(host));
                continue;
            }
            let service = service_of(&host, &self.name.namespace);
            if !host.contains('.') || self.objects.services.contains_key(&service) {
                let short = format!("{}.{}", service.name, service.namespace);
                let all = ["", ".svc", ".svc.cluster.local"].map(|end| format!("{short}{end}"));
                let others = all.into_iter().filter(|form| *form != host);
                lowered.extend(others.map(HostMatch::Exact));
            }
            lowered.push(HostMatch::Exact(host));
        }
        lowered
    }

    fn matches(&mut self, route: &HttpRoute, at: &FieldPath) -> Vec<RequestMatch> {
        if route.match_.is_empty() {
            return vec![RequestMatch::of_path(PathMatch::Prefix(String::new()))];
        }
        let all = route.match_.iter().enumerate();
        all.map(|(index, one)| self.one_match(one, &at.field("match").index(index)))
            .collect()
    }

    fn one_match(&mut self, one: &HttpMatchRequest, at: &FieldPath) -> RequestMatch {
        let mut pseudo = Vec::new();
        let named = [
            ("method", &one.method),
            ("authority", &one.authority),
            ("scheme", &one.scheme),
        ];
        for (name, pattern) in named {
            let value = pattern.as_ref().map(|p| self.value(p, &at.field(name)));
            pseudo.extend(value.map(|value| ValueMatch {
                name: format!(":{name}"),
                value,
            }));
        }
        pseudo.extend(one.port.map(|port| ValueMatch {
            name: ":port".into(),
            value: ValuePattern::Exact(port.to_string()),
        }));
        RequestMatch {
            headers: self.values(&one.headers, &at.field("headers"), true),
            query: self.values(&one.query_params, &at.field("queryParams"), false),
            without: self.values(&one.without_headers, &at.field("withoutHeaders"), true),
            pseudo,
            ..RequestMatch::of_path(self.path(one, &at.field("uri")))
        }
    }

    fn path(&mut self, one: &HttpMatchRequest, at: &FieldPath) -> PathMatch {
        let Some(uri) = &one.uri else {
            return PathMatch::Prefix(String::new());
        };
        let ignores_case = one.ignore_uri_case;
        match self.value(uri, at) {
            ValuePattern::Regex(regex) => PathMatch::Regex(regex),
            ValuePattern::Begins(prefix) if prefix == "/" => PathMatch::Prefix(String::new()),
            ValuePattern::Exact(path) if ignores_case => {
                PathMatch::Regex(format!("(?i:{})", regex::escape(&path)))
            }
            ValuePattern::Begins(prefix) if ignores_case => {
                PathMatch::Regex(format!("(?i:{}).*", regex::escape(&prefix)))
            }
            ValuePattern::Exact(path) => PathMatch::Exact(path),
            ValuePattern::Begins(prefix) => PathMatch::Begins(prefix),
        }
    }

    fn values(
        &mut self,
        patterns: &BTreeMap<String, StringMatch>,
        at: &FieldPath,
        are_headers: bool,
    ) -> Vec<ValueMatch> {
        let mut values = Vec::with_capacity(patterns.len());
        for (name, pattern) in patterns {
            let at = at.key(name);
            if are_headers && http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let why = "is no header name";
                self.refused.push(Problem::invalid(at.clone(), name, why));
            }
            values.push(ValueMatch {
                value: self.value(pattern, &at),
                name: if are_headers {
                    name.to_ascii_lowercase()
                } else {
                    name.clone()
                },
            });
        }
        values
    }

    fn value(&mut self, pattern: &StringMatch, at: &FieldPath) -> ValuePattern {
        match (&pattern.exact, &pattern.prefix, &pattern.regex) {
            (Some(exact), None, None) => ValuePattern::Exact(exact.clone()),
            (None, Some(prefix), None) => ValuePattern::Begins(prefix.clone()),
            (None, None, Some(regex)) => {
                check_regex(regex, &at.field("regex"), &mut self.refused);
                ValuePattern::Regex(regex.clone())
            }
            // It need only be there.
            (None, None, None) => ValuePattern::Begins(String::new()),
            _ => {
                let hint = "exactly one of exact, prefix and regex";
                self.refused.push(Problem::required(at.clone(), hint));
                ValuePattern::Begins(String::new())
            }
        }
    }

    fn backends(&mut self, routes: &[HttpRouteDestination], at: &FieldPath) -> Vec<Backend> {
        let is_only = routes.len() == 1;
        let mut backends = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let at = at.index(index);
            let destination = route.destination.clone().unwrap_or_default();
            let Some(backend) = self.destination(&destination, &at.field("destination")) else {
                continue;
            };
            let weight = route.weight.unwrap_or_default();
            let Ok(weight) = u32::try_from(weight) else {
                let why = "must be 0 or more";
                self.refused
                    .push(Problem::invalid(at.field("weight"), weight, why));
                continue;
            };
            let (headers, answer_headers) =
                self.headers(route.headers.as_ref(), &at.field("headers"));
            backends.push(Backend {
                weight: if is_only { weight.max(1) } else { weight },
                headers,
                answer_headers,
                ..backend
            });
        }
        backends
    }

    /// The backend, with all of its share; what of it is not there is told.
    fn destination(&mut self, destination: &Destination, at: &FieldPath) -> Option<Backend> {
        if destination.host.is_empty() {
            self.refused
                .push(Problem::required(at.field("host"), "name the Service"));
            return None;
        }
        let service = service_of(&destination.host, &self.name.namespace);
        let number = destination.port.as_ref().and_then(|port| port.number);
        let port = match number.map(u16::try_from) {
            None => PortRef::First,
            Some(Ok(port)) => PortRef::Number(port),
            Some(Err(_)) => {
                let at = at.field("port").field("number");
                let why = "must be 1 to 65535";
                self.refused
                    .push(Problem::invalid(at, number.unwrap_or_default(), why));
                return None;
            }
        };
        if let Some((why, is_port)) = missing(self.objects, &service, &port) {
            let problem = if is_port {
                let at = at.field("port");
                Problem::invalid(at, number.unwrap_or_default(), &why)
            } else {
                Problem::invalid(at.field("host"), &destination.host, &why)
            };
            self.unresolved.push(("BackendNotFound", problem));
        } else if let Some(subset) = &destination.subset {
            let split = self.splits.of.get(&service);
            let has = split.is_some_and(|s| s.subsets.iter().any(|known| known.name == *subset));
            if !has {
                let why = format!("no DestinationRule gives Service {service} such a subset");
                let problem = Problem::invalid(at.field("subset"), subset, &why);
                self.unresolved.push(("SubsetNotFound", problem));
            }
        }
        Some(Backend {
            subset: destination.subset.clone(),
            ..Backend::new(service, port, 1)
        })
    }

    /// Of the request and of the answer.
    fn headers(
        &mut self,
        headers: Option<&serin_api::istio::Headers>,
        at: &FieldPath,
    ) -> (HeaderChanges, HeaderChanges) {
        let Some(headers) = headers else {
            return Default::default();
        };
        let request = self.operations(headers.request.as_ref(), &at.field("request"));
        let response = self.operations(headers.response.as_ref(), &at.field("response"));
        (request, response)
    }

    fn operations(
        &mut self,
        operations: Option<&HeaderOperations>,
        at: &FieldPath,
    ) -> HeaderChanges {
        let Some(operations) = operations else {
            return HeaderChanges::default();
        };
        let mut reader = HeaderReader {
            refused: &mut self.refused,
            changes: HeaderChanges::default(),
        };
        for (name, value) in &operations.set {
            reader.set(name, value, &at.field("set").key(name));
        }
        for (name, value) in &operations.add {
            reader.add(name, value, &at.field("add").key(name));
        }
        for (index, name) in operations.remove.iter().enumerate() {
            reader.remove(name, &at.field("remove").index(index));
        }
        reader.changes
    }

    fn policy(&mut self, route: &HttpRoute, at: &FieldPath) -> RulePolicy {
        RulePolicy {
            direct: self.direct(route),
            rewrite: self.rewrite(route, &at.field("rewrite")),
            mirrors: self.mirrors(route, at),
            retry: self.retry(route, &at.field("retries")),
            fault: self.fault(route, &at.field("fault")),
            ..RulePolicy::default()
        }
    }

    fn direct(&self, route: &HttpRoute) -> Option<Direct> {
        if let Some(fixed) = &route.direct_response {
            let body = fixed.body.as_ref().and_then(|body| body.string.clone());
            return Some(Direct::Fixed {
                status: u16::try_from(fixed.status).unwrap_or(503),
                body: body.unwrap_or_default(),
            });
        }
        let redirect = route.redirect.as_ref()?;
        let authority = redirect.authority.as_deref();
        let split = authority.map(|a| a.split_once(':').unwrap_or((a, "")));
        let port = redirect.port.and_then(|port| u16::try_from(port).ok());
        Some(Direct::Redirect(Redirect {
            status: u16::try_from(redirect.redirect_code.unwrap_or(301)).unwrap_or(301),
            scheme: redirect.scheme.clone(),
            host: split.map(|(host, _)| host.to_owned()),
            port: port.or_else(|| split?.1.parse().ok()),
            path: redirect.uri.clone().map(PathRewrite::Full),
        }))
    }

    fn rewrite(&mut self, route: &HttpRoute, at: &FieldPath) -> Option<Rewrite> {
        let rewrite = route.rewrite.as_ref()?;
        let by_regex = rewrite.uri_regex_rewrite.as_ref();
        if let Some(regex) = by_regex
            && let Err(error) = super::part_regex(&regex.match_)
        {
            let at = at.field("uriRegexRewrite").field("match");
            let why = super::http_route::regex_problem(&error);
            self.refused.push(Problem::invalid(at, &regex.match_, &why));
        }
        let by_regex = by_regex.map(|regex| PathRewrite::Regex {
            pattern: regex.match_.clone(),
            with: rust_replacement(&regex.rewrite),
        });
        Some(Rewrite {
            host: rewrite.authority.clone(),
            path: rewrite.uri.clone().map(PathRewrite::Prefix).or(by_regex),
        })
    }

    fn mirrors(&mut self, route: &HttpRoute, at: &FieldPath) -> Vec<Mirror> {
        let percent =
            |percent: Option<&Percent>| percent.map_or(1_000_000, |p| per_million(p.value));
        let mut wanted = Vec::new();
        if let Some(to) = &route.mirror {
            let old = route.mirror_percent.map(|p| per_million(f64::from(p)));
            let share = match &route.mirror_percentage {
                Some(new) => per_million(new.value),
                None => old.unwrap_or(1_000_000),
            };
            wanted.push((to, share, at.field("mirror")));
        }
        for (index, mirror) in route.mirrors.iter().enumerate() {
            let at = at.field("mirrors").index(index).field("destination");
            let share = percent(mirror.percentage.as_ref());
            wanted.push((&mirror.destination, share, at));
        }
        let lowered = wanted.into_iter().filter_map(|(to, per_million, at)| {
            let backend = self.destination(to, &at)?;
            Some(Mirror {
                service: backend.service,
                port: backend.port,
                subset: backend.subset,
                per_million,
            })
        });
        lowered.collect()
    }

    fn retry(&mut self, route: &HttpRoute, at: &FieldPath) -> Option<Retry> {
        let retries = route.retries.as_ref()?;
        let attempts = u32::try_from(retries.attempts).unwrap_or_default();
        let on = retries.retry_on.as_deref().unwrap_or(RETRY_ON);
        let mut retry = Retry {
            attempts,
            ..Retry::default()
        };
        for word in on.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "5xx" => {
                    retry.statuses.extend(500..=599);
                    retry.on_failure = true;
                }
                "gateway-error" => retry.statuses.extend([502, 503, 504]),
                "retriable-4xx" => retry.statuses.push(409),
                "reset" | "reset-before-request" => retry.on_failure = true,
                // Always safe, and always done; or of gRPC, or a word before the codes themselves.
                "connect-failure"
                | "refused-stream"
                | "retriable-status-codes"
                | "cancelled"
                | "deadline-exceeded"
                | "internal"
                | "resource-exhausted"
                | "unavailable"
                | "retriable-headers"
                | "envoy-ratelimited"
                | "http3-post-connect-failure" => {}
                code => match code.parse::<u16>().ok().filter(|c| (100..600).contains(c)) {
                    Some(code) => retry.statuses.push(code),
                    None => {
                        let why = "is no condition of Istio and no status";
                        let at = at.field("retryOn");
                        self.refused.push(Problem::invalid(at, word, why));
                    }
                },
            }
        }
        (attempts > 0).then_some(retry)
    }

    fn fault(&mut self, route: &HttpRoute, at: &FieldPath) -> Option<Fault> {
        let fault = route.fault.as_ref()?;
        let share = |new: Option<&Percent>, old: Option<i32>| match (new, old) {
            (Some(new), _) => per_million(new.value),
            (None, Some(old)) => per_million(f64::from(old)),
            (None, None) => 1_000_000,
        };
        let delay = fault.delay.as_ref().and_then(|delay| {
            let at = at.field("delay").field("fixedDelay");
            let ms = millis(delay.fixed_delay.as_deref(), &at, &mut self.refused)?;
            Some((ms, share(delay.percentage.as_ref(), delay.percent)))
        });
        let abort = fault.abort.as_ref().and_then(|abort| {
            let status = u16::try_from(abort.http_status?).ok()?;
            Some((status, share(abort.percentage.as_ref(), None)))
        });
        Some(Fault { delay, abort })
    }
}

/// `\1` of RE2 as `${1}` of the regex crate, whose dollar is doubled where it stands for itself.
fn rust_replacement(text: &str) -> String {
    let mut new = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                chars.next();
                new.push_str(&format!("${{{digit}}}"));
            }
            ('\\', Some('\\')) => {
                chars.next();
                new.push('\\');
            }
            ('$', _) => new.push_str("$$"),
            (other, _) => new.push(other),
        }
    }
    new
}
