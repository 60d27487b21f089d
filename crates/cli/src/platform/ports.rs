//! Who has a TCP port of this machine, so that a person can be told by name. It is never more than told.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pid: u32,
    program: String,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// The process that listens at an address, or at one that takes it in; `None` when it is not to be seen, as those of other
/// users are not.
pub(crate) fn holder(address: SocketAddr) -> Option<PortHolder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let socket = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| socket_of(&table, address))?;
    let link = format!("socket:[{socket}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let descriptors = fs::read_dir(process.path().join("fd")).ok()?;
        let mut links = descriptors
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        links
            .any(|target| target.to_str() == Some(&link))
            .then(|| PortHolder {
                pid,
                program: program(pid),
            })
    })
}

fn program(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "a program".to_owned(), |name| name.trim().to_owned())
}

/// The inode of the listening socket at an address, from the kernel's table.
fn socket_of(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let local = words.get(1).and_then(|word| address(word))?;
        let listens = words.get(3) == Some(&LISTEN);
        let collides = local.port() == wanted.port()
            && (local.ip() == wanted.ip()
                || local.ip().is_unspecified()
                || wanted.ip().is_unspecified());
        (listens && collides).then(|| words.get(9)?.parse().ok())?
    })
}

/// `0100007F:1F90` is `127.0.0.1:8080`: each 32 bit group is in the byte order of the machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for start in (0..ip.len()).step_by(8) {
        let group = u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?;
        bytes.extend(group.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
        }
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n   \
            1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0\n";
        let at = |text: &str| socket_of(table, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), Some(2));
        assert_eq!(at("127.0.0.1:8081"), None);
        assert_eq!(
            address("00000000000000000000000001000000:0050"),
            Some("[::1]:80".parse().unwrap())
        );
    }

    #[test]
    fn this_very_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }
}
