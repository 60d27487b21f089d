//! Ingresses, with the canary annotations of ingress-nginx.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};
use serin_api::Problem;
use serin_api::problem::FieldPath;

use super::annotations;
use super::canary::{self, Canary};
use super::http_route::parse_host;
use super::{Effect, LowerOptions, RouteProblem, last_rules};
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, created};
use crate::table::{
    Backend, HeaderChanges, HostMatch, PathMatch, PortRef, RequestMatch, RouteTable, Rule,
    RulePolicy,
};

/// The annotations of ingress-nginx; those that are not served are told.
pub(super) const NGINX: &str = "nginx.ingress.kubernetes.io/";
const CLASS: &str = "kubernetes.io/ingress.class";
/// What [`crate::tls`] reads.
const TLS_ANNOTATIONS: [&str; 2] = ["ssl-redirect", "force-ssl-redirect"];

/// The rules, and the Ingresses that are served.
pub(super) fn lower(
    objects: &Objects,
    last: &RouteTable,
    options: &LowerOptions,
    problems: &mut Vec<RouteProblem>,
) -> (Vec<Rule>, BTreeSet<ObjectName>) {
    let mut served = BTreeSet::new();
    let mut mains = Vec::new();
    let mut canaries = Vec::new();
    for (name, ingress) in &objects.ingresses {
        if !is_taken(ingress, options) {
            continue;
        }
        let mut draft = Draft::new(name, ingress);
        draft.check_what_is_not_served(ingress, options);
        match canary::read(ingress) {
            None => {
                let rules = draft.rules(ingress);
                let refused = draft.is_refused();
                mains.extend(if refused {
                    last_main_rules(last, &draft.source)
                } else {
                    rules
                });
            }
            Some(Ok(canary)) => {
                let rules = draft.rules(ingress);
                let canary = (!draft.is_refused()).then_some(canary);
                canaries.push(Claim::new(ingress, canary, rules));
            }
            Some(Err(wrong)) => {
                let rules = draft.rules(ingress);
                draft.tell(Effect::Refused, wrong);
                canaries.push(Claim::new(ingress, None, rules));
            }
        }
        if !draft.is_refused() || last.ingresses.contains(name) {
            served.insert(name.clone());
        }
        draft.check_services(ingress, objects);
        problems.append(&mut draft.problems);
    }
    canaries.sort_by_key(|claim| claim.rules.first().map(|rule| rule.created));
    for claim in canaries {
        claim.attach(&mut mains, last, problems);
    }
    (mains, served)
}

/// Whether the class is ours to serve.
pub(crate) fn is_taken(ingress: &Ingress, options: &LowerOptions) -> bool {
    let Some(wanted) = &options.ingress_class else {
        return true;
    };
    let annotations = ingress.metadata.annotations.as_ref();
    let by_annotation = annotations.and_then(|a| a.get(CLASS));
    let by_field = ingress
        .spec
        .as_ref()
        .and_then(|s| s.ingress_class_name.as_ref());
    by_annotation.or(by_field) == Some(wanted)
}

/// The rules that an Ingress last had, without what its canary made of them: the canary is put to them again.
fn last_main_rules(last: &RouteTable, source: &Source) -> Vec<Rule> {
    let mut rules = last_rules(last, source);
    rules.retain(|rule| rule.matches.iter().all(|m| m.headers.is_empty()));
    for rule in &mut rules {
        rule.backends.truncate(1);
        for backend in &mut rule.backends {
            backend.weight = 1;
        }
    }
    rules
}

struct Draft {
    source: Source,
    /// What the annotations of the Ingress say.
    policy: RulePolicy,
    problems: Vec<RouteProblem>,
}

impl Draft {
    fn new(name: &ObjectName, ingress: &Ingress) -> Self {
        let mut draft = Self {
            source: Source {
                kind: SourceKind::Ingress,
                name: name.clone(),
            },
            policy: RulePolicy::default(),
            problems: Vec::new(),
        };
        let mut refused = Vec::new();
        annotations::route(&ingress.metadata, &mut draft.policy, &mut refused);
        draft.tell(Effect::Refused, refused);
        draft
    }

    fn is_refused(&self) -> bool {
        self.problems.iter().any(|p| p.effect == Effect::Refused)
    }

    fn refuse(&mut self, problem: Problem) {
        self.tell(Effect::Refused, [problem]);
    }

    fn tell(&mut self, effect: Effect, problems: impl IntoIterator<Item = Problem>) {
        let all = problems.into_iter().map(|problem| RouteProblem {
            source: self.source.clone(),
            effect,
            problem,
        });
        self.problems.extend(all);
    }

