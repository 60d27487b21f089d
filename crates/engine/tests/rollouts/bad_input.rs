//! What people change while a release is under way, and what is wrong with it: in every phase a plan breaks no promise, and a spec
//! that cannot be carried out moves nobody.

use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::rollout::{RolloutPhase, RolloutSpec};
use serin_engine::invariants;
use serin_engine::rollout::{Observed, plan};

use crate::views::{hash, now, revision, routed, settled, shown, spec, view};

fn strategy() -> Value {
    routed(
        json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "1h"}}]),
    )
}

/// The phases of a release from v1 to v2, with their names.
fn phases() -> Vec<(&'static str, Observed)> {
    let (v1, v2) = (spec("1", 4, strategy()), spec("2", 4, strategy()));
    let at = |instances: (u32, u32), sides: [&RolloutSpec; 2], step: i32, share: i32| {
        let sets = vec![
            revision(&v1, 1, 4, 4),
            revision(&v2, 2, instances.0, instances.1),
        ];
        let services = [("stable", sides[0]), ("canary", sides[1])];
        let mut observed = view(sets, &v1, &services, share);
        observed.status = plan(&v2, &observed, now()).status;
        observed.status.current_step_index = Some(step);
        observed.status = plan(&v2, &observed, now()).status;
        observed
    };
    let mut aborted = at((1, 1), [&v1, &v2], 1, 25);
    aborted.status.abort = true;
    aborted.status = plan(&v2, &aborted, now()).status;
    let mut promoted = at((1, 1), [&v1, &v2], 1, 25);
    promoted.status.promote_full = true;
    let mut complete = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)],
        &v2,
        &[("stable", &v2), ("canary", &v2)],
        0,
    );
    let _ = settled(&v2, &mut complete, now());
    vec![
        ("before its first instance", at((0, 0), [&v1, &v1], 0, 0)),
        ("with an instance that starts", at((1, 0), [&v1, &v1], 0, 0)),
        ("at a pause", at((1, 1), [&v1, &v2], 1, 25)),
        ("between two shares", at((2, 1), [&v1, &v2], 2, 25)),
        ("with a timed pause", at((2, 2), [&v1, &v2], 3, 50)),
        ("with all requests on it", at((4, 4), [&v1, &v2], 4, 100)),
        (
            "with the stable Service behind it",
            at((4, 4), [&v2, &v2], 4, 100),
        ),
        ("taken back", aborted),
        ("promoted in full", promoted),
        ("complete", complete),
    ]
}

fn changes() -> Vec<(&'static str, RolloutSpec)> {
    let with = |change: &dyn Fn(&mut RolloutSpec)| {
        let mut changed = spec("2", 4, strategy());
        change(&mut changed);
        changed
    };
    let of = |strategy: Value| serde_json::from_value(strategy).unwrap();
    vec![
        ("another version", spec("3", 4, strategy())),
        ("the old version", spec("1", 4, strategy())),
        (
            "other steps",
            spec("2", 4, routed(json!([{"setWeight": 10}]))),
        ),
        ("no steps", spec("2", 4, routed(json!([])))),
        ("one instance", with(&|s| s.replicas = Some(1))),
        ("no instances", with(&|s| s.replicas = Some(0))),
        (
            "very many instances",
            with(&|s| s.replicas = Some(i32::MAX)),
        ),
        ("a pause", with(&|s| s.paused = Some(true))),
        (
            "no route",
            with(&|s| {
                s.strategy =
                    of(json!({"canary": {"stableService": "stable", "canaryService": "canary"}}))
            }),
        ),
        (
            "blue-green",
            with(&|s| {
                s.strategy = of(
                    json!({"blueGreen": {"activeService": "stable", "previewService": "canary"}}),
                )
            }),
        ),
        (
            "a scale that follows the share",
            with(&|s| s.strategy.canary.as_mut().unwrap().dynamic_stable_scale = Some(true)),
        ),
    ]
}

#[test]
fn a_spec_may_change_in_every_phase() {
    for (phase, observed) in phases() {
        for (change, wanted) in changes() {
            let mut observed = observed.clone();
            for _ in 0..5 {
                let next = plan(&wanted, &observed, now());
                let broken = invariants::check(&wanted, &observed, &next);
                assert_eq!(broken, [], "{change}, {phase}: {:?}", shown(&next));
                observed.status = next.status;
            }
        }
    }
}

