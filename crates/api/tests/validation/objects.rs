//! Metadata of all objects, ConfigMaps and Secrets.

use expect_test::expect;
use serde_json::json;

use super::check;

#[test]
fn names_and_labels() {
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "namespace": "My.Space", "labels": {"a b": "x", "ok": "-"}, "annotations": {"Example.com/x": "any text -", "/": ""},
        }}),
        expect![[r#"
            metadata.name: Required value: name or generateName is required
            metadata.namespace: Invalid value: "My.Space": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')
            metadata.labels[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')
            metadata.labels[ok]: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')
            metadata.annotations[/]: Invalid value: "/": prefix part must be non-empty"#]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        expect!["metadata.name: Required value: name or generateName is required"],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "web-"}}),
        expect![[""]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "Web-"}}),
        expect![[
            r#"metadata.generateName: Invalid value: "Web-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')"#
        ]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b", "namespace": "x"}}),
        expect![[r#"
            metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')
            metadata.namespace: Forbidden: not allowed on this type"#]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {"a": "x".repeat(300_000)}}}),
        expect![
            "metadata.annotations: Invalid value: (not shown): Too long: must have at most 262144 bytes"
        ],
    );
}

#[test]
fn config_maps_and_secrets() {
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a/b": "", "..c": "", "d": ""}, "binaryData": {"d": ""}}),
        expect![[r#"
            data[..c]: Invalid value: "..c": must not be '.', and must not start with '..'
            data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name')
            binaryData[d]: Duplicate value: "d""#]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "x".repeat(2_000_000)}}),
        expect!["data: Invalid value: (not shown): Too long: must have at most 1048576 bytes"],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}, "data": {"p w": "eA=="}}),
        expect![[r#"
            data[p w]: Invalid value: "p w": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name')
            data[tls.key]: Required value: the type of the Secret asks for it"#]],
    );
}
