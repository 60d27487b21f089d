//! Sees to it that the gateway of the state directory lives: takes over one that serves, starts its keeper when none does.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serin_gateway::{GatewayInfo, healthy, read_endpoint};
use tokio_util::sync::CancellationToken;

use super::processes::OwnProcess;
use crate::home::Home;

/// How often it is looked whether the gateway lives.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause between two starts of a keeper that ends at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The gateway of a state directory.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) home: Home,
    /// Where it is to listen; empty for what its own settings say.
    pub(super) listen: Vec<SocketAddr>,
    /// The `serin` executable.
    pub(super) program: PathBuf,
}

/// The processes of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Holds the sockets and starts the gateway again.
    pub(crate) keeper: Option<OwnProcess>,
    /// Serves.
    pub(crate) gateway: Option<OwnProcess>,
}

impl Processes {
    /// Those that live in a state directory.
    pub(crate) fn of(home: &Home) -> Self {
        let Some(info) = read_endpoint(home.root()) else {
            return Self::default();
        };
        let find = |pid, command| OwnProcess::find(pid, command, home.root());
        Self {
            keeper: info.keeper_pid.and_then(|pid| find(pid, "keeper")),
            gateway: find(info.pid, "gateway"),
        }
    }

    /// Whether any lives.
    pub(crate) fn any(&self) -> bool {
        self.keeper.is_some() || self.gateway.is_some()
    }
}

/// What a living gateway says of itself; `None` when none answers.
pub(crate) async fn serving(home: &Home) -> Option<GatewayInfo> {
    if !healthy(home.root()).await {
        return None;
    }
    read_endpoint(home.root())
}

impl Gateway {
    /// Looks after it until `stop`. The gateway lives on then.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let mut own: Option<Child> = None;
        let mut pause = LOOK;
        loop {
            let alive = healthy(self.home.root()).await
                || is_running(own.as_mut())
                || Processes::of(&self.home).any();
            if alive {
                pause = LOOK;
            } else {
                if own.is_some() {
                    tracing::warn!(
                        ?pause,
                        "the gateway is gone; it is started again (see logs/gateway.log)"
                    );
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                own = match self.start() {
                    Ok(child) => Some(child),
                    Err(error) => {
                        tracing::error!(%error, "the keeper of the gateway cannot be started");
                        None
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.logs().join("gateway.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("keeper").arg("--home").arg(self.home.root());
        for address in &self.listen {
            command.arg("--listen").arg(address.to_string());
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }
}

/// Whether a child runs; one that has ended is reaped.
fn is_running(child: Option<&mut Child>) -> bool {
    child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}
