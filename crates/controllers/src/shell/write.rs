//! Writes that can be done twice, each with a deadline.

use std::future::Future;

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde::Serialize;
use serde_json::Value;
use serin_api::keys::FIELD_MANAGER;
use tokio::time::{Duration, timeout};

use super::{Error, ErrorKind, Kind};

const DEADLINE: Duration = Duration::from_secs(30);

/// Makes an object. `None` when one of this name is already there.
pub(crate) async fn create<K: Kind + Serialize>(
    api: &Api<K>,
    object: &K,
) -> Result<Option<K>, Error> {
    let doing = doing("create", api, object.meta().name.as_deref());
    match within(doing, api.create(&post(), object)).await {
        Err(error) if error.kind() == ErrorKind::Exists => Ok(None),
        other => other.map(Some),
    }
}

/// Puts an object in the place of the one whose version it carries.
pub(crate) async fn replace<K: Kind + Serialize>(api: &Api<K>, object: &K) -> Result<K, Error> {
    let name = object.meta().name.clone().unwrap_or_default();
    let doing = doing("replace", api, Some(&name));
    within(doing, api.replace(&name, &post(), object)).await
}

/// Changes fields of an object by a merge patch. One that names a version or a uid is refused when it is no longer that.
pub(crate) async fn merge<K: Kind>(api: &Api<K>, name: &str, patch: &Value) -> Result<K, Error> {
    let doing = doing("change", api, Some(name));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    within(doing, api.patch(name, &params, &patch)).await
}

/// Changes an object by a JSON Patch. One that tests what has changed meanwhile is refused.
pub(crate) async fn edit<K: Kind>(api: &Api<K>, name: &str, patch: Value) -> Result<K, Error> {
    let doing = doing("change", api, Some(name));
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|e| Error::api(doing.clone(), kube::Error::SerdeError(e)))?;
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::<()>::Json(patch);
    within(doing, api.patch(name, &params, &patch)).await
}

/// Writes the status of an object whose version it carries.
pub(crate) async fn write_status<K: Kind + Serialize>(
    api: &Api<K>,
    object: &K,
) -> Result<K, Error> {
    let name = object.meta().name.clone().unwrap_or_default();
    let doing = doing("write the status of", api, Some(&name));
    within(doing, api.replace_status(&name, &post(), object)).await
}

/// Deletes this very object. `None` when it is gone already, or another one has its name.
pub(crate) async fn delete<K: Kind>(
    api: &Api<K>,
    name: &str,
    uid: &str,
) -> Result<Option<K>, Error> {
    match delete_unchanged(api, name, uid, None).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        other => other,
    }
}

/// Deletes this very object if it has not changed. `None` when it is gone already.
pub(crate) async fn delete_unchanged<K: Kind>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    resource_version: Option<&str>,
) -> Result<Option<K>, Error> {
    let doing = doing("delete", api, Some(name));
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: resource_version.map(str::to_owned),
    });
    match within(doing, api.delete(name, &params)).await {
        Err(error) if error.kind() == ErrorKind::Missing => Ok(None),
        answer => Ok(answer?.left()),
    }
}

fn post() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    }
}

fn doing<K: Kind>(verb: &str, api: &Api<K>, name: Option<&str>) -> String {
    let namespace = api.namespace().unwrap_or_default();
    let name = name.unwrap_or_default();
    format!("{verb} {} {namespace}/{name}", K::kind(&()))
}

async fn within<T>(
    doing: String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| Error::api(doing, error)),
        Err(_) => Err(Error::timeout(doing)),
    }
}
