//! The shim: the small parent of one run of one container, which outlives the control plane.
//!
//! Responsible for: starting the application in a process group of its own, keeping its output in a bounded log, knowing how
//! it ended, ending it and everything that came of it, and telling all of that over a unix socket in its directory. It is
//! the reaper of its descendants (`PR_SET_CHILD_SUBREAPER`): what an application daemonises becomes a child of the shim and
//! ends with the container. Only the shim ever signals, and only processes that it alone can wait for, so a reused process
//! number can never make it hit a stranger.
//!
//! Life: the node starts `serin shim --dir DIR` with a [`wire::Spec`] on standard input and reads one [`wire::Handshake`] from
//! standard output. The shim leaves the session of its starter, holds `DIR/lock` for as long as it lives, and is found again
//! through `DIR/s`. Once the application and all of its descendants are gone it writes the exit status to `DIR/state.json` and
//! ends: a file waits for the node at less cost than a process. Only when the file cannot be written (a full disk) does it stay,
//! try again each second, and answer over the socket.
//!
//! Absent on purpose: no async runtime, no restart policy, no probe, no knowledge of Kubernetes. One thread does everything;
//! a second one only sleeps in `waitid` and wakes the first.

pub(crate) mod client;
mod command;
mod conn;
pub(crate) mod conversation;
mod lines;
mod log_file;
pub(crate) mod record;
mod server;
pub(crate) mod tree;
pub(crate) mod wire;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::FlockOperation;

pub use command::terminal_main;
use wire::{Handshake, LOCK, MAX_SPEC_BYTES, RECORD, SOCKET, Spec};

/// Runs the shim of the directory `dir` until its application and all descendants are gone: the whole of the hidden command
/// `serin shim --dir DIR`. Speaks only through standard output and the socket. Call it before any other thread runs.
///
/// Gives failure when the application could not be started; the reason is in the handshake.
pub fn shim_main(dir: &Path) -> ExitCode {
    let started = prepare(dir).and_then(|(lock, listener, spec)| {
        let server = server::Server::start(&spec, listener)?;
        Ok((lock, server))
    });
    match started {
        Ok((lock, server)) => {
            let greeted = greet(&Handshake::Started(server.record().clone()));
            // A starter that is gone before the greeting is no reason to stop: the next one finds the socket.
            let _ = greeted.and_then(|()| detach());
            server.run();
            drop(lock);
            ExitCode::SUCCESS
        }
        Err(message) => {
            let _ = greet(&Handshake::Failed { message });
            ExitCode::FAILURE
        }
    }
}

/// Leaves the starter's session, takes the directory and reads the spec.
fn prepare(dir: &Path) -> Result<(File, UnixListener, Spec), String> {
    // Fails only for the leader of a process group, which is then in no need of a session of its own.
    let _ = rustix::process::setsid();
    // The name of the socket is relative to the directory: the limit of 107 bytes never bites, however long its path is.
    std::env::set_current_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(LOCK)
        .map_err(|e| in_dir(dir, LOCK, &e))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| in_dir(dir, LOCK, &e.into()))?;
    if Path::new(RECORD).exists() {
        return Err(format!("{} has been used before", dir.display()));
    }
    let spec = read_spec().map_err(|e| format!("the spec on standard input: {e}"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| format!("cannot become the reaper of descendants: {e}"))?;
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET).map_err(|e| in_dir(dir, SOCKET, &e))?;
    Ok((lock, listener, spec))
}

fn in_dir(dir: &Path, name: &str, error: &io::Error) -> String {
    format!("{}: {error}", dir.join(name).display())
}

fn read_spec() -> io::Result<Spec> {
    let mut text = Vec::new();
    io::stdin().take(MAX_SPEC_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn greet(handshake: &Handshake) -> io::Result<()> {
    let mut line = serde_json::to_vec(handshake)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Lets go of the starter's pipes, so that nobody waits for their end.
fn detach() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
