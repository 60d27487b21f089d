use expect_test::{Expect, expect};
use serin_api::keys::annotation;
use serin_api::rollout::ManagedRule;
use serin_api::units::Weight;
use serin_engine::rollout::digest;

use super::*;

const SIDES: Sides<'_> = Sides {
    stable: "stable",
    canary: "canary",
};

fn route(rules: Value) -> HTTPRoute {
    let mut route = HTTPRoute::new(
        "web",
        serde_json::from_value(json!({ "rules": rules })).unwrap(),
    );
    route.metadata.resource_version = Some("7".into());
    route
}

fn header_rule(value: TextMatch) -> ManagedRule {
    ManagedRule {
        name: "testers".into(),
        action: ManagedAction::Header(vec![("x-tester".into(), value)]),
    }
}

fn split(percent: i32, managed: &[ManagedRule]) -> Split<'_> {
    Split {
        sides: SIDES,
        canary: Weight::new(percent).unwrap(),
        parts: 100,
        additional: &[],
        managed,
        split_by: None,
    }
}

/// The route after the patch, as the API would store it.
fn patched(route: &HTTPRoute, split: &Split<'_>) -> HTTPRoute {
    let mut object = serde_json::to_value(route).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch(route, split)).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    serde_json::from_value(object).unwrap()
}

fn shown(route: &HTTPRoute) -> String {
    let rules = route.spec.rules.iter();
    let lines: Vec<_> = rules.map(|r| serde_json::to_string(r).unwrap()).collect();
    lines.join("\n")
}

fn check(route: &HTTPRoute, split: &Split<'_>, expected: Expect) -> HTTPRoute {
    let after = patched(route, split);
    expected.assert_eq(&shown(&after));
    after
}

