//! Finds the rule for a request in the order of Gateway API: the most specific host; exact path, then regular expression, then
//! longest prefix; method; number of headers; number of query parameters; oldest object; first rule.
//!
//! The cost does not grow with the number of routes: hosts, exact paths and prefixes are looked up, and only the few claims on
//! one path are gone through.

use std::cmp::Reverse;

use fnv::FnvHashMap;
use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use crate::lower::whole_regex;
use crate::names::SourceKind;
use crate::table::{HostMatch, PathMatch, RequestMatch, Rule, ValuePattern};

/// What of a request decides its rule.
pub(crate) struct RequestView<'a> {
    /// The host in lower case, without a port.
    pub(crate) host: &'a str,
    /// The port that the host named.
    pub(crate) port: Option<u16>,
    pub(crate) path: &'a str,
    /// Without the question mark.
    pub(crate) query: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// The address of the client.
    pub(crate) client: &'a str,
    /// The port of the gateway to which it came.
    pub(crate) listener: u16,
}

/// The rule for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(super) rule: usize,
    /// How many bytes of the path the prefix has that matched; `None` when none did.
    pub(crate) prefix: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    exact: FnvHashMap<String, Paths>,
    below: FnvHashMap<String, Paths>,
    one_below: FnvHashMap<String, Paths>,
    any: Paths,
}

#[derive(Debug, Default)]
struct Paths {
    exact: FnvHashMap<String, Vec<Claim>>,
    regex: Vec<(Regex, Claim)>,
    prefix: FnvHashMap<String, Vec<Claim>>,
    longest_prefix: usize,
    /// The claims of VirtualServices, of which the first that holds counts; the others go before them.
    ordered: Vec<(PathTest, Claim)>,
}

/// One match of one rule.
#[derive(Debug)]
struct Claim {
    hit: Hit,
    /// The port where it holds; `None`: at every one.
    port: Option<u16>,
    /// Hosts where it does not.
    except: Box<[HostMatch]>,
    method: Option<Method>,
    headers: Vec<(HeaderName, Value)>,
    query: Vec<(String, Value)>,
    pseudo: Vec<(Pseudo, Value)>,
    without: Vec<(HeaderName, Value)>,
}

#[derive(Debug)]
enum Value {
    Exact(String),
    Begins(String),
    Regex(Regex),
}

#[derive(Debug)]
enum PathTest {
    Exact(String),
    Segments(String),
    Begins(String),
    Regex(Regex),
}

#[derive(Debug)]
enum Pseudo {
    Method,
    Authority,
    Scheme,
    Port,
}

impl Index {
    pub(super) fn build(rules: &[Rule]) -> Self {
        let mut claims: Vec<(usize, &Rule, &HostMatch, &RequestMatch)> = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            for host in &rule.hosts {
                claims.extend(rule.matches.iter().map(|m| (at, rule, host, m)));
            }
        }
        claims.sort_by_key(|(_, rule, _, m)| {
            let more = (m.method.is_some(), m.headers.len(), m.query.len());
            let more = if is_ordered(rule) {
                (false, 0, 0)
            } else {
                more
            };
            (Reverse(more), rule.created, &rule.source, rule.index)
        });
        let mut index = Self::default();
        for (at, rule, host, matched) in claims {
            let paths = match host {
                HostMatch::Exact(host) => index.exact.entry(host.clone()).or_default(),
                HostMatch::Below(domain) => index.below.entry(domain.clone()).or_default(),
                HostMatch::OneBelow(domain) => index.one_below.entry(domain.clone()).or_default(),
                HostMatch::Any => &mut index.any,
            };
            if let Some(claim) = Claim::new(at, rule, matched) {
                paths.add(&matched.path, claim, is_ordered(rule));
            }
        }
        index
    }

    /// The rule for a host that is named, or that lies below a domain that is.
    pub(super) fn by_host(&self, request: &RequestView<'_>) -> Option<Hit> {
        let exact = self.exact.get(request.host);
        if let Some(rule) = exact.and_then(|paths| paths.find(request)) {
            return Some(rule);
        }
        if self.below.is_empty() && self.one_below.is_empty() {
            return None;
        }
        let mut rest = request.host;
        let mut depth = 0;
        while let Some((_, domain)) = rest.split_once('.') {
            let one = self.one_below.get(domain).filter(|_| depth == 0);
            let deep = self.below.get(domain);
            let mut paths = one.into_iter().chain(deep);
            if let Some(rule) = paths.find_map(|paths| paths.find(request)) {
                return Some(rule);
            }
            rest = domain;
            depth += 1;
        }
        None
    }

    pub(super) fn for_every_host(&self, request: &RequestView<'_>) -> Option<Hit> {
        self.any.find(request)
    }
}

