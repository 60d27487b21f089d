//! Releases as stories: what is done, second by second, in a world without faults.

#![expect(
    clippy::panic,
    reason = "a rule that is broken ends the test with its story"
)]

use expect_test::{Expect, expect};
use serin_engine::sim::{Act, Scenario, story};

fn check(scenario: Scenario, acts: &[(Act, u32)], expected: Expect) {
    match story(scenario, acts) {
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
            (Act::Promote, 30),
        ],
        expect![[r#"
            000s somebody: Deploy(1)
            001s make 85755f976d as revision 1
            001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
            002s scale v1 to 4
            007s point stable at v1
            007s point canary at v1
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
            061s step 0, Degraded, waits for the gateway to serve HTTPRoute web
            062s keep v2 until 2027-01-15T08:01:04Z
            064s scale v2 to 0
            090s somebody: Retry
            091s keep v2
            091s scale v2 to 1
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
            120s somebody: Promote
            121s step 5, Progressing, waits for nothing
            122s scale v2 to 3
            127s send 75 % of web to the canary
            128s step 6, Progressing, waits for nothing
            129s scale v2 to 4
            134s send 100 % of web to the canary
            135s point stable at v2
            136s send 0 % of web to the canary
            137s keep v1 until 2027-01-15T08:02:22Z
            137s step 6, Healthy, waits for nothing
            142s scale v1 to 0
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
            038s scale v2 to 0
            038s Healthy, waits for nothing
        "#]],
    );
}
