//! Requests that one user makes in the name of another, as `kubectl --as` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;

use super::attributes::Attributes;
use super::policy::{Decision, Policy};
use super::user::{User, as_service_account, service_account_groups};
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::status::Refusal;
use crate::target::decode;

const AUTHENTICATION: &str = "authentication.k8s.io";
/// More groups and extra values than this are not borne in one request.
const MOST: usize = 100;

/// Who a request is to count for: the caller, or whom the headers name, if the caller may speak for them.
pub(super) fn effective(
    policy: &Policy,
    caller: &Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, Refusal> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(Arc::clone(caller));
    };
    let needed = needed(&wanted);
    for attributes in needed {
        if let Decision::Denied { why } = policy.decide(caller, &attributes) {
            return Err(Refusal::denied(&caller.name, &attributes, &why));
        }
    }
    Ok(Arc::new(complete(wanted)))
}

/// The user of the headers, as they say it.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, Refusal> {
    let text = |value: &http::HeaderValue| {
        let text = value.to_str().map(str::to_owned);
        text.map_err(|_| Refusal::bad_request("an Impersonate header is not plain text"))
    };
    let one = |name: &str| headers.get(name).map(text).transpose();
    let name = one("impersonate-user")?.filter(|name| !name.is_empty());
    let uid = one("impersonate-uid")?.unwrap_or_default();
    let groups = headers.get_all("impersonate-group").iter().map(text);
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix("impersonate-extra-") {
            let key = decode(key).ok_or_else(|| {
                Refusal::bad_request("an Impersonate-Extra header has a broken percent encoding")
            })?;
            extra.entry(key).or_default().push(text(value)?);
        }
    }
    if groups.len() + extra.values().map(Vec::len).sum::<usize>() > MOST {
        return Err(Refusal::bad_request("too many Impersonate headers"));
    }
    let others = !groups.is_empty() || !extra.is_empty() || !uid.is_empty();
    match name {
        Some(name) => Ok(Some(User {
            name,
            uid,
            groups,
            extra,
        })),
        None if others => Err(Refusal::bad_request(format!(
            "requested {groups:?} without impersonating a user: set Impersonate-User too"
        ))),
        None => Ok(None),
    }
}

/// The rights that speaking for this user takes: on the name, and on everything that is claimed beside it.
fn needed(wanted: &User) -> Vec<Attributes> {
    let on = |group: &str, resource: &str, name: &str| {
        Attributes::on("impersonate", group, resource, name)
    };
    let user = match as_service_account(&wanted.name) {
        Some((namespace, name)) => on("", "serviceaccounts", name).within(namespace),
        None => on("", "users", &wanted.name),
    };
    let mut needed = vec![user];
    needed.extend(wanted.groups.iter().map(|group| on("", "groups", group)));
    if !wanted.uid.is_empty() {
        needed.push(on(AUTHENTICATION, "uids", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        needed.extend(values.iter().map(|value| {
            let resource = format!("userextras/{key}");
            on(AUTHENTICATION, "userextras", value).part_of(&resource)
        }));
    }
    needed
}

/// With the groups that go without saying.
fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = as_service_account(&user.name)
    {
        user.groups = service_account_groups(namespace).to_vec();
    }
    let standing = if user.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    let has_standing = user
        .groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
    if !has_standing {
        user.groups.push(standing.to_owned());
    }
    user
}
