//! Which ReleasePolicy governs a Rollout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serin_api::keys::annotation;
use serin_api::release::{Policy, ReleasePolicySpec, lower};
use serin_api::rollout::Undo;
use serin_api::units::RevisionHash;
use serin_api::{FieldPath, Severity};

use crate::workload::Selector;

/// What governs the releases of a Rollout beyond its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Governed {
    /// As it is decided on; where there is a problem, that of Argo Rollouts.
    pub policy: Policy,
    /// Why it is not known what governs it: nothing new begins until it is.
    pub problems: Vec<String>,
    /// The revision to which an emergency leads, with no steps whatever the policy says.
    pub emergency: Option<RevisionHash>,
    /// Who last went back, as a client told it.
    pub undo: Option<Undo>,
}

/// Finds what governs a Rollout among the policies of its namespace: the one that it names, else the one that selects it. None
/// at all leaves it as Argo Rollouts has it; more than one that selects it is a problem, as no order among them is told.
pub fn govern<'a>(
    rollout: &ObjectMeta,
    policies: impl Iterator<Item = (&'a str, &'a ReleasePolicySpec)>,
) -> Governed {
    let annotated = |key: &str| rollout.annotations.as_ref().and_then(|all| all.get(key));
    let named = annotated(annotation::RELEASE_POLICY).map(String::as_str);
    let governed = chosen(rollout, named, policies);
    Governed {
        undo: annotated(annotation::UNDO).and_then(|text| serde_json::from_str(text).ok()),
        emergency: annotated(annotation::EMERGENCY).map(RevisionHash::new),
        ..governed
    }
}

fn chosen<'a>(
    rollout: &ObjectMeta,
    named: Option<&str>,
    policies: impl Iterator<Item = (&'a str, &'a ReleasePolicySpec)>,
) -> Governed {
    let at = format!("metadata.annotations[{}]", annotation::RELEASE_POLICY);
    let mut found: Vec<_> = policies
        .filter(|(name, spec)| match named {
            Some(wanted) => wanted == *name,
            None => selects(spec, rollout),
        })
        .collect();
    found.sort_by_key(|(name, _)| *name);
    match (found.as_slice(), named) {
        ([], None) => Governed::default(),
        ([], Some(name)) => unknown(format!(
            "{at}: Invalid value: {name:?}: ReleasePolicy {name:?} not found"
        )),
        ([(name, spec)], _) => checked(name, spec),
        (several, _) => {
            let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            unknown(format!(
                "{at}: Required value: the ReleasePolicies {names} select this Rollout: name one of them"
            ))
        }
    }
}

fn selects(spec: &ReleasePolicySpec, rollout: &ObjectMeta) -> bool {
    let labels = rollout.labels.clone().unwrap_or_default();
    let path = FieldPath::new("spec.selector");
    let selector = spec
        .selector
        .as_ref()
        .and_then(|selector| Selector::parse(selector, &path).ok());
    selector.is_some_and(|selector| selector.matches(&labels))
}

fn checked(name: &str, spec: &ReleasePolicySpec) -> Governed {
    let (policy, problems) = lower(spec);
    let stopping = problems
        .iter()
        .filter(|p| p.severity != Severity::Warning)
        .map(|problem| format!("ReleasePolicy {name:?}: {problem}"));
    let problems: Vec<_> = stopping.collect();
    if problems.is_empty() {
        Governed {
            policy,
            ..Governed::default()
        }
    } else {
        Governed {
            problems,
            ..Governed::default()
        }
    }
}

fn unknown(problem: String) -> Governed {
    Governed {
        problems: vec![problem],
        ..Governed::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(rollout: Value, policies: &[(&str, Value)], expected: Expect) {
        let rollout = serde_json::from_value(rollout).unwrap();
        let specs: Vec<(&str, ReleasePolicySpec)> = policies
            .iter()
            .map(|(name, spec)| (*name, serde_json::from_value(spec.clone()).unwrap()))
            .collect();
        let governed = govern(&rollout, specs.iter().map(|(name, spec)| (*name, spec)));
        let held = governed.policy.hold_rejected;
        expected.assert_eq(&format!("held: {held}; {:?}", governed.problems));
    }

    #[test]
    fn the_one_that_is_named_else_the_one_that_selects() {
        let hold = json!({"selector": {"matchLabels": {"tier": "web"}}, "rollback": {"holdRejected": true}});
        let plain = json!({"selector": {}});
        let web = json!({"name": "shop", "labels": {"tier": "web"}});
        check(web.clone(), &[], expect!["held: false; []"]);
        check(
            web.clone(),
            &[("a", hold.clone())],
            expect!["held: true; []"],
        );
        let other = json!({"name": "shop", "labels": {"tier": "batch"}});
        check(other, &[("a", hold.clone())], expect!["held: false; []"]);
        let both = [("b", plain), ("a", hold)];
        check(
            web,
            &both,
            expect![[
                r#"held: false; ["metadata.annotations[serin.dev/release-policy]: Required value: the ReleasePolicies a, b select this Rollout: name one of them"]"#
            ]],
        );
        let naming =
            |name: &str| json!({"name": "shop", "annotations": {"serin.dev/release-policy": name}});
        check(naming("a"), &both, expect!["held: true; []"]);
        check(
            naming("c"),
            &both,
            expect![[
                r#"held: false; ["metadata.annotations[serin.dev/release-policy]: Invalid value: \"c\": ReleasePolicy \"c\" not found"]"#
            ]],
        );
        check(
            naming("bad"),
            &[("bad", json!({"bake": {}}))],
            expect![[
                r#"held: false; ["ReleasePolicy \"bad\": spec.bake.duration: Required value: such as 30m"]"#
            ]],
        );
    }
}
