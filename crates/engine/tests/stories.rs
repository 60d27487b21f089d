//! Releases as stories: what is done, second by second, in a world without faults.

#![expect(
    clippy::panic,
    reason = "a rule that is broken ends the test with its story"
)]

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use serin_api::release;
use serin_engine::sim::{Act, Failure, Scenario, story, story_under};

fn check(scenario: Scenario, acts: &[(Act, u32)], expected: Expect) {
    told(story(scenario, acts), &expected);
}

/// From the last act on, under a policy.
fn check_under(policy: Value, scenario: Scenario, acts: &[(Act, u32)], expected: Expect) {
    let spec = serde_json::from_value(policy).unwrap_or_default();
    let (policy, problems) = release::lower(&spec);
    assert_eq!(problems, []);
    let last = story_under(scenario, policy, acts).map(|mut story| {
        let last = story.iter().rposition(|line| line.contains("s somebody: "));
        story.split_off(last.unwrap_or(0))
    });
    told(last, &expected);
}

fn told(story: Result<Vec<String>, Failure>, expected: &Expect) {
    match story {
        Ok(story) => expected.assert_eq(&(story.join("\n") + "\n")),
        Err(failure) => panic!("{}\n{}", failure.what, failure.story.join("\n")),
    }
}

#[test]
fn a_good_canary() {
    check(
        Scenario::Traffic,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 30),
            (Act::Promote, 30),
        ],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point stable at v1
            007s point canary at v1
            008s remember of v1: promoted
            008s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            037s point canary at v2
            038s send 25 % of web to the canary
            039s step 1, Progressing, waits for nothing
            040s start analysis web-v2-2-1
            046s step 2, Progressing, waits for nothing
            047s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:50Z
            050s step 3, Progressing, waits for nothing
            051s scale v2 to 2
            053s send 50 % of web to the canary
            054s step 4, Progressing, waits for nothing
            055s step 4, Paused, waits for a decision: a pause step
            060s somebody: Promote
            061s step 5, Progressing, waits for nothing
            062s scale v2 to 3
            067s send 75 % of web to the canary
            068s step 6, Progressing, waits for nothing
            069s scale v2 to 4
            073s send 100 % of web to the canary
            074s point stable at v2
            075s send 0 % of web to the canary
            076s keep v1 until 2027-01-15T08:01:21Z
            076s remember of v2: promoted
            076s step 6, Healthy, waits for nothing
            081s scale v1 to 0
        "#]],
    );
}

#[test]
fn a_bad_canary_is_taken_back() {
    check(
        Scenario::Traffic,
        &[(Act::Deploy(1), 30), (Act::Deploy(5), 30)],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point stable at v1
            007s point canary at v1
            008s remember of v1: promoted
            008s step 6, Healthy, waits for nothing
            030s somebody: Deploy(5)
            031s make 7cccb5f5b as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v5 to become available
            032s scale v5 to 1
            037s point canary at v5
            038s send 25 % of web to the canary
            039s step 1, Progressing, waits for nothing
            040s start analysis web-v5-2-1
            046s send 0 % of web to the canary
            046s point canary at v1
            046s remember of v5: taken back by condition: analysis web-v5-2-1 is Failed: no reason given
            046s step 0, Degraded, waits for the gateway to serve HTTPRoute web
            047s keep v5 until 2027-01-15T08:00:49Z
            049s scale v5 to 0
        "#]],
    );
}

#[test]
fn an_abort_and_a_retry() {
    check(
        Scenario::Traffic,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 30),
            (Act::Abort, 30),
            (Act::Retry, 30),
        ],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point stable at v1
            007s point canary at v1
            008s remember of v1: promoted
            008s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            037s point canary at v2
            038s send 25 % of web to the canary
            039s step 1, Progressing, waits for nothing
            040s start analysis web-v2-2-1
            046s step 2, Progressing, waits for nothing
            047s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:50Z
            050s step 3, Progressing, waits for nothing
            051s scale v2 to 2
            053s send 50 % of web to the canary
            054s step 4, Progressing, waits for nothing
            055s step 4, Paused, waits for a decision: a pause step
            060s somebody: Abort
            061s send 0 % of web to the canary
            061s point canary at v1
            061s remember of v2: taken back by somebody: a person asked for it
            061s step 0, Degraded, waits for the gateway to serve HTTPRoute web
            062s keep v2 until 2027-01-15T08:01:04Z
            064s scale v2 to 0
            090s somebody: Retry
            091s keep v2
            091s scale v2 to 1
            091s remember of v2: tried again
            091s step 0, Progressing, waits for 0 of 1 instances of v2 to become available
            096s point canary at v2
            097s send 25 % of web to the canary
            098s step 1, Progressing, waits for nothing
            099s start analysis web-v2-2-1.2
            101s step 2, Progressing, waits for nothing
            102s step 2, Paused, waits for the end of a pause at 2027-01-15T08:01:45Z
            105s step 3, Progressing, waits for nothing
            106s scale v2 to 2
            110s send 50 % of web to the canary
            111s step 4, Progressing, waits for nothing
            112s step 4, Paused, waits for a decision: a pause step
        "#]],
    );
}

