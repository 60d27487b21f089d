//! Who may speak to a listener: whoever has the token, and only under the name of this machine's loopback.
//!
//! The token comes as `Bearer`, or as the password of `Basic`: kubectl sends no bearer token where there is no TLS, and
//! does send what stands in the address of the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use crate::status::Refusal;

/// The name before the token, where a scheme wants one.
const USER: &str = "serin";
/// Open to all: they say nothing but that the server is there.
const OPEN: &[&str] = &["/healthz", "/livez", "/readyz"];

pub(crate) fn guard(router: Router, token: &str) -> Router {
    let token: Arc<str> = token.into();
    router.layer(middleware::from_fn_with_state(token, check))
}

async fn check(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    // A page in a browser that reaches us through a name of its own choosing is told so before its token is looked at.
    let host = host(&request).unwrap_or_default().to_owned();
    if !is_loopback(&host) {
        return Refusal::foreign_host(&host).into_response();
    }
    if OPEN.contains(&request.uri().path()) || is_admin(request.headers(), &token) {
        return next.run(request).await;
    }
    Refusal::unauthorized().into_response()
}

fn host(request: &Request) -> Option<&str> {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|h| h.to_str().ok());
    header.or_else(|| request.uri().host())
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<IpAddr>().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback())
}

fn is_admin(headers: &HeaderMap, token: &str) -> bool {
    let value = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], |v| v.as_bytes());
    let space = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
    let Some((scheme, given)) = value.split_at_checked(space) else {
        return false;
    };
    let wanted = if scheme.eq_ignore_ascii_case(b"basic") {
        base64(format!("{USER}:{token}").as_bytes())
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        token.to_owned()
    } else {
        return false;
    };
    !token.is_empty() && same(given.trim_ascii(), wanted.as_bytes())
}

/// A kubeconfig for a listener of [`guarded_router`](crate::ApiServer::guarded_router). It holds the token: keep the file
/// readable for its owner alone.
pub fn kubeconfig(address: SocketAddr, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: serin
clusters:
- name: serin
  cluster:
    # kubectl sends the token of the user over TLS only, so it stands in the address too.
    server: \"http://{USER}:{token}@{address}\"
users:
- name: serin
  user:
    token: \"{token}\"
contexts:
- name: serin
  context:
    cluster: serin
    user: serin
    namespace: default
"
    )
}

/// Standard base64, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| {
        ALPHABET
            .get(bits as usize & 63)
            .map_or('=', |c| char::from(*c))
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| {
            bits << 8 | chunk.get(i).map_or(0, |b| u32::from(*b))
        });
        let letters = [
            letter(bits >> 18),
            letter(bits >> 12),
            letter(bits >> 6),
            letter(bits),
        ];
        text.extend(letters.iter().take(chunk.len() + 1));
        text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
    }
    text
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0u8, |acc, (x, y)| std::hint::black_box(acc | (x ^ y)));
    a.len() == b.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in [
            "localhost",
            "LOCALHOST:6443",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn base64_of_all_lengths() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn tokens() {
        let ask = |value: &str| {
            is_admin(
                &HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]),
                "secret",
            )
        };
        assert!(ask("Bearer secret") && ask("bearer secret"));
        for wrong in ["secret", "Bearer secre", "Bearer secretx", "Bearer "] {
            assert!(!ask(wrong), "{wrong}");
        }
        assert!(ask("Basic c2VyaW46c2VjcmV0"));
        assert!(!ask("Basic c2VyaW46c2VjcmV1") && !ask("Basic secret"));
        assert!(!is_admin(&HeaderMap::new(), "secret"));
        assert!(!is_admin(
            &HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer ".parse().unwrap())]),
            ""
        ));
    }
}
