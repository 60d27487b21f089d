//! The process `serin keeper`: holds the listening sockets and keeps one gateway running on them.
//!
//! Connections that come while no gateway runs wait in the sockets, so a gateway that dies refuses nobody. On SIGHUP it starts
//! another gateway from the program as it is now on disk and, once that serves, asks the one before to finish and go. If the
//! keeper dies, its gateway serves on, and the next keeper takes sockets and gateway over. The keeper itself does next to
//! nothing, so that nothing in it can fail. Absent on purpose: it knows no routes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process, setsid, test_kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::KeeperConfig;
use crate::handover;
use crate::info::{self, GatewayInfo};
use crate::ports::{self, BindError, Listener, Scheme};

/// The first descriptor of the socket hand-over, as systemd has it.
const FIRST_DESCRIPTOR: i32 = 3;
/// A child that lived this long was well; it is replaced at once.
const WELL: Duration = Duration::from_secs(1);
/// Users wait in the sockets meanwhile and are to be served within a second, however often the gateway was killed.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked after a gateway that is no child, or is about to serve.
const LOOK: Duration = Duration::from_millis(20);
/// How long a new gateway has to serve, else the one before goes on.
const TAKES_OVER: Duration = Duration::from_secs(15);
/// This signal asks a gateway to finish and go with its keeper.
const STOPPED: Signal = Signal::INT;
/// This signal asks a gateway to finish and go because another one serves in its place.
pub(crate) const REPLACED: Signal = Signal::USR2;

/// Why the keeper does not run.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is nothing to listen on.
    #[error("there is no address to listen on; set `listen` in gateway/config.json")]
    NoAddress,
    /// Anything of the system.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> KeeperError {
    move |source| KeeperError::System { what, source }
}

/// Runs the keeper until SIGTERM or SIGINT. Must not be called inside a runtime: it makes its own.
///
/// # Errors
/// When the addresses cannot be had or no process can be started at all.
pub fn keeper_main(config: &KeeperConfig) -> Result<(), KeeperError> {
    // It fails when this process already leads a session, which is what is wanted.
    let _ = setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(keep(config))
}

/// What is asked of the keeper.
enum Asked {
    Stop,
    Upgrade,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Upgrade,
        }
    }
}

/// The gateway that is kept.
enum Gateway {
    Child(Child),
    /// Of a keeper before this one.
    Taken(Pid),
}

impl Gateway {
    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Child(child) => child.id().and_then(pid_of),
            Self::Taken(pid) => Some(*pid),
        }
    }

    /// Waits for its end; how it ended.
    async fn ended(&mut self) -> String {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Taken(pid) => {
                while test_kill_process(*pid).is_ok() {
                    tokio::time::sleep(LOOK).await;
                }
                "not known".into()
            }
        }
    }

    /// Asks it to end by `asked`, and ends it when it has not after `grace`.
    async fn end(mut self, asked: Signal, grace: Duration) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, asked);
        }
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            tracing::error!("the gateway did not stop in time; it is killed");
            if let Some(pid) = self.pid() {
                let _ = kill_process(pid, Signal::KILL);
            }
            self.ended().await;
        }
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

async fn keep(config: &KeeperConfig) -> Result<(), KeeperError> {
    let mut signals = Signals::new().map_err(system("listen for signals"))?;
    let (listeners, mut gateway) = begin(config)?;
    let mut leaving = JoinSet::new();
    let mut quick_deaths = 0;
    loop {
        let started = Instant::now();
        tell(config, &listeners, gateway.pid());
        let status = loop {
            let asked = tokio::select! {
                status = gateway.ended() => break status,
                asked = signals.next() => asked,
            };
            match asked {
                Asked::Stop => {
                    gateway.end(STOPPED, config.stop_grace).await;
                    while leaving.join_next().await.is_some() {}
                    return Ok(());
                }
                Asked::Upgrade => {
                    if let Some(next) = upgraded(config, &listeners).await {
                        let before = std::mem::replace(&mut gateway, Gateway::Child(next));
                        tell(config, &listeners, gateway.pid());
                        leaving.spawn(before.end(REPLACED, config.replaced_grace));
                    }
                }
            }
        };
        quick_deaths = if started.elapsed() < WELL {
            quick_deaths + 1
        } else {
            0
        };
        let pause = pause_after(quick_deaths);
        tracing::error!(%status, ?pause, "the gateway died; it is started again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Asked::Stop = signals.next() => return Ok(()),
        }
        let child = start(config, &listeners).map_err(system("start the gateway"))?;
        gateway = Gateway::Child(child);
    }
}