#[test]
fn a_spec_that_cannot_be_carried_out_moves_nobody_in_any_phase() {
    let mut bad = spec("3", 4, strategy());
    bad.replicas = Some(-1);
    let canary = bad.strategy.canary.as_mut().unwrap();
    canary.steps[0].set_weight = Some(101);
    canary.canary_service = Some("stable".into());
    for (phase, observed) in phases() {
        let held = plan(&bad, &observed, now());
        assert_eq!(held.actions, [], "{phase}");
        assert_eq!(held.status.stable_rs, observed.status.stable_rs, "{phase}");
        assert_eq!(held.status.phase, Some(RolloutPhase::Degraded), "{phase}");
        let told = conditions::get(&held.status.conditions, "InvalidSpec").unwrap();
        for part in ["spec.replicas", "steps[0].setWeight", "canaryService"] {
            assert!(told.message.contains(part), "{phase}: {}", told.message);
        }
    }
}

#[test]
fn a_service_or_a_route_that_is_gone_is_named_in_every_phase_and_bars_no_way_back() {
    let (v1, v2) = (spec("1", 4, strategy()), spec("2", 4, strategy()));
    for (phase, mut observed) in phases() {
        observed.services.remove("canary");
        observed.routes.clear();
        let held = plan(&v2, &observed, now());
        assert_eq!(invariants::check(&v2, &observed, &held), [], "{phase}");
        let told = conditions::get(&held.status.conditions, "InvalidSpec").unwrap();
        for part in [
            "service \"canary\" not found",
            "HTTPRoute \"web\" not found",
        ] {
            assert!(told.message.contains(part), "{phase}: {}", told.message);
        }
        let back = plan(&v1, &observed, now());
        assert_eq!(invariants::check(&v1, &observed, &back), [], "{phase}");
        let current = back.status.current_pod_hash.as_deref();
        if phase != "complete" {
            assert_eq!(current, Some(hash(&v1).as_str()), "{phase}");
        }
    }
}

/// A canary that is to have no instances, while a share is set or an older revision still has some.
#[test]
fn a_scale_of_no_instances_leaves_no_request_without_an_answer() {
    let scales = [
        json!({"replicas": 0}),
        json!({"weight": 0}),
        json!({"replicas": 1}),
    ];
    for scale in scales {
        let steps = json!([
            {"setCanaryScale": scale}, {"pause": {}}, {"setCanaryScale": {"matchTrafficWeight": true}},
            {"setWeight": 25}, {"setCanaryScale": scale}, {"pause": {}},
        ]);
        let versions = ["0", "1", "2"].map(|v| spec(v, 4, routed(steps.clone())));
        let [_, v1, v2] = &versions;
        for (view, observed) in leftovers(&versions) {
            for step in 0..=5 {
                let mut observed = observed.clone();
                observed.status = plan(v2, &observed, now()).status;
                observed.status.current_step_index = Some(step);
                for wanted in [v2, v1] {
                    let next = plan(wanted, &observed, now());
                    let broken = invariants::check(wanted, &observed, &next);
                    assert_eq!(
                        broken,
                        [],
                        "{scale}, step {step}, {view}: {:?}",
                        shown(&next)
                    );
                }
            }
        }
    }
}

/// Views of a release from v1 to v2 with what is left of v0: instances of each, where the canary Service leads, and the share.
fn leftovers(versions: &[RolloutSpec; 3]) -> Vec<(String, Observed)> {
    let [v0, v1, v2] = versions;
    let mut views = Vec::new();
    for old in [(0, 0), (1, 0), (4, 4)] {
        for new in [(0, 0), (1, 0), (1, 1), (4, 4)] {
            for (on, side) in versions.iter().enumerate() {
                for share in [0, 25] {
                    for served in [true, false] {
                        let sets = vec![
                            revision(v0, 1, old.0, old.1),
                            revision(v1, 2, 4, 4),
                            revision(v2, 3, new.0, new.1),
                        ];
                        let services = [("stable", v1), ("canary", side)];
                        let mut observed = view(sets, v1, &services, share);
                        for service in observed.services.values_mut() {
                            service.acknowledged = served;
                        }
                        let told = format!(
                            "v0 {old:?}, v2 {new:?}, canary Service on v{on}, {share} %, served {served}"
                        );
                        views.push((told, observed));
                    }
                }
            }
        }
    }
    views
}
