//! ReleasePolicies.

use super::field::Field;
use super::metadata;
use crate::Problem;
use crate::release::{self, ReleasePolicySpec};

/// What a policy means is said by [`release::lower`], on which decisions are made too.
pub(super) fn policy(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if !spec.is_there() {
        out.push(spec.required("say what the policy asks for"));
        return;
    }
    metadata::selector(&spec.get("selector"), out);
    let raw = spec
        .value
        .map(|value| serde_json::from_value::<ReleasePolicySpec>(value.clone()));
    // One that does not have the structure is told apart.
    if let Some(Ok(raw)) = raw {
        out.extend(release::lower(&raw).1);
    }
}
