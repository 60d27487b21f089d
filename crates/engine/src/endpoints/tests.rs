use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn service(change: impl FnOnce(&mut Value)) -> Service {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "svc", "generation": 4, "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web"},
                {"name": "admin", "port": 9000},
            ],
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, ip: &str, revision: &str, change: impl FnOnce(&mut Value)) -> Pod {
    let mut value = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"app": "web", "pod-template-hash": revision},
        },
        "spec": {
            "nodeName": "local",
            "containers": [{"name": "web", "ports": [{"name": "web", "containerPort": 8080}]}],
        },
        "status": {
            "podIP": ip, "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn unready(pod: &mut Value) {
    pod["status"]["conditions"][0]["status"] = json!("False");
}

fn terminating(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for slice in &plan.apply {
        let meta = &slice.metadata;
        let ports: Vec<_> = slice.ports.iter().flatten().collect();
        let ports: Vec<_> = ports
            .iter()
            .map(|p| format!("{}={}", p.name.as_deref().unwrap(), p.port.unwrap()))
            .collect();
        writeln!(
            out,
            "{} revision {:?} generation {} {}",
            meta.name.as_deref().unwrap(),
            meta.labels.as_ref().unwrap()[label::REVISION],
            meta.annotations.as_ref().unwrap()[annotation::SERVICE_GENERATION],
            ports.join(" "),
        )
        .unwrap();
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref().unwrap();
            let words = [
                ("ready", conditions.ready),
                ("serving", conditions.serving),
                ("terminating", conditions.terminating),
            ];
            let words: Vec<_> = words
                .iter()
                .filter(|w| w.1 == Some(true))
                .map(|w| w.0)
                .collect();
            let target = endpoint.target_ref.as_ref().unwrap();
            writeln!(
                out,
                "  {} {} {}",
                endpoint.addresses[0],
                target.name.as_deref().unwrap(),
                words.join(" ")
            )
            .unwrap();
        }
    }
    for stale in &plan.delete {
        writeln!(out, "delete {}", stale.name).unwrap();
    }
    for subset in plan
        .endpoints
        .iter()
        .flat_map(|e| e.subsets.iter().flatten())
    {
        let ips = |list: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
            list.iter()
                .flatten()
                .map(|a| a.ip.clone())
                .collect::<Vec<_>>()
        };
        let ports: Vec<_> = subset.ports.iter().flatten().map(|p| p.port).collect();
        let (ready, unready) = (ips(&subset.addresses), ips(&subset.not_ready_addresses));
        writeln!(
            out,
            "endpoints {ready:?} not ready {unready:?} ports {ports:?}"
        )
        .unwrap();
    }
    out
}

fn check(service: &Service, pods: Vec<Pod>, expected: &Expect) {
    let observed = Observed {
        pods,
        ..Observed::default()
    };
    expected.assert_eq(&show(&plan(service, &observed)));
}

/// What is there after a plan was carried out.
fn carry_out(plan: &Plan, observed: &mut Observed) {
    for slice in &plan.apply {
        observed
            .slices
            .retain(|s| s.metadata.name != slice.metadata.name);
        let mut slice = slice.clone();
        slice.metadata.resource_version = Some("1".into());
        observed.slices.push(slice);
    }
    for stale in &plan.delete {
        observed
            .slices
            .retain(|s| s.metadata.name.as_ref() != Some(&stale.name));
    }
    if let Some(endpoints) = &plan.endpoints {
        observed.endpoints = Some(endpoints.clone());
    }
}

