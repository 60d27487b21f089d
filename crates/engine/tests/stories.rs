//! Releases as stories: what is done, second by second, in a world without faults.

#![expect(
    clippy::panic,
    reason = "a rule that is broken ends the test with its story"
)]
#![expect(clippy::too_many_lines, reason = "a story is told whole")]

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
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point canary at v2
            037s send 25 % of web to the canary
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:48Z
            048s step 3, Progressing, waits for nothing
            049s scale v2 to 2
            054s send 50 % of web to the canary
            055s step 4, Progressing, waits for nothing
            056s step 4, Paused, waits for a decision: a pause step
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
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 6, Healthy, waits for nothing
            030s somebody: Deploy(5)
            031s make 7cccb5f5b as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v5 to become available
            032s scale v5 to 1
            036s point canary at v5
            037s send 25 % of web to the canary
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v5-2-1
            044s send 0 % of web to the canary
            044s point canary at v1
            044s remember of v5: taken back by condition: analysis web-v5-2-1 is Failed: no reason given
            044s step 0, Degraded, waits for the gateway to serve HTTPRoute web
            045s keep v5 until 2027-01-15T08:00:47Z
            047s scale v5 to 0
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
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point canary at v2
            037s send 25 % of web to the canary
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:48Z
            048s step 3, Progressing, waits for nothing
            049s scale v2 to 2
            054s send 50 % of web to the canary
            055s step 4, Progressing, waits for nothing
            056s step 4, Paused, waits for a decision: a pause step
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
            102s step 2, Progressing, waits for nothing
            103s step 2, Paused, waits for the end of a pause at 2027-01-15T08:01:46Z
            106s step 3, Progressing, waits for nothing
            107s scale v2 to 2
            109s send 50 % of web to the canary
            110s step 4, Progressing, waits for nothing
            111s step 4, Paused, waits for a decision: a pause step
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
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point canary at v2
            037s send 25 % of web to the canary
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:48Z
            048s step 3, Progressing, waits for nothing
            049s scale v2 to 2
            054s send 50 % of web to the canary
            055s step 4, Progressing, waits for nothing
            056s step 4, Paused, waits for a decision: a pause step
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
            073s step 2, Progressing, waits for nothing
            074s step 2, Paused, waits for the end of a pause at 2027-01-15T08:01:17Z
            077s step 3, Progressing, waits for nothing
            078s scale v3 to 2
            080s send 50 % of web to the canary
            081s step 4, Progressing, waits for nothing
            082s step 4, Paused, waits for a decision: a pause step
            090s somebody: Promote
            091s step 5, Progressing, waits for nothing
            092s scale v3 to 3
            095s send 75 % of web to the canary
            096s step 6, Progressing, waits for nothing
            097s scale v3 to 4
            099s send 100 % of web to the canary
            100s point stable at v3
            101s send 0 % of web to the canary
            102s keep v1 until 2027-01-15T08:01:47Z
            102s remember of v3: promoted
            102s step 6, Healthy, waits for nothing
            107s scale v1 to 0
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
            006s remember of v1: promoted
            006s step 4, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v1 to 3
            032s scale v2 to 1
            036s point canary at v2
            036s step 1, Progressing, waits for the gateway to serve Service canary
            037s start analysis web-v2-2-1
            042s step 2, Progressing, waits for nothing
            043s scale v1 to 2
            043s scale v2 to 2
            048s step 3, Progressing, waits for nothing
            049s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:52Z
            052s step 4, Progressing, waits for nothing
            053s scale v1 to 1
            053s scale v2 to 3
            054s scale v2 to 4
            058s point stable at v2
            059s scale v1 to 0
            060s remember of v2: promoted
            060s step 4, Healthy, waits for nothing
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
            006s point preview at v1
            006s point active at v1
            007s remember of v1: promoted
            007s Healthy, waits for nothing
            010s somebody: Deploy(2)
            011s make 6dc4c998ff as revision 2
            011s Progressing, waits for 0 of 4 instances of v2 to become available
            012s scale v2 to 1
            016s point preview at v2
            017s start analysis web-v2-2-pre
            022s Paused, waits for the end of a pause at 2027-01-15T08:00:26Z
            026s scale v2 to 4
            026s Progressing, waits for 1 of 4 instances of v2 to become available
            031s point active at v2
            032s start analysis web-v2-2-post
            036s somebody: Deploy(1)
            037s make v1 revision 3
            037s point active at v1
            037s point preview at v1
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
            091s step 0, Degraded, waits for a new revision or a retry: taken back: held: taken back at 2027-01-15T08:00:44Z by condition (analysis web-v5-2-1 is Failed: no reason given); a retry allows it
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
            116s point canary at v5
            117s send 25 % of web to the canary
            118s step 1, Progressing, waits for nothing
            119s start analysis web-v5-4-1.2
            121s send 0 % of web to the canary
            121s point canary at v1
            121s remember of v5: taken back by condition: analysis web-v5-4-1.2 is Failed: no reason given
            121s step 0, Degraded, waits for the gateway to serve HTTPRoute web
            122s keep v5 until 2027-01-15T08:02:04Z
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
            100s somebody: Deploy(1)
            101s make v1 revision 3
            101s keep v1
            101s point stable at v1
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
            070s somebody: Deploy(1)
            071s make v1 revision 3
            071s keep v1
            071s point preview at v1
            071s keep v1
            071s point active at v1
            071s remember of v2: taken back by somebody: undone: back to revision 1
            071s Progressing, waits for the gateway to serve Service preview
            072s keep v2 until 2027-01-15T08:01:17Z
            072s remember of v1: promoted
            072s Healthy, waits for nothing
            077s scale v2 to 0
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
            100s somebody: Deploy(1)
            101s make v1 revision 3
            101s keep v1
            101s scale v1 to 4
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
            070s somebody: Deploy(1)
            071s make v1 revision 3
            071s scale v2 to 3
            071s scale v1 to 1
            071s remember of v2: taken back by somebody: undone: back to revision 1
            071s step 4, Progressing, waits for 4 instances of v2 to become 1
            072s scale v1 to 2
            073s scale v2 to 2
            073s point canary at v1
            074s scale v1 to 3
            075s scale v2 to 1
            076s scale v1 to 4
            076s point stable at v1
            077s scale v2 to 0
            081s remember of v1: promoted
            081s step 4, Healthy, waits for nothing
        "#]],
    );
    check_under(
        instant,
        Scenario::BlueGreen,
        &acts,
        expect![[r#"
            070s somebody: Deploy(1)
            071s make v1 revision 3
            071s keep v1
            071s scale v1 to 4
            071s remember of v2: taken back by somebody: undone: back to revision 1
            071s Progressing, waits for 0 of 4 instances of v1 to become available
            076s point preview at v1
            076s point active at v1
            077s keep v2 until 2027-01-15T08:01:22Z
            077s remember of v1: promoted
            077s Healthy, waits for nothing
            082s scale v2 to 0
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
            016s point canary at v6
            016s step 1, Progressing, waits for the gateway to serve Service canary
            017s start analysis web-v6-2-1
            022s step 2, Progressing, waits for nothing
            023s scale v1 to 2
            023s scale v6 to 2
            028s step 3, Progressing, waits for nothing
            029s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:32Z
            032s step 4, Progressing, waits for nothing
            033s scale v1 to 1
            033s scale v6 to 3
            034s scale v6 to 4
            038s point stable at v6
            039s scale v1 to 0
            040s start analysis web-v6-2-bake
            045s scale v1 to 1
            045s scale v6 to 3
            045s remember of v6: taken back by condition: analysis web-v6-2-bake is Failed: no reason given
            045s step 0, Degraded, waits for 0 of 4 instances of v1 to become available
            046s scale v1 to 2
            048s point stable at v1
            048s point canary at v1
            048s scale v6 to 1
            049s scale v1 to 4
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
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 6, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point canary at v2
            037s send 25 % of web to the canary
            038s scale v1 to 3
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s scale v2 to 2
            045s send 50 % of web to the canary
            046s scale v1 to 2
            046s step 3, Progressing, waits for nothing
            047s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:50Z
            050s step 4, Progressing, waits for nothing
            051s scale v2 to 3
            051s send 75 % of web to the canary
            052s scale v1 to 1
            052s step 5, Progressing, waits for nothing
            053s step 5, Paused, waits for a decision: a pause step
            070s somebody: Abort
            071s scale v1 to 4
            071s remember of v2: taken back by somebody: a person asked for it
            071s step 0, Degraded, waits for 1 of 4 instances of v1 to become available
            073s send 50 % of web to the canary
            074s send 25 % of web to the canary
            075s send 0 % of web to the canary
            075s point canary at v1
            076s scale v2 to 0
            100s somebody: Retry
            101s scale v2 to 1
            101s remember of v2: tried again
            101s step 0, Progressing, waits for 0 of 1 instances of v2 to become available
            103s point canary at v2
            104s send 25 % of web to the canary
            105s scale v1 to 3
            105s step 1, Progressing, waits for nothing
            106s start analysis web-v2-2-1.2
            112s step 2, Progressing, waits for nothing
            113s scale v2 to 2
            113s send 50 % of web to the canary
            114s scale v1 to 2
            114s step 3, Progressing, waits for nothing
            115s step 3, Paused, waits for the end of a pause at 2027-01-15T08:01:58Z
            118s step 4, Progressing, waits for nothing
            119s scale v2 to 3
            119s send 75 % of web to the canary
            120s scale v1 to 1
            120s step 5, Progressing, waits for nothing
            121s step 5, Paused, waits for a decision: a pause step
            140s somebody: Promote
            141s step 6, Progressing, waits for nothing
            142s scale v2 to 4
            145s send 100 % of web to the canary
            146s point stable at v2
            147s send 0 % of web to the canary
            148s remember of v2: promoted
            148s step 6, Healthy, waits for nothing
            149s scale v1 to 0
        "#]],
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
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 4, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            006s point ping at v1
            006s point pong at v1
            007s remember of v1: promoted
            007s step 4, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point pong at v2
            037s send 25 % of web to the canary
            038s step 1, Progressing, waits for nothing
            039s start analysis web-v2-2-1
            044s step 2, Progressing, waits for nothing
            045s scale v2 to 3
            050s send 75 % of web to the canary
            051s step 3, Progressing, waits for nothing
            052s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:55Z
            055s step 4, Progressing, waits for nothing
            056s scale v2 to 4
            060s send 100 % of web to the canary
            061s keep v1 until 2027-01-15T08:01:06Z
            061s remember of v2: promoted
            061s step 4, Healthy, waits for nothing
            062s point ping at v2
            062s step 4, Progressing, waits for the gateway to serve Service ping
            063s step 4, Healthy, waits for v1 to be reclaimed at 2027-01-15T08:01:06Z
            066s scale v1 to 0
            080s somebody: Deploy(3)
            081s make cf6596c66 as revision 3
            081s step 0, Progressing, waits for 0 of 4 instances of v3 to become available
            082s scale v3 to 1
            084s point ping at v3
            085s send 25 % of web to the canary
            086s step 1, Progressing, waits for nothing
            087s start analysis web-v3-3-1
            091s step 2, Progressing, waits for nothing
            092s scale v3 to 3
            097s send 75 % of web to the canary
            098s step 3, Progressing, waits for nothing
            099s step 3, Paused, waits for the end of a pause at 2027-01-15T08:01:42Z
            102s step 4, Progressing, waits for nothing
            103s scale v3 to 4
            105s send 100 % of web to the canary
            106s keep v2 until 2027-01-15T08:01:51Z
            106s remember of v3: promoted
            106s step 4, Healthy, waits for nothing
            107s point pong at v3
            107s step 4, Progressing, waits for the gateway to serve Service pong
            108s step 4, Healthy, waits for v2 to be reclaimed at 2027-01-15T08:01:51Z
            111s scale v2 to 0
        "#]],
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
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 7, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            006s point stable at v1
            006s point canary at v1
            007s remember of v1: promoted
            007s step 7, Healthy, waits for nothing
            030s somebody: Deploy(2)
            031s make 6dc4c998ff as revision 2
            031s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
            032s scale v2 to 1
            036s point canary at v2
            037s step 1, Progressing, waits for nothing
            038s send 0 % of web to the canary, with testers
            038s step 1, Paused, waits for the gateway to serve HTTPRoute web
            040s step 2, Progressing, waits for nothing
            041s send 0 % of web to the canary, with testers, with copies
            042s step 3, Progressing, waits for nothing
            043s scale v2 to 2
            047s send 10 % of web to the canary, with testers, with copies
            048s start analysis web-v2-2-3
            052s step 4, Progressing, waits for nothing
            053s send 10 % of web to the canary, with copies
            054s step 5, Progressing, waits for nothing
            055s scale v2 to 3
            060s send 60 % of web to the canary, with copies
            061s step 6, Progressing, waits for nothing
            062s step 6, Paused, waits for a decision: a pause step
            090s somebody: Promote
            091s step 7, Progressing, waits for nothing
            092s scale v2 to 4
            096s send 100 % of web to the canary
            097s point stable at v2
            098s send 0 % of web to the canary
            099s keep v1 until 2027-01-15T08:01:44Z
            099s remember of v2: promoted
            099s step 7, Healthy, waits for nothing
            104s scale v1 to 0
        "#]],
    );
}

#[test]
fn a_freeze_holds_a_release_and_not_its_way_back() {
    // The world begins at 08:00: the freeze is from 08:00:00 to 08:00:45, and again a day later.
    let freeze = json!({"freeze": [{"name": "morning", "schedule": "0 8 * * *", "duration": 45}]});
    let acts = [(Act::Deploy(1), 10), (Act::Deploy(2), 50)];
    check_under(
        freeze.clone(),
        Scenario::Traffic,
        &acts,
        expect![[r#"
            010s somebody: Deploy(2)
            011s make 6dc4c998ff as revision 2
            011s step 0, Paused, waits for the end of the freeze morning at 2027-01-15T08:00:45Z
            045s scale v2 to 1
            045s step 0, Progressing, waits for 0 of 1 instances of v2 to become available
            049s point canary at v2
            050s send 25 % of web to the canary
            051s step 1, Progressing, waits for nothing
            052s start analysis web-v2-2-1
            057s step 2, Progressing, waits for nothing
            058s step 2, Paused, waits for the end of a pause at 2027-01-15T08:01:01Z
        "#]],
    );
    let late = json!({"freeze": [{"name": "minute", "schedule": "1 8 * * *", "duration": 40}]});
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 52),
        (Act::Promote, 10),
        (Act::Abort, 20),
    ];
    check_under(
        late,
        Scenario::Traffic,
        &acts,
        expect![[r#"
        072s somebody: Abort
        073s send 0 % of web to the canary
        073s point canary at v1
        073s remember of v2: taken back by somebody: a person asked for it
        073s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        074s keep v2 until 2027-01-15T08:01:16Z
        076s scale v2 to 0
    "#]],
    );
    check_under(
        freeze,
        Scenario::BlueGreen,
        &acts[..2],
        expect![[r#"
            010s somebody: Deploy(2)
            011s make 6dc4c998ff as revision 2
            011s Paused, waits for the end of the freeze morning at 2027-01-15T08:00:45Z
            045s scale v2 to 1
            045s Progressing, waits for 0 of 1 instances of v2 to become available
            049s point preview at v2
            050s start analysis web-v2-2-pre
            055s Paused, waits for the end of a pause at 2027-01-15T08:00:59Z
            059s scale v2 to 4
            059s Progressing, waits for 1 of 4 instances of v2 to become available
        "#]],
    );
}

#[test]
fn a_gate_asks_a_person_and_a_rejection_takes_back() {
    let gates = json!({"gates": [{"name": "go", "before": "start"}, {"name": "half", "before": "step", "step": 4}]});
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 10),
        (Act::Approve, 30),
        (Act::Reject, 20),
    ];
    check_under(
        gates.clone(),
        Scenario::Traffic,
        &acts[..2],
        expect![[r#"
        010s somebody: Deploy(2)
        011s make 6dc4c998ff as revision 2
        011s step 0, Paused, waits for somebody to approve go
    "#]],
    );
    check_under(
        gates.clone(),
        Scenario::Traffic,
        &acts[..3],
        expect![[r#"
            020s somebody: Approve
            021s scale v2 to 1
            021s step 0, Progressing, waits for 0 of 1 instances of v2 to become available
            025s point canary at v2
            026s send 25 % of web to the canary
            027s step 1, Progressing, waits for nothing
            028s start analysis web-v2-2-1
            033s step 2, Progressing, waits for nothing
            034s step 2, Paused, waits for the end of a pause at 2027-01-15T08:00:37Z
            037s step 3, Progressing, waits for nothing
            038s scale v2 to 2
            038s step 3, Paused, waits for somebody to approve half
        "#]],
    );
    check_under(
        gates,
        Scenario::Traffic,
        &acts,
        expect![[r#"
        050s somebody: Reject
        051s send 0 % of web to the canary
        051s point canary at v1
        051s remember of v2: taken back by anna: half was rejected
        051s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        052s keep v2 until 2027-01-15T08:00:54Z
        054s scale v2 to 0
    "#]],
    );
    let end = json!({"gates": [{"name": "switch"}]});
    let acts = [
        (Act::Deploy(1), 10),
        (Act::Deploy(2), 20),
        (Act::Approve, 20),
    ];
    check_under(
        end,
        Scenario::BlueGreen,
        &acts,
        expect![[r#"
            030s somebody: Approve
            031s start analysis web-v2-2-pre
            031s Progressing, waits for analysis web-v2-2-pre
            036s Paused, waits for the end of a pause at 2027-01-15T08:00:40Z
            040s scale v2 to 4
            040s Progressing, waits for 1 of 4 instances of v2 to become available
            045s point active at v2
            046s start analysis web-v2-2-post
        "#]],
    );
}
