//! What load to make, checked before the first request.

use std::time::Duration;

use http::{HeaderValue, Method, Uri};
use thiserror::Error;

/// The highest rate, in requests per second; beyond it the generator and not the other side would be measured.
const MAX_RATE: f64 = 20_000.0;
/// The most connections.
const MAX_CONNECTIONS: usize = 10_000;
/// The longest that a request may take; the histogram of latencies ends above it.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// Which requests to send, how often and over how many connections.
#[derive(Clone, Debug)]
pub(crate) struct LoadSpec {
    /// Where to connect to, `HOST:PORT`; the host is a name or an address.
    pub(crate) authority: String,
    /// The `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// The method; requests have no body.
    pub(crate) method: Method,
    /// Requests per second, above 0 and at most 20 000.
    pub(crate) rate_per_second: f64,
    /// How many requests can be in flight at a time, 1 to 10 000.
    pub(crate) connections: usize,
    /// Whether a connection carries more than one request.
    pub(crate) keep_alive: bool,
    /// How long after its scheduled time a request counts as lost, at most 120 s.
    pub(crate) timeout: Duration,
    /// Whether every answer of the application carries `x-demo-version`; one without then comes from something in between.
    pub(crate) expect_version: bool,
}

/// Why a load cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
pub(crate) enum SpecProblem {
    #[error("'{url}' is not an address of the form http://HOST[:PORT][/PATH]")]
    Url { url: String },
    #[error("'{host}' cannot be a Host header; give a name, such as shop.example.com")]
    Host { host: String },
    #[error("the rate is {rate}, but must be above 0 and at most {MAX_RATE} requests per second")]
    Rate { rate: f64 },
    #[error("the connections are {connections}, but must be from 1 to {MAX_CONNECTIONS}")]
    Connections { connections: usize },
    #[error("the timeout is {} ms, but must be from 1 to {} ms", timeout.as_millis(), MAX_TIMEOUT.as_millis())]
    Timeout { timeout: Duration },
}

impl LoadSpec {
    /// 50 `GET`s per second of the URL over 16 kept connections, with 10 s for each, to any application.
    pub(crate) fn new(url: &str) -> Result<Self, SpecProblem> {
        let problem = || SpecProblem::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| problem())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(problem());
        };
        let port = authority.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            host: authority.as_str().to_owned(),
            path: path.to_owned(),
            method: Method::GET,
            rate_per_second: 50.0,
            connections: 16,
            keep_alive: true,
            timeout: Duration::from_secs(10),
            expect_version: false,
        })
    }

    /// Checks what was changed since [`LoadSpec::new`]; tells the first problem.
    pub(crate) fn check(&self) -> Result<(), SpecProblem> {
        let path: Result<Uri, _> = self.path.parse();
        if !self.path.starts_with('/') || path.is_err() {
            return Err(SpecProblem::Url {
                url: format!("http://{}{}", self.authority, self.path),
            });
        }
        if self.host.is_empty() || HeaderValue::from_str(&self.host).is_err() {
            return Err(SpecProblem::Host {
                host: self.host.clone(),
            });
        }
        let rate = self.rate_per_second;
        if !(rate > 0.0 && rate <= MAX_RATE) {
            return Err(SpecProblem::Rate { rate });
        }
        let connections = self.connections;
        if !(1..=MAX_CONNECTIONS).contains(&connections) {
            return Err(SpecProblem::Connections { connections });
        }
        let timeout = self.timeout;
        if !(Duration::from_millis(1)..=MAX_TIMEOUT).contains(&timeout) {
            return Err(SpecProblem::Timeout { timeout });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, authority, host, path) in [
            (
                "http://127.0.0.1:8080",
                "127.0.0.1:8080",
                "127.0.0.1:8080",
                "/",
            ),
            (
                "http://shop.test/a?b=1",
                "shop.test:80",
                "shop.test",
                "/a?b=1",
            ),
            ("http://[::1]:81/", "[::1]:81", "[::1]:81", "/"),
        ] {
            let spec = LoadSpec::new(url).unwrap();
            assert_eq!(
                (
                    spec.authority.as_str(),
                    spec.host.as_str(),
                    spec.path.as_str()
                ),
                (authority, host, path)
            );
            assert_eq!(spec.check(), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_form_it_should_have() {
        for url in ["127.0.0.1:8080", "https://a.test", "http://", "/x", ""] {
            assert_eq!(
                LoadSpec::new(url).unwrap_err().to_string(),
                format!("'{url}' is not an address of the form http://HOST[:PORT][/PATH]")
            );
        }
    }

    #[test]
    fn numbers_out_of_range_are_told_with_their_range() {
        let spec = LoadSpec::new("http://a.test").unwrap();
        let problem = |change: fn(&mut LoadSpec)| {
            let mut changed = spec.clone();
            change(&mut changed);
            changed.check().unwrap_err().to_string()
        };
        let rate = |number| {
            format!(
                "the rate is {number}, but must be above 0 and at most 20000 requests per second"
            )
        };
        assert_eq!(problem(|s| s.rate_per_second = 0.0), rate("0"));
        assert_eq!(problem(|s| s.rate_per_second = f64::NAN), rate("NaN"));
        assert_eq!(
            problem(|s| s.connections = 0),
            "the connections are 0, but must be from 1 to 10000"
        );
        assert_eq!(
            problem(|s| s.timeout = Duration::ZERO),
            "the timeout is 0 ms, but must be from 1 to 120000 ms"
        );
        assert_eq!(
            problem(|s| s.host = "a\nb".to_owned()),
            "'a\nb' cannot be a Host header; give a name, such as shop.example.com"
        );
        assert_eq!(
            problem(|s| s.path = "x".to_owned()),
            "'http://a.test:80x' is not an address of the form http://HOST[:PORT][/PATH]"
        );
    }
}
