//! What a node has to be told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bundle::Bundles;

/// What a node has to be told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The state directory (`$SERIN_HOME`); the node writes under `run/pods` and `logs`.
    pub home: PathBuf,
    /// The name of the Node object.
    pub name: String,
    /// The `serin` executable: started as `serin shim --dir DIR`, and as `serin demo-app` for the demo bundle.
    pub shim: PathBuf,
    /// What image names mean.
    pub bundles: Bundles,
    /// Whether a gateway runs: then a pod that is to end first waits, within its grace period, until the gateway says with the
    /// condition `serin.dev/Drained` that no request is in flight to it.
    pub gateway: bool,
    /// How soon a container that ended is started again.
    pub backoff: Backoff,
    /// How much output of a container is kept.
    pub logs: LogLimits,
    /// Between two heartbeats of the Node object.
    pub heartbeat: Duration,
}

impl NodeConfig {
    /// The node `local` of a home, with the built-in bundles, a gateway and the limits of Kubernetes.
    pub fn new(home: &Path, shim: &Path) -> Self {
        Self {
            home: home.to_owned(),
            name: "local".into(),
            shim: shim.to_owned(),
            bundles: Bundles::builtin(),
            gateway: true,
            backoff: Backoff::default(),
            logs: LogLimits::default(),
            heartbeat: Duration::from_secs(300),
        }
    }
}

/// How soon a container that ended is started again: the first time at once, then after `initial`, doubling up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A run of at least this length counts as a success: the next end is the first again.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// The wait before the next start after `failures` starts in a row that failed, from 1.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        self.initial
            .saturating_mul(1_u32 << doublings)
            .min(self.max)
    }
}

/// How much output of one run of a container is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes at which a file is put aside.
    pub max_file_bytes: u64,
    /// Files that are kept, the one being written included.
    pub max_files: u32,
    /// Bytes a second in the long run; four times as much may come at once. More is dropped, with a line that says so.
    pub max_bytes_per_second: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_file_bytes: 10 << 20,
            max_files: 5,
            max_bytes_per_second: 4 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<_> = (1..=8)
            .map(|n| Backoff::default().delay(n).as_secs())
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
