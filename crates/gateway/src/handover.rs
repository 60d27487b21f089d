//! A gateway hands its listening sockets to who keeps it: over `run/gateway.handover`, a unix socket for this user alone.
//!
//! So a keeper that starts while a gateway lives, because the keeper before it was killed, takes the same sockets up, and users
//! never find the door shut.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ports::{Listener, Scheme, accepted};
use crate::{info, unix};

/// Sockets that are handed over at once.
const MOST: usize = 64;
/// Their names, at most so long.
const NAMES_BYTES: usize = MOST * 8;
/// How long a gateway may take to hand its sockets over.
const PATIENCE: Duration = Duration::from_secs(2);

fn path(home: &Path) -> PathBuf {
    home.join("run").join("gateway.handover")
}

/// Hands clones of the sockets to whoever of this user asks, until the task is dropped.
pub(crate) async fn offer(home: PathBuf, listeners: Vec<Listener>) -> io::Result<()> {
    let listener = unix::bind(&path(&home))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        if let Some((stream, _)) = accepted(listener.accept().await).await
            && let Err(error) = hand_over(stream.as_fd(), &listeners)
        {
            tracing::warn!(%error, "the sockets cannot be handed over");
        }
    }
}

/// All goes at once into the buffer of a new connection, so nobody is waited for.
fn hand_over(to: BorrowedFd<'_>, listeners: &[Listener]) -> io::Result<()> {
    let names: Vec<&str> = listeners.iter().map(|l| l.scheme.word()).collect();
    let names = names.join(":");
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|l| l.socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other(format!(
            "there are more than {MOST} sockets"
        )));
    }
    sendmsg(
        to,
        &[IoSlice::new(names.as_bytes())],
        &mut control,
        SendFlags::DONTWAIT,
    )?;
    Ok(())
}

/// The sockets of the gateway that lives in `home`, and its process.
///
/// # Errors
/// When none lives there, or what it hands over is not whole.
pub(crate) fn take(home: &Path) -> io::Result<(Vec<Listener>, Pid)> {
    let stream = unix::connect(&path(home), PATIENCE)?;
    let pid = sockopt::socket_peercred(&stream)?.pid;
    let mut names = [0_u8; NAMES_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut names)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let names = names.get(..received.bytes).unwrap_or_default();
    let names = std::str::from_utf8(names).map_err(io::Error::other)?;
    let sockets: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    let schemes: Vec<Scheme> = names.split(':').filter_map(Scheme::named).collect();
    if sockets.is_empty() || sockets.len() != schemes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let listeners = schemes
        .into_iter()
        .zip(sockets)
        .map(|(scheme, socket)| Listener {
            scheme,
            socket: TcpListener::from(socket),
        });
    Ok((listeners.collect(), pid))
}

/// The process that answers on the admin socket of `home`; `None` when none does.
pub(crate) fn serving_pid(home: &Path) -> Option<Pid> {
    let stream = unix::connect(&info::admin_socket(home), PATIENCE).ok()?;
    Some(sockopt::socket_peercred(&stream).ok()?.pid)
}

/// Another gateway of this home, which finishes its requests while this one serves already.
#[derive(Debug)]
pub(crate) struct Predecessor(OwnedFd);

impl Predecessor {
    /// The one that serves now, if another process than this one does.
    pub(crate) fn of(home: &Path) -> Option<Self> {
        let pid = serving_pid(home)?;
        let is_self = pid.as_raw_nonzero().get().unsigned_abs() == std::process::id();
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (!is_self).then_some(Self(process))
    }

    /// Whether it has ended. The process is held by a descriptor, so a later one with the same number is never taken for it.
    pub(crate) fn is_gone(&self) -> bool {
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        !matches!(poll(&mut ended, Some(&now)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::waiting::soon;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_takes_the_sockets_gets_those_that_listen() {
        let home = tempfile::tempdir().unwrap();
        unix::private_dir(&home.path().join("run")).unwrap();
        assert!(take(home.path()).is_err());
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = crate::ports::bind_all(&[any], &[any, any]).unwrap();
        let address = |l: &Listener| (l.scheme, l.socket.local_addr().unwrap());
        let before: Vec<_> = listeners.iter().map(address).collect();
        let offering = tokio::spawn(offer(home.path().to_owned(), listeners));
        let of = home.path().to_owned();
        let taken = tokio::task::spawn_blocking(move || {
            loop {
                if let Ok(taken) = take(&of) {
                    return taken;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (taken, pid) = soon("the sockets", taken).await.unwrap();
        assert_eq!(taken.iter().map(address).collect::<Vec<_>>(), before);
        assert_eq!(
            pid.as_raw_nonzero().get().unsigned_abs(),
            std::process::id()
        );
        offering.abort();
        assert!(offering.await.unwrap_err().is_cancelled());
        // They listen on, although nobody else has them any more.
        assert!(std::net::TcpStream::connect(before[0].1).is_ok());
    }

    #[test]
    fn one_that_takes_nothing_is_not_waited_for() {
        let (mut full, _silent) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 1024]).is_ok() {}
        full.set_nonblocking(false).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = crate::ports::bind_all(&[any], &[]).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(hand_over(full.as_fd(), &listeners).is_err()));
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
    }

    #[test]
    fn one_that_hands_nothing_over_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        unix::private_dir(&home.path().join("run")).unwrap();
        let _silent = unix::bind(&path(home.path())).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let of = home.path().to_owned();
        std::thread::spawn(move || tell.send(take(&of).is_err()));
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
    }
}
