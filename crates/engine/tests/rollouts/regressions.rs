//! Situations that were once decided wrongly, each on the view in which it was.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{RolloutPhase, RolloutSpec};
use serin_api::waiting::WaitingOn;
use serin_engine::invariants;
use serin_engine::rollout::{Action, Observed, PodAge, Role, plan};

use crate::views::{hash, now, revision, routed, run, settled, shown, spec, view};

#[test]
fn a_release_that_dies_at_its_very_end_can_be_taken_back() {
    let steps = routed(json!([{"setWeight": 50}]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)],
        &v1,
        &[("stable", &v2), ("canary", &v2)],
        100,
    );
    observed.services.get_mut("stable").unwrap().acknowledged = false;
    observed.status = plan(&v2, &observed, now()).status;
    observed.revisions[1].available = 0;
    observed.status.abort = true;
    for (wanted, abort) in [(&v2, true), (&v1, false)] {
        observed.status.abort = abort;
        let back = plan(wanted, &observed, now());
        assert_eq!(invariants::check(wanted, &observed, &back), []);
        assert!(
            shown(&back).contains(&format!("point stable at {}", hash(&v1))),
            "{:?}",
            shown(&back)
        );
    }
}

/// Found by the simulator: what is left of an earlier try got the canary Service in the pass in which it went.
#[test]
fn no_service_follows_instances_that_a_step_does_not_want() {
    let steps = routed(json!([{"pause": {}}, {"setWeight": 50}]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 2, 2)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    observed.status = settled(&v2, &mut observed.clone(), now()).status;
    let plan = plan(&v2, &observed, now());
    assert_eq!(invariants::check(&v2, &observed, &plan), []);
    let pointed = format!("point canary at {}", hash(&v2));
    assert!(!shown(&plan).contains(&pointed), "{:?}", shown(&plan));
}

/// Found by the simulator: taken back at its very end and tried again at once, a release lost the instances to which the stable
/// Service still led.
#[test]
fn a_canary_stays_until_the_stable_service_is_served_elsewhere() {
    let steps = routed(json!([{"pause": {}}, {"setWeight": 50}]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    observed.services.get_mut("stable").unwrap().acknowledged = false;
    let gone = format!("scale {} to 0", hash(&v2));
    let early = settled(&v2, &mut observed, now());
    assert_eq!(invariants::check(&v2, &observed, &early), []);
    assert!(!shown(&early).contains(&gone), "{:?}", shown(&early));
    observed.services.get_mut("stable").unwrap().acknowledged = true;
    let served = settled(&v2, &mut observed, now());
    assert!(shown(&served).contains(&gone), "{:?}", shown(&served));
}

/// Found by the simulator: after an abort and a retry, with a first step that wants no instances.
#[test]
fn a_canary_stays_until_its_service_is_served_elsewhere() {
    let steps = routed(json!([{"pause": {}}, {"setWeight": 50}]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 2, 2)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    observed.services.get_mut("canary").unwrap().acknowledged = false;
    let gone = format!("scale {} to 0", hash(&v2));
    let early = settled(&v2, &mut observed, now());
    assert!(!shown(&early).contains(&gone), "{:?}", shown(&early));
    observed.services.get_mut("canary").unwrap().acknowledged = true;
    let served = settled(&v2, &mut observed, now());
    assert!(shown(&served).contains(&gone), "{:?}", shown(&served));
}

/// Found by the simulator: a return to a revision that is on trial already, whose share the stable one has shrunk for.
#[test]
fn a_return_gives_no_share_back_to_a_stable_revision_that_has_shrunk() {
    let mut strategy = routed(json!([{"setWeight": 25}, {"pause": {}}]));
    strategy["canary"]["dynamicStableScale"] = true.into();
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let mut observed = view(
        vec![revision(&v1, 3, 4, 4), revision(&v2, 2, 3, 3)],
        &v2,
        &[("stable", &v2), ("canary", &v1)],
        25,
    );
    observed.revisions[0].history.promoted_at = Some(now());
    observed.status = plan(&v1, &observed, now()).status;
    observed.status.promote_full = true;
    let back = plan(&v1, &observed, now());
    assert_eq!(invariants::check(&v1, &observed, &back), []);
    let point = format!("point stable at {}", hash(&v1));
    assert!(shown(&back).contains(&point), "{:?}", shown(&back));
}

#[test]
fn a_template_that_is_gone_does_not_bar_the_way_back() {
    let steps =
        routed(json!([{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "gone"}]}}]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 2, 2)],
        &v1,
        &[("stable", &v1), ("canary", &v2)],
        50,
    );
    observed.status.current_pod_hash = Some(hash(&v2).as_str().into());
    assert_eq!(plan(&v2, &observed, now()).actions, []);
    let undo = plan(&v1, &observed, now());
    assert!(shown(&undo).contains(&"send 0 % of web to the canary".to_owned()));
    observed.status.abort = true;
    let abort = plan(&v2, &observed, now());
    assert!(
        shown(&abort).contains(&"send 0 % of web to the canary".to_owned()),
        "{:?}",
        shown(&abort)
    );
    assert!(
        abort
            .status
            .conditions
            .iter()
            .any(|c| c.type_ == "InvalidSpec" && c.message.contains("gone"))
    );
}

