//! From the rules of a table to what the proxy asks.

use std::sync::Arc;
use std::time::Duration;

use serin_api::traffic::SeriesKey;

use super::extras::{CompiledHeaders, Extras, LiveDirect, LiveMirror, LiveRewrite};
use super::pick::{LiveBackend, LiveEndpoint, LiveRule, Outliers};
use super::shares::Shares;
use super::user::UserKey;
use super::{Lasting, hash};
use crate::names::{ObjectName, Source, SourceKind};
use crate::table::{
    Backend, HeaderChanges, Mirror, PortEntry, PortRef, RouteTable, Rule, RulePolicy, ServiceEntry,
    ServicePolicy,
};

pub(super) fn rule(rule: &Rule, table: &RouteTable, lasting: &mut Lasting) -> LiveRule {
    let with_share = || rule.backends.iter().filter(|b| b.weight > 0);
    let route = rule.source.to_string();
    let mut backends = Vec::new();
    let mut weights = Vec::new();
    for one in with_share() {
        if let Some(live) = backend(one, &route, table, lasting) {
            backends.push(live);
            weights.push(one.weight);
        }
    }
    let first = with_share().next().map(|b| b.service.to_string());
    let unreached = SeriesKey {
        route,
        service: first.unwrap_or_default(),
        revision: String::new(),
    };
    let extras = extras(rule, table, lasting);
    let sticky = extras.as_ref().and_then(|e| e.sticky.as_ref());
    let affinities = backends.iter().filter_map(|b| b.affinity.as_ref());
    let makes_users = sticky.into_iter().chain(affinities).any(UserKey::issues);
    LiveRule {
        makes_users,
        backends,
        shares: Shares::new(&weights),
        turn: lasting.turns.of(format!("{}#{}", rule.source, rule.index)),
        unreached: lasting.registry.series(unreached),
        has_service: with_share().any(|b| port_of(b, table).is_some()),
        headers: CompiledHeaders::new(&rule.headers),
        answer_headers: Arc::new(CompiledHeaders::new(&rule.policy.answer_headers)),
        timeout_ms: rule.timeout_ms,
        try_timeout_ms: rule.try_timeout_ms,
        extras: extras.map(Arc::new),
    }
}

fn extras(rule: &Rule, table: &RouteTable, lasting: &mut Lasting) -> Option<Extras> {
    let policy = &rule.policy;
    let plain = RulePolicy {
        answer_headers: policy.answer_headers.clone(),
        ..RulePolicy::default()
    };
    if *policy == plain {
        return None;
    }
    let limits = &policy.limits;
    let mirrors = policy.mirrors.iter();
    Some(Extras {
        direct: policy.direct.as_ref().and_then(LiveDirect::new),
        rewrite: policy.rewrite.as_ref().map(LiveRewrite::new),
        mirrors: mirrors
            .filter_map(|m| mirror(m, &rule.source, table, lasting))
            .collect(),
        retry: policy.retry.clone().map(Arc::new),
        fault: policy.fault.clone(),
        sticky: policy.sticky.as_ref().and_then(UserKey::new),
        limits: (!limits.is_empty()).then(|| lasting.limits.of_route(&rule.source, limits)),
    })
}

/// Copies are counted under a route of their own, so that they never count as requests of users.
fn mirror(
    mirror: &Mirror,
    source: &Source,
    table: &RouteTable,
    lasting: &mut Lasting,
) -> Option<LiveMirror> {
    let to = Backend {
        subset: mirror.subset.clone(),
        ..Backend::new(mirror.service.clone(), mirror.port.clone(), 1)
    };
    let route = format!("mirror/{source}");
    Some(LiveMirror {
        backend: backend(&to, &route, table, lasting).filter(|b| b.is_valid)?,
        per_million: mirror.per_million,
    })
}

fn port_of<'a>(backend: &Backend, table: &'a RouteTable) -> Option<&'a PortEntry> {
    let service = table.services.get(&backend.service)?;
    let subset = backend.subset.as_ref();
    let has_subset = subset.is_none_or(|subset| service.subsets.contains_key(subset));
    service.port(&backend.port).filter(|_| has_subset)
}

/// What holds for a backend: what its subset says, and what the Service says where the subset is silent.
fn policy_of(backend: &Backend, table: &RouteTable) -> ServicePolicy {
    let Some(service) = table.services.get(&backend.service) else {
        return ServicePolicy::default();
    };
    let subset = backend.subset.as_ref();
    let own = subset.and_then(|subset| service.subsets.get(subset));
    let own = own.cloned().unwrap_or_default();
    own.over(service.policy.clone())
}

/// `None` when the backend has no endpoint.
fn backend(
    backend: &Backend,
    route: &str,
    table: &RouteTable,
    lasting: &mut Lasting,
) -> Option<LiveBackend> {
    let service = backend.service.to_string();
    let name = match &backend.subset {
        None => service.clone(),
        Some(subset) => format!("{service}/{subset}"),
    };
    let port = port_of(backend, table);
    let policy = policy_of(backend, table);
    let subset = backend.subset.as_ref();
    let entries = port
        .into_iter()
        .flat_map(|port| port.endpoints.iter().map(move |entry| (port, entry)));
    let entries = entries.filter(|(_, e)| subset.is_none_or(|subset| e.subsets.contains(subset)));
    let endpoints: Vec<_> = entries
        .map(|(port, entry)| LiveEndpoint {
            endpoint: lasting.instances.endpoint(entry, port),
            series: lasting.registry.series(SeriesKey {
                route: route.to_owned(),
                service: service.clone(),
                revision: entry.revision.clone(),
            }),
            salt: hash::salt(&entry.instance),
        })
        .collect();
    if port.is_some() && endpoints.is_empty() {
        return None;
    }
    let most = policy.max_in_flight;
    Some(LiveBackend {
        outliers: Outliers::new(&policy, &endpoints),
        endpoints,
        turn: lasting
            .turns
            .of(format!("{name}:{}", port.map_or(0, |port| port.port))),
        headers: CompiledHeaders::new(&backend.headers),
        answer_headers: Arc::new(CompiledHeaders::new(&backend.answer_headers)),
        weight: backend.weight,
        salt: hash::salt(&name),
        affinity: policy.affinity.as_ref().and_then(UserKey::new),
        in_flight: most.map(|most| (lasting.limits.of_service(&name), most as usize)),
        retries: policy.max_retries.map(|most| {
            let count = lasting.limits.of_service(&format!("{name} again"));
            (count, most as usize)
        }),
        connect_timeout: policy.connect_timeout_ms.map(Duration::from_millis),
        is_valid: port.is_some(),
    })
}

/// One rule for each port of a Service, for requests to its own host name.
pub(super) fn service(
    name: &ObjectName,
    entry: &ServiceEntry,
    table: &RouteTable,
    lasting: &mut Lasting,
) -> Vec<(u16, LiveRule)> {
    let of_port = |port: &PortEntry| Rule {
        source: Source {
            kind: SourceKind::Service,
            name: name.clone(),
        },
        created: jiff::Timestamp::MIN,
        index: u32::from(port.port),
        port: None,
        hosts: Vec::new(),
        except: Vec::new(),
        matches: Vec::new(),
        backends: vec![Backend::new(name.clone(), PortRef::Number(port.port), 1)],
        headers: HeaderChanges::default(),
        timeout_ms: None,
        try_timeout_ms: None,
        policy: RulePolicy::default(),
    };
    let ports = entry.ports.iter();
    ports
        .map(|port| (port.port, rule(&of_port(port), table, lasting)))
        .collect()
}
