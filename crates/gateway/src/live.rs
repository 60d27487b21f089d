//! The route table made fit for requests: an index to find the rule, a turn to pick the backend, the shared state of the
//! endpoints. One immutable value; the next table shares what lasts with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fnv::FnvHashMap;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serin_api::traffic::SeriesKey;

use crate::instances::{Endpoint, InFlight, Instances};
use crate::names::{ObjectName, Source, SourceKind};
use crate::series::{Registry, Series};
use crate::table::{Backend, HeaderChanges, PortEntry, PortRef, RouteTable, Rule, ServiceEntry};

mod index;
mod shares;

use index::Index;
pub(crate) use index::RequestView;
use shares::Shares;

/// What the workers route by.
#[derive(Debug)]
pub struct LiveTable {
    /// Counts the swaps, from 1; 0 is the empty table of the start.
    pub(crate) generation: u64,
    /// What it was made of.
    pub(crate) table: Arc<RouteTable>,
    index: Index,
    rules: Vec<LiveRule>,
    /// The ports of each Service by its shortest host name, `NAME.NAMESPACE`.
    services: FnvHashMap<String, Vec<(u16, LiveRule)>>,
}

/// Where a rule sends requests.
#[derive(Debug)]
pub(crate) struct LiveRule {
    /// The backends with a share above 0 and at least one endpoint.
    backends: Vec<LiveBackend>,
    shares: Shares,
    turn: Arc<AtomicU32>,
    /// Counts what reaches no instance.
    pub(crate) unreached: Arc<Series>,
    /// Whether any backend with a share names a Service that is there. If not, nothing is worth waiting for.
    pub(crate) has_service: bool,
    pub(crate) headers: CompiledHeaders,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) try_timeout_ms: Option<u64>,
}

#[derive(Debug)]
struct LiveBackend {
    endpoints: Vec<LiveEndpoint>,
    turn: Arc<AtomicU32>,
    headers: CompiledHeaders,
}

#[derive(Debug)]
struct LiveEndpoint {
    endpoint: Arc<Endpoint>,
    series: Arc<Series>,
}

/// An endpoint that was chosen, with its request counted.
pub(crate) struct Picked<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) series: &'a Arc<Series>,
    /// The changes that the backend asks for, beside those of the rule.
    pub(crate) headers: &'a CompiledHeaders,
    pub(crate) in_flight: InFlight,
}

/// Why none was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// No backend with a share has an endpoint.
    NoneReady,
    /// No rule has the request, but the API has not been read since the start.
    NotRead,
    /// Every endpoint was tried, or has been closed since this table was made.
    AllTried,
}

/// The turns that last from table to table, so that a swap never starts a split anew.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: HashMap<String, Arc<AtomicU32>>,
}

impl Turns {
    fn of(&mut self, what: String) -> Arc<AtomicU32> {
        Arc::clone(self.turns.entry(what).or_default())
    }

    fn forget_unused(&mut self) {
        self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}

/// What outlives a table.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) instances: Instances,
    pub(crate) turns: Turns,
    pub(crate) registry: Arc<Registry>,
}