#[test]
fn two_rollouts_do_not_fight_over_a_service() {
    let strategy = json!({"blueGreen": {"activeService": "active"}});
    let v1 = spec("1", 3, strategy);
    let mut observed = view(vec![], &v1, &[("active", &v1)], 0);
    observed.status.stable_rs = None;
    observed.services.get_mut("active").unwrap().taken_by = Some("other".into());
    let held = plan(&v1, &observed, now());
    assert_eq!(held.actions, []);
    assert!(
        held.status
            .message
            .unwrap()
            .contains("Rollout \"other\" already sets this Service")
    );
}

#[test]
fn a_scale_up_after_a_long_rest_is_not_late() {
    let v1 = spec("1", 3, routed(json!([])));
    let mut observed = view(
        vec![revision(&v1, 1, 3, 3)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    assert_eq!(
        settled(&v1, &mut observed, now()).status.phase,
        Some(RolloutPhase::Healthy)
    );
    let up = RolloutSpec {
        replicas: Some(5),
        ..v1
    };
    let later = now() + SignedDuration::from_hours(2);
    let scaled = plan(&up, &observed, later);
    assert_eq!(scaled.status.phase, Some(RolloutPhase::Progressing));
    assert_eq!(scaled.notes, []);
}

#[test]
fn nothing_is_late_while_a_person_has_paused_it() {
    let steps = routed(json!([{"setWeight": 50}]));
    let (v1, mut v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    v2.paused = Some(true);
    v2.progress_deadline_abort = Some(true);
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 2, 1)],
        &v1,
        &[("stable", &v1), ("canary", &v2)],
        0,
    );
    assert_eq!(
        settled(&v2, &mut observed, now()).waiting_on,
        WaitingOn::Paused
    );
    let later = now() + SignedDuration::from_hours(2);
    let held = plan(&v2, &observed, later);
    assert_eq!(
        (held.status.phase, held.status.abort),
        (Some(RolloutPhase::Paused), false)
    );
    observed.status = held.status;
    v2.paused = None;
    assert!(!plan(&v2, &observed, later).status.abort);
}

#[test]
fn an_old_revision_that_is_kept_hides_nothing() {
    let strategy = json!({"blueGreen": {"activeService": "active", "scaleDownDelaySeconds": 3600}});
    let (v0, v1, v2) = (
        spec("0", 3, strategy.clone()),
        spec("1", 3, strategy.clone()),
        spec("2", 3, strategy),
    );
    let mut kept = revision(&v0, 1, 3, 3);
    kept.keep_until = Some(now() + SignedDuration::from_hours(1));
    let mut observed = view(
        vec![kept, revision(&v1, 2, 3, 3), revision(&v2, 3, 3, 0)],
        &v1,
        &[("active", &v1)],
        0,
    );
    let waits = settled(&v2, &mut observed, now()).waiting_on;
    assert!(matches!(waits, WaitingOn::Ready { .. }), "{waits}");
    let late = plan(&v2, &observed, now() + SignedDuration::from_mins(30));
    assert_eq!(late.status.phase, Some(RolloutPhase::Degraded));
}

