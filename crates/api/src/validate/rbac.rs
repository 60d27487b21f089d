//! Roles and their bindings.

use super::field::Field;
use super::names;
use crate::Problem;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(root: &Field<'_>, out: &mut Vec<Problem>) {
    rules(root, true, out);
}

pub(super) fn cluster_role(root: &Field<'_>, out: &mut Vec<Problem>) {
    rules(root, false, out);
    let aggregation = root.get("aggregationRule");
    let selectors = aggregation.get("clusterRoleSelectors");
    if aggregation.is_there() && selectors.items().next().is_none() {
        out.push(
            selectors.required(
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ),
        );
    }
    for selector in selectors.items() {
        super::metadata::selector(&selector, out);
    }
}

pub(super) fn role_binding(root: &Field<'_>, out: &mut Vec<Problem>) {
    role_ref(root, &["Role", "ClusterRole"], out);
    subjects(root, out);
}

pub(super) fn cluster_role_binding(root: &Field<'_>, out: &mut Vec<Problem>) {
    role_ref(root, &["ClusterRole"], out);
    subjects(root, out);
}

fn rules(root: &Field<'_>, namespaced: bool, out: &mut Vec<Problem>) {
    for rule in root.get("rules").items() {
        let verbs = rule.get("verbs");
        if verbs.items().next().is_none() {
            out.push(verbs.required("verbs must contain at least one value"));
        }
        let (groups, resources) = (rule.get("apiGroups"), rule.get("resources"));
        let names = rule.get("resourceNames");
        let urls = rule.get("nonResourceURLs");
        let any = |field: &Field<'_>| field.items().next().is_some();
        if any(&urls) {
            if namespaced {
                out.push(urls.invalid_list("namespaced rules cannot apply to non-resource URLs"));
            }
            if any(&groups) || any(&resources) || any(&names) {
                out.push(urls.invalid_list(
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if !any(&groups) {
            out.push(groups.required("resource rules must supply at least one api group"));
        }
        if !any(&resources) {
            out.push(resources.required("resource rules must supply at least one resource"));
        }
    }
}

fn role_ref(root: &Field<'_>, kinds: &[&str], out: &mut Vec<Problem>) {
    let role = root.get("roleRef");
    role.get("apiGroup").one_of(&[GROUP], out);
    role.get("kind").one_of(kinds, out);
    let name = role.get("name");
    if name.is_empty() {
        out.push(name.required(""));
    } else if let Some(why) = name.text().and_then(names::path_segment) {
        out.push(name.invalid(why));
    }
}

fn subjects(root: &Field<'_>, out: &mut Vec<Problem>) {
    for subject in root.get("subjects").items() {
        let name = subject.get("name");
        if name.is_empty() {
            out.push(name.required(""));
        }
        let group = subject.get("apiGroup");
        match subject.get("kind").text_or_empty() {
            "ServiceAccount" => {
                if let Some(why) = name.text().and_then(names::subdomain) {
                    out.push(name.invalid(why));
                }
                group.one_of(&[""], out);
                let namespace = subject.get("namespace");
                if namespace.is_empty() {
                    out.push(namespace.required(""));
                }
            }
            "User" | "Group" => group.one_of(&[GROUP], out),
            _ => subject
                .get("kind")
                .one_of(&["ServiceAccount", "User", "Group"], out),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use crate::{defaults, kinds, validate};

    fn check(kind: &str, mut object: Value, want: Expect) {
        let kind = kinds::find("rbac.authorization.k8s.io", "v1", kind).unwrap();
        object["metadata"] = json!({"name": "system:x"});
        if kind.namespaced {
            object["metadata"]["namespace"] = json!("default");
        }
        defaults::apply(kind, &mut object);
        let told = validate::check(kind, &object);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        want.assert_eq(&told.join("\n"));
    }

    #[test]
    fn rules() {
        let rules = json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": [], "apiGroups": [""]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]},
        ]});
        check(
            "Role",
            rules.clone(),
            expect![[r#"
            rules[1].verbs: Required value: verbs must contain at least one value
            rules[1].resources: Required value: resource rules must supply at least one resource
            rules[2].nonResourceURLs: Invalid value: the list: namespaced rules cannot apply to non-resource URLs
            rules[3].nonResourceURLs: Invalid value: the list: namespaced rules cannot apply to non-resource URLs"#]],
        );
        check(
            "ClusterRole",
            rules,
            expect![[r#"
            rules[1].verbs: Required value: verbs must contain at least one value
            rules[1].resources: Required value: resource rules must supply at least one resource
            rules[3].nonResourceURLs: Invalid value: the list: rules cannot apply to both regular resources and non-resource URLs"#]],
        );
        check(
            "ClusterRole",
            json!({"aggregationRule": {}}),
            expect![
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ],
        );
    }

    #[test]
    fn bindings() {
        let role = json!({"kind": "Role", "name": "x"});
        let subjects = json!([
            {"kind": "User", "name": "jane"}, {"kind": "Group", "name": "devs"},
            {"kind": "ServiceAccount", "name": "builder", "namespace": "ci"},
            {"kind": "ServiceAccount", "name": "builder"},
            {"kind": "User"}, {"kind": "Robot", "name": "r2"},
        ]);
        let binding = json!({"roleRef": role, "subjects": subjects});
        check(
            "RoleBinding",
            binding.clone(),
            expect![[r#"
            subjects[4].name: Required value
            subjects[3].namespace: Required value
            subjects[5].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#]],
        );
        check(
            "ClusterRoleBinding",
            binding,
            expect![[r#"
            subjects[4].name: Required value
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            subjects[3].namespace: Required value
            subjects[5].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#]],
        );
        check("RoleBinding", json!({}), expect!["roleRef: Required value"]);
    }
}
