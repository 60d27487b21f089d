//! Gateways: which listeners are served, which routes they take, and what is said of both.

use super::*;
use crate::table::{GatewayVerdict, ListenerVerdict, Verdict};

fn options() -> LowerOptions {
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    LowerOptions {
        sockets: Sockets {
            http: vec![at(8080)],
            https: vec![at(8443)],
            mapped: Default::default(),
        },
        ..LowerOptions::default()
    }
}

const CLASSES: &str = "
---
kind: GatewayClass
metadata: {name: serin, generation: 1}
spec: {controllerName: serin.dev/gateway}
---
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
";

fn check(manifests: &str, expected: Expect) {
    let all = objects(&format!("{SERVICES}{CLASSES}---\n{manifests}"));
    let lowered = lower(&all, &RouteTable::default(), &options());
    let mut text = shown(&lowered);
    for (name, verdict) in &lowered.table.routes {
        for parent in &verdict.parents {
            let section = parent.parent.section_name.iter().map(|s| format!("#{s}"));
            let section: String = section.collect();
            let said = parent.refused.as_ref().map_or("taken".into(), said);
            writeln!(text, "{name} at {}{section}: {said}", parent.parent.name).unwrap();
        }
    }
    for (name, verdict) in &lowered.table.gateways {
        text += &gateway(&name.to_string(), verdict);
    }
    expected.assert_eq(&text);
}

fn said(verdict: &Verdict) -> String {
    format!("{} {}: {}", verdict.ok, verdict.reason, verdict.message)
}

fn gateway(name: &str, verdict: &GatewayVerdict) -> String {
    let listener = |one: &ListenerVerdict| {
        format!(
            "  {} routes {} accepted {} programmed {} resolved {} conflicted {}\n",
            one.name,
            one.attached,
            said(&one.accepted),
            one.programmed.ok,
            said(&one.resolved),
            one.conflicted.reason
        )
    };
    let listeners: String = verdict.listeners.iter().map(listener).collect();
    format!(
        "{name} accepted {} programmed {}\n{listeners}",
        verdict.accepted.reason, verdict.programmed.reason
    )
}

