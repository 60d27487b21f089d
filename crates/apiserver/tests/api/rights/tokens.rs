//! The tokens of service accounts.

use serde_json::{Value, json};
use serin_apiserver::Store;

use super::{NONE, PODS, Stage, message, on_its_own};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn works(stage: &Stage, token: &str) -> bool {
    let (code, answer) = stage.post(token, WHOAMI, json!({})).await;
    assert!([201, 401].contains(&code), "{answer}");
    code == 201
}

async fn token(stage: &Stage, name: &str, spec: Value) -> (u16, Value) {
    stage
        .post(
            "secret",
            &format!("{ACCOUNTS}/{name}/token"),
            json!({"spec": spec}),
        )
        .await
}

fn text(answer: &Value) -> &str {
    answer["status"]["token"].as_str().unwrap()
}

#[tokio::test]
async fn a_token_ends_in_time_and_with_its_account() {
    let stage = Stage::new();
    let first = stage.account("builder").await;
    let (_, me) = stage.post(&first, WHOAMI, json!({})).await;
    assert_eq!(
        me["status"]["userInfo"]["username"],
        "system:serviceaccount:default:builder"
    );
    assert_eq!(
        me["status"]["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let (_, long) = token(&stage, "builder", json!({"expirationSeconds": 7200})).await;
    assert_eq!(
        long["status"]["expirationTimestamp"],
        "2027-01-15T10:00:00Z"
    );
    stage.wait(3601);
    assert!(!works(&stage, &first).await);
    assert!(works(&stage, text(&long)).await);
    let path = format!("{ACCOUNTS}/builder");
    assert_eq!(stage.delete("secret", &path).await.0, 200);
    assert!(!works(&stage, text(&long)).await);
    // Another account of the same name is another account.
    let again = stage.account("builder").await;
    assert!(works(&stage, &again).await);
    assert!(!works(&stage, text(&long)).await);
}

#[tokio::test]
async fn a_token_may_be_bound_to_a_pod() {
    let stage = Stage::new();
    stage.account("builder").await;
    let spec =
        json!({"serviceAccountName": "builder", "containers": [{"name": "web", "image": "web:1"}]});
    let pod = stage
        .made(PODS, json!({"metadata": {"name": "web"}, "spec": spec}))
        .await;
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let (code, answer) = token(&stage, "builder", bound("Pod", "web", uid)).await;
    assert_eq!(code, 201, "{answer}");
    let (_, me) = stage.post(text(&answer), WHOAMI, json!({})).await;
    let extra = &me["status"]["userInfo"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["web"])
    );
    for (account, spec, code) in [
        ("builder", bound("Pod", "web", "other"), 409),
        ("builder", bound("Pod", "gone", ""), 404),
        ("builder", bound("Deployment", "web", ""), 400),
        ("default", bound("Pod", "web", uid), 400),
        ("nobody", json!({}), 404),
    ] {
        assert_eq!(
            token(&stage, account, spec.clone()).await.0,
            code,
            "{account} {spec}"
        );
    }
    stage.delete("secret", &format!("{PODS}/web")).await;
    assert!(!works(&stage, text(&answer)).await);
}

#[tokio::test]
async fn a_request_for_a_token_is_checked() {
    let stage = Stage::new();
    stage.account("builder").await;
    for (spec, told) in [
        (
            json!({"expirationSeconds": 599}),
            "may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 1i64 << 33}),
            "may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"expirationSeconds": "long"}),
            "must be a whole number",
        ),
        (json!({"audiences": [1]}), "must be texts"),
    ] {
        let answer = token(&stage, "builder", spec).await;
        assert_eq!(answer.0, 422, "{answer:?}");
        assert!(message(&answer).contains(told), "{answer:?}");
    }
    let path = format!("{ACCOUNTS}/builder/token");
    assert_eq!(stage.get("secret", &path).await.0, 405);
}

#[tokio::test]
async fn a_token_for_others_is_none_for_this_server() {
    let stage = Stage::new();
    stage.account("builder").await;
    let (_, vault) = token(&stage, "builder", json!({"audiences": ["vault", "other"]})).await;
    assert!(!works(&stage, text(&vault)).await);
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review =
        async |spec: Value| stage.made(reviews, json!({"spec": spec})).await["status"].clone();
    let good = review(json!({"token": text(&vault), "audiences": ["vault"]})).await;
    assert_eq!(
        (&good["authenticated"], &good["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    assert_eq!(
        good["user"]["username"],
        "system:serviceaccount:default:builder"
    );
    for (spec, why) in [
        (json!({"token": text(&vault)}), "it is for another audience"),
        (json!({"token": "garbage"}), "it is no token"),
        // The administrator's token is no matter of reviews: it is not to be found out by them.
        (json!({"token": "secret"}), "it is no token"),
        (json!({}), "it is no token"),
    ] {
        let status = review(spec).await;
        assert_eq!(
            (&status["authenticated"], &status["error"]),
            (&json!(false), &json!(why))
        );
    }
}

#[test]
fn a_token_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let other = directory.path().join("other.db");
    // Each time in a runtime of its own, so that nothing of the first server is left.
    let token = on_its_own(async || {
        let stage = Stage::over(Store::open(&path).unwrap());
        stage.account("builder").await
    });
    on_its_own(async || {
        let stage = Stage::over(Store::open(&path).unwrap());
        assert!(works(&stage, &token).await);
        let backup = stage.ask(&token, NONE, "GET", "/backup", &Value::Null);
        assert_eq!(backup.await.0, 403);
        // A server without the account takes no token for it.
        let other = Stage::over(Store::open(&other).unwrap());
        assert!(!works(&other, &token).await);
    });
}
