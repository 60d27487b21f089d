//! Pods and pod templates.

use serde_json::{Map, Value, json};

use super::{absent, object, object_or_new, objects};

pub(super) fn pod(root: &mut Map<String, Value>) {
    if let Some(spec) = object(root, "spec") {
        absent(spec, "enableServiceLinks", json!(true));
        fill(spec);
    }
    if let Some(status) = object_or_new(root, "status") {
        absent(status, "phase", json!("Pending"));
    }
}

/// The template under a workload's spec.
pub(super) fn template(spec: &mut Map<String, Value>) {
    if let Some(template) = object(spec, "template")
        && let Some(spec) = object(template, "spec")
    {
        fill(spec);
    }
}

fn fill(spec: &mut Map<String, Value>) {
    absent(spec, "restartPolicy", json!("Always"));
    absent(spec, "terminationGracePeriodSeconds", json!(30));
    absent(spec, "dnsPolicy", json!("ClusterFirst"));
    absent(spec, "schedulerName", json!("default-scheduler"));
    absent(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        objects(spec, list).for_each(container);
    }
    for volume in objects(spec, "volumes") {
        if volume.keys().all(|name| name == "name") {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if let Some(source) = object(volume, source) {
                absent(source, "defaultMode", json!(0o644));
            }
        }
    }
}

fn container(container: &mut Map<String, Value>) {
    if let Some(image) = container.get("image").and_then(Value::as_str) {
        let policy = if is_latest(image) {
            "Always"
        } else {
            "IfNotPresent"
        };
        absent(container, "imagePullPolicy", json!(policy));
    }
    absent(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    absent(container, "terminationMessagePolicy", json!("File"));
    absent(container, "resources", json!({}));
    for port in objects(container, "ports") {
        absent(port, "protocol", json!("TCP"));
    }
    for variable in objects(container, "env") {
        if let Some(from) = object(variable, "valueFrom")
            && let Some(field) = object(from, "fieldRef")
        {
            absent(field, "apiVersion", json!("v1"));
        }
    }
    for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if let Some(probe_field) = object(container, name) {
            probe(probe_field);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = object(lifecycle, name) {
                http_get(hook);
            }
        }
    }
}

/// Whether an image has the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    // A colon before the last slash belongs to the port of a registry.
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Map<String, Value>) {
    http_get(probe);
    let numbers = [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ];
    for (name, default) in numbers {
        // 0 is no number of tries or seconds: a cluster reads it as absent.
        if probe.get(name).is_none_or(|n| *n == json!(0)) {
            probe.insert(name.to_owned(), json!(default));
        }
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(get) = object(handler, "httpGet") {
        absent(get, "path", json!("/"));
        absent(get, "scheme", json!("HTTP"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_decide_how_often_an_image_is_pulled() {
        assert!(is_latest("nginx"));
        assert!(is_latest("localhost:5000/nginx"));
        assert!(is_latest("localhost:5000/nginx:latest"));
        assert!(!is_latest("nginx:1.20"));
        assert!(!is_latest("nginx@sha256:abc"));
    }
}