#[test]
fn a_skipped_analysis_leaves_nothing_behind() {
    let analysis = json!({"analysis": {"templates": [{"templateName": "t"}]}});
    let steps = routed(json!([analysis, analysis]));
    let (v1, v2) = (spec("1", 4, steps.clone()), spec("2", 4, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 0, 0)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    let template = serde_json::from_value(json!({"metrics": [{"name": "m"}]})).unwrap();
    observed.templates = BTreeMap::from([((false, "t".to_owned()), template)]);
    observed.status = plan(&v2, &observed, now()).status;
    let first = observed
        .status
        .canary
        .current_step_analysis_run_status
        .clone()
        .unwrap()
        .name;
    let running = AnalysisPhase::Running;
    observed.runs.push(run(&first, Role::Step(0), &v2, running));
    observed.status.current_step_index = Some(1);
    let skipped = plan(&v2, &observed, now());
    assert!(
        shown(&skipped).contains(&format!("stop analysis {first}")),
        "{:?}",
        shown(&skipped)
    );
    let second = skipped
        .status
        .canary
        .current_step_analysis_run_status
        .unwrap()
        .name;
    assert_ne!(second, first);
}

#[test]
fn with_no_instances_wanted_a_release_is_done_at_once() {
    let steps = routed(json!([{"setWeight": 50}]));
    let (v1, v2) = (spec("1", 0, steps.clone()), spec("2", 0, steps));
    let mut observed = view(
        vec![revision(&v1, 1, 0, 0), revision(&v2, 2, 0, 0)],
        &v1,
        &[("stable", &v2), ("canary", &v2)],
        0,
    );
    assert_eq!(
        settled(&v2, &mut observed, now())
            .status
            .stable_rs
            .as_deref(),
        Some(hash(&v2).as_str())
    );
}

#[test]
fn a_release_that_is_changed_at_its_end_puts_the_users_back_first() {
    let before = routed(json!([{"setWeight": 50}]));
    let (v1, v2) = (spec("1", 4, before.clone()), spec("2", 4, before));
    let edited = spec("2", 4, routed(json!([{"setWeight": 25}])));
    let observed = view(
        vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 4, 4)],
        &v1,
        &[("stable", &v2), ("canary", &v2)],
        0,
    );
    let back = plan(&edited, &observed, now());
    assert_eq!(shown(&back), [format!("point stable at {}", hash(&v1))]);
}

#[test]
fn a_restart_takes_no_more_than_may_be_missing() {
    restarts_at_once(json!({"canary": {"maxSurge": 1, "maxUnavailable": 0}}), 1);
    restarts_at_once(
        json!({"blueGreen": {"activeService": "active", "maxUnavailable": 2}}),
        2,
    );
}

fn restarts_at_once(strategy: Value, most: usize) {
    let mut v1 = spec("1", 4, strategy);
    v1.restart_at = Some(serin_api::conditions::time(now()));
    let services = [("active", &v1)];
    let mut observed = view(vec![revision(&v1, 1, 4, 4)], &v1, &services, 0);
    let pod = |name: &str, terminating| PodAge {
        name: name.into(),
        uid: name.into(),
        created: now() - SignedDuration::from_hours(1),
        terminating,
        ready: true,
    };
    let restarts = |observed: &Observed| {
        let plan = plan(&v1, observed, now());
        plan.actions
            .iter()
            .filter(|a| matches!(a, Action::Restart { .. }))
            .count()
    };
    observed.pods = ["a", "b", "c", "d"].map(|name| pod(name, false)).into();
    assert_eq!(restarts(&observed), most);
    // The ReplicaSet still counts those that go; its pods do not.
    for pod in &mut observed.pods[..most] {
        pod.terminating = true;
    }
    assert_eq!(restarts(&observed), 0);
}
