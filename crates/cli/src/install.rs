//! `serin crds` and `serin install`: what a cluster needs to run the controllers, as manifests on stdout.
//!
//! Absent on purpose: applying them. They go through `kubectl apply`, a repository or a review, as everything else does.

use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::CliError;

mod gateway;

/// The name of everything that is installed.
const NAME: &str = "serin-controller";
const HEALTH_PORT: u16 = 8081;

/// What is installed.
#[derive(Clone, Debug, Args)]
pub(crate) struct InstallArgs {
    /// The image of the controllers, with its registry
    #[arg(long, value_name = "IMAGE", default_value = concat!("ghcr.io/serin-cd/serin:v", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Processes of which one leads and the others wait to take its place
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    replicas: u8,
    /// Look after the Rollouts of the namespace of -n alone, with no right anywhere else
    #[arg(long)]
    namespaced: bool,
    /// The only hosts that metrics of analyses and gates are asked of, as HOST, HOST:PORT or *.DOMAIN, private ones too; may be
    /// given several times
    #[arg(long, value_name = "HOST")]
    metrics_host: Vec<String>,
    /// With the default ClusterAnalysisTemplates; a cluster takes them only once it has the definitions (`serin crds`)
    #[arg(long, conflicts_with = "namespaced")]
    analysis_templates: bool,
    /// With a gateway that serves Gateways of the class "serin", HTTPRoutes, Ingresses and routes of Istio
    #[arg(long, conflicts_with = "namespaced")]
    gateway: bool,
    /// With HTTPS at the gateway, whose certificates are Secrets: it may then read every Secret of the cluster
    #[arg(long, requires = "gateway")]
    gateway_tls: bool,
    /// Processes of the gateway; a change counts as served once all of them serve it
    #[arg(long, value_name = "N", default_value_t = 1, requires = "gateway", value_parser = clap::value_parser!(u8).range(1..))]
    gateway_replicas: u8,
    /// Without the CustomResourceDefinitions, which are of the whole cluster
    #[arg(long)]
    without_crds: bool,
}

/// Prints the definitions of our kinds.
pub(crate) fn crds(context: &Context) -> Result<(), CliError> {
    print(context, &serin_api::crd::definitions())
}

/// Prints everything that the controllers need.
pub(crate) fn install(context: &Context, args: &InstallArgs) -> Result<(), CliError> {
    let namespace = context.namespace.as_deref().unwrap_or("serin-system");
    let mut objects = Vec::new();
    if !args.without_crds {
        objects.extend(serin_api::crd::definitions());
    }
    objects.extend(manifests(namespace, args));
    if args.gateway {
        objects.extend(gateway::manifests(namespace, args));
    }
    if args.analysis_templates {
        objects.extend(crate::analysis_templates::manifests());
    }
    print(context, &objects)
}

fn print(context: &Context, objects: &[Value]) -> Result<(), CliError> {
    for object in objects {
        let yaml = serde_saphyr::to_string(object)
            .map_err(|error| CliError::failed(format!("cannot write YAML: {error}")))?;
        context.printer.raw(format!("---\n{yaml}").as_bytes())?;
    }
    Ok(())
}

fn manifests(namespace: &str, args: &InstallArgs) -> Vec<Value> {
    let (role, binding) = if args.namespaced {
        ("Role", "RoleBinding")
    } else {
        ("ClusterRole", "ClusterRoleBinding")
    };
    let scope = args.namespaced.then_some(namespace);
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, Some(namespace))}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": role,
            "metadata": metadata(NAME, scope),
            "rules": crate::rights::of_rollouts(),
        }),
        bound(binding, role, NAME, (NAME, namespace), scope),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata("serin-leader", Some(namespace)),
            "rules": [
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [NAME], "verbs": ["get", "update"]},
            ],
        }),
        bound(
            "RoleBinding",
            "Role",
            "serin-leader",
            (NAME, namespace),
            Some(namespace),
        ),
        deployment(namespace, args),
    ]
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let labels = json!({"app.kubernetes.io/name": "serin"});
    match namespace {
        Some(namespace) => json!({"name": name, "namespace": namespace, "labels": labels}),
        None => json!({"name": name, "labels": labels}),
    }
}

/// A role bound to a ServiceAccount, which is its name and its namespace.
fn bound(
    kind: &str,
    role: &str,
    name: &str,
    (account, namespace): (&str, &str),
    scope: Option<&str>,
) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(name, scope),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn deployment(namespace: &str, args: &InstallArgs) -> Value {
    let labels =
        json!({"app.kubernetes.io/name": "serin", "app.kubernetes.io/component": "controller"});
    let mut arguments = vec!["controller".to_owned()];
    if args.namespaced {
        arguments.push(format!("--namespace={namespace}"));
    }
    arguments.push(format!("--lease-namespace={namespace}"));
    arguments.extend(
        args.metrics_host
            .iter()
            .map(|host| format!("--metrics-host={host}")),
    );
    arguments.push(format!("--health-listen=0.0.0.0:{HEALTH_PORT}"));
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": "health"}, "periodSeconds": 10});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, Some(namespace)),
        "spec": {
            "replicas": args.replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "controller",
                        "image": args.image,
                        "args": arguments,
                        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
                        "livenessProbe": probe("/livez"),
                        "readinessProbe": probe("/readyz"),
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]},
                            "readOnlyRootFilesystem": true,
                        },
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
