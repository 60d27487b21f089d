//! Fields that may not change.

use expect_test::expect;
use serde_json::{Value, json};

use super::{check_update, deployment, with};

#[test]
fn fields_that_may_not_change() {
    let web = deployment(json!({}));
    check_update(
        web.clone(),
        deployment(json!({"replicas": 5, "template": {"spec": {"dnsPolicy": "None"}}})),
        expect![[""]],
    );
    check_update(
        with(web.clone(), json!({"metadata": {"uid": "1"}})),
        with(
            web,
            json!({"metadata": {"uid": "2", "name": "web2"}, "spec": {"selector": {"matchLabels": {"app": "b"}}}}),
        ),
        expect![[r#"
            metadata.name: Invalid value: "web2": field is immutable
            metadata.uid: Invalid value: "2": field is immutable
            spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable"#]],
    );
    let secret = |patch| {
        with(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true, "data": {"a": "eA=="}}),
            patch,
        )
    };
    check_update(
        secret(json!({})),
        secret(json!({"type": "x", "immutable": false, "data": {"a": "eQ=="}})),
        expect![[r#"
            type: Invalid value: "x": field is immutable
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set"#]],
    );
    check_update(
        secret(json!({"immutable": false})),
        secret(json!({"data": {"a": "eQ=="}})),
        expect![[""]],
    );
    let service =
        |ip: &str| json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": ip}});
    check_update(service(""), service("10.0.0.1"), expect![[""]]);
    check_update(
        service("10.0.0.1"),
        service("10.0.0.2"),
        expect![[r#"spec.clusterIP: Invalid value: "10.0.0.2": field is immutable"#]],
    );
}

#[test]
fn pods_run_as_they_were_made() {
    let pod = |patch: Value| {
        with(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "a:1", "env": [{"name": "A", "value": "1"}]}]}}),
            patch,
        )
    };
    check_update(
        pod(json!({})),
        pod(json!({"spec": {"nodeName": "local", "activeDeadlineSeconds": 5}})),
        expect![[""]],
    );
    check_update(
        pod(json!({})),
        pod(
            json!({"spec": {"containers": [{"name": "a", "image": "a:2", "env": [{"name": "A", "value": "1"}]}]}}),
        ),
        expect![[""]],
    );
    check_update(
        pod(json!({})),
        pod(
            json!({"spec": {"containers": [{"name": "a", "image": "a:2", "env": [{"name": "A", "value": "2"}]}]}}),
        ),
        expect![
            "spec.containers[0].env[0].value: Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        ],
    );
    check_update(
        pod(json!({"spec": {"nodeName": "local"}})),
        pod(json!({"spec": {"nodeName": "other"}})),
        expect![
            "spec.nodeName: Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        ],
    );
}