#[test]
fn each_revision_has_its_slice() {
    let pods = vec![
        pod("b", "127.64.0.2", "v1", |_| {}),
        pod("a", "127.64.0.1", "v1", unready),
        pod("c", "127.64.0.3", "v2", terminating),
        pod("bare", "127.64.0.9", "v3", |p| {
            p["metadata"]["labels"] = json!({"app": "web"})
        }),
    ];
    check(
        &service(|_| {}),
        pods,
        &expect![[r#"
        web-kfqkx revision "" generation 4 admin=9000 http=8080
          127.64.0.9 bare ready serving
        web-sx2lk revision "v1" generation 4 admin=9000 http=8080
          127.64.0.1 a 
          127.64.0.2 b ready serving
        web-lnpn5 revision "v2" generation 4 admin=9000 http=8080
          127.64.0.3 c serving terminating
        endpoints ["127.64.0.2", "127.64.0.9"] not ready ["127.64.0.1"] ports [9000, 8080]
    "#]],
    );
}

#[test]
fn pods_without_an_address_or_life_are_no_places() {
    let pods = vec![
        pod("new", "", "v1", |p| p["status"]["podIP"] = Value::Null),
        pod("odd", "not-an-address", "v1", |_| {}),
        pod("done", "127.64.0.2", "v1", |p| {
            p["status"]["phase"] = json!("Failed")
        }),
        pod("other", "127.64.0.3", "v1", |p| {
            p["metadata"]["labels"]["app"] = json!("api")
        }),
        pod("away", "127.64.0.4", "v1", |p| {
            p["metadata"]["namespace"] = json!("else")
        }),
    ];
    check(
        &service(|_| {}),
        pods,
        &expect![[r#"
        web-kfqkx revision "" generation 4 
    "#]],
    );
}

#[test]
fn ports_are_found_by_number_name_or_default() {
    let by = |target: Value| {
        service(|s| s["spec"]["ports"] = json!([{"port": 80, "targetPort": target}]))
    };
    let pods = || vec![pod("a", "127.64.0.1", "v1", |_| {})];
    check(
        &by(json!(8081)),
        pods(),
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 =8081
          127.64.0.1 a ready serving
        endpoints ["127.64.0.1"] not ready [] ports [8081]
    "#]],
    );
    check(
        &by(json!("web")),
        pods(),
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 =8080
          127.64.0.1 a ready serving
        endpoints ["127.64.0.1"] not ready [] ports [8080]
    "#]],
    );
    check(
        &by(json!("nobody")),
        pods(),
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 
          127.64.0.1 a ready serving
        endpoints ["127.64.0.1"] not ready [] ports []
    "#]],
    );
    check(
        &by(Value::Null),
        pods(),
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 =80
          127.64.0.1 a ready serving
        endpoints ["127.64.0.1"] not ready [] ports [80]
    "#]],
    );
    // Pods of one revision that resolve a name to different numbers do not share a slice.
    let mut two = pods();
    two.push(pod("b", "127.64.0.2", "v1", |p| {
        p["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(7070);
    }));
    check(
        &by(json!("web")),
        two,
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 =7070
          127.64.0.2 b ready serving
        web-lrgmj revision "v1" generation 4 =8080
          127.64.0.1 a ready serving
        endpoints ["127.64.0.2"] not ready [] ports [7070]
        endpoints ["127.64.0.1"] not ready [] ports [8080]
    "#]],
    );
}

#[test]
fn not_ready_addresses_are_published_when_asked() {
    let service = service(|s| s["spec"]["publishNotReadyAddresses"] = json!(true));
    let pods = vec![pod("a", "127.64.0.1", "v1", unready)];
    check(
        &service,
        pods,
        &expect![[r#"
        web-sx2lk revision "v1" generation 4 admin=9000 http=8080
          127.64.0.1 a ready
        endpoints ["127.64.0.1"] not ready [] ports [9000, 8080]
    "#]],
    );
}

#[test]
fn what_is_as_it_should_be_is_not_written_again() {
    let service = service(|_| {});
    let mut observed = Observed {
        pods: vec![
            pod("a", "127.64.0.1", "v1", |_| {}),
            pod("b", "127.64.0.2", "v2", |_| {}),
        ],
        ..Observed::default()
    };
    carry_out(&plan(&service, &observed), &mut observed);
    // A label of somebody else's changes nothing.
    let labels = observed.slices[0].metadata.labels.as_mut().unwrap();
    labels.insert("theirs".into(), "x".into());
    observed.pods.reverse();
    assert_eq!(plan(&service, &observed), Plan::default());
}

#[test]
fn a_switch_of_the_selector_writes_before_it_deletes() {
    let mut observed = Observed {
        pods: vec![
            pod("a", "127.64.0.1", "v1", |p| {
                p["metadata"]["labels"]["color"] = json!("blue")
            }),
            pod("b", "127.64.0.2", "v2", |p| {
                p["metadata"]["labels"]["color"] = json!("green")
            }),
        ],
        ..Observed::default()
    };
    let colour = |colour: &str, generation: i64| {
        service(|s| {
            s["spec"]["selector"] = json!({"color": colour});
            s["metadata"]["generation"] = json!(generation);
        })
    };
    carry_out(&plan(&colour("blue", 1), &observed), &mut observed);
    let flip = plan(&colour("green", 2), &observed);
    expect![[r#"
        web-lnpn5 revision "v2" generation 2 admin=9000 http=8080
          127.64.0.2 b ready serving
        delete web-sx2lk
        endpoints ["127.64.0.2"] not ready [] ports [9000, 8080]
    "#]]
    .assert_eq(&show(&flip));
    carry_out(&flip, &mut observed);
    // Nothing selected: one empty slice says so for its generation.
    let empty = plan(&colour("red", 3), &observed);
    expect![[r#"
        web-kfqkx revision "" generation 3 
        delete web-lnpn5
    "#]]
    .assert_eq(&show(&empty));
    carry_out(&empty, &mut observed);
    let next = plan(&colour("red", 4), &observed);
    assert_eq!(
        next.apply[0].metadata.resource_version.as_deref(),
        Some("1")
    );
    expect![[r#"
        web-kfqkx revision "" generation 4 
    "#]]
    .assert_eq(&show(&next));
}

#[test]
fn services_without_a_selector_are_left_alone() {
    for change in [
        json!({"selector": null}),
        json!({"selector": {}}),
        json!({"type": "ExternalName", "externalName": "example.com", "selector": {"app": "web"}}),
    ] {
        let service = service(|s| s["spec"] = change);
        let observed = Observed {
            pods: vec![pod("a", "127.64.0.1", "v1", |_| {})],
            ..Observed::default()
        };
        assert_eq!(plan(&service, &observed), Plan::default());
    }
}

#[test]
fn many_pods_share_slices_of_a_thousand() {
    let pods = (0..1001).map(|i| {
        pod(
            &format!("p{i:04}"),
            &format!("127.64.{}.{}", i / 200, i % 200),
            "v1",
            |_| {},
        )
    });
    let observed = Observed {
        pods: pods.collect(),
        ..Observed::default()
    };
    let plan = plan(&service(|_| {}), &observed);
    let sizes: Vec<_> = plan.apply.iter().map(|s| s.endpoints.len()).collect();
    assert_eq!(sizes, [1000, 1]);
}
