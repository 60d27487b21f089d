//! `Rollout` of `argoproj.io/v1alpha1`: a workload that is released in steps and taken back by itself.
//!
//! [`RolloutSpec`] is the raw object as clients write it; [`Desired`] is the checked form that decisions are made on, and
//! [`lower`] goes from one to the other with every problem at once.

mod desired;
mod spec;
mod status;

pub use desired::{
    AnalysisRef, BackgroundAnalysis, BlueGreen, Canary, CanaryScale, Desired, Lowered, Route, Step,
    Strategy, lower,
};
pub use spec::*;
pub use status::*;
