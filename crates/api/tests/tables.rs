//! The table of kinds: names, and what tables of objects show.

#![expect(clippy::unwrap_used, reason = "a test ends by a panic")]

use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_api::{defaults, kinds};

fn line(kind: &kinds::Kind) -> String {
    let scope = if kind.namespaced {
        "namespaced"
    } else {
        "cluster"
    };
    let headings = kind.columns.iter().map(|c| {
        if c.priority > 0 {
            format!("({})", c.name)
        } else {
            c.name.to_owned()
        }
    });
    format!(
        "{} {:?} {scope}: {}",
        kind.qualified_plural(),
        kind.short_names,
        headings.collect::<Vec<_>>().join(" ").to_uppercase()
    )
}

#[test]
fn every_kind_is_found_by_its_names() {
    let mut lines = Vec::new();
    for kind in kinds::all() {
        assert_eq!(kinds::find(kind.group, kind.version, kind.kind), Some(kind));
        assert_eq!(
            kinds::find_plural(kind.group, kind.version, kind.plural),
            Some(kind)
        );
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind});
        assert_eq!(kinds::of(&object), Some(kind));
        lines.push(line(kind));
    }
    expect![[r#"
        namespaces ["ns"] cluster: NAME STATUS AGE
        nodes ["no"] cluster: NAME STATUS ROLES AGE VERSION (INTERNAL-IP) (EXTERNAL-IP) (OS-IMAGE) (KERNEL-VERSION) (CONTAINER-RUNTIME)
        pods ["po"] namespaced: NAME READY STATUS RESTARTS AGE (IP) (NODE) (NOMINATED NODE) (READINESS GATES)
        services ["svc"] namespaced: NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE (SELECTOR)
        endpoints ["ep"] namespaced: NAME ENDPOINTS AGE
        configmaps ["cm"] namespaced: NAME DATA AGE
        secrets [] namespaced: NAME TYPE DATA AGE
        events ["ev"] namespaced: LAST SEEN TYPE REASON OBJECT (SUBOBJECT) (SOURCE) MESSAGE (FIRST SEEN) (COUNT) (NAME)
        serviceaccounts ["sa"] namespaced: NAME SECRETS AGE
        deployments.apps ["deploy"] namespaced: NAME READY UP-TO-DATE AVAILABLE AGE (CONTAINERS) (IMAGES) (SELECTOR)
        replicasets.apps ["rs"] namespaced: NAME DESIRED CURRENT READY AGE (CONTAINERS) (IMAGES) (SELECTOR)
        jobs.batch [] namespaced: NAME STATUS COMPLETIONS DURATION AGE (CONTAINERS) (IMAGES) (SELECTOR)
        cronjobs.batch ["cj"] namespaced: NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE (CONTAINERS) (IMAGES)
        horizontalpodautoscalers.autoscaling ["hpa"] namespaced: NAME REFERENCE MINPODS MAXPODS REPLICAS AGE
        horizontalpodautoscalers.autoscaling ["hpa"] namespaced: NAME REFERENCE MINPODS MAXPODS REPLICAS AGE
        poddisruptionbudgets.policy ["pdb"] namespaced: NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE
        endpointslices.discovery.k8s.io [] namespaced: NAME ADDRESSTYPE PORTS ENDPOINTS AGE
        ingresses.networking.k8s.io ["ing"] namespaced: NAME CLASS HOSTS ADDRESS PORTS AGE
        ingressclasses.networking.k8s.io [] cluster: NAME CONTROLLER PARAMETERS AGE
        leases.coordination.k8s.io [] namespaced: NAME HOLDER AGE
        clusterroles.rbac.authorization.k8s.io [] cluster: NAME CREATED AT
        clusterrolebindings.rbac.authorization.k8s.io [] cluster: NAME ROLE AGE (USERS) (GROUPS) (SERVICEACCOUNTS)
        roles.rbac.authorization.k8s.io [] namespaced: NAME CREATED AT
        rolebindings.rbac.authorization.k8s.io [] namespaced: NAME ROLE AGE (USERS) (GROUPS) (SERVICEACCOUNTS)
        customresourcedefinitions.apiextensions.k8s.io ["crd", "crds"] cluster: NAME CREATED AT
        httproutes.gateway.networking.k8s.io [] namespaced: NAME HOSTNAMES AGE
        gateways.gateway.networking.k8s.io ["gtw"] namespaced: NAME CLASS PROGRAMMED AGE
        gatewayclasses.gateway.networking.k8s.io ["gc"] cluster: NAME CONTROLLER ACCEPTED AGE
        referencegrants.gateway.networking.k8s.io ["refgrant"] namespaced: NAME AGE
        virtualservices.networking.istio.io ["vs"] namespaced: NAME GATEWAYS HOSTS AGE
        destinationrules.networking.istio.io ["dr"] namespaced: NAME HOST AGE
        rollouts.argoproj.io ["ro"] namespaced: NAME DESIRED CURRENT UP-TO-DATE AVAILABLE PHASE AGE (STRATEGY) (MESSAGE)
        analysistemplates.argoproj.io ["at"] namespaced: NAME AGE
        clusteranalysistemplates.argoproj.io ["cat"] cluster: NAME AGE
        analysisruns.argoproj.io ["ar"] namespaced: NAME STATUS AGE (MESSAGE)
        experiments.argoproj.io ["exp"] namespaced: NAME STATUS AGE (MESSAGE)
        releasepolicies.serin.dev ["rp"] namespaced: NAME AGE"#]].assert_eq(&lines.join("\n"));
    assert_eq!(kinds::find("apps", "v1", "deployment"), None);
    assert_eq!(kinds::find_plural("", "v1", "deployments"), None);
}

/// One row, with the columns of wide tables.
fn row(object: Value, expected: Expect) {
    let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let kind = kinds::of(&object).unwrap();
    let cells = kind
        .columns
        .iter()
        .map(|column| match column.value(&object, now) {
            Value::String(text) => text,
            other => other.to_string(),
        });
    expected.assert_eq(&cells.collect::<Vec<_>>().join(" | "));
}

fn pod(status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "creationTimestamp": "2026-01-31T11:55:00Z"},
        "spec": {"nodeName": "local", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
        "status": status,
    })
}