impl LiveTable {
    /// The table of the start, with no route.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 0,
            table: Arc::default(),
            index: Index::default(),
            rules: Vec::new(),
            services: FnvHashMap::default(),
        }
    }

    /// Makes `table` fit for requests.
    pub(crate) fn build(table: Arc<RouteTable>, generation: u64, lasting: &mut Lasting) -> Self {
        let index = Index::build(&table.rules);
        let rules = table
            .rules
            .iter()
            .map(|rule| live_rule(rule, &table, lasting));
        let rules = rules.collect();
        let mut services = FnvHashMap::default();
        for (name, entry) in &table.services {
            let host = format!("{}.{}", name.name, name.namespace).to_ascii_lowercase();
            services.insert(host, live_service(name, entry, &table, lasting));
        }
        lasting.turns.forget_unused();
        Self {
            generation,
            table,
            index,
            rules,
            services,
        }
    }

    /// The rule for a request: the most specific one of an HTTPRoute or Ingress for its host, then the Service that its
    /// host names, then a rule for every host.
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<&LiveRule> {
        let rule = |index: usize| self.rules.get(index);
        self.index
            .by_host(request)
            .and_then(rule)
            .or_else(|| self.service(request))
            .or_else(|| self.index.for_every_host(request).and_then(rule))
    }

    fn service(&self, request: &RequestView<'_>) -> Option<&LiveRule> {
        let host = request.host;
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let host = host.strip_suffix(".svc").unwrap_or(host);
        let ports = self.services.get(host)?;
        let named = ports.iter().find(|(port, _)| Some(*port) == request.port);
        named.or_else(|| ports.first()).map(|(_, rule)| rule)
    }

    /// The ids of all endpoints that requests may go to.
    pub(crate) fn endpoint_ids(&self) -> fnv::FnvHashSet<u64> {
        let of_services = self.services.values().flatten().map(|(_, rule)| rule);
        let rules = self.rules.iter().chain(of_services);
        let endpoints = rules.flat_map(|r| &r.backends).flat_map(|b| &b.endpoints);
        endpoints.map(|e| e.endpoint.id).collect()
    }
}

impl LiveRule {
    /// The next number of this rule: it decides the backend. Taken once for a request, however often it is tried.
    pub(crate) fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Chooses an endpoint that is not in `tried` and counts the request on it: first of the backend whose turn it is,
    /// then of the others with a share.
    pub(crate) fn pick(&self, turn: u32, tried: &[u64], now_ms: u64) -> Result<Picked<'_>, NoPick> {
        let Some(first) = self.shares.at(turn) else {
            return Err(NoPick::NoneReady);
        };
        let count = self.backends.len();
        let order = (0..count).map(|offset| (first + offset) % count);
        order
            .filter_map(|at| self.backends.get(at))
            .find_map(|backend| backend.pick(tried, now_ms))
            .ok_or(NoPick::AllTried)
    }
}

impl LiveBackend {
    /// Of up to eight endpoints from a moving start, the one with the fewest requests in flight; those that could not be
    /// reached a moment ago come last.
    fn pick(&self, tried: &[u64], now_ms: u64) -> Option<Picked<'_>> {
        let count = self.endpoints.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let from_start = || (0..count).map(|offset| start.wrapping_add(offset) % count);
        let open = || {
            let all = from_start().filter_map(|at| self.endpoints.get(at));
            all.filter(|e| !tried.contains(&e.endpoint.id))
        };
        let load = |e: &&LiveEndpoint| {
            let is_suspect = e.endpoint.suspect_until.load(Ordering::Relaxed) > now_ms;
            (is_suspect, e.endpoint.instance.in_flight())
        };
        let best = open().take(8).min_by_key(load);
        // The best may have been closed since this table was made: then any other that is open will do.
        best.into_iter().chain(open()).find_map(|e| {
            Some(Picked {
                in_flight: e.endpoint.instance.enter()?,
                endpoint: &e.endpoint,
                series: &e.series,
                headers: &self.headers,
            })
        })
    }
}

fn live_rule(rule: &Rule, table: &RouteTable, lasting: &mut Lasting) -> LiveRule {
    let with_share = || rule.backends.iter().filter(|b| b.weight > 0);
    let mut backends = Vec::new();
    let mut weights = Vec::new();
    for backend in with_share() {
        if let Some(live) = live_backend(backend, rule, table, lasting) {
            backends.push(live);
            weights.push(backend.weight);
        }
    }
    let first = with_share().next().map(|b| b.service.to_string());
    let unreached = SeriesKey {
        route: rule.source.to_string(),
        service: first.unwrap_or_default(),
        revision: String::new(),
    };
    LiveRule {
        backends,
        shares: Shares::new(&weights),
        turn: lasting.turns.of(format!("{}#{}", rule.source, rule.index)),
        unreached: lasting.registry.series(unreached),
        has_service: with_share().any(|b| port_of(b, table).is_some()),
        headers: CompiledHeaders::new(&rule.headers),
        timeout_ms: rule.timeout_ms,
        try_timeout_ms: rule.try_timeout_ms,
    }
}

