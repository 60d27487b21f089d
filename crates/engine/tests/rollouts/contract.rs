//! The contract of Argo Rollouts, each point on a view: what is planned in it. `docs/argo-rollouts.md` names these tests.

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{PodMetadata, RolloutPhase, RolloutSpec};
use serin_api::units::RevisionHash;
use serin_api::waiting::WaitingOn;
use serin_engine::hash::{template_digest, template_hash};
use serin_engine::invariants;
use serin_engine::rollout::{
    Action, ExperimentView, Observed, Plan, Role, RunView, WorkloadView, plan,
};

use crate::views::{hash, now, revision, routed, run, settled, shown, spec, view};

/// A canary with a route and more fields.
fn canary(steps: Value, more: Value) -> Value {
    let mut strategy = routed(steps);
    let fields = strategy["canary"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    strategy
}

/// v1 is stable with 4 instances; v2 is on trial with so many of which so many are available, at a step and a share.
fn on_trial(
    strategy: &Value,
    instances: (u32, u32),
    step: i32,
    share: i32,
) -> (RolloutSpec, Observed) {
    let (v1, v2) = (
        spec("1", 4, strategy.clone()),
        spec("2", 4, strategy.clone()),
    );
    let trial = revision(&v2, 2, instances.0, instances.1);
    let services = [("stable", &v1), ("canary", &v2)];
    let mut observed = view(vec![revision(&v1, 1, 4, 4), trial], &v1, &services, share);
    observed.status = plan(&v2, &observed, now()).status;
    observed.status.current_step_index = Some(step);
    (v2, observed)
}

fn sound(spec: &RolloutSpec, observed: &Observed) -> Plan {
    let plan = plan(spec, observed, now());
    assert_eq!(invariants::check(spec, observed, &plan), []);
    plan
}

fn named(plan: &Plan, of: &RolloutSpec, name: &str) -> Vec<String> {
    let lines = shown(plan).into_iter();
    lines
        .map(|line| line.replace(hash(of).as_str(), name))
        .collect()
}

#[test]
fn with_a_route_only_the_canary_follows_the_share() {
    let strategy = routed(json!([{"setWeight": 30}]));
    let (v2, observed) = on_trial(&strategy, (0, 0), 0, 0);
    // ceil(30 % of 4), whatever surge says; the stable revision keeps its size.
    assert_eq!(named(&sound(&v2, &observed), &v2, "v2"), ["scale v2 to 2"]);
}

#[test]
fn a_share_moves_only_over_available_instances() {
    let strategy = routed(json!([{"setWeight": 25}, {"setWeight": 75}]));
    let (v2, observed) = on_trial(&strategy, (3, 2), 1, 25);
    let held = sound(&v2, &observed);
    assert_eq!(held.actions, []);
    let waits = WaitingOn::Ready {
        revision: hash(&v2),
        have: 2,
        want: 3,
    };
    assert_eq!(held.waiting_on, waits);
    let (v2, observed) = on_trial(&strategy, (3, 3), 1, 25);
    assert_eq!(
        shown(&sound(&v2, &observed)),
        ["send 75 % of web to the canary"]
    );
}

#[test]
fn with_no_available_instance_the_share_and_the_managed_routes_go() {
    let managed = json!({"trafficRouting": {"managedRoutes": [{"name": "a"}], "plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}}});
    let header = json!({"setHeaderRoute": {"name": "a", "match": [{"headerName": "x", "headerValue": {"exact": "1"}}]}});
    let strategy = canary(json!([{"setWeight": 25}, header, {"pause": {}}]), managed);
    let (v2, mut observed) = on_trial(&strategy, (1, 1), 1, 25);
    let set = sound(&v2, &observed);
    assert_eq!(shown(&set), ["send 25 % of web to the canary, with a"]);
    let route = observed.routes.values_mut().next().unwrap();
    route.managed = vec![("a".into(), "digest".into())];
    observed.revisions[1].available = 0;
    assert_eq!(
        shown(&sound(&v2, &observed)),
        ["send 0 % of web to the canary"]
    );
}

#[test]
fn managed_routes_go_with_an_abort() {
    let managed = json!({"trafficRouting": {"managedRoutes": [{"name": "a"}], "plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}}});
    let header = json!({"setHeaderRoute": {"name": "a", "match": [{"headerName": "x", "headerValue": {"exact": "1"}}]}});
    let strategy = canary(json!([header, {"pause": {}}]), managed);
    let (v2, mut observed) = on_trial(&strategy, (1, 1), 1, 0);
    let route = observed.routes.values_mut().next().unwrap();
    route.managed = vec![("a".into(), "digest".into())];
    observed.status.abort = true;
    let back = sound(&v2, &observed);
    assert!(shown(&back).contains(&"send 0 % of web to the canary".to_owned()));
}

#[test]
fn a_canary_scale_holds_until_it_matches_the_traffic_again() {
    let steps = json!([
        {"setCanaryScale": {"replicas": 3}}, {"setWeight": 25}, {"setCanaryScale": {"matchTrafficWeight": true}}, {"pause": {}},
    ]);
    let strategy = routed(steps);
    let (v2, observed) = on_trial(&strategy, (3, 3), 1, 0);
    assert_eq!(
        shown(&sound(&v2, &observed)),
        ["send 25 % of web to the canary"]
    );
    let (v2, observed) = on_trial(&strategy, (3, 3), 2, 25);
    assert_eq!(named(&sound(&v2, &observed), &v2, "v2"), ["scale v2 to 1"]);
}

#[test]
fn a_threshold_is_enough_for_a_step_and_not_for_the_end() {
    let threshold = json!({"replicaProgressThreshold": {"type": "Percent", "value": 50}});
    let strategy = canary(json!([{"setWeight": 100}]), threshold);
    let (v2, observed) = on_trial(&strategy, (4, 2), 0, 0);
    assert_eq!(
        shown(&sound(&v2, &observed)),
        ["send 100 % of web to the canary"]
    );
    let (v2, observed) = on_trial(&strategy, (4, 2), 1, 100);
    let end = sound(&v2, &observed);
    assert!(matches!(
        end.waiting_on,
        WaitingOn::Ready {
            have: 2,
            want: 4,
            ..
        }
    ));
}

#[test]
fn a_revision_that_is_used_has_its_least_pods() {
    let strategy = canary(
        json!([{"setWeight": 10}]),
        json!({"minPodsPerReplicaSet": 3}),
    );
    let (v2, observed) = on_trial(&strategy, (0, 0), 0, 0);
    assert_eq!(named(&sound(&v2, &observed), &v2, "v2"), ["scale v2 to 3"]);
}

#[test]
fn a_mixed_step_carries_out_its_kinds_in_order() {
    let strategy = routed(json!([{"setWeight": 50, "pause": {"duration": 10}}, {"pause": {}}]));
    let (v2, mut observed) = on_trial(&strategy, (2, 2), 0, 0);
    let begun = sound(&v2, &observed);
    assert_eq!(shown(&begun), ["send 50 % of web to the canary"]);
    assert!(begun.status.controller_pause);
    observed.status = begun.status;
    let later = plan(&v2, &observed, now() + SignedDuration::from_secs(11));
    // The pause is over, the share is not served yet.
    assert_eq!(later.status.current_step_index, Some(0));
    observed.routes.values_mut().next().unwrap().canary = serin_api::units::Weight::new(50);
    let done = plan(&v2, &observed, now() + SignedDuration::from_secs(12));
    assert_eq!(done.status.current_step_index, Some(1));
    assert!(!done.status.controller_pause);
}

#[test]
fn a_client_that_skips_a_pause_does_not_end_the_next_one() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}, {"pause": {}}]));
    let (v2, mut observed) = on_trial(&strategy, (1, 1), 1, 25);
    observed.status = sound(&v2, &observed).status;
    assert!(observed.status.controller_pause);
    // What `promote` sends at an inconclusive analysis, and `promote --skip-current-step`.
    observed.status.pause_conditions = None;
    observed.status.current_step_index = Some(2);
    let next = sound(&v2, &observed);
    assert_eq!(next.status.current_step_index, Some(2));
    assert_eq!(next.status.pause_conditions.map(|c| c.len()), Some(1));
}

#[test]
fn a_step_can_be_skipped_whatever_it_waits_for() {
    let strategy = routed(json!([{"setWeight": 25}, {"setWeight": 50}, {"pause": {}}]));
    let (v2, mut observed) = on_trial(&strategy, (1, 0), 0, 0);
    observed.status.current_step_index = Some(1);
    let skipped = sound(&v2, &observed);
    assert!(named(&skipped, &v2, "v2").contains(&"scale v2 to 2".to_owned()));
}

#[test]
fn a_rollback_within_the_window_skips_the_steps() {
    let window = |revisions: i32| {
        let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
        let versions = ["1", "2", "3"].map(|v| spec(v, 4, strategy.clone()));
        let [v1, v2, v3] = &versions;
        let revisions_seen = vec![
            revision(v1, 1, 0, 0),
            revision(v2, 2, 0, 0),
            revision(v3, 3, 4, 4),
        ];
        let observed = view(revisions_seen, v3, &[("stable", v3), ("canary", v3)], 0);
        let back = RolloutSpec {
            rollback_window: Some(serin_api::rollout::RollbackWindow {
                revisions: Some(revisions),
            }),
            ..v1.clone()
        };
        plan(&back, &observed, now()).status.current_step_index
    };
    // Between v1 and v3 there is v2: one revision is passed, so a window of two takes it in.
    assert_eq!(window(2), Some(2));
    assert_eq!(window(1), Some(0));
    assert_eq!(window(0), Some(0));
}

#[test]
fn an_abort_after_a_full_promote_works() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    let (v2, mut observed) = on_trial(&strategy, (4, 2), 1, 25);
    observed.status.promote_full = true;
    observed.status = sound(&v2, &observed).status;
    observed.status.abort = true;
    let back = sound(&v2, &observed);
    assert!(shown(&back).contains(&"send 0 % of web to the canary".to_owned()));
    assert_eq!(back.status.phase, Some(RolloutPhase::Degraded));
    assert!(!back.status.promote_full);
}

#[test]
fn a_release_that_is_late_goes_on_unless_it_is_to_be_taken_back() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    let late = |abort: Option<bool>| {
        let (v2, mut observed) = on_trial(&strategy, (1, 0), 0, 0);
        let v2 = RolloutSpec {
            progress_deadline_abort: abort,
            ..v2
        };
        let _ = settled(&v2, &mut observed, now());
        let late = plan(&v2, &observed, now() + SignedDuration::from_secs(601));
        (late.status.phase, late.status.abort)
    };
    assert_eq!(late(None), (Some(RolloutPhase::Degraded), false));
    assert_eq!(late(Some(true)), (Some(RolloutPhase::Degraded), true));
}

