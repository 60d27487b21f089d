//! Tables of cases: a request in, the Service that it goes to out.

use http::HeaderValue;

use super::*;
use crate::lower::{LowerOptions, lower};
use crate::testing::objects;

/// One Service for each name, with one endpoint that has its number as the last byte of its address.
fn live(routes: &str, services: &[&str]) -> (LiveTable, Vec<String>) {
    let mut manifests = routes.to_owned();
    for (number, name) in (1..).zip(services) {
        manifests.push_str(&format!(
            "---\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80, name: http}}, {{port: 81, name: alt}}]}}\n---\nkind: EndpointSlice\nmetadata: {{name: {name}-s, labels: {{kubernetes.io/service-name: {name}, serin.dev/revision: v1}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}, {{name: alt, port: 8081}}]\nendpoints: [{{addresses: [127.0.0.{number}]}}]\n"
        ));
    }
    let objects = objects(manifests.trim_start_matches("---\n"));
    let lowered = lower(&objects, &RouteTable::default(), &LowerOptions::default());
    assert_eq!(lowered.problems, []);
    let names = services.iter().map(|s| (*s).to_owned()).collect();
    (live_for_bench(lowered.table), names)
}

struct Ask<'a> {
    host: &'a str,
    port: Option<u16>,
    target: &'a str,
    method: Method,
    headers: &'a [(&'static str, &'static str)],
}

impl<'a> Ask<'a> {
    fn get(host: &'a str, target: &'a str) -> Self {
        Self {
            host,
            port: None,
            target,
            method: Method::GET,
            headers: &[],
        }
    }
}

fn pick_at<'a>(request: &'a RequestView<'a>, turn: u32, tried: &'a [u64]) -> super::Ask<'a> {
    super::Ask {
        turn,
        tried,
        now_ms: 0,
        request,
        user: None,
        fresh: None,
    }
}

/// `NAME:PORT` of the endpoint, `none` without a route.
fn asked((live, names): &(LiveTable, Vec<String>), ask: &Ask<'_>) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in ask.headers {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let (path, query) = ask.target.split_once('?').unwrap_or((ask.target, ""));
    let request = RequestView {
        host: ask.host,
        port: ask.port,
        path,
        query,
        method: &ask.method,
        headers: &headers,
        scheme: "http",
        client: "127.0.0.1",
        listener: 0,
    };
    let Some((rule, _)) = live.find(&request) else {
        return "none".into();
    };
    let Ok(picked) = rule.pick(&pick_at(&request, rule.next_turn(), &[])) else {
        return "nobody".into();
    };
    let std::net::IpAddr::V4(ip) = picked.endpoint.address.ip() else {
        panic!("all addresses are IPv4");
    };
    let name = &names[usize::from(ip.octets()[3]) - 1];
    format!("{name}:{}", picked.endpoint.address.port())
}

const PRECEDENCE: &str = r#"
kind: HTTPRoute
metadata: {name: web}
spec:
  hostnames: [app.example.com]
  rules:
  - {backendRefs: [{name: root, port: 80}]}
  - {matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}
  - {matches: [{path: {value: /a/b}}], backendRefs: [{name: ab, port: 80}]}
  - {matches: [{path: {type: Exact, value: /a/b}}], backendRefs: [{name: exact, port: 80}]}
  - {matches: [{path: {type: RegularExpression, value: "/img/.*[.]png"}}], backendRefs: [{name: regex, port: 80}]}
  - {matches: [{path: {value: /a}, method: POST}], backendRefs: [{name: post, port: 80}]}
  - {matches: [{path: {value: /a}, headers: [{name: X-One, value: "1"}]}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /a}, headers: [{name: X-One, value: "1"}, {name: x-two, value: "2"}]}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /a}, queryParams: [{name: q, value: "x y"}]}], backendRefs: [{name: query, port: 80}]}
---
kind: HTTPRoute
metadata: {name: wild}
spec: {hostnames: ["*.example.com"], rules: [{backendRefs: [{name: wild, port: 80}]}]}
---
kind: HTTPRoute
metadata: {name: rest}
spec: {rules: [{matches: [{path: {value: /rest}}], backendRefs: [{name: rest, port: 80}]}]}
"#;

