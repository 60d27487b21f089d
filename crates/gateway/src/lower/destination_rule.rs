//! DestinationRules of Istio: the subsets of Services, and how their instances are treated.

use std::collections::BTreeMap;

use serin_api::Problem;
use serin_api::istio::{
    ClientTls, ConnectionPool, ConsistentHash, DestinationRule, OutlierDetection, TrafficPolicy,
};
use serin_api::problem::FieldPath;

use super::common::millis;
use super::service::server_name;
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, created};
use crate::table::{BackendTls, Ejection, HashKey, Identity, ServicePolicy, Trust};

/// What a DestinationRule says of its Service.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) source: Source,
    service: ObjectName,
    pub(super) generation: i64,
    pub(super) policy: ServicePolicy,
    pub(super) tls: Option<BackendTls>,
    pub(super) subsets: Vec<SubsetDraft>,
    pub(super) refused: Vec<Problem>,
    pub(super) unresolved: Vec<(&'static str, Problem)>,
}

/// The pods of a subset.
#[derive(Debug)]
pub(super) struct SubsetDraft {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) policy: ServicePolicy,
}

/// The Services that DestinationRules name, each with the oldest that is right; and those that lost, with the winner.
#[derive(Debug, Default)]
pub(super) struct Splits {
    pub(super) of: BTreeMap<ObjectName, Split>,
    pub(super) refused: Vec<Split>,
    pub(super) lost: Vec<(Split, Source)>,
}

impl Splits {
    /// How the instances of a Service are spoken to by TLS. Where no rule is right that of a wrong one counts: a mistake in it is no
    /// reason to speak in the clear.
    pub(super) fn tls_of(&self, service: &ObjectName) -> Option<&BackendTls> {
        match self.of.get(service) {
            Some(split) => split.tls.as_ref(),
            None => {
                let mut wrong = self.refused.iter();
                wrong.find_map(|split| split.tls.as_ref().filter(|_| split.service == *service))
            }
        }
    }
}

pub(super) fn lower(objects: &Objects) -> Splits {
    let mut rules: Vec<_> = objects.destination_rules.iter().collect();
    rules.sort_by_key(|(name, rule)| (created(&rule.metadata), (*name).clone()));
    let mut splits = Splits::default();
    for (name, rule) in rules {
        let mut split = one(name, rule);
        if !split.refused.is_empty() {
            splits.refused.push(split);
            continue;
        }
        let service = split.service.clone();
        if !objects.services.contains_key(&service) {
            let at = FieldPath::new("spec.host");
            let why = format!("there is no Service {service}");
            let problem = Problem::invalid(at, &rule.spec.host, &why);
            split.unresolved.push(("BackendNotFound", problem));
        }
        match splits.of.get(&service) {
            Some(older) => splits.lost.push((split, older.source.clone())),
            None => drop(splits.of.insert(service, split)),
        }
    }
    splits
}

/// The Service that a host of Istio names.
pub(super) fn service_of(host: &str, namespace: &str) -> ObjectName {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(".cluster.local").unwrap_or(&host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    match host.split_once('.') {
        Some((name, namespace)) => ObjectName::new(namespace, name),
        None => ObjectName::new(namespace, host),
    }
}

fn one(name: &ObjectName, rule: &DestinationRule) -> Split {
    let mut refused = Vec::new();
    let spec = FieldPath::new("spec");
    if rule.spec.host.is_empty() {
        refused.push(Problem::required(spec.field("host"), "name the Service"));
    }
    let at = spec.field("trafficPolicy");
    let service = service_of(&rule.spec.host, &name.namespace);
    let tls = rule.spec.traffic_policy.as_ref();
    let tls = tls.and_then(|policy| policy.tls.as_ref());
    let tls = tls.and_then(|tls| self::tls(tls, &service, &at.field("tls"), &mut refused));
    let policy = policy(rule.spec.traffic_policy.as_ref(), &at, &mut refused);
    let subsets = rule.spec.subsets.iter().enumerate();
    let subsets = subsets.map(|(index, subset)| {
        let at = spec.field("subsets").index(index);
        if subset.name.is_empty() {
            refused.push(Problem::required(at.field("name"), ""));
        }
        let at = at.field("trafficPolicy");
        SubsetDraft {
            name: subset.name.clone(),
            labels: subset.labels.clone(),
            policy: self::policy(subset.traffic_policy.as_ref(), &at, &mut refused),
        }
    });
    Split {
        service,
        subsets: subsets.collect(),
        source: Source {
            kind: SourceKind::DestinationRule,
            name: name.clone(),
        },
        generation: rule.metadata.generation.unwrap_or_default(),
        policy,
        tls,
        refused,
        unresolved: Vec::new(),
    }
}

fn policy(
    policy: Option<&TrafficPolicy>,
    at: &FieldPath,
    refused: &mut Vec<Problem>,
) -> ServicePolicy {
    let Some(policy) = policy else {
        return ServicePolicy::default();
    };
    let balancer = policy.load_balancer.as_ref();
    let hash = balancer.and_then(|b| b.consistent_hash.as_ref());
    let hash_at = at.field("loadBalancer").field("consistentHash");
    let outliers = policy.outlier_detection.as_ref();
    let pool = policy.connection_pool.as_ref();
    let retries = pool.and_then(|pool| pool.http.as_ref()?.max_retries);
    let connect = pool.and_then(|pool| pool.tcp.as_ref()?.connect_timeout.as_deref());
    let connect_at = at
        .field("connectionPool")
        .field("tcp")
        .field("connectTimeout");
    ServicePolicy {
        affinity: hash.and_then(|hash| affinity(hash, &hash_at, refused)),
        ejection: outliers.and_then(|o| ejection(o, &at.field("outlierDetection"), refused)),
        health: None,
        max_in_flight: pool.and_then(max_in_flight),
        max_retries: retries.and_then(|n| u32::try_from(n).ok()),
        connect_timeout_ms: millis(connect, &connect_at, refused).filter(|ms| *ms > 0),
    }
}

/// Without files it is the system that is trusted, and without names it is that of the Service.
fn tls(
    tls: &ClientTls,
    service: &ObjectName,
    at: &FieldPath,
    refused: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let identity = match tls.mode.as_deref() {
        Some("SIMPLE") => None,
        Some("MUTUAL") => match (&tls.client_certificate, &tls.private_key) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: certificate.into(),
                key: key.into(),
            }),
            _ => {
                let why = "mode MUTUAL needs clientCertificate and privateKey";
                refused.push(Problem::required(at.clone(), why));
                None
            }
        },
        _ => return None,
    };
    let sni = tls.sni.as_ref().filter(|sni| !sni.is_empty()).cloned();
    Some(BackendTls {
        server_name: sni.unwrap_or_else(|| server_name(service)),
        names: tls.subject_alt_names.iter().cloned().collect(),
        trust: match &tls.ca_certificates {
            _ if tls.insecure_skip_verify == Some(true) => Trust::Anybody,
            Some(path) => Trust::File(path.into()),
            None => Trust::System,
        },
        identity,
    })
}

