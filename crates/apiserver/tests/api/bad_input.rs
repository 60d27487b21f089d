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

fn post(
    name: &'static str,
    media: &'static str,
    body: impl Into<Vec<u8>>,
    want: (u16, &'static str),
) -> Case {
    case(name, Method::POST, MAPS, media, body, want)
}

const BAD: (u16, &str) = (400, "BadRequest");
const TWICE: &str = r#"{"metadata": {"name": "twice"}, "data": {"a": "1"}, "data": {"a": "2"}}"#;

fn nested(open: &str, close: &str) -> String {
    [open.repeat(100_000), close.repeat(100_000)].concat()
}

fn json_bodies() -> Vec<Case> {
    let large = json!({"metadata": {"name": "large"}, "data": {"x": "x".repeat(10 << 20)}});
    let not_utf8 = b"{\"metadata\": {\"name\": \"\xff\xfe\"}}".to_vec();
    let strictly = format!("{MAPS}?fieldValidation=Strict");
    let number = r#"{"metadata": {"name": "n"}, "data": {"a": 1}}"#;
    vec![
        post("deep JSON", JSON, nested("[", "]"), BAD),
        post("deep objects", JSON, nested("{\"a\":", "}"), BAD),
        post(
            "10 MB",
            JSON,
            large.to_string(),
            (413, "RequestEntityTooLarge"),
        ),
        post("no UTF-8", JSON, not_utf8, BAD),
        post(
            "wrong type",
            "text/plain",
            "{}",
            (415, "UnsupportedMediaType"),
        ),
        post("empty", JSON, "", BAD),
        post("cut off", JSON, r#"{"metadata": {"#, BAD),
        case("twice, strictly", Method::POST, &strictly, JSON, TWICE, BAD),
        post("twice, with a warning", JSON, TWICE, (201, "")),
        post(
            "a name that is an address",
            JSON,
            r#"{"metadata": {"name": "../x"}}"#,
            (422, "Invalid"),
        ),
        post("a number for text", JSON, number, (422, "Invalid")),
    ]
}

fn yaml_bodies() -> Vec<Case> {
    let one = format!("{MAPS}/a?fieldManager=t");
    let not_utf8 = b"metadata: {name: \"\xff\xfe\"}".to_vec();
    let two = "metadata: {name: x}\n---\nmetadata: {name: y}\n";
    let twice = "metadata: {name: twice}\ndata: {a: '1'}\ndata: {a: '2'}\n";
    vec![
        post("billion laughs", YAML, billion_laughs(), BAD),
        case(
            "billion laughs, applied",
            Method::PATCH,
            &one,
            APPLY,
            billion_laughs(),
            BAD,
        ),
        post(
            "deep YAML",
            YAML,
            format!("data: {}", nested("[", "]")),
            BAD,
        ),
        post("no UTF-8 in YAML", YAML, not_utf8, BAD),
        post("two documents", YAML, two, BAD),
        post("twice in YAML", YAML, twice, BAD),
    ]
}

fn reads_and_replaces() -> Vec<Case> {
    let stored = format!("{MAPS}/stored");
    let no_number = format!("{MAPS}?resourceVersion=x");
    let stale = json!({"metadata": {"name": "stored", "resourceVersion": "1"}, "data": {"a": "2"}});
    let missing = (404, "NotFound");
    let get = |name, path: &str, want| case(name, Method::GET, path, JSON, "", want);
    let put =
        |name, path: &str, body: String, want| case(name, Method::PUT, path, JSON, body, want);
    vec![
        get(
            "an unknown resource",
            "/api/v1/namespaces/default/nopes",
            missing,
        ),
        get("an unknown group", "/apis/no.example/v1/things", missing),
        get("an unknown part", &format!("{stored}/part"), missing),
        get("a version that is no number", &no_number, BAD),
        put(
            "a stale version",
            &stored,
            stale.to_string(),
            (409, "Conflict"),
        ),
        put(
            "a method of nothing",
            MAPS,
            "{}".into(),
            (405, "MethodNotAllowed"),
        ),
    ]
}

fn patches() -> Vec<Case> {
    const OPERATIONS: &str = "application/json-patch+json";
    const MERGE: &str = "application/merge-patch+json";
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    let unfit = (422, "Invalid");
    let stored = format!("{MAPS}/stored");
    let patch = |name, media, body: Value, want| {
        case(name, Method::PATCH, &stored, media, body.to_string(), want)
    };
    let test = json!([{"op": "test", "path": "/data/a", "value": "other"}]);
    let nothing = json!([{"op": "remove", "path": "/no/such"}]);
    let add = |i: i32| json!({"op": "add", "path": "/data/x", "value": i.to_string()});
    let many: Vec<Value> = (0..10_001).map(add).collect();
    let nobody = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    vec![
        patch("a test that fails", OPERATIONS, test, unfit),
        patch("an operation on nothing", OPERATIONS, nothing, unfit),
        patch("no operations", OPERATIONS, json!({"op": "add"}), BAD),
        patch("too many operations", OPERATIONS, json!(many), BAD),
        patch("a patch that leaves no object", MERGE, json!("x"), unfit),
        patch(
            "an unknown directive",
            STRATEGIC,
            json!({"$patch": "swap"}),
            BAD,
        ),
        patch(
            "an unknown form",
            JSON,
            json!({}),
            (415, "UnsupportedMediaType"),
        ),
        patch("an apply by nobody", APPLY, nobody, BAD),
    ]
}

#[tokio::test]
async fn whatever_is_sent_the_server_goes_on() {
    let server = Raw::new();
    let stored = json!({"metadata": {"name": "stored"}, "data": {"a": "1"}});
    server.post(MAPS, &stored).await;
    let cases = [
        json_bodies(),
        yaml_bodies(),
        reads_and_replaces(),
        patches(),
    ];
    for case in cases.into_iter().flatten() {
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