#[test]
fn pods() {
    row(
        pod(json!({})),
        expect!["web-1 | 0/2 | Pending | 0 | 5m | <none> | local | <none> | <none>"],
    );
    row(
        pod(
            json!({"phase": "Running", "podIP": "127.64.0.1", "containerStatuses": [
                {"ready": true, "restartCount": 0, "state": {"running": {}}}, {"ready": true, "restartCount": 2, "state": {"running": {}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-31T11:59:00Z"}}},
            ]}),
        ),
        expect!["web-1 | 2/2 | Running | 2 (60s ago) | 5m | 127.64.0.1 | local | <none> | <none>"],
    );
    row(
        pod(json!({"phase": "Running", "containerStatuses": [
            {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, {"state": {"terminated": {"exitCode": 1}}},
        ]})),
        expect!["web-1 | 0/2 | CrashLoopBackOff | 4 | 5m | <none> | local | <none> | <none>"],
    );
    row(
        pod(json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]})),
        expect!["web-1 | 0/2 | Init:0/1 | 0 | 5m | <none> | local | <none> | <none>"],
    );
    row(
        pod(
            json!({"phase": "Pending", "initContainerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
        ),
        expect!["web-1 | 0/2 | Init:ExitCode:2 | 0 | 5m | <none> | local | <none> | <none>"],
    );
    row(
        pod(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}],
            "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]}),
        ),
        expect!["web-1 | 1/2 | Running | 0 | 5m | <none> | local | <none> | <none>"],
    );
    let mut leaving = pod(json!({"phase": "Running"}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-31T11:59:00Z");
    row(
        leaving,
        expect!["web-1 | 0/2 | Terminating | 0 | 5m | <none> | local | <none> | <none>"],
    );
}

#[test]
fn workloads() {
    let workload = |kind: &str, api_version: &str, extra: Value| {
        json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "creationTimestamp": "2026-01-29T11:55:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]},
                "template": {"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]}}, "strategy": extra},
            "status": {"replicas": 4, "readyReplicas": 3, "updatedReplicas": 2, "availableReplicas": 3, "phase": "Paused", "message": "CanaryPauseStep"},
        })
    };
    row(
        workload("Deployment", "apps/v1", json!({})),
        expect!["web | 3/3 | 2 | 3 | 2d | a,b | a:1,b:2 | app=web,tier in (a,b)"],
    );
    row(
        workload("ReplicaSet", "apps/v1", json!({})),
        expect!["web | 3 | 4 | 3 | 2d | a,b | a:1,b:2 | app=web,tier in (a,b)"],
    );
    row(
        workload("Rollout", "argoproj.io/v1alpha1", json!({"canary": {}})),
        expect!["web | 3 | 4 | 2 | 3 | Paused | 2d | Canary | CanaryPauseStep"],
    );
    row(
        json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
        expect!["null | 0/1 | 0 | 0 | <unknown> |  |  | <none>"],
    );
}

#[test]
fn services_and_routes() {
    row(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}}),
        expect!["web | ClusterIP | 10.0.0.1 | <none> | 80/TCP,53:30053/UDP | <unknown> | app=web"],
    );
    row(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "LoadBalancer"}}),
        expect!["web | LoadBalancer | <none> | <pending> | <none> | <unknown> | <none>"],
    );
    row(
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        expect!["web | 10.0.0.1:80,10.0.0.1:81,10.0.0.2:80 + 1 more... | <unknown>"],
    );
    row(
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "web"}, "addressType": "IPv4",
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}),
        expect!["web | IPv4 | 80 | 10.0.0.1,10.0.0.2 | <unknown>"],
    );
    row(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "annotations": {"kubernetes.io/ingress.class": "nginx"}},
            "spec": {"rules": [{"host": "a"}, {"host": "b"}, {"host": "a"}, {}, {"host": "c"}, {"host": "d"}], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}}),
        expect!["web | nginx | a,b,c + 1 more... | 127.0.0.1 | 80, 443 | <unknown>"],
    );
    row(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": {"hostnames": ["a.b", "c.d"]}}),
        expect![[r#"web | ["a.b","c.d"] | <unknown>"#]],
    );
}

#[test]
fn the_rest() {
    row(
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "type": "Warning", "reason": "Unhealthy", "message": "no answer",
            "involvedObject": {"kind": "Pod", "name": "web-1"}, "lastTimestamp": "2026-01-31T11:59:30Z", "firstTimestamp": "2026-01-31T11:00:00Z",
            "count": 3, "source": {"component": "node", "host": "local"}}),
        expect![
            "30s | Warning | Unhealthy | pod/web-1 | null | node, local | no answer | 60m | 3 | e"
        ],
    );
    row(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "local", "labels": {"node-role.kubernetes.io/worker": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v0.1.0"}}}),
        expect![
            "local | Ready,SchedulingDisabled | worker | <unknown> | v0.1.0 | 127.0.0.1 | <none> | null | null | null"
        ],
    );
    row(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": ""}, "binaryData": {"b": ""}}),
        expect!["a | 2 | <unknown>"],
    );
    row(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": ""}}),
        expect!["a | Opaque | 1 | <unknown>"],
    );
    row(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}}),
        expect!["a | me | <unknown>"],
    );
    row(
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun", "metadata": {"name": "a"}, "status": {"phase": "Running"}}),
        expect!["a | Running | <unknown> | null"],
    );
}

