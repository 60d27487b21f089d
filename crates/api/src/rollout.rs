//! `Rollout` of `argoproj.io/v1alpha1`: a workload that is released in steps and taken back by itself.
//!
//! [`RolloutSpec`] is the raw object as clients write it; [`Desired`] is the checked form that decisions are made on, and
//! [`lower`] goes from one to the other with every problem at once.

mod desired;
mod lower;
mod routing;
mod spec;
mod status;

pub use desired::*;
pub(crate) use lower::template_is_not_referenced_and_written;
pub use lower::{Lowered, lower, lower_analysis};
pub use routing::*;
pub use spec::*;
pub use status::*;
