//! Identities and rights, as kubectl makes them and asks for them.

use super::*;

const BUILDER: &str = "--as=system:serviceaccount:default:builder";

#[tokio::test]
async fn roles_tokens_and_questions() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    for (command, told) in [
        (
            "create serviceaccount builder",
            "serviceaccount/builder created\n",
        ),
        (
            "create role reader --verb=get,list --resource=pods",
            "role.rbac.authorization.k8s.io/reader created\n",
        ),
        (
            "create rolebinding reader --role=reader --serviceaccount=default:builder",
            "rolebinding.rbac.authorization.k8s.io/reader created\n",
        ),
    ] {
        assert_eq!(stage.kubectl(command).await, told);
    }
    let as_builder = async |command: &str| stage.kubectl(&format!("{command} {BUILDER}")).await;
    assert_eq!(as_builder("auth can-i list pods").await, "yes\n");
    assert_eq!(
        as_builder("auth can-i delete pods").await,
        "no\nexit code 1\n"
    );
    assert_eq!(stage.kubectl("auth can-i delete pods").await, "yes\n");
    stage
        .tells(
            &format!("auth can-i --list {BUILDER}"),
            &["pods", "[get list]", "[/api/*]"],
        )
        .await;
    stage
        .tells(
            &format!("auth whoami {BUILDER}"),
            &["system:serviceaccount:default:builder"],
        )
        .await;
    expect![[r#"
        Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:default:builder" cannot list resource "secrets" in API group "" in the namespace "default"
        exit code 1
    "#]].assert_eq(&as_builder("get secrets").await);
    expect![[r#"
        Error from server (Forbidden): pods "web" is forbidden: User "system:serviceaccount:default:builder" cannot delete resource "pods" in API group "" in the namespace "default"
        exit code 1
    "#]].assert_eq(&as_builder("delete pod web").await);
    let token = stage.kubectl("create token builder").await;
    let with_token = format!("get pods --token={}", token.trim());
    assert_eq!(
        stage.kubectl(&with_token).await,
        "No resources found in default namespace.\n"
    );
    stage
        .tells(
            "get rolebindings reader -o wide",
            &["Role/reader", "default/builder"],
        )
        .await;
    stage
        .tells(
            "describe clusterrole view",
            &["rollouts.argoproj.io", "pods/log"],
        )
        .await;
    stage.kubectl("delete serviceaccount builder").await;
    expect![[r#"
        error: You must be logged in to the server (Unauthorized)
        exit code 1
    "#]]
    .assert_eq(&stage.kubectl(&with_token).await);
}
