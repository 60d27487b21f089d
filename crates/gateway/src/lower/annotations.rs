//! The annotations under `serin.dev/` that say how a route or a Service is treated, where its kind has no field for it.
//!
//! A value is words of the form `KEY=VALUE`, of which the first may be a bare one: `100/s burst=20`, `cookie=user ttl=24h`.

use std::collections::BTreeMap;

use http::uri::{Authority, PathAndQuery};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rustls_pki_types::ServerName;
use serin_api::Problem;
use serin_api::keys::annotation;
use serin_api::problem::FieldPath;
use serin_api::units::{UNIT_DURATION_EXPECTED, parse_unit_duration};

use crate::table::{
    BackendTls, Breaker, Ejection, HashKey, HealthCheck, Identity, Limits, RateLimit, RulePolicy,
    ServicePolicy, Trust,
};

/// The least time from one health check to the next, in milliseconds.
const LEAST_INTERVAL_MS: u64 = 100;

/// Takes what the annotations of a route say into its policy.
pub(super) fn route(meta: &ObjectMeta, policy: &mut RulePolicy, refused: &mut Vec<Problem>) {
    if let Some(sticky) = read(meta, annotation::STICKY, sticky, refused) {
        policy.sticky = Some(sticky);
    }
    let limits = Limits {
        rate: read(meta, annotation::RATE_LIMIT, rate, refused),
        max_in_flight: read(meta, annotation::MAX_IN_FLIGHT, positive, refused),
        breaker: read(meta, annotation::CIRCUIT_BREAKER, breaker, refused),
    };
    if !limits.is_empty() {
        policy.limits = limits;
    }
}

/// What the annotations of a Service say.
pub(super) fn service(meta: &ObjectMeta, refused: &mut Vec<Problem>) -> ServicePolicy {
    ServicePolicy {
        affinity: read(meta, annotation::STICKY, sticky, refused),
        ejection: read(meta, annotation::EJECTION, ejection, refused),
        health: read(meta, annotation::HEALTH_CHECK, health_check, refused),
        max_in_flight: read(meta, annotation::MAX_IN_FLIGHT, positive, refused),
        ..ServicePolicy::default()
    }
}

/// How the annotation of a Service says that its instances are spoken to by TLS. One that is wrong asks for it too: nothing passes
/// openly because of a slip.
pub(super) fn backend_tls(
    meta: &ObjectMeta,
    server_name: &str,
    refused: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let parse = |text: &str| tls(text, server_name);
    let is_there = meta
        .annotations
        .as_ref()?
        .contains_key(annotation::BACKEND_TLS);
    let told = read(meta, annotation::BACKEND_TLS, parse, refused);
    told.or_else(|| is_there.then(|| BackendTls::named(server_name.to_owned())))
}

fn read<T>(
    meta: &ObjectMeta,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    refused: &mut Vec<Problem>,
) -> Option<T> {
    let text = meta.annotations.as_ref()?.get(key)?;
    match parse(text.trim()) {
        Ok(value) => Some(value),
        Err(why) => {
            let at = FieldPath::new("metadata.annotations").key(key);
            refused.push(Problem::invalid(at, format!("{text:?}"), &why));
            None
        }
    }
}

/// The words of a value by their keys; the bare first word has the empty key.
struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn parse(text: &'a str, known: &[&str]) -> Result<Self, String> {
        let mut words = BTreeMap::new();
        for (index, word) in text.split_whitespace().enumerate() {
            let (key, value) = match word.split_once('=') {
                Some(pair) => pair,
                None if index == 0 && known.contains(&"") => ("", word),
                None => (word, ""),
            };
            if !known.contains(&key) {
                let known: Vec<_> = known.iter().filter(|key| !key.is_empty()).collect();
                return Err(format!("{key:?} is not known here; known are {known:?}"));
            }
            words.insert(key, value);
        }
        Ok(Self(words))
    }

    fn number(&self, key: &str, default: u32) -> Result<u32, String> {
        match self.0.get(key) {
            None => Ok(default),
            Some(text) => positive(text).map_err(|why| format!("{key}: {why}")),
        }
    }

    fn millis(&self, key: &str, default: u64) -> Result<u64, String> {
        match self.0.get(key) {
            None => Ok(default),
            Some(text) => millis(text).map_err(|why| format!("{key}: {why}")),
        }
    }
}

fn positive(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "must be a number from 1".into())
}

