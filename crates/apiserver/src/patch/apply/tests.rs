use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn deployment() -> Resource {
    crate::resource::tests::of_kind("Deployment")
}

fn by(name: &str) -> Manager<'_> {
    Manager {
        name,
        subresource: "",
    }
}

fn applied(live: Option<&Value>, config: &Value, manager: &str) -> Value {
    apply(&deployment(), live, config, by(manager), false, NOW).unwrap()
}

fn container(fields: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [fields]}}}})
}

fn without_entries(mut object: Value) -> Value {
    meta::of_mut(&mut object).remove("managedFields");
    object["metadata"]
        .as_object()
        .filter(|m| m.is_empty())
        .is_some()
        .then(|| object.as_object_mut().unwrap().remove("metadata"));
    object
}

#[test]
fn same_again_changes_nothing() {
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "1"}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}}});
    let once = applied(None, &config, "serin");
    assert_eq!(applied(Some(&once), &config, "serin"), once);
    expect_test::expect![[r#"[{"apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}},"manager":"serin","operation":"Apply","time":"1970-01-01T00:00:00Z"}]"#]].assert_eq(&once["metadata"]["managedFields"].to_string());
}

#[test]
fn what_is_left_out_is_removed() {
    let first = container(
        json!({"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}),
    );
    let once = applied(None, &first, "serin");
    let second =
        container(json!({"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}]}));
    assert_eq!(
        without_entries(applied(Some(&once), &second, "serin")),
        second
    );
    let third = container(json!({"name": "a", "image": "1"}));
    assert_eq!(
        without_entries(applied(Some(&once), &third, "serin")),
        third
    );
    let other = container(json!({"name": "b"}));
    assert_eq!(
        without_entries(applied(Some(&once), &other, "serin")),
        other
    );
}

#[test]
fn what_was_empty_can_be_filled() {
    let empty = container(json!({"name": "a", "env": [], "resources": {}}));
    let env = json!([{"name": "X", "value": "1"}]);
    let full = container(json!({"name": "a", "env": env, "resources": {"limits": {"cpu": "1"}}}));
    let once = applied(None, &empty, "serin");
    assert_eq!(without_entries(applied(Some(&once), &full, "serin")), full);
}

#[test]
fn what_another_set_too_stays() {
    let config = json!({"spec": {"replicas": 2, "paused": true}});
    let once = applied(None, &config, "a");
    let both = applied(Some(&once), &json!({"spec": {"replicas": 2}}), "b");
    let left = applied(Some(&both), &json!({"spec": {"paused": true}}), "a");
    assert_eq!(left["spec"], json!({"replicas": 2, "paused": true}));
}

#[test]
fn another_value_is_a_conflict_unless_forced() {
    let once = applied(None, &container(json!({"name": "a", "image": "1"})), "a");
    let config = container(json!({"name": "a", "image": "2"}));
    let conflicts = apply(&deployment(), Some(&once), &config, by("b"), false, NOW).unwrap_err();
    assert_eq!(
        conflicts,
        [Conflict {
            manager: "a".into(),
            field: ".spec.template.spec.containers[name=\"a\"].image".into()
        }]
    );
    let forced = apply(&deployment(), Some(&once), &config, by("b"), true, NOW).unwrap();
    assert_eq!(without_entries(forced.clone()), config);
    // The first applier has lost the image: leaving it out now removes nothing.
    let left = applied(Some(&forced), &container(json!({"name": "a"})), "a");
    assert_eq!(without_entries(left), config);
}

#[test]
fn a_write_of_others_takes_its_fields() {
    let config = json!({"spec": {"replicas": 2, "paused": true}});
    let once = applied(None, &config, "a");
    let mut scaled = once.clone();
    scaled["spec"]["replicas"] = json!(5);
    release(&once, &mut scaled);
    let left = applied(Some(&scaled), &json!({"spec": {"paused": true}}), "a");
    assert_eq!(left["spec"], json!({"replicas": 5, "paused": true}));
}
