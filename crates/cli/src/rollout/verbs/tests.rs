use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::rollout::Objects;

fn shop(spec_more: Value, status: Value) -> Workload {
    let mut spec = json!({
        "template": {"spec": {"containers": [{"name": "app", "image": "shop:v1"}, {"name": "proxy", "image": "proxy:1"}]}},
        "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}]}}});
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, spec_more) {
        spec.extend(more);
    }
    let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "default", "uid": "u"}, "spec": spec, "status": status});
    Workload::Rollout(serde_json::from_value(object).unwrap())
}

fn web(paused: bool) -> Workload {
    let object = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"paused": paused, "selector": {},
                 "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}}});
    Workload::Deployment(serde_json::from_value(object).unwrap())
}

fn updating(more: Value) -> Value {
    let mut status = json!({"currentPodHash": "new", "stableRS": "old", "currentStepIndex": 1});
    if let (Value::Object(status), Value::Object(more)) = (&mut status, more) {
        status.extend(more);
    }
    status
}

fn complete() -> Value {
    json!({"currentPodHash": "same", "stableRS": "same", "currentStepIndex": 3})
}

fn anna() -> Decision {
    Decision {
        by: "anna".into(),
        why: "slow".into(),
    }
}

fn check(change: Result<Change, CliError>, expected: &Expect) {
    let text = match change {
        Ok(change) => {
            let mut lines = vec![change.done];
            for patch in change.patches {
                let to = if patch.to_status { "/status" } else { "" };
                lines.push(format!("{:?}{to} {}", patch.kind, patch.body));
            }
            lines.join("\n") + "\n"
        }
        Err(error) => format!("{error:?}\n"),
    };
    expected.assert_eq(&text);
}