fn millis(text: &str) -> Result<u64, String> {
    let millis = parse_unit_duration(text).and_then(|d| u64::try_from(d.as_millis()).ok());
    let millis = millis.filter(|ms| *ms > 0);
    millis.ok_or_else(|| UNIT_DURATION_EXPECTED.into())
}

/// `100/s`, `6000/m` or `10/10s`, with `burst=20`.
fn rate(text: &str) -> Result<RateLimit, String> {
    let words = Words::parse(text, &["", "burst"])?;
    let rate = words.0.get("").copied().unwrap_or_default();
    let parsed = || -> Option<(u32, u64)> {
        let (requests, period) = rate.split_once('/')?;
        let period = match period {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            other => millis(other).ok()?,
        };
        Some((positive(requests).ok()?, period))
    };
    let (requests, period_ms) =
        parsed().ok_or("must be REQUESTS/PERIOD such as \"100/s\" or \"6000/m burst=50\"")?;
    // A tenth of a second of the rate may come at once, so that a burst of few is no offence.
    let tenth = u64::from(requests) * 100 / period_ms.max(1);
    let burst = u32::try_from(tenth).unwrap_or(u32::MAX).max(1);
    Ok(RateLimit {
        requests,
        period_ms,
        burst: words.number("burst", burst)?,
    })
}

/// `failures=5 open=10s`.
fn breaker(text: &str) -> Result<Breaker, String> {
    let words = Words::parse(text, &["failures", "open"])?;
    Ok(Breaker {
        failures: words.number("failures", 5)?,
        open_ms: words.millis("open", 10_000)?,
    })
}

/// `failures=5 for=30s max=10`.
fn ejection(text: &str) -> Result<Ejection, String> {
    let words = Words::parse(text, &["failures", "for", "max"])?;
    Ok(Ejection {
        failures: words.number("failures", 5)?,
        gateway_errors_only: false,
        base_ms: words.millis("for", 30_000)?,
        max_percent: words.number("max", 10)?.min(100),
        min_healthy_percent: 0,
    })
}

/// `path=/healthz host=app.example.com port=8081 interval=5s timeout=1s failures=3 successes=2 panic=50`.
fn health_check(text: &str) -> Result<HealthCheck, String> {
    let known = [
        "path",
        "host",
        "port",
        "interval",
        "timeout",
        "failures",
        "successes",
        "panic",
    ];
    let words = Words::parse(text, &known)?;
    let given = |key| words.0.get(key).copied();
    let path = given("path").map(|path| {
        let is_path = path.starts_with('/') && path.parse::<PathAndQuery>().is_ok();
        let wrong = || "path: must be a path such as /healthz".to_owned();
        is_path.then(|| path.to_owned()).ok_or_else(wrong)
    });
    let host = given("host").map(|host| {
        let is_host = host.parse::<Authority>().is_ok();
        let wrong = || "host: must be a host name".to_owned();
        is_host.then(|| host.to_owned()).ok_or_else(wrong)
    });
    let port = given("port").map(|port| {
        let port = port.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| "port: must be 1 to 65535".to_owned())
    });
    let panic = given("panic").map_or(Ok(50), |percent| {
        let percent = percent.parse().ok().filter(|percent| *percent <= 100);
        percent.ok_or_else(|| "panic: must be 0 to 100".to_owned())
    });
    let interval_ms = words.millis("interval", 5_000)?;
    if interval_ms < LEAST_INTERVAL_MS {
        return Err(format!("interval: must be {LEAST_INTERVAL_MS}ms or more"));
    }
    Ok(HealthCheck {
        path: path.transpose()?,
        host: host.transpose()?,
        port: port.transpose()?,
        interval_ms,
        timeout_ms: words.millis("timeout", 1_000)?,
        failures: words.number("failures", 3)?,
        successes: words.number("successes", 2)?,
        panic_percent: panic?,
    })
}

