//! `ReleasePolicy` of `serin.dev/v1alpha1`: what goes beyond the contract of Argo Rollouts, for one Rollout or for many.
//!
//! [`ReleasePolicySpec`] is the raw object; [`Policy`] is the checked form that decisions are made on, and [`lower`] goes from
//! one to the other with every problem at once. A Rollout that no policy governs behaves as in Argo Rollouts:
//! [`Policy::default`].

mod cron;
mod lower;
mod policy;
mod spec;

pub use cron::Cron;
pub use lower::lower;
pub use policy::*;
pub use spec::*;
