//! Reads the head of a request: which host, whether it is well-formed beyond what the parser checks, and which headers stay on
//! this hop.

use std::ops::Range;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use hyper::body::Incoming;

use super::MAX_HEADERS;
use super::answer::Reason;
use super::tap::Heard;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// A request without its body, on its way to an instance. It is passed on often, and in a box that costs little.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) head: Head,
    /// The headers are those that pass this hop.
    pub(super) parts: Parts,
}

/// What the head says before any route is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// In lower case, without a port; empty when an HTTP/1.0 request has none.
    pub(super) host: String,
    /// The port that the host named.
    pub(super) port: Option<u16>,
    /// The protocol that the client wants to change to.
    pub(super) upgrade: Option<HeaderValue>,
}

/// Why a head is refused, with one sentence for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) sentence: &'static str,
}

impl From<&'static str> for Refused {
    fn from(sentence: &'static str) -> Self {
        Self {
            reason: Reason::BadRequest,
            sentence,
        }
    }
}

/// Checks the head. `heard` is there where the client speaks HTTP/1, whose framing it is about.
pub(super) fn read(request: &Request<Incoming>, heard: Option<&Heard>) -> Result<Head, Refused> {
    match heard {
        Some(heard) => check_framing(request, heard)?,
        None => check_count(request.headers())?,
    }
    Ok(check(request)?)
}

/// Over HTTP/2 the parser bounds the bytes of a head alone. Cookies may come in any number of crumbs (RFC 9113 section 8.2.3).
fn check_count(headers: &HeaderMap) -> Result<(), Refused> {
    let count = headers.len();
    if count <= MAX_HEADERS || count - headers.get_all(header::COOKIE).iter().count() <= MAX_HEADERS
    {
        return Ok(());
    }
    Err(Refused {
        reason: Reason::TooManyHeaders,
        sentence: "The request has too many headers.\n",
    })
}

fn check_framing(request: &Request<Incoming>, heard: &Heard) -> Result<(), &'static str> {
    if let Some(coding) = request.headers().get(header::TRANSFER_ENCODING) {
        if heard.has_two_lengths(request.method(), request.uri()) {
            return Err("Both Content-Length and Transfer-Encoding tell the length of the body.\n");
        }
        let codings = request
            .headers()
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .count();
        if codings > 1 || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err("The only transfer coding that is understood is chunked.\n");
        }
    }
    heard.head_taken();
    Ok(())
}

pub(super) fn check<B>(request: &Request<B>) -> Result<Head, &'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority = request.uri().authority();
    let is_http2 = request.version() == Version::HTTP_2;
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if is_http2 => match authority {
            Some(authority) => authority.as_str(),
            None => return Err("There is no :authority.\n"),
        },
        (_, Some(_)) => return Err("There is more than one Host header.\n"),
        (Some(host), None) => host.to_str().map_err(|_| "The Host header is no host.\n")?,
        (None, None) if request.version() == Version::HTTP_10 => "",
        (None, None) => return Err("There is no Host header.\n"),
    };
    if let Some(authority) = authority
        && request.method() != Method::CONNECT
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err("The Host header and the target of the request differ.\n");
    }
    let head = Head::named(host).ok_or("The Host header is no host.\n")?;
    Ok(Head {
        upgrade: upgrade(request.headers()),
        ..head
    })
}

impl Head {
    /// That of a request for this host, as its header has it, which asks for no change of the protocol. `None`: it is no host.
    pub(super) fn named(host: &str) -> Option<Self> {
        let (host, port) = split_host(host)?;
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
            upgrade: None,
        })
    }
}

/// Makes of the headers of an HTTP/2 request those of an HTTP/1.1 one: a Host, and one Cookie (RFC 9113 section 8.2.3).
pub(super) fn from_http2(uri: &Uri, headers: &mut HeaderMap) {
    if !headers.contains_key(header::HOST)
        && let Some(authority) = uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if let (Some(_), Some(_)) = (crumbs.next(), crumbs.next()) {
        let all = headers.get_all(header::COOKIE).iter();
        let all: Vec<&[u8]> = all.map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(header::COOKIE, cookie);
        }
    }
}

