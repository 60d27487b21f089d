//! Which state a list tells of: pages, versions, and what does not go together.

use expect_test::expect;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Raw;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

/// `a=1 b=1 …`, the names with their data.
fn content(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    let at = |item: &Value, pointer| item.pointer(pointer).unwrap().to_string();
    let items = items.map(|i| format!("{}={}", at(i, "/metadata/name"), at(i, "/data/key")));
    items.collect::<Vec<_>>().join(" ").replace('"', "")
}

async fn server() -> Raw {
    let server = Raw::new();
    for name in ["a", "b", "c", "d"] {
        server.post(MAPS, &map(name, "1")).await;
    }
    server
}

async fn change(server: &Raw) {
    server
        .merge(&format!("{MAPS}/c"), &json!({"data": {"key": "2"}}))
        .await;
    server
        .send(Method::DELETE, &format!("{MAPS}/d"), "", String::new())
        .await;
    server.post(MAPS, &map("bb", "2")).await;
}

#[tokio::test]
async fn all_pages_tell_of_the_state_of_the_first() {
    let server = server().await;
    let first = server.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(content(&first), "a=1 b=1");
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    change(&server).await;
    let key = first["metadata"]["continue"].as_str().unwrap();
    let second = server
        .get(&format!("{MAPS}?limit=2&continue={key}"))
        .await
        .json();
    assert_eq!(content(&second), "c=1 d=1");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(second["metadata"]["continue"].is_null());
    let now = server.get(MAPS).await.json();
    assert_eq!(content(&now), "a=1 b=1 bb=2 c=2");
}

#[tokio::test]
async fn a_list_of_a_version_is_of_that_version() {
    let server = server().await;
    let before = server.get(MAPS).await.json();
    let version = before["metadata"]["resourceVersion"].as_str().unwrap();
    change(&server).await;
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(content(&server.get(&exact).await.json()), "a=1 b=1 c=1 d=1");
    let not_older = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    assert_eq!(
        content(&server.get(&not_older).await.json()),
        "a=1 b=1 bb=2 c=2"
    );
    for path in [MAPS.to_owned(), format!("{MAPS}/a")] {
        let future = server.get(&format!("{path}?resourceVersion=100000")).await;
        assert_eq!(future.status, StatusCode::GATEWAY_TIMEOUT);
        let cause = &future.json()["details"]["causes"][0]["reason"];
        assert_eq!(cause, "ResourceVersionTooLarge");
    }
}

#[tokio::test]
async fn a_page_whose_state_is_forgotten_can_be_had_from_the_present_one() {
    let server = server().await;
    let first = server.get(&format!("{MAPS}?limit=1")).await.json();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let key = first["metadata"]["continue"].as_str().unwrap();
    let older: u64 = version.parse().unwrap();
    // The recent changes go back to the start.
    let first = key.replace(&format!(":{older}:"), ":0:");
    let answer = server
        .get(&format!("{MAPS}?limit=9&continue={first}"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    // A version that is not there yet stands for one that was forgotten.
    let lost = key.replace(&format!(":{older}:"), ":999999:");
    let answer = server.get(&format!("{MAPS}?limit=9&continue={lost}")).await;
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (StatusCode::GONE, &json!("Expired"))
    );
    let status = answer.json();
    let go_on = status["metadata"]["continue"].as_str().unwrap();
    change(&server).await;
    let rest = server
        .get(&format!("{MAPS}?limit=9&continue={go_on}"))
        .await
        .json();
    assert_eq!(content(&rest), "b=1 bb=2 c=2");
}

#[tokio::test]
async fn what_does_not_go_together_is_refused() {
    let server = server().await;
    let mut told = Vec::new();
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Nearly&resourceVersion=1",
        "continue=v1:1:/configmaps/default/a&resourceVersion=3",
        "watch=true&resourceVersion=1&resourceVersionMatch=NotOlderThan",
        "watch=true&sendInitialEvents=true",
        "sendInitialEvents=true",
        "continue=nonsense",
        "limit=-1",
        "labelSelector=a%20in",
        "fieldSelector=spec.x=1",
    ] {
        let answer = server.get(&format!("{MAPS}?{query}")).await;
        let status = answer.json();
        told.push(format!("{query}: {} {}", status["code"], status["message"]).replace('"', ""));
    }
    expect![[r#"
        resourceVersionMatch=Exact: 422 ListOptions.meta.k8s.io \\ is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
        resourceVersionMatch=Exact&resourceVersion=0: 422 ListOptions.meta.k8s.io \\ is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \exact\ is forbidden for resourceVersion \0\
        resourceVersionMatch=Nearly&resourceVersion=1: 422 ListOptions.meta.k8s.io \\ is invalid: resourceVersionMatch: Unsupported value: \Nearly\: supported values: \Exact\, \NotOlderThan\
        continue=v1:1:/configmaps/default/a&resourceVersion=3: 400 specifying resource version is not allowed when using continue
        watch=true&resourceVersion=1&resourceVersionMatch=NotOlderThan: 422 ListOptions.meta.k8s.io \\ is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided
        watch=true&sendInitialEvents=true: 422 ListOptions.meta.k8s.io \\ is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
        sendInitialEvents=true: 422 ListOptions.meta.k8s.io \\ is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list
        continue=nonsense: 400 continue key is not valid
        limit=-1: 400 limit: Invalid value: \-1\: must be a whole number from 0
        labelSelector=a%20in: 400 unable to parse requirement: \a in\ is not a label key
        fieldSelector=spec.x=1: 400 field label not supported: spec.x"#]].assert_eq(&told.join("\n"));
    let all = server
        .send(Method::DELETE, "/api/v1/configmaps", "", String::new())
        .await;
    assert_eq!(all.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_selector_that_matches_nothing_gives_an_empty_list() {
    let server = server().await;
    for query in [
        "labelSelector=no%3Dsuch",
        "fieldSelector=metadata.name%3Dnope",
    ] {
        let list = server.get(&format!("{MAPS}?{query}")).await.json();
        assert_eq!(list["items"], json!([]), "{query}");
        let gone = server
            .send(
                Method::DELETE,
                &format!("{MAPS}?{query}"),
                "",
                String::new(),
            )
            .await;
        assert_eq!(gone.status, StatusCode::OK);
    }
    assert_eq!(content(&server.get(MAPS).await.json()), "a=1 b=1 c=1 d=1");
}
