//! Analyses: what a metric must be, when it is measured, and what the measurements mean in the end.
//!
//! [`instantiate`] puts templates and arguments together into one run; [`plan`] says what is to be measured now; [`record`]
//! folds a measurement into the status. Who measures, and how, is not known here.

mod condition;
mod instantiate;
mod judged;
mod run;

pub use condition::{Judgement, MetricValue, judge};
pub(crate) use instantiate::arguments;
pub use instantiate::{Origin, TemplateSource, instantiate, is_secret, resolve, reveal};
pub use judged::{Traffic, judge_rules};
pub(crate) use run::is_endless;
pub use run::{Measured, Order, RunPlan, plan, record};
