//! Tables of cases: objects and table in, patches out.

use std::fmt::Write;

use expect_test::{Expect, expect};

use super::*;
use crate::lower::{LowerOptions, lower};
use crate::testing::objects;

const NOW: &str = "2026-01-02T00:00:00Z";

fn due_of(manifests: &str, in_flight: &[(&str, usize)]) -> Vec<Due> {
    let objects = objects(manifests);
    let table = lower(&objects, &RouteTable::default(), &LowerOptions::default()).table;
    let count = |uid: &str| {
        in_flight
            .iter()
            .find(|(u, _)| *u == uid)
            .map_or(0, |(_, n)| *n)
    };
    due(&table, &objects, &count, NOW.parse().unwrap())
}

fn check(manifests: &str, in_flight: &[(&str, usize)], expected: Expect) {
    let mut text = String::new();
    for due in due_of(manifests, in_flight) {
        writeln!(text, "{}", due.target).unwrap();
        for operation in due.patch.as_array().unwrap() {
            writeln!(text, "  {operation}").unwrap();
        }
    }
    expected.assert_eq(&text);
}

const SERVICE: &str = "kind: Service\nmetadata: {name: web, uid: s1, resourceVersion: \"7\", generation: 2}\nspec: {ports: [{port: 80}]}\n";
const SLICE: &str = "---\nkind: EndpointSlice\nmetadata: {name: web-v1, labels: {kubernetes.io/service-name: web}, annotations: {serin.dev/service-generation: \"2\"}}\naddressType: IPv4\nendpoints: []\n";