#[test]
fn old_revisions_take_no_more_than_their_places() {
    let strategy = json!({"blueGreen": {"activeService": "active", "scaleDownDelaySeconds": 60, "scaleDownDelayRevisionLimit": 1}});
    let versions = ["1", "2", "3"].map(|v| spec(v, 4, strategy.clone()));
    let [v1, v2, v3] = &versions;
    let kept = |spec: &RolloutSpec, number| {
        let mut kept = revision(spec, number, 4, 4);
        kept.keep_until = Some(now() + SignedDuration::from_secs(30));
        kept
    };
    let observed = view(
        vec![kept(v1, 1), kept(v2, 2), revision(v3, 3, 4, 4)],
        v3,
        &[("active", v3)],
        0,
    );
    assert_eq!(named(&sound(v3, &observed), v1, "v1"), ["scale v1 to 0"]);
}

#[test]
fn labels_follow_the_part_that_a_revision_plays() {
    let metadata = |role: &str| json!({"labels": {"role": role, "app": "never"}});
    let by_share = canary(
        json!([{"setWeight": 25}, {"pause": {}}]),
        json!({"canaryMetadata": metadata("canary"), "stableMetadata": metadata("stable")}),
    );
    let (v2, observed) = on_trial(&by_share, (1, 1), 1, 25);
    labels_follow(&v2, observed, ["stable", "canary"]);

    let at_once = json!({"blueGreen": {
        "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false,
        "activeMetadata": metadata("active"), "previewMetadata": metadata("preview")}});
    let (v1, v2) = (spec("1", 4, at_once.clone()), spec("2", 4, at_once));
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)];
    let services = [("active", &v1), ("preview", &v2)];
    let observed = view(revisions, &v1, &services, 0);
    labels_follow(&v2, observed, ["active", "preview"]);
}

