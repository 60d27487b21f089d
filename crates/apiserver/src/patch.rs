//! The four kinds of patch, as pure functions from an object to the next one.
//!
//! Absent on purpose: what may change in an object; that is decided in `admit`, for patches and updates alike.

mod apply;
mod keys;
mod strategic;

use json_patch::PatchOperation;
use serde_json::Value;

use crate::resource::Resource;

pub(crate) use self::apply::{Conflict, Manager, apply, track};

/// The most operations of one JSON patch.
const MAX_OPERATIONS: usize = 10_000;

/// A patch that was read from a body.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Vec<PatchOperation>),
    /// RFC 7386.
    Merge(Value),
    /// The merge of kubectl for built-in kinds.
    Strategic(Value),
}

/// Why a patch cannot be read or carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    /// The body is no such patch.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unfit(String),
}

impl Patch {
    pub(crate) fn json(body: Value) -> Result<Self, PatchError> {
        let operations: Vec<PatchOperation> = serde_json::from_value(body)
            .map_err(|e| PatchError::Malformed(format!("the body is not a JSON patch: {e}")))?;
        if operations.len() > MAX_OPERATIONS {
            let found = operations.len();
            let why = format!(
                "a JSON patch may have {MAX_OPERATIONS} operations, and this one has {found}"
            );
            return Err(PatchError::Malformed(why));
        }
        Ok(Self::Json(operations))
    }

    pub(crate) fn apply(&self, kind: &Resource, object: &Value) -> Result<Value, PatchError> {
        let mut object = object.clone();
        match self {
            Self::Json(operations) => operations
                .iter()
                .try_for_each(|o| operate(&mut object, o))?,
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Strategic(patch) => object = strategic::merge(kind, object, patch)?,
        }
        if object.is_object() {
            Ok(object)
        } else {
            Err(PatchError::Unfit("the patch leaves no object".into()))
        }
    }
}

fn operate(object: &mut Value, operation: &PatchOperation) -> Result<(), PatchError> {
    // In Kubernetes an absent field equals null; finalizer helpers rely on it.
    if let PatchOperation::Test(test) = operation
        && test.value.is_null()
        && object.pointer(test.path.as_str()).is_none()
    {
        return Ok(());
    }
    json_patch::patch(object, std::slice::from_ref(operation))
        .map_err(|e| PatchError::Unfit(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(object: &Value, operations: Value) -> Result<Value, PatchError> {
        let kind = crate::resource::tests::of_kind("Pod");
        Patch::json(operations)?.apply(&kind, object)
    }

    #[test]
    fn json_patches() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"x": [1, 2]}});
        let table = [
            (
                json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]),
                Ok(object.clone()),
            ),
            (
                json!([{"op": "add", "path": "/spec/x/-", "value": 3}]),
                Ok(json!({"metadata": {"name": "a"}, "spec": {"x": [1, 2, 3]}})),
            ),
            (
                json!([{"op": "replace", "path": "/spec", "value": {}}, {"op": "add", "path": "/y", "value": 1}]),
                Ok(json!({"metadata": {"name": "a"}, "spec": {}, "y": 1})),
            ),
        ];
        for (operations, want) in table {
            assert_eq!(patched(&object, operations), want);
        }
        for operations in [
            json!([{"op": "test", "path": "/spec/x/0", "value": 9}]),
            json!([{"op": "remove", "path": "/nope"}]),
            json!([{"op": "replace", "path": "", "value": 1}]),
        ] {
            assert!(matches!(
                patched(&object, operations),
                Err(PatchError::Unfit(_))
            ));
        }
        assert!(matches!(
            patched(&object, json!({"op": "x"})),
            Err(PatchError::Malformed(_))
        ));
    }
}
