//! Seeds of the simulator. A seed that fails prints itself with the fewest faults that still make it fail.
//!
//! `SERIN_SIM_SEEDS` asks for so many seeds of each scenario, `SERIN_SIM_SEED` for one of them.

#![expect(
    clippy::panic,
    reason = "a seed that fails ends the test with its story"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the environment says how many seeds; no decision depends on it"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use expect_test::{Expect, expect};
use serin_engine::sim::{
    Act, Failure, Scenario, Subject, killed_at, run, shrink, story, story_together,
};

/// Of each of the nine scenarios and of groups: 20,000 in all.
const SEEDS: u64 = 2_000;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match number("SERIN_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SERIN_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

/// The first seed that fails; the machine's threads share the work.
fn all(scenario: Scenario) {
    all_of(Subject::One(scenario));
}

fn all_of(subject: Subject) {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    if run(subject, seed).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    if seed == u64::MAX {
        return;
    }
    let Some((faults, failure)) = shrink(subject, seed) else {
        panic!("{subject:?} seed {seed} failed once and not again");
    };
    let told = failure.story.join("\n");
    panic!(
        "{subject:?} seed {seed} with {faults:?}: {}\n{told}",
        failure.what
    );
}

#[test]
fn canary_with_a_route() {
    all(Scenario::Traffic);
}

#[test]
fn canary_by_replicas() {
    all(Scenario::Replicas);
}

#[test]
fn blue_green() {
    all(Scenario::BlueGreen);
}

#[test]
fn canary_with_managed_routes() {
    all(Scenario::Managed);
}

#[test]
fn canary_with_a_dynamic_stable_scale() {
    all(Scenario::Dynamic);
}

#[test]
fn canary_with_services_that_take_turns() {
    all(Scenario::PingPong);
}

#[test]
fn canary_with_experiments() {
    all(Scenario::Experiment);
}

#[test]
fn rolling_update_in_batches() {
    all(Scenario::Batches);
}

#[test]
fn canary_with_configuration() {
    all(Scenario::Configured);
}

#[test]
fn release_groups() {
    all_of(Subject::Group);
}

fn told(story: Result<Vec<String>, Failure>, expected: Expect) {
    let story = story.unwrap_or_else(|failure| {
        let mut told = failure.story;
        told.push(format!("BROKEN: {}", failure.what));
        told
    });
    expected.assert_eq(&story.join("\n"));
}

/// Found by a seed: the last batch leaves no old instance, so the stable Service has to move on before it is over.
#[test]
fn the_last_batch_takes_the_service_along() {
    let acts = [(Act::Deploy(1), 15), (Act::Deploy(2), 40)];
    told(
        story(Scenario::Batches, &acts),
        expect![[r#"
        000s somebody: Deploy(1)
        001s make 85755f976d as revision 1
        001s step 2, Progressing, waits for 0 of 4 instances of v1 to become available
        002s scale v1 to 4
        004s point stable at v1
        004s point canary at v1
        006s remember of v1: promoted
        006s step 2, Healthy, waits for nothing
        015s somebody: Deploy(2)
        016s make 6dc4c998ff as revision 2
        016s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
        017s scale v1 to 3
        017s scale v2 to 1
        018s scale v2 to 2
        021s scale v1 to 2
        021s point canary at v2
        022s step 0, Paused, waits for the end of a pause at 2027-01-15T08:00:24Z
        024s start analysis web-v2-2-0
        028s step 1, Progressing, waits for nothing
        029s scale v1 to 1
        029s scale v2 to 3
        030s scale v2 to 4
        034s point stable at v2
        035s scale v1 to 0
        036s step 1, Paused, waits for the end of a pause at 2027-01-15T08:00:38Z
        038s start analysis web-v2-2-1
        043s step 2, Progressing, waits for nothing
        044s remember of v2: promoted
        044s step 2, Healthy, waits for nothing"#]],
    );
}

/// Found by a seed: interrupted after the Service had moved on, it went back to the stable revision as the last instance left.
#[test]
fn an_interrupted_last_batch_leaves_the_service_with_who_answers() -> Result<(), String> {
    for seconds in 1..16 {
        let acts = [
            (Act::Deploy(1), 15),
            (Act::Scale(2), 10),
            (Act::Deploy(2), seconds),
            (Act::Deploy(4), seconds),
            (Act::Deploy(3), 60),
        ];
        let story = story(Scenario::Batches, &acts).map_err(|failure| {
            format!(
                "{seconds} s: {}\n{}",
                failure.what,
                failure.story.join("\n")
            )
        })?;
        let last = story.last().map_or("", String::as_str);
        if !last.contains("Healthy") {
            return Err(format!("{seconds} s: {}", story.join("\n")));
        }
    }
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "the story is told whole")]
fn another_configuration_is_another_revision() {
    let acts = [
        (Act::Deploy(1), 15),
        (Act::Configure(2), 40),
        (Act::Configure(3), 40),
        (Act::Undo(0), 40),
    ];
    told(
        story(Scenario::Configured, &acts),
        expect![[r#"
        000s somebody: Deploy(1)
        001s copy ConfigMap "settings" as "settings-c1"
        001s make 56ccdd6fbf as revision 1
        001s step 4, Progressing, waits for 0 of 4 instances of v1 to become available
        002s scale v1 to 4
        006s point stable at v1
        006s point canary at v1
        007s remember of v1: promoted
        007s step 4, Healthy, waits for nothing
        015s somebody: Configure(2)
        016s copy ConfigMap "settings" as "settings-c2"
        016s make 7f54cf4fb as revision 2
        016s step 0, Progressing, waits for 0 of 4 instances of v1 to become available
        017s scale v1 to 1
        021s point canary at v1
        022s send 25 % of web to the canary
        023s step 1, Progressing, waits for nothing
        024s start analysis web-v1-2-1
        029s step 2, Progressing, waits for nothing
        030s scale v1 to 2
        035s send 50 % of web to the canary
        036s step 3, Progressing, waits for nothing
        037s step 3, Paused, waits for the end of a pause at 2027-01-15T08:00:40Z
        040s step 4, Progressing, waits for nothing
        041s scale v1 to 4
        046s send 100 % of web to the canary
        047s point stable at v1
        048s send 0 % of web to the canary
        049s keep v1 until 2027-01-15T08:00:54Z
        049s remember of v1: promoted
        049s step 4, Healthy, waits for nothing
        054s scale v1 to 0
        055s somebody: Configure(3)
        056s copy ConfigMap "settings" as "settings-c3"
        056s make 77dbfdf7c9 as revision 3
        056s step 0, Progressing, waits for 0 of 4 instances of v1 to become available
        057s scale v1 to 1
        059s point canary at v1
        060s send 25 % of web to the canary
        061s step 1, Progressing, waits for nothing
        062s start analysis web-v1-3-1
        066s send 0 % of web to the canary
        066s point canary at v1
        066s remember of v1: taken back by condition: analysis web-v1-3-1 is Failed: no reason given
        066s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        067s keep v1 until 2027-01-15T08:01:09Z
        069s scale v1 to 0
        095s somebody: Undo(0)
        096s make v1 revision 4
        096s keep v1
        096s scale v1 to 1
        096s step 0, Progressing, waits for 0 of 1 instances of v1 to become available
        098s point canary at v1
        099s send 25 % of web to the canary
        100s step 1, Progressing, waits for nothing
        101s start analysis web-v1-4-1
        107s step 2, Progressing, waits for nothing
        108s scale v1 to 2
        110s send 50 % of web to the canary
        111s step 3, Progressing, waits for nothing
        112s step 3, Paused, waits for the end of a pause at 2027-01-15T08:01:55Z
        115s step 4, Progressing, waits for nothing
        116s scale v1 to 4
        120s send 100 % of web to the canary
        121s point stable at v1
        122s send 0 % of web to the canary
        123s keep v1 until 2027-01-15T08:02:08Z
        123s remember of v1: promoted
        123s step 4, Healthy, waits for nothing
        128s scale v1 to 0"#]],
    );
}

#[test]
fn a_group_goes_in_lockstep_and_comes_back_together() {
    let acts = [
        (0, Act::Deploy(1), 0),
        (1, Act::Deploy(1), 15),
        (0, Act::Deploy(2), 0),
        (1, Act::Deploy(5), 50),
    ];
    let members = [Scenario::Traffic, Scenario::Configured];
    told(
        story_together(&members, &acts),
        expect![[r#"
        api: somebody: Deploy(1)
        web: somebody: Deploy(1)
        web: 001s copy ConfigMap "settings" as "settings-c1"
        web: 001s make 56ccdd6fbf as revision 1
        web: 001s step 4, Progressing, waits for 0 of 4 instances of v1 to become available
        api: 001s make 85755f976d as revision 1
        api: 001s step 6, Progressing, waits for 0 of 4 instances of v1 to become available
        web: 002s scale v1 to 4
        api: 002s scale v1 to 4
        api: 006s point stable at v1
        api: 006s point canary at v1
        web: 007s point stable at v1
        web: 007s point canary at v1
        api: 007s remember of v1: promoted
        api: 007s step 6, Healthy, waits for nothing
        web: 008s remember of v1: promoted
        web: 008s step 4, Healthy, waits for nothing
        api: somebody: Deploy(2)
        web: somebody: Deploy(5)
        web: 016s make cf45cdcc7 as revision 2
        web: 016s step 0, Progressing, waits for api of the release group shop, which has just been changed
        api: 016s make 6dc4c998ff as revision 2
        api: 016s step 0, Progressing, waits for 0 of 4 instances of v2 to become available
        api: 017s scale v2 to 1
        web: 017s scale v5 to 1
        api: 021s point canary at v2
        api: 022s send 25 % of web to the canary
        web: 022s point canary at v5
        api: 023s step 1, Progressing, waits for nothing
        web: 023s send 25 % of web to the canary
        web: 024s step 1, Progressing, waits for nothing
        api: 024s start analysis api-v2-2-1
        web: 025s start analysis web-v5-2-1
        web: 029s send 0 % of web to the canary
        web: 029s point canary at v1
        web: 029s remember of v5: taken back by condition: analysis web-v5-2-1 is Failed: no reason given
        web: 029s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        api: 029s send 0 % of web to the canary
        api: 029s point canary at v1
        api: 029s remember of v2: taken back by release group shop: web was taken back
        api: 029s step 0, Degraded, waits for the gateway to serve HTTPRoute web
        api: 030s keep v2 until 2027-01-15T08:00:32Z
        web: 030s keep v5 until 2027-01-15T08:00:32Z
        web: 032s scale v5 to 0
        api: 032s scale v2 to 0"#]],
    );
}

/// Killed before each of its actions in turn and started again, a release comes to the same end.
#[test]
fn a_kill_at_any_action_changes_no_end() -> Result<(), String> {
    let told = |failure: Failure| format!("{}\n{}", failure.what, failure.story.join("\n"));
    let acts = [
        (Act::Deploy(1), 20),
        (Act::Deploy(2), 40),
        (Act::PromoteFull, 40),
        (Act::Deploy(3), 20),
        (Act::Abort, 30),
    ];
    for scenario in Scenario::ALL {
        let (actions, end) = killed_at(scenario, &acts, None).map_err(told)?;
        if actions < 10 {
            return Err(format!("{scenario:?} did only {actions} things"));
        }
        for kill in 0..actions {
            let (_, other) = killed_at(scenario, &acts, Some(kill)).map_err(told)?;
            if other != end {
                return Err(format!("{scenario:?} killed at {kill}: {other}, not {end}"));
            }
        }
    }
    Ok(())
}
