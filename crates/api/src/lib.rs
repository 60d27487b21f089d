//! The object types of Serin and everything that can be said of an object without asking anybody.
//!
//! Responsible for: the types of `argoproj.io/v1alpha1` and the parts of Gateway API and of Istio that we serve
//! (built-in Kubernetes types come from `k8s-openapi`), the table of kinds, reading manifests with every problem at once,
//! validation, defaulting, conditions, typed names and units.
//!
//! Absent on purpose: this crate never does IO, never reads a clock and never knows a client.

pub mod analysis;
pub mod conditions;
pub mod crd;
pub mod cron;
pub mod defaults;
pub mod experiment;
pub mod gateway_api;
pub mod istio;
pub mod keys;
pub mod kinds;
pub mod manifest;
pub mod problem;
pub mod release;
pub mod rollout;
pub mod schema;
pub mod traffic;
pub mod units;
pub mod validate;
pub mod waiting;

pub use problem::{FieldPath, Problem, Severity};
