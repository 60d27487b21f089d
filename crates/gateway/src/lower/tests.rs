//! Tables of cases: manifests in, rules and problems out.

use std::fmt::Write;

use expect_test::{Expect, expect};

use super::*;
use crate::table::{HostMatch, PathMatch, ValuePattern};
use crate::testing::{objects, shown_backend};

fn lowered(manifests: &str) -> Lowered {
    lower(
        &objects(manifests),
        &RouteTable::default(),
        &LowerOptions::default(),
    )
}

fn check(manifests: &str, expected: Expect) {
    expected.assert_eq(&shown(&lowered(manifests)));
}

fn word(host: &HostMatch) -> String {
    match host {
        HostMatch::Exact(host) => host.clone(),
        HostMatch::Below(domain) => format!("**.{domain}"),
        HostMatch::OneBelow(domain) => format!("*.{domain}"),
        HostMatch::Any => "*".into(),
    }
}

/// One line for each claim, verdict and problem.
fn shown(lowered: &Lowered) -> String {
    let mut text = String::new();
    for rule in &lowered.table.rules {
        for host in &rule.hosts {
            for one in &rule.matches {
                let host = word(host);
                let path = match &one.path {
                    PathMatch::Exact(path) => format!("={path}"),
                    PathMatch::Prefix(path) => format!("{path}/"),
                    PathMatch::Begins(path) => format!("{path}*"),
                    PathMatch::Regex(regex) => format!("~{regex}"),
                };
                let port = rule.port.iter().map(|port| format!(":{port}"));
                let host: String = std::iter::once(host).chain(port).collect();
                let method = one.method.iter().map(|m| format!(" {m}"));
                let values = one
                    .headers
                    .iter()
                    .chain(&one.query)
                    .chain(&one.pseudo)
                    .map(|v| match &v.value {
                        ValuePattern::Exact(value) => format!(" {}={value}", v.name),
                        ValuePattern::Begins(value) => format!(" {}^{value}", v.name),
                        ValuePattern::Regex(regex) => format!(" {}~{regex}", v.name),
                    });
                let more: String = method.chain(values).collect();
                let backends: Vec<_> = rule.backends.iter().map(shown_backend).collect();
                let except = rule
                    .except
                    .iter()
                    .map(|host| format!(" not {}", word(host)));
                let more: String = std::iter::once(more).chain(except).collect();
                writeln!(text, "{host} {path}{more} -> {}", backends.join(" ")).unwrap();
            }
        }
    }
    for (name, verdict) in &lowered.table.routes {
        let v = verdict;
        writeln!(
            text,
            "{name} generation {}: {} {}, {} {}{}",
            v.generation,
            v.accepted.ok,
            v.accepted.reason,
            v.resolved.ok,
            v.resolved.reason,
            v.partly
                .as_deref()
                .map(|p| format!(", partly: {p}"))
                .unwrap_or_default()
        )
        .unwrap();
    }
    for (source, v) in &lowered.table.istio {
        let (accepted, resolved) = (&v.accepted, &v.resolved);
        writeln!(
            text,
            "{source}: {} {}, {} {}",
            accepted.ok, accepted.reason, resolved.ok, resolved.reason
        )
        .unwrap();
    }
    for problem in &lowered.problems {
        writeln!(text, "! {problem}").unwrap();
    }
    text
}

mod backend_tls;
mod gateways;
mod istio;
mod unread;

const SERVICES: &str = "
kind: Service
metadata: {name: stable}
spec: {ports: [{port: 80, name: http}]}
---
kind: Service
metadata: {name: canary}
spec: {ports: [{port: 80, name: http}]}
---
";

fn with_services(manifests: &str) -> String {
    format!("{SERVICES}{manifests}")
}

