//! Where metrics may be asked for: addresses are checked after names are resolved, at every connection and every redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the templates of others may reach through us.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// The only hosts that are asked, as `HOST` or `HOST:PORT`, `*.DOMAIN` for all below a domain. Empty: any host.
    pub hosts: Vec<String>,
    /// Whether `web` metrics may reach loopback and private addresses of hosts that are not listed. `prometheus` metrics
    /// always may: that is where a Prometheus is.
    pub private: bool,
}

/// Whether a provider may by itself reach private addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Loopback and private networks too.
    Private,
    /// Public addresses only, unless the host is listed.
    Public,
}

impl Egress {
    /// Refuses a host that is not listed, when there is a list.
    pub(super) fn host(&self, host: &str, port: u16) -> Result<(), String> {
        if self.hosts.is_empty() || self.is_listed(host, port) {
            return Ok(());
        }
        Err(format!(
            "{host}:{port} is not among the hosts that metrics may be asked for"
        ))
    }

    /// Refuses an address that the name of a host stands for.
    pub(super) fn address(
        &self,
        host: &str,
        port: u16,
        address: IpAddr,
        reach: Reach,
    ) -> Result<(), String> {
        let private = reach == Reach::Private || self.private || self.is_listed(host, port);
        match scope(address) {
            Scope::Never => Err(format!("{host} is {address}, which is never asked")),
            Scope::Private if !private => Err(format!(
                "{host} is {address}, a private address: list the host (--metrics-host) to have it asked"
            )),
            Scope::Private | Scope::Public => Ok(()),
        }
    }

    fn is_listed(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|entry| {
            let with_port = format!("{host}:{port}");
            match entry.strip_prefix("*.") {
                Some(domain) => host
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                None => entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port),
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Public,
    Private,
    /// Link-local addresses, where clouds hand out credentials, and what is no address of a host.
    Never,
}

fn scope(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => scope_v4(v4),
            None => scope_v6(v6),
        },
    }
}

fn scope_v4(v4: Ipv4Addr) -> Scope {
    let [a, b, ..] = v4.octets();
    // The metadata services of two clouds are in shared address space.
    let metadata = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
    ];
    if a == 0 || v4.is_link_local() || v4.is_multicast() || a >= 240 || metadata.contains(&v4) {
        return Scope::Never;
    }
    let shared = a == 100 && (64..128).contains(&b);
    if v4.is_loopback() || v4.is_private() || shared {
        Scope::Private
    } else {
        Scope::Public
    }
}

fn scope_v6(v6: Ipv6Addr) -> Scope {
    let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let [first, ..] = v6.segments();
    if v6.is_unspecified() || v6.is_multicast() || first & 0xffc0 == 0xfe80 || v6 == metadata {
        Scope::Never
    } else if v6.is_loopback() || first & 0xfe00 == 0xfc00 {
        Scope::Private
    } else {
        Scope::Public
    }
}

/// The address of the older kind inside one of the newer: mapped, or translated (RFC 6052).
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let translated = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [h1, h2] = high.to_be_bytes();
    let [l1, l2] = low.to_be_bytes();
    v6.to_ipv4_mapped()
        .or(translated.then(|| Ipv4Addr::new(h1, h2, l1, l2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_clouds_and_links_are_never_asked() {
        let table = [
            ("8.8.8.8", Scope::Public),
            ("2606:4700::1111", Scope::Public),
            ("127.0.0.1", Scope::Private),
            ("10.1.2.3", Scope::Private),
            ("172.20.0.1", Scope::Private),
            ("192.168.1.1", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("::1", Scope::Private),
            ("fd12::1", Scope::Private),
            ("::ffff:10.0.0.1", Scope::Private),
            ("169.254.169.254", Scope::Never),
            ("::ffff:169.254.169.254", Scope::Never),
            ("64:ff9b::a9fe:a9fe", Scope::Never),
            ("100.100.100.200", Scope::Never),
            ("fd00:ec2::254", Scope::Never),
            ("fe80::1", Scope::Never),
            ("0.0.0.0", Scope::Never),
            ("::", Scope::Never),
            ("224.0.0.1", Scope::Never),
            ("255.255.255.255", Scope::Never),
        ];
        for (address, expected) in table {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn hosts_and_private_addresses_as_configured() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let open = Egress::default();
        assert!(open.host("anything", 80).is_ok());
        assert!(open.address("a", 80, local, Reach::Public).is_err());
        assert!(open.address("a", 80, local, Reach::Private).is_ok());
        let listed = Egress {
            hosts: vec!["localhost:9090".into(), "*.example.com".into()],
            private: false,
        };
        assert!(listed.host("localhost", 9090).is_ok() && listed.host("localhost", 80).is_err());
        assert!(listed.host("a.example.com", 1).is_ok() && listed.host("example.com", 1).is_err());
        assert!(listed.host("badexample.com", 1).is_err());
        assert!(
            listed
                .address("localhost", 9090, local, Reach::Public)
                .is_ok()
        );
        let link: IpAddr = "169.254.169.254".parse().unwrap();
        assert!(
            listed
                .address("localhost", 9090, link, Reach::Private)
                .is_err()
        );
    }
}
