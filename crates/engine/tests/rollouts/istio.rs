//! Canaries behind VirtualServices: the two sides are subsets of a DestinationRule, Services, or both.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serin_api::rollout::{RolloutSpec, Route};
use serin_api::units::Weight;
use serin_api::waiting::WaitingOn;
use serin_engine::invariants;
use serin_engine::rollout::{Observed, Plan, RouteView, ServiceView, plan};

use crate::views::{hash, now, revision, shown, spec, view};

fn subsets() -> Value {
    let rule = json!({"name": "rule", "stableSubsetName": "old", "canarySubsetName": "new"});
    let istio = json!({"virtualService": {"name": "web"}, "destinationRule": rule});
    json!({"canary": {"steps": [{"setWeight": 25}, {"pause": {}}], "trafficRouting": {"istio": istio}}})
}

fn pointing(spec: &RolloutSpec, acknowledged: bool) -> ServiceView {
    ServiceView {
        revision: Some(hash(spec)),
        acknowledged,
        taken_by: None,
    }
}

/// v1 is stable; v2 is on trial at a step with so many available instances. The subsets lead to these.
fn on_trial(
    strategy: &Value,
    available: u32,
    (step, share): (i32, i32),
    sides: [(&str, &str); 2],
) -> (RolloutSpec, Observed) {
    let version = |version: &str| spec(version, 4, strategy.clone());
    let (v1, v2) = (version("1"), version("2"));
    let sets = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, available)];
    let mut observed = view(sets, &v1, &[], share);
    let seen = observed.routes.pop_first().unwrap().1;
    let route = Route::VirtualService {
        name: "web".into(),
        http: Vec::new(),
    };
    observed.routes.insert(route, seen);
    let subsets = sides.map(|(name, to)| (name.to_owned(), pointing(&version(to), true)));
    observed.subsets = Some(BTreeMap::from(subsets));
    observed.status = plan(&v2, &observed, now()).status;
    observed.status.current_step_index = Some(step);
    (v2, observed)
}

fn sound(spec: &RolloutSpec, observed: &Observed) -> Plan {
    let plan = plan(spec, observed, now());
    assert_eq!(invariants::check(spec, observed, &plan), []);
    plan
}

fn named(plan: &Plan, v2: &RolloutSpec) -> Vec<String> {
    let lines = shown(plan).into_iter();
    lines
        .map(|line| line.replace(hash(v2).as_str(), "v2"))
        .collect()
}

fn waits_for_the_rule(plan: &Plan) -> bool {
    let rule = WaitingOn::Acknowledgement {
        kind: "DestinationRule".into(),
        name: "rule".into(),
    };
    plan.waiting_on == rule
}

#[test]
fn a_share_moves_after_its_subset_is_served() {
    let both_old = [("old", "1"), ("new", "1")];
    let (v2, mut observed) = on_trial(&subsets(), 1, (0, 0), both_old);
    assert_eq!(
        named(&sound(&v2, &observed), &v2),
        ["scale v2 to 1", "point subset new of rule at v2"]
    );
    observed.revisions[1].desired = 1;
    let seen = observed.subsets.as_mut().unwrap();
    seen.insert("new".into(), pointing(&v2, false));
    let waits = sound(&v2, &observed);
    assert_eq!(named(&waits, &v2), Vec::<String>::new());
    assert!(waits_for_the_rule(&waits));
    let seen = observed.subsets.as_mut().unwrap();
    seen.insert("new".into(), pointing(&v2, true));
    let moves = sound(&v2, &observed);
    assert_eq!(named(&moves, &v2), ["send 25 % of web to the canary"]);
}

