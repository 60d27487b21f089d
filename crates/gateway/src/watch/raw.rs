//! An object as it came. Of many states of one object that come within a moment only the newest counts, so the others are not worth
//! reading; and one that cannot be read must not take the rest of its list with it.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The text of an object of any kind. Only which one it is was read.
#[derive(Clone)]
pub(crate) struct RawObject {
    /// Name, namespace and version alone.
    metadata: ObjectMeta,
    json: Box<RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: Identity,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl RawObject {
    /// All of it.
    pub(crate) fn read<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_str(self.json.get())
    }

    #[cfg(test)]
    pub(crate) fn of(object: &impl serde::Serialize) -> Self {
        serde_json::from_str(&serde_json::to_string(object).unwrap()).unwrap()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        // What has no name that could be read is told of when all of it is read.
        let head: Head = serde_json::from_str(json.get()).unwrap_or_default();
        let metadata = ObjectMeta {
            name: head.metadata.name,
            namespace: head.metadata.namespace,
            resource_version: head.metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, json })
    }
}

impl fmt::Debug for RawObject {
    /// Without what is in it: it may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.metadata.name;
        f.debug_struct("RawObject")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }
    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }
    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }
    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    const OBJECT: &str = r#"{"kind":"Service","metadata":{"managedFields":[{}],"name":"web","namespace":"shop","resourceVersion":"7"},"spec":{"ports":7}}"#;

    fn shown(object: &RawObject) -> String {
        let meta = object.meta();
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".into());
        let (namespace, name) = (part(&meta.namespace), part(&meta.name));
        format!("{namespace}/{name} {}", part(&meta.resource_version))
    }

    #[test]
    fn it_is_known_by_name_whatever_else_it_is() {
        for (json, expected) in [
            (OBJECT, "shop/web 7"),
            (r#"{"metadata":{"name":"web"}}"#, "-/web -"),
            (r#"{"metadata":{"name":{"a":1}}}"#, "-/- -"),
            ("null", "-/- -"),
        ] {
            let object: RawObject = serde_json::from_str(json).unwrap();
            assert_eq!(shown(&object), expected);
        }
    }

    #[test]
    fn it_comes_in_events_and_in_lists() {
        let event = format!(r#"{{"type":"MODIFIED","object":{OBJECT}}}"#);
        match serde_json::from_str(&event) {
            Ok(WatchEvent::Modified(object)) => assert_eq!(shown(&object), "shop/web 7"),
            other => panic!("{other:?}"),
        }
        let list = format!(
            r#"{{"kind":"ServiceList","apiVersion":"v1","metadata":{{}},"items":[{OBJECT},{{}}]}}"#
        );
        let list: ObjectList<RawObject> = serde_json::from_str(&list).unwrap();
        let shown: Vec<_> = list.items.iter().map(shown).collect();
        assert_eq!(shown, ["shop/web 7", "-/- -"]);
    }
}