/// The host and the port of a Host header.
fn split_host(host: &str) -> Option<(&str, Option<u16>)> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => {
            let (address, rest) = v6.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host.get(..address.len() + 2)?,
                rest.strip_prefix(':')
                    .map_or((!rest.is_empty()).then_some("x"), Some),
            )
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if !name.starts_with('[') && !name.bytes().all(is_host) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    match port {
        None | Some("") => Some((name, None)),
        Some(port) => Some((name, Some(port.parse().ok()?))),
    }
}

/// The protocol to change to, when `Connection` names `upgrade`. HTTP/2 is none: behind it requests would pass unseen.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let is_http2 = protocol
        .to_str()
        .is_ok_and(|p| p.to_ascii_lowercase().contains("h2"));
    if is_http2 {
        return None;
    }
    let asks = connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    asks.then(|| protocol.clone())
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what belongs to one hop only: the headers of RFC 9110 section 7.6.1 and those that `Connection` names. What frames
/// or addresses the message cannot be named away.
pub(super) fn strip_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_of_one_hop) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let protected = [
            header::HOST,
            header::CONTENT_LENGTH,
            header::COOKIE,
            header::AUTHORIZATION,
        ];
        let named: Vec<HeaderName> = connection_tokens(headers)
            .filter(|token| !matches!(*token, "close" | "keep-alive"))
            .filter_map(|token| token.parse().ok())
            .filter(|name| !protected.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    let wants_trailers = headers
        .get(header::TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if !wants_trailers {
        headers.remove(header::TE);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "te" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// Where `part` stands in `whole`; `None` when it is no part of it.
pub(super) fn span(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let span = start..start.checked_add(part.len())?;
    whole.get(span.clone()).map(|_| span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&str, &str)]) -> Result<(String, Option<u16>), &'static str> {
        let mut request = Request::builder().uri("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).map(|head| (head.host, head.port))
    }

    #[test]
    fn hosts_are_read_without_case_and_port() {
        assert_eq!(
            head(&[("host", "App.Example.com:8080")]),
            Ok(("app.example.com".into(), Some(8080)))
        );
        assert_eq!(
            head(&[("host", "app.example.com.")]),
            Ok(("app.example.com".into(), None))
        );
        assert_eq!(
            head(&[("host", "[::1]:80")]),
            Ok(("[::1]".into(), Some(80)))
        );
        assert_eq!(head(&[("host", "[::1]")]), Ok(("[::1]".into(), None)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "a b", "a/b", "a@b", "a:b", "a:99999", "[::1", "[::1]x", "a,b",
        ] {
            assert!(head(&[("host", host)]).is_err(), "{host}");
        }
        assert!(head(&[]).is_err());
        assert!(head(&[("host", "a"), ("host", "a")]).is_err());
    }

    #[test]
    fn the_target_and_the_host_must_agree() {
        let request = |host: &str| {
            Request::builder()
                .uri("http://good.example/")
                .header("host", host)
                .body(())
                .unwrap()
        };
        assert!(check(&request("good.example")).is_ok());
        assert!(check(&request("evil.example")).is_err());
    }

    #[test]
    fn http2_names_its_host_by_the_authority() {
        let request = |host: Option<&str>| {
            let request = Request::builder()
                .version(Version::HTTP_2)
                .uri("http://App.example:81/");
            let request = match host {
                Some(host) => request.header("host", host),
                None => request,
            };
            check(&request.body(()).unwrap()).map(|head| (head.host, head.port))
        };
        assert_eq!(request(None), Ok(("app.example".into(), Some(81))));
        assert!(request(Some("app.example:81")).is_ok());
        assert!(request(Some("evil.example")).is_err());
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        from_http2(&Uri::from_static("http://app.example/"), &mut headers);
        assert_eq!(headers["cookie"], "a=1; b=2");
        assert_eq!(headers["host"], "app.example");
    }

    #[test]
    fn headers_of_one_hop_go() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Private, Host"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("host", "a"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("via", "1.1 a"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "via"]);
    }
}
