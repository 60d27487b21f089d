//! Why a node cannot run at all. What goes wrong with a pod is told in its status and its events instead.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a node cannot run.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The state directory cannot be used.
    #[error("the node cannot use {}", .path.display())]
    Home {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no shim executable.
    #[error("the node cannot start its shim {}", .path.display())]
    Shim {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