impl Paths {
    fn add(&mut self, path: &PathMatch, claim: Claim, is_ordered: bool) {
        if is_ordered {
            self.ordered
                .extend(PathTest::new(path).map(|test| (test, claim)));
            return;
        }
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(claim),
            PathMatch::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefix.entry(path.clone()).or_default().push(claim);
            }
            PathMatch::Regex(path) => {
                let Ok(regex) = whole_regex(path) else {
                    return;
                };
                let longer =
                    |(known, _): &(Regex, Claim)| known.as_str().len() >= regex.as_str().len();
                let at = self.regex.iter().take_while(|known| longer(known)).count();
                self.regex.insert(at, (regex, claim));
            }
            // Only VirtualServices have it.
            PathMatch::Begins(_) => {}
        }
    }

    fn find(&self, request: &RequestView<'_>) -> Option<Hit> {
        let by_rank = self.by_rank(request);
        if by_rank.is_some() || self.ordered.is_empty() {
            return by_rank;
        }
        let holds =
            |(path, claim): &&(PathTest, Claim)| path.holds(request.path) && claim.holds(request);
        self.ordered.iter().find(holds).map(|(_, claim)| claim.hit)
    }

    fn by_rank(&self, request: &RequestView<'_>) -> Option<Hit> {
        let first = |claims: &Vec<Claim>| claims.iter().find(|c| c.holds(request)).map(|c| c.hit);
        if let Some(rule) = self.exact.get(request.path).and_then(first) {
            return Some(rule);
        }
        let by_regex = self
            .regex
            .iter()
            .find(|(regex, claim)| regex.is_match(request.path) && claim.holds(request));
        if let Some((_, claim)) = by_regex {
            return Some(claim.hit);
        }
        if !request.path.starts_with('/') {
            return None;
        }
        prefixes(request.path, self.longest_prefix)
            .filter_map(|prefix| self.prefix.get(prefix))
            .find_map(first)
    }
}

/// Whether the first match of the object counts, and not the most specific one.
fn is_ordered(rule: &Rule) -> bool {
    rule.source.kind == SourceKind::VirtualService
}

