//! `serin load` as a child: a constant rate, every request accounted for.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::apps::HOST;
use crate::support::{PATIENCE, Platform};

/// Requests a second.
const RATE: &str = "200";
/// Requests that can be in flight at a time.
pub(crate) const CONNECTIONS: u64 = 16;

/// A load that runs until it is stopped; it ends with this value, too.
pub(crate) struct Load {
    child: Child,
}

/// What became of the requests of a load.
pub(crate) struct Report(Value);

impl Load {
    /// Starts requests to the application through the gateway.
    pub(crate) async fn start(platform: &Platform) -> Self {
        Self::spawn(platform, "0s").await
    }

    /// Sends for so long, and tells.
    pub(crate) async fn during(platform: &Platform, duration: &str) -> Report {
        let load = Self::spawn(platform, duration).await;
        load.ended().await
    }

    async fn spawn(platform: &Platform, duration: &str) -> Self {
        let url = format!("http://{}/", platform.gateway().await);
        let connections = CONNECTIONS.to_string();
        let arguments = [
            "load",
            &url,
            "--host",
            HOST,
            "--rate",
            RATE,
            "--connections",
            &connections,
            "--duration",
            duration,
            "--json",
        ];
        let command = platform.command(env!("CARGO_BIN_EXE_serin"), &arguments);
        let mut command = tokio::process::Command::from(command);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Self {
            child: command.spawn().unwrap(),
        }
    }

    /// Finishes what is in flight, and tells.
    pub(crate) async fn stop(self) -> Report {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
        kill_process(pid.unwrap(), Signal::INT).unwrap();
        self.ended().await
    }

    async fn ended(self) -> Report {
        let output = timeout(PATIENCE, self.child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        Report(serde_json::from_slice(&output.stdout).unwrap())
    }
}

impl Report {
    pub(crate) fn requests(&self) -> u64 {
        self.0["total"]["requests"].as_u64().unwrap()
    }

    /// Requests that got no answer of the application.
    pub(crate) fn lost(&self) -> u64 {
        let faults = self.0["total"]["faults"].as_object().unwrap();
        faults.values().filter_map(Value::as_u64).sum()
    }

    /// Of them, those of one kind, such as `connect-error`.
    pub(crate) fn faults(&self, kind: &str) -> u64 {
        self.0["total"]["faults"][kind].as_u64().unwrap_or(0)
    }

    pub(crate) fn answers_of(&self, version: &str) -> u64 {
        self.0["total"]["versions"][version]["answers"]
            .as_u64()
            .unwrap_or(0)
    }

    /// The slowest answer.
    pub(crate) fn slowest_ms(&self) -> f64 {
        self.0["total"]["latency"]["maxMs"].as_f64().unwrap_or(0.0)
    }

    /// The share of a version among all answers, in percent.
    pub(crate) fn percent_of(&self, version: &str) -> f64 {
        100.0 * self.answers_of(version) as f64 / self.requests() as f64
    }

    /// Panics when a request was lost, with what was seen of it.
    pub(crate) fn assert_nothing_lost(&self) {
        assert_eq!(self.lost(), 0, "{:#}", self.0);
        assert!(self.requests() > 0, "nobody asked");
    }

    /// What was lost, one line for each of the first.
    pub(crate) fn failures(&self) -> String {
        let told = self.0["failures"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string);
        told.collect::<Vec<_>>().join("\n")
    }

    /// One line for whoever reads the output of the tests.
    pub(crate) fn told(&self) -> String {
        format!(
            "{} requests, {} lost, slowest {:.0} ms",
            self.requests(),
            self.lost(),
            self.slowest_ms()
        )
    }
}
