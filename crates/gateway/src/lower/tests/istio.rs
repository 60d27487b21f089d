//! VirtualServices and DestinationRules.

use super::*;

/// The document of a user, with the hosts that it lacks.
const CANARY: &str = r#"
kind: Service
metadata: {name: web-app-service}
spec: {ports: [{port: 80}]}
---
kind: DestinationRule
metadata: {name: web-app-destination}
spec:
  host: web-app-service
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 10s}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}
---
kind: VirtualService
metadata: {name: web-app-canary}
spec:
  hosts: [app.example.com, web-app-service]
  http:
  - match: [{headers: {canary: {exact: "true"}}}]
    route: [{destination: {host: web-app-service, subset: v2}, weight: 100}]
  - route:
    - {destination: {host: web-app-service, subset: v1}, weight: 90}
    - {destination: {host: web-app-service, subset: v2}, weight: 10}
"#;

#[test]
fn a_canary_by_subsets() {
    check(
        CANARY,
        expect![[r#"
        app.example.com / canary=true -> web-app-service/v2:first*100
        web-app-service.default / canary=true -> web-app-service/v2:first*100
        web-app-service.default.svc / canary=true -> web-app-service/v2:first*100
        web-app-service.default.svc.cluster.local / canary=true -> web-app-service/v2:first*100
        web-app-service / canary=true -> web-app-service/v2:first*100
        app.example.com / -> web-app-service/v1:first*90 web-app-service/v2:first*10
        web-app-service.default / -> web-app-service/v1:first*90 web-app-service/v2:first*10
        web-app-service.default.svc / -> web-app-service/v1:first*90 web-app-service/v2:first*10
        web-app-service.default.svc.cluster.local / -> web-app-service/v1:first*90 web-app-service/v2:first*10
        web-app-service / -> web-app-service/v1:first*90 web-app-service/v2:first*10
        virtualservice/default/web-app-canary: true Accepted, true ResolvedRefs
        destinationrule/default/web-app-destination: true Accepted, true ResolvedRefs
    "#]],
    );
}

#[test]
fn endpoints_belong_to_the_subsets_whose_labels_their_pods_carry() {
    let pods = (1..=3).map(|n| {
        let version = if n < 3 { "v1" } else { "v2" };
        format!(
            "---\nkind: Pod\nmetadata: {{name: p{n}, uid: u{n}, labels: {{version: {version}}}}}\n"
        )
    });
    let endpoints = (1..=3).map(|n| {
        format!("{{addresses: [127.0.0.{n}], targetRef: {{kind: Pod, name: p{n}, uid: u{n}}}}}")
    });
    let endpoints: Vec<_> = endpoints.collect();
    let slice = format!(
        "---\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: web-app-service}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    );
    let lowered = lowered(&format!("{CANARY}{}{slice}", pods.collect::<String>()));
    let service = &lowered.table.services[&ObjectName::new("default", "web-app-service")];
    let of_endpoints = service.ports[0].endpoints.iter();
    let subsets: Vec<_> = of_endpoints.map(|e| e.subsets.join(",")).collect();
    assert_eq!(subsets, ["v1", "v1", "v2"]);
    let ejection = service.policy.ejection.unwrap();
    assert_eq!((ejection.failures, ejection.base_ms), (3, 10_000));
    assert_eq!(service.subsets["v2"].max_in_flight, Some(7));
}

#[test]
fn what_is_wrong_is_told_on_the_object() {
    check(
        r#"
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: VirtualService
metadata: {name: hostless}
spec: {http: [{route: [{destination: {host: web}}]}]}
---
kind: VirtualService
metadata: {name: dangling}
spec:
  hosts: [a.example.com]
  http:
  - route:
    - {destination: {host: web, subset: v9}, weight: 50}
    - {destination: {host: nobody}, weight: 50}
---
kind: VirtualService
metadata: {name: broken}
spec:
  hosts: ["a b", ok.example.com]
  http:
  - match: [{uri: {regex: "("}}, {headers: {x: {exact: a, prefix: b}}}]
    timeout: soon
    retries: {attempts: 2, retryOn: "5xx,nonsense"}
    headers: {request: {set: {content-length: "1"}}}
    route: [{destination: {host: web}}]
---
kind: DestinationRule
metadata: {name: older, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {host: web.default.svc.cluster.local}
---
kind: DestinationRule
metadata: {name: younger, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {host: web, subsets: [{name: v9}]}
"#,
        expect![[r#"
            a.example.com / -> web/v9:first*50 nobody:first*50
            virtualservice/default/broken: false UnsupportedValue, true ResolvedRefs
            virtualservice/default/dangling: true Accepted, false SubsetNotFound
            virtualservice/default/hostless: false UnsupportedValue, true ResolvedRefs
            destinationrule/default/older: true Accepted, true ResolvedRefs
            destinationrule/default/younger: false Conflicted, true ResolvedRefs
            ! virtualservice/default/broken is not served as it stands: spec.hosts[0]: Invalid value: a b: must be a host name, without a port, *.DOMAIN or *
            ! virtualservice/default/broken is not served as it stands: spec.http[0].headers.request.set[content-length]: Forbidden: this header frames the message; it cannot be changed
            ! virtualservice/default/broken is not served as it stands: spec.http[0].retries.retryOn: Invalid value: nonsense: is no condition of Istio and no status
            ! virtualservice/default/broken is not served as it stands: spec.http[0].match[0].uri.regex: Invalid value: (: is no regular expression: unclosed group
            ! virtualservice/default/broken is not served as it stands: spec.http[0].match[1].headers[x]: Required value: exactly one of exact, prefix and regex
            ! virtualservice/default/broken is not served as it stands: spec.http[0].timeout: Invalid value: soon: must be a duration with its unit, such as "10s" or "500ms"; "0s" is no limit
            ! virtualservice/default/dangling is served in part: spec.http[0].route[0].destination.subset: Invalid value: v9: no DestinationRule gives Service default/web such a subset
            ! virtualservice/default/dangling is served in part: spec.http[0].route[1].destination.host: Invalid value: nobody: there is no such Service
            ! virtualservice/default/hostless is not served as it stands: spec.hosts: Required value: name the hosts whose requests are routed
            ! destinationrule/default/younger is not served as it stands: spec.host: its Service is split by destinationrule/default/older, which is older
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the expected table")]
fn what_a_rule_does_beside_choosing_a_backend() {
    let lowered = lowered(
        r#"
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: VirtualService
metadata:
  name: all
  annotations: {serin.dev/rate-limit: "100/s burst=5", serin.dev/sticky: "cookie=user ttl=1h"}
spec:
  hosts: ["*"]
  http:
  - match: [{uri: {prefix: /old/}}]
    redirect: {uri: /new, authority: "b.example:8443", redirectCode: 308}
  - match: [{uri: {prefix: /fixed}}]
    directResponse: {status: 418, body: {string: teapot}}
  - match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /, authority: inner.example}
    timeout: 1.5s
    retries: {attempts: 3, perTryTimeout: 200ms, retryOn: "gateway-error,reset,retriable-status-codes,429"}
    fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {httpStatus: 503, percentage: {value: 50}}}
    mirror: {host: web}
    mirrorPercentage: {value: 12.5}
    headers: {request: {set: {x-a: "1"}, remove: [x-b]}, response: {add: {x-c: "2"}}}
    route: [{destination: {host: web}}]
"#,
    );
    let policies: Vec<_> = lowered
        .table
        .rules
        .iter()
        .map(|r| (&r.policy, r.timeout_ms))
        .collect();
    expect![[r#"
        [
          [
            {
              "direct": {
                "redirect": {
                  "host": "b.example",
                  "path": {
                    "full": "/new"
                  },
                  "port": 8443,
                  "status": 308
                }
              },
              "limits": {
                "rate": {
                  "burst": 5,
                  "periodMs": 1000,
                  "requests": 100
                }
              },
              "sticky": {
                "cookie": {
                  "issue": true,
                  "name": "user",
                  "ttlSeconds": 3600
                }
              }
            },
            null
          ],
          [
            {
              "direct": {
                "fixed": {
                  "body": "teapot",
                  "status": 418
                }
              },
              "limits": {
                "rate": {
                  "burst": 5,
                  "periodMs": 1000,
                  "requests": 100
                }
              },
              "sticky": {
                "cookie": {
                  "issue": true,
                  "name": "user",
                  "ttlSeconds": 3600
                }
              }
            },
            null
          ],
          [
            {
              "answerHeaders": {
                "add": [
                  [
                    "x-c",
                    "2"
                  ]
                ]
              },
              "fault": {
                "abort": [
                  503,
                  500000
                ],
                "delay": [
                  5000,
                  1000
                ]
              },
              "limits": {
                "rate": {
                  "burst": 5,
                  "periodMs": 1000,
                  "requests": 100
                }
              },
              "mirrors": [
                {
                  "perMillion": 125000,
                  "port": "first",
                  "service": "default/web"
                }
              ],
              "retry": {
                "attempts": 3,
                "onFailure": true,
                "pauseMs": 0,
                "statuses": [
                  502,
                  503,
                  504,
                  429
                ]
              },
              "rewrite": {
                "host": "inner.example",
                "path": {
                  "prefix": "/"
                }
              },
              "sticky": {
                "cookie": {
                  "issue": true,
                  "name": "user",
                  "ttlSeconds": 3600
                }
              }
            },
            1500
          ]
        ]"#]]
    .assert_eq(&format!("{:#}", serde_json::to_value(policies).unwrap()));
    assert_eq!(lowered.problems, []);
}

#[test]
fn an_older_virtual_service_that_takes_everything_of_a_host_is_told_to_the_younger() {
    check(
        r#"
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: VirtualService
metadata: {name: older, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {hosts: [a.example.com], http: [{route: [{destination: {host: web}}]}]}
---
kind: VirtualService
metadata: {name: younger, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {hosts: [a.example.com, b.example.com], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: web}}]}]}
"#,
        expect![[r#"
            a.example.com / -> web:first*1
            b.example.com /x* -> web:first*1
            virtualservice/default/older: true Accepted, true ResolvedRefs
            virtualservice/default/younger: true Accepted, true ResolvedRefs
            ! virtualservice/default/younger is served in part: spec.rules: a.example.com /x* is served for virtualservice/default/older, which is older
        "#]],
    );
}

#[test]
fn how_instances_are_treated() {
    let policies = [
        "loadBalancer: {consistentHash: {httpHeaderName: X-User}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: user, path: /app, ttl: 1h}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: session}}}",
        "loadBalancer: {consistentHash: {httpQueryParameterName: user}}",
        "loadBalancer: {consistentHash: {useSourceIp: true}}",
        "outlierDetection: {}",
        "outlierDetection: {consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 50, minHealthPercent: 40}",
        "outlierDetection: {consecutiveGatewayErrors: 4, consecutive5xxErrors: 0}",
        "outlierDetection: {consecutive5xxErrors: 0}",
        "connectionPool: {tcp: {maxConnections: 10, connectTimeout: 250ms}, http: {http1MaxPendingRequests: 5, maxRetries: 3}}",
        "connectionPool: {http: {http2MaxRequests: 7}}",
        "connectionPool: {tcp: {connectTimeout: 0s}}",
    ];
    let shown = policies.map(|policy| {
        let lowered = lowered(&format!(
            "kind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 80}}]}}\n---\nkind: DestinationRule\nmetadata: {{name: web}}\nspec: {{host: web, trafficPolicy: {{{policy}}}}}\n"
        ));
        assert_eq!(lowered.problems, []);
        let service = &lowered.table.services[&ObjectName::new("default", "web")];
        serde_json::to_string(&service.policy).unwrap()
    });
    expect![[r#"
        {"affinity":{"header":"x-user"}}
        {"affinity":{"cookie":{"name":"user","path":"/app","ttlSeconds":3600,"issue":true}}}
        {"affinity":{"cookie":{"name":"session","issue":false}}}
        {"affinity":{"query":"user"}}
        {"affinity":"sourceIp"}
        {"ejection":{"failures":5,"gatewayErrorsOnly":false,"baseMs":30000,"maxPercent":10,"minHealthyPercent":0}}
        {"ejection":{"failures":2,"gatewayErrorsOnly":false,"baseMs":180000,"maxPercent":50,"minHealthyPercent":40}}
        {"ejection":{"failures":4,"gatewayErrorsOnly":true,"baseMs":30000,"maxPercent":10,"minHealthyPercent":0}}
        {}
        {"maxInFlight":15,"maxRetries":3,"connectTimeoutMs":250}
        {"maxInFlight":7}
        {}"#]].assert_eq(&shown.join("\n"));
}

/// What a subset is silent about the whole Service says, and what the Service itself is annotated with goes before its rule.
#[test]
fn the_nearest_word_counts() {
    let lowered = lowered(
        r#"
kind: Service
metadata: {name: web, annotations: {serin.dev/max-in-flight: "5"}}
spec: {ports: [{port: 80}]}
---
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy: {connectionPool: {http: {http2MaxRequests: 100, maxRetries: 9}}}
  subsets: [{name: v2, labels: {version: v2}, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}]
"#,
    );
    let service = &lowered.table.services[&ObjectName::new("default", "web")];
    let policy = service.subsets["v2"].clone().over(service.policy.clone());
    let of_service = (service.policy.max_in_flight, service.policy.max_retries);
    assert_eq!(of_service, (Some(5), Some(9)));
    assert_eq!(
        (policy.max_in_flight, policy.max_retries),
        (Some(7), Some(9))
    );
}