fn port_of<'a>(backend: &Backend, table: &'a RouteTable) -> Option<&'a PortEntry> {
    table.services.get(&backend.service)?.port(&backend.port)
}

/// `None` when the backend has no endpoint.
fn live_backend(
    backend: &Backend,
    rule: &Rule,
    table: &RouteTable,
    lasting: &mut Lasting,
) -> Option<LiveBackend> {
    let port = port_of(backend, table)?;
    let service = backend.service.to_string();
    let route = rule.source.to_string();
    let endpoints: Vec<_> = port
        .endpoints
        .iter()
        .map(|entry| LiveEndpoint {
            endpoint: lasting.instances.endpoint(entry, port.protocol),
            series: lasting.registry.series(SeriesKey {
                route: route.clone(),
                service: service.clone(),
                revision: entry.revision.clone(),
            }),
        })
        .collect();
    (!endpoints.is_empty()).then(|| LiveBackend {
        endpoints,
        turn: lasting.turns.of(format!("{service}:{}", port.port)),
        headers: CompiledHeaders::new(&backend.headers),
    })
}

/// One rule for each port of a Service, for requests to its own host name.
fn live_service(
    name: &ObjectName,
    entry: &ServiceEntry,
    table: &RouteTable,
    lasting: &mut Lasting,
) -> Vec<(u16, LiveRule)> {
    let rule = |port: &PortEntry| Rule {
        source: Source {
            kind: SourceKind::Service,
            name: name.clone(),
        },
        created: jiff::Timestamp::MIN,
        index: u32::from(port.port),
        hosts: Vec::new(),
        matches: Vec::new(),
        backends: vec![Backend {
            service: name.clone(),
            port: PortRef::Number(port.port),
            weight: 1,
            headers: HeaderChanges::default(),
        }],
        headers: HeaderChanges::default(),
        timeout_ms: None,
        try_timeout_ms: None,
    };
    let ports = entry.ports.iter();
    ports
        .map(|port| (port.port, live_rule(&rule(port), table, lasting)))
        .collect()
}

/// Changes to headers in the types of the proxy. What is no header, as in a file that was changed by hand, is left out.
#[derive(Debug, Default)]
pub(crate) struct CompiledHeaders {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl CompiledHeaders {
    fn new(changes: &HeaderChanges) -> Self {
        let pairs = |pairs: &[(String, String)]| {
            let pair = |(name, value): &(String, String)| {
                Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
            };
            pairs.iter().filter_map(pair).collect()
        };
        let remove = changes.remove.iter().filter_map(|name| name.parse().ok());
        Self {
            set: pairs(&changes.set),
            add: pairs(&changes.add),
            remove: remove.collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// For the bench: finds the rule for a request and picks from it; the address that was picked.
#[doc(hidden)]
pub fn route_once(
    table: &LiveTable,
    host: &str,
    path: &str,
    headers: &HeaderMap,
) -> Option<std::net::SocketAddr> {
    let rule = table.find(&RequestView {
        host,
        port: None,
        path,
        query: "",
        method: &Method::GET,
        headers,
    })?;
    let picked = rule.pick(rule.next_turn(), &[], 0).ok()?;
    Some(picked.endpoint.address)
}

/// For the bench: a live table with nothing behind it.
#[doc(hidden)]
pub fn live_for_bench(table: RouteTable) -> LiveTable {
    let mut lasting = Lasting {
        instances: Instances::new(Arc::default()),
        turns: Turns::default(),
        registry: Arc::default(),
    };
    LiveTable::build(Arc::new(table), 1, &mut lasting)
}

#[cfg(test)]
mod tests;