/// The stable revision and the new one are given the labels of these roles, once.
fn labels_follow(v2: &RolloutSpec, mut observed: Observed, expected: [&str; 2]) {
    let set = |plan: &Plan| -> Vec<(RevisionHash, PodMetadata)> {
        let actions = plan.actions.iter().filter_map(|action| match action {
            Action::SetMetadata { revision, metadata } => {
                Some((revision.clone(), metadata.clone()))
            }
            _ => None,
        });
        actions.collect()
    };
    let planned = set(&sound(v2, &observed));
    let roles: Vec<_> = planned
        .iter()
        .map(|(_, m)| m.labels["role"].as_str())
        .collect();
    assert_eq!(roles, expected);
    // A key of the template is the template's.
    assert!(planned.iter().all(|(_, m)| m.labels.len() == 1));
    for (revision, (_, metadata)) in observed.revisions.iter_mut().zip(planned) {
        revision.metadata = Some(metadata);
    }
    assert_eq!(set(&sound(v2, &observed)), []);
    // A pod that came without is seen, and the whole is set again.
    observed.revisions[1].metadata = None;
    assert_eq!(set(&sound(v2, &observed)).len(), 1);
}

#[test]
fn old_revisions_and_finished_analyses_go_beyond_their_limits() {
    let mut now_stable = spec("4", 4, routed(json!([])));
    now_stable.revision_history_limit = Some(1);
    let limits = json!({"successfulRunHistoryLimit": 1, "unsuccessfulRunHistoryLimit": 2});
    now_stable.analysis = serde_json::from_value(limits).unwrap();
    let old = ["1", "2", "3"].map(|version| spec(version, 4, routed(json!([]))));
    let mut revisions: Vec<_> = (1..)
        .zip(&old)
        .map(|(number, old)| revision(old, number, 0, 0))
        .collect();
    revisions.push(revision(&now_stable, 4, 4, 4));
    let services = [("stable", &now_stable), ("canary", &now_stable)];
    let mut observed = view(revisions, &now_stable, &services, 0);
    let phases = [AnalysisPhase::Successful, AnalysisPhase::Failed];
    observed.runs = (1..=3_i64)
        .flat_map(|number| phases.map(|phase| (number, phase)))
        .map(|(number, phase)| RunView {
            created: now() + SignedDuration::from_secs(number),
            ..run(
                &format!("{phase:?}-{number}"),
                Role::Step(0),
                &old[2],
                phase,
            )
        })
        .collect();
    let done = settled(&now_stable, &mut observed, now());
    let mut gone = shown(&done);
    for (version, old) in ["v1", "v2", "v3"].iter().zip(&old) {
        for line in &mut gone {
            *line = line.replace(hash(old).as_str(), version);
        }
    }
    expect_test::expect![[r#"
        forget v2
        forget v1
        forget analysis Successful-2
        forget analysis Successful-1
        forget analysis Failed-1"#]]
    .assert_eq(&gone.join("\n"));
}

#[test]
fn the_time_to_be_ready_is_carried_to_old_revisions() {
    let (v2, mut observed) = on_trial(&routed(json!([{"pause": {}}])), (0, 0), 0, 0);
    observed.revisions[0].min_ready_seconds = 5;
    let v1 = observed.revisions[0].hash.clone();
    let expected = Action::SetMinReady {
        revision: v1,
        seconds: 0,
    };
    assert!(sound(&v2, &observed).actions.contains(&expected));
}

#[test]
fn a_new_revision_keeps_away_from_the_stable_one_when_asked() {
    let wish = json!({"antiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}});
    for (more, expected) in [(wish, true), (json!({}), false)] {
        let strategy = canary(json!([{"pause": {}}]), more);
        let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
        let services = [("stable", &v1), ("canary", &v1)];
        let observed = view(vec![revision(&v1, 1, 4, 4)], &v1, &services, 0);
        let created = sound(&v2, &observed).actions;
        let Some(Action::Create { apart_from, .. }) = created.first() else {
            unreachable!("{created:?}")
        };
        assert_eq!(*apart_from, expected.then(|| hash(&v1)));
    }
}

#[test]
fn a_referenced_workload_goes_as_its_mode_says() {
    let planned = |mode: &str, available: u32, stable: bool| {
        let mut v1 = spec("1", 4, json!({"canary": {"maxSurge": 1}}));
        v1.workload_ref = Some(
            serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "old", "scaleDown": mode})).unwrap(),
        );
        let mut observed = view(vec![revision(&v1, 1, 4, available)], &v1, &[], 0);
        if !stable {
            observed.status.stable_rs = None;
        }
        observed.workload = Some(WorkloadView {
            generation: 7,
            replicas: Some(4),
        });
        let plan = plan(&v1, &observed, now());
        assert_eq!(
            plan.status.workload_observed_generation.as_deref(),
            Some("7")
        );
        plan.actions.iter().find_map(|action| match action {
            Action::ScaleWorkload { to } => Some(*to),
            _ => None,
        })
    };
    assert_eq!(planned("never", 4, true), None);
    assert_eq!(planned("onsuccess", 4, false), None);
    assert_eq!(planned("onsuccess", 4, true), Some(0));
    assert_eq!(planned("progressively", 0, false), None);
    assert_eq!(planned("progressively", 3, false), Some(1));
    assert_eq!(planned("progressively", 4, true), Some(0));
}

#[test]
fn a_referenced_workload_that_is_missing_is_named() {
    let mut v1 = spec("1", 4, json!({"canary": {}}));
    v1.template = None;
    v1.workload_ref = Some(
        serde_json::from_value(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "old"}),
        )
        .unwrap(),
    );
    let held = plan(&v1, &Observed::default(), now());
    assert_eq!(held.actions, []);
    assert!(
        held.status
            .message
            .unwrap()
            .contains("spec.workloadRef: Deployment \"old\" not found")
    );
}

