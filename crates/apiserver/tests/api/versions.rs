//! Objects that are served in several versions.

use expect_test::expect;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use crate::support::client;

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
    let events: Vec<_> = events.take(1).try_collect().await.unwrap();
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