#[test]
fn a_route_is_told_once_for_each_parent() {
    let route = "---\nkind: HTTPRoute\nmetadata: {name: web, uid: r1, generation: 5}\nspec: {rules: [{backendRefs: [{name: web, port: 80}]}]}\n";
    let manifests = format!("{SERVICE}{route}");
    check(
        &manifests,
        &[],
        expect![[r#"
        HTTPRoute default/web
          {"op":"test","path":"/metadata/uid","value":"r1"}
          {"op":"add","path":"/status","value":{"parents":[{"conditions":[{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"served","observedGeneration":5,"reason":"Accepted","status":"True","type":"Accepted"},{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"all Services were found","observedGeneration":5,"reason":"ResolvedRefs","status":"True","type":"ResolvedRefs"}],"controllerName":"serin.dev/gateway","parentRef":{"name":"serin"}}]}}
    "#]],
    );
    let with_parents = manifests.replace(
        "spec: {rules",
        "spec: {parentRefs: [{kind: Service, name: web}, {name: b, sectionName: http}, {kind: Mesh, name: c}, {name: theirs}], rules",
    );
    let theirs = "---\nkind: Gateway\nmetadata: {name: theirs}\nspec: {gatewayClassName: other}\n";
    let with_parents = format!("{with_parents}{theirs}");
    check(
        &with_parents,
        &[],
        expect![[r#"
            HTTPRoute default/web
              {"op":"test","path":"/metadata/uid","value":"r1"}
              {"op":"add","path":"/status","value":{"parents":[{"conditions":[{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"served","observedGeneration":5,"reason":"Accepted","status":"True","type":"Accepted"},{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"all Services were found","observedGeneration":5,"reason":"ResolvedRefs","status":"True","type":"ResolvedRefs"}],"controllerName":"serin.dev/gateway","parentRef":{"kind":"Service","name":"web"}},{"conditions":[{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"there is no Gateway default/b; make one, or leave out parentRefs to be served at every address of this gateway","observedGeneration":5,"reason":"NoMatchingParent","status":"False","type":"Accepted"},{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"all Services were found","observedGeneration":5,"reason":"ResolvedRefs","status":"True","type":"ResolvedRefs"}],"controllerName":"serin.dev/gateway","parentRef":{"name":"b","sectionName":"http"}}]}}
        "#]],
    );
}

#[test]
fn what_is_already_said_is_not_said_again() {
    let route = "kind: HTTPRoute\nmetadata: {name: web, uid: r1, resourceVersion: \"9\", generation: GENERATION}\nspec: {rules: [{backendRefs: [{name: web, port: 80}]}]}\nstatus:\n  parents:\n  - controllerName: other.example/controller\n    parentRef: {name: theirs}\n    conditions: []\n  - controllerName: serin.dev/gateway\n    parentRef: {name: serin}\n    conditions:\n    - {type: Accepted, status: \"True\", reason: Accepted, message: served, observedGeneration: 5, lastTransitionTime: \"2026-01-01T00:00:00Z\"}\n    - {type: ResolvedRefs, status: \"True\", reason: ResolvedRefs, message: all Services were found, observedGeneration: 5, lastTransitionTime: \"2026-01-01T00:00:00Z\"}\n";
    let manifests = format!("{SERVICE}---\n{route}");
    check(&manifests.replace("GENERATION", "5"), &[], expect![[""]]);
    check(
        &manifests.replace("GENERATION", "6"),
        &[],
        expect![[r#"
        HTTPRoute default/web
          {"op":"test","path":"/metadata/uid","value":"r1"}
          {"op":"test","path":"/metadata/resourceVersion","value":"9"}
          {"op":"add","path":"/status","value":{"parents":[{"conditions":[],"controllerName":"other.example/controller","parentRef":{"name":"theirs"}},{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"served","observedGeneration":6,"reason":"Accepted","status":"True","type":"Accepted"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"all Services were found","observedGeneration":6,"reason":"ResolvedRefs","status":"True","type":"ResolvedRefs"}],"controllerName":"serin.dev/gateway","parentRef":{"name":"serin"}}]}}
    "#]],
    );
}

#[test]
fn a_service_is_served_once_all_its_slices_follow_its_generation() {
    check(
        &format!("{SERVICE}{SLICE}"),
        &[],
        expect![[r#"
        Service default/web
          {"op":"test","path":"/metadata/uid","value":"s1"}
          {"op":"test","path":"/metadata/resourceVersion","value":"7"}
          {"op":"add","path":"/status","value":{"conditions":[{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"the gateway serves the endpoints of this generation","observedGeneration":2,"reason":"Served","status":"True","type":"serin.dev/Served"}]}}
    "#]],
    );
    check(SERVICE, &[], expect![[""]]);
    let served = "status: {conditions: [{type: Other, status: \"True\", reason: R, message: \"\", lastTransitionTime: \"2026-01-01T00:00:00Z\"}, {type: serin.dev/Served, status: \"True\", reason: Served, message: \"\", observedGeneration: 1, lastTransitionTime: \"2026-01-01T00:00:00Z\"}]}\n";
    check(
        &format!("{SERVICE}{served}{SLICE}"),
        &[],
        expect![[r#"
        Service default/web
          {"op":"test","path":"/metadata/uid","value":"s1"}
          {"op":"test","path":"/metadata/resourceVersion","value":"7"}
          {"op":"add","path":"/status/conditions","value":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","reason":"R","status":"True","type":"Other"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"the gateway serves the endpoints of this generation","observedGeneration":2,"reason":"Served","status":"True","type":"serin.dev/Served"}]}
    "#]],
    );
    let again = served.replace("observedGeneration: 1", "observedGeneration: 2");
    check(&format!("{SERVICE}{again}{SLICE}"), &[], expect![[""]]);
}

#[test]
fn a_pod_is_drained_when_it_is_asked_to_go_and_nothing_is_in_flight() {
    let pod = "kind: Pod\nmetadata: {name: web-1, uid: u1, resourceVersion: \"3\", deletionTimestamp: \"2026-01-01T00:00:00Z\"}\n";
    let with_status = format!("{pod}status: {{conditions: [{{type: Ready, status: \"True\"}}]}}\n");
    check(
        &with_status,
        &[],
        expect![[r#"
        Pod default/web-1
          {"op":"test","path":"/metadata/uid","value":"u1"}
          {"op":"add","path":"/status/conditions/-","value":{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"no request is in flight and none will come","reason":"NothingInFlight","status":"True","type":"serin.dev/Drained"}}
    "#]],
    );
    check(
        pod,
        &[],
        expect![[r#"
        Pod default/web-1
          {"op":"test","path":"/metadata/uid","value":"u1"}
          {"op":"test","path":"/metadata/resourceVersion","value":"3"}
          {"op":"add","path":"/status","value":{"conditions":[{"lastTransitionTime":"2026-01-02T00:00:00Z","message":"no request is in flight and none will come","reason":"NothingInFlight","status":"True","type":"serin.dev/Drained"}]}}
    "#]],
    );
    check(pod, &[("u1", 1)], expect![[""]]);
    check(
        "kind: Pod\nmetadata: {name: web-1, uid: u1}\n",
        &[],
        expect![[""]],
    );
    let drained = with_status.replace("Ready", "serin.dev/Drained");
    check(&drained, &[], expect![[""]]);
}
