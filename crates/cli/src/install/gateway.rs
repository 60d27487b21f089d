//! What a cluster needs to run the gateway: its rights, its processes, the Service in front of them and the class of
//! Gateways and Ingresses.

use serde_json::{Value, json};

use super::{InstallArgs, bound, metadata};

/// The name of everything that is installed for the gateway.
pub(super) const NAME: &str = "serin-gateway";
const COMPONENT: &str = "gateway";
/// The class of Gateways and of Ingresses.
const CLASS: &str = "serin";
/// The state directory, for the last good routes.
const HOME: &str = "/var/lib/serin";
/// Where the gateway listens in its pod: for HTTP, for HTTPS, and for what is asked of itself.
const PORTS: [(&str, u16); 3] = [("http", 8080), ("https", 8443), ("admin", 9090)];

/// Its objects in their order.
pub(super) fn manifests(namespace: &str, args: &InstallArgs) -> Vec<Value> {
    let mut rules = serin_gateway::rights::rules();
    rules.extend(
        args.gateway_tls
            .then(serin_gateway::rights::of_certificates),
    );
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, Some(namespace))}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata(NAME, None),
            "rules": rules,
        }),
        bound(
            "ClusterRoleBinding",
            "ClusterRole",
            NAME,
            (NAME, namespace),
            None,
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata(NAME, Some(namespace)),
            "rules": [serin_gateway::rights::of_replicas()],
        }),
        bound(
            "RoleBinding",
            "Role",
            NAME,
            (NAME, namespace),
            Some(namespace),
        ),
        deployment(namespace, args),
        service(namespace, args.gateway_tls),
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": metadata(CLASS, None),
            "spec": {"controller": serin_api::keys::GATEWAY_CONTROLLER},
        }),
        // The last one: a cluster takes it once it has the definitions of Gateway API.
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": metadata(CLASS, None),
            "spec": {"controllerName": serin_api::keys::GATEWAY_CONTROLLER},
        }),
    ]
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "serin", "app.kubernetes.io/component": COMPONENT})
}

fn service(namespace: &str, tls: bool) -> Value {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": name});
    let mut ports = vec![port("http", 80)];
    ports.extend(tls.then(|| port("https", 443)));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(NAME, Some(namespace)),
        "spec": {
            "type": "LoadBalancer",
            "selector": labels(),
            "ports": ports,
        },
    })
}

fn deployment(namespace: &str, args: &InstallArgs) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, Some(namespace)),
        "spec": {
            "replicas": args.gateway_replicas,
            "selector": {"matchLabels": labels()},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationGracePeriodSeconds": 60,
                    "containers": [container(namespace, args)],
                    "volumes": [{"name": "state", "emptyDir": {}}],
                },
            },
        },
    })
}

fn container(namespace: &str, args: &InstallArgs) -> Value {
    let [http, https, admin] = PORTS.map(|(_, port)| format!("0.0.0.0:{port}"));
    let served = PORTS
        .iter()
        .filter(|(name, _)| args.gateway_tls || *name != "https");
    let ports = served.map(|(name, port)| json!({"name": name, "containerPort": port}));
    let ports: Vec<_> = ports.collect();
    let mut words = vec![
        "gateway".to_owned(),
        "serve".to_owned(),
        format!("--listen={http}"),
        format!("--admin-listen={admin}"),
        format!("--service={namespace}/{NAME}"),
        // Set by the kubelet.
        "--replica=$(POD_NAME)".to_owned(),
        format!("--ingress-class={CLASS}"),
        // For so long connections may come from where the end of the pod is not known yet.
        "--stop-delay=10s".to_owned(),
    ];
    words.extend(args.gateway_tls.then(|| format!("--tls-listen={https}")));
    let probe = |path: &str, period: u8| {
        let get = json!({"path": path, "port": "admin"});
        json!({"httpGet": get, "periodSeconds": period})
    };
    json!({
        "name": COMPONENT,
        "image": args.image,
        "args": words,
        "env": [
            {"name": "SERIN_HOME", "value": HOME},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": ports,
        "livenessProbe": probe("/healthz", 10),
        "readinessProbe": probe("/readyz", 2),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{"name": "state", "mountPath": HOME}],
    })
}
