//! The objects that each Rollout names in its strategy: who asks whether a change of an object concerns a Rollout asks each of
//! them, so it is read out of a spec once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use serde_json::Value;
use serin_api::rollout::Rollout;

/// Rollouts whose names are remembered; beyond that they are read anew.
const MOST: usize = 65_536;

/// The texts of a strategy, and the generation that has them.
type Texts = (Option<i64>, BTreeSet<String>);

/// What Rollouts name, by their uid.
#[derive(Clone, Default)]
pub(crate) struct Named(Arc<Mutex<BTreeMap<String, Texts>>>);

impl Named {
    /// Whether this text stands anywhere in the strategy of a Rollout, or names its workload. A look too many costs little, a
    /// look too few stops a release.
    pub(super) fn has(&self, rollout: &Rollout, name: &str) -> bool {
        let (uid, generation) = (
            rollout.uid().unwrap_or_default(),
            rollout.metadata.generation,
        );
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, texts)) = known.get(&uid).filter(|_| !uid.is_empty())
            && *of == generation
        {
            return texts.contains(name);
        }
        let spec = &rollout.spec;
        let named = serde_json::to_value((&spec.strategy, &spec.workload_ref));
        let mut texts = BTreeSet::new();
        collect(&named.unwrap_or_default(), &mut texts);
        let has = texts.contains(name);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(uid, (generation, texts));
        has
    }
}

fn collect(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(texts.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_spec_is_read_again() {
        let rollout = |generation: i64, service: &str| -> Rollout {
            let object = json!({
                "metadata": {"name": "web", "uid": "1", "generation": generation},
                "spec": {
                    "selector": {}, "workloadRef": {"kind": "Deployment", "name": "app"},
                    "strategy": {"canary": {"stableService": service, "steps": [
                        {"analysis": {"templates": [{"templateName": "errors"}]}},
                    ]}},
                },
            });
            serde_json::from_value(object).unwrap()
        };
        let named = Named::default();
        let first = rollout(1, "old");
        for (name, is_named) in [
            ("old", true),
            ("errors", true),
            ("app", true),
            ("ol", false),
        ] {
            assert_eq!(named.has(&first, name), is_named, "{name}");
        }
        let second = rollout(2, "new");
        assert!(named.has(&second, "new") && !named.has(&second, "old"));
    }
}
