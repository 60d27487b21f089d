//! Who may speak to a listener: whoever has the token, and only under the name of this machine's loopback.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use crate::status::Refusal;

const SCHEME: &[u8] = b"Bearer ";
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
    let Some((scheme, given)) = value.split_at_checked(SCHEME.len()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty() && same(given, token.as_bytes())
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
        assert!(!is_admin(&HeaderMap::new(), "secret"));
        assert!(!is_admin(
            &HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer ".parse().unwrap())]),
            ""
        ));
    }
}
