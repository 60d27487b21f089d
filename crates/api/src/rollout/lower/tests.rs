use super::*;
use expect_test::{Expect, expect};
use serde_json::json;

fn check(strategy: serde_json::Value, expected: Expect) {
    let spec = json!({
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
        "strategy": strategy,
    });
    let lowered = lower(&serde_json::from_value(spec).unwrap());
    let mut lines: Vec<_> = lowered
        .problems
        .iter()
        .map(|p| format!("{:?} {p}", p.severity))
        .collect();
    lines.push(format!("carried out: {}", lowered.desired.is_some()));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn every_problem_is_told_at_once() {
    let strategy = json!({"canary": {
        "maxSurge": 0, "maxUnavailable": 0, "stableService": "web",
        "trafficRouting": {"nginx": {"stableIngress": "web"}},
        "steps": [{"setWeight": 101}, {}, {"setWeight": 5, "pause": {"duration": "soon"}}, {"analysis": {}}],
    }});
    check(
        strategy,
        expect![[r#"
            Error spec.strategy.canary.canaryService: Required value: traffic routing needs a Service for each side
            Error spec.strategy.canary.steps[0].setWeight: Invalid value: 101: must be between 0 and 100
            Error spec.strategy.canary.steps[1]: Required value: give one of setWeight, pause, setCanaryScale, analysis, experiment, setHeaderRoute and setMirrorRoute
            Error spec.strategy.canary.steps[2].pause.duration: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
            Error spec.strategy.canary.steps[3].analysis.templates: Required value: name an AnalysisTemplate
            Error spec.strategy.canary.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
            carried out: false"#]],
    );
}

#[test]
fn what_is_not_carried_out_is_refused_by_name() {
    let routers = ["alb", "smi", "ambassador", "traefik", "apisix", "appMesh"];
    let routing = routers.map(|name| (name.to_owned(), json!({})));
    let mut routing: serde_json::Map<_, _> = routing.into_iter().collect();
    routing.insert("plugins".into(), json!({"acme/router": {}}));
    let strategy = json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "trafficRouting": routing,
        "steps": [{"plugin": {"name": "acme/wait"}}, {"experiment": {"templates": [{"name": "a", "specRef": "canary", "weight": 5}]}}],
    }});
    check(
        strategy,
        expect![[r#"
        Unbuilt spec.strategy.canary.trafficRouting.alb: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.smi: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.ambassador: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.traefik: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.apisix: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.appMesh: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.trafficRouting.plugins[acme/router]: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
        Unbuilt spec.strategy.canary.steps[0].plugin: not carried out by this version of Serin; take the step of plugin "acme/wait" out
        Unbuilt spec.strategy.canary.steps[1].experiment.templates[0].weight: not carried out by this version of Serin; take the weight out, and send requests by a step of its own
        carried out: false"#]],
    );
}

#[test]
fn a_weight_is_a_part_of_the_greatest_one() {
    let canary = |max: i32, weight: i32| {
        json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "steps": [{"setWeight": weight}],
            "trafficRouting": {"maxTrafficWeight": max, "nginx": {"stableIngress": "web"}},
        }})
    };
    check(canary(1000, 250), expect!["carried out: true"]);
    check(
        canary(1000, 1001),
        expect![[r#"
        Error spec.strategy.canary.steps[0].setWeight: Invalid value: 1001: must be between 0 and 1000
        carried out: false"#]],
    );
    check(
        canary(1000, 1),
        expect![[r#"
        Unbuilt spec.strategy.canary.steps[0].setWeight: not carried out by this version of Serin; use a weight that is a whole percentage of 1000
        carried out: false"#]],
    );
    check(
        canary(0, 0),
        expect![[r#"
        Error spec.strategy.canary.trafficRouting.maxTrafficWeight: Invalid value: 0: must be greater than 0
        carried out: false"#]],
    );
}

#[test]
fn header_and_mirror_routes_are_managed_routes_of_a_route_that_can_have_them() {
    let plugins = json!({"argoproj-labs/gatewayAPI": {"httpRoute": "web"}});
    let header = |name: &str| json!({"setHeaderRoute": {"name": name, "match": [{"headerName": "x", "headerValue": {"exact": "1"}}]}});
    let canary = |routing: serde_json::Value, steps: serde_json::Value| json!({"canary": {"stableService": "stable", "canaryService": "canary", "trafficRouting": routing, "steps": steps}});
    let managed = json!({"managedRoutes": [{"name": "a"}, {"name": "a"}, {}], "plugins": plugins});
    check(
        canary(
            managed,
            json!([header("a"), header("b"), {"setMirrorRoute": {"name": "a", "match": [{"method": {}}], "percentage": 101}}, {"setHeaderRoute": {"name": "a"}}]),
        ),
        expect![[r#"
            Error spec.strategy.canary.trafficRouting.managedRoutes[1].name: Duplicate value: "a"
            Error spec.strategy.canary.trafficRouting.managedRoutes[2].name: Required value: name the route that a step adds
            Error spec.strategy.canary.steps[1].setHeaderRoute.name: Invalid value: "b": is not in trafficRouting.managedRoutes, which gives the order of the rules
            Error spec.strategy.canary.steps[2].setMirrorRoute.percentage: Invalid value: 101: must be between 0 and 100
            Error spec.strategy.canary.steps[2].setMirrorRoute.match[0].method: Required value: give one of exact, prefix and regex
            carried out: false"#]],
    );
    let nginx = json!({"managedRoutes": [{"name": "a"}], "nginx": {"stableIngress": "web"}});
    check(
        canary(nginx, json!([header("a")])),
        expect![[r#"
        Error spec.strategy.canary.steps[0].setHeaderRoute: Forbidden: needs trafficRouting with an HTTPRoute or a VirtualService
        carried out: false"#]],
    );
}

#[test]
fn the_two_services_of_ping_pong_stand_in_for_the_others() {
    check(
        json!({"canary": {"stableService": "stable", "pingPong": {"pingService": "a", "pongService": "a"}}}),
        expect![[r#"
            Error spec.strategy.canary.stableService: Forbidden: may not be set together with pingPong, which names both Services
            Error spec.strategy.canary.pingPong: Forbidden: needs trafficRouting: the Services take turns behind its routes
            Error spec.strategy.canary.pingPong.pongService: Invalid value: a: must differ from pingService
            carried out: false"#]],
    );
}

#[test]
fn the_fields_of_sizes_have_their_ranges() {
    check(
        json!({"canary": {
            "dynamicStableScale": true, "scaleDownDelaySeconds": 5, "minPodsPerReplicaSet": 0,
            "replicaProgressThreshold": {"type": "Percent", "value": 0},
            "antiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": {"weight": 101}},
            "canaryMetadata": {"labels": {"rollouts-pod-template-hash": "x"}},
        }}),
        expect![[r#"
            Error spec.strategy.canary.minPodsPerReplicaSet: Invalid value: 0: must be greater than 0
            Error spec.strategy.canary.replicaProgressThreshold.value: Invalid value: 0: must be between 1 and 100
            Error spec.strategy.canary.dynamicStableScale: Invalid value: true: cannot be used together with scaleDownDelaySeconds
            Error spec.strategy.canary.antiAffinity.preferredDuringSchedulingIgnoredDuringExecution.weight: Invalid value: 101: must be in the range 1-100
            Error spec.strategy.canary.canaryMetadata.labels[rollouts-pod-template-hash]: Forbidden: is the label by which the pods of a revision are found
            carried out: false"#]],
    );
}

#[test]
fn exactly_one_strategy() {
    check(
        json!({}),
        expect![[r#"
            Error spec.strategy: Required value: give one of canary and blueGreen
            carried out: false"#]],
    );
    check(
        json!({"canary": {}, "blueGreen": {"activeService": "a"}}),
        expect![[r#"
            Error spec.strategy: Invalid value: canary and blueGreen: give only one of them
            carried out: false"#]],
    );
}
