//! Every decision of Serin, as pure functions: `plan(desired, observed, now) -> Plan`.
//!
//! Responsible for: what to create, scale and delete for each kind, the status that says so, what it waits for and when to
//! look again.
//!
//! Absent on purpose: this crate never does IO, never reads a clock, never draws a random number, is never async and never
//! depends on the order of a hash table (`clippy.toml` beside this crate enforces it). The same input gives the same plan.

pub mod analysis;
pub mod cron_job;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod experiment;
pub mod expression;
pub mod hash;
pub mod invariants;
pub mod job;
pub mod judge;
pub mod replica_set;
pub mod rollout;
#[cfg(feature = "sim")]
pub mod sim;
pub mod workload;
