//! Who a request is from: the administrator's token, the token of a service account, or nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::Value;

use super::token::{About, Claims, ISSUER, Named, Untrusted};
use super::user::{User, service_account_name};
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::store::{Key, Record};
use crate::tree::Tree;

const SCHEME: &[u8] = b"Bearer ";
/// The only addresses for who shows nothing. RBAC must let them through as well.
const OPEN: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];
/// The user of the administrator's token.
const ADMIN: &str = "serin:admin";

/// What the requests of a listener are held against.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) server: ApiServer,
    pub(crate) admin_token: Arc<str>,
}

/// Finds out who asks, and refuses who shows something that is not good.
pub(crate) async fn authenticate(
    State(credentials): State<Credentials>,
    mut request: Request,
    next: Next,
) -> Response {
    match credentials.user(request.headers(), request.uri().path()) {
        Ok(user) => {
            request.headers_mut().remove(header::AUTHORIZATION);
            request.extensions_mut().insert(Arc::new(user));
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl Credentials {
    fn user(&self, headers: &HeaderMap, path: &str) -> Result<User, Refusal> {
        let value = headers.get(header::AUTHORIZATION);
        let Some(token) = value.and_then(|value| bearer(value.as_bytes())) else {
            return if OPEN.contains(&path) {
                Ok(User::anonymous())
            } else {
                Err(Refusal::unauthorized())
            };
        };
        if is_same(token, self.admin_token.as_bytes()) {
            return Ok(User::of_the_system(ADMIN));
        }
        // All are compared, so that the time tells nothing of the place.
        let mut found = None;
        for (known, user) in self.server.tokens.iter() {
            if is_same(token, known.as_bytes()) {
                found = Some(user);
            }
        }
        if let Some(user) = found {
            return Ok(user.clone());
        }
        let token = std::str::from_utf8(token).map_err(|_| Refusal::unauthorized())?;
        let user = service_account(&self.server, token, &[ISSUER.to_owned()]);
        user.map(|(user, _)| user).map_err(|why| {
            tracing::debug!(%why, "a token was not taken");
            Refusal::unauthorized()
        })
    }
}

/// The service account that a token is of, if all that it is bound to is still there; and those of its audiences that were
/// asked for.
pub(super) fn service_account(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
) -> Result<(User, Vec<String>), Untrusted> {
    let claims = server.token_key().verify(token, audiences, server.now())?;
    let About {
        namespace,
        serviceaccount,
        pod,
        secret,
    } = &claims.about;
    let lives = |plural: &str, named: &Named| {
        let key = Key::new("", plural, namespace, &named.name);
        let found = server.store.get(&key);
        found.is_some_and(|found| *found.facts.uid == *named.uid && !is_ending(&found))
    };
    if claims.sub != service_account_name(namespace, &serviceaccount.name) {
        return Err(Untrusted("its claims contradict each other"));
    }
    if !lives("serviceaccounts", serviceaccount) {
        return Err(Untrusted("its service account is gone"));
    }
    if pod.as_ref().is_some_and(|pod| !lives("pods", pod)) {
        return Err(Untrusted("its pod is gone"));
    }
    if secret
        .as_ref()
        .is_some_and(|secret| !lives("secrets", secret))
    {
        return Err(Untrusted("its secret is gone"));
    }
    let matching = claims.aud.iter().filter(|a| audiences.contains(a));
    let matching = matching.cloned().collect();
    Ok((user_of(claims), matching))
}

/// Whether an object is past its end. A pod that is still in its grace period may finish its work.
fn is_ending(record: &Record) -> bool {
    record.facts.deleting && record.key.plural() != "pods"
}

fn user_of(claims: Claims) -> User {
    let about = claims.about;
    let account = &about.serviceaccount;
    let mut user = User::service_account(&about.namespace, &account.name, &account.uid);
    let mut note = |key: &str, value: String| {
        let key = format!("authentication.kubernetes.io/{key}");
        user.extra.insert(key, vec![value]);
    };
    note("credential-id", format!("JTI={}", claims.jti));
    if let Some(pod) = about.pod {
        note("pod-name", pod.name);
        note("pod-uid", pod.uid);
    }
    user
}

/// The spec of a review of a token, answered as the status of it.
pub(super) fn review(server: &ApiServer, spec: &Value) -> Value {
    let asked = spec.at("/audiences").as_array().into_iter().flatten();
    let asked: Vec<String> = asked
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let audiences = if asked.is_empty() {
        vec![ISSUER.to_owned()]
    } else {
        asked
    };
    let token = spec.at("/token").as_str().unwrap_or_default();
    match service_account(server, token, &audiences) {
        Ok((user, audiences)) => {
            serde_json::json!({"authenticated": true, "user": user.info(), "audiences": audiences})
        }
        Err(why) => {
            serde_json::json!({"authenticated": false, "user": {}, "error": why.to_string()})
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

/// Compares in a time that does not depend on where the first difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0u8, |acc, (x, y)| std::hint::black_box(acc | (x ^ y)));
    a.len() == b.len() && !a.is_empty() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_compared_whole() {
        for good in ["Bearer secret", "bearer secret", "Bearer  secret "] {
            assert_eq!(bearer(good.as_bytes()), Some(&b"secret"[..]), "{good}");
        }
        for wrong in ["secret", "Bearer ", "Bearer", "", "Basic secret"] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(is_same(b"secret", b"secret"));
        for wrong in [&b"secre"[..], b"secretx", b"Secret", b""] {
            assert!(!is_same(wrong, b"secret"));
        }
        assert!(!is_same(b"", b""));
    }
}
