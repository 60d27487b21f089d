//! A seeded simulator of Rollouts: a small world of instances, Services, routes, measurements and people, in which faults
//! happen, and the same planner that runs in production; one Rollout alone, or several that are released together.
//!
//! One run has two phases. In the first, faults and people interfere, and the catalog of [`crate::invariants`] and the rules
//! of the world are checked at every step. Then the world heals, and the Rollout must come to rest. A seed gives the same
//! run each time; a run that fails tells its seed and its story.

mod dice;
mod world;

pub use dice::Dice;
pub use world::{
    Act, Failure, Faults, Leg, Scenario, Subject, analysis_templates, course, killed_at, manifest,
    run, shrink, story, story_together, story_under, told,
};
