//! The process `serin keeper`: holds the listening sockets and keeps one gateway running on them.
//!
//! Connections that come while no gateway runs wait in the sockets, so a gateway that dies refuses nobody. The keeper itself does
//! next to nothing, so that nothing in it can fail. If it dies, its gateway serves on. Absent on purpose: it knows no routes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process, setsid, test_kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::KeeperConfig;
use crate::info::{self, GatewayInfo};
use crate::ports::{self, BindError, Listener, Scheme};

/// The first descriptor of the socket hand-over, as systemd has it.
const FIRST_DESCRIPTOR: i32 = 3;
/// A child that lived this long was well; it is replaced at once.
const WELL: Duration = Duration::from_secs(1);
/// Users wait in the sockets meanwhile and are to be served within a second, however often the gateway was killed.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often an orphaned gateway is looked after.
const LOOK: Duration = Duration::from_millis(100);

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

async fn keep(config: &KeeperConfig) -> Result<(), KeeperError> {
    if config.listen.is_empty() && config.tls_listen.is_empty() {
        return Err(KeeperError::NoAddress);
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listen for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listen for signals"))?;
    let listeners = tokio::select! {
        listeners = bind(config) => listeners?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let address = system("read the address of a socket");
    let listen = ports::addresses(&listeners, Scheme::Http);
    let tls_listen = ports::addresses(&listeners, Scheme::Https);
    let (listen, tls_listen) = listen.and_then(|l| Ok((l, tls_listen?))).map_err(address)?;
    let mut quick_deaths = 0;
    loop {
        let mut child = start(config, &listeners).map_err(system("start the gateway"))?;
        let started = Instant::now();
        let info = GatewayInfo {
            keeper_pid: Some(std::process::id()),
            pid: child.id().unwrap_or_default(),
            listen: listen.clone(),
            tls_listen: tls_listen.clone(),
        };
        if let Err(error) = info::write(&config.home, &info) {
            tracing::error!(%error, "run/gateway.json cannot be written");
        }
        let status = tokio::select! {
            status = child.wait() => status,
            _ = terminate.recv() => return stop(child, config.stop_grace).await,
            _ = interrupt.recv() => return stop(child, config.stop_grace).await,
        };
        quick_deaths = if started.elapsed() < WELL {
            quick_deaths + 1
        } else {
            0
        };
        let pause = pause_after(quick_deaths);
        tracing::error!(status = %told(status), ?pause, "the gateway died; it is started again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
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

fn told(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Binds the addresses. When a gateway of this home still serves them, whose own keeper has died, waits for its end.
async fn bind(config: &KeeperConfig) -> Result<Vec<Listener>, KeeperError> {
    let mut has_told = false;
    loop {
        let error = match ports::bind_all(&config.listen, &config.tls_listen) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => error,
        };
        let orphan = info::read_endpoint(&config.home).map(|info| info.pid);
        let is_orphans = matches!(&error, BindError::InUse { holder, .. } if holder.pid.is_some() && holder.pid == orphan);
        if !is_orphans {
            return Err(error.into());
        }
        if !has_told {
            tracing::info!(
                pid = orphan,
                "a gateway without a keeper serves; it is replaced when it ends"
            );
            has_told = true;
        }
        let pid = orphan.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        while pid.is_some_and(|pid| test_kill_process(pid).is_ok()) {
            tokio::time::sleep(LOOK).await;
        }
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

/// Asks the gateway to stop, and ends it when it has not after `grace`.
async fn stop(mut child: Child, grace: Duration) -> Result<(), KeeperError> {
    let pid = child
        .id()
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        tracing::error!("the gateway did not stop in time; it is killed");
        let _ = child.kill().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_repeated_deaths_right_after_a_start_wait() {
        let pauses: Vec<_> = (0..12).map(|n| pause_after(n).as_millis()).collect();
        assert_eq!(
            pauses,
            [0, 0, 50, 100, 200, 250, 250, 250, 250, 250, 250, 250]
        );
    }
}
