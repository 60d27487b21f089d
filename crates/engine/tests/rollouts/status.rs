//! What the status of a Rollout tells, and what its users once complained of, each on a view.

use serde_json::json;
use serin_api::analysis::AnalysisPhase;
use serin_api::conditions;
use serin_api::rollout::{PauseReason, RolloutPhase, RolloutSpec};
use serin_api::waiting::WaitingOn;
use serin_engine::rollout::{Action, Role, plan};

use crate::views::{begun, hash, now, revision, routed, run, settled, spec, view};

#[test]
fn a_status_tells_counts_conditions_and_the_generation() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let mut trial = revision(&v2, 2, 2, 1);
    trial.ready = 2;
    let services = [("stable", &v1), ("canary", &v2)];
    let mut observed = view(vec![revision(&v1, 1, 4, 1), trial], &v1, &services, 25);
    observed.generation = 7;
    let status = plan(&v2, &observed, now()).status;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    ];
    assert_eq!(counts, [Some(6), Some(2), Some(3), Some(2)]);
    assert_eq!(status.observed_generation.as_deref(), Some("7"));
    assert_eq!(status.current_pod_hash.as_deref(), Some(hash(&v2).as_str()));
    let is = |kind: &str| {
        let found = conditions::get(&status.conditions, kind);
        found.map(|condition| condition.status.clone())
    };
    assert_eq!(is("Available").as_deref(), Some("False"));
    assert_eq!(is("Progressing").as_deref(), Some("True"));
    assert_eq!(is("Completed").as_deref(), Some("False"));

    let services = [("stable", &v2), ("canary", &v2)];
    let mut observed = view(vec![revision(&v2, 2, 4, 4)], &v2, &services, 0);
    let done = settled(&v2, &mut observed, now()).status;
    assert_eq!(done.phase, Some(RolloutPhase::Healthy));
    for kind in ["Available", "Completed", "Healthy"] {
        let found = conditions::get(&done.conditions, kind).unwrap();
        assert_eq!(found.status, "True", "{kind}");
    }
    assert_eq!(done.waiting_on, Some(WaitingOn::Nothing));
}

#[test]
fn a_status_tells_where_the_requests_go() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let services = [("stable", &v1), ("canary", &v2)];
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 1, 1)];
    let mut observed = view(revisions, &v1, &services, 25);
    let weights = settled(&v2, &mut observed, now()).status.canary.weights;
    let weights = weights.unwrap();
    assert_eq!((weights.canary.weight, weights.stable.weight), (25, 75));
    assert_eq!(weights.canary.service_name.as_deref(), Some("canary"));
    assert_eq!(weights.verified, Some(true));

    let strategy = json!({"blueGreen": {"activeService": "active", "previewService": "preview", "autoPromotionEnabled": false}});
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let services = [("active", &v1), ("preview", &v2)];
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)];
    let mut observed = view(revisions, &v1, &services, 0);
    let sides = settled(&v2, &mut observed, now()).status.blue_green;
    assert_eq!(sides.active_selector.as_deref(), Some(hash(&v1).as_str()));
    assert_eq!(sides.preview_selector.as_deref(), Some(hash(&v2).as_str()));
}

#[test]
fn other_steps_begin_again_at_the_first() {
    let with = |weight: i32| {
        spec(
            "2",
            4,
            routed(json!([{"setWeight": weight}, {"pause": {}}])),
        )
    };
    let v1 = spec("1", 4, routed(json!([])));
    let services = [("stable", &v1), ("canary", &with(25))];
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&with(25), 2, 1, 1)];
    let mut observed = view(revisions, &v1, &services, 25);
    let paused = settled(&with(25), &mut observed, now()).status;
    assert_eq!(paused.current_step_index, Some(1));
    observed.status = paused.clone();
    let again = plan(&with(50), &observed, now()).status;
    assert_eq!(again.current_step_index, Some(0));
    assert_ne!(again.current_step_hash, paused.current_step_hash);
    assert_eq!(again.pause_conditions, None);
}

#[test]
fn an_inconclusive_analysis_pauses_and_a_resume_measures_again() {
    let strategy =
        routed(json!([{"analysis": {"templates": [{"templateName": "t"}]}}, {"pause": {}}]));
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let services = [("stable", &v1), ("canary", &v1)];
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 0, 0)],
        &v1,
        &services,
        0,
    );
    let metric = json!({"name": "m", "provider": {"serin": {"metric": "error-ratio"}}});
    let template = serde_json::from_value(json!({"metrics": [metric]})).unwrap();
    observed.templates = [((false, "t".to_owned()), template)].into();
    let beginning = plan(&v2, &observed, now());
    let first = begun(&beginning).unwrap();
    observed.status = beginning.status;
    let inconclusive = AnalysisPhase::Inconclusive;
    observed.runs = vec![run(&first, Role::Step(0), &v2, inconclusive)];
    let paused = settled(&v2, &mut observed, now()).status;
    let reasons = paused.pause_conditions.unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().map(|c| c.reason).collect();
    assert_eq!(reasons, [PauseReason::InconclusiveAnalysisRun]);
    assert_eq!(paused.current_step_index, Some(0));
    // What a client sends to resume.
    observed.status.pause_conditions = None;
    let mut second = None;
    for _ in 0..3 {
        let next = plan(&v2, &observed, now());
        second = second.or(begun(&next));
        observed.status = next.status;
    }
    assert!(second.is_some_and(|second| second != first));
}

#[test]
fn a_rollback_within_the_window_waits_for_its_instances() {
    let strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let window = serin_api::rollout::RollbackWindow { revisions: Some(1) };
    let back = RolloutSpec {
        rollback_window: Some(window),
        ..v1.clone()
    };
    for available in 0..=4 {
        let services = [("stable", &v2), ("canary", &v2)];
        let revisions = vec![revision(&v1, 1, 4, available), revision(&v2, 2, 4, 4)];
        let mut observed = view(revisions, &v2, &services, 0);
        let next = plan(&back, &observed, now());
        let moves = next
            .actions
            .iter()
            .any(|action| matches!(action, Action::Split { .. } | Action::Select { .. }));
        assert_eq!(moves, available == 4, "{available}: {:?}", next.actions);
        let steps = settled(&back, &mut observed, now())
            .status
            .current_step_index;
        assert_eq!(steps, Some(2), "the steps are skipped");
    }
}
