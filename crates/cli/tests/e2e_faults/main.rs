//! Faults and bad input on real processes under real requests: whatever is killed, full, corrupt or wrong, users are served on,
//! a person is told what to do, and nothing foreign is touched.
//!
//! Each test has a platform of its own. What a fault costs is counted by `serin load`, which sends on a schedule and accounts
//! for every request; the figures are printed (`--nocapture` shows them).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]
#![expect(clippy::print_stdout, reason = "what was measured is told")]

#[path = "../support/mod.rs"]
mod support;

mod apps;
mod load;
mod processes;

mod bad_versions;
mod control_plane;
mod ending;
mod full_disk;
mod gateway;
mod istio;
mod manifests;
mod plans;
mod ports;
mod recordings;
mod rollbacks;
mod state_file;
mod verdicts;