#[test]
fn the_most_specific_claim_wins() {
    let live = live(
        PRECEDENCE,
        &[
            "root", "a", "ab", "exact", "regex", "post", "one", "two", "query", "wild", "rest",
        ],
    );
    let app = |target| asked(&live, &Ask::get("app.example.com", target));
    assert_eq!(app("/"), "root:8080");
    assert_eq!(app("/ab"), "root:8080");
    assert_eq!(app("/a"), "a:8080");
    assert_eq!(app("/a/"), "a:8080");
    assert_eq!(app("/a/c?x=1"), "a:8080");
    assert_eq!(app("/a/b"), "exact:8080");
    assert_eq!(app("/a/b/"), "ab:8080");
    assert_eq!(app("/a/bc"), "a:8080");
    assert_eq!(app("/img/x.png"), "regex:8080");
    assert_eq!(app("/img/x.jpg"), "root:8080");
    assert_eq!(app("/a?q=x%20y"), "query:8080");
    let with = |method, headers| {
        asked(
            &live,
            &Ask {
                method,
                headers,
                ..Ask::get("app.example.com", "/a")
            },
        )
    };
    assert_eq!(with(Method::POST, &[]), "post:8080");
    assert_eq!(with(Method::POST, &[("x-one", "1")]), "post:8080");
    assert_eq!(with(Method::GET, &[("x-one", "1")]), "one:8080");
    assert_eq!(
        with(Method::GET, &[("x-one", "1"), ("x-two", "2")]),
        "two:8080"
    );
    assert_eq!(with(Method::GET, &[("x-one", "2")]), "a:8080");
    let host = |host, target| asked(&live, &Ask::get(host, target));
    assert_eq!(host("b.example.com", "/"), "wild:8080");
    assert_eq!(host("c.b.example.com", "/"), "wild:8080");
    assert_eq!(host("example.com", "/"), "none");
    assert_eq!(host("example.com", "/rest/x"), "rest:8080");
    assert_eq!(host("app.example.com", "*"), "none");
}

#[test]
fn every_service_has_its_own_host() {
    let live = live("", &["web"]);
    let host = |host, port| {
        asked(
            &live,
            &Ask {
                port,
                ..Ask::get(host, "/")
            },
        )
    };
    assert_eq!(host("web.default", None), "web:8080");
    assert_eq!(host("web.default.svc", Some(80)), "web:8080");
    assert_eq!(host("web.default.svc.cluster.local", Some(81)), "web:8081");
    assert_eq!(host("web.default", Some(12345)), "web:8080");
    assert_eq!(host("web.other", None), "none");
    assert_eq!(host("web", None), "none");
}

#[test]
fn a_share_of_nothing_gets_not_one_request() {
    let routes = "kind: HTTPRoute\nmetadata: {name: web}\nspec: {rules: [{backendRefs: [{name: a, port: 80, weight: 100}, {name: b, port: 80, weight: 0}]}]}\n";
    let live = live(routes, &["a", "b"]);
    for _ in 0..1000 {
        assert_eq!(asked(&live, &Ask::get("x", "/")), "a:8080");
    }
}

#[test]
fn a_backend_without_endpoints_leaves_its_share_to_the_others() {
    let routes = "kind: HTTPRoute\nmetadata: {name: web}\nspec: {rules: [{backendRefs: [{name: empty, port: 80, weight: 90}, {name: b, port: 80, weight: 10}]}, {matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}, {name: b, port: 80, weight: 0}]}]}\n---\nkind: Service\nmetadata: {name: empty}\nspec: {ports: [{port: 80}]}\n";
    let live = live(routes, &["b"]);
    assert_eq!(asked(&live, &Ask::get("x", "/")), "b:8080");
    assert_eq!(asked(&live, &Ask::get("x", "/empty")), "nobody");
}

#[test]
fn the_turn_lasts_over_tables() {
    let manifests = "kind: HTTPRoute\nmetadata: {name: web}\nspec: {rules: [{backendRefs: [{name: a, port: 80, weight: 95}, {name: b, port: 80, weight: 5}]}]}\n";
    let (live, names) = live(manifests, &["a", "b"]);
    let mut lasting = Lasting {
        instances: Instances::new(Arc::default()),
        turns: Turns::default(),
        limits: LastingLimits::default(),
        registry: Arc::default(),
    };
    let mut canary = 0;
    let mut tables = Vec::new();
    for generation in 0..1000 {
        let next = LiveTable::build(Arc::clone(&live.table), generation, &mut lasting);
        let pair = (next, names.clone());
        canary += usize::from(asked(&pair, &Ask::get("x", "/")) == "b:8080");
        tables = vec![pair];
    }
    drop(tables);
    assert_eq!(canary, 50);
}

#[test]
fn the_endpoint_with_the_fewest_requests_is_chosen_and_a_tried_or_closed_one_never() {
    let routes = "kind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n---\nkind: EndpointSlice\nmetadata: {name: web-s, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}, {addresses: [127.0.0.3]}]\n";
    let lowered = lower(
        &objects(routes),
        &RouteTable::default(),
        &LowerOptions::default(),
    );
    let mut lasting = Lasting {
        instances: Instances::new(Arc::default()),
        turns: Turns::default(),
        limits: LastingLimits::default(),
        registry: Arc::default(),
    };
    let live = LiveTable::build(Arc::new(lowered.table), 1, &mut lasting);
    let headers = HeaderMap::new();
    let request = RequestView {
        host: "web.default",
        port: None,
        path: "/",
        query: "",
        method: &Method::GET,
        headers: &headers,
        scheme: "http",
        client: "127.0.0.1",
        listener: 0,
    };
    let (rule, _) = live.find(&request).unwrap();
    let pick = |tried: &[u64]| {
        let picked = rule.pick(&pick_at(&request, 0, tried));
        picked.map(|p| (p.endpoint.id, p.in_flight))
    };
    let held: Vec<_> = (0..3).map(|_| pick(&[]).unwrap()).collect();
    let mut ids: Vec<_> = held.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2]);
    drop(held);
    assert_eq!(pick(&[0, 2]).map(|(id, _)| id).ok(), Some(1));
    assert_eq!(
        pick(&[0, 1, 2]).map(|(id, _)| id).err(),
        Some(NoPick::AllTried)
    );
    lasting.instances.close_others(&RouteTable::default());
    assert_eq!(pick(&[]).map(|(id, _)| id).err(), Some(NoPick::AllTried));
}

