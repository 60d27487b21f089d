//! The embedded Kubernetes API: the part of a cluster's API server that kubectl and controllers need, on one machine.
//!
//! Responsible for: objects over HTTP as Kubernetes has them (get, list, watch, create, update, the four patches, delete,
//! the status and scale of an object), discovery, OpenAPI and tables, and for keeping the objects durable.
//!
//! Absent on purpose: what any kind does. Kinds, their defaults and their rules are a table in `serin-api`; whoever makes
//! a Deployment roll is a client of this API. This crate never knows a node, a gateway or a controller.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use serin_apiserver::{ApiServer, Store};
//! let server = ApiServer::new(Store::open("state.db".as_ref())?);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! serin_apiserver::serve(listener, server.guarded_router("secret"), std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod accept;
mod access;
mod admit;
mod body;
mod collect;
mod custom;
mod discovery;
mod guard;
mod history;
mod lifecycle;
mod listen;
mod logs;
mod meta;
mod openapi;
mod options;
mod patch;
mod protobuf;
mod registry;
mod render;
mod resource;
mod selector;
mod server;
mod status;
mod store;
mod streams;
mod target;
mod tree;
mod verbs;
#[cfg(test)]
#[path = "../tests/support/waiting.rs"]
mod waiting;

pub use access::{TokenKey, User};
pub use listen::{serve, serve_over};
pub use logs::{LogError, LogRequest, LogStream, PodLogs};
pub use server::{ApiServer, router};
pub use store::{Copied, DamagedRow, Store, StoreError, check_copy, copy_of, restore};
pub use streams::{ExecError, ExecRequest, Execution, ExitCode, PodExec};
