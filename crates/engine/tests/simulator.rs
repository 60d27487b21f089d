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

use serin_engine::sim::{Act, Failure, Scenario, killed_at, run, shrink};

/// Of each of the seven scenarios.
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
                    if run(scenario, seed).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    if let Some((faults, failure)) = shrink(scenario, seed).filter(|_| seed != u64::MAX) {
        let told = failure.story.join("\n");
        panic!(
            "{scenario:?} seed {seed} with {faults:?}: {}\n{told}",
            failure.what
        );
    }
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
