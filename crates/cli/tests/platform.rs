//! What `serin up` and `serin down` tell, and what of a platform is good beyond its end. What happens to its processes is in
//! `e2e_faults`.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use serde_json::Value;

use support::{Platform, poll};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: serin.dev/demo:v1
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
"#;

/// Applies a manifest; gives what was told.
async fn applied(platform: &Platform, manifest: &str) -> String {
    let file = platform.dir().join("manifest.yaml");
    std::fs::write(&file, manifest).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap()];
    platform.serin(&apply).await
}

#[tokio::test]
async fn a_platform_tells_where_it_is_and_what_it_stopped() {
    let platform = Platform::new();
    let free = "127.0.0.1:0";
    let up = ["up", "--detach", "--listen", free, "--gateway-listen", free];
    let told = platform.serin(&up).await;
    assert_eq!(told.trim(), platform.kubeconfig().to_str().unwrap());

    // A gateway without TLS has no use for certificates.
    let role = ["get", "clusterrole", "system:serin:gateway", "-o", "yaml"];
    let role = platform.serin(&role).await;
    assert!(
        role.contains("services") && !role.contains("secrets"),
        "{role}"
    );

    assert_eq!(
        applied(&platform, WEB).await,
        "deployment.apps/web created\n"
    );
    let status = ["rollout", "status", "web", "--timeout", "60s"];
    platform.serin(&status).await;
    let tree = platform.serin(&["rollout", "get", "web"]).await;
    assert!(tree.contains("2/2 available"), "{tree}");
    let logs = platform.serin(&["logs", "deploy/web"]).await;
    assert!(logs.contains("listening on"), "{logs}");
    let names = platform.serin(&["get", "pods", "-o", "name"]).await;
    assert_eq!(names.lines().count(), 2, "{names}");

    let stopped = platform.serin(&["down"]).await;
    for what in [
        "control plane (pid ",
        "gateway stopped",
        "2 containers stopped",
    ] {
        assert!(stopped.contains(what), "{stopped}");
    }
    // A shim says that its container has ended, and then ends itself.
    poll("the end of the shims", async || {
        platform.processes().is_empty().then_some(())
    })
    .await;
    let again = platform.serin(&["down"]).await;
    assert!(again.starts_with("nothing runs in "), "{again}");
    platform.serin(&["down", "--delete-data"]).await;
    assert!(!platform.home().exists());
}

const WIDGETS: &str = r#"
apiVersion: example.com/v1
kind: Widget
metadata: {name: first}
spec: {size: 3}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer}}}}
"#;

#[tokio::test]
async fn a_kubeconfig_stays_good_and_every_write_has_its_author() {
    let platform = Platform::new();
    let up = ["up", "--detach", "--listen", "127.0.0.1:0", "--no-gateway"];
    platform.serin(&up).await;
    assert_eq!(
        applied(&platform, WIDGETS).await,
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\nwidget.example.com/first created\n"
    );
    let history = ["history", "widgets", "-o", "json"];
    let history: Value = serde_json::from_str(&platform.serin(&history).await).unwrap();
    let first = &history["items"][0];
    assert_eq!(
        (&first["user"], &first["name"], &first["change"]),
        (&"serin:admin".into(), &"first".into(), &"created".into())
    );
    // The authority of before vouches for the certificate of the next start, which has one name more.
    let config = std::fs::read_to_string(platform.kubeconfig()).unwrap();
    let address = async || platform.run_file("serin.json").await["api"].clone();
    let before = address().await;
    platform.serin(&["down"]).await;
    let up = [&up[..], &["--tls-san", "cd.example.com"]].concat();
    platform.serin(&up).await;
    let now = address().await;
    let kept = platform.dir().join("kubeconfig");
    let moved = config.replace(before.as_str().unwrap(), now.as_str().unwrap());
    std::fs::write(&kept, moved).unwrap();
    let kept = ["--kubeconfig", kept.to_str().unwrap()];
    let get = [&["get", "widgets", "-o", "name"], &kept[..]].concat();
    assert_eq!(platform.serin(&get).await, "widget.example.com/first\n");
}