#[test]
fn only_the_weights_of_rules_with_both_services_are_set() {
    let route = route(json!([
        {"backendRefs": [{"name": "stable"}]},
        {"backendRefs": [{"name": "stable", "weight": 95}, {"name": "canary", "weight": 5}, {"name": "other"}]},
    ]));
    let patch = patch(&route, &split(20, &[]));
    let lines: Vec<_> = patch
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    expect![[r#"
        {"op":"test","path":"/metadata/resourceVersion","value":"7"}
        {"op":"add","path":"/spec/rules/1/backendRefs/0/weight","value":80}
        {"op":"add","path":"/spec/rules/1/backendRefs/1/weight","value":20}"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn weights_are_parts_of_the_sum_that_is_given() {
    let route = route(json!([{"backendRefs": [{"name": "stable"}, {"name": "canary"}]}]));
    let tenths = Split {
        parts: 1000,
        ..split(20, &[])
    };
    check(
        &route,
        &tenths,
        expect![[
            r#"{"backendRefs":[{"name":"stable","weight":800},{"name":"canary","weight":200}]}"#
        ]],
    );
}

#[test]
fn a_header_route_comes_before_the_others_and_goes_again() {
    let before = route(json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}],
         "backendRefs": [{"name": "stable", "port": 80}, {"name": "canary", "port": 80}]},
        {"backendRefs": [{"name": "other", "port": 80}]},
        {"backendRefs": [{"name": "stable", "port": 80}, {"name": "canary", "port": 80}]},
    ]));
    let rules = [header_rule(TextMatch::Prefix("a.b".into()))];
    let after = check(
        &before,
        &split(0, &rules),
        expect![[r#"
            {"name":"testers","matches":[{"path":{"type":"PathPrefix","value":"/a"},"headers":[{"type":"RegularExpression","name":"x-tester","value":"a\\.b.*"}]}],"backendRefs":[{"name":"canary","port":80,"weight":1}]}
            {"name":"testers.1","matches":[{"headers":[{"type":"RegularExpression","name":"x-tester","value":"a\\.b.*"}]}],"backendRefs":[{"name":"canary","port":80,"weight":1}]}
            {"matches":[{"path":{"type":"PathPrefix","value":"/a"}}],"backendRefs":[{"name":"stable","port":80,"weight":100},{"name":"canary","port":80,"weight":0}]}
            {"backendRefs":[{"name":"other","port":80}]}
            {"backendRefs":[{"name":"stable","port":80,"weight":100},{"name":"canary","port":80,"weight":0}]}"#]],
    );
    let seen = view(&after, SIDES, true);
    assert_eq!(seen.managed, [("testers".to_owned(), digest(&rules[0]))]);
    // A second time there is nothing to do, and in the end nothing is left.
    assert_eq!(patched(&after, &split(0, &rules)).spec, after.spec);
    let gone = patched(&after, &split(0, &[]));
    assert_eq!(gone.spec.rules.len(), 3);
    assert_eq!(view(&gone, SIDES, true).managed, []);
    assert!(!gone.annotations().contains_key(annotation::MANAGED_ROUTES));
}

#[test]
fn a_mirror_route_follows_the_weights() {
    let before = route(
        json!([{"backendRefs": [{"name": "stable", "port": 80}, {"name": "canary", "port": 80}]}]),
    );
    let any = RequestMatch {
        method: Some(TextMatch::Exact("GET".into())),
        path: Some(TextMatch::Prefix("/api".into())),
        headers: Vec::new(),
    };
    let rules = [ManagedRule {
        name: "copies".into(),
        action: ManagedAction::Mirror {
            matches: vec![any],
            percent: Weight::new(35).unwrap(),
        },
    }];
    let after = patched(&before, &split(0, &rules));
    check(
        &after,
        &split(10, &rules),
        expect![[r#"
            {"name":"copies","matches":[{"path":{"type":"PathPrefix","value":"/api"},"method":"GET"}],"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"canary","port":80},"percent":35}}],"backendRefs":[{"name":"stable","port":80,"weight":90},{"name":"canary","port":80,"weight":10}]}
            {"backendRefs":[{"name":"stable","port":80,"weight":90},{"name":"canary","port":80,"weight":10}]}"#]],
    );
}

#[test]
fn a_managed_rule_that_somebody_took_away_is_seen_as_gone() {
    let before = route(json!([{"backendRefs": [{"name": "stable"}, {"name": "canary"}]}]));
    let rules = [header_rule(TextMatch::Exact("1".into()))];
    let mut after = patched(&before, &split(0, &rules));
    after.spec.rules.remove(0);
    assert_eq!(view(&after, SIDES, true).managed, []);
    assert_eq!(patched(&after, &split(0, &rules)).spec.rules.len(), 2);
}

#[test]
fn the_share_of_a_route() {
    let share = |rules: &[Value]| {
        let rules: Vec<_> = rules
            .iter()
            .map(|refs| json!({"backendRefs": refs}))
            .collect();
        let seen = view(&route(json!(rules)), SIDES, true);
        seen.canary.map(|share| (share.percent(), seen.exact))
    };
    let refs = |stable: i32, canary: i32| json!([{"name": "stable", "weight": stable}, {"name": "canary", "weight": canary}]);
    assert_eq!(
        share(&[json!([{"name": "other"}]), refs(95, 5)]),
        Some((5, true))
    );
    assert_eq!(
        share(&[json!([{"name": "stable"}, {"name": "canary"}])]),
        Some((50, true))
    );
    assert_eq!(share(&[json!([{"name": "stable"}])]), None);
    // Nobody is served, a share below one percent, two rules that differ: all have to be set.
    assert_eq!(share(&[refs(0, 0)]), Some((0, false)));
    assert_eq!(share(&[refs(999, 1)]), Some((1, false)));
    assert_eq!(share(&[refs(100, 0), refs(50, 50)]), Some((50, false)));
}

#[test]
fn an_experiment_has_its_share_while_it_runs() {
    let before = route(
        json!([{"backendRefs": [{"name": "stable", "port": 80}, {"name": "canary", "port": 80}]}]),
    );
    let share = Share {
        service: "trial",
        weight: Weight::new(10).unwrap(),
        ports: vec![8080, 9090],
    };
    let with = Split {
        additional: &[share],
        ..split(20, &[])
    };
    let after = check(
        &before,
        &with,
        expect![[
            r#"{"backendRefs":[{"name":"stable","port":80,"weight":70},{"name":"canary","port":80,"weight":20},{"name":"trial","port":8080,"weight":10}]}"#
        ]],
    );
    let seen = view(&after, SIDES, true);
    assert_eq!(
        seen.additional,
        [("trial".to_owned(), Weight::new(10).unwrap())]
    );
    assert!(seen.exact);
    assert_eq!(patched(&after, &with).spec, after.spec);
    let gone = patched(&after, &split(20, &[]));
    assert_eq!(gone.spec.rules[0].backend_refs.len(), 2);
    assert!(gone.annotations().is_empty());
}