#[test]
fn a_route_is_served_where_its_listeners_are() {
    check(
        r#"
kind: Gateway
metadata: {name: edge, generation: 2}
spec:
  gatewayClassName: serin
  listeners:
  - {name: web, port: 80, protocol: HTTP}
  - {name: api, port: 8080, protocol: HTTP, hostname: "*.api.example.com"}
  - {name: far, port: 9090, protocol: HTTP}
---
kind: HTTPRoute
metadata: {name: everywhere}
spec:
  parentRefs: [{name: edge}]
  hostnames: [www.example.com, v1.api.example.com]
  rules: [{backendRefs: [{name: stable, port: 80}]}]
---
kind: HTTPRoute
metadata: {name: one}
spec:
  parentRefs: [{name: edge, sectionName: api}, {name: edge, sectionName: far}, {name: edge, port: 81}, {name: nowhere}]
  rules: [{backendRefs: [{name: canary, port: 80}]}]
"#,
        expect![[r#"
            v1.api.example.com:8080 / -> stable:80*1
            www.example.com:8080 / -> stable:80*1
            **.api.example.com:8080 / -> canary:80*1
            default/everywhere generation 0: true Accepted, true ResolvedRefs
            default/one generation 0: true Accepted, true ResolvedRefs
            ! httproute/default/one is served in part: spec.parentRefs: listener far is not served: the gateway does not speak HTTP at port 9090; it listens at 127.0.0.1:8080 (HTTP), 127.0.0.1:8443 (HTTPS). Let it listen there too, or map the port by gatewayPorts of gateway/config.json
            ! httproute/default/one is served in part: spec.parentRefs: Gateway default/edge has no listener with this sectionName and port
            ! httproute/default/one is served in part: spec.parentRefs: there is no Gateway default/nowhere; make one, or leave out parentRefs to be served at every address of this gateway
            default/everywhere at edge: taken
            default/one at edge#api: taken
            default/one at edge#far: false NoMatchingParent: listener far is not served: the gateway does not speak HTTP at port 9090; it listens at 127.0.0.1:8080 (HTTP), 127.0.0.1:8443 (HTTPS). Let it listen there too, or map the port by gatewayPorts of gateway/config.json
            default/one at edge: false NoMatchingParent: Gateway default/edge has no listener with this sectionName and port
            default/one at nowhere: false NoMatchingParent: there is no Gateway default/nowhere; make one, or leave out parentRefs to be served at every address of this gateway
            default/edge accepted ListenersNotValid programmed Programmed
              web routes 1 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              api routes 2 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              far routes 0 accepted false PortUnavailable: the gateway does not speak HTTP at port 9090; it listens at 127.0.0.1:8080 (HTTP), 127.0.0.1:8443 (HTTPS). Let it listen there too, or map the port by gatewayPorts of gateway/config.json programmed false resolved true ResolvedRefs: all references were found conflicted NoConflicts
        "#]],
    );
}

#[test]
fn listeners_say_whose_routes_they_take() {
    check(
        r#"
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
kind: Gateway
metadata: {name: same}
spec: {gatewayClassName: serin, listeners: [{name: l, port: 80, protocol: HTTP}]}
---
kind: Gateway
metadata: {name: all}
spec: {gatewayClassName: serin, listeners: [{name: l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}
---
kind: Gateway
metadata: {name: selected}
spec: {gatewayClassName: serin, listeners: [{name: l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}]}
---
kind: Gateway
metadata: {name: grpc}
spec: {gatewayClassName: serin, listeners: [{name: l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}}]}
---
kind: Gateway
metadata: {name: host}
spec: {gatewayClassName: serin, listeners: [{name: l, port: 80, protocol: HTTP, hostname: a.example.com, allowedRoutes: {namespaces: {from: All}}}]}
---
kind: Gateway
metadata: {name: theirs}
spec: {gatewayClassName: other, listeners: [{name: l, port: 80, protocol: HTTP}]}
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  hostnames: [b.example.com]
  parentRefs:
  - {name: same, namespace: default}
  - {name: all, namespace: default}
  - {name: selected, namespace: default}
  - {name: grpc, namespace: default}
  - {name: host, namespace: default}
  - {name: theirs, namespace: default}
  rules: []
---
kind: HTTPRoute
metadata: {name: theirs}
spec: {parentRefs: [{name: theirs}], rules: [{backendRefs: [{name: stable, port: 80}]}]}
"#,
        expect![[r#"
            shop/web generation 0: true Accepted, true ResolvedRefs
            ! httproute/shop/web is served in part: spec.parentRefs: listener l takes no HTTPRoutes of namespace shop: see its allowedRoutes
            ! httproute/shop/web is served in part: spec.parentRefs: listener l takes no HTTPRoutes of namespace shop: see its allowedRoutes
            ! httproute/shop/web is served in part: spec.parentRefs: no host of the route is one of listener l
            shop/web at same: false NotAllowedByListeners: listener l takes no HTTPRoutes of namespace shop: see its allowedRoutes
            shop/web at all: taken
            shop/web at selected: taken
            shop/web at grpc: false NotAllowedByListeners: listener l takes no HTTPRoutes of namespace shop: see its allowedRoutes
            shop/web at host: false NoMatchingListenerHostname: no host of the route is one of listener l
            default/all accepted Accepted programmed Programmed
              l routes 1 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
            default/grpc accepted Accepted programmed Programmed
              l routes 0 accepted true Accepted: served at port 8080 of the gateway programmed true resolved false InvalidRouteKinds: spec.listeners[0].allowedRoutes.kinds[0].kind: Unsupported value: "GRPCRoute": supported values: "HTTPRoute" conflicted NoConflicts
            default/host accepted Accepted programmed Programmed
              l routes 0 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
            default/same accepted Accepted programmed Programmed
              l routes 0 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
            default/selected accepted Accepted programmed Programmed
              l routes 1 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
        "#]],
    );
}

#[test]
fn what_a_gateway_cannot_do_is_said_of_each_listener() {
    check(
        r#"
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: serin
  addresses: [{value: 192.0.2.7}]
  listeners:
  - {name: tcp, port: 80, protocol: TCP}
  - {name: plain, port: 8080, protocol: HTTP}
  - {name: again, port: 8080, protocol: HTTP}
  - {name: bare, port: 443, protocol: HTTPS, hostname: a.example.com}
  - {name: absent, port: 443, protocol: HTTPS, hostname: b.example.com, tls: {certificateRefs: [{name: absent}]}}
  - {name: foreign, port: 443, protocol: HTTPS, hostname: c.example.com, tls: {certificateRefs: [{name: web, namespace: certs}]}}
  - {name: through, port: 443, protocol: HTTPS, hostname: d.example.com, tls: {mode: Passthrough, certificateRefs: [{name: absent}]}}
---
kind: Secret
metadata: {name: web, namespace: certs}
type: kubernetes.io/tls
"#,
        expect![[r#"
            default/edge accepted ListenersNotValid programmed AddressNotUsable
              tcp routes 0 accepted false UnsupportedProtocol: TCP is not served; HTTP and HTTPS are programmed false resolved true ResolvedRefs: all references were found conflicted NoConflicts
              plain routes 0 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              again routes 0 accepted false PortUnavailable: listener plain has this port and host programmed false resolved true ResolvedRefs: all references were found conflicted HostnameConflict
              bare routes 0 accepted true Accepted: served at port 8443 of the gateway programmed false resolved false InvalidCertificateRef: spec.listeners[3].tls.certificateRefs: Required value: name a Secret of type kubernetes.io/tls conflicted NoConflicts
              absent routes 0 accepted true Accepted: served at port 8443 of the gateway programmed false resolved false InvalidCertificateRef: spec.listeners[4].tls.certificateRefs[0].name: Invalid value: absent: there is no Secret of this name and of type kubernetes.io/tls conflicted NoConflicts
              foreign routes 0 accepted true Accepted: served at port 8443 of the gateway programmed false resolved false RefNotPermitted: spec.listeners[5].tls.certificateRefs[0].namespace: Forbidden: no ReferenceGrant of namespace certs lets Gateways of namespace default refer to the Secret conflicted NoConflicts
              through routes 0 accepted false UnsupportedValue: spec.listeners[6].tls.mode: Unsupported value: "Passthrough": supported values: "Terminate" programmed false resolved false InvalidCertificateRef: spec.listeners[6].tls.certificateRefs[0].name: Invalid value: absent: there is no Secret of this name and of type kubernetes.io/tls conflicted NoConflicts
        "#]],
    );
}

#[test]
fn of_two_routes_at_one_port_the_older_has_the_requests_and_at_two_ports_both() {
    let route = |name: &str, listener: &str, year: u32| {
        format!(
            "---\nkind: HTTPRoute\nmetadata: {{name: {name}, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}\nspec: {{parentRefs: [{{name: edge, sectionName: {listener}}}], rules: [{{backendRefs: [{{name: stable, port: 80}}]}}]}}\n"
        )
    };
    let edge = "kind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: serin, listeners: [{name: web, port: 80, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS}]}\n";
    let all = [
        edge.to_owned(),
        route("old", "web", 2020),
        route("young", "web", 2021),
        route("secure", "tls", 2022),
    ];
    check(
        &all.concat(),
        expect![[r#"
            *:8080 / -> stable:80*1
            *:8443 / -> stable:80*1
            default/old generation 0: true Accepted, true ResolvedRefs
            default/secure generation 0: true Accepted, true ResolvedRefs
            default/young generation 0: false Conflicted, true ResolvedRefs
            ! httproute/default/young is not served as it stands: spec.rules: every host / is served for httproute/default/old, which is older
            default/old at edge#web: taken
            default/secure at edge#tls: taken
            default/young at edge#web: taken
            default/edge accepted ListenersNotValid programmed Programmed
              web routes 2 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              tls routes 1 accepted true Accepted: served at port 8443 of the gateway programmed false resolved false InvalidCertificateRef: spec.listeners[1].tls.certificateRefs: Required value: name a Secret of type kubernetes.io/tls conflicted NoConflicts
        "#]],
    );
}

#[test]
fn a_host_belongs_to_the_narrowest_listener_of_a_gateway() {
    check(
        r#"
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: serin
  listeners:
  - {name: every, port: 80, protocol: HTTP}
  - {name: domain, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: one, port: 80, protocol: HTTP, hostname: a.example.com}
---
kind: Gateway
metadata: {name: other}
spec: {gatewayClassName: serin, listeners: [{name: every, port: 80, protocol: HTTP}]}
---
kind: HTTPRoute
metadata: {name: every}
spec:
  parentRefs: [{name: edge, sectionName: every}]
  rules: [{matches: [{path: {value: /every}}], backendRefs: [{name: stable, port: 80}]}]
---
kind: HTTPRoute
metadata: {name: domain}
spec:
  parentRefs: [{name: edge, sectionName: domain}]
  hostnames: ["*.example.com", a.example.com, b.example.com]
  rules: [{matches: [{path: {value: /domain}}], backendRefs: [{name: stable, port: 80}]}]
---
kind: HTTPRoute
metadata: {name: elsewhere}
spec:
  parentRefs: [{name: edge, sectionName: every}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: stable, port: 80}]}]
---
kind: HTTPRoute
metadata: {name: both}
spec:
  parentRefs: [{name: edge, sectionName: every}, {name: other}]
  rules: [{matches: [{path: {value: /both}}], backendRefs: [{name: stable, port: 80}]}]
"#,
        expect![[r#"
            *:8080 /both/ -> stable:80*1
            b.example.com:8080 /domain/ -> stable:80*1
            **.example.com:8080 /domain/ not a.example.com -> stable:80*1
            *:8080 /every/ not a.example.com not **.example.com -> stable:80*1
            default/both generation 0: true Accepted, true ResolvedRefs
            default/domain generation 0: true Accepted, true ResolvedRefs
            default/elsewhere generation 0: true Accepted, true ResolvedRefs
            default/every generation 0: true Accepted, true ResolvedRefs
            default/both at edge#every: taken
            default/both at other: taken
            default/domain at edge#domain: taken
            default/elsewhere at edge#every: taken
            default/every at edge#every: taken
            default/edge accepted Accepted programmed Programmed
              every routes 3 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              domain routes 1 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
              one routes 0 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
            default/other accepted Accepted programmed Programmed
              every routes 1 accepted true Accepted: served at port 8080 of the gateway programmed true resolved true ResolvedRefs: all references were found conflicted NoConflicts
        "#]],
    );
}