#[test]
fn the_route_goes_back_after_the_stable_subset_is_served_on_the_new_revision() {
    let (v2, mut observed) = on_trial(&subsets(), 4, (2, 100), [("old", "1"), ("new", "2")]);
    let last = sound(&v2, &observed);
    assert_eq!(named(&last, &v2), ["point subset old of rule at v2"]);
    assert!(waits_for_the_rule(&last));
    let seen = observed.subsets.as_mut().unwrap();
    seen.insert("old".into(), pointing(&v2, false));
    let waits = sound(&v2, &observed);
    assert_eq!(named(&waits, &v2), Vec::<String>::new());
    assert!(waits_for_the_rule(&waits));
    let seen = observed.subsets.as_mut().unwrap();
    seen.insert("old".into(), pointing(&v2, true));
    let back = sound(&v2, &observed);
    assert_eq!(named(&back, &v2), ["send 0 % of web to the canary"]);
}

#[test]
fn an_abort_gives_the_share_back_before_the_subset() {
    let (v2, mut observed) = on_trial(&subsets(), 1, (1, 25), [("old", "1"), ("new", "2")]);
    observed.revisions[1].desired = 1;
    observed.status.abort = true;
    let back = sound(&v2, &observed);
    assert_eq!(named(&back, &v2)[0], "send 0 % of web to the canary");
    assert_eq!(observed.routes.len(), 1);
    observed.status = back.status;
    observed.routes.values_mut().next().unwrap().canary = Some(Weight::ZERO);
    let then = named(&sound(&v2, &observed), &v2);
    let of_v1 = format!(
        "point subset new of rule at {}",
        hash(&spec("1", 4, subsets()))
    );
    assert!(then.contains(&of_v1), "{then:?}");
}

#[test]
fn services_beside_subsets_follow_their_sides() {
    let mut both = subsets();
    both["canary"]["stableService"] = json!("stable");
    both["canary"]["canaryService"] = json!("canary");
    let (v2, mut observed) = on_trial(&both, 1, (0, 0), [("old", "1"), ("new", "1")]);
    let v1 = spec("1", 4, both.clone());
    for name in ["stable", "canary"] {
        observed.services.insert(name.into(), pointing(&v1, true));
    }
    observed.status = plan(&v2, &observed, now()).status;
    observed.revisions[1].desired = 1;
    let moves = sound(&v2, &observed);
    assert_eq!(
        named(&moves, &v2),
        ["point subset new of rule at v2", "point canary at v2"]
    );
}

type Change<'a> = &'a dyn Fn(&mut Observed);

#[test]
fn what_is_wrong_with_a_virtual_service_or_a_destination_rule_is_named() {
    let told = |change: &dyn Fn(&mut Observed)| {
        let (v2, mut observed) = on_trial(&subsets(), 1, (0, 0), [("old", "1"), ("new", "1")]);
        change(&mut observed);
        plan(&v2, &observed, now())
            .status
            .message
            .unwrap_or_default()
    };
    let rule = "spec.strategy.canary.trafficRouting.istio.destinationRule";
    let service = "spec.strategy.canary.trafficRouting.istio.virtualService.name";
    let cases: [(Change<'_>, String); 4] = [
        (
            &|o| o.subsets = None,
            format!("{rule}.name: Invalid value: \"rule\": DestinationRule \"rule\" not found"),
        ),
        (
            &|o| drop(o.subsets.as_mut().unwrap().remove("new")),
            format!(
                "{rule}.canarySubsetName: Invalid value: \"new\": DestinationRule \"rule\" has no such subset"
            ),
        ),
        (
            &|o| o.routes.clear(),
            format!("{service}: Invalid value: \"web\": VirtualService \"web\" not found"),
        ),
        (
            &|o| {
                let view = RouteView {
                    problems: vec!["has no HTTP route \"a\"".into()],
                    ..RouteView::default()
                };
                o.routes.values_mut().for_each(|seen| *seen = view.clone());
            },
            format!(
                "{service}: Invalid value: \"web\": VirtualService \"web\" has no HTTP route \"a\""
            ),
        ),
    ];
    for (change, expected) in cases {
        let message = told(change);
        assert!(message.contains(&expected), "{message}");
    }
}
