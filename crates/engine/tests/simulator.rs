//! Seeds of the simulator. A seed that fails prints itself; `SERIN_SIM_SEEDS` asks for more of them, `SERIN_SIM_SEED` for one.

#![expect(
    clippy::panic,
    reason = "a seed that fails ends the test with its story"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the environment says how many seeds; no decision depends on it"
)]

use serin_engine::sim::{Scenario, run};

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match number("SERIN_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SERIN_SIM_SEEDS").unwrap_or(300),
    }
}

fn all(scenario: Scenario) {
    for seed in seeds() {
        if let Err(failure) = run(scenario, seed) {
            panic!(
                "{scenario:?} seed {seed}: {}\n{}",
                failure.what,
                failure.story.join("\n")
            );
        }
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
