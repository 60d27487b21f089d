//! What a listener asks of every request: that it names this server as its host, and who it is from.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header;

use crate::access::{Credentials, authenticate};
use crate::server::ApiServer;
use crate::status::Refusal;

pub(crate) fn guard(
    routes: Router,
    server: &ApiServer,
    admin_token: &str,
    hosts: &[String],
) -> Router {
    let hosts: Arc<[String]> = hosts.into();
    let credentials = Credentials {
        server: server.clone(),
        admin_token: admin_token.into(),
    };
    routes
        .layer(middleware::from_fn_with_state(credentials, authenticate))
        .layer(middleware::from_fn_with_state(hosts, check))
}

/// A page in a browser that reaches us through a name of its own choosing is told so before its token is looked at.
async fn check(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = host(&request).unwrap_or_default().to_owned();
    let name = name_of(&host);
    if is_loopback(name) || hosts.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        next.run(request).await
    } else {
        Refusal::foreign_host(&host).into_response()
    }
}

fn host(request: &Request) -> Option<&str> {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|h| h.to_str().ok());
    header.or_else(|| request.uri().host())
}

/// The name or the address in a `Host`, without the port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    let address = name.parse::<IpAddr>().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback())
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
            assert!(is_loopback(name_of(host)), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(name_of(host)), "{host}");
        }
    }
}
