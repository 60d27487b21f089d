//! Whether a container can have the ports it declares, and who holds one that it cannot have.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use k8s_openapi::api::core::v1::Container;

/// The most bytes of `/proc/net/tcp` that are read.
const MAX_TABLE_BYTES: usize = 64 << 20;

/// Tries every TCP port that a container declares at its address.
///
/// # Errors
/// A sentence that names the port and, when the system tells, the process that holds it. The holder is left alone.
pub(crate) fn check(container: &Container, address: IpAddr) -> Result<(), String> {
    for port in container.ports.iter().flatten() {
        if port.protocol.as_deref().is_some_and(|p| p != "TCP") {
            continue;
        }
        let number = u16::try_from(port.container_port)
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| format!("containerPort {} is no port number", port.container_port))?;
        try_port(SocketAddr::new(address, number))?;
    }
    Ok(())
}

fn try_port(address: SocketAddr) -> Result<(), String> {
    let port = address.port();
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder(address).map_or_else(
                || "another process".to_owned(),
                |(pid, name)| format!("process {pid} ({name})"),
            );
            Err(format!(
                "containerPort {port} is in use: {holder} listens on port {port} of {ip} or of all addresses; stop it, have it listen on its own address ($POD_IP), or choose another containerPort",
                ip = address.ip()
            ))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
            "containerPort {port} is below {first} and may be opened by root only; choose a containerPort from {first}, or run: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
            first = first_unprivileged_port()
        )),
        Err(error) => Err(format!(
            "containerPort {port} cannot be opened at {}: {error}",
            address.ip()
        )),
    }
}

fn first_unprivileged_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// The process that listens where `address` would, with its name.
fn holder(address: SocketAddr) -> Option<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables.iter().find_map(|table| {
        let mut text = fs::read_to_string(table).ok()?;
        text.truncate(MAX_TABLE_BYTES);
        listener(&text, address)
    })?;
    process_with_socket(inode)
}

/// The inode of the listening socket in a table of `/proc/net` that stands in the way of `address`.
fn listener(table: &str, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let listens = *state == "0A" && u16::from_str_radix(port, 16).ok()? == address.port();
        if listens && in_the_way(ip, address.ip()) {
            inode.parse().ok()
        } else {
            None
        }
    })
}

/// Addresses are written as 32-bit words in the byte order of the machine.
fn in_the_way(hex: &str, ip: IpAddr) -> bool {
    if hex.bytes().all(|b| b == b'0') {
        return true;
    }
    let Some(word) = hex.get(hex.len().saturating_sub(8)..) else {
        return false;
    };
    let Ok(word) = u32::from_str_radix(word, 16) else {
        return false;
    };
    // A mapped IPv4 address ends in the same word as a plain one.
    ip == IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes()))
}

fn process_with_socket(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
            .then(|| {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                (pid, name.trim().to_owned())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(port: u16) -> Container {
        serde_json::from_str(&format!(
            r#"{{"name":"c","ports":[{{"containerPort":{port}}},{{"containerPort":1,"protocol":"UDP"}}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_held_port_names_its_holder() {
        let held = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let address = IpAddr::V4(Ipv4Addr::new(127, 64, 3, 3));
        let error = check(&container(port), address).unwrap_err();
        let me = format!("process {} (", std::process::id());
        assert!(
            error.starts_with(&format!("containerPort {port} is in use: {me}")),
            "{error}"
        );
        drop(held);
        assert_eq!(check(&container(port), address), Ok(()));
    }

    #[test]
    fn a_listener_elsewhere_is_not_in_the_way() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let address = IpAddr::V4(Ipv4Addr::new(127, 64, 3, 4));
        assert_eq!(check(&container(port), address), Ok(()));
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4711 1\n\
             1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0  0 42 1\n\
             2: 0100007F:2000 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0  0 43 1\n";
        let at = |text: &str| listener(table, text.parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(at("127.0.0.1:8080"), Some(4711));
        }
        assert_eq!(at("127.64.0.1:8080"), None);
        assert_eq!(at("127.64.0.1:80"), Some(42));
        assert_eq!(at("127.0.0.1:8192"), None, "connected, not listening");
    }
}
