//! Binds listening sockets, and says who holds an address that is taken.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that may wait to be accepted, while the gateway restarts too.
const BACKLOG: i32 = 4096;

/// The pause before another accept, after one that failed or where nobody may be taken.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What an accept has given. After one that failed, mostly for want of descriptors, `None` and a pause: who comes waits in the socket,
/// and another attempt would fail at once.
pub(crate) async fn accepted<S>(accept: io::Result<S>) -> Option<S> {
    match accept {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::debug!(%error, "a connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("address {address} is in use by {holder}; stop it or listen elsewhere")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The process, or that it belongs to another user.
        holder: Holder,
    },
    /// Any other reason.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid; `None` when it belongs to another user.
    pub pid: Option<u32>,
    /// The name of its program; empty when unknown.
    pub program: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", self.program),
            None => f.write_str("a process of another user"),
        }
    }
}

/// What the clients of a socket speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The name of the descriptor when a socket is handed over.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The one with that name.
    pub(crate) fn named(word: &str) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.word() == word)
    }
}

/// Where a client came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) scheme: Scheme,
    /// The port of the socket.
    pub(crate) port: u16,
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) scheme: Scheme,
    pub(crate) socket: TcpListener,
}

impl Listener {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            scheme: self.scheme,
            socket: self.socket.try_clone()?,
        })
    }
}

/// Binds every address, or none.
pub(crate) fn bind_all(
    http: &[SocketAddr],
    https: &[SocketAddr],
) -> Result<Vec<Listener>, BindError> {
    let http = http.iter().map(|address| (Scheme::Http, address));
    let https = https.iter().map(|address| (Scheme::Https, address));
    let bound = http.chain(https).map(|(scheme, address)| {
        let socket = bind(*address)?;
        Ok(Listener { scheme, socket })
    });
    bound.collect()
}

/// The addresses of the listeners of one scheme.
pub(crate) fn addresses(listeners: &[Listener], scheme: Scheme) -> io::Result<Vec<SocketAddr>> {
    let own = listeners
        .iter()
        .filter(|listener| listener.scheme == scheme);
    own.map(|listener| listener.socket.local_addr()).collect()
}

fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let other = |source| BindError::Other { address, source };
    match TcpListener::bind(address) {
        Ok(listener) => {
            rustix::net::listen(&listener, BACKLOG).map_err(|errno| other(errno.into()))?;
            Ok(listener)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::InUse {
            address,
            holder: holder(address),
        }),
        Err(source) => Err(other(source)),
    }
}

/// Who listens on the port of `address`.
fn holder(address: SocketAddr) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let inodes: Vec<String> = tables
        .flat_map(|table| listening_inodes(&table, address.port()))
        .collect();
    let links: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| has_descriptor(*pid, &links));
    let comm = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Holder {
        pid,
        program: comm.unwrap_or_default().trim().to_owned(),
    }
}

fn has_descriptor(pid: u32, links: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut targets = descriptors.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

/// The inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_sockets_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41234 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 41235 1 0 20 4 30 10 -1\n";
        assert_eq!(listening_inodes(table, 8080), ["41234"]);
        assert!(listening_inodes(table, 80).is_empty());
    }

    #[test]
    fn a_taken_address_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let BindError::InUse { holder, .. } = bind(address).unwrap_err() else {
            panic!("the address is in use");
        };
        assert_eq!(holder.pid, Some(std::process::id()));
        assert!(!holder.program.is_empty());
    }
}