    fn check_what_is_not_served(&mut self, ingress: &Ingress, options: &LowerOptions) {
        let annotations = ingress.metadata.annotations.iter().flatten();
        for (key, _) in annotations {
            let Some(short) = key.strip_prefix(NGINX) else {
                continue;
            };
            if !canary::ANNOTATIONS.contains(&short) && !TLS_ANNOTATIONS.contains(&short) {
                let at = FieldPath::new("metadata.annotations").key(key);
                let instead = "the Ingress is served without it";
                self.tell(Effect::Served, [Problem::unbuilt(at, instead)]);
            }
        }
        let tls = ingress.spec.as_ref().and_then(|spec| spec.tls.as_deref());
        let tls = tls.unwrap_or_default();
        if options.sockets.https.is_empty() && !tls.is_empty() {
            let why = "the gateway has no address for TLS (--gateway-tls-listen), so it is served over plain HTTP";
            let problem = Problem::invalid(
                FieldPath::new("spec.tls"),
                format!("{} entries", tls.len()),
                why,
            );
            self.tell(Effect::Served, [problem]);
        }
    }

    /// Tells the Services that are not there; requests for them are answered 500 until they are.
    fn check_services(&mut self, ingress: &Ingress, objects: &Objects) {
        let Some(spec) = &ingress.spec else { return };
        let at = FieldPath::new("spec.rules");
        let rules = spec.rules.iter().flatten().enumerate();
        let mut backends: Vec<(FieldPath, &IngressBackend)> = Vec::new();
        for (index, rule) in rules {
            let at = at.index(index).field("http").field("paths");
            let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
            backends.extend(paths.map(|(index, p)| (at.index(index).field("backend"), &p.backend)));
        }
        let default = spec.default_backend.iter();
        backends.extend(default.map(|backend| (FieldPath::new("spec.defaultBackend"), backend)));
        for (at, backend) in backends {
            let Some(service) = &backend.service else {
                continue;
            };
            let name = ObjectName::new(&self.source.name.namespace, &service.name);
            let Some(found) = objects.services.get(&name) else {
                let at = at.field("service").field("name");
                let why = "there is no such Service";
                self.tell(Effect::Partly, [Problem::invalid(at, &service.name, why)]);
                continue;
            };
            let port = service.port.clone().unwrap_or_default();
            let ports = found.spec.as_ref().and_then(|s| s.ports.as_deref());
            let has = ports.unwrap_or_default().iter().any(|p| {
                port.number == Some(p.port) || (port.name.is_some() && port.name == p.name)
            });
            if !has {
                let at = at.field("service").field("port");
                let wanted = port.name.or(port.number.map(|n| n.to_string()));
                let why = format!("Service {name} has no such port");
                let problem = Problem::invalid(at, wanted.unwrap_or_default(), &why);
                self.tell(Effect::Partly, [problem]);
            }
        }
    }