#[test]
fn a_canary_of_another_version_begins_while_one_is_on_trial() {
    check(
        Scenario::Traffic,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 30),
            (Act::Deploy(3), 30),
            (Act::Promote, 30),
        ],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point stable at v1
            007s point canary at v1
            008s remember of v1: promoted
            008s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            037s point canary at v2
            038s send 25 % of web to the canary
            039s step 1, Progressing, waits for nothing
            040s start analysis web-v2-2-1
            046s step 2, Progressing, waits for nothing
            047s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:50Z
            050s step 3, Progressing, waits for nothing
            051s scale v2 to 2
            053s send 50 % of web to the canary
            054s step 4, Progressing, waits for nothing
            055s step 4, Paused, waits for a decision: a pause step
            060s somebody: Deploy(3)
            061s make cf6596c66 as revision 3
            061s step 0, Progressing, waits for 0 of 4 instances of v3 to become available
            062s scale v3 to 1
            062s send 0 % of web to the canary
            067s point canary at v3
            068s scale v2 to 0
            068s send 25 % of web to the canary
            069s step 1, Progressing, waits for nothing
            070s start analysis web-v3-3-1
            072s step 2, Progressing, waits for nothing
            073s step 2, Paused, waits for the end of a pause at 2027-01-15T08:01:16Z
            076s step 3, Progressing, waits for nothing
            077s scale v3 to 2
            081s send 50 % of web to the canary
            082s step 4, Progressing, waits for nothing
            083s step 4, Paused, waits for a decision: a pause step
            090s somebody: Promote
            091s step 5, Progressing, waits for nothing
            092s scale v3 to 3
            097s send 75 % of web to the canary
            098s step 6, Progressing, waits for nothing
            099s scale v3 to 4
            104s send 100 % of web to the canary
            105s point stable at v3
            106s send 0 % of web to the canary
            107s keep v1 until 2027-01-15T08:01:52Z
            107s remember of v3: promoted
            107s step 6, Healthy, waits for nothing
            112s scale v1 to 0
        "#]],
    );
}

#[test]
fn a_canary_by_replicas() {
    check(
        Scenario::Replicas,
        &[(Act::Deploy(1), 30), (Act::Deploy(2), 30)],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 4, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            004s point stable at v1
            004s point canary at v1
            007s remember of v1: promoted
            007s step 4, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v1 to 3
            032s scale v2 to 1
            037s point canary at v2
            037s step 1, Progressing, waits for the gateway to serve Service canary
            038s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s scale v1 to 2
            045s scale v2 to 2
            047s step 3, Progressing, waits for nothing
            048s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:51Z
            051s step 4, Progressing, waits for nothing
            052s scale v1 to 1
            052s scale v2 to 3
            053s scale v2 to 4
            057s point stable at v2
            058s scale v1 to 0
            059s remember of v2: promoted
            059s step 4, Healthy, waits for nothing
        "#]],
    );
}

#[test]
fn a_switch_and_its_undo() {
    check(
        Scenario::BlueGreen,
        &[
            (Act::Deploy(1), 10),
            (Act::Deploy(2), 26),
            (Act::Deploy(1), 10),
        ],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point preview at v1
            007s point active at v1
            008s remember of v1: promoted
            008s Healthy, waits for nothing
            010s somebody: Deploy(2)
            011s make 6dc4c998ff as revision 2
            011s Progressing, waits for 0 of 4 instances of v2 to become available
            012s scale v2 to 1
            017s point preview at v2
            018s start analysis web-v2-2-pre
            024s Paused, waits for the end of a pause at 2027-01-15T08:00:28Z
            028s scale v2 to 4
            028s Progressing, waits for 1 of 4 instances of v2 to become available
            033s point active at v2
            034s start analysis web-v2-2-post
            036s somebody: Deploy(1)
            037s make v1 revision 3
            037s point active at v1
            037s point preview at v1
            037s stop analysis web-v2-2-post
            037s remember of v2: taken back by somebody: undone: back to revision 1
            038s scale v2 to 0
            038s Healthy, waits for nothing
        "#]],
    );
}

