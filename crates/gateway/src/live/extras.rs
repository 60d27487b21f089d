//! What a rule does beside choosing a backend, in the types of the proxy. What cannot be read, as in a file that was changed by
//! hand, is left out.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use regex::Regex;

use super::limits::LiveLimits;
use super::pick::LiveBackend;
use super::user::UserKey;
use crate::table::{Direct, Fault, HeaderChanges, PathRewrite, Redirect, Retry, Rewrite};

/// What most rules have nothing of.
#[derive(Debug)]
pub(crate) struct Extras {
    pub(crate) direct: Option<LiveDirect>,
    pub(crate) rewrite: Option<LiveRewrite>,
    pub(crate) mirrors: Vec<LiveMirror>,
    pub(crate) retry: Option<Arc<Retry>>,
    pub(crate) fault: Option<Fault>,
    pub(crate) sticky: Option<UserKey>,
    pub(crate) limits: Option<Arc<LiveLimits>>,
}

/// Where copies go.
#[derive(Debug)]
pub(crate) struct LiveMirror {
    pub(crate) backend: LiveBackend,
    pub(crate) per_million: u32,
}

/// An answer of the gateway itself.
#[derive(Debug)]
pub(crate) enum LiveDirect {
    Redirect(LiveRedirect),
    Fixed(StatusCode, String),
}

#[derive(Debug)]
pub(crate) struct LiveRedirect {
    pub(crate) status: StatusCode,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<LivePath>,
}

#[derive(Debug)]
pub(crate) struct LiveRewrite {
    pub(crate) host: Option<HeaderValue>,
    path: Option<LivePath>,
}

#[derive(Debug)]
enum LivePath {
    Full(String),
    Prefix(String),
    Regex(Regex, String),
}

impl LiveDirect {
    pub(super) fn new(direct: &Direct) -> Option<Self> {
        Some(match direct {
            Direct::Redirect(redirect) => Self::Redirect(LiveRedirect::new(redirect)?),
            Direct::Fixed { status, body } => {
                Self::Fixed(StatusCode::from_u16(*status).ok()?, body.clone())
            }
        })
    }
}

impl LiveRedirect {
    fn new(redirect: &Redirect) -> Option<Self> {
        Some(Self {
            status: StatusCode::from_u16(redirect.status).ok()?,
            scheme: redirect.scheme.clone(),
            host: redirect.host.clone(),
            port: redirect.port,
            path: redirect.path.as_ref().and_then(LivePath::new),
        })
    }

    /// The new address for a request to `host`, with the port that it named.
    pub(crate) fn location(
        &self,
        scheme: &str,
        host: &str,
        port: Option<u16>,
        uri: &Uri,
        prefix: Option<usize>,
    ) -> Option<HeaderValue> {
        let host = self.host.as_deref().unwrap_or(host);
        // A new scheme has a port of its own; else the client comes back where he came from.
        let port = match (&self.scheme, self.port) {
            (_, Some(port)) => Some(port),
            (Some(_), None) => None,
            (None, None) => port,
        };
        let scheme = self.scheme.as_deref().unwrap_or(scheme);
        let port = port.filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443)));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = match &self.path {
            None => uri.path().to_owned(),
            Some(path) => path.apply(uri.path(), prefix),
        };
        let query = uri.query().map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        HeaderValue::from_str(&format!("{scheme}://{host}{port}{path}{query}")).ok()
    }
}

impl LiveRewrite {
    pub(super) fn new(rewrite: &Rewrite) -> Self {
        let host = rewrite.host.as_deref();
        Self {
            host: host.and_then(|host| HeaderValue::from_str(host).ok()),
            path: rewrite.path.as_ref().and_then(LivePath::new),
        }
    }

    /// The target that the instance sees; `None` when it is that of the client.
    pub(crate) fn target(&self, uri: &Uri, prefix: Option<usize>) -> Option<Uri> {
        let path = self.path.as_ref()?.apply(uri.path(), prefix);
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        target.parse::<PathAndQuery>().ok().map(Uri::from)
    }
}

