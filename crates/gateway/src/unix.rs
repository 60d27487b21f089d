//! Unix sockets at paths of any length, and files that are whole or not there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Where the address of a unix socket ends, less the final zero.
const LONGEST: usize = 107;

/// Makes a directory for this user alone, with its parents.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Binds a socket for this user alone, in the place of one that is left over.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(path, |short| UnixListener::bind(short))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to a socket. Its listener has so long to take the connection, and then the other side for each read and each write.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] when more wait to be taken than the system lets wait, and none of them is.
pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for way in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, way, Some(patience))?;
    }
    let connected = with_short_path(path, |short| {
        Ok(net::connect(&socket, &SocketAddrUnix::new(short)?)?)
    });
    match connected {
        Ok(()) => Ok(UnixStream::from(socket)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::TimedOut.into())
        }
        Err(error) => Err(error),
    }
}

/// A path that is too long for a socket's address is reached through a descriptor of its directory.
fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return act(path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return act(path);
    };
    let directory = File::open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    act(&short)
}

/// Writes a file that is either the old one or the whole new one, also after a crash. Readable by this user alone.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    private_dir(parent)?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(10);

    #[test]
    fn a_socket_may_lie_deep() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a-long-name-of-a-directory/".repeat(8));
        private_dir(&deep).unwrap();
        let path = deep.join("gateway.sock");
        let _first = bind(&path).unwrap();
        let _second = bind(&path).unwrap();
        assert!(connect(&path, PATIENCE).is_ok());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A process that was stopped, or has enough to do, takes no connections; the system takes as many as its backlog for it.
    #[test]
    fn one_that_takes_no_connections_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gateway.sock");
        let busy = bind(&path).unwrap();
        net::listen(&busy, 0).unwrap();
        let _in_the_backlog = connect(&path, PATIENCE).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(connect(&path, PATIENCE).map_err(|e| e.kind())));
        let answer = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(answer.unwrap().unwrap_err(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sub/routes.json");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::read_dir(home.path().join("sub")).unwrap().count(),
            1
        );
    }
}
