//! The sockets of the process, as listeners of Gateways see them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use crate::ports::Scheme;

/// Where the process listens, and which ports of Gateways mean which of its own.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Where HTTP is spoken.
    pub http: Vec<SocketAddr>,
    /// Where HTTPS is spoken.
    pub https: Vec<SocketAddr>,
    /// The port of the process for a port that Gateways name.
    pub mapped: BTreeMap<u16, u16>,
}

impl Sockets {
    /// The port of the process for one that a Gateway names: the one that it is mapped to, else itself, else for the usual port of
    /// the scheme (80, 443), which few processes may bind, the first that there is. `None`: it is not served.
    pub(crate) fn socket(&self, scheme: Scheme, wanted: u16) -> Option<u16> {
        let (own, usual) = match scheme {
            Scheme::Http => (&self.http, 80),
            Scheme::Https => (&self.https, 443),
        };
        let has = |port: u16| own.iter().any(|address| address.port() == port);
        if let Some(port) = self.mapped.get(&wanted) {
            return has(*port).then_some(*port);
        }
        if has(wanted) {
            return Some(wanted);
        }
        own.first()
            .map(SocketAddr::port)
            .filter(|_| wanted == usual)
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = self.http.iter().map(|address| format!("{address} (HTTP)"));
        let https = self
            .https
            .iter()
            .map(|address| format!("{address} (HTTPS)"));
        let all: Vec<_> = http.chain(https).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_mapped_one_then_itself_then_the_usual_one() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let sockets = Sockets {
            http: vec![at(8080), at(8081)],
            https: vec![at(8443)],
            mapped: [(8000, 8081), (443, 9443)].into(),
        };
        for (scheme, wanted, port) in [
            (Scheme::Http, 80, Some(8080)),
            (Scheme::Http, 8081, Some(8081)),
            (Scheme::Http, 8000, Some(8081)),
            (Scheme::Http, 8443, None),
            (Scheme::Https, 8443, Some(8443)),
            (Scheme::Https, 443, None),
            (Scheme::Https, 80, None),
        ] {
            assert_eq!(sockets.socket(scheme, wanted), port, "{scheme:?} {wanted}");
        }
        assert_eq!(Sockets::default().socket(Scheme::Http, 80), None);
    }
}