impl LivePath {
    fn new(path: &PathRewrite) -> Option<Self> {
        Some(match path {
            PathRewrite::Full(path) => Self::Full(path.clone()),
            PathRewrite::Prefix(path) => Self::Prefix(path.clone()),
            PathRewrite::Regex { pattern, with } => {
                Self::Regex(crate::lower::part_regex(pattern).ok()?, with.clone())
            }
        })
    }

    fn apply(&self, path: &str, prefix: Option<usize>) -> String {
        let new = match self {
            Self::Full(new) => new.clone(),
            Self::Prefix(new) => {
                let rest = prefix.and_then(|prefix| path.get(prefix..)).unwrap_or("");
                let new = if rest.starts_with('/') || (rest.is_empty() && prefix.is_some()) {
                    new.strip_suffix('/').unwrap_or(new)
                } else {
                    new
                };
                format!("{new}{rest}")
            }
            Self::Regex(pattern, with) => pattern.replace_all(path, with.as_str()).into_owned(),
        };
        if new.starts_with('/') {
            new
        } else {
            format!("/{new}")
        }
    }
}

/// How long a fault delays a request, and the status that takes the place of its answer.
pub(crate) fn draw_fault(fault: &Fault) -> (Option<Duration>, Option<StatusCode>) {
    let delay = fault.delay.filter(|(_, lots)| super::user::wins(*lots));
    let abort = fault.abort.filter(|(_, lots)| super::user::wins(*lots));
    (
        delay.map(|(ms, _)| Duration::from_millis(ms)),
        abort.and_then(|(status, _)| StatusCode::from_u16(status).ok()),
    )
}

/// Changes to headers.
#[derive(Debug, Default)]
pub(crate) struct CompiledHeaders {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl CompiledHeaders {
    pub(super) fn new(changes: &HeaderChanges) -> Self {
        let pairs = |pairs: &[(String, String)]| {
            let pair = |(name, value): &(String, String)| {
                Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
            };
            pairs.iter().filter_map(pair).collect()
        };
        let remove = changes.remove.iter().filter_map(|name| name.parse().ok());
        Self {
            set: pairs(&changes.set),
            add: pairs(&changes.add),
            remove: remove.collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_by_whole_segments() {
        let prefix = |with: &str, path: &str, prefix: &str| {
            LivePath::Prefix(with.into()).apply(path, Some(prefix.len()))
        };
        // The table of Gateway API, whose prefixes are kept without the slash at their end.
        for (path, matched, with, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo", "/foo", "/xyz/", "/xyz"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            // Istio's prefixes may end in the middle of a segment.
            ("/apiv1/x", "/api", "/new", "/newv1/x"),
            ("/api/x", "/api/", "/", "/x"),
        ] {
            assert_eq!(
                prefix(with, path, matched),
                expected,
                "{path} {matched} {with}"
            );
        }
        let whole = LivePath::Prefix("/new".into());
        assert_eq!(whole.apply("/old/path", None), "/new");
    }

    #[test]
    fn redirects_keep_what_they_do_not_name() {
        let location = |redirect: Redirect| {
            let uri = Uri::from_static("/a/b?c=d");
            let live = LiveRedirect::new(&redirect).unwrap();
            let location = live.location("http", "app.example.com", Some(8080), &uri, Some(2));
            location.unwrap().to_str().unwrap().to_owned()
        };
        let plain = || Redirect {
            status: 302,
            scheme: None,
            host: None,
            port: None,
            path: None,
        };
        let kept = "http://app.example.com:8080/a/b?c=d";
        assert_eq!(location(plain()), kept);
        let https = Redirect {
            scheme: Some("https".into()),
            ..plain()
        };
        assert_eq!(location(https), "https://app.example.com/a/b?c=d");
        let elsewhere = Redirect {
            host: Some("b.example".into()),
            port: Some(80),
            path: Some(PathRewrite::Prefix("/z".into())),
            ..plain()
        };
        assert_eq!(location(elsewhere), "http://b.example/z/b?c=d");
    }
}