/// `on name=app.example.com ca=tls/ca.pem cert=tls/own.pem key=tls/own.key`, or `on verify=off`.
fn tls(text: &str, server_name: &str) -> Result<BackendTls, String> {
    let words = Words::parse(text, &["", "name", "ca", "verify", "cert", "key"])?;
    let given = |key| words.0.get(key).copied();
    if given("") != Some("on") {
        return Err("must begin with \"on\"; without the annotation there is no TLS".into());
    }
    let trust = match (given("ca"), given("verify")) {
        (None, None | Some("on")) => Trust::System,
        (Some(path), None | Some("on")) if !path.is_empty() => Trust::File(path.into()),
        (None, Some("off")) => Trust::Anybody,
        (Some(_), Some("off")) => return Err("verify: is off, so nobody asks for ca".into()),
        (Some(_), None | Some("on")) => return Err("ca: must be a file".into()),
        (_, Some(_)) => return Err("verify: must be on or off".into()),
    };
    let identity = match (given("cert"), given("key")) {
        (None, None) => None,
        (Some(certificate), Some(key)) if !certificate.is_empty() && !key.is_empty() => {
            Some(Identity {
                certificate: certificate.into(),
                key: key.into(),
            })
        }
        _ => return Err("cert and key: must both be files".into()),
    };
    let server_name = given("name").unwrap_or(server_name);
    if ServerName::try_from(server_name).is_err() {
        return Err("name: must be a host name".into());
    }
    Ok(BackendTls {
        trust,
        identity,
        ..BackendTls::named(server_name.to_owned())
    })
}

/// `cookie=NAME ttl=24h path=/`, `header=NAME`, `query=NAME` or `source-ip`.
fn sticky(text: &str) -> Result<HashKey, String> {
    let known = ["cookie", "ttl", "path", "header", "query", "source-ip"];
    let words = Words::parse(text, &known)?;
    let name = |key| words.0.get(key).copied().filter(|name| !name.is_empty());
    let is_token = |name: &&str| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    let ttl = words.millis("ttl", 0)? / 1000;
    let chosen = ["cookie", "header", "query", "source-ip"];
    let chosen = chosen.iter().filter(|key| words.0.contains_key(**key));
    if chosen.count() != 1 {
        return Err("must be one of cookie=NAME, header=NAME, query=NAME and source-ip".into());
    }
    if let Some(name) = name("cookie").filter(is_token) {
        return Ok(HashKey::Cookie {
            name: name.to_owned(),
            path: words.0.get("path").map(|path| (*path).to_owned()),
            ttl_seconds: (ttl > 0).then_some(ttl),
            issue: true,
        });
    }
    if let Some(name) = name("header").filter(is_token) {
        return Ok(HashKey::Header(name.to_ascii_lowercase()));
    }
    if let Some(name) = name("query") {
        return Ok(HashKey::Query(name.to_owned()));
    }
    if words.0.contains_key("source-ip") {
        return Ok(HashKey::SourceIp);
    }
    Err("needs the name of a cookie, header or query parameter".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_wrong_ones_told() {
        let limit = |requests, period_ms, burst| RateLimit {
            requests,
            period_ms,
            burst,
        };
        assert_eq!(rate("100/s"), Ok(limit(100, 1000, 10)));
        assert_eq!(rate("6000/m burst=50"), Ok(limit(6000, 60_000, 50)));
        assert_eq!(rate("1/10s"), Ok(limit(1, 10_000, 1)));
        for wrong in ["", "100", "0/s", "1/x", "1/s burst=0", "1/s boost=2"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            breaker("").map(|b| (b.failures, b.open_ms)),
            Ok((5, 10_000))
        );
        assert_eq!(
            sticky("header=X-User"),
            Ok(HashKey::Header("x-user".into()))
        );
        assert_eq!(sticky("source-ip"), Ok(HashKey::SourceIp));
        for wrong in ["", "cookie", "cookie=a header=b", "cookie=a;b", "user"] {
            assert!(sticky(wrong).is_err(), "{wrong}");
        }
        let by_default = HealthCheck {
            path: None,
            host: None,
            port: None,
            interval_ms: 5_000,
            timeout_ms: 1_000,
            failures: 3,
            successes: 2,
            panic_percent: 50,
        };
        assert_eq!(health_check(""), Ok(by_default.clone()));
        let given = "path=/healthz?full port=8081 host=app interval=1s timeout=200ms failures=1 successes=5 panic=0";
        let expected = HealthCheck {
            path: Some("/healthz?full".into()),
            host: Some("app".into()),
            port: Some(8081),
            interval_ms: 1_000,
            timeout_ms: 200,
            failures: 1,
            successes: 5,
            panic_percent: 0,
        };
        assert_eq!(health_check(given), Ok(expected));
        for wrong in [
            "/healthz",
            "path=healthz",
            "host=a/b",
            "port=0",
            "port=http",
            "interval=10ms",
            "timeout=0s",
            "failures=0",
            "successes=no",
            "panic=101",
        ] {
            assert!(health_check(wrong).is_err(), "{wrong}");
        }
    }
}
