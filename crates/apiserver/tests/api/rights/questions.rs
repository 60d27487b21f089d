//! Reviews, and requests in the name of others.

use serde_json::{Value, json};

use super::{NONE, PODS, Stage, message};

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

async fn may(stage: &Stage, token: &str, attributes: Value) -> bool {
    let path = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let (code, answer) = stage.post(token, &path, json!({"spec": attributes})).await;
    assert_eq!(code, 201, "{answer}");
    answer["status"]["allowed"].as_bool().unwrap()
}

fn on(verb: &str, resource: &str, namespace: &str) -> Value {
    json!({"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}})
}

#[tokio::test]
async fn everybody_may_ask_what_they_may() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    stage.give("view", "builder").await;
    assert!(may(&stage, &token, on("list", "pods", "default")).await);
    assert!(!may(&stage, &token, on("delete", "pods", "default")).await);
    assert!(!may(&stage, &token, on("list", "pods", "")).await);
    assert!(may(&stage, "secret", on("delete", "pods", "")).await);
    let url = json!({"nonResourceAttributes": {"verb": "get", "path": "/backup"}});
    assert!(!may(&stage, &token, url.clone()).await);
    assert!(may(&stage, "secret", url).await);
    let path = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    assert_eq!(stage.post(&token, &path, json!({"spec": {}})).await.0, 400);
    let path = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let (_, rules) = stage
        .post(&token, &path, json!({"spec": {"namespace": "default"}}))
        .await;
    let has = |resource: &str| {
        let rules = rules["status"]["resourceRules"].as_array().unwrap();
        rules.iter().any(|r| {
            r["resources"]
                .as_array()
                .unwrap()
                .contains(&json!(resource))
        })
    };
    assert!(has("pods/log") && has("rollouts") && !has("secrets"));
    assert!(
        !rules["status"]["nonResourceRules"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn whoever_may_can_ask_about_others() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    stage.give("edit", "builder").await;
    let who = "system:serviceaccount:default:builder";
    let spec = |user: &str, verb: &str| {
        let mut spec = on(verb, "pods", "default");
        spec["user"] = json!(user);
        spec
    };
    let all = format!("{AUTHORIZATION}/subjectaccessreviews");
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    for path in [&all, &local] {
        for (user, verb, want) in [
            (who, "create", true),
            (who, "approve", false),
            ("jane", "create", false),
        ] {
            let answer = stage.made(path, json!({"spec": spec(user, verb)})).await;
            assert_eq!(answer["status"]["allowed"], want, "{path} {user} {verb}");
        }
        assert_eq!(
            stage
                .post(&token, path, json!({"spec": spec(who, "create")}))
                .await
                .0,
            403
        );
    }
    let elsewhere = json!({"spec": {"user": "jane", "resourceAttributes": {"verb": "get", "namespace": "other"}}});
    assert_eq!(stage.post("secret", &local, elsewhere).await.0, 400);
}

#[tokio::test]
async fn who_may_impersonate_has_the_rights_of_the_other_and_no_more() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    stage.give("view", "builder").await;
    let as_builder = [("Impersonate-User", "system:serviceaccount:default:builder")];
    let ask = async |token: &str, headers: &[(&str, &str)], path: &str| {
        stage.ask(token, headers, "GET", path, &Value::Null).await
    };
    assert_eq!(ask("secret", &as_builder, PODS).await.0, 200);
    let refused = ask("secret", &as_builder, "/api/v1/nodes").await;
    assert_eq!(refused.0, 403);
    assert!(
        message(&refused).contains(r#"User "system:serviceaccount:default:builder" cannot list"#)
    );
    // Asking as oneself takes the right as well.
    let refused = ask(&token, &as_builder, PODS).await;
    let told = r#"serviceaccounts "builder" is forbidden: User "system:serviceaccount:default:builder" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "default""#;
    assert_eq!((refused.0, message(&refused)), (403, told));
    let refused = ask(
        &token,
        &[
            ("Impersonate-User", "x"),
            ("Impersonate-Group", "system:masters"),
        ],
        PODS,
    )
    .await;
    assert_eq!(refused.0, 403);
    let as_group = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "system:masters"),
    ];
    assert_eq!(ask("secret", &as_group, "/api/v1/nodes").await.0, 200);
    let jane = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Extra-team%2Fname", "shop"),
        ("Impersonate-Uid", "7"),
    ];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (_, me) = stage.ask("secret", &jane, "POST", path, &json!({})).await;
    assert_eq!(
        me["status"]["userInfo"],
        json!({"username": "jane", "uid": "7", "groups": ["system:authenticated"], "extra": {"team/name": ["shop"]}})
    );
    let lonely = [("Impersonate-Group", "devs")];
    assert_eq!(ask("secret", &lonely, PODS).await.0, 400);
    assert_eq!(ask("secret", NONE, PODS).await.0, 200);
}

#[tokio::test]
async fn a_role_may_allow_to_speak_for_one_group_only() {
    let stage = Stage::new();
    let token = stage.account("gate").await;
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"]},
    ]);
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    stage
        .made(
            &format!("{roles}/clusterroles"),
            json!({"metadata": {"name": "gate"}, "rules": rules}),
        )
        .await;
    let subject = json!({"kind": "ServiceAccount", "name": "gate", "namespace": "default"});
    let binding = json!({"metadata": {"name": "gate"}, "roleRef": {"kind": "ClusterRole", "name": "gate"}, "subjects": [subject]});
    stage
        .made(&format!("{roles}/clusterrolebindings"), binding)
        .await;
    let devs = json!([{"kind": "Group", "name": "devs"}]);
    let binding = json!({"metadata": {"name": "devs"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": devs});
    stage
        .made(&format!("{roles}/clusterrolebindings"), binding)
        .await;
    let ask = async |group: &str| {
        let headers = [("Impersonate-User", "jane"), ("Impersonate-Group", group)];
        stage
            .ask(&token, &headers, "GET", PODS, &Value::Null)
            .await
            .0
    };
    assert_eq!(ask("devs").await, 200);
    assert_eq!(ask("system:masters").await, 403);
}
