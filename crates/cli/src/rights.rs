//! What each part of a platform does, and nothing else: the rules of the roles that `serin install` writes for a cluster, and of
//! those that the parts of `serin up` have. Tests hold what the parts ask against them.

use serde_json::{Value, json};

const READ: &[&str] = &["get", "list", "watch"];
const SET: &[&str] = &["get", "list", "watch", "update", "patch"];
const MADE: &[&str] = &["get", "list", "watch", "create", "delete"];
const OWN: &[&str] = &[
    "get", "list", "watch", "create", "update", "patch", "delete",
];
const WRITE: &[&str] = &["update", "patch"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// Of the controllers of Rollouts, on any cluster.
pub(crate) fn of_rollouts() -> Vec<Value> {
    vec![
        rule(
            "argoproj.io",
            &["rollouts", "analysistemplates", "clusteranalysistemplates"],
            READ,
        ),
        rule("argoproj.io", &["rollouts", "rollouts/status"], WRITE),
        rule("argoproj.io", &["analysisruns", "experiments"], OWN),
        rule(
            "argoproj.io",
            &["analysisruns/status", "experiments/status"],
            WRITE,
        ),
        rule("apps", &["replicasets"], OWN),
        rule("serin.dev", &["releasepolicies"], READ),
        rule("apps", &["deployments"], &["get", "list", "watch", "patch"]),
        rule("", &["pods"], &["get", "list", "watch", "patch", "delete"]),
        rule("", &["pods/eviction"], &["create"]),
        rule("", &["podtemplates"], &["get"]),
        rule("", &["services"], OWN),
        rule("", &["events"], &["create", "patch"]),
        // Those that a template mounts or reads are copied for each of its revisions, when a policy asks for it.
        rule("", &["configmaps", "secrets"], MADE),
        rule("batch", &["jobs"], MADE),
        rule("networking.k8s.io", &["ingresses"], OWN),
        rule("gateway.networking.k8s.io", &["httproutes"], SET),
        rule(
            "networking.istio.io",
            &["virtualservices", "destinationrules"],
            SET,
        ),
    ]
}

/// Of all controllers of one machine: those of Kubernetes' own kinds too, which a cluster has itself.
pub(crate) fn of_controllers() -> Vec<Value> {
    let mut rules = of_rollouts();
    rules.extend([
        rule("", &["pods"], &["create"]),
        rule("", &["endpoints"], OWN),
        rule("discovery.k8s.io", &["endpointslices"], OWN),
        rule("apps", &["deployments/status", "replicasets/status"], WRITE),
        rule("batch", &["cronjobs"], READ),
        rule("batch", &["jobs/status", "cronjobs/status"], WRITE),
        rule("policy", &["poddisruptionbudgets"], READ),
        rule("policy", &["poddisruptionbudgets/status"], WRITE),
    ]);
    rules
}

/// Of the node of one machine.
pub(crate) fn of_node() -> Vec<Value> {
    vec![
        rule("", &["nodes"], &["get", "create"]),
        rule("", &["nodes/status"], &["update"]),
        rule("", &["pods"], &["get", "list", "watch", "delete"]),
        rule("", &["pods/status"], &["update"]),
        rule("", &["pods/binding"], &["create"]),
        // Those that its pods read.
        rule("", &["configmaps", "secrets"], &["get"]),
        rule("", &["events"], &["create", "patch"]),
    ]
}
