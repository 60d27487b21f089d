//! DestinationRules of Istio: the labels of a subset say which revision it leads to.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Value, json};
use serin_api::istio::DestinationRule;
use serin_api::keys::{annotation, label};
use serin_api::units::RevisionHash;
use serin_engine::rollout::ServiceView;

/// What is seen of each subset; `like` has what holds for all of them.
pub(super) fn view(rule: &DestinationRule, like: &ServiceView) -> BTreeMap<String, ServiceView> {
    let subsets = rule.spec.subsets.iter().map(|subset| {
        let revision = subset.labels.get(label::ROLLOUT_POD_TEMPLATE_HASH);
        let view = ServiceView {
            revision: revision.map(RevisionHash::new),
            ..like.clone()
        };
        (subset.name.clone(), view)
    });
    subsets.collect()
}

/// A JSON Patch that points a subset at a revision. It does not depend on the version of the object, as both subsets may be set in one
/// pass, but on the place of the subset.
pub(super) fn patch(
    rule: &DestinationRule,
    subset: &str,
    revision: &RevisionHash,
    rollout: &str,
) -> Value {
    let mut ops = Vec::new();
    let all = rule.spec.subsets.iter().enumerate();
    for (at, found) in all.filter(|(_, found)| found.name == subset) {
        let path = format!("/spec/subsets/{at}");
        ops.push(json!({"op": "test", "path": format!("{path}/name"), "value": subset}));
        let key = label::ROLLOUT_POD_TEMPLATE_HASH;
        if found.labels.is_empty() {
            let labels = json!({key: revision.as_str()});
            ops.push(json!({"op": "add", "path": format!("{path}/labels"), "value": labels}));
        } else {
            let path = format!("{path}/labels/{key}");
            ops.push(json!({"op": "add", "path": path, "value": revision.as_str()}));
        }
    }
    let key = annotation::MANAGED_BY_ROLLOUTS;
    if rule.metadata.annotations.is_none() {
        let value = json!({key: rollout});
        ops.push(json!({"op": "add", "path": "/metadata/annotations", "value": value}));
    } else if rule.annotations().get(key).map(String::as_str) != Some(rollout) {
        let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        ops.push(json!({"op": "add", "path": path, "value": rollout}));
    }
    Value::Array(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API would store it.
    fn patched(rule: &DestinationRule, subset: &str, revision: &str) -> Value {
        let mut object = serde_json::to_value(rule).unwrap();
        let patch = patch(rule, subset, &RevisionHash::new(revision), "web");
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        object
    }

    #[test]
    fn a_subset_is_pointed_at_a_revision_and_all_else_stays() {
        let rule: DestinationRule = super::super::of_users("DestinationRule");
        let one = patched(&rule, "v1", "aaa");
        let both = patched(&serde_json::from_value(one).unwrap(), "v2", "bbb");
        let subsets = json!([
            {"name": "v1", "labels": {"version": "v1", "rollouts-pod-template-hash": "aaa"}},
            {"name": "v2", "labels": {"version": "v2", "rollouts-pod-template-hash": "bbb"}},
        ]);
        assert_eq!(both["spec"]["subsets"], subsets);
        assert_eq!(both["spec"]["host"], "web-app-service");
        let rule: DestinationRule = serde_json::from_value(both).unwrap();
        assert_eq!(
            rule.annotations()[annotation::MANAGED_BY_ROLLOUTS],
            "web".to_owned()
        );
        let seen = view(&rule, &ServiceView::default());
        assert_eq!(seen["v2"].revision, Some(RevisionHash::new("bbb")));
    }

    #[test]
    fn a_subset_without_labels_gets_some() {
        let spec = json!({"host": "web", "subsets": [{"name": "stable"}]});
        let rule = DestinationRule::new("web", serde_json::from_value(spec).unwrap());
        let after = patched(&rule, "stable", "aaa");
        let labels = json!({"rollouts-pod-template-hash": "aaa"});
        assert_eq!(after["spec"]["subsets"][0]["labels"], labels);
    }
}
