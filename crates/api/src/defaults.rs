//! The values of absent fields, as a cluster writes them into an object before it is stored.
//!
//! Absent on purpose: what depends on other objects or on chance, such as addresses, names and times; and the spec of our own
//! kinds, whose defaults are no part of the object.

mod base64;
mod pod;

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::schema;

/// Fills in the defaults of a kind. Fields that are null count as absent and are taken out. Doing it twice is harmless; fields
/// of the wrong type are left alone.
pub fn apply(kind: &Kind, object: &mut Value) {
    schema::without_nulls(schema::of(kind), object);
    let Some(root) = object.as_object_mut() else {
        return;
    };
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::pod(root),
        ("apps", "Deployment") => deployment(root),
        ("apps", "ReplicaSet") => replica_set(root),
        ("batch", "Job") => job(root),
        ("batch", "CronJob") => cron_job(root),
        ("autoscaling", "HorizontalPodAutoscaler") if kind.version == "v1" => autoscaler_v1(root),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(root),
        ("", "Service") => service(root),
        ("", "Endpoints") => endpoints(root),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(root),
        ("", "Secret") => secret(root),
        ("", "Namespace") => namespace(root),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(root),
        ("gateway.networking.k8s.io", "HTTPRoute") => http_route(root),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(root),
        _ => {}
    }
}

/// Fills in the defaults of a pod template, as a ReplicaSet that is stored carries them.
pub fn pod_template(template: &mut Value) {
    let mut owner = Map::new();
    owner.insert("template".to_owned(), template.take());
    pod::template(&mut owner);
    *template = owner.remove("template").unwrap_or_default();
}

fn deployment(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else {
        return;
    };
    absent(spec, "replicas", json!(1));
    absent(spec, "revisionHistoryLimit", json!(10));
    absent(spec, "progressDeadlineSeconds", json!(600));
    if let Some(strategy) = object_or_new(spec, "strategy") {
        absent(strategy, "type", json!("RollingUpdate"));
        if strategy.get("type") == Some(&json!("RollingUpdate"))
            && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
        {
            absent(rolling, "maxSurge", json!("25%"));
            absent(rolling, "maxUnavailable", json!("25%"));
        }
    }
    pod::template(spec);
}

fn replica_set(root: &mut Map<String, Value>) {
    if let Some(spec) = object(root, "spec") {
        absent(spec, "replicas", json!(1));
        pod::template(spec);
    }
}

