//! Tables of cases: what another replica has said and what is due in, what may be said out.

use super::*;
use crate::testing::objects;

fn world(progress: &str, endpoint: &str) -> Objects {
    let mut objects = objects(&format!(
        "kind: EndpointSlice\nmetadata: {{name: front-1, resourceVersion: \"900\", labels: {{kubernetes.io/service-name: front}}}}\naddressType: IPv4\nendpoints:\n- {{addresses: [10.0.0.1], targetRef: {{kind: Pod, name: a}}}}\n- {{addresses: [10.0.0.2], targetRef: {{kind: Pod, name: b}}{endpoint}}}\n---\nkind: EndpointSlice\nmetadata: {{name: web-1, resourceVersion: \"30\", annotations: {{serin.dev/service-generation: \"2\"}}, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nendpoints: []\n---\nkind: Pod\nmetadata: {{name: web-1, uid: u1, resourceVersion: \"40\", deletionTimestamp: \"2026-01-01T00:00:00Z\"}}\n"
    ));
    if !progress.is_empty() {
        let mut lease = Lease::default();
        let said = [(PROGRESS.to_owned(), progress.to_owned())];
        lease.metadata.annotations = Some(said.into());
        objects
            .replicas
            .insert(ObjectName::new("default", "b"), lease);
    }
    objects
}

fn me() -> Replica {
    Replica {
        service: ObjectName::new("default", "front"),
        name: "a".into(),
    }
}

fn due(target: Target, version: &str) -> Due {
    Due {
        target,
        resource_version: version.into(),
        said: String::new(),
        patch: Value::Null,
    }
}

/// Whether it may be said, when the other one has said `progress`.
fn may(target: &Target, version: &str, progress: &str) -> bool {
    let mut all = vec![due(target.clone(), version)];
    let waiting = me().settle(&mut all, &world(progress, ""));
    assert_eq!(all.is_empty(), !waiting.is_empty());
    !all.is_empty()
}

#[test]
fn what_another_one_does_not_serve_yet_is_not_said() {
    let name = |name: &str| ObjectName::new("default", name);
    let route = Target::Route(name("web"));
    for (version, progress, expected) in [
        ("7", r#"{"routes": 7}"#, true),
        ("7", r#"{"routes": 6, "services": 9}"#, false),
        ("10", r#"{"routes": 9}"#, false),
        ("7", "{}", false),
        ("7", "", false),
        ("opaque", r#"{"routes": 7}"#, false),
    ] {
        assert_eq!(may(&route, version, progress), expected, "{progress}");
    }
    let service = Target::Service(name("web"));
    assert!(may(&service, "20", r#"{"services": 20, "slices": 30}"#));
    assert!(!may(&service, "20", r#"{"services": 20, "slices": 29}"#));
    assert!(!may(&service, "20", r#"{"services": 19, "slices": 30}"#));
    let pod = Target::Pod(name("web-1"));
    assert!(may(&pod, "40", r#"{"pods": 40}"#));
    assert!(!may(&pod, "40", r#"{"pods": 39}"#));
    assert!(!may(&pod, "40", r#"{"pods": 41, "busy": ["u1"]}"#));
    assert!(may(&Target::Ingress(name("web")), "50", ""));
}

#[test]
fn only_who_gets_requests_is_waited_for() {
    for (endpoint, waits) in [
        ("", true),
        (", conditions: {ready: true}", true),
        (", conditions: {ready: false}", false),
        // It leaves, and still has requests.
        (
            ", conditions: {ready: false, serving: true, terminating: true}",
            true,
        ),
        (
            ", conditions: {ready: false, serving: false, terminating: true}",
            false,
        ),
    ] {
        let name = ObjectName::new("default", "web");
        let mut all = vec![due(Target::Route(name), "7")];
        let waiting = me().settle(&mut all, &world("", endpoint));
        assert_eq!(all.is_empty(), waits, "{endpoint}");
        assert_eq!(!waiting.is_empty(), waits);
    }
}

#[test]
fn progress_never_goes_back_and_is_said_once() {
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut objects = world("", "");
    let mut progress = Progress::default();
    progress.advance(&objects, &|_| 1);
    let said = me().due(&progress, &objects, now).unwrap();
    expect_test::expect![[r#"{"routes":0,"virtualServices":0,"destinationRules":0,"services":0,"slices":30,"pods":40,"busy":["u1"]}"#]]
        .assert_eq(&said.said);
    let lease = serde_json::from_value(said.patch).unwrap();
    objects
        .replicas
        .insert(ObjectName::new("default", "a"), lease);
    assert_eq!(me().due(&progress, &objects, now), None);
    objects.pods.clear();
    objects.slices.clear();
    progress.advance(&objects, &|_| 0);
    assert_eq!((progress.slices, progress.pods), (30, 40));
    assert!(progress.busy.is_empty());
}
