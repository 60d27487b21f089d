//! Services, Ingresses and HTTPRoutes.

use expect_test::expect;
use serde_json::{Value, json};

use super::check;

#[test]
fn services() {
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
    check(
        service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]})),
        expect![[""]],
    );
    check(service(json!({})), expect!["spec: Required value"]);
    check(service(json!({"clusterIP": "None"})), expect![[""]]);
    check(
        service(json!({"type": "ExternalName"})),
        expect![[r#"
            Warning spec.type: not carried out yet: requests are not sent there
            spec.externalName: Required value"#]],
    );
    check(
        service(
            json!({"type": "Public", "sessionAffinity": "Cookie", "selector": {"app": "a b"}, "ports": [
                {"port": 0, "targetPort": 70000}, {"port": 80, "name": "A", "protocol": "tcp"}, {"name": "b"}, {"port": 80, "name": "b", "targetPort": "8-"},
                {"port": 80, "name": "c"},
            ]}),
        ),
        expect![[r#"
            spec.ports[2].port: Required value
            spec.type: Unsupported value: "Public": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
            spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"
            spec.selector[app]: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')
            spec.ports[0].name: Required value: each port needs a name when there are several
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')
            spec.ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.ports[3].targetPort: Invalid value: "8-": must contain at least one letter (a-z)
            spec.ports[3].name: Duplicate value: "b"
            spec.ports[4]: Duplicate value: "80/TCP""#]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "1.web"}, "spec": {"ports": [{"port": 1}]}}),
        expect![[
            r#"metadata.name: Invalid value: "1.web": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')"#
        ]],
    );
}

#[test]
fn ingresses() {
    let ingress = |annotations: Value, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "annotations": annotations}, "spec": spec});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    check(
        ingress(json!({}), json!({"defaultBackend": backend})),
        expect![[""]],
    );
    check(
        ingress(json!({}), json!({})),
        expect!["spec: Required value: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        ingress(
            json!({"kubernetes.io/ingress.class": "nginx", "nginx.ingress.kubernetes.io/canary": "yes",
                "nginx.ingress.kubernetes.io/canary-weight": "101"}),
            json!({"ingressClassName": "serin", "rules": [
                {"host": "10.0.0.1", "http": {"paths": []}},
                {"host": "*.example.com", "http": {"paths": [
                    {"path": "api", "pathType": "Prefix", "backend": backend},
                    {"path": "/a//b", "pathType": "prefix", "backend": {}},
                    {"path": "/", "backend": {"service": {"name": "web"}}},
                    {"pathType": "Exact", "backend": {"service": {"name": "W", "port": {"number": 0, "name": "http"}}}},
                    {"path": "/r", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                ]}},
            ]}),
        ),
        expect![[r#"
            spec.rules[1].http.paths[2].pathType: Required value
            spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            spec.rules[0].http.paths: Required value
            spec.rules[1].http.paths[0].path: Invalid value: "api": must be an absolute path
            spec.rules[1].http.paths[1].pathType: Unsupported value: "prefix": supported values: "Exact", "ImplementationSpecific", "Prefix"
            spec.rules[1].http.paths[1].backend.service: Required value: name the Service and its port
            spec.rules[1].http.paths[2].backend.service.port: Required value: port name or number is required
            spec.rules[1].http.paths[3].path: Required value
            spec.rules[1].http.paths[3].backend.service.name: Invalid value: "W": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')
            spec.rules[1].http.paths[3].backend.service.port.number: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.rules[1].http.paths[3].backend.service.port: Invalid value: {"name":"http","number":0}: cannot set both port name & port number
            Unbuilt spec.rules[1].http.paths[4].backend.resource: not carried out by this version of Serin; name a Service under service
            metadata.annotations[kubernetes.io/ingress.class]: Invalid value: "nginx": can not be set when the class field is also set
            metadata.annotations[nginx.ingress.kubernetes.io/canary]: Invalid value: "yes": must be "true" or "false"
            metadata.annotations[nginx.ingress.kubernetes.io/canary-weight]: Invalid value: "101": must be a number from 0 to 100 in quotes"#]],
    );
}

#[test]
fn http_routes() {
    let route = |spec: Value| json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": spec});
    check(
        route(json!({"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 100}]}]})),
        expect![[""]],
    );
    check(
        route(
            json!({"parentRefs": [{}], "hostnames": ["a.b", "A", "a.b"], "rules": [
                {"matches": [
                    {"path": {"type": "Prefix", "value": "api"}, "method": "get"},
                    {"path": {"value": "/a/../b"}, "headers": [{"name": "a b", "value": "x"}, {"name": "x"}]},
                    {"path": {"type": "RegularExpression", "value": "[a-z]+"}, "queryParams": [{"name": "a b", "value": "x", "type": "Near"}]},
                ]},
                {"backendRefs": [
                    {"name": "web", "weight": -1}, {"port": 0}, {"name": "web", "kind": "Bucket", "weight": 1_000_001},
                ]},
                {"filters": [{"type": "RequestMirror"}, {"type": "URLRewrite", "urlRewrite": {}, "extensionRef": {}}, {"type": "Cache"}]},
                {"timeouts": {"request": "5s", "backendRequest": "10s"}},
                {"timeouts": {"request": "1 minute", "backendRequest": "-1s"}},
                {"timeouts": {"request": "0s", "backendRequest": "10s"}},
            ]}),
        ),
        expect![[r#"
            spec.parentRefs[0].name: Required value
            spec.hostnames[1]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')
            spec.hostnames[2]: Duplicate value: "a.b"
            spec.rules[0].matches[0].method: Unsupported value: "get": supported values: "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"
            spec.rules[0].matches[0].path.type: Unsupported value: "Prefix": supported values: "Exact", "PathPrefix", "RegularExpression"
            spec.rules[0].matches[0].path.value: Invalid value: "api": must be an absolute path and start with '/'
            spec.rules[0].matches[1].path.value: Invalid value: "/a/../b": must not contain '/../'
            spec.rules[0].matches[1].headers[0].name: Invalid value: "a b": must be the name of an HTTP header
            spec.rules[0].matches[1].headers[1].value: Required value
            spec.rules[0].matches[2].queryParams[0].type: Unsupported value: "Near": supported values: "Exact", "RegularExpression"
            spec.rules[1].backendRefs[0].port: Required value: must have a port for a Service
            spec.rules[1].backendRefs[0].weight: Invalid value: -1: must be between 0 and 1000000, inclusive
            spec.rules[1].backendRefs[1].name: Required value: name the Service
            spec.rules[1].backendRefs[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
            Unbuilt spec.rules[1].backendRefs[2].kind: not carried out by this version of Serin; name a Service
            spec.rules[1].backendRefs[2].weight: Invalid value: 1000001: must be between 0 and 1000000, inclusive
            spec.rules[2].filters[0].requestMirror: Required value: the type is RequestMirror
            spec.rules[2].filters[1].extensionRef: Forbidden: may only be set when `type` is 'ExtensionRef'
            spec.rules[2].filters[2].type: Unsupported value: "Cache": supported values: "ExtensionRef", "RequestHeaderModifier", "RequestMirror", "RequestRedirect", "ResponseHeaderModifier", "URLRewrite"
            spec.rules[3].timeouts.backendRequest: Invalid value: "10s": must not be longer than timeouts.request
            spec.rules[4].timeouts.request: Invalid value: "1 minute": must be a duration such as "10s", "500ms" or "1h30m"
            spec.rules[4].timeouts.backendRequest: Invalid value: "-1s": must be a duration such as "10s", "500ms" or "1h30m""#]],
    );
}

#[test]
fn what_is_not_carried_out_for_traffic_is_told() {
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
    check(
        service(
            json!({"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"port": 53, "protocol": "UDP"}]}),
        ),
        expect![[r#"
            Warning spec.type: not carried out yet: no port of the machine is opened for it; route to it with an Ingress or an HTTPRoute
            Warning spec.sessionAffinity: not carried out yet: requests of one client go to any of the pods
            Warning spec.ports[0].protocol: not carried out yet: only TCP is forwarded"#]],
    );
    check(
        service(json!({"type": "ExternalName", "externalName": "example.com"})),
        expect!["Warning spec.type: not carried out yet: requests are not sent there"],
    );
    check(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "annotations": {
            "nginx.ingress.kubernetes.io/rewrite-target": "/", "nginx.ingress.kubernetes.io/canary": "true",
            "nginx.ingress.kubernetes.io/canary-by-header": "x", "example.com/a": "b",
        }}, "spec": {"tls": [{"hosts": ["a.b"]}], "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
        expect![
            "Warning metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]: not carried out yet: the Ingress is served without it"
        ],
    );
    check(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": {
            "parentRefs": [{"name": "a", "sectionName": "http"}],
            "rules": [{
                "filters": [{"type": "URLRewrite", "urlRewrite": {}}, {"type": "RequestHeaderModifier", "requestHeaderModifier": {}}],
                "backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "b"}}}]}],
            }],
        }}),
        expect![""],
    );
}

#[test]
fn destination_rules() {
    let rule = |spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "web"}, "spec": spec});
    let with = |policy: Value| rule(json!({"host": "web", "trafficPolicy": policy}));
    check(
        with(json!({
            "loadBalancer": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "1h"}}},
            "outlierDetection": {"consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "30s", "maxEjectionPercent": 50, "minHealthPercent": 10},
            "connectionPool": {"tcp": {"maxConnections": 10, "connectTimeout": "1s"}, "http": {"http1MaxPendingRequests": 5, "http2MaxRequests": 9, "maxRetries": 2}},
        })),
        expect![[""]],
    );
    // What has no effect is told, and stands in nobody's way.
    check(
        rule(json!({
            "host": "web",
            "workloadSelector": {"matchLabels": {"app": "web"}},
            "trafficPolicy": {
                "portLevelSettings": [{"port": {"number": 80}}],
                "tls": {"mode": "SIMPLE", "sni": "app.example.com", "credentialName": "web-ca"},
                "loadBalancer": {"simple": "LEAST_REQUEST", "warmupDurationSecs": "10s"},
                "outlierDetection": {"splitExternalLocalOriginErrors": true},
                "connectionPool": {"tcp": {"idleTimeout": "1m"}, "http": {"maxRequestsPerConnection": 10, "h2UpgradePolicy": "UPGRADE"}},
            },
            "subsets": [{"name": "v1", "trafficPolicy": {"tunnel": {"targetHost": "a", "targetPort": 1}, "tls": {"mode": "SIMPLE"}}}],
        })),
        expect![[r#"
            Warning spec.workloadSelector: not carried out yet: the object counts for every pod that asks
            Warning spec.trafficPolicy.portLevelSettings: not carried out yet: leave it out
            Warning spec.trafficPolicy.connectionPool.tcp.idleTimeout: not carried out yet: the gateway keeps connections by its own bounds
            Warning spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection: not carried out yet: the gateway keeps connections by its own bounds
            Warning spec.trafficPolicy.connectionPool.http.h2UpgradePolicy: not carried out yet: set appProtocol: kubernetes.io/h2c on the port of the Service
            Warning spec.trafficPolicy.outlierDetection.splitExternalLocalOriginErrors: not carried out yet: every failure counts for consecutive5xxErrors
            Warning spec.trafficPolicy.loadBalancer.warmupDurationSecs: not carried out yet: instances take part in full once they are ready
            Warning spec.trafficPolicy.tls.credentialName: not carried out yet: name files by clientCertificate, privateKey and caCertificates
            Warning spec.subsets[0].trafficPolicy.tunnel: not carried out yet: leave it out
            Warning spec.subsets[0].trafficPolicy.tls: not carried out yet: name it in spec.trafficPolicy, for every subset"#]],
    );
    check(
        rule(json!({
            "trafficPolicy": {
                "loadBalancer": {"simple": "FASTEST", "consistentHash": {"useSourceIp": true, "httpHeaderName": "x"}},
                "outlierDetection": {"interval": "soon", "maxEjectionPercent": 101},
                "connectionPool": {"tcp": {"connectTimeout": "1", "maxConnections": -1}},
            },
            "subsets": [{}, {"name": "v1"}, {"name": "v1"}],
        })),
        expect![[r#"
            spec.host: Required value: name the Service
            spec.trafficPolicy.loadBalancer.simple: Unsupported value: "FASTEST": supported values: "UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "RANDOM", "ROUND_ROBIN", "PASSTHROUGH"
            spec.trafficPolicy.loadBalancer.consistentHash: Required value: exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName
            spec.trafficPolicy.outlierDetection.interval: Invalid value: "soon": must be a duration with its unit, such as "10s" or "500ms"
            spec.trafficPolicy.outlierDetection.maxEjectionPercent: Invalid value: 101: must be between 0 and 100, inclusive
            spec.trafficPolicy.connectionPool.tcp.maxConnections: Invalid value: -1: must be greater than or equal to 0
            spec.trafficPolicy.connectionPool.tcp.connectTimeout: Invalid value: "1": must be a duration with its unit, such as "10s" or "500ms"
            spec.subsets[0].name: Required value
            spec.subsets[2].name: Duplicate value: "v1""#]],
    );
}

#[test]
fn destination_rules_say_how_tls_is_spoken() {
    let with = |tls: Value| {
        let spec = json!({"host": "web", "trafficPolicy": {"tls": tls}});
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "web"}, "spec": spec})
    };
    check(
        with(
            json!({"mode": "MUTUAL", "clientCertificate": "own.pem", "privateKey": "own.key", "subjectAltNames": ["a"]}),
        ),
        expect![[""]],
    );
    check(
        with(json!({"mode": "MUTUAL", "clientCertificate": "own.pem"})),
        expect!["spec.trafficPolicy.tls.privateKey: Required value: a file of the gateway"],
    );
    check(
        with(json!({"mode": "PERMISSIVE"})),
        expect![[
            r#"spec.trafficPolicy.tls.mode: Unsupported value: "PERMISSIVE": supported values: "DISABLE", "SIMPLE", "MUTUAL""#
        ]],
    );
    check(
        with(json!({"mode": "ISTIO_MUTUAL"})),
        expect![
            "Warning spec.trafficPolicy.tls.mode: not carried out yet: there is no mesh; SIMPLE and MUTUAL name files"
        ],
    );
}
