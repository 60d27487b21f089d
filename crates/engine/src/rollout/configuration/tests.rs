use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn template(pod: Value) -> PodTemplateSpec {
    serde_json::from_value(json!({"spec": pod})).unwrap()
}

fn map(name: &str) -> Reference {
    Reference {
        kind: ConfigurationKind::ConfigMap,
        name: name.to_owned(),
    }
}

fn content(digest: &str) -> Source {
    Source::Content {
        digest: digest.to_owned(),
    }
}

fn check(pod: Value, expected: Expect) {
    let found = references(&template(pod)).into_iter();
    let lines: Vec<_> = found
        .map(|(reference, needed)| format!("{reference}{}", if needed { "" } else { ", optional" }))
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

/// A container that reads all of a ConfigMap.
fn reading(name: &str) -> Value {
    json!({"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": name}}]}]})
}

#[test]
fn every_place_that_names_configuration_is_found() {
    check(
        json!({
            "volumes": [
                {"name": "a", "configMap": {"name": "in-a-volume"}},
                {"name": "b", "secret": {"secretName": "in-a-volume"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "projected", "optional": true}}, {"secret": {"name": "projected"}},
                    {"serviceAccountToken": {"path": "token"}},
                ]}},
                {"name": "d", "emptyDir": {}},
            ],
            "initContainers": [{"name": "i", "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "of-init", "key": "a", "optional": true}}},
            ]}],
            "containers": [{"name": "a",
                "env": [
                    {"name": "A", "value": "plain"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "one-key", "key": "b"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "of-init", "key": "c"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "all-keys"}}, {"secretRef": {"name": "all-keys", "optional": true}}],
            }],
            "imagePullSecrets": [{"name": "registry"}],
        }),
        // One place that needs it is enough.
        expect![[r#"
            ConfigMap "all-keys"
            ConfigMap "in-a-volume"
            ConfigMap "of-init"
            ConfigMap "projected", optional
            Secret "all-keys", optional
            Secret "in-a-volume"
            Secret "one-key"
            Secret "projected""#]],
    );
    check(json!({"containers": []}), expect![""]);
}

#[test]
fn another_content_is_another_template() {
    let plain = template(reading("app"));
    let with = |digest| {
        let sources = BTreeMap::from([(map("app"), content(digest))]);
        resolve(&plain, &sources, &[], None)
    };
    let one = with("aa");
    assert_eq!(one.template, template(reading("app-aa")));
    assert_eq!(one.missing, []);
    assert_ne!(one.template, with("bb").template);
    assert_eq!(one.template, with("aa").template);
}

#[test]
fn what_is_left_out_keeps_its_name() {
    let plain = template(reading("app"));
    let sources = BTreeMap::from([(map("app"), Source::AsItIs)]);
    let resolved = resolve(&plain, &sources, &[], None);
    assert_eq!(
        (resolved.template, resolved.wanted),
        (plain.clone(), vec![])
    );
    // As is what the policy leaves out, which nobody looks at.
    let nothing_seen = resolve(&plain, &BTreeMap::new(), &[], None);
    assert_eq!(nothing_seen.template, plain);
}

#[test]
fn only_what_is_needed_is_missed() {
    let optional = json!({"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "app", "optional": true}}]}]});
    let sources = BTreeMap::from([(map("app"), Source::Missing)]);
    let resolve = |pod| resolve(&template(pod), &sources, &[], None).missing;
    assert_eq!(resolve(optional), []);
    assert_eq!(resolve(reading("app")), [map("app")]);
}

#[test]
fn an_object_that_goes_changes_nothing_that_is_released() {
    let copies = [CopyView {
        copy: map("app-aa"),
        of: "app".into(),
    }];
    let current = template(reading("app-aa"));
    let gone = BTreeMap::from([(map("app"), Source::Missing)]);
    let same = resolve(&template(reading("app")), &gone, &copies, Some(&current));
    assert_eq!((&same.template, same.missing), (&current, vec![]));
    let unknown = BTreeMap::from([(map("app"), Source::Unknown)]);
    let same = resolve(&template(reading("app")), &unknown, &copies, Some(&current));
    assert_eq!((&same.template, same.missing), (&current, vec![]));
    // What is there and has changed is another revision all the same.
    let two = |app: &str| {
        json!({"containers": [{"name": "a", "envFrom": [
            {"configMapRef": {"name": app}}, {"configMapRef": {"name": "more", "optional": true}},
        ]}]})
    };
    let sources = BTreeMap::from([(map("app"), content("bb")), (map("more"), Source::Missing)]);
    let current = template(two("app-aa"));
    let changed = resolve(&template(two("app")), &sources, &copies, Some(&current));
    assert_eq!(changed.template, template(two("app-bb")));
    // Another version of the code would need it.
    let mut other = reading("app");
    other["containers"][0]["image"] = json!("other");
    let other = resolve(&template(other), &gone, &copies, Some(&current));
    assert_eq!(other.missing, [map("app")]);
}

#[test]
fn a_long_name_gives_way_to_the_digest() {
    let name = copy_name(&"a".repeat(253), "0123456789ab");
    assert_eq!(name.len(), LONGEST_NAME);
    assert!(name.ends_with("a-0123456789ab"));
    assert_eq!(copy_name("app.", "ab"), "app-ab");
}
