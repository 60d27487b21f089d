//! The PROXY protocol, versions 1 and 2, as HAProxy specifies it: a load balancer in front of the gateway says in the first bytes
//! of a connection who the client is.
//!
//! Pure: bytes in, a finding out. Taken only on listeners that are told to, where it must be there: else any client could say
//! that it is another.

use std::net::{IpAddr, SocketAddr};

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The longest header of version 2 that is taken: addresses, and extensions, which are skipped.
const LONGEST_BINARY: usize = 16 + 4096;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// More bytes are needed to tell.
    More,
    /// A header of so many bytes. The client is `None` when the balancer speaks for itself, as in its health checks.
    Header {
        length: usize,
        client: Option<SocketAddr>,
    },
    /// No header, or a wrong one.
    Wrong,
}

/// Reads the header at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Found {
    let shown = bytes.len().min(SIGNATURE.len());
    if bytes.get(..shown) == SIGNATURE.get(..shown) {
        return binary(bytes);
    }
    let shown = bytes.len().min(6);
    if bytes.get(..shown) == b"PROXY ".get(..shown) {
        return text(bytes);
    }
    Found::Wrong
}

fn text(bytes: &[u8]) -> Found {
    let window = bytes.get(..LONGEST_LINE.min(bytes.len()));
    let window = window.unwrap_or_default();
    let Some(end) = window.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() {
            0..LONGEST_LINE => Found::More,
            _ => Found::Wrong,
        };
    };
    let line = window.get(..end).unwrap_or_default();
    let Some(client) = std::str::from_utf8(line).ok().and_then(client_of_line) else {
        return Found::Wrong;
    };
    Found::Header {
        length: end + 2,
        client,
    }
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT`; the outer `None` is a wrong line.
fn client_of_line(line: &str) -> Option<Option<SocketAddr>> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, source, destination, port, to_port] => {
            let source: IpAddr = source.parse().ok()?;
            let destination: IpAddr = destination.parse().ok()?;
            let _: u16 = to_port.parse().ok()?;
            let is_v4 = match *family {
                "TCP4" => true,
                "TCP6" => false,
                _ => return None,
            };
            if source.is_ipv4() != is_v4 || destination.is_ipv4() != is_v4 {
                return None;
            }
            Some(Some(SocketAddr::new(source, port.parse().ok()?)))
        }
        _ => None,
    }
}

fn binary(bytes: &[u8]) -> Found {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else {
        return Found::More;
    };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || length > LONGEST_BINARY {
        return Found::Wrong;
    }
    let Some(rest) = bytes.get(16..length) else {
        return Found::More;
    };
    let client = match command & 0x0f {
        0 => None,
        1 => match source(family, rest) {
            Some(client) => Some(client),
            // TCP of a family with too few bytes is a fault; other families say nothing that is of use here.
            None if matches!(family, 0x11 | 0x21) => return Found::Wrong,
            None => None,
        },
        _ => return Found::Wrong,
    };
    Found::Header { length, client }
}

fn source(family: u8, rest: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| -> Option<u16> {
        let bytes = rest.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    match family {
        0x11 => {
            let address: [u8; 4] = rest.get(..4)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::from(address), port(8)?))
        }
        0x21 => {
            let address: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::from(address), port(32)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn client(address: &str, length: usize) -> Found {
        Found::Header {
            length,
            client: Some(address.parse().unwrap()),
        }
    }

    #[test]
    fn lines_of_version_1_are_read() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /",
                client("192.0.2.1:56324", 45),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
                client("[2001:db8::1]:1", 32),
            ),
            (
                "PROXY UNKNOWN\r\n",
                Found::Header {
                    length: 15,
                    client: None,
                },
            ),
            ("", Found::More),
            ("PRO", Found::More),
            ("PROXY TCP4 192.0.2.1", Found::More),
            ("GET / HTTP/1.1\r\n", Found::Wrong),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", Found::Wrong),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 99999 2\r\n", Found::Wrong),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Found::Wrong),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(
            parse(format!("PROXY {}", "x".repeat(200)).as_bytes()),
            Found::Wrong
        );
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 187];
        let whole = of_v2(0x21, 0x11, &v4);
        assert_eq!(parse(&whole), client("192.0.2.1:56324", 28));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Found::More, "{cut} bytes");
        }
        let mut with_extension = v4.to_vec();
        with_extension.extend([4, 0, 1, 0]);
        assert_eq!(
            parse(&of_v2(0x21, 0x11, &with_extension)),
            client("192.0.2.1:56324", 32)
        );
        let local = Found::Header {
            length: 16,
            client: None,
        };
        assert_eq!(parse(&of_v2(0x20, 0, &[])), local);
        assert_eq!(parse(&of_v2(0x21, 0x11, &v4[..6])), Found::Wrong);
        assert_eq!(parse(&of_v2(0x31, 0x11, &v4)), Found::Wrong);
        assert_eq!(parse(&of_v2(0x21, 0x11, &[0; 5000])), Found::Wrong);
    }
}
