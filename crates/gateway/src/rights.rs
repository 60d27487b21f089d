//! What the gateway asks of the API: the rules of the role that it needs, and nothing else. A test holds its requests against them.

use serde_json::{Value, json};

/// The rules of a ClusterRole, without Secrets. Where one of the kinds may not be read, what belongs to the others is served
/// nevertheless; without Services, EndpointSlices and pods no route changes.
pub fn rules() -> Vec<Value> {
    let watched = [
        ("", &["namespaces", "pods", "services"][..]),
        ("discovery.k8s.io", &["endpointslices"]),
        (
            "gateway.networking.k8s.io",
            &[
                "gatewayclasses",
                "gateways",
                "httproutes",
                "referencegrants",
            ],
        ),
        (
            "networking.istio.io",
            &["destinationrules", "virtualservices"],
        ),
        ("networking.k8s.io", &["ingresses"]),
    ];
    let told = [
        ("", &["pods/status", "services/status"][..]),
        (
            "gateway.networking.k8s.io",
            &[
                "gatewayclasses/status",
                "gateways/status",
                "httproutes/status",
            ],
        ),
        (
            "networking.istio.io",
            &["destinationrules/status", "virtualservices/status"],
        ),
        ("networking.k8s.io", &["ingresses/status"]),
    ];
    let watched = watched.map(|one| rule(one, &["list", "watch"]));
    let told = told.map(|one| rule(one, &["patch"]));
    watched.into_iter().chain(told).collect()
}

/// What is needed beside them where certificates of Secrets are used. Rights cannot be told apart by the type of a Secret, so it is
/// every one of them, though only those of type `kubernetes.io/tls` are asked for.
pub fn of_certificates() -> Value {
    rule(("", &["secrets"]), &["list", "watch"])
}

/// What is needed in the namespace of the Service that several gateways are behind: each writes a Lease and reads those of the others.
pub fn of_replicas() -> Value {
    let verbs = ["list", "watch", "create", "patch"];
    rule(("coordination.k8s.io", &["leases"]), &verbs)
}

fn rule((group, resources): (&str, &[&str]), verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}
