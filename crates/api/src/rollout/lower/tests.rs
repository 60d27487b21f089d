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
            Error spec.strategy.canary.steps[1].experiment.templates[0].weight: Forbidden: needs trafficRouting with HTTPRoutes or VirtualServices
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

#[test]
fn every_problem_of_a_virtual_service_and_its_subsets_is_told() {
    let services = json!([
        {"name": "web", "routes": ["a", "a", ""], "tlsRoutes": [{"port": 443}], "tcpRoutes": [{"port": 1}]},
        {"name": "web"}, {"name": "web.other"}, {},
    ]);
    let rule = json!({"name": "", "stableSubsetName": "a", "canarySubsetName": "a", "additionalSubsetNames": ["b"]});
    let istio = json!({"virtualService": {"name": "one"}, "virtualServices": services, "destinationRule": rule});
    let routing =
        json!({"istio": istio, "nginx": {"stableIngress": "web"}, "maxTrafficWeight": 1000});
    let ping_pong = json!({"pingService": "ping", "pongService": "pong"});
    check(
        json!({"canary": {"trafficRouting": routing, "pingPong": ping_pong}}),
        expect![[r#"
            Error spec.strategy.canary.trafficRouting.istio.virtualServices: Forbidden: may not be set together with virtualService
            Unbuilt spec.strategy.canary.trafficRouting.istio.virtualServices[0].tlsRoutes: not carried out by this version of Serin; the weights of HTTP routes are set: take it out, and name them in routes
            Unbuilt spec.strategy.canary.trafficRouting.istio.virtualServices[0].tcpRoutes: not carried out by this version of Serin; the weights of HTTP routes are set: take it out, and name them in routes
            Error spec.strategy.canary.trafficRouting.istio.virtualServices[0].routes[1]: Duplicate value: "a"
            Error spec.strategy.canary.trafficRouting.istio.virtualServices[0].routes[2]: Required value: name an HTTP route
            Error spec.strategy.canary.trafficRouting.istio.virtualServices[1].name: Duplicate value: "web"
            Error spec.strategy.canary.trafficRouting.istio.virtualServices[2].name: Invalid value: "web.other": must be the name of a VirtualService in the namespace of the Rollout
            Error spec.strategy.canary.trafficRouting.istio.virtualServices[3].name: Required value: name the VirtualService
            Error spec.strategy.canary.trafficRouting.nginx: Forbidden: may not be set together with istio.destinationRule, whose subsets it does not know
            Error spec.strategy.canary.trafficRouting.istio.destinationRule.name: Required value: name the DestinationRule
            Error spec.strategy.canary.trafficRouting.istio.destinationRule.canarySubsetName: Invalid value: "a": must differ from stableSubsetName
            Warning spec.strategy.canary.trafficRouting.istio.destinationRule.additionalSubsetNames: not carried out yet: the release goes on without it
            Error spec.strategy.canary.trafficRouting.maxTrafficWeight: Forbidden: may not be set together with istio, whose weights are percent
            Error spec.strategy.canary.pingPong: Forbidden: may not be set together with a DestinationRule, whose subsets keep their sides
            carried out: false"#]],
    );
    check(
        json!({"canary": {"trafficRouting": {"istio": {}}, "stableService": "a", "canaryService": "b"}}),
        expect![[r#"
            Error spec.strategy.canary.trafficRouting.istio.virtualService: Required value: name the VirtualService whose weights are set
            carried out: false"#]],
    );
    // With subsets no Service has to be named.
    let rule = json!({"name": "web", "stableSubsetName": "a", "canarySubsetName": "b"});
    let istio = json!({"virtualService": {"name": "web"}, "destinationRule": rule});
    check(
        json!({"canary": {"trafficRouting": {"istio": istio}}}),
        expect!["carried out: true"],
    );
}

#[test]
fn the_shares_of_an_experiment_are_what_the_canary_leaves() {
    let with = |routing: serde_json::Value, weights: [i32; 2]| {
        let templates =
            weights.map(|w| json!({"name": w.to_string(), "specRef": "canary", "weight": w}));
        json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "trafficRouting": routing,
            "steps": [{"setWeight": 80}, {"experiment": {"templates": templates}}],
        }})
    };
    let route = json!({"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}});
    check(with(route.clone(), [15, 5]), expect!["carried out: true"]);
    check(
        with(route, [15, 6]),
        expect![[r#"
        Error spec.strategy.canary.steps[1].experiment.templates: Invalid value: 21: the weights add up to more than 20, which the canary leaves
        carried out: false"#]],
    );
    check(
        with(json!({"nginx": {"stableIngress": "web"}}), [10, 101]),
        expect![[r#"
            Error spec.strategy.canary.steps[1].experiment.templates[0].weight: Forbidden: needs trafficRouting with HTTPRoutes or VirtualServices
            Error spec.strategy.canary.steps[1].experiment.templates[1].weight: Forbidden: needs trafficRouting with HTTPRoutes or VirtualServices
            Error spec.strategy.canary.steps[1].experiment.templates[1].weight: Invalid value: 101: must be between 0 and 100
            Error spec.strategy.canary.steps[1].experiment.templates: Invalid value: 111: the weights add up to more than 20, which the canary leaves
            carried out: false"#]],
    );
}