impl PathTest {
    fn new(path: &PathMatch) -> Option<Self> {
        Some(match path {
            PathMatch::Exact(path) => Self::Exact(path.clone()),
            PathMatch::Prefix(path) => Self::Segments(path.clone()),
            PathMatch::Begins(path) => Self::Begins(path.clone()),
            PathMatch::Regex(regex) => Self::Regex(whole_regex(regex).ok()?),
        })
    }

    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Begins(prefix) => path.starts_with(prefix.as_str()),
            Self::Segments(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl Pseudo {
    fn new(name: &str) -> Option<Self> {
        Some(match name {
            ":method" => Self::Method,
            ":authority" => Self::Authority,
            ":scheme" => Self::Scheme,
            ":port" => Self::Port,
            _ => return None,
        })
    }

    fn holds(&self, value: &Value, request: &RequestView<'_>) -> bool {
        match self {
            Self::Method => value.holds(request.method.as_str()),
            Self::Scheme => value.holds(request.scheme),
            Self::Authority => {
                let named = request.headers.get(http::header::HOST);
                let named = named.and_then(|host| host.to_str().ok());
                value.holds(request.host) || named.is_some_and(|host| value.holds(host))
            }
            Self::Port => {
                let by_scheme = if request.scheme == "https" { 443 } else { 80 };
                value.holds(&request.port.unwrap_or(by_scheme).to_string())
            }
        }
    }
}

/// The prefixes of `path` by whole segments, the longest first, none longer than `longest`, the root as the empty one.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let bytes = path.as_bytes();
    let is_end = move |at: usize| bytes.get(at).is_none_or(|byte| *byte == b'/');
    let ends = (0..=longest.min(path.len())).rev();
    ends.filter(move |at| is_end(*at))
        .filter_map(move |at| path.get(..at))
}

impl Claim {
    /// `None` when a part cannot be read, as in a file that was changed by hand.
    fn new(at: usize, rule: &Rule, matched: &RequestMatch) -> Option<Self> {
        let method = match &matched.method {
            Some(method) => Some(Method::from_bytes(method.as_bytes()).ok()?),
            None => None,
        };
        let headers = matched.headers.iter();
        let headers = headers.map(|h| Some((h.name.parse().ok()?, Value::new(&h.value)?)));
        let query = matched.query.iter();
        let query = query.map(|q| Some((q.name.clone(), Value::new(&q.value)?)));
        let pseudo = matched.pseudo.iter();
        let pseudo = pseudo.map(|p| Some((Pseudo::new(&p.name)?, Value::new(&p.value)?)));
        let without = matched.without.iter();
        let without = without.map(|h| Some((h.name.parse().ok()?, Value::new(&h.value)?)));
        let prefix = match &matched.path {
            PathMatch::Prefix(prefix) | PathMatch::Begins(prefix) => Some(prefix.len()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        };
        Some(Self {
            hit: Hit { rule: at, prefix },
            port: rule.port,
            except: rule.except.clone().into(),
            method,
            headers: headers.collect::<Option<_>>()?,
            query: query.collect::<Option<_>>()?,
            pseudo: pseudo.collect::<Option<_>>()?,
            without: without.collect::<Option<_>>()?,
        })
    }

    fn holds(&self, request: &RequestView<'_>) -> bool {
        self.port.is_none_or(|port| port == request.listener)
            && !self.except.iter().any(|host| host.has(request.host))
            && self.method.as_ref().is_none_or(|m| m == request.method)
            && self
                .headers
                .iter()
                .all(|(name, value)| has(request, name, value))
            && self
                .pseudo
                .iter()
                .all(|(what, value)| what.holds(value, request))
            && !self
                .without
                .iter()
                .any(|(name, value)| has(request, name, value))
            && self.query.iter().all(|(name, value)| {
                let decoded = query_value(request.query, name);
                decoded.is_some_and(|v| value.holds(&v))
            })
    }
}

fn has(request: &RequestView<'_>, name: &HeaderName, value: &Value) -> bool {
    let mut values = request.headers.get_all(name).iter();
    values.any(|v| v.to_str().is_ok_and(|v| value.holds(v)))
}

impl Value {
    fn new(pattern: &ValuePattern) -> Option<Self> {
        Some(match pattern {
            ValuePattern::Exact(value) => Self::Exact(value.clone()),
            ValuePattern::Begins(value) => Self::Begins(value.clone()),
            ValuePattern::Regex(regex) => Self::Regex(whole_regex(regex).ok()?),
        })
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Begins(prefix) => value.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// The first value of a query parameter, decoded; `None` when it is not there.
pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name || decode(key) == name)?;
    Some(decode(value))
}

/// Undoes `%41` and `+`; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, hex_ahead(after)) {
            (b'%', Some((value, after))) => {
                decoded.push(value);
                rest = after;
            }
            (b'+', _) => decoded.push(b' '),
            (other, _) => decoded.push(*other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte that two hexadecimal digits mean, and what follows them.
fn hex_ahead(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = bytes.split_at_checked(2)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_segments_from_the_longest() {
        let all = |path, longest| prefixes(path, longest).collect::<Vec<_>>();
        assert_eq!(all("/a/bc/d", 9), ["/a/bc/d", "/a/bc", "/a", ""]);
        assert_eq!(all("/a/bc/d", 4), ["/a", ""]);
        assert_eq!(all("/a/", 9), ["/a/", "/a", ""]);
        assert_eq!(all("/", 0), [""]);
    }

    #[test]
    fn query_values_are_decoded() {
        let get = |query, name| query_value(query, name);
        assert_eq!(get("a=1&b=x%20y+z", "b"), Some("x y z".into()));
        assert_eq!(get("a=1&a=2", "a"), Some("1".into()));
        assert_eq!(get("flag&a=%zz%4", "flag"), Some(String::new()));
        assert_eq!(get("flag&a=%zz%4", "a"), Some("%zz%4".into()));
        assert_eq!(get("", "a"), None);
    }
}
