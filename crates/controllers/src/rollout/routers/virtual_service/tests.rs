use expect_test::{Expect, expect};
use serin_api::rollout::ManagedRule;
use serin_api::units::Weight;
use serin_engine::rollout::digest;

use super::super::of_users;
use super::*;

fn hosts() -> Places<'static> {
    Places {
        namespace: "default",
        sides: Sides {
            stable: "stable",
            canary: "canary",
        },
        subsets: None,
        host: None,
    }
}

fn subsets() -> Subsets {
    Subsets {
        rule: "web-app-destination".into(),
        stable: "v1".into(),
        canary: "v2".into(),
    }
}

fn service(http: Value) -> VirtualService {
    let spec = json!({"hosts": ["web.example"], "http": http});
    let mut service = VirtualService::new("web", serde_json::from_value(spec).unwrap());
    service.metadata.resource_version = Some("7".into());
    service
}

fn to(host: &str, weight: i32) -> Value {
    json!({"destination": {"host": host, "port": {"number": 80}}, "weight": weight})
}

fn split<'a>(percent: i32, managed: &'a [ManagedRule], additional: &'a [Share<'a>]) -> Split<'a> {
    Split {
        sides: hosts().sides,
        canary: Weight::new(percent).unwrap(),
        parts: 100,
        additional,
        managed,
        split_by: None,
    }
}

/// As the API would store it.
fn patched(
    service: &VirtualService,
    http: &[String],
    places: &Places<'_>,
    split: &Split<'_>,
) -> VirtualService {
    let mut object = serde_json::to_value(service).unwrap();
    let patch = patch(service, http, places, split);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    serde_json::from_value(object).unwrap()
}

fn shown(service: &VirtualService) -> String {
    let routes = service.spec.http.iter();
    let lines: Vec<_> = routes.map(|r| serde_json::to_string(r).unwrap()).collect();
    lines.join("\n")
}

fn check(service: &VirtualService, split: &Split<'_>, expected: Expect) -> VirtualService {
    let after = patched(service, &[], &hosts(), split);
    expected.assert_eq(&shown(&after));
    after
}

fn primary() -> Value {
    json!({"name": "primary", "timeout": "5s", "match": [{"uri": {"prefix": "/a"}}, {"uri": {"exact": "/b"}}],
        "route": [to("stable", 100), to("canary.default.svc.cluster.local", 0)]})
}