#[test]
fn a_takeover_restarts_nothing() {
    let v1 = spec("1", 4, json!({"canary": {}}));
    let mut theirs = revision(&v1, 1, 4, 4);
    theirs.hash = RevisionHash::new("6f9c7d5b8");
    // As an API has stored it, with defaults written out.
    let mut template = (*theirs.template).clone();
    template.spec.as_mut().unwrap().restart_policy = Some("Always".into());
    theirs.template = template.into();
    let mut observed = view(vec![theirs], &v1, &[], 0);
    observed.status.stable_rs = Some("6f9c7d5b8".into());
    let planned = sound(&v1, &observed).actions;
    let harmless = |action: &Action| matches!(action, Action::Remember { .. });
    assert!(planned.iter().all(harmless), "{planned:?}");
}

#[test]
fn a_name_that_is_taken_by_another_template_is_counted_up() {
    let (v1, v2) = (
        spec("1", 4, json!({"canary": {}})),
        spec("2", 4, json!({"canary": {}})),
    );
    let mut other = revision(&v1, 1, 4, 4);
    other.hash = hash(&v2);
    other.source = Some(template_digest(v1.template.as_ref().unwrap()));
    let mut observed = view(vec![other], &v2, &[], 0);
    let planned = sound(&v2, &observed);
    let expected = template_hash(v2.template.as_ref().unwrap(), 1);
    assert_eq!(shown(&planned), [format!("make {expected} as revision 2")]);
    assert_eq!(planned.status.collision_count, Some(1));
    // The count is kept, and with it the name.
    observed.status = planned.status;
    assert_eq!(plan(&v2, &observed, now()).status.collision_count, Some(1));
}

