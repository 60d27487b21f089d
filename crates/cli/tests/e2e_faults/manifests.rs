//! Manifests with mistakes: every one is told with its place, and nothing is applied.

use crate::support::Platform;

const WRONG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: innocent}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  repilcas: 3
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: shop
        image: serin.dev/demo:v1
        ports: [{containerPort: http}]
        readinessProbe: {httpGet: {path: /, prot: 8080}}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: serin.dev/demo:v1}]}
  strategy:
    canary:
      steps:
      - setWeihgt: 20
      - setWeight: 120
";

#[tokio::test]
async fn every_mistake_is_told_with_its_place_and_nothing_is_applied() {
    let platform = Platform::start(&[]).await;
    let file = platform.dir().join("wrong.yaml");
    std::fs::write(&file, WRONG).unwrap();
    let told = platform
        .try_serin(&["apply", "-f", file.to_str().unwrap()])
        .await;
    assert_eq!(told.code, Some(65), "{told:?}");
    println!("{}", told.stderr);
    let wanted = [
        (9, 3, "replicas"),
        (17, 18, "containerPort"),
        (18, 45, "port"),
        (32, 9, "setWeight"),
        (33, 9, "setWeight"),
    ];
    for (line, column, nearest) in wanted {
        let place = format!("{}:{line}:{column}: ", file.display());
        let found = told.stderr.lines().find(|l| l.contains(&place));
        assert!(
            found.is_some_and(|l| l.contains(nearest)),
            "{place}{nearest} in\n{}",
            told.stderr
        );
    }
    assert!(told.stdout.is_empty(), "{told:?}");
    for kind in ["configmaps", "deployments", "rollouts", "pods"] {
        assert_eq!(
            platform.serin(&["get", kind, "-o", "name"]).await,
            "",
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_change_with_a_mistake_leaves_what_runs_alone() {
    let platform =
        crate::apps::started(&crate::apps::deployment(crate::apps::pods("v1", &[]))).await;
    let before = platform
        .serin(&["get", "deploy", "shop", "-o", "json"])
        .await;
    let pods = platform.serin(&["get", "pods", "-o", "name"]).await;
    let mut template = crate::apps::pods("v2", &[]);
    template["spec"]["containers"][0]["imagee"] = "x".into();
    let file = platform.dir().join("wrong.json");
    std::fs::write(&file, crate::apps::deployment(template)).unwrap();
    let told = platform
        .try_serin(&["apply", "-f", file.to_str().unwrap()])
        .await;
    assert_eq!(told.code, Some(65), "{told:?}");
    assert!(told.stderr.contains("image"), "{told:?}");
    assert_eq!(
        platform
            .serin(&["get", "deploy", "shop", "-o", "json"])
            .await,
        before
    );
    assert_eq!(platform.serin(&["get", "pods", "-o", "name"]).await, pods);
}
