//! The roles and bindings that are always there, as a cluster has them: made at the start where they are missing, and given
//! back what was taken out of them unless they say that they are not to be.

use serde::Deserialize;
use serde_json::{Value, json};

use super::rule::Rule;
use super::{AUTHENTICATED, MASTERS, RBAC, UNAUTHENTICATED, review};
use crate::meta;
use crate::tree::Tree;

/// With `false`, an object is left as people have made it.
pub(crate) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
const DISCOVERY: [&str; 11] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Everything, in the form in which it is stored but for what the server fills in.
pub(crate) fn defaults() -> Vec<Value> {
    let mut all = roles().to_vec();
    all.extend(parts());
    all.push(aggregated("view", Some("edit")));
    all.push(aggregated("edit", Some("admin")));
    all.push(aggregated("admin", None));
    for name in ["view", "edit", "admin"] {
        let rules = aggregate(&all, &selectors_of(name));
        if let Some(role) = all.iter_mut().find(|r| r.at("/metadata/name") == name) {
            role.set("rules", json!(rules));
        }
    }
    all.extend(bindings());
    all
}

fn roles() -> [Value; 5] {
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    let ask = |group, resources| rule(group, resources, &["create"]);
    [
        role("cluster-admin", None, everything()),
        role("system:discovery", None, vec![urls(&DISCOVERY)]),
        role("system:public-info-viewer", None, vec![urls(&PUBLIC)]),
        role(
            "system:basic-user",
            None,
            vec![
                ask(review::AUTHORIZATION, &reviews),
                ask(review::AUTHENTICATION, &["selfsubjectreviews"]),
            ],
        ),
        role(
            "system:auth-delegator",
            None,
            vec![
                ask(review::AUTHENTICATION, &["tokenreviews"]),
                ask(review::AUTHORIZATION, &["subjectaccessreviews"]),
            ],
        ),
    ]
}

/// What the roles of people are made of.
fn parts() -> [Value; 5] {
    [
        role("system:aggregate-to-admin", Some("admin"), rules_of_admin()),
        role("system:aggregate-to-edit", Some("edit"), rules_of_edit()),
        role("system:aggregate-to-view", Some("view"), rules_of_view()),
        role("serin:aggregate-to-edit", Some("edit"), own(&WRITE)),
        role("serin:aggregate-to-view", Some("view"), own(&READ)),
    ]
}

fn bindings() -> [Value; 4] {
    [
        binding("cluster-admin", &[MASTERS]),
        binding("system:discovery", &[AUTHENTICATED]),
        binding("system:basic-user", &[AUTHENTICATED]),
        binding(
            "system:public-info-viewer",
            &[AUTHENTICATED, UNAUTHENTICATED],
        ),
    ]
}

/// What must be written so that `present`, the stored object of the same name, has at least what `default` has; `None` when it
/// does, or is not to be changed.
pub(crate) fn mended(default: &Value, present: &Value) -> Option<Value> {
    let is_kept = present.at("/metadata/annotations")[AUTO_UPDATE] == "false";
    if is_kept || default.at("/aggregationRule").is_object() {
        return None;
    }
    let mut mended = present.clone();
    for field in ["rules", "subjects"] {
        let own = present[field]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let wanted = default[field]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let missing: Vec<Value> = wanted
            .iter()
            .filter(|w| !own.contains(w))
            .cloned()
            .collect();
        if !missing.is_empty() {
            mended.set(field, [own, &missing].concat());
        }
    }
    (mended != *present).then_some(mended)
}