#[test]
fn an_older_rollout_that_selects_the_same_pods_is_named() {
    let (v2, mut observed) = on_trial(&routed(json!([{"pause": {}}])), (0, 0), 0, 0);
    observed.overlaps = Some("other".into());
    let held = plan(&v2, &observed, now());
    assert_eq!(held.actions, []);
    assert!(
        held.status
            .message
            .unwrap()
            .contains("Rollout \"other\", which is older, selects the same pods")
    );
}

#[test]
fn an_autoscaler_counts_what_users_reach() {
    let strategy = json!({"blueGreen": {"activeService": "active", "autoPromotionEnabled": false}});
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)];
    let status = plan(&v2, &view(revisions, &v1, &[("active", &v1)], 0), now()).status;
    assert_eq!(status.hpa_replicas, Some(4));
    let selector = format!("app=web,rollouts-pod-template-hash={}", hash(&v1));
    assert_eq!(status.selector, Some(selector));
    let (v2, observed) = on_trial(&routed(json!([{"pause": {}}])), (1, 1), 0, 0);
    let status = sound(&v2, &observed).status;
    assert_eq!(
        (status.hpa_replicas, status.selector.as_deref()),
        (Some(5), Some("app=web"))
    );
}

#[test]
fn numbers_of_any_size_are_planned() {
    for replicas in [0, 1, i32::MAX] {
        for strategy in [
            json!({"canary": {"maxSurge": "4000000000%", "steps": [{"setWeight": 50}]}}),
            routed(json!([{"setWeight": 50}])),
        ] {
            let many = u32::try_from(replicas).unwrap();
            let (v1, v2) = (spec("1", many, strategy.clone()), spec("2", many, strategy));
            let services = [("stable", &v1), ("canary", &v1)];
            let revisions = vec![revision(&v1, 1, many, many), revision(&v2, 2, many, 0)];
            let _ = sound(&v2, &view(revisions, &v1, &services, 0));
        }
    }
    let negative = spec("1", 0, json!({"canary": {}}));
    let negative = RolloutSpec {
        replicas: Some(-1),
        ..negative
    };
    let held = plan(&negative, &Observed::default(), now());
    assert!(
        held.status
            .message
            .unwrap()
            .contains("spec.replicas: Invalid value: -1")
    );
}