#[test]
fn of_a_virtual_service_the_first_match_counts_and_prefixes_are_plain_text() {
    let live = live(
        r#"
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com]
  http:
  - match: [{headers: {canary: {exact: "true"}}}]
    route: [{destination: {host: canary}}]
  - match:
    - {uri: {prefix: /api}, method: {regex: "GET|POST"}, ignoreUriCase: false}
    - {uri: {exact: /LOGIN}, ignoreUriCase: true, withoutHeaders: {x-internal: {}}}
    route: [{destination: {host: api}}]
  - match: [{uri: {prefix: /api/v2}}, {queryParams: {v: {exact: "2"}}}, {authority: {prefix: "shop.example.com:8"}}]
    route: [{destination: {host: v2}}]
  - route: [{destination: {host: rest}}]
"#,
        &["canary", "api", "v2", "rest"],
    );
    let at = |target| Ask::get("shop.example.com", target);
    let cases = [
        (at("/api/v2"), "api:8080"),
        (at("/apiary"), "api:8080"),
        (at("/login"), "api:8080"),
        (at("/?v=2"), "v2:8080"),
        (at("/"), "rest:8080"),
        (
            Ask {
                headers: &[("canary", "true")],
                ..at("/api")
            },
            "canary:8080",
        ),
        (
            Ask {
                method: Method::PUT,
                ..at("/api/v2/x")
            },
            "v2:8080",
        ),
        (
            Ask {
                headers: &[("x-internal", "")],
                ..at("/login")
            },
            "rest:8080",
        ),
        (
            Ask {
                headers: &[("host", "shop.example.com:8080")],
                ..at("/")
            },
            "v2:8080",
        ),
        (Ask::get("other.example.com", "/"), "none"),
    ];
    for (ask, expected) in cases {
        assert_eq!(
            asked(&live, &ask),
            expected,
            "{} {:?}",
            ask.target,
            ask.headers
        );
    }
}

/// The listeners and routes of the conformance test of Gateway API: each listener has a route of its own, and whichever hosts the
/// routes name, a request goes by the route of the narrowest listener of its host and by no other.
#[test]
fn a_request_goes_by_the_routes_of_one_listener_alone() {
    const LISTENERS: [(&str, &str); 4] = [
        ("empty", ""),
        ("example", "*.example.com"),
        ("foo", "*.foo.example.com"),
        ("abc", "abc.foo.example.com"),
    ];
    let listener = |(name, host): &(&str, &str)| {
        format!("{{name: {name}, port: 80, protocol: HTTP, hostname: \"{host}\"}}")
    };
    let listeners: Vec<_> = LISTENERS.iter().map(listener).collect();
    for hostnames in [
        "",
        "bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com",
    ] {
        let route = |(name, _): &(&str, &str)| {
            format!(
                "---\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: [{{name: edge, sectionName: {name}}}], hostnames: [{hostnames}], rules: [{{matches: [{{path: {{value: /{name}}}}}]}}]}}\n"
            )
        };
        let routes: String = LISTENERS.iter().map(route).collect();
        let manifests = format!(
            "kind: GatewayClass\nmetadata: {{name: serin}}\nspec: {{controllerName: serin.dev/gateway}}\n---\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: serin, listeners: [{}]}}\n{routes}",
            listeners.join(", ")
        );
        let options = LowerOptions {
            sockets: crate::lower::Sockets {
                http: vec![([127, 0, 0, 1], 80).into()],
                ..Default::default()
            },
            ..LowerOptions::default()
        };
        let objects = crate::testing::objects(&manifests);
        let live = live_for_bench(lower(&objects, &RouteTable::default(), &options).table);
        for (host, own) in [
            ("bar.com", "empty"),
            ("bar.example.com", "example"),
            ("bar.foo.example.com", "foo"),
            ("abc.foo.example.com", "abc"),
        ] {
            for (name, _) in LISTENERS {
                let headers = HeaderMap::new();
                let request = RequestView {
                    host,
                    port: None,
                    path: &format!("/{name}"),
                    query: "",
                    method: &Method::GET,
                    headers: &headers,
                    scheme: "http",
                    client: "127.0.0.1",
                    listener: 80,
                };
                let found = live.find(&request).is_some();
                assert_eq!(found, name == own, "{host}/{name} with {hostnames:?}");
            }
        }
    }
}
