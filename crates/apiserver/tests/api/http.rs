//! The parts of the protocol that a typed client hides: forms, headers, refusals, the listener.

use std::sync::Arc;

use ::http::{Request, StatusCode, header};
use axum::body::Body;
use bytes::Bytes;
use expect_test::{Expect, expect};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, LogError, LogRequest, LogStream, PodLogs, Store, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Raw, server};
use crate::waiting::{soon, within};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// As JSON, which may be made worse.
fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}})
}

fn document(name: &str) -> String {
    std::fs::read_to_string(format!(
        "{}/../api/tests/documents/{name}.yaml",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

#[track_caller]
fn pretty(value: &Value, want: Expect) {
    want.assert_eq(&format!("{value:#}\n"));
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let api = Raw::new();
    const JSON: &str = "application/json";
    let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
    let large = vec![b' '; (3 << 20) + 1];
    let table: &[(&str, &[u8], u16, &str)] = &[
        (JSON, br#"{"kind":"#, 400, "BadRequest"),
        (JSON, br"[1]", 400, "BadRequest"),
        (JSON, &deep, 400, "BadRequest"),
        ("application/yaml", br"a: [", 400, "BadRequest"),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s",
            400,
            "BadRequest",
        ),
        (JSON, &large, 413, "RequestEntityTooLarge"),
        (JSON, br#"{"kind": "Pod"}"#, 400, "BadRequest"),
        (JSON, br#"{"apiVersion": "v2"}"#, 400, "BadRequest"),
        (
            JSON,
            br#"{"metadata": {"namespace": "b"}}"#,
            400,
            "BadRequest",
        ),
        (JSON, br#"{"metadata": {"name": "a/b"}}"#, 422, "Invalid"),
        (JSON, br#"{"metadata": 5}"#, 422, "Invalid"),
    ];
    for (media, body, code, reason) in table {
        let told = String::from_utf8_lossy(body.get(..40).unwrap_or(body)).into_owned();
        let request = Request::post(MAPS).header(header::CONTENT_TYPE, *media);
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let answer = api.request(request).await;
        let status = answer.json();
        assert_eq!(answer.status.as_u16(), *code, "{media} {told}");
        assert_eq!(
            (&status["reason"], &status["kind"]),
            (&json!(reason), &json!("Status")),
            "{media} {told}"
        );
    }
}

#[tokio::test]
async fn addresses_and_methods_that_are_not_there() {
    let api = Raw::new();
    for path in [
        "/nope",
        "/api/v2",
        "/apis/none.example",
        "/apis/apps/v9/deployments",
        "/api/v1/nopes",
        "/openapi/v2",
        "/openapi/v3/apis/x/v1",
    ] {
        let answer = api.get(path).await;
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (StatusCode::NOT_FOUND, Some("NotFound")),
            "{path}"
        );
    }
    let request = Request::put(MAPS).body(Body::from("{}")).unwrap();
    assert_eq!(
        api.request(request).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let request = Request::patch(format!("{MAPS}/a"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from("{}"));
    assert_eq!(
        api.request(request.unwrap()).await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(
        api.get_as(MAPS, "application/vnd.kubernetes.protobuf")
            .await
            .status,
        StatusCode::NOT_ACCEPTABLE
    );
}

#[tokio::test]
async fn tables_and_partial_objects() {
    let api = Raw::new();
    api.post(MAPS, &config_map("a")).await;
    let table = api.get_as(MAPS, TABLE).await.json();
    let headings: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(headings, ["Name", "Data", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "0s"]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["rows"][0]["object"]["data"].is_null());
    let one = api
        .get_as(&format!("{MAPS}/a?includeObject=Object"), TABLE)
        .await
        .json();
    assert_eq!(one["rows"][0]["object"]["data"]["key"], "value");
    let none = api
        .get_as(&format!("{MAPS}?includeObject=None"), TABLE)
        .await
        .json();
    assert!(none["rows"][0]["object"].is_null());
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = api.get_as(MAPS, partial).await.json();
    assert_eq!(
        (
            list["kind"].as_str(),
            list["items"][0]["metadata"]["name"].as_str()
        ),
        (Some("PartialObjectMetadataList"), Some("a"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_as_a_table_tells_its_headings_once() {
    let api = Raw::new();
    api.post(MAPS, &config_map("a")).await;
    api.post(MAPS, &config_map("b")).await;
    let answer = api
        .get_as(&format!("{MAPS}?watch=true&timeoutSeconds=1"), TABLE)
        .await;
    let events: Vec<Value> = answer
        .body
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e["object"]["kind"].as_str().unwrap(),
                e["object"]["columnDefinitions"].is_array(),
            )
        })
        .collect();
    assert_eq!(told, [("Table", true), ("Table", false)]);
}

#[tokio::test]
async fn discovery_in_the_form_that_is_asked_for() {
    let api = Raw::new();
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    for (accept, media, version) in [
        (
            format!("{v2},{beta},application/json"),
            v2,
            "apidiscovery.k8s.io/v2",
        ),
        (
            format!("{beta},application/json"),
            beta,
            "apidiscovery.k8s.io/v2beta1",
        ),
    ] {
        let answer = api.get_as("/apis", &accept).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], media);
        assert_eq!(answer.json()["apiVersion"], version);
        let groups = answer.json();
        let apps = groups["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|g| g["metadata"]["name"] == "apps")
            .unwrap();
        let deployments = &apps["versions"][0]["resources"][0];
        assert_eq!(
            (&deployments["resource"], &deployments["scope"]),
            (&json!("deployments"), &json!("Namespaced"))
        );
        assert_eq!(
            api.get_as("/api", &accept).await.json()["items"][0]["metadata"]["name"],
            ""
        );
    }
    let plain = api.get_as("/apis", "application/json").await.json();
    assert_eq!(plain["kind"], "APIGroupList");
    assert_eq!(
        api.get_as("/api", "application/json").await.json()["versions"],
        json!(["v1"])
    );
    let apps = api.get_as("/apis/apps/v1", "application/json").await.json();
    let names: Vec<_> = apps["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "deployments",
            "deployments/status",
            "deployments/scale",
            "replicasets",
            "replicasets/status",
            "replicasets/scale",
            "daemonsets",
            "statefulsets"
        ]
    );
    assert_eq!(
        api.get("/apis/apps").await.json()["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    assert_eq!(api.get("/version").await.json()["major"], "1");
}

#[tokio::test]
async fn openapi_documents_hold_together() {
    let api = Raw::new();
    let index = api.get("/openapi/v3").await.json();
    for (name, at) in index["paths"].as_object().unwrap() {
        let url = at["serverRelativeURL"].as_str().unwrap();
        let document = api.get(url).await.json();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let target = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(target), "{name}: {target}");
        }
        let patches = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|p| p.get("patch"));
        for patch in patches {
            assert!(
                patch["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|p| p["name"] == "fieldValidation"),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_refused_or_told_or_passed_over() {
    let api = Raw::new();
    let mut map = config_map("a");
    map["dta"] = json!(1);
    let strict = api
        .post(&format!("{MAPS}?fieldValidation=Strict"), &map)
        .await;
    assert_eq!(strict.status, StatusCode::BAD_REQUEST);
    pretty(
        &strict.json()["message"],
        expect![[r#"
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\", did you mean \"data\"?"
    "#]],
    );
    let quiet = api
        .post(&format!("{MAPS}?fieldValidation=Ignore&dryRun=All"), &map)
        .await;
    assert_eq!(
        (quiet.status, quiet.warnings().len()),
        (StatusCode::CREATED, 0)
    );
    let warned = api.post(MAPS, &map).await;
    assert_eq!(warned.status, StatusCode::CREATED);
    assert_eq!(warned.warnings().len(), 1);
    assert!(
        warned.warnings()[0].starts_with("299 - \"unknown field \\\"dta\\\""),
        "{:?}",
        warned.warnings()
    );
    assert!(
        warned.json().get("dta").is_none(),
        "what is unknown is not kept"
    );
    assert_eq!(
        api.post(&format!("{MAPS}?fieldValidation=Loose"), &map)
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_document_with_two_mistakes_is_told_both() {
    let api = Raw::new();
    let request = Request::post(format!("{DEPLOYMENTS}?fieldValidation=Strict"))
        .header(header::CONTENT_TYPE, "application/yaml");
    let answer = api
        .request(request.body(document("6.2-1").into()).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let status = answer.json();
    let fields: Vec<_> = status["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    assert!(fields.contains(&"spec.selector"), "{fields:?}");
    assert!(
        fields.contains(&"spec.template.spec.containers[0].terminationGracePeriodSeconds"),
        "{fields:?}"
    );
}

#[tokio::test]
async fn rights_are_always_there() {
    let api = Raw::new();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "delete", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = api.post(path, &review).await;
    assert_eq!(
        (answer.status, &answer.json()["status"]["allowed"]),
        (StatusCode::CREATED, &json!(true))
    );
}

#[tokio::test]
async fn the_guard_lets_in_whoever_has_the_token() {
    let api = Raw(server().guarded_router("secret"));
    let ask = |path: &str, host: &str, authorization: &str| {
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, authorization);
        let api = Raw(api.0.clone());
        async move { api.request(request.body(Body::empty()).unwrap()).await }.boxed()
    };
    assert_eq!(
        ask(MAPS, "127.0.0.1:1", "Bearer secret").await.status,
        StatusCode::OK
    );
    let refused = ask(MAPS, "127.0.0.1:1", "Bearer wrong").await;
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("Unauthorized"))
    );
    assert_eq!(
        ask("/healthz", "localhost", "").await.status,
        StatusCode::OK
    );
    assert_eq!(
        ask("/version", "localhost", "").await.status,
        StatusCode::OK
    );
    assert_eq!(
        ask("/healthz", "localhost", "Bearer wrong").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        ask(MAPS, "evil.example", "Bearer secret").await.status,
        StatusCode::FORBIDDEN
    );
}

/// One log for all pods.
struct Lines;

impl PodLogs for Lines {
    fn open(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>> {
        async move {
            if request.previous {
                return Err(LogError::NotFound("the container has run only once".into()));
            }
            let line = format!(
                "{}/{} {:?}\n",
                request.pod, request.container, request.tail_lines
            );
            Ok(stream::iter([Bytes::from(line)]).boxed())
        }
        .boxed()
    }
}

#[tokio::test]
async fn logs_come_from_whoever_keeps_them() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let without = Raw::new();
    without.post(pods, &pod).await;
    assert_eq!(
        without.get(&format!("{pods}/p/log")).await.status,
        StatusCode::NOT_IMPLEMENTED
    );
    let api = Raw(server().with_logs(Arc::new(Lines)).router());
    api.post(pods, &pod).await;
    let log = api.get(&format!("{pods}/p/log?tailLines=3")).await;
    assert_eq!(&log.body[..], b"p/web Some(3)\n");
    assert_eq!(
        api.get(&format!("{pods}/p/log?previous=true")).await.status,
        StatusCode::BAD_REQUEST
    );
    let other = api.get(&format!("{pods}/p/log?container=nope")).await;
    assert_eq!(
        other.json()["message"],
        "container nope is not valid for pod p"
    );
    assert_eq!(
        api.get(&format!("{pods}/q/log")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_listener_ends_its_watches_when_it_is_told_to() {
    let server = server();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, server.router(), async {
        let _stopped = stopped.await;
    }));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {MAPS}?watch=true&resourceVersion=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0u8; 15];
    soon("an answer", client.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    let mut rest = Vec::new();
    soon("the end of the watch", client.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        rest.ends_with(b"0\r\n\r\n"),
        "the answer ends as a whole: {:?}",
        String::from_utf8_lossy(&rest)
    );
    soon("the end of the server", serving).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_listener_does_not_wait_for_clients_that_ask_nothing() {
    // Less than an answer under way gets.
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(3);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, server().router(), async {
        let _stopped = stopped.await;
    }));
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    // Connections are taken in the order in which they came: with this answer, the idle one is taken too.
    let mut head = [0u8; 15];
    soon("an answer", client.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    within(DEADLINE, "the end of the server", serving)
        .await
        .unwrap();
    let mut byte = [0u8; 1];
    let read = soon("the end of the idle connection", idle.read(&mut byte)).await;
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn what_was_answered_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let api = Raw(ApiServer::new(Store::open(&path).unwrap()).router());
    let made = api.post(MAPS, &config_map("a")).await.json();
    drop(api);
    let api = Raw(ApiServer::new(reopened(&path).await).router());
    assert_eq!(api.get(&format!("{MAPS}/a")).await.json(), made);
}

/// A collector that is in the middle of its round may keep the file for a moment.
async fn reopened(path: &std::path::Path) -> Store {
    let opened = async {
        loop {
            match Store::open(path) {
                Ok(store) => return store,
                Err(serin_apiserver::StoreError::Locked { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    soon("the file", opened).await
}

#[tokio::test]
async fn a_listener_answers_under_its_names_only() {
    let names = ["cd.example.com".to_owned(), "10.0.0.7".to_owned()];
    let api = Raw(server().guarded_router_at("secret", &names));
    for (host, code) in [
        ("localhost", 200),
        ("CD.example.com:7443", 200),
        ("10.0.0.7:7443", 200),
        ("10.0.0.8", 403),
        ("x.cd.example.com", 403),
        ("cd.example.com.evil.example", 403),
    ] {
        let request = Request::get("/version").header(header::HOST, host);
        let answer = api.request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), code, "{host}");
    }
}
