use super::*;

fn target(path: &str) -> Target {
    let (group, rest) = path.split_once(' ').unwrap();
    crate::target::tests::target(group, "v1", rest)
}

fn context() -> Context<'static> {
    Context {
        now: "2026-01-02T03:04:05.6Z".parse().unwrap(),
        fields: FieldValidation::Warn,
        manager: Some(Manager {
            name: "test",
            subresource: "",
        }),
    }
}

fn stored(extra: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default",
        "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}, "data": {"k": "v"}});
    json_patch::merge(&mut object, &extra);
    object
}

fn updated(old: &Value, new: Value) -> Result<Next, Refusal> {
    update(
        &target(" namespaces/default/configmaps/a"),
        context(),
        old,
        new,
    )
    .map(|a| a.outcome)
}

#[test]
fn a_new_object_gets_its_metadata() {
    let incoming = json!({"metadata": {"name": "a", "uid": "mine", "generation": 9, "managedFields": [{}],
        "deletionTimestamp": "2026-01-01T00:00:00Z", "creationTimestamp": null}});
    let made = create(
        &target(" namespaces/default/configmaps"),
        context(),
        incoming,
    )
    .unwrap()
    .outcome;
    let metadata = &made["metadata"];
    assert_eq!(
        (&made["kind"], &metadata["namespace"]),
        (&json!("ConfigMap"), &json!("default"))
    );
    assert_eq!(metadata["creationTimestamp"], "2026-01-02T03:04:05Z");
    assert!(metadata["generation"].is_null());
    assert_ne!(metadata["uid"], "mine");
    assert!(metadata["managedFields"].is_null() && metadata["deletionTimestamp"].is_null());
}

#[test]
fn the_status_of_a_new_object_is_the_servers() {
    let incoming = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
    let made = create(&target(" namespaces/default/pods"), context(), incoming)
        .unwrap()
        .outcome;
    assert_eq!(made["status"]["phase"], "Pending");
}

#[test]
fn a_change_of_the_spec_is_a_new_generation_and_one_of_labels_is_not() {
    let service = |extra: Value| {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default",
            "generation": 3}, "spec": {"ports": [{"port": 80}]}});
        json_patch::merge(&mut service, &extra);
        service
    };
    let generation = |extra: Value| {
        let target = target(" namespaces/default/services/a");
        let next = update(&target, context(), &service(json!({})), service(extra));
        let Next::Put(next) = next.unwrap().outcome else {
            panic!("not written");
        };
        next["metadata"]["generation"].clone()
    };
    let port = json!({"spec": {"ports": [{"port": 81}]}});
    assert_eq!(generation(port), 4);
    let label = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"sessionAffinity": "None"}});
    assert_eq!(
        generation(label),
        4,
        "a default that was not there is a change"
    );
    let next = updated(
        &stored(json!({})),
        stored(json!({"metadata": {"labels": {"a": "b"}}})),
    );
    let Ok(Next::Put(labels)) = next else {
        panic!("not written");
    };
    assert_eq!(labels["metadata"]["generation"], 3);
}

#[test]
fn what_says_nothing_new_is_not_written() {
    let old = stored(json!({}));
    for same in [
        stored(json!({})),
        stored(
            json!({"metadata": {"uid": null, "resourceVersion": null, "creationTimestamp": null, "generation": 1}}),
        ),
        stored(json!({"metadata": {"labels": {}, "finalizers": [], "managedFields": [{}]}})),
        stored(json!({"apiVersion": null, "kind": null})),
    ] {
        assert_eq!(updated(&old, same), Ok(Next::Same));
    }
}

#[test]
fn other_objects_and_other_states_are_conflicts() {
    let old = stored(json!({}));
    for other in [
        json!({"metadata": {"uid": "other"}}),
        json!({"metadata": {"resourceVersion": "6"}}),
    ] {
        assert_eq!(updated(&old, stored(other)).unwrap_err().reason, "Conflict");
    }
    for other in [
        json!({"metadata": {"name": "b"}}),
        json!({"metadata": {"namespace": "b"}}),
        json!({"kind": "Secret"}),
    ] {
        assert_eq!(
            updated(&old, stored(other)).unwrap_err().reason,
            "BadRequest"
        );
    }
}

#[test]
fn the_last_finalizer_of_an_ending_object_ends_it() {
    let ending = json!({"metadata": {"finalizers": ["x"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
    let old = stored(ending);
    let free = stored(json!({"metadata": {"finalizers": []}}));
    assert!(matches!(updated(&old, free), Ok(Next::Remove(_))));
    let late = stored(json!({"metadata": {"finalizers": ["x", "y"]}}));
    assert_eq!(updated(&old, late).unwrap_err().reason, "Invalid");
}
