//! The documents that the project was asked to run, each with everything that is said of it.

use expect_test::{Expect, expect};
use serin_api::manifest::{self, Manifest};

macro_rules! document {
    ($name:literal) => {
        manifest::parse(include_str!(concat!("documents/", $name)), $name)
    };
}

fn check(manifest: &Manifest, expected: Expect) {
    let mut lines: Vec<_> = manifest.problems.iter().map(ToString::to_string).collect();
    for document in &manifest.objects {
        let served = if document.kind.is_some() {
            ""
        } else {
            ", not served"
        };
        lines.push(format!(
            "line {}: {}{served}",
            document.line,
            document.title()
        ));
    }
    lines.push(format!("refused: {}", manifest.is_refused()));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn rolling_update() {
    check(
        &document!("2.2-1.yaml"),
        expect![[r#"
        line 1: Deployment/web-app
        refused: false"#]],
    );
}

#[test]
fn blue_and_green_deployments() {
    check(
        &document!("3.2-1.yaml"),
        expect![[r#"
        3.2-1.yaml:22:9: Deployment/web-app-blue: warning: spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
        3.2-1.yaml:49:9: Deployment/web-app-green: warning: spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
        line 2: Deployment/web-app-blue
        line 29: Deployment/web-app-green
        line 56: Service/web-app-service
        refused: false"#]],
    );
}

#[test]
fn canary_of_istio_is_not_served() {
    check(
        &document!("4.2-1.yaml"),
        expect![[r#"
            4.2-1.yaml:22:1: VirtualService/web-app-canary: spec.hosts: Required value: name the hosts whose requests are routed
            line 2: DestinationRule/web-app-destination
            line 18: VirtualService/web-app-canary
            refused: true"#]],
    );
}

#[test]
fn canary_ingress() {
    check(
        &document!("4.3-1.yaml"),
        expect![[r#"
        4.3-1.yaml:7:5: Ingress/web-app-main: warning: metadata.annotations[kubernetes.io/ingress.class]: deprecated, use spec.ingressClassName instead
        4.3-1.yaml:28:5: Ingress/web-app-canary: warning: metadata.annotations[kubernetes.io/ingress.class]: deprecated, use spec.ingressClassName instead
        line 2: Ingress/web-app-main
        line 23: Ingress/web-app-canary
        refused: false"#]],
    );
}

#[test]
fn two_versions_of_a_test() {
    check(
        &document!("5.2-1.yaml"),
        expect![[r#"
        5.2-1.yaml:19:9: Deployment/web-app-version-a: warning: spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
        5.2-1.yaml:46:9: Deployment/web-app-version-b: warning: spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
        line 2: Deployment/web-app-version-a
        line 29: Deployment/web-app-version-b
        refused: false"#]],
    );
}

#[test]
fn test_of_istio_is_not_served() {
    check(
        &document!("5.2-2.yaml"),
        expect![[r#"
            5.2-2.yaml:5:1: VirtualService/web-app-ab-test: spec.hosts: Required value: name the hosts whose requests are routed
            5.2-2.yaml:15:9: VirtualService/web-app-ab-test: warning: spec.http[0].route[0].destination.subset: no DestinationRule in this text gives web-app-service a subset "version-a"
            5.2-2.yaml:24:9: VirtualService/web-app-ab-test: warning: spec.http[1].route[0].destination.subset: no DestinationRule in this text gives web-app-service a subset "version-b"
            5.2-2.yaml:30:9: VirtualService/web-app-ab-test: warning: spec.http[2].route[0].destination.subset: no DestinationRule in this text gives web-app-service a subset "version-a"
            5.2-2.yaml:34:9: VirtualService/web-app-ab-test: warning: spec.http[2].route[1].destination.subset: no DestinationRule in this text gives web-app-service a subset "version-b"
            line 1: VirtualService/web-app-ab-test
            refused: true"#]],
    );
}

#[test]
fn both_mistakes_of_the_graceful_deployment_are_named() {
    check(
        &document!("6.2-1.yaml"),
        expect![[r#"
        6.2-1.yaml:5:1: Deployment/web-app: spec.selector: Required value
        6.2-1.yaml:19:9: Deployment/web-app: spec.template.spec.containers[0].terminationGracePeriodSeconds: unknown field here, it belongs to spec.template.spec
        line 1: Deployment/web-app
        refused: true"#]],
    );
}

#[test]
fn the_graceful_deployment_mended_is_accepted() {
    let mended = include_str!("documents/6.2-1.yaml")
        .replace("  template:\n    spec:\n", "  selector:\n    matchLabels: {app: web-app}\n  template:\n    metadata:\n      labels: {app: web-app}\n    spec:\n      terminationGracePeriodSeconds: 30\n")
        .replace("        terminationGracePeriodSeconds: 30\n", "");
    check(
        &manifest::parse(&mended, "mended.yaml"),
        expect![[r#"
        line 1: Deployment/web-app
        refused: false"#]],
    );
}

#[test]
fn feature_flags() {
    let manifest = document!("7.3-1.yaml");
    check(
        &manifest,
        expect![[r#"
        line 2: ConfigMap/feature-flags
        refused: false"#]],
    );
    let text = manifest.objects[0].object["data"]["features.yaml"]
        .as_str()
        .unwrap();
    assert!(
        text.starts_with("features:\n  new_checkout_flow:\n"),
        "{text}"
    );
}

#[test]
fn alert_rules_keep_their_text() {
    let manifest = document!("7.4-1.yaml");
    check(
        &manifest,
        expect![[r#"
        line 2: ConfigMap/deployment-alerts
        refused: false"#]],
    );
    let text = manifest.objects[0].object["data"]["deployment.rules"]
        .as_str()
        .unwrap();
    assert!(text.contains("summary: \"部署后错误率过高\"\n"), "{text}");
}

#[test]
fn blue_green_rollout() {
    check(
        &document!("8.4-1.yaml"),
        expect![[r#"
        8.4-1.yaml:35:9: Rollout/web-app-rollout: warning: spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
        line 2: Rollout/web-app-rollout
        refused: false"#]],
    );
}