#[test]
fn a_route_with_all_kinds_of_matches() {
    check(
        &with_services(
            r#"
kind: HTTPRoute
metadata: {name: web, generation: 3, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  hostnames: [App.example.com, "*.example.org"]
  rules:
  - matches:
    - path: {type: Exact, value: /login}
      method: POST
    - path: {type: RegularExpression, value: "/v[0-9]+/.*"}
      headers: [{name: X-Beta, value: "yes"}, {name: x-beta, value: "no"}, {type: RegularExpression, name: Cookie, value: ".*beta.*"}]
      queryParams: [{name: q, value: "1"}]
    backendRefs: [{name: canary, port: 80}]
  - backendRefs: [{name: stable, port: 80, weight: 95}, {name: canary, port: 80, weight: 5}]
"#,
        ),
        expect![[r#"
            app.example.com =/login POST -> canary:80*1
            app.example.com ~/v[0-9]+/.* cookie~.*beta.* x-beta=yes q=1 -> canary:80*1
            **.example.org =/login POST -> canary:80*1
            **.example.org ~/v[0-9]+/.* cookie~.*beta.* x-beta=yes q=1 -> canary:80*1
            app.example.com / -> stable:80*95 canary:80*5
            **.example.org / -> stable:80*95 canary:80*5
            default/web generation 3: true Accepted, true ResolvedRefs
        "#]],
    );
}

#[test]
fn what_is_wrong_in_a_route_is_told_all_at_once_and_takes_no_other_route_with_it() {
    check(
        &with_services(
            r#"
kind: HTTPRoute
metadata: {name: bad, generation: 1}
spec:
  hostnames: ["a b"]
  rules:
  - matches:
    - path: {value: no-slash}
      method: get
    - path: {type: RegularExpression, value: "("}
      headers: [{name: "a b", value: x}]
    filters:
    - {type: RequestMirror, requestMirror: {}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: host, value: a}, {name: TE, value: a}], colour: red}}
    timeouts: {request: soon}
    backendRefs: [{name: stable, port: 80, weight: -1}]
---
kind: HTTPRoute
metadata: {name: good, generation: 1}
spec: {rules: [{backendRefs: [{name: stable, port: 80}]}]}
"#,
        ),
        expect![[r#"
            * / -> stable:80*1
            default/bad generation 1: false UnsupportedValue, false BackendNotFound
            default/good generation 1: true Accepted, true ResolvedRefs
            ! httproute/default/bad is not served as it stands: spec.hostnames[0]: Invalid value: a b: must be a host name, without a port, or *.DOMAIN
            ! httproute/default/bad is not served as it stands: spec.rules[0].filters[1].requestHeaderModifier.set[1]: Forbidden: this header frames the message; it cannot be changed
            ! httproute/default/bad is not served as it stands: spec.rules[0].matches[0].method: Invalid value: get: must be a method in capitals
            ! httproute/default/bad is not served as it stands: spec.rules[0].matches[0].path.value: Invalid value: no-slash: must begin with /
            ! httproute/default/bad is not served as it stands: spec.rules[0].matches[1].headers[0].name: Invalid value: a b: is no name
            ! httproute/default/bad is not served as it stands: spec.rules[0].matches[1].path.value: Invalid value: (: is no regular expression: unclosed group
            ! httproute/default/bad is not served as it stands: spec.rules[0].backendRefs[0].weight: Invalid value: -1: must be 0 or more
            ! httproute/default/bad is not served as it stands: spec.rules[0].timeouts.request: Invalid value: soon: must be a duration with its unit, such as "10s" or "500ms"; "0s" is no limit
            ! httproute/default/bad is served in part: spec.rules[0].filters[0].requestMirror.backendRef.name: Invalid value: : there is no such Service
        "#]],
    );
}

#[test]
fn backends_that_cannot_be_resolved() {
    check(
        &with_services(
            r#"
kind: HTTPRoute
metadata: {name: web, generation: 1}
spec:
  rules:
  - backendRefs:
    - {name: stable, port: 80}
    - {name: missing, port: 80}
    - {name: stable, port: 81}
    - {name: stable, port: 80, namespace: other}
    - {name: bucket, kind: Bucket, group: s3.example}
"#,
        ),
        expect![[r#"
            * / -> stable:80*1 missing:80*1 stable:81*1 stable:80*1 bucket:first*1
            default/web generation 1: true Accepted, false BackendNotFound
            ! httproute/default/web is served in part: spec.rules[0].backendRefs[1].name: Invalid value: missing: there is no such Service
            ! httproute/default/web is served in part: spec.rules[0].backendRefs[2].port: Invalid value: 81: Service default/stable has no such port
            ! httproute/default/web is served in part: spec.rules[0].backendRefs[3].namespace: Forbidden: no ReferenceGrant of namespace other lets HTTPRoutes of namespace default refer to the Service
            ! httproute/default/web is served in part: spec.rules[0].backendRefs[4].kind: Unsupported value: "Bucket": supported values: "Service"
        "#]],
    );
}

#[test]
fn header_changes_and_timeouts() {
    let lowered = lowered(&with_services(
        r#"
kind: HTTPRoute
metadata: {name: web}
spec:
  rules:
  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "1"}], add: [{name: x-b, value: "2"}], remove: [X-C]}}]
    timeouts: {request: 1s, backendRequest: 250ms}
    backendRefs: [{name: stable, port: 80}]
  - matches: [{path: {value: /slow}}]
    timeouts: {request: 0s}
    backendRefs: [{name: stable, port: 80}]
"#,
    ));
    let rules = &lowered.table.rules;
    assert_eq!(
        (
            rules[0].timeout_ms,
            rules[0].try_timeout_ms,
            rules[1].timeout_ms
        ),
        (Some(1000), Some(250), Some(0))
    );
    expect![[r#"{"set":[["x-a","1"]],"add":[["x-b","2"]],"remove":["x-c"]}"#]]
        .assert_eq(&serde_json::to_string(&rules[0].headers).unwrap());
}

#[test]
fn the_last_good_rules_stay_while_a_route_is_wrong() {
    let good = with_services(
        "kind: HTTPRoute\nmetadata: {name: web, generation: 1}\nspec: {hostnames: [a.example], rules: [{backendRefs: [{name: stable, port: 80}]}]}\n",
    );
    let last = lowered(&good).table;
    let bad = good
        .replace("generation: 1", "generation: 2")
        .replace("rules: [{", "rules: [{matches: [{path: {value: x}}], ");
    let lowered = lower(&objects(&bad), &last, &LowerOptions::default());
    expect![[r#"
        a.example / -> stable:80*1
        default/web generation 2: false UnsupportedValue, true ResolvedRefs
        ! httproute/default/web is not served as it stands: spec.rules[0].matches[0].path.value: Invalid value: x: must begin with /
    "#]].assert_eq(&shown(&lowered));
}

#[test]
fn the_older_of_two_claims_wins() {
    let route = |name: &str, year: u32, paths: &str| {
        format!(
            "kind: HTTPRoute\nmetadata: {{name: {name}, generation: 1, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}\nspec: {{hostnames: [a.example], rules: [{{matches: [{paths}], backendRefs: [{{name: stable, port: 80}}]}}]}}\n---\n"
        )
    };
    let old = route("z-old", 2024, "{path: {value: /a}}, {path: {value: /b}}");
    let all = route("a-all", 2025, "{path: {value: /a}}");
    let part = route("b-part", 2026, "{path: {value: /b/}}, {path: {value: /c}}");
    check(
        &with_services(&format!("{old}{all}{part}")),
        expect![[r#"
        a.example /a/ -> stable:80*1
        a.example /b/ -> stable:80*1
        a.example /c/ -> stable:80*1
        default/a-all generation 1: false Conflicted, true ResolvedRefs
        default/b-part generation 1: true Accepted, true ResolvedRefs, partly: a.example /b/ is served for httproute/default/z-old, which is older
        default/z-old generation 1: true Accepted, true ResolvedRefs
        ! httproute/default/a-all is not served as it stands: spec.rules: a.example /a/ is served for httproute/default/z-old, which is older
        ! httproute/default/b-part is served in part: spec.rules: a.example /b/ is served for httproute/default/z-old, which is older
    "#]],
    );
}

#[test]
fn a_route_whose_parent_is_a_service_has_its_host_names() {
    check(
        &with_services(
            "kind: HTTPRoute\nmetadata: {name: web}\nspec: {parentRefs: [{kind: Service, group: \"\", name: stable}], rules: [{backendRefs: [{name: canary, port: 80}]}]}\n",
        ),
        expect![[r#"
            stable.default / -> canary:80*1
            stable.default.svc / -> canary:80*1
            stable.default.svc.cluster.local / -> canary:80*1
            default/web generation 0: true Accepted, true ResolvedRefs
        "#]],
    );
    check(
        &with_services(
            "kind: HTTPRoute\nmetadata: {name: web}\nspec: {parentRefs: [{kind: Mesh, name: other}], rules: [{backendRefs: [{name: canary, port: 80}]}]}\n",
        ),
        expect![[""]],
    );
}

/// The canary document of the guide that users bring, to the letter.
const CANARY_DOCUMENT: &str = r#"# 主服务 Ingress
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web-app-main
  annotations:
    kubernetes.io/ingress.class: nginx
spec:
  rules:
  - host: app.example.com
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: web-app-v1
            port:
              number: 80

---
# 金丝雀 Ingress
apiVersion: networking.k8s.io/v1  
kind: Ingress
metadata:
  name: web-app-canary
  annotations:
    kubernetes.io/ingress.class: nginx
    nginx.ingress.kubernetes.io/canary: "true"
    nginx.ingress.kubernetes.io/canary-weight: "10"  # 10%流量
spec:
  rules:
  - host: app.example.com
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: web-app-v2
            port:
              number: 80
"#;

#[test]
fn the_canary_document_does_what_it_says() {
    check(
        CANARY_DOCUMENT,
        expect![[r#"
            app.example.com / -> web-app-v1:80*90 web-app-v2:80*10
            ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
            ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
        "#]],
    );
    let zero = CANARY_DOCUMENT.replace("\"10\"", "\"0\"");
    check(
        &zero,
        expect![[r#"
            app.example.com / -> web-app-v1:80*100 web-app-v2:80*0
            ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
            ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
        "#]],
    );
}

#[test]
fn canary_by_header_comes_before_cookie_and_weight() {
    let annotated = |more: &str| {
        CANARY_DOCUMENT.replace(
            "    nginx.ingress.kubernetes.io/canary-weight",
            &format!("{more}    nginx.ingress.kubernetes.io/canary-weight"),
        )
    };
    let by_header = "    nginx.ingress.kubernetes.io/canary-by-header: X-Canary\n";
    let by_cookie = "    nginx.ingress.kubernetes.io/canary-by-cookie: beta\n";
    check(
        &annotated(&format!("{by_header}{by_cookie}")),
        expect![[r#"
            app.example.com / x-canary=always -> web-app-v1:80*0 web-app-v2:80*1
            app.example.com / x-canary=never -> web-app-v1:80*1 web-app-v2:80*0
            app.example.com / cookie~(?:.*;)?\s*beta=always\s*(?:;.*)? -> web-app-v1:80*0 web-app-v2:80*1
            app.example.com / cookie~(?:.*;)?\s*beta=never\s*(?:;.*)? -> web-app-v1:80*1 web-app-v2:80*0
            app.example.com / -> web-app-v1:80*90 web-app-v2:80*10
            ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
            ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
        "#]],
    );
    let value = "    nginx.ingress.kubernetes.io/canary-by-header-value: me\n    nginx.ingress.kubernetes.io/canary-by-header-pattern: unused\n";
    let total = "    nginx.ingress.kubernetes.io/canary-weight-total: \"1000\"\n";
    check(
        &annotated(&format!("{by_header}{value}{total}")),
        expect![[r#"
            app.example.com / x-canary=me -> web-app-v1:80*0 web-app-v2:80*1
            app.example.com / -> web-app-v1:80*990 web-app-v2:80*10
            ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
            ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
        "#]],
    );
}

#[test]
fn a_wrong_canary_keeps_what_it_last_did() {
    let last = lowered(CANARY_DOCUMENT).table;
    let bad = CANARY_DOCUMENT.replace("\"10\"", "\"ten\"");
    let lowered = lower(&objects(&bad), &last, &LowerOptions::default());
    expect![[r#"
        app.example.com / -> web-app-v1:80*90 web-app-v2:80*10
        ! ingress/default/web-app-canary is not served as it stands: metadata.annotations[nginx.ingress.kubernetes.io/canary-weight]: Invalid value: ten: must be a number from 0
        ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
        ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
    "#]].assert_eq(&shown(&lowered));
    // A main Ingress that is wrong keeps its last rules, and the canary still moves.
    let bad = CANARY_DOCUMENT
        .replacen("path: /", "path: x", 1)
        .replace("\"10\"", "\"30\"");
    let lowered = lower(&objects(&bad), &last, &LowerOptions::default());
    expect![[r#"
        app.example.com / -> web-app-v1:80*70 web-app-v2:80*30
        ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
        ! ingress/default/web-app-main is not served as it stands: spec.rules[0].http.paths[0].path: Invalid value: x: must begin with /
        ! ingress/default/web-app-main is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v1: there is no such Service
    "#]].assert_eq(&shown(&lowered));
}

#[test]
fn a_canary_without_a_main_ingress_is_told() {
    let (_, canary) = CANARY_DOCUMENT.split_once("---").unwrap();
    check(
        canary,
        expect![[r#"
            ! ingress/default/web-app-canary is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: web-app-v2: there is no such Service
            ! ingress/default/web-app-canary is served in part: spec.rules: no Ingress of this namespace that is no canary has this host and path
        "#]],
    );
}

#[test]
fn ingress_paths_ports_and_what_is_not_served() {
    check(
        r#"
kind: Ingress
metadata:
  name: web
  annotations: {nginx.ingress.kubernetes.io/rewrite-target: /x}
spec:
  ingressClassName: other
  tls: [{hosts: [a.example]}]
  defaultBackend: {service: {name: rest, port: {number: 80}}}
  rules:
  - host: "*.example.com"
    http:
      paths:
      - {path: /a, pathType: Exact, backend: {service: {name: one, port: {name: http}}}}
      - {path: /b/, pathType: ImplementationSpecific, backend: {service: {name: two, port: {number: 81}}}}
  - http: {paths: [{pathType: Prefix, backend: {service: {name: three, port: {number: 80}}}}]}
---
kind: Ingress
metadata: {name: wrong}
spec:
  rules:
  - host: "a:80"
  - host: b
    http: {paths: [{path: c, pathType: Sometimes, backend: {resource: {kind: Bucket, name: b}}}]}
"#,
        expect![[r#"
            *.example.com =/a -> one:http*1
            *.example.com /b/ -> two:81*1
            * / -> three:80*1
            * / -> rest:80*1
            ! ingress/default/web is served: metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]: not carried out by this version of Serin; the Ingress is served without it
            ! ingress/default/web is served: spec.tls: Invalid value: 1 entries: the gateway has no address for TLS (--gateway-tls-listen), so it is served over plain HTTP
            ! ingress/default/web is served in part: spec.rules[0].http.paths[0].backend.service.name: Invalid value: one: there is no such Service
            ! ingress/default/web is served in part: spec.rules[0].http.paths[1].backend.service.name: Invalid value: two: there is no such Service
            ! ingress/default/web is served in part: spec.rules[1].http.paths[0].backend.service.name: Invalid value: three: there is no such Service
            ! ingress/default/web is served in part: spec.defaultBackend.service.name: Invalid value: rest: there is no such Service
            ! ingress/default/wrong is not served as it stands: spec.rules[0].host: Invalid value: a:80: must be a host name, without a port, or *.DOMAIN
            ! ingress/default/wrong is not served as it stands: spec.rules[1].http.paths[0].path: Invalid value: c: must begin with /
            ! ingress/default/wrong is not served as it stands: spec.rules[1].http.paths[0].backend.service: Required value: a Service
        "#]],
    );
}

#[test]
fn a_class_restricts_the_ingresses() {
    let options = |class: &str| LowerOptions {
        ingress_class: Some(class.into()),
        ..LowerOptions::default()
    };
    let rules = |class: &str| {
        let lowered = lower(
            &objects(CANARY_DOCUMENT),
            &RouteTable::default(),
            &options(class),
        );
        lowered.table.rules.len()
    };
    assert_eq!((rules("nginx"), rules("serin")), (1, 0));
}

#[test]
fn only_ready_endpoints_of_living_pods_get_requests() {
    let manifests = r#"
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80, name: http}, {port: 9090, name: metrics}]}
---
kind: EndpointSlice
metadata: {name: web-v1, labels: {kubernetes.io/service-name: web, serin.dev/revision: v1}, annotations: {serin.dev/service-generation: "4"}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [127.64.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: living, uid: u1}}
- {addresses: [127.64.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: leaving, uid: u2}}
- {addresses: [127.64.0.3], conditions: {ready: true}, targetRef: {kind: Pod, name: gone, uid: u3}}
- {addresses: [127.64.0.4], conditions: {ready: true}, targetRef: {kind: Pod, name: living, uid: another}}
- {addresses: [127.64.0.5], conditions: {ready: false}, targetRef: {kind: Pod, name: living, uid: u1}}
- {addresses: [127.64.0.6], conditions: {ready: true, terminating: true}, targetRef: {kind: Pod, name: living, uid: u1}}
- {addresses: [127.64.0.7]}
- {addresses: [db.example.com]}
---
kind: EndpointSlice
metadata: {name: web-v2, labels: {kubernetes.io/service-name: web, serin.dev/revision: v2}, annotations: {serin.dev/service-generation: "3"}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: unknown, port: 1}]
endpoints: []
---
kind: Pod
metadata: {name: living, uid: u1}
---
kind: Pod
metadata: {name: leaving, uid: u2, deletionTimestamp: "2026-01-01T00:00:00Z"}
"#;
    let lowered = lowered(manifests);
    let text = serde_json::to_string_pretty(&lowered.table.services).unwrap();
    expect![[r#"
        {
          "default/web": {
            "servedGeneration": 3,
            "ports": [
              {
                "name": "http",
                "port": 80,
                "endpoints": [
                  {
                    "address": "127.64.0.1:8080",
                    "instance": "u1",
                    "revision": "v1"
                  },
                  {
                    "address": "127.64.0.7:8080",
                    "instance": "127.64.0.7:8080",
                    "revision": "v1"
                  }
                ]
              },
              {
                "name": "metrics",
                "port": 9090,
                "endpoints": []
              }
            ]
          }
        }"#]]
    .assert_eq(&text);
    expect![[r#"
        ! endpointslice/default/web-v1 is served in part: endpoints[7].addresses[0]: Invalid value: db.example.com: only IP addresses are served
    "#]].assert_eq(&shown(&lowered));
}

#[test]
fn the_same_objects_give_the_same_table_and_the_table_survives_its_file() {
    let once = lowered(CANARY_DOCUMENT);
    let again = lower(
        &objects(CANARY_DOCUMENT),
        &once.table,
        &LowerOptions::default(),
    );
    assert_eq!(once, again);
    let text = serde_json::to_string(&once.table).unwrap();
    assert_eq!(
        serde_json::from_str::<RouteTable>(&text).unwrap(),
        once.table
    );
}
