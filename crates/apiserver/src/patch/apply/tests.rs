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
            manager: "\"a\"".into(),
            fields: vec![".spec.template.spec.containers[name=\"a\"].image".into()]
        }]
    );
    let forced = apply(&deployment(), Some(&once), &config, by("b"), true, NOW).unwrap();
    assert_eq!(without_entries(forced.clone()), config);
    // The first applier has lost the image: leaving it out now removes nothing.
    let left = applied(Some(&forced), &container(json!({"name": "a"})), "a");
    assert_eq!(without_entries(left), config);
}

fn updated(old: Option<&Value>, mut new: Value, manager: &str, at: i64) -> Value {
    let now = Timestamp::from_second(at).unwrap();
    let given = Value::Null;
    track(&deployment(), old, &mut new, &given, by(manager), now);
    new
}

fn owners(object: &Value) -> String {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter();
    let lines = entries.map(|e| {
        let text = |name: &str| e[name].as_str().unwrap_or_default().to_owned();
        let (manager, operation, time) = (text("manager"), text("operation"), text("time"));
        format!("{manager} {operation} {time}: {}", e["fieldsV1"])
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_write_of_others_takes_its_fields() {
    let config = json!({"spec": {"replicas": 2, "paused": true}});
    let once = applied(None, &config, "a");
    let mut scaled = once.clone();
    scaled["spec"]["replicas"] = json!(5);
    let scaled = updated(Some(&once), scaled, "scaler", 7);
    expect_test::expect![[r#"
        a Apply 1970-01-01T00:00:00Z: {"f:spec":{"f:paused":{}}}
        scaler Update 1970-01-01T00:00:07Z: {"f:spec":{"f:replicas":{}}}"#]]
    .assert_eq(&owners(&scaled));
    let left = applied(Some(&scaled), &json!({"spec": {"paused": true}}), "a");
    assert_eq!(left["spec"], json!({"replicas": 5, "paused": true}));
    let back = apply(&deployment(), Some(&scaled), &config, by("a"), false, NOW);
    let told = back.unwrap_err();
    assert_eq!(
        told[0].manager,
        "\"scaler\" using apps/v1 at 1970-01-01T00:00:07Z"
    );
}

#[test]
fn every_write_leaves_an_entry() {
    let first = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "1"}},
        "template": {"spec": {"containers": [{"name": "x", "image": "1", "args": ["a"]}]}}}});
    let first = updated(None, first, "creator", 1);
    let mut second = first.clone();
    second["metadata"]["labels"] = json!({"b": "2"});
    second["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let second = updated(Some(&first), second, "editor", 2);
    let mut third = second.clone();
    third["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "x", "image": "2"}, {"name": "y"}]);
    let third = updated(Some(&second), third, "editor", 3);
    expect_test::expect![[r#"
        creator Update 1970-01-01T00:00:01Z: {"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:name":{}}}}}}}
        editor Update 1970-01-01T00:00:03Z: {"f:metadata":{"f:labels":{"f:b":{}}},"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{"f:image":{}},"k:{\"name\":\"y\"}":{".":{},"f:name":{}}}}}}}"#]].assert_eq(&owners(&third));
}

#[test]
fn entries_of_the_oldest_writers_become_one() {
    let mut object = updated(None, json!({"metadata": {"labels": {"x0": "1"}}}), "m0", 0);
    for i in 1..15 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("x{i}")] = json!("1");
        object = updated(Some(&object), next, &format!("m{i}"), i);
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        (entries.len(), &entries[0]["manager"]),
        (10, &json!("ancient-changes"))
    );
    let fields = &entries[0]["fieldsV1"]["f:metadata"]["f:labels"];
    assert_eq!(fields.as_object().unwrap().len(), 6);
}

#[test]
fn a_write_can_hand_its_fields_over() {
    let object = json!({"spec": {"replicas": 1}});
    let first = updated(None, object, "kubectl-client-side-apply", 1);
    let mut entries = first["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("kubectl");
    entries[0]["operation"] = json!("Apply");
    let mut next = first.clone();
    track(
        &deployment(),
        Some(&first),
        &mut next,
        &entries,
        by("kubectl"),
        NOW,
    );
    assert_eq!(next["metadata"]["managedFields"], entries);
    track(
        &deployment(),
        Some(&first),
        &mut next,
        &json!([{}]),
        by("kubectl"),
        NOW,
    );
    assert!(next["metadata"]["managedFields"].is_null());
}
