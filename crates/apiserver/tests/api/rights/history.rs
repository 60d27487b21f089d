//! Who has written what.

use serde_json::{Value, json};
use serin_apiserver::Store;

use super::{NONE, Stage};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn told(stage: &Stage, query: &str) -> Vec<String> {
    let (code, history) = stage.get("secret", &format!("/history{query}")).await;
    assert_eq!(code, 200, "{history}");
    let items = history["items"].as_array().unwrap();
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or("-").to_owned();
    let line = |item: &Value| {
        let part = text(item, "subresource");
        let from = if item["fromResourceVersion"].is_null() {
            "new"
        } else {
            "known"
        };
        format!(
            "{} {} {}{}{} {from} by {} with {}",
            text(item, "verb"),
            text(item, "change"),
            text(item, "name"),
            if part.is_empty() { "" } else { "/" },
            part,
            text(item, "user"),
            text(item, "userAgent"),
        )
    };
    items.iter().map(line).collect()
}

/// One map is made by an account, changed by the administrator and deleted by somebody in another's name.
async fn written(directory: &tempfile::TempDir) -> (Stage, String) {
    let stage = Stage::over(Store::open(&directory.path().join("state.db")).unwrap());
    let token = stage.account("builder").await;
    stage.give("edit", "builder").await;
    let agent = &[("User-Agent", "pipeline/7")];
    let map = json!({"metadata": {"name": "settings"}, "data": {"key": "never-to-be-told"}});
    stage.ask(&token, agent, "POST", MAPS, &map).await;
    let path = format!("{MAPS}/settings");
    let patch = async |query: &str, data: Value| {
        let path = format!("{path}{query}");
        stage
            .ask("secret", NONE, "PATCH", &path, &json!({"data": data}))
            .await
    };
    patch("", json!({"key": "nor-this"})).await;
    // What changes nothing is no write, and neither is a dry run.
    patch("", json!({"key": "nor-this"})).await;
    patch("?dryRun=All", Value::Null).await;
    let as_jane = &[
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "system:masters"),
    ];
    stage
        .ask("secret", as_jane, "DELETE", &path, &Value::Null)
        .await;
    (stage, token)
}

#[tokio::test]
async fn every_write_is_noted_with_who_did_it_and_without_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (stage, token) = written(&directory).await;
    assert_eq!(
        told(&stage, "?resource=configmaps").await,
        [
            "delete deleted settings known by jane with ",
            "patch updated settings known by serin:admin with ",
            "create created settings new by system:serviceaccount:default:builder with pipeline/7",
        ]
    );
    let (_, all) = stage.get("secret", "/history").await;
    assert!(!all.to_string().contains("never-to-be-told"), "{all}");
    assert_eq!(stage.get(&token, "/history").await.0, 403);
}

#[tokio::test]
async fn the_history_can_be_asked_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let (stage, _) = written(&directory).await;
    let (_, all) = stage.get("secret", "/history").await;
    let last = all["items"][0]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    for (query, count) in [
        ("user=jane", 1),
        ("namespace=other", 0),
        ("name=settings&limit=2", 2),
        (&format!("before={last}"), 2),
    ] {
        let query = format!("?resource=configmaps&{query}");
        assert_eq!(told(&stage, &query).await.len(), count, "{query}");
    }
    assert_eq!(stage.get("secret", "/history?limit=x").await.0, 400);
}

#[tokio::test]
async fn what_beats_all_the_time_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::over(Store::open(&directory.path().join("state.db")).unwrap());
    let namespaced = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    stage
        .made(namespaced, json!({"metadata": {"name": "leader"}}))
        .await;
    stage
        .made("/api/v1/nodes", json!({"metadata": {"name": "local"}}))
        .await;
    let status = json!({"status": {"nodeInfo": {"machineID": "7"}}});
    stage
        .ask(
            "secret",
            NONE,
            "PATCH",
            "/api/v1/nodes/local/status",
            &status,
        )
        .await;
    assert_eq!(
        told(&stage, "").await,
        ["create created local new by serin:admin with "]
    );
}

#[test]
fn it_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let run = |ask: &dyn Fn(Stage) -> std::pin::Pin<Box<dyn Future<Output = Vec<String>>>>| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(ask(Stage::over(Store::open(&path).unwrap())))
    };
    let first = run(&|stage| {
        Box::pin(async move {
            stage.made(MAPS, json!({"metadata": {"name": "a"}})).await;
            told(&stage, "?resource=configmaps").await
        })
    });
    let again = run(&|stage| Box::pin(async move { told(&stage, "?resource=configmaps").await }));
    assert_eq!((first.len(), &first), (1, &again));
}
