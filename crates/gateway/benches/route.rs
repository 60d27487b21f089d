//! What it costs to find a rule and to pick an endpoint, with 10 and with 10,000 routes.

use divan::Bencher;
use http::HeaderMap;
use serin_gateway::live::{live_for_bench, route_once};
use serin_gateway::names::{ObjectName, Source, SourceKind};
use serin_gateway::table::{
    Backend, EndpointEntry, HeaderChanges, HostMatch, PathMatch, PortEntry, PortRef, Protocol,
    RequestMatch, RouteTable, Rule, RulePolicy, ServiceEntry,
};

fn main() {
    divan::main();
}

fn table(routes: u32) -> RouteTable {
    let mut table = RouteTable::default();
    let service = ObjectName::new("default", "web");
    let endpoints = (1..=3).map(|n| EndpointEntry {
        address: ([127, 0, 0, n], 8080).into(),
        instance: format!("pod-{n}"),
        revision: "v1".into(),
        subsets: Vec::new(),
    });
    let port = PortEntry {
        name: String::new(),
        port: 80,
        protocol: Protocol::Http1,
        tls: None,
        endpoints: endpoints.collect(),
    };
    let entry = ServiceEntry {
        ports: vec![port],
        ..ServiceEntry::default()
    };
    table.services.insert(service.clone(), entry);
    table.rules.extend((0..routes).map(|n| Rule {
        source: Source {
            kind: SourceKind::HttpRoute,
            name: ObjectName::new("default", format!("route-{n}")),
        },
        created: "2026-01-01T00:00:00Z".parse().unwrap_or_default(),
        index: 0,
        port: None,
        hosts: vec![HostMatch::Exact(format!("host-{}.example.com", n % 100))],
        except: Vec::new(),
        matches: vec![RequestMatch::of_path(PathMatch::Prefix(format!(
            "/api/{n}"
        )))],
        backends: vec![Backend::new(service.clone(), PortRef::Number(80), 1)],
        headers: HeaderChanges::default(),
        timeout_ms: None,
        try_timeout_ms: None,
        policy: RulePolicy::default(),
    }));
    table
}

#[divan::bench(args = [10, 10_000])]
fn find_and_pick(bencher: Bencher<'_, '_>, routes: u32) {
    let live = live_for_bench(table(routes));
    let headers = HeaderMap::new();
    bencher.bench(|| route_once(&live, "host-7.example.com", "/api/7/items/42", &headers));
}
