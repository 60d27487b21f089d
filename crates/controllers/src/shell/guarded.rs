//! An object as it comes from the API: what can be read of it, or its name and why it cannot.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use serde::Deserialize;

/// A [`DeserializeGuard`] that asks the API for metadata alone where the kind inside does. The guard itself does not pass that
/// on, and so would fetch every content of a cluster for nothing. It is boxed: objects are large, and each layer of a watch moves
/// them through its own frame, which without optimisation fills the stack of a thread.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    transparent,
    bound(deserialize = "K: Resource + serde::de::DeserializeOwned")
)]
pub(super) struct Guarded<K>(Box<DeserializeGuard<K>>);

impl<K> Guarded<K> {
    /// What could be read; otherwise its metadata and why not.
    pub(super) fn read(self) -> Result<K, Box<InvalidObject>> {
        self.0.0.map_err(Box::new)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}
