//! Analyses beside the steps of a canary.

use serde_json::json;
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{PauseReason, RolloutSpec};
use serin_engine::rollout::{Observed, Role, plan};

use crate::views::{begun, now, revision, routed, run, settled, spec, view};

/// Two versions whose analysis begins with this step, and the view of their release, paused at its second step.
fn released(starting_step: u32) -> (RolloutSpec, Observed) {
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]);
    let mut strategy = routed(steps);
    strategy["canary"]["analysis"] =
        json!({"templates": [{"templateName": "t"}], "startingStep": starting_step});
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let services = [("stable", &v1), ("canary", &v2)];
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 1, 1)];
    let mut observed = view(revisions, &v1, &services, 25);
    let template = serde_json::from_value(json!({"metrics": [{"name": "m"}]})).unwrap();
    observed.templates = [((false, "t".to_owned()), template)].into();
    (v2, observed)
}

#[test]
fn a_background_analysis_begins_with_its_step() {
    let (v2, mut observed) = released(1);
    assert!(begun(&settled(&v2, &mut observed, now())).is_some());

    let (v2, mut observed) = released(2);
    let paused = settled(&v2, &mut observed, now());
    assert_eq!(paused.status.current_step_index, Some(1));
    assert_eq!(begun(&paused), None);
    // What a client sends to resume.
    observed.status.pause_conditions = None;
    let resumed = settled(&v2, &mut observed, now());
    assert_eq!(resumed.status.current_step_index, Some(2));
    let name = begun(&resumed).unwrap();
    let told = resumed.status.canary.current_background_analysis_run_status;
    assert_eq!(told.unwrap().name, name);
}

#[test]
fn a_bad_background_analysis_takes_back_and_a_good_one_does_nothing() {
    use AnalysisPhase::{Error, Failed, Pending, Running, Successful};
    for (phase, is_bad) in [
        (Pending, false),
        (Running, false),
        (Successful, false),
        (Failed, true),
        (Error, true),
    ] {
        let (v2, mut observed) = released(0);
        let name = begun(&settled(&v2, &mut observed, now())).unwrap();
        observed.runs = vec![run(&name, Role::Background, &v2, phase)];
        let next = settled(&v2, &mut observed, now());
        assert_eq!(next.status.abort, is_bad, "{phase:?}");
        assert_eq!(next.status.aborted_at.is_some(), is_bad, "{phase:?}");
        let told = next.status.message.unwrap_or_default();
        assert_eq!(told.contains(&name), is_bad, "{phase:?}: {told}");
    }
}

#[test]
fn an_inconclusive_background_analysis_pauses_and_a_resume_measures_again() {
    let (v2, mut observed) = released(0);
    let first = begun(&settled(&v2, &mut observed, now())).unwrap();
    let inconclusive = AnalysisPhase::Inconclusive;
    observed.runs = vec![run(&first, Role::Background, &v2, inconclusive)];
    let paused = settled(&v2, &mut observed, now()).status;
    let reasons = paused.pause_conditions.unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().map(|c| c.reason).collect();
    assert!(
        reasons.contains(&PauseReason::InconclusiveAnalysisRun),
        "{reasons:?}"
    );
    observed.status.pause_conditions = None;
    let mut second = None;
    for _ in 0..3 {
        let next = plan(&v2, &observed, now());
        second = second.or(begun(&next));
        observed.status = next.status;
    }
    assert!(second.is_some_and(|second| second != first));
}