fn job(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else {
        return;
    };
    if !spec.contains_key("parallelism") {
        absent(spec, "completions", json!(1));
    }
    absent(spec, "parallelism", json!(1));
    absent(spec, "backoffLimit", json!(6));
    absent(spec, "completionMode", json!("NonIndexed"));
    absent(spec, "suspend", json!(false));
    absent(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    pod::template(spec);
}

fn cron_job(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else {
        return;
    };
    absent(spec, "concurrencyPolicy", json!("Allow"));
    absent(spec, "suspend", json!(false));
    absent(spec, "successfulJobsHistoryLimit", json!(3));
    absent(spec, "failedJobsHistoryLimit", json!(1));
    if let Some(template) = object(spec, "jobTemplate")
        && let Some(job) = object(template, "spec")
    {
        pod::template(job);
    }
}

fn autoscaler(root: &mut Map<String, Value>) {
    if let Some(spec) = object(root, "spec") {
        absent(spec, "minReplicas", json!(1));
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        absent(spec, "metrics", json!([cpu]));
    }
}

/// The first version has one metric only; the annotation tells that there are others.
fn autoscaler_v1(root: &mut Map<String, Value>) {
    let metadata = root.get("metadata").unwrap_or(&Value::Null);
    let others = metadata.get("annotations").is_some_and(|all| {
        all.get(crate::keys::annotation::AUTOSCALING_V2)
            .is_some_and(Value::is_string)
    });
    if let Some(spec) = object(root, "spec") {
        absent(spec, "minReplicas", json!(1));
        if !others {
            absent(spec, "targetCPUUtilizationPercentage", json!(80));
        }
    }
}

fn service(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else {
        return;
    };
    absent(spec, "type", json!("ClusterIP"));
    absent(spec, "sessionAffinity", json!("None"));
    if spec.get("type") != Some(&json!("ExternalName")) {
        absent(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    for port in objects(spec, "ports") {
        absent(port, "protocol", json!("TCP"));
        let target = port.get("targetPort");
        let given = target.is_some_and(|t| *t != json!(0) && *t != json!(""));
        if !given && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

fn endpoints(root: &mut Map<String, Value>) {
    for subset in objects(root, "subsets") {
        for port in objects(subset, "ports") {
            absent(port, "protocol", json!("TCP"));
        }
    }
}

fn endpoint_slice(root: &mut Map<String, Value>) {
    for port in objects(root, "ports") {
        absent(port, "name", json!(""));
        absent(port, "protocol", json!("TCP"));
    }
}

/// Text is written for convenience and never stored as such.
fn secret(root: &mut Map<String, Value>) {
    absent(root, "type", json!("Opaque"));
    if !root.get("stringData").is_some_and(Value::is_object) {
        return;
    }
    let Some(Value::Object(text)) = root.remove("stringData") else {
        return;
    };
    let Some(data) = object_or_new(root, "data") else {
        return;
    };
    for (key, value) in text {
        let encoded = base64::encode(value.as_str().unwrap_or_default().as_bytes());
        data.insert(key, Value::String(encoded));
    }
}

fn namespace(root: &mut Map<String, Value>) {
    if let Some(metadata) = object(root, "metadata")
        && let Some(name) = metadata.get("name").cloned()
        && let Some(labels) = object_or_new(metadata, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
    if let Some(status) = object_or_new(root, "status") {
        absent(status, "phase", json!("Active"));
    }
}

fn definition(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else {
        return;
    };
    if let Some(conversion) = object_or_new(spec, "conversion") {
        absent(conversion, "strategy", json!("None"));
    }
    let Some(names) = object(spec, "names") else {
        return;
    };
    if let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned) {
        absent(names, "singular", json!(kind.to_lowercase()));
        absent(names, "listKind", json!(format!("{kind}List")));
    }
}

fn http_route(root: &mut Map<String, Value>) {
    let Some(spec) = object_or_new(root, "spec") else {
        return;
    };
    for parent in objects(spec, "parentRefs") {
        absent(parent, "group", json!("gateway.networking.k8s.io"));
        absent(parent, "kind", json!("Gateway"));
    }
    absent(spec, "rules", json!([{}]));
    for rule in objects(spec, "rules") {
        absent(rule, "matches", json!([{}]));
        for one in objects(rule, "matches") {
            if let Some(path) = object_or_new(one, "path") {
                absent(path, "type", json!("PathPrefix"));
                absent(path, "value", json!("/"));
            }
            for list in ["headers", "queryParams"] {
                objects(one, list).for_each(|value| absent(value, "type", json!("Exact")));
            }
        }
        for backend in objects(rule, "backendRefs") {
            absent(backend, "group", json!(""));
            absent(backend, "kind", json!("Service"));
            absent(backend, "weight", json!(1));
        }
    }
}

/// Writes a field that is not there.
fn binding(root: &mut Map<String, Value>) {
    let group = json!("rbac.authorization.k8s.io");
    if let Some(role) = object(root, "roleRef") {
        if role.get("apiGroup") == Some(&json!("")) {
            role.remove("apiGroup");
        }
        absent(role, "apiGroup", group.clone());
    }
    for subject in objects(root, "subjects") {
        let is_account = subject.get("kind") == Some(&json!("ServiceAccount"));
        if subject.get("apiGroup") == Some(&json!("")) {
            subject.remove("apiGroup");
        }
        if !is_account {
            absent(subject, "apiGroup", group.clone());
        }
    }
}

fn absent(map: &mut Map<String, Value>, name: &str, value: Value) {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), value);
    }
}

fn object<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name)?.as_object_mut()
}

/// The object in a field, made when it is not there; `None` when something else is.
fn object_or_new<'a>(
    map: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = map.entry(name).or_insert_with(|| json!({}));
    value.as_object_mut()
}

/// The objects in a list.
fn objects<'a>(
    map: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = map.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}
