//! The L7 data plane of Serin: it takes requests and sends each to one ready instance.
//!
//! A process of its own with its own life: it lowers Services, EndpointSlices, Ingresses and HTTPRoutes into one immutable
//! table ([`lower`]), swaps it atomically ([`live`]), proxies by it on several single-threaded workers, acknowledges what it
//! serves ([`acks`]), measures each revision (`series`) and tells of single requests (`observers`). The last good table is on disk, so that it starts and serves
//! with no control plane. A tiny parent, the keeper, holds the listening sockets and restarts it.
//!
//! Absent on purpose: this crate never needs the control plane to keep serving, never decides a weight and never prints.

pub mod acks;
pub mod config;
#[doc(hidden)]
pub mod fuzzing;
pub mod info;
pub mod keeper;
pub mod live;
pub mod lower;
pub mod names;
pub mod objects;
pub mod process;
pub mod rights;
pub mod table;

mod access_log;
mod admin;
mod control;
mod disk;
mod handover;
mod health;
mod instances;
mod observers;
mod ports;
mod prometheus;
mod proxy;
mod replicas;
mod series;
mod spans;
#[cfg(test)]
mod testing;
mod tls;
mod trace;
mod unix;
#[cfg(test)]
#[path = "../../apiserver/tests/support/waiting.rs"]
mod waiting;
mod watch;
mod worker;

pub use config::{ConfigError, GatewayConfig, KeeperConfig, OtlpConfig, kubeconfig};
pub use info::{GatewayInfo, admin_socket, healthy, read_endpoint};
pub use keeper::{KeeperError, keeper_main};
pub use process::{GatewayError, gateway_main};
