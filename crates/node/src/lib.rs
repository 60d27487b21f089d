//! Pods as processes of this machine.
//!
//! Responsible for: the Node object, binding pods, running their containers as children of shims that outlive the control
//! plane, probes, restarts with back-off, the order of the end, logs, events and the status of pods.
//!
//! Absent on purpose: this crate never talks to controllers or to the gateway other than through the Kubernetes API, knows no
//! Deployment and no Rollout, pulls no images, and isolates nothing: a container is a process of the user who started Serin.
//!
//! How it is built: [`run`] watches pods and keeps one actor task per pod. What is decided is decided by a pure state machine
//! (`pod`), fed with inputs and a time; the actor only carries out its actions. A run of a container is a process of the hidden
//! command `serin shim` ([`shim_main`]), which is the parent of the application.

mod actor;
mod address;
pub mod bundle;
mod config;
mod dirs;
mod environment;
mod error;
mod leftovers;
mod logs;
mod node;
mod pod;
mod ports;
mod recorder;
mod registration;
mod shim;

pub use bundle::Bundles;
pub use config::{Backoff, LogLimits, NodeConfig};
pub use error::NodeError;
pub use logs::{LogError, LogOptions, LogRequest, open_logs};
pub use node::{run, stop_all};
pub use shim::conversation::{
    Conversation, ConversationError, ConversationRequest, Ending, converse,
};
pub use shim::{shim_main, terminal_main};
