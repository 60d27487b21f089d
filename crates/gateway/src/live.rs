//! The route table made fit for requests: an index to find the rule, a turn to pick the backend, the shared state of the
//! endpoints. One immutable value; the next table shares what lasts with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use fnv::FnvHashMap;
use http::{HeaderMap, Method};

use crate::instances::Instances;
use crate::names::Source;
use crate::series::Registry;
use crate::table::{Limits, RouteTable};

mod build;
mod extras;
mod hash;
mod index;
mod limits;
mod pick;
mod shares;
mod user;

pub(crate) use extras::{CompiledHeaders, Extras, LiveDirect, LiveMirror, draw_fault};
use index::Index;
pub(crate) use index::{Hit, RequestView};
use limits::LiveLimits;
pub(crate) use limits::{Permit, Refusal};
pub(crate) use pick::{Ask, LiveRule, NoPick, Outliers, Picked};
pub(crate) use user::{UserKey, draw, wins};

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

/// The limits that last from table to table, each for as long as its settings stay.
#[derive(Debug, Default)]
pub(crate) struct LastingLimits {
    routes: HashMap<String, (Limits, Arc<LiveLimits>)>,
    services: HashMap<String, Arc<AtomicUsize>>,
}

impl LastingLimits {
    fn of_route(&mut self, route: &Source, limits: &Limits) -> Arc<LiveLimits> {
        let known = self.routes.get(&route.to_string());
        if let Some((_, live)) = known.filter(|(settings, _)| settings == limits) {
            return Arc::clone(live);
        }
        let live = Arc::new(LiveLimits::new(limits));
        let entry = (limits.clone(), Arc::clone(&live));
        self.routes.insert(route.to_string(), entry);
        live
    }

    fn of_service(&mut self, service: &str) -> Arc<AtomicUsize> {
        Arc::clone(self.services.entry(service.to_owned()).or_default())
    }

    fn forget_unused(&mut self) {
        self.routes
            .retain(|_, (_, live)| Arc::strong_count(live) > 1);
        self.services
            .retain(|_, count| Arc::strong_count(count) > 1);
    }
}

/// What outlives a table.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) instances: Instances,
    pub(crate) turns: Turns,
    pub(crate) limits: LastingLimits,
    pub(crate) registry: Arc<Registry>,
}

/// The user that an id of ours names.
pub(crate) fn user_of(id: &str) -> u64 {
    hash::fnv1a(id.as_bytes())
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
            .map(|rule| build::rule(rule, &table, lasting));
        let rules = rules.collect();
        let mut services = FnvHashMap::default();
        for (name, entry) in &table.services {
            let host = format!("{}.{}", name.name, name.namespace).to_ascii_lowercase();
            services.insert(host, build::service(name, entry, &table, lasting));
        }
        lasting.turns.forget_unused();
        lasting.limits.forget_unused();
        Self {
            generation,
            table,
            index,
            rules,
            services,
        }
    }

    /// The rule for a request: the most specific one of an HTTPRoute or Ingress for its host, then the Service that its
    /// host names, then a rule for every host. With it, how many bytes the prefix has that matched.
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<(&LiveRule, Option<usize>)> {
        let rule = |hit: Hit| Some((self.rules.get(hit.rule)?, hit.prefix));
        self.index
            .by_host(request)
            .and_then(rule)
            .or_else(|| Some((self.service(request)?, None)))
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
        rules.flat_map(LiveRule::endpoint_ids).collect()
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
    let request = RequestView {
        host,
        port: None,
        path,
        query: "",
        method: &Method::GET,
        headers,
        scheme: "http",
        client: "127.0.0.1",
        listener: 0,
    };
    let (rule, _) = table.find(&request)?;
    let ask = Ask {
        turn: rule.next_turn(),
        tried: &[],
        now_ms: 0,
        request: &request,
        user: None,
        fresh: None,
    };
    Some(rule.pick(&ask).ok()?.endpoint.address)
}

/// For the bench: a live table with nothing behind it.
#[doc(hidden)]
pub fn live_for_bench(table: RouteTable) -> LiveTable {
    let mut lasting = Lasting {
        instances: Instances::new(Arc::default()),
        turns: Turns::default(),
        limits: LastingLimits::default(),
        registry: Arc::default(),
    };
    LiveTable::build(Arc::new(table), 1, &mut lasting)
}

#[cfg(test)]
mod tests;
