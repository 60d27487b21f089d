//! Objects that are served in several versions.

use expect_test::expect;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use crate::support::client;
use crate::waiting::soon;

const V1: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
const BETA: &str = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/default/httproutes";

async fn ask(client: &Client, method: Method, path: &str, body: Value) -> Value {
    let media = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", media).body(body.to_string());
    let text = client.request_text(request.unwrap().map(String::into_bytes));
    serde_json::from_str(&text.await.unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_object_in_the_version_of_the_address() {
    let client = client();
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "HTTPRoute", "metadata": {"name": "web"},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}});
    let made = ask(&client, Method::POST, BETA, route).await;
    assert_eq!(made["apiVersion"], "gateway.networking.k8s.io/v1beta1");
    let read = ask(&client, Method::GET, &format!("{V1}/web"), Value::Null).await;
    assert_eq!(read["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);
    let hosts = json!({"spec": {"hostnames": ["a.example"]}});
    let changed = ask(&client, Method::PATCH, &format!("{BETA}/web"), hosts).await;
    assert_eq!(changed["metadata"]["generation"], 2);
    let list = ask(&client, Method::GET, BETA, Value::Null).await;
    assert_eq!(
        list["items"][0]["apiVersion"],
        "gateway.networking.k8s.io/v1beta1"
    );
    let watch = Request::get(format!("{V1}?watch=true&timeoutSeconds=1")).body(Vec::new());
    let events = client
        .request_events::<Value>(watch.unwrap())
        .await
        .unwrap();
    let events = soon("the first event", events.take(1).try_collect());
    let events: Vec<_> = events.await.unwrap();
    let kube::api::WatchEvent::Added(route) = &events[0] else {
        panic!("{events:?}");
    };
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
}

#[tokio::test]
async fn a_group_tells_all_its_versions() {
    let group = ask(
        &client(),
        Method::GET,
        "/apis/gateway.networking.k8s.io",
        Value::Null,
    )
    .await;
    expect![[r#"{"groupVersion":"gateway.networking.k8s.io/v1","version":"v1"}"#]]
        .assert_eq(&group["preferredVersion"].to_string());
    assert_eq!(group["versions"][1]["version"], "v1beta1");
}

/// In the first version an autoscaler has the share of the CPU only; kubectl up to 1.32 makes them in it.
#[tokio::test]
async fn an_autoscaler_is_converted_between_its_versions() {
    let path = |version: &str, rest: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers{rest}")
    };
    let client = client();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec =
        json!({"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70});
    let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec});
    let made = ask(&client, Method::POST, &path("v1", ""), v1).await;
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(made["spec"]["minReplicas"], 1);
    let read = ask(&client, Method::GET, &path("v2", "/web"), Value::Null).await;
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
    assert_eq!(read["apiVersion"], "autoscaling/v2");
    assert_eq!(read["spec"]["metrics"], json!([cpu]));

    // What the first version cannot say outlives a change in it.
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}});
    let metrics = json!({"spec": {"metrics": [cpu, memory]}});
    ask(&client, Method::PATCH, &path("v2", "/web"), metrics).await;
    let more = json!({"spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 50}});
    let changed = ask(&client, Method::PATCH, &path("v1", "/web"), more).await;
    assert_eq!(changed["spec"]["maxReplicas"], 5);
    assert!(changed["spec"].get("metrics").is_none(), "{changed}");
    let read = ask(&client, Method::GET, &path("v2", "/web"), Value::Null).await;
    let shares: Vec<_> = read["spec"]["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["resource"]["target"]["averageUtilization"].clone())
        .collect();
    assert_eq!(shares, [50, 60]);
    assert!(read["metadata"].get("annotations").is_none(), "{read}");
    let list = ask(&client, Method::GET, &path("v1", ""), Value::Null).await;
    assert_eq!(
        list["items"][0]["spec"]["targetCPUUtilizationPercentage"],
        50
    );
}