fn affinity(hash: &ConsistentHash, at: &FieldPath, refused: &mut Vec<Problem>) -> Option<HashKey> {
    if let Some(cookie) = &hash.http_cookie {
        let at = at.field("httpCookie");
        let ttl = millis(cookie.ttl.as_deref(), &at.field("ttl"), refused);
        if http::HeaderName::from_bytes(cookie.name.as_bytes()).is_err() {
            let why = "is no name of a cookie";
            refused.push(Problem::invalid(at.field("name"), &cookie.name, why));
        }
        let seconds = ttl.map(|ms| ms / 1000);
        return Some(HashKey::Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl_seconds: seconds.filter(|seconds| *seconds > 0),
            issue: cookie.ttl.is_some(),
        });
    }
    if let Some(name) = &hash.http_header_name {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let why = "is no header name";
            refused.push(Problem::invalid(at.field("httpHeaderName"), name, why));
        }
        return Some(HashKey::Header(name.to_ascii_lowercase()));
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Some(HashKey::Query(name.clone()));
    }
    (hash.use_source_ip == Some(true)).then_some(HashKey::SourceIp)
}

/// With the defaults of Istio.
fn ejection(
    outliers: &OutlierDetection,
    at: &FieldPath,
    refused: &mut Vec<Problem>,
) -> Option<Ejection> {
    let old = outliers
        .consecutive_errors
        .and_then(|n| u32::try_from(n).ok());
    let gateway = outliers.consecutive_gateway_errors.filter(|n| *n > 0);
    let (failures, gateway_errors_only) = match (outliers.consecutive_5xx_errors.or(old), gateway) {
        (None | Some(0), Some(gateway)) => (gateway, true),
        (Some(0), None) => return None,
        (failures, _) => (failures.unwrap_or(5), false),
    };
    let base = outliers.base_ejection_time.as_deref();
    let percent = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).map(|n| n.min(100));
    Some(Ejection {
        failures,
        gateway_errors_only,
        base_ms: millis(base, &at.field("baseEjectionTime"), refused).unwrap_or(30_000),
        max_percent: percent(outliers.max_ejection_percent).unwrap_or(10),
        min_healthy_percent: percent(outliers.min_health_percent).unwrap_or(0),
    })
}

/// A request over HTTP/1.1 has a connection of its own, so connections and requests at once are one bound.
fn max_in_flight(pool: &ConnectionPool) -> Option<u32> {
    let positive = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
    let http = pool.http.as_ref();
    let connections = pool.tcp.as_ref().and_then(|tcp| tcp.max_connections);
    let pending = http.and_then(|http| http.http1_max_pending_requests);
    let connections = connections.and_then(positive);
    let connections =
        connections.map(|n| n.saturating_add(pending.and_then(positive).unwrap_or(0)));
    let requests = http
        .and_then(|http| http.http2_max_requests)
        .and_then(positive);
    connections.into_iter().chain(requests).min()
}