#[test]
fn the_same_version_again_is_held_until_a_person_retries() {
    let hold = json!({"rollback": {"holdRejected": true}});
    let bad = [
        (Act::Deploy(1), 30),
        (Act::Deploy(5), 30),
        (Act::Deploy(1), 30),
        (Act::Deploy(5), 20),
    ];
    check_under(
        hold.clone(),
        Scenario::Traffic,
        &bad,
        expect![[r#"
        090s somebody: Deploy(5)
        091s make v5 revision 4
        091s step 0, Degraded, waits for a new revision or a retry: taken back: held: taken back at 2027-01-15T08:00:46Z by condition (analysis web-v5-2-1 is Failed: no reason given); a retry allows it
    "#]],
    );
    let retried: Vec<_> = bad.into_iter().chain([(Act::Retry, 12)]).collect();
    check_under(
        hold,
        Scenario::Traffic,
        &retried,
        expect![[r#"
        110s somebody: Retry
        111s keep v5
        111s scale v5 to 1
        111s remember of v5: tried again
        111s step 0, Progressing, waits for 0 of 1 instances of v5 to become available
        113s point canary at v5
        114s send 25 % of web to the canary
        115s step 1, Progressing, waits for nothing
        116s start analysis web-v5-4-1.2
        119s send 0 % of web to the canary
        119s point canary at v1
        119s remember of v5: taken back by condition: analysis web-v5-4-1.2 is Failed: no reason given
        119s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        120s keep v5 until 2027-01-15T08:02:02Z
        122s scale v5 to 0
    "#]],
    );
}

#[test]
fn an_undo_to_a_warm_revision_is_one_change_and_starts_nothing() {
    let warm = json!({"rollback": {"keepWarm": {"duration": "10m"}}});
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 30),
        (Act::Promote, 60),
        (Act::Deploy(1), 15),
    ];
    check_under(
        warm.clone(),
        Scenario::Traffic,
        &acts,
        expect![[r#"
        101s remember of v2: taken back by somebody: undone: back to revision 1
        101s step 6, Progressing, waits for the gateway to serve Service stable
        102s keep v2 until 2027-01-15T08:01:47Z
        102s remember of v1: promoted
        102s step 6, Healthy, waits for nothing
        103s point canary at v1
        103s step 6, Progressing, waits for the gateway to serve Service canary
        104s step 6, Healthy, waits for v2 to be reclaimed at 2027-01-15T08:01:47Z
        107s scale v2 to 0
    "#]],
    );
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 60),
        (Act::Deploy(1), 15),
    ];
    check_under(
        warm,
        Scenario::BlueGreen,
        &acts,
        expect![[r#"
        071s remember of v2: taken back by somebody: undone: back to revision 1
        071s Progressing, waits for the gateway to serve Service preview
        072s point active at v1
        073s keep v2 until 2027-01-15T08:01:18Z
        073s remember of v1: promoted
        073s Healthy, waits for nothing
        078s scale v2 to 0
    "#]],
    );
}

#[test]
fn an_undo_without_warm_instances_starts_the_old_ones_first() {
    let instant = json!({"rollback": {"instant": true}});
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 30),
        (Act::Promote, 60),
        (Act::Deploy(1), 20),
    ];
    check_under(
        instant.clone(),
        Scenario::Traffic,
        &acts,
        expect![[r#"
        101s remember of v2: taken back by somebody: undone: back to revision 1
        101s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
        106s point stable at v1
        107s keep v2 until 2027-01-15T08:01:52Z
        107s remember of v1: promoted
        107s step 6, Healthy, waits for nothing
        108s point canary at v1
        108s step 6, Progressing, waits for the gateway to serve Service canary
        109s step 6, Healthy, waits for v2 to be reclaimed at 2027-01-15T08:01:52Z
        112s scale v2 to 0
    "#]],
    );
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 60),
        (Act::Deploy(1), 20),
    ];
    check_under(
        instant.clone(),
        Scenario::Replicas,
        &acts,
        expect![[r#"
        071s remember of v2: taken back by somebody: undone: back to revision 1
        071s step 4, Progressing, waits for 4 instances of v2 to become 1
        072s scale v1 to 2
        074s scale v2 to 2
        074s point canary at v1
        075s scale v1 to 3
        076s scale v2 to 1
        077s scale v1 to 4
        080s point stable at v1
        081s scale v2 to 0
        082s remember of v1: promoted
        082s step 4, Healthy, waits for nothing
    "#]],
    );
    check_under(
        instant,
        Scenario::BlueGreen,
        &acts,
        expect![[r#"
        071s remember of v2: taken back by somebody: undone: back to revision 1
        071s Progressing, waits for 0 of 4 instances of v1 to become available
        076s point preview at v1
        077s point active at v1
        078s keep v2 until 2027-01-15T08:01:23Z
        078s remember of v1: promoted
        078s Healthy, waits for nothing
        083s scale v2 to 0
    "#]],
    );
}

#[test]
fn what_is_found_in_the_bake_is_taken_back() {
    let analysis = json!({"templates": [{"templateName": "t"}]});
    let bake = json!({"bake": {"duration": 5, "analysis": analysis}});
    let acts = [(Act::Deploy(1), 10), (Act::Deploy(6), 40)];
    let routed = [acts[0], (Act::Deploy(6), 30), (Act::Promote, 30)];
    check_under(
        bake.clone(),
        Scenario::Traffic,
        &routed,
        expect![[r#"
        040s somebody: Promote
        041s step 5, Progressing, waits for nothing
        042s scale v6 to 3
        047s send 75 % of web to the canary
        048s step 6, Progressing, waits for nothing
        049s scale v6 to 4
        053s send 100 % of web to the canary
        054s point stable at v6
        055s send 0 % of web to the canary
        056s start analysis web-v6-2-bake
        061s point stable at v1
        061s point canary at v1
        061s remember of v6: taken back by condition: analysis web-v6-2-bake is Failed: no reason given
        061s step 0, Degraded, waits for the gateway to serve Service stable
        062s keep v6 until 2027-01-15T08:01:04Z
        064s scale v6 to 0
    "#]],
    );
    check_under(
        bake,
        Scenario::Replicas,
        &acts,
        expect![[r#"
        010s somebody: Deploy(6)
        011s make 8b9cb4755 as revision 2
        011s step 0, Progressing, waits for 0 of 4 instances of v6 to become available
        012s scale v1 to 3
        012s scale v6 to 1
        017s point canary at v6
        017s step 1, Progressing, waits for the gateway to serve Service canary
        018s start analysis web-v6-2-1
        024s step 2, Progressing, waits for nothing
        025s scale v1 to 2
        025s scale v6 to 2
        027s step 3, Progressing, waits for nothing
        028s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:31Z
        031s step 4, Progressing, waits for nothing
        032s scale v1 to 1
        032s scale v6 to 3
        033s scale v6 to 4
        037s point stable at v6
        038s scale v1 to 0
        039s start analysis web-v6-2-bake
        044s scale v1 to 1
        044s scale v6 to 3
        044s remember of v6: taken back by condition: analysis web-v6-2-bake is Failed: no reason given
        044s step 0, Degraded, waits for 0 of 4 instances of v1 to become available
        045s scale v1 to 2
        049s point stable at v1
        049s point canary at v1
        049s scale v6 to 2
        050s scale v1 to 3
        050s scale v6 to 1
    "#]],
    );
}

#[test]
fn a_canary_whose_stable_instances_follow_their_share() {
    check(
        Scenario::Dynamic,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 40),
            (Act::Abort, 30),
            (Act::Retry, 40),
            (Act::Promote, 40),
        ],
        expect![[""]],
    );
}

#[test]
fn a_canary_whose_services_take_turns() {
    check(
        Scenario::PingPong,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 50),
            (Act::Deploy(3), 50),
        ],
        expect![[""]],
    );
}

#[test]
fn a_canary_for_testers_first() {
    check(
        Scenario::Managed,
        &[
            (Act::Deploy(1), 30),
            (Act::Deploy(2), 60),
            (Act::Promote, 40),
        ],
        expect![[""]],
    );
}
