//! Who asks: what of a request makes a user, and the cookie of one who has none yet.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::hash::{fnv1a, mix};
use super::index::{RequestView, query_value};
use crate::table::HashKey;

/// [`HashKey`] in the types of the proxy.
#[derive(Debug)]
pub(crate) enum UserKey {
    Cookie {
        name: String,
        /// What stands behind the value in `Set-Cookie`; `None`: no cookie is set.
        attributes: Option<String>,
    },
    Header(HeaderName),
    Query(String),
    SourceIp,
}

impl UserKey {
    /// `None` when it is no key, as in a file that was changed by hand.
    pub(super) fn new(key: &HashKey) -> Option<Self> {
        Some(match key {
            HashKey::Cookie {
                name,
                path,
                ttl_seconds,
                issue,
            } => Self::Cookie {
                name: name.clone(),
                attributes: issue.then(|| {
                    let path = path.as_deref().unwrap_or("/");
                    let age = ttl_seconds.map(|ttl| format!("; Max-Age={ttl}"));
                    let age = age.unwrap_or_default();
                    format!("; Path={path}{age}; HttpOnly; SameSite=Lax")
                }),
            },
            HashKey::Header(name) => Self::Header(name.parse().ok()?),
            HashKey::Query(name) => Self::Query(name.clone()),
            HashKey::SourceIp => Self::SourceIp,
        })
    }

    /// The hash of the user; `None` when the request does not say who he is.
    pub(crate) fn user(&self, request: &RequestView<'_>) -> Option<u64> {
        match self {
            Self::Cookie { name, .. } => {
                cookie(request.headers, name).map(|value| fnv1a(value.as_bytes()))
            }
            Self::Header(name) => request.headers.get(name).map(|v| fnv1a(v.as_bytes())),
            Self::Query(name) => query_value(request.query, name).map(|v| fnv1a(v.as_bytes())),
            Self::SourceIp => Some(fnv1a(request.client.as_bytes())),
        }
    }

    /// Whether one without a cookie gets one.
    pub(crate) fn issues(&self) -> bool {
        matches!(
            self,
            Self::Cookie {
                attributes: Some(_),
                ..
            }
        )
    }

    /// The `Set-Cookie` that makes `id` the user.
    pub(crate) fn set_cookie(&self, id: &str) -> Option<HeaderValue> {
        let Self::Cookie {
            name,
            attributes: Some(attributes),
        } = self
        else {
            return None;
        };
        HeaderValue::from_str(&format!("{name}={id}{attributes}")).ok()
    }
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

/// A number that nobody can foresee from the last one, fit to name users and to draw lots, not to keep secrets.
pub(crate) fn draw() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    mix(SEED.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Whether a lot of so many in a million wins.
pub(crate) fn wins(per_million: u32) -> bool {
    match per_million {
        0 => false,
        1_000_000.. => true,
        some => draw() % 1_000_000 < u64::from(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("xuser=no; user=a=b"));
        headers.append("cookie", HeaderValue::from_static("other=1"));
        assert_eq!(cookie(&headers, "user"), Some("a=b"));
        assert_eq!(cookie(&headers, "other"), Some("1"));
        assert_eq!(cookie(&headers, "use"), None);
    }

    #[test]
    fn lots_win_in_their_share() {
        let won = (0..100_000).filter(|_| wins(200_000)).count();
        assert!((19_000..21_000).contains(&won), "{won}");
        assert!(!wins(0) && wins(1_000_000));
    }
}