    fn rules(&mut self, ingress: &Ingress) -> Vec<Rule> {
        let Some(spec) = &ingress.spec else {
            return Vec::new();
        };
        let mut rules = Vec::new();
        let at = FieldPath::new("spec.rules");
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let at = at.index(index);
            let Some(host) = self.host(rule.host.as_deref(), &at.field("host")) else {
                continue;
            };
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            let at = at.field("http").field("paths");
            for (index, path) in paths.enumerate() {
                let at = at.index(index);
                let matched = self.path(path, &at);
                let backend = self.backend(&path.backend, &at.field("backend"));
                if let (Some(matched), Some(backend)) = (matched, backend) {
                    rules.push(self.rule(ingress, &rules, host.clone(), matched, backend));
                }
            }
        }
        if let Some(default) = &spec.default_backend
            && let Some(backend) = self.backend(default, &FieldPath::new("spec.defaultBackend"))
        {
            let all = PathMatch::Prefix(String::new());
            rules.push(self.rule(ingress, &rules, HostMatch::Any, all, backend));
        }
        rules
    }

    fn rule(
        &self,
        ingress: &Ingress,
        before: &[Rule],
        host: HostMatch,
        path: PathMatch,
        backend: Backend,
    ) -> Rule {
        // Room between the rules for those that a canary puts before its main rule.
        let index = before.len().saturating_mul(16).saturating_add(8);
        Rule {
            source: self.source.clone(),
            created: created(&ingress.metadata),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            port: None,
            hosts: vec![host],
            except: Vec::new(),
            matches: vec![RequestMatch::of_path(path)],
            backends: vec![backend],
            headers: HeaderChanges::default(),
            timeout_ms: None,
            try_timeout_ms: None,
            policy: self.policy.clone(),
        }
    }

    fn host(&mut self, host: Option<&str>, at: &FieldPath) -> Option<HostMatch> {
        let Some(host) = host.filter(|h| !h.is_empty()) else {
            return Some(HostMatch::Any);
        };
        match parse_host(host) {
            Some((true, domain)) => Some(HostMatch::OneBelow(domain)),
            Some((false, host)) => Some(HostMatch::Exact(host)),
            None => {
                let why = "must be a host name, without a port, or *.DOMAIN";
                self.refuse(Problem::invalid(at.clone(), host, why));
                None
            }
        }
    }

    fn path(&mut self, path: &HTTPIngressPath, at: &FieldPath) -> Option<PathMatch> {
        let value = path
            .path
            .as_deref()
            .filter(|p| !p.is_empty())
            .unwrap_or("/");
        if !value.starts_with('/') {
            self.refuse(Problem::invalid(
                at.field("path"),
                value,
                "must begin with /",
            ));
            return None;
        }
        match path.path_type.as_str() {
            "Exact" => Some(PathMatch::Exact(value.to_owned())),
            "Prefix" | "ImplementationSpecific" | "" => {
                Some(PathMatch::Prefix(value.trim_end_matches('/').to_owned()))
            }
            other => {
                let known = ["Exact", "Prefix", "ImplementationSpecific"];
                self.refuse(Problem::not_supported(at.field("pathType"), other, &known));
                None
            }
        }
    }

    fn backend(&mut self, backend: &IngressBackend, at: &FieldPath) -> Option<Backend> {
        let Some(service) = &backend.service else {
            self.refuse(Problem::required(at.field("service"), "a Service"));
            return None;
        };
        let port = service.port.as_ref();
        let at = at.field("service").field("port");
        let port = match (
            port.and_then(|p| p.number),
            port.and_then(|p| p.name.clone()),
        ) {
            (Some(number), _) => match u16::try_from(number) {
                Ok(number) => PortRef::Number(number),
                Err(_) => {
                    self.refuse(Problem::invalid(at, number, "must be 1 to 65535"));
                    return None;
                }
            },
            (None, Some(name)) => PortRef::Name(name),
            (None, None) => {
                self.refuse(Problem::required(at, "a number or a name"));
                return None;
            }
        };
        let name = ObjectName::new(&self.source.name.namespace, &service.name);
        Some(Backend::new(name, port, 1))
    }
}

/// A canary Ingress: it takes a part of what the main Ingresses of its namespace have.
struct Claim {
    /// `None`: it is wrong, and what it last did stays.
    canary: Option<Canary>,
    rules: Vec<Rule>,
    source: Source,
}

impl Claim {
    fn new(ingress: &Ingress, canary: Option<Canary>, rules: Vec<Rule>) -> Self {
        Self {
            canary,
            rules,
            source: Source {
                kind: SourceKind::Ingress,
                name: ObjectName::of(ingress),
            },
        }
    }

    fn attach(self, mains: &mut Vec<Rule>, last: &RouteTable, problems: &mut Vec<RouteProblem>) {
        for rule in &self.rules {
            let namespace = &self.source.name.namespace;
            let is_main = |main: &Rule| {
                main.source.name.namespace == *namespace
                    && main.hosts == rule.hosts
                    && main.matches == rule.matches
            };
            let main = mains.iter().position(is_main);
            let wrong = match (main.and_then(|at| mains.get(at).cloned()), &self.canary) {
                (None, _) => {
                    Some("no Ingress of this namespace that is no canary has this host and path")
                }
                (Some(main), _) if main.backends.len() != 1 => {
                    Some("an older canary has this host and path; one is served at a time")
                }
                (Some(main), None) => {
                    replace(mains, &main, last_group(last, &main));
                    None
                }
                (Some(main), Some(canary)) => {
                    if let Some(backend) = rule.backends.first() {
                        replace(mains, &main, canary.split(&main, backend));
                    }
                    None
                }
            };
            if let Some(why) = wrong {
                problems.push(RouteProblem {
                    source: self.source.clone(),
                    effect: Effect::Partly,
                    problem: Problem::warning(FieldPath::new("spec.rules"), why),
                });
            }
        }
    }
}

/// The rules that `main` and its canary last were.
fn last_group(last: &RouteTable, main: &Rule) -> Vec<Rule> {
    let path = main.matches.first().map(|m| &m.path);
    let same = |rule: &&Rule| {
        rule.source == main.source
            && rule.hosts == main.hosts
            && rule.matches.first().map(|m| &m.path) == path
    };
    last.rules.iter().filter(same).cloned().collect()
}

fn replace(mains: &mut Vec<Rule>, main: &Rule, group: Vec<Rule>) {
    if !group.is_empty() {
        mains.retain(|rule| rule != main);
        mains.extend(group);
    }
}
