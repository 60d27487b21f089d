//! What the headers say about who came before: `X-Forwarded-For`, `-Host`, `-Proto` and `Forwarded` (RFC 7239).
//!
//! Anybody can send such headers, so they are believed only as far as there are trusted proxies in front of the gateway. With
//! none, which is the default, the gateway is the edge: what a client says of itself is taken away. With n, the last n addresses
//! of `X-Forwarded-For` are kept, each written by one of those proxies, and so are the host and the scheme that they name.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What is known of one connection of a client.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    /// The client's address as `X-Forwarded-For` has it.
    pub(crate) address: HeaderValue,
    pub(crate) is_tls: bool,
    /// The port of the gateway to which it came.
    pub(crate) listener: u16,
    /// The proxies in front of the gateway that are believed.
    pub(crate) trusted: usize,
    /// Whether `Forwarded` is written too.
    pub(crate) writes_forwarded: bool,
}

impl Hop {
    /// The headers as the instance gets them.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let before = self.believed(headers);
        if self.trusted == 0 && headers.keys().any(is_about_clients) {
            for name in [
                FORWARDED_HOST,
                FORWARDED_PROTO,
                FORWARDED_PORT,
                REAL_IP,
                header::FORWARDED,
            ] {
                headers.remove(name);
            }
        }
        if self.writes_forwarded {
            self.write_forwarded(headers);
        }
        let all = if before.is_empty() {
            self.address.clone()
        } else {
            joined(&before, self.address.as_bytes())
        };
        headers.insert(FORWARDED_FOR, all);
        let proto = HeaderValue::from_static(self.scheme());
        headers.entry(FORWARDED_PROTO).or_insert(proto);
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Whether the client came over TLS, to us or to a proxy that is believed.
    pub(crate) fn is_secure(&self, headers: &HeaderMap) -> bool {
        let said = || {
            let proto = headers.get(FORWARDED_PROTO);
            proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
        };
        self.is_tls || (self.trusted > 0 && said())
    }

    /// The addresses before this hop, each of which a trusted proxy has written.
    fn believed(&self, headers: &HeaderMap) -> Vec<u8> {
        if self.trusted == 0 {
            return Vec::new();
        }
        let mut all: Vec<&[u8]> = Vec::new();
        for value in headers.get_all(FORWARDED_FOR) {
            all.extend(
                value
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .map(<[u8]>::trim_ascii),
            );
        }
        let skipped = all.len().saturating_sub(self.trusted);
        let kept: Vec<&[u8]> = all.into_iter().skip(skipped).collect();
        kept.join(&b", "[..])
    }

    fn write_forwarded(&self, headers: &mut HeaderMap) {
        let address = String::from_utf8_lossy(self.address.as_bytes());
        let node = if address.contains(':') {
            format!("\"[{address}]\"")
        } else {
            address.into_owned()
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host
            .map(|host| format!(";host=\"{host}\""))
            .unwrap_or_default();
        let own = format!("for={node}{host};proto={}", self.scheme());
        let values = headers.get_all(header::FORWARDED).iter();
        let before: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        let before = before.join(&b", "[..]);
        headers.insert(header::FORWARDED, joined(&before, own.as_bytes()));
    }
}

fn is_about_clients(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || matches!(name, "x-real-ip" | "forwarded")
}

/// One list of both; the second alone when they make no header together.
fn joined(before: &[u8], own: &[u8]) -> HeaderValue {
    let mut all = before.to_vec();
    if !all.is_empty() {
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(own);
    HeaderValue::from_bytes(&all)
        .or_else(|_| HeaderValue::from_bytes(own))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        trusted: usize,
        address: &'static str,
        sent: &[(&'static str, &'static str)],
    ) -> String {
        let hop = Hop {
            address: HeaderValue::from_static(address),
            is_tls: true,
            listener: 443,
            trusted,
            writes_forwarded: true,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        hop.apply(&mut headers);
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.concat()
    }

    const SENT: [(&str, &str); 6] = [
        ("host", "app.example.com"),
        ("x-forwarded-for", "6.6.6.6, 1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=2.2.2.2"),
    ];

    #[test]
    fn at_the_edge_nothing_that_a_client_says_of_itself_is_believed() {
        expect_test::expect![[r#"
            forwarded: for=10.0.0.9;host="app.example.com";proto=https
            host: app.example.com
            x-forwarded-for: 10.0.0.9
            x-forwarded-host: app.example.com
            x-forwarded-proto: https
        "#]]
        .assert_eq(&shown(0, "10.0.0.9", &SENT));
    }

    #[test]
    fn trusted_proxies_are_believed_as_far_as_there_are_any() {
        expect_test::expect![[r#"
            forwarded: for=2.2.2.2, for="[2001:db8::1]";host="app.example.com";proto=https
            host: app.example.com
            x-forwarded-for: 1.1.1.1, 2.2.2.2, 2001:db8::1
            x-forwarded-host: app.example.com
            x-forwarded-proto: http
            x-real-ip: 6.6.6.6
        "#]]
        .assert_eq(&shown(2, "2001:db8::1", &SENT));
    }
}