#[test]
fn only_the_weights_of_the_routes_that_are_named_are_set() {
    let other = json!({"name": "other", "route": [to("stable", 100), to("canary", 0)]});
    let service = service(json!([primary(), other]));
    let patch = patch(
        &service,
        &["primary".into()],
        &hosts(),
        &split(20, &[], &[]),
    );
    let lines: Vec<_> = patch
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    expect![[r#"
        {"op":"test","path":"/metadata/resourceVersion","value":"7"}
        {"op":"add","path":"/spec/http/0/route/0/weight","value":80}
        {"op":"add","path":"/spec/http/0/route/1/weight","value":20}"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_route_that_cannot_carry_the_split_says_why() {
    let problems = |http: Value, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        view(&service(http), &names, &hosts(), true)
            .problems
            .join("\n")
    };
    let both = json!({"route": [to("stable", 100), to("canary", 0)]});
    expect![[r#"
        has no HTTP route "gone"
        has an HTTP route "half" whose destinations do not name both sides"#]]
    .assert_eq(&problems(
        json!([{"name": "half", "route": [to("stable", 100)]}, both]),
        &["gone", "half"],
    ));
    expect!["has several HTTP routes that name both sides: say in virtualService.routes which of them split"]
        .assert_eq(&problems(json!([both, both]), &[]));
    let third = json!({"route": [to("stable", 80), to("canary", 0), to("third", 20)]});
    expect![[r#"sends a share of an HTTP route that splits to "third", which is neither side: take it out"#]]
        .assert_eq(&problems(json!([third]), &[]));
    // The Services of another namespace are others.
    let foreign = json!([{"route": [to("stable.other", 100), to("canary.other", 0)]}]);
    let seen = view(&service(foreign), &[], &hosts(), true);
    assert_eq!((seen.canary, seen.problems.len()), (None, 0));
}

#[test]
fn the_share_of_a_virtual_service() {
    let share = |stable: Value, canary: Value| {
        let http = json!([{"route": [stable, canary]}]);
        let seen = view(&service(http), &[], &hosts(), true);
        (seen.canary.unwrap().percent(), seen.exact)
    };
    assert_eq!(share(to("stable", 95), to("canary", 5)), (5, true));
    let bare = |host: &str| json!({"destination": {"host": host}});
    // Nobody is served, or a share below one percent: both have to be set.
    assert_eq!(share(bare("stable"), bare("canary")), (0, false));
    assert_eq!(share(to("stable", 999), to("canary", 1)), (1, false));
}

#[test]
fn a_split_of_subsets_is_set_in_what_a_user_wrote() {
    let service: VirtualService = of_users("VirtualService");
    let subsets = subsets();
    let places = Places {
        sides: Sides {
            stable: "",
            canary: "",
        },
        subsets: Some(&subsets),
        host: Some("web-app-service.default.svc.cluster.local".into()),
        ..hosts()
    };
    let seen = view(&service, &[], &places, true);
    assert_eq!((seen.canary, seen.exact), (Weight::new(10), true));
    // The route of the testers leads to one side only: it stays as it is.
    let after = patched(&service, &[], &places, &split(35, &[], &[]));
    expect![[r#"
        {"match":[{"headers":{"canary":{"exact":"true"}}}],"route":[{"destination":{"host":"web-app-service","subset":"v2"},"weight":100}]}
        {"route":[{"destination":{"host":"web-app-service","subset":"v1"},"weight":65},{"destination":{"host":"web-app-service","subset":"v2"},"weight":35}]}"#]]
    .assert_eq(&shown(&after));
    // Subsets of another host are others.
    let elsewhere = Places {
        host: Some("another".into()),
        ..places
    };
    assert_eq!(view(&service, &[], &elsewhere, true).canary, None);
}

fn testers() -> ManagedRule {
    let header = |name: &str, value: TextMatch| (name.to_owned(), value);
    ManagedRule {
        name: "testers".into(),
        action: ManagedAction::Header(vec![
            header("X-Tester", TextMatch::Exact("1".into())),
            header("x-team", TextMatch::Prefix("a".into())),
        ]),
    }
}

#[test]
fn a_header_route_is_a_narrower_copy_and_goes_again() {
    let before = service(json!([primary()]));
    let rules = [testers()];
    let after = check(
        &before,
        &split(0, &rules, &[]),
        expect![[r#"
            {"name":"testers","match":[{"uri":{"prefix":"/a"},"headers":{"x-tester":{"exact":"1"}}},{"uri":{"exact":"/b"},"headers":{"x-tester":{"exact":"1"}}},{"uri":{"prefix":"/a"},"headers":{"x-team":{"prefix":"a"}}},{"uri":{"exact":"/b"},"headers":{"x-team":{"prefix":"a"}}}],"route":[{"destination":{"host":"canary.default.svc.cluster.local","port":{"number":80}},"weight":100}],"timeout":"5s"}
            {"name":"primary","match":[{"uri":{"prefix":"/a"}},{"uri":{"exact":"/b"}}],"route":[{"destination":{"host":"stable","port":{"number":80}},"weight":100},{"destination":{"host":"canary.default.svc.cluster.local","port":{"number":80}},"weight":0}],"timeout":"5s"}"#]],
    );
    let seen = view(&after, &[], &hosts(), true);
    assert_eq!(seen.managed, [("testers".to_owned(), digest(&rules[0]))]);
    // A second time there is nothing to do, and in the end nothing is left.
    let again = patched(&after, &[], &hosts(), &split(0, &rules, &[]));
    assert_eq!(again.spec, after.spec);
    let gone = patched(&after, &[], &hosts(), &split(0, &[], &[]));
    assert_eq!(gone.spec, before.spec);
    assert_eq!(view(&gone, &[], &hosts(), true).managed, []);
}

#[test]
fn a_mirror_route_follows_the_weights() {
    let before = service(json!([primary()]));
    let get = RequestMatch {
        method: Some(TextMatch::Exact("GET".into())),
        ..RequestMatch::default()
    };
    let rules = [ManagedRule {
        name: "copies".into(),
        action: ManagedAction::Mirror {
            matches: vec![get],
            percent: Weight::new(35).unwrap(),
        },
    }];
    let after = patched(&before, &[], &hosts(), &split(0, &rules, &[]));
    check(
        &after,
        &split(10, &rules, &[]),
        expect![[r#"
            {"name":"copies","match":[{"uri":{"prefix":"/a"},"method":{"exact":"GET"}},{"uri":{"exact":"/b"},"method":{"exact":"GET"}}],"route":[{"destination":{"host":"stable","port":{"number":80}},"weight":90},{"destination":{"host":"canary.default.svc.cluster.local","port":{"number":80}},"weight":10}],"timeout":"5s","mirror":{"host":"canary.default.svc.cluster.local","port":{"number":80}},"mirrorPercentage":{"value":35.0}}
            {"name":"primary","match":[{"uri":{"prefix":"/a"}},{"uri":{"exact":"/b"}}],"route":[{"destination":{"host":"stable","port":{"number":80}},"weight":90},{"destination":{"host":"canary.default.svc.cluster.local","port":{"number":80}},"weight":10}],"timeout":"5s"}"#]],
    );
}

#[test]
fn an_experiment_has_its_share_while_it_runs() {
    let before = service(json!([{"route": [to("stable", 100), to("canary", 0)]}]));
    let share = |service, percent| Share {
        service,
        weight: Weight::new(percent).unwrap(),
        ports: vec![8080],
    };
    let additional = [share("trial-a", 10), share("trial-b", 5)];
    let after = check(
        &before,
        &split(20, &[], &additional),
        expect![[
            r#"{"route":[{"destination":{"host":"stable","port":{"number":80}},"weight":65},{"destination":{"host":"canary","port":{"number":80}},"weight":20},{"destination":{"host":"trial-a","port":{"number":8080}},"weight":10},{"destination":{"host":"trial-b","port":{"number":8080}},"weight":5}]}"#
        ]],
    );
    let seen = view(&after, &[], &hosts(), true);
    let shares = additional.iter().map(|s| (s.service.to_owned(), s.weight));
    assert_eq!(seen.additional, shares.collect::<Vec<_>>());
    assert!(seen.exact && seen.problems.is_empty());
    let again = patched(&after, &[], &hosts(), &split(20, &[], &additional));
    assert_eq!(again.spec, after.spec);
    let one = patched(&after, &[], &hosts(), &split(20, &[], &additional[1..]));
    assert_eq!(view(&one, &[], &hosts(), true).additional.len(), 1);
    let none = patched(&one, &[], &hosts(), &split(0, &[], &[]));
    assert_eq!(none.spec, before.spec);
}