fn filled_in(mut object: Value, expected: Expect) {
    let kind = kinds::of(&object).unwrap();
    defaults::apply(kind, &mut object);
    expected.assert_eq(&object.to_string());
}

#[test]
fn defaults_of_a_deployment() {
    filled_in(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "creationTimestamp": null}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"volumes": [{"name": "c", "configMap": {"name": "c"}}], "containers": [{
                "name": "web", "image": "web:1", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5, "timeoutSeconds": 0},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            }]}},
        }}),
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"web"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"env":[{"name":"IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}}],"image":"web:1","imagePullPolicy":"IfNotPresent","name":"web","ports":[{"containerPort":80,"protocol":"TCP"}],"readinessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":5,"successThreshold":1,"timeoutSeconds":1},"resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30,"volumes":[{"configMap":{"defaultMode":420,"name":"c"},"name":"c"}]}}}}"#
        ]],
    );
    filled_in(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{},"spec":{"progressDeadlineSeconds":600,"replicas":0,"revisionHistoryLimit":10,"strategy":{"type":"Recreate"}}}"#
        ]],
    );
}

#[test]
fn defaults_of_other_kinds() {
    filled_in(
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}]}}),
        expect![[
            r#"{"apiVersion":"v1","kind":"Service","spec":{"internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80},{"port":81,"protocol":"TCP","targetPort":"http"}],"sessionAffinity":"None","type":"ClusterIP"}}"#
        ]],
    );
    filled_in(
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "hello"}}),
        expect![[
            r#"{"apiVersion":"v1","data":{"a":"eA==","b":"aGVsbG8="},"kind":"Secret","type":"Opaque"}"#
        ]],
    );
    filled_in(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 0}, {"name": "b"}]}]}}),
        expect![[
            r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","spec":{"rules":[{"backendRefs":[{"group":"","kind":"Service","name":"web","port":80,"weight":0},{"group":"","kind":"Service","name":"b","weight":1}],"matches":[{"path":{"type":"PathPrefix","value":"/"}}]}]}}"#
        ]],
    );
    filled_in(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
        expect![[
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"kubernetes.io/metadata.name":"a"},"name":"a"},"status":{"phase":"Active"}}"#
        ]],
    );
    filled_in(
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"replicas": null, "strategy": {"canary": {"steps": null}}}}),
        expect![[
            r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","spec":{"strategy":{"canary":{}}}}"#
        ]],
    );
}
