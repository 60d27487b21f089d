//! Kinds whose objects are not kept, and forms that not every kind has.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::Raw;

#[tokio::test]
async fn reviews_are_told_of_and_not_kept() {
    let server = Raw::new();
    let told = server.get("/apis/authorization.k8s.io/v1").await.json();
    let names = told["resources"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|r| (&r["kind"], &r["verbs"])).collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|(_, verbs)| **verbs == json!(["create"])));
    let document = server.get("/openapi/v3/apis/authorization.k8s.io/v1").await;
    let schemas = &document.json()["components"]["schemas"];
    assert!(schemas["io.k8s.api.authorization.v1.SelfSubjectAccessReview"].is_object());
    // The answers of a cluster to those who ask in the wrong way.
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let local = "/apis/authorization.k8s.io/v1/localsubjectaccessreviews";
    assert_eq!(
        server.get(reviews).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        server.get(&format!("{reviews}/a")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server.post(local, &json!({})).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn of_kinds_that_nothing_brings_about_there_are_none() {
    let server = Raw::new();
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let list = server.get(sets).await.json();
    assert_eq!(
        (&list["kind"], &list["items"]),
        (&json!("StatefulSetList"), &json!([]))
    );
    let made = server.post(sets, &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(made.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        made.json()["message"],
        "Serin runs no StatefulSet: use a Deployment or a Rollout"
    );
    let applied = server
        .apply(&format!("{sets}/a?fieldManager=a"), &json!({}))
        .await;
    assert_eq!(applied.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn messages_of_protocol_buffers_are_for_built_in_kinds() {
    let server = Raw::new();
    let media = "application/vnd.kubernetes.protobuf";
    let rollout = b"k8s\0\x0a\x1f\x0a\x14argoproj.io/v1alpha1\x12\x07Rollout".to_vec();
    let path = "/apis/argoproj.io/v1alpha1/namespaces/default/rollouts";
    let body = String::from_utf8(rollout).unwrap();
    let answer = server.send(Method::POST, path, media, body).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(
        answer.json()["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
    );
}
