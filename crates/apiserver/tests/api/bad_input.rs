//! Whatever is sent: the right code and reason, and the server goes on.

use http::Method;
use serde_json::{Value, json};

use crate::support::Raw;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const APPLY: &str = "application/apply-patch+yaml";

/// Nine levels of nine references each: a few hundred bytes that stand for hundreds of millions of elements.
fn billion_laughs() -> String {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..=9 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            below.trim_end_matches(", ")
        ));
    }
    text.push_str("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: *a9}\n");
    text
}

struct Case {
    name: &'static str,
    method: Method,
    path: String,
    media: &'static str,
    body: Vec<u8>,
    /// The code, and the reason of a refusal.
    want: (u16, &'static str),
}

fn case(
    name: &'static str,
    method: Method,
    path: &str,
    media: &'static str,
    body: impl Into<Vec<u8>>,
    want: (u16, &'static str),
) -> Case {
    Case {
        name,
        method,
        path: path.to_owned(),
        media,
        body: body.into(),
        want,
    }
}

fn bodies() -> Vec<Case> {
    let post = |name, media, body: Vec<u8>, want| case(name, Method::POST, MAPS, media, body, want);
    let nested = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat();
    let deep_yaml = format!("data: {}", nested("[", "]"));
    let large = json!({"metadata": {"name": "large"}, "data": {"x": "x".repeat(10 << 20)}});
    let twice = br#"{"metadata": {"name": "twice"}, "data": {"a": "1"}, "data": {"a": "2"}}"#;
    let twice_yaml = b"metadata: {name: twice}\ndata: {a: '1'}\ndata: {a: '2'}\n";
    vec![
        post(
            "billion laughs",
            YAML,
            billion_laughs().into(),
            (400, "BadRequest"),
        ),
        case(
            "billion laughs, applied",
            Method::PATCH,
            &format!("{MAPS}/a?fieldManager=t"),
            APPLY,
            billion_laughs(),
            (400, "BadRequest"),
        ),
        post(
            "deep JSON",
            JSON,
            nested("[", "]").into(),
            (400, "BadRequest"),
        ),
        post(
            "deep objects",
            JSON,
            nested("{\"a\":", "}").into(),
            (400, "BadRequest"),
        ),
        post("deep YAML", YAML, deep_yaml.into(), (400, "BadRequest")),
        post(
            "10 MB",
            JSON,
            large.to_string().into(),
            (413, "RequestEntityTooLarge"),
        ),
        post(
            "no UTF-8",
            JSON,
            b"{\"metadata\": {\"name\": \"\xff\xfe\"}}".to_vec(),
            (400, "BadRequest"),
        ),
        post(
            "no UTF-8 in YAML",
            YAML,
            b"metadata: {name: \"\xff\xfe\"}".to_vec(),
            (400, "BadRequest"),
        ),
        post(
            "wrong type",
            "text/plain",
            b"{}".to_vec(),
            (415, "UnsupportedMediaType"),
        ),
        post("empty", JSON, Vec::new(), (400, "BadRequest")),
        post(
            "cut off",
            JSON,
            b"{\"metadata\": {".to_vec(),
            (400, "BadRequest"),
        ),
        post(
            "two documents",
            YAML,
            b"metadata: {name: x}\n---\nmetadata: {name: y}\n".to_vec(),
            (400, "BadRequest"),
        ),
        post(
            "fields twice in YAML",
            YAML,
            twice_yaml.to_vec(),
            (400, "BadRequest"),
        ),
        case(
            "fields twice, strictly",
            Method::POST,
            &format!("{MAPS}?fieldValidation=Strict"),
            JSON,
            twice.to_vec(),
            (400, "BadRequest"),
        ),
        post(
            "fields twice, with a warning",
            JSON,
            twice.to_vec(),
            (201, ""),
        ),
        post(
            "a name that is an address",
            JSON,
            br#"{"metadata": {"name": "../x"}}"#.to_vec(),
            (422, "Invalid"),
        ),
        post(
            "numbers for text",
            JSON,
            br#"{"metadata": {"name": "n"}, "data": {"a": 1}}"#.to_vec(),
            (422, "Invalid"),
        ),
    ]
}

fn requests() -> Vec<Case> {
    let none = Vec::new;
    let stored = format!("{MAPS}/stored");
    let stale = json!({"metadata": {"name": "stored", "resourceVersion": "1"}, "data": {"a": "2"}});
    let patch = |name, media, body: Value, want| {
        case(
            name,
            Method::PATCH,
            &format!("{MAPS}/stored"),
            media,
            body.to_string(),
            want,
        )
    };
    let test = json!([{"op": "test", "path": "/data/a", "value": "other"}]);
    let many: Vec<Value> = (0..10_001)
        .map(|i| json!({"op": "add", "path": "/data/x", "value": i.to_string()}))
        .collect();
    vec![
        case(
            "an unknown resource",
            Method::GET,
            "/api/v1/namespaces/default/nopes",
            JSON,
            none(),
            (404, "NotFound"),
        ),
        case(
            "an unknown group",
            Method::GET,
            "/apis/no.example/v1/things",
            JSON,
            none(),
            (404, "NotFound"),
        ),
        case(
            "an unknown part",
            Method::GET,
            &format!("{stored}/part"),
            JSON,
            none(),
            (404, "NotFound"),
        ),
        case(
            "a stale version",
            Method::PUT,
            &stored,
            JSON,
            stale.to_string(),
            (409, "Conflict"),
        ),
        case(
            "a version that is no number",
            Method::GET,
            &format!("{MAPS}?resourceVersion=x"),
            JSON,
            none(),
            (400, "BadRequest"),
        ),
        patch(
            "a test that fails",
            "application/json-patch+json",
            test,
            (422, "Invalid"),
        ),
        patch(
            "an operation on nothing",
            "application/json-patch+json",
            json!([{"op": "remove", "path": "/no/such"}]),
            (422, "Invalid"),
        ),
        patch(
            "no operations",
            "application/json-patch+json",
            json!({"op": "add"}),
            (400, "BadRequest"),
        ),
        patch(
            "too many operations",
            "application/json-patch+json",
            json!(many),
            (400, "BadRequest"),
        ),
        patch(
            "a patch that leaves no object",
            "application/merge-patch+json",
            json!("x"),
            (422, "Invalid"),
        ),
        patch(
            "an unknown directive",
            "application/strategic-merge-patch+json",
            json!({"$patch": "swap"}),
            (400, "BadRequest"),
        ),
        patch(
            "an unknown form",
            "application/json",
            json!({}),
            (415, "UnsupportedMediaType"),
        ),
        patch(
            "an apply by nobody",
            APPLY,
            json!({"apiVersion": "v1", "kind": "ConfigMap"}),
            (400, "BadRequest"),
        ),
        case(
            "a method of nothing",
            Method::PUT,
            MAPS,
            JSON,
            b"{}".to_vec(),
            (405, "MethodNotAllowed"),
        ),
    ]
}

#[tokio::test]
async fn whatever_is_sent_the_server_goes_on() {
    let server = Raw::new();
    let stored = json!({"metadata": {"name": "stored"}, "data": {"a": "1"}});
    server.post(MAPS, &stored).await;
    for case in bodies().into_iter().chain(requests()) {
        let request = http::Request::builder().method(case.method).uri(&case.path);
        let request = request
            .header("content-type", case.media)
            .body(case.body.into());
        let answer = server.request(request.unwrap()).await;
        let status = answer.json();
        let found = (
            answer.status.as_u16(),
            status["reason"].as_str().unwrap_or_default(),
        );
        assert_eq!(found, case.want, "{}: {status}", case.name);
        let message = status["message"].as_str().unwrap_or_default();
        assert!(
            message.len() < 2000,
            "{}: {} bytes of message",
            case.name,
            message.len()
        );
        if case.name.ends_with("warning") {
            assert_eq!(
                answer.warnings(),
                ["299 - \"duplicate field \\\"data\\\"\""]
            );
        }
        let alive = server.get(&format!("{MAPS}/stored")).await;
        assert_eq!(alive.json()["data"], stored["data"], "after {}", case.name);
    }
}