/// The rules of the roles among `roles` that any of the selectors picks, each once, in the order of the names of the roles.
pub(crate) fn aggregate<'a>(
    roles: impl IntoIterator<Item = &'a Value>,
    selectors: &Value,
) -> Vec<Rule> {
    let selectors = selectors.as_array().map(Vec::as_slice).unwrap_or_default();
    let picked = |role: &&Value| {
        let labels = role.at("/metadata/labels");
        role.at("/kind") == "ClusterRole" && selectors.iter().any(|s| picks(s, labels))
    };
    let mut parts: Vec<&Value> = roles.into_iter().filter(picked).collect();
    parts.sort_by_key(|role| meta::text(role, "name"));
    let mut rules: Vec<Rule> = Vec::new();
    for role in parts {
        let own: Vec<Rule> = Deserialize::deserialize(role.at("/rules")).unwrap_or_default();
        for rule in own {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// Whether a label selector picks an object of these labels.
fn picks(selector: &Value, labels: &Value) -> bool {
    let equal = selector
        .at("/matchLabels")
        .as_object()
        .into_iter()
        .flatten();
    let expressions = selector
        .at("/matchExpressions")
        .as_array()
        .into_iter()
        .flatten();
    let holds = |expression: &Value| {
        let label = labels.get(expression["key"].as_str().unwrap_or_default());
        let among = || {
            let values = expression["values"].as_array();
            values.is_some_and(|values| label.is_some_and(|label| values.contains(label)))
        };
        match expression["operator"].as_str() {
            Some("In") => among(),
            Some("NotIn") => !among(),
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            _ => false,
        }
    };
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(holds)
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn urls(urls: &[&str]) -> Value {
    json!({"nonResourceURLs": urls, "verbs": ["get"]})
}

fn everything() -> Vec<Value> {
    vec![
        rule("*", &["*"], &["*"]),
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
    ]
}

fn rules_of_admin() -> Vec<Value> {
    let all = [&WRITE[..], &READ].concat();
    vec![
        rule(RBAC, &["roles", "rolebindings"], &all),
        rule(
            "authorization.k8s.io",
            &["localsubjectaccessreviews"],
            &["create"],
        ),
    ]
}

fn rules_of_edit() -> Vec<Value> {
    vec![
        rule("", &["secrets"], &READ),
        rule(
            "",
            &["pods/attach", "pods/exec", "pods/portforward"],
            &[&WRITE[..], &READ].concat(),
        ),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &["serviceaccounts/token", "pods/eviction"], &["create"]),
        rule(
            "",
            &[
                "configmaps",
                "endpoints",
                "events",
                "pods",
                "secrets",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            &WRITE,
        ),
        rule(
            "apps",
            &[
                "deployments",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
            ],
            &WRITE,
        ),
        rule("autoscaling", &["horizontalpodautoscalers"], &WRITE),
        rule("batch", &["cronjobs", "jobs"], &WRITE),
        rule(
            "coordination.k8s.io",
            &["leases"],
            &[&WRITE[..], &READ].concat(),
        ),
        rule("networking.k8s.io", &["ingresses"], &WRITE),
        rule("policy", &["poddisruptionbudgets"], &WRITE),
    ]
}

fn rules_of_view() -> Vec<Value> {
    vec![
        rule(
            "",
            &[
                "configmaps",
                "endpoints",
                "events",
                "namespaces",
                "namespaces/status",
                "pods",
                "pods/log",
                "pods/status",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            &READ,
        ),
        rule(
            "apps",
            &[
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
            ],
            &READ,
        ),
        rule(
            "autoscaling",
            &[
                "horizontalpodautoscalers",
                "horizontalpodautoscalers/status",
            ],
            &READ,
        ),
        rule(
            "batch",
            &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
            &READ,
        ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule(
            "networking.k8s.io",
            &["ingresses", "ingresses/status"],
            &READ,
        ),
        rule(
            "policy",
            &["poddisruptionbudgets", "poddisruptionbudgets/status"],
            &READ,
        ),
    ]
}

/// Rights on the kinds that a cluster does not have by itself.
fn own(verbs: &[&str]) -> Vec<Value> {
    vec![
        rule(
            "argoproj.io",
            &[
                "analysisruns",
                "analysistemplates",
                "experiments",
                "rollouts",
                "rollouts/scale",
                "rollouts/status",
            ],
            verbs,
        ),
        rule(
            "gateway.networking.k8s.io",
            &["gateways", "httproutes", "referencegrants"],
            verbs,
        ),
        rule(
            "networking.istio.io",
            &["destinationrules", "virtualservices"],
            verbs,
        ),
        rule("serin.dev", &["*"], verbs),
    ]
}

fn label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

fn selectors_of(name: &str) -> Value {
    json!([{"matchLabels": {label(name): "true"}}])
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "annotations": {AUTO_UPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    })
}

fn role(name: &str, part_of: Option<&str>, rules: Vec<Value>) -> Value {
    let mut metadata = metadata(name);
    if let Some(part_of) = part_of {
        metadata.map("labels").insert(label(part_of), "true".into());
    }
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": rules})
}

fn aggregated(name: &str, part_of: Option<&str>) -> Value {
    let mut role = role(name, part_of, Vec::new());
    role.set(
        "aggregationRule",
        json!({"clusterRoleSelectors": selectors_of(name)}),
    );
    role
}

/// The role of the same name, given to groups.
fn binding(name: &str, groups: &[&str]) -> Value {
    let subjects = groups
        .iter()
        .map(|group| json!({"apiGroup": RBAC, "kind": "Group", "name": group}));
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata(name),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": subjects.collect::<Vec<_>>(),
    })
}