#[test]
fn an_experiment_step_follows_its_experiment() {
    let step = json!({"experiment": {
        "duration": "5m", "templates": [{"name": "a", "specRef": "canary", "replicas": 2}, {"name": "b", "specRef": "stable"}],
        "analyses": [{"name": "compare", "templateName": "t", "args": [{"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}]}],
    }});
    let strategy = routed(json!([step, {"pause": {}}]));
    let (v2, mut observed) = on_trial(&strategy, (0, 0), 0, 0);
    observed.status.canary.current_experiment = None;
    let begun = sound(&v2, &observed);
    let Some(Action::StartExperiment { name, spec, .. }) = begun.actions.last() else {
        unreachable!("{:?}", begun.actions)
    };
    let images: Vec<_> = spec
        .templates
        .iter()
        .map(|t| {
            t.template
                .metadata
                .as_ref()
                .unwrap()
                .labels
                .as_ref()
                .unwrap()["version"]
                .as_str()
        })
        .collect();
    assert_eq!(images, ["2", "1"]);
    assert_eq!(
        spec.analyses[0].args[0].value.as_deref(),
        Some(hash(&v2).as_str())
    );
    let name = name.clone();
    observed.status = begun.status;
    let ended = |observed: &mut Observed, phase: AnalysisPhase| {
        observed.experiments = vec![ExperimentView {
            name: name.clone(),
            revision: hash(&v2),
            phase,
            message: Some("why".into()),
            created: now(),
            terminating: false,
            services: Default::default(),
            in_routes: false,
        }];
        sound(&v2, observed).status
    };
    let running = ended(&mut observed, AnalysisPhase::Running);
    assert_eq!(
        running.waiting_on,
        Some(WaitingOn::Experiment { name: name.clone() })
    );
    let good = ended(&mut observed, AnalysisPhase::Successful);
    assert_eq!(good.current_step_index, Some(1));
    let bad = ended(&mut observed, AnalysisPhase::Failed);
    assert!(bad.abort && bad.message.unwrap().contains("why"));
    let unclear = ended(&mut observed, AnalysisPhase::Inconclusive);
    assert_eq!(unclear.phase, Some(RolloutPhase::Paused));
    // A way back does not wait for it.
    observed.status.abort = true;
    let aborted = ended(&mut observed, AnalysisPhase::Running);
    assert_eq!(aborted.canary.current_experiment, None);
}

#[test]
fn two_services_take_turns() {
    let strategy = json!({"canary": {
        "pingPong": {"pingService": "ping", "pongService": "pong"}, "steps": [{"setWeight": 50}],
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
    }});
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)];
    let mut observed = view(revisions, &v1, &[("ping", &v1), ("pong", &v2)], 100);
    observed.status = plan(&v2, &observed, now()).status;
    observed.status.current_step_index = Some(1);
    // The canary Service has every request: it becomes the stable one, and nothing else moves.
    let end = sound(&v2, &observed);
    assert!(
        !end.actions
            .iter()
            .any(|a| matches!(a, Action::Split { .. } | Action::Select { .. }))
    );
    assert_eq!(end.status.canary.stable_ping_pong.as_deref(), Some("pong"));
    assert_eq!(end.status.stable_rs.as_deref(), Some(hash(&v2).as_str()));
    // From then on shares are those of the other Service, which follows.
    observed.status = end.status;
    observed.routes.values_mut().next().unwrap().canary = serin_api::units::Weight::new(0);
    let after = sound(&v2, &observed);
    assert!(named(&after, &v2, "v2").contains(&"point ping at v2".to_owned()));
}

#[test]
fn the_stable_revision_grows_before_its_share_comes_back() {
    let strategy = canary(
        json!([{"setWeight": 75}, {"pause": {}}]),
        json!({"dynamicStableScale": true}),
    );
    let (v2, mut observed) = on_trial(&strategy, (3, 3), 1, 75);
    observed.revisions[0].desired = 1;
    observed.revisions[0].available = 1;
    observed.status.abort = true;
    let first = sound(&v2, &observed);
    let v1 = observed.revisions[0].hash.to_string();
    assert!(
        shown(&first).contains(&format!("scale {v1} to 4")),
        "{:?}",
        shown(&first)
    );
    // One of four instances bears what it had; two bear half; all bear all.
    observed.status = first.status;
    for (available, share) in [(1, None), (2, Some("50 %")), (4, Some("0 %"))] {
        observed.revisions[0].desired = 4;
        observed.revisions[0].available = available;
        let split = sound(&v2, &observed)
            .actions
            .into_iter()
            .find_map(|action| match action {
                Action::Split { canary, .. } => Some(canary.to_string()),
                _ => None,
            });
        assert_eq!(split.as_deref(), share, "with {available} available");
    }
}