#[test]
fn promote_ends_a_pause_or_skips_a_step() {
    let pause = json!({"pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]});
    check(
        promote(&shop(json!({}), updating(pause)), false),
        &expect![[r#"
        promoted
        Merge/status {"status":{"pauseConditions":null}}
    "#]],
    );
    check(
        promote(&shop(json!({}), updating(json!({}))), false),
        &expect![[r#"
        promoted past step 2
        Merge/status {"status":{"currentStepIndex":2,"pauseConditions":null}}
    "#]],
    );
    check(
        promote(&shop(json!({"paused": true}), updating(json!({}))), false),
        &expect![[r#"
        promoted past step 2
        Merge {"spec":{"paused":false}}
        Merge/status {"status":{"currentStepIndex":2,"pauseConditions":null}}
    "#]],
    );
    check(
        promote(&shop(json!({}), updating(json!({}))), true),
        &expect![[r#"
        promoted to the end
        Merge/status {"status":{"promoteFull":true}}
    "#]],
    );
}

#[test]
fn promote_says_why_there_is_nothing_to_promote() {
    check(
        promote(&shop(json!({}), complete()), false),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop is fully promoted: there is nothing to promote", hints: [], silent: false }
    "#]],
    );
    check(
        promote(&shop(json!({}), complete()), true),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop is fully promoted: there is nothing to promote", hints: [], silent: false }
    "#]],
    );
    check(
        promote(&shop(json!({}), updating(json!({"abort": true}))), false),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop was taken back: there is nothing to promote", hints: ["`serin rollout retry` tries the same version again"], silent: false }
    "#]],
    );
    check(
        promote(
            &shop(json!({}), updating(json!({"currentStepIndex": 3}))),
            false,
        ),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop is not paused and has no step to skip: there is nothing to promote", hints: ["--full skips analyses and waits that are left"], silent: false }
    "#]],
    );
    check(
        promote(&web(false), false),
        &expect![[r#"
        CliError { exit: Failed, message: "cannot promote deployment.apps/web: a Deployment has no steps and no trial", hints: ["it goes on by itself; `serin rollout resume` ends a pause"], silent: false }
    "#]],
    );
}

fn retry(workload: &Workload) -> Result<Change, CliError> {
    super::retry(workload, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_held_deployment_is_retried_by_an_annotation() {
    let held = json!({"type": "serin.dev/Held", "status": "True", "message": "held"});
    let object = json!({"metadata": {"name": "web", "generation": 2}, "spec": {"selector": {}, "template": {}},
        "status": {"observedGeneration": 2, "conditions": [held]}});
    let deployment = Workload::Deployment(serde_json::from_value(object).unwrap());
    let change = retry(&deployment).unwrap();
    let annotations = json!({"serin.dev/retried-at": "1970-01-01T00:00:00Z"});
    let add = json!([{"op": "add", "path": "/metadata/annotations", "value": annotations}]);
    assert_eq!(change.patches[0].body, add);
}

#[test]
fn abort_and_retry() {
    check(
        abort(&shop(json!({}), updating(json!({}))), &anna()),
        &expect![[r#"
            aborted
            Merge/status {"status":{"abort":true,"decision":{"by":"anna","why":"slow"}}}
        "#]],
    );
    check(
        abort(&shop(json!({}), complete()), &anna()),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop is fully promoted: there is nothing to abort", hints: ["`serin rollout undo` goes back to the version before"], silent: false }
    "#]],
    );
    check(
        abort(&web(false), &anna()),
        &expect![[r#"
        CliError { exit: Failed, message: "cannot abort deployment.apps/web: a Deployment has no steps and no trial", hints: ["`serin rollout undo` goes back to the version before"], silent: false }
    "#]],
    );
    check(
        retry(&shop(json!({}), updating(json!({"abort": true})))),
        &expect![[r#"
        is tried again
        Merge/status {"status":{"abort":false}}
    "#]],
    );
    check(
        retry(&shop(json!({}), updating(json!({})))),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop was not taken back: there is nothing to retry", hints: [], silent: false }
    "#]],
    );
}

#[test]
fn pause_and_resume() {
    check(
        pause(&shop(json!({}), json!({}))),
        &expect![[r#"
        paused
        Merge {"spec":{"paused":true}}
    "#]],
    );
    check(
        pause(&web(true)),
        &expect![[r#"
        CliError { exit: Failed, message: "deployment.apps/web is already paused", hints: [], silent: false }
    "#]],
    );
    check(
        resume(&web(true)),
        &expect![[r#"
        resumed
        Merge {"spec":{"paused":false}}
    "#]],
    );
    check(
        resume(&shop(json!({}), json!({}))),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop is not paused", hints: [], silent: false }
    "#]],
    );
    let pause = json!({"pauseConditions": [{"reason": "BlueGreenPause", "startTime": "2026-01-01T00:00:00Z"}]});
    check(
        resume(&shop(json!({}), updating(pause))),
        &expect![[r#"
        resumed
        Merge/status {"status":{"pauseConditions":null}}
    "#]],
    );
}

#[test]
fn restart_is_a_time() {
    let now = "2026-01-01T00:00:00.123Z".parse().unwrap();
    check(
        Ok(restart(&shop(json!({}), json!({})), now)),
        &expect![[r#"
        is restarted
        Merge {"spec":{"restartAt":"2026-01-01T00:00:00Z"}}
    "#]],
    );
    check(
        Ok(restart(&web(false), now)),
        &expect![[r#"
        is restarted
        Merge {"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}}}}}
    "#]],
    );
}

#[test]
fn set_image_names_the_container() {
    let shop = shop(json!({}), json!({}));
    let set = |workload: &Workload, image: &str| set_image(workload, &[image.to_owned()], None);
    check(
        set(&shop, "app=shop:v2"),
        &expect![[r#"
        image set: app=shop:v2
        Json [{"op":"test","path":"/spec/template/spec/containers/0/name","value":"app"},{"op":"add","path":"/spec/template/spec/containers/0/image","value":"shop:v2"}]
    "#]],
    );
    check(
        set(&shop, "*=shop:v2"),
        &expect![[r#"
        image set: *=shop:v2
        Json [{"op":"test","path":"/spec/template/spec/containers/0/name","value":"app"},{"op":"add","path":"/spec/template/spec/containers/0/image","value":"shop:v2"},{"op":"test","path":"/spec/template/spec/containers/1/name","value":"proxy"},{"op":"add","path":"/spec/template/spec/containers/1/image","value":"shop:v2"}]
    "#]],
    );
    check(
        set(&shop, "shop:v2"),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop has 2 containers: say which one gets \"shop:v2\"", hints: ["write CONTAINER=shop:v2; there are: app, proxy"], silent: false }
    "#]],
    );
    check(
        set(&shop, "other=shop:v2"),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop has no container \"other\"", hints: ["there are: app, proxy"], silent: false }
    "#]],
    );
    check(
        set(&shop, "app="),
        &expect![[r#"
        CliError { exit: Failed, message: "\"app=\" is not of the form CONTAINER=IMAGE", hints: [], silent: false }
    "#]],
    );
    check(
        set_image(&web(false), &["web:2".to_owned()], Some("faster")),
        &expect![[r#"
            image set: web:2
            Json [{"op":"test","path":"/spec/template/spec/containers/0/name","value":"web"},{"op":"add","path":"/spec/template/spec/containers/0/image","value":"web:2"},{"op":"add","path":"/metadata/annotations","value":{"kubernetes.io/change-cause":"faster"}}]
        "#]],
    );
}

fn with_revisions(workload: Workload, revisions: &[(i64, &str)]) -> Objects {
    let replica_sets = revisions
        .iter()
        .map(|(number, hash)| {
            serde_json::from_value(json!({
                "metadata": {"name": format!("set-{hash}"),
                    "labels": {workload.hash_key(): hash},
                    "annotations": {workload.revision_key(): number.to_string()},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": "x", "uid": "u"}]},
                "spec": {"selector": {}, "template": {
                    "metadata": {"labels": {"app": "x", workload.hash_key(): hash}},
                    "spec": {"containers": [{"name": "app", "image": hash}]}}}}))
            .unwrap()
        })
        .collect();
    Objects {
        workload,
        replica_sets,
        pods: Vec::new(),
        analysis_runs: Vec::new(),
    }
}

#[test]
fn undo_goes_to_the_last_good_revision() {
    let revisions = [(1, "old"), (2, "bad"), (3, "new")];
    let under_way = with_revisions(shop(json!({}), updating(json!({}))), &revisions);
    check(
        undo(&under_way, None, None, &anna()),
        &expect![[r#"
            goes back to revision 1
            Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"old","name":"app"}]}}},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
        "#]],
    );
    check(
        undo(&under_way, Some(2), None, &anna()),
        &expect![[r#"
            goes back to revision 2
            Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"bad","name":"app"}]}}},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
        "#]],
    );
    check(
        undo(&under_way, Some(3), None, &anna()),
        &expect![[r#"
        CliError { exit: Failed, message: "revision 3 of rollout.argoproj.io/shop is the current one", hints: [], silent: false }
    "#]],
    );
    check(
        undo(&under_way, Some(7), None, &anna()),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop has no revision 7", hints: ["there are: 3, 2, 1"], silent: false }
    "#]],
    );
    let done = json!({"currentPodHash": "new", "stableRS": "new"});
    check(
        undo(
            &with_revisions(shop(json!({}), done.clone()), &revisions),
            None,
            None,
            &anna(),
        ),
        &expect![[r#"
            goes back to revision 2
            Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"bad","name":"app"}]}}},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
        "#]],
    );
    check(
        undo(
            &with_revisions(shop(json!({}), done), &[(3, "new")]),
            None,
            None,
            &anna(),
        ),
        &expect![[r#"
        CliError { exit: Failed, message: "rollout.argoproj.io/shop has no revision before 3", hints: ["it has only ever had this version, or older ones are beyond revisionHistoryLimit"], silent: false }
    "#]],
    );
    check(
        undo(&with_revisions(web(false), &revisions), None, None, &anna()),
        &expect![[r#"
        goes back to revision 2
        Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"bad","name":"app"}]}}},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
    "#]],
    );
    check(
        undo(&with_revisions(web(true), &revisions), None, None, &anna()),
        &expect![[r#"
        CliError { exit: Failed, message: "deployment.apps/web is paused: an undo would not be carried out", hints: ["`serin rollout resume` first"], silent: false }
    "#]],
    );
}

#[test]
fn undo_never_goes_to_a_revision_that_was_taken_back() {
    let promoted = |at: &str| json!({"serin.dev/promoted-at": at});
    let rejected = json!({
        "serin.dev/promoted-at": "2026-01-02T00:00:00Z", "serin.dev/taken-back-at": "2026-01-03T00:00:00Z",
        "serin.dev/taken-back-by": "anna", "serin.dev/taken-back-why": "errors",
    });
    let with = |history: &[Value], current: &str, stable: &str| {
        let status = json!({"currentPodHash": current, "stableRS": stable});
        let names = ["one", "two", "three"];
        let numbered: Vec<_> = (1..).zip(names).collect();
        let mut objects = with_revisions(shop(json!({}), status), &numbered);
        for (set, more) in objects.replica_sets.iter_mut().zip(history) {
            let more: BTreeMap<String, String> = serde_json::from_value(more.clone()).unwrap();
            set.metadata.annotations.as_mut().unwrap().extend(more);
        }
        objects
    };
    // The second was promoted and then taken back: the first is where the third goes back to, and twice is no other way.
    let history = [
        promoted("2026-01-01T00:00:00Z"),
        rejected.clone(),
        promoted("2026-01-04T00:00:00Z"),
    ];
    let done = with(&history, "three", "three");
    let to =
        |change: Result<Change, CliError>| change.map(|c| c.done).unwrap_or_else(|e| e.to_string());
    assert_eq!(
        to(undo(&done, None, None, &anna())),
        "goes back to revision 1"
    );
    let on_its_way = with(
        &[
            promoted("2026-01-01T00:00:00Z"),
            json!({}),
            rejected.clone(),
        ],
        "one",
        "three",
    );
    assert_eq!(
        to(undo(&on_its_way, None, None, &anna())),
        "rollout.argoproj.io/shop has no other revision that users were on and that was not taken back since"
    );
    // One that never had users is no place to go to.
    let never = with(
        &[json!({}), json!({}), promoted("2026-01-04T00:00:00Z")],
        "three",
        "three",
    );
    assert!(undo(&never, None, None, &anna()).is_err());
    // Who asks for it by number is told.
    let told = undo(&done, Some(2), None, &anna()).unwrap();
    assert_eq!(
        told.warnings,
        [
            "revision 2 of rollout.argoproj.io/shop was taken back at 2026-01-03T00:00:00Z by anna: errors"
        ]
    );
}

#[test]
fn an_emergency_is_one_patch_from_any_state() {
    let revisions = [(1, "old"), (2, "new")];
    let paused = json!({"paused": true});
    let stuck = with_revisions(shop(paused, updating(json!({"abort": true}))), &revisions);
    check(
        emergency(&stuck, &anna()),
        &expect![[r#"
        goes back to revision 1
        Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"old","name":"app"}]}}},{"op":"add","path":"/spec/paused","value":false},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/emergency-rollback-to":"old","serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
    "#]],
    );
    check(
        emergency(&with_revisions(web(true), &revisions), &anna()),
        &expect![[r#"
            goes back to revision 1
            Json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"image":"old","name":"app"}]}}},{"op":"add","path":"/spec/paused","value":false},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/undo":"{\"from\":\"new\",\"by\":\"anna\",\"why\":\"slow\"}"}}]
        "#]],
    );
}

#[test]
fn a_gate_is_answered_for_the_revision_that_waits() {
    let waits = json!({"waitingOn": {"type": "Gate", "name": "security"}});
    let shop_at_gate = shop(json!({}), updating(waits));
    check(
        answer_gate(&shop_at_gate, None, true, &anna()),
        &expect![[r#"
            approved at security
            Merge/status {"status":{"gates":{"security":{"approved":true,"by":"anna","revision":"new","why":"slow"}}}}
        "#]],
    );
    check(
        answer_gate(&shop_at_gate, Some("later"), false, &anna()),
        &expect![[r#"
            rejected at later
            Merge/status {"status":{"gates":{"later":{"approved":false,"by":"anna","revision":"new","why":"slow"}}}}
        "#]],
    );
    check(
        answer_gate(&shop(json!({}), complete()), None, true, &anna()),
        &expect![[r#"
            CliError { exit: Failed, message: "rollout.argoproj.io/shop waits at no gate: there is nothing to approve", hints: ["name the gate to answer before it is reached"], silent: false }
        "#]],
    );
}
