//! What the gateway asks of the API: the rules of the role that it needs, and nothing else. A test holds its requests against them.

use serde_json::{Value, json};

/// The rules of a ClusterRole. Where one of the kinds may not be read, what belongs to the others is served nevertheless; without
/// Services, EndpointSlices and pods no route changes.
pub fn rules() -> Vec<Value> {
    let watched = [
        ("", &["namespaces", "pods", "secrets", "services"][..]),
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
    let rule = |(group, resources): (&str, &[&str]), verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let watched = watched.map(|one| rule(one, &["list", "watch"]));
    let told = told.map(|one| rule(one, &["patch"]));
    watched.into_iter().chain(told).collect()
}