/// The sockets, and the gateway on them: those of a gateway that lives, whose own keeper has died, else new ones.
fn begin(config: &KeeperConfig) -> Result<(Vec<Listener>, Gateway), KeeperError> {
    if let Ok((listeners, pid)) = handover::take(&config.home) {
        tracing::info!(
            pid = pid.as_raw_nonzero().get(),
            "a gateway that lives is taken over"
        );
        return Ok((listeners, Gateway::Taken(pid)));
    }
    if config.listen.is_empty() && config.tls_listen.is_empty() {
        return Err(KeeperError::NoAddress);
    }
    let listeners = ports::bind_all(&config.listen, &config.tls_listen)?;
    let child = start(config, &listeners).map_err(system("start the gateway"))?;
    Ok((listeners, Gateway::Child(child)))
}

/// Writes `run/gateway.json`.
fn tell(config: &KeeperConfig, listeners: &[Listener], gateway: Option<Pid>) {
    let written = || {
        let info = GatewayInfo {
            keeper_pid: Some(std::process::id()),
            pid: gateway.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()),
            listen: ports::addresses(listeners, Scheme::Http)?,
            tls_listen: ports::addresses(listeners, Scheme::Https)?,
        };
        info::write(&config.home, &info)
    };
    if let Err(error) = written() {
        tracing::error!(%error, "run/gateway.json cannot be written");
    }
}

/// Starts another gateway beside the one that serves. `None` when it does not come to serve; then nothing has changed.
async fn upgraded(config: &KeeperConfig, listeners: &[Listener]) -> Option<Child> {
    let mut child = match start(config, listeners) {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%error, "another gateway cannot be started; the one before goes on");
            return None;
        }
    };
    let pid = child.id().and_then(pid_of);
    let serves = async {
        while handover::serving_pid(&config.home) != pid {
            tokio::time::sleep(LOOK).await;
        }
    };
    let came = tokio::select! {
        came = tokio::time::timeout(TAKES_OVER, serves) => came.is_ok(),
        _ = child.wait() => false,
    };
    if came {
        tracing::info!(
            ?pid,
            "another gateway serves; the one before finishes its requests"
        );
        return Some(child);
    }
    tracing::error!("another gateway did not come to serve; the one before goes on");
    let _ = child.kill().await;
    None
}

/// The pause before the next start, after so many deaths right after a start in a row. The first is no reason to wait.
fn pause_after(quick_deaths: u32) -> Duration {
    match quick_deaths {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(50)
            .saturating_mul(1 << (n - 2).min(7))
            .min(LONGEST_PAUSE),
    }
}

fn start(config: &KeeperConfig, listeners: &[Listener]) -> io::Result<Child> {
    let clones = listeners
        .iter()
        .map(|listener| listener.socket.as_fd().try_clone_to_owned());
    let clones = clones.collect::<io::Result<Vec<OwnedFd>>>()?;
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .env("LISTEN_FDS", clones.len().to_string())
        .env("LISTEN_FDNAMES", names(listeners))
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS_FIRST_FD")
        .stdin(std::process::Stdio::null());
    let mappings = (FIRST_DESCRIPTOR..).zip(clones);
    let mappings = mappings.map(|(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    let mapped = command.fd_mappings(mappings.collect());
    mapped.map_err(io::Error::other)?;
    command.spawn()
}

/// What is spoken on each socket, as systemd names descriptors.
fn names(listeners: &[Listener]) -> String {
    let words: Vec<&str> = listeners.iter().map(|l| l.scheme.word()).collect();
    words.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keeper whose gateways live and do nothing.
    fn of_idlers(home: &std::path::Path) -> KeeperConfig {
        KeeperConfig {
            home: home.to_owned(),
            listen: Vec::new(),
            tls_listen: Vec::new(),
            program: "sleep".into(),
            arguments: vec!["3600".into()],
            stop_grace: Duration::ZERO,
            replaced_grace: Duration::ZERO,
        }
    }

    /// What a wait on a virtual clock gives, and after how many seconds. Children end by the real clock, which bounds it.
    async fn waited<T>(wait: impl Future<Output = T>) -> (T, u64) {
        let (over, is_over) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(20));
            over.send(())
        });
        let began = tokio::time::Instant::now();
        tokio::select! {
            value = wait => (value, began.elapsed().as_secs()),
            _ = is_over => panic!("it is waited for without end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_gateway_that_does_not_come_to_serve_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        let config = of_idlers(home.path());
        let (came, seconds) = waited(upgraded(&config, &[])).await;
        assert!(came.is_none());
        assert_eq!(seconds, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_end_in_its_grace_is_killed() {
        let home = tempfile::tempdir().unwrap();
        let child = start(&of_idlers(home.path()), &[]).unwrap();
        // A signal that nobody minds.
        let end = Gateway::Child(child).end(Signal::WINCH, Duration::from_secs(7));
        assert_eq!(waited(end).await, ((), 7));
    }

    #[test]
    fn only_repeated_deaths_right_after_a_start_wait() {
        let pauses: Vec<_> = (0..12).map(|n| pause_after(n).as_millis()).collect();
        assert_eq!(
            pauses,
            [0, 0, 50, 100, 200, 250, 250, 250, 250, 250, 250, 250]
        );
    }
}
