//! Who may do what: identities, tokens, roles, and that no address is left out.

mod history;
mod questions;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use http::{Request, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_api::kinds;
use serin_apiserver::{ApiServer, Store, TokenKey};

use crate::support::{Raw, eventually};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";
const NONE: &[(&str, &str)] = &[];

/// A listening server with a clock of its own, and how it is spoken to.
pub(super) struct Stage {
    server: Raw,
    seconds: Arc<AtomicI64>,
}

/// A code and a body.
pub(super) type Answer = (u16, Value);

impl Stage {
    pub(super) fn new() -> Self {
        Self::over(Store::in_memory())
    }

    pub(super) fn over(store: Store) -> Self {
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        let clock = Arc::clone(&seconds);
        let server = ApiServer::new(store)
            .with_token_key(TokenKey::of(&[7; 32]).unwrap())
            .with_clock(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap());
        Self {
            server: Raw(server.guarded_router("secret")),
            seconds,
        }
    }

    pub(super) fn wait(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) async fn ask(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, media(method));
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            body.to_string().into()
        };
        let answer = self.server.request(request.body(body).unwrap()).await;
        let value = serde_json::from_slice(&answer.body);
        (answer.status.as_u16(), value.unwrap_or_default())
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask(token, NONE, "GET", path, &Value::Null).await
    }

    pub(super) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.ask(token, NONE, "POST", path, &body).await
    }

    pub(super) async fn delete(&self, token: &str, path: &str) -> Answer {
        self.ask(token, NONE, "DELETE", path, &Value::Null).await
    }

    /// As the administrator; it must work.
    #[track_caller]
    pub(super) fn made(&self, path: &str, body: Value) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            let (code, answer) = self.post("secret", path, body).await;
            assert_eq!(code, 201, "{place}: {answer}");
            answer
        }
    }

    /// A service account of the namespace default, and a token for it.
    pub(super) async fn account(&self, name: &str) -> String {
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        self.made(accounts, json!({"metadata": {"name": name}}))
            .await;
        let path = format!("{accounts}/{name}/token");
        let answer = self.made(&path, json!({"spec": {}})).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Gives a role of the cluster, in the namespace default, to an account there.
    pub(super) async fn give(&self, role: &str, account: &str) {
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": "default"});
        let role = json!({"kind": "ClusterRole", "name": role});
        let name = format!("{account}-{}", role["name"].as_str().unwrap());
        let path = format!("{ROLES}/namespaces/default/rolebindings");
        let binding = json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]});
        self.made(&path, binding).await;
    }
}

fn media(method: &str) -> &'static str {
    match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    }
}

pub(super) fn message(answer: &Answer) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

/// Every address that has an answer, and some that have none.
fn addresses() -> Vec<String> {
    let mut all: Vec<String> = [
        "/",
        "/nobody/thought/of/this",
        "/backup",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/api/v1/nothings",
        "/apis/no.group/v1/things",
        "/api/v1/pods/%zz",
        "/api/v1//pods",
    ]
    .map(str::to_owned)
    .into();
    for review in [
        "authorization.k8s.io/v1/selfsubjectaccessreviews",
        "authorization.k8s.io/v1/subjectaccessreviews",
        "authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
        "authorization.k8s.io/v1/selfsubjectrulesreviews",
        "authentication.k8s.io/v1/tokenreviews",
        "authentication.k8s.io/v1/selfsubjectreviews",
    ] {
        all.push(format!("/apis/{review}"));
    }
    for kind in kinds::all() {
        for version in kind.versions() {
            let start = match kind.group {
                "" => format!("/api/{version}"),
                group => format!("/apis/{group}/{version}"),
            };
            let many = match kind.namespaced {
                true => format!("{start}/namespaces/default/{}", kind.plural),
                false => format!("{start}/{}", kind.plural),
            };
            all.push(format!("{start}/watch/{}", kind.plural));
            for part in [
                "",
                "/status",
                "/scale",
                "/log",
                "/exec",
                "/eviction",
                "/token",
                "/finalize",
            ] {
                all.push(format!("{many}/some{part}"));
            }
            all.push(many);
        }
    }
    all
}

#[tokio::test]
async fn no_address_is_open_to_who_shows_nothing_or_has_no_right() {
    let stage = Stage::new();
    let nobody = stage.account("nobody").await;
    let (_, before) = stage.get("secret", "/api/v1/nodes").await;
    let discovery = [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
    ];
    let free = |method: &str, path: &str| match method {
        "GET" | "HEAD" => discovery.contains(&path),
        "POST" => path.contains("/selfsubject"),
        _ => false,
    };
    for path in addresses() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] {
            let body = json!({"spec": {}});
            let (code, _) = stage.ask("", NONE, method, &path, &body).await;
            assert_eq!(code, 401, "{method} {path} with nothing");
            let (code, _) = stage.ask("garbage", NONE, method, &path, &body).await;
            assert_eq!(code, 401, "{method} {path} with garbage");
            if free(method, &path) {
                continue;
            }
            let (code, told) = stage.ask(&nobody, NONE, method, &path, &body).await;
            assert_eq!(code, 403, "{method} {path} without a right: {told}");
        }
    }
    let (_, after) = stage.get("secret", "/api/v1/nodes").await;
    assert_eq!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(stage.get("", path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn refusals_read_as_those_of_a_cluster() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    let who = "system:serviceaccount:default:builder";
    for (method, path, told) in [
        (
            "GET",
            PODS,
            format!(
                r#"pods is forbidden: User "{who}" cannot list resource "pods" in API group "" in the namespace "default""#
            ),
        ),
        (
            "GET",
            "/api/v1/pods",
            format!(
                r#"pods is forbidden: User "{who}" cannot list resource "pods" in API group "" at the cluster scope"#
            ),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/default/deployments/web/scale",
            format!(
                r#"deployments.apps "web" is forbidden: User "{who}" cannot patch resource "deployments/scale" in API group "apps" in the namespace "default""#
            ),
        ),
        (
            "GET",
            "/backup",
            format!(r#"forbidden: User "{who}" cannot get path "/backup""#),
        ),
    ] {
        let answer = stage.ask(&token, NONE, method, path, &json!({})).await;
        assert_eq!((answer.0, message(&answer)), (403, told.as_str()));
        assert_eq!(answer.1["reason"], "Forbidden");
    }
    let (code, status) = stage.get("", PODS).await;
    assert_eq!(
        (code, &status["message"], &status["reason"]),
        (401, &json!("Unauthorized"), &json!("Unauthorized"))
    );
}

#[tokio::test]
async fn a_role_is_good_in_its_namespace_and_from_the_next_request_on() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    assert_eq!(stage.get(&token, PODS).await.0, 403);
    stage.give("view", "builder").await;
    assert_eq!(stage.get(&token, PODS).await.0, 200);
    assert_eq!(
        stage
            .get(&token, &format!("{PODS}?watch=true&timeoutSeconds=1"))
            .await
            .0,
        200
    );
    assert_eq!(
        stage
            .get(&token, "/api/v1/namespaces/kube-system/pods")
            .await
            .0,
        403
    );
    assert_eq!(stage.get(&token, "/api/v1/pods").await.0, 403);
    assert_eq!(
        stage
            .get(&token, "/api/v1/namespaces/default/secrets")
            .await
            .0,
        403
    );
    let binding = format!("{ROLES}/namespaces/default/rolebindings/builder-view");
    stage.delete("secret", &binding).await;
    assert_eq!(stage.get(&token, PODS).await.0, 403);
}

#[tokio::test]
async fn a_right_on_one_name_is_one_on_lists_of_that_name() {
    let stage = Stage::new();
    let token = stage.account("builder").await;
    let rules = json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]}]);
    stage
        .made(
            &format!("{ROLES}/clusterroles"),
            json!({"metadata": {"name": "one-map"}, "rules": rules}),
        )
        .await;
    stage.give("one-map", "builder").await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["one", "two"] {
        stage.made(maps, json!({"metadata": {"name": name}})).await;
    }
    let (code, list) = stage
        .get(&token, &format!("{maps}?fieldSelector=metadata.name%3Done"))
        .await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(stage.get(&token, &format!("{maps}/one")).await.0, 200);
    for path in [
        maps.to_owned(),
        format!("{maps}/two"),
        format!("{maps}?fieldSelector=metadata.name%3Dtwo"),
        format!("{maps}?fieldSelector=metadata.name!%3Done"),
        format!("{maps}?fieldSelector=&fieldSelector=metadata.name%3Done"),
    ] {
        assert_eq!(stage.get(&token, &path).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let stage = Stage::new();
    let token = stage.account("chief").await;
    stage.give("admin", "chief").await;
    let roles = format!("{ROLES}/namespaces/default/roles");
    let bindings = format!("{ROLES}/namespaces/default/rolebindings");
    let role = |name: &str, resource: &str| {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        json!({"metadata": {"name": name}, "rules": [rule]})
    };
    let bind = |name: &str, kind: &str, role: &str| {
        let subjects = json!([{"kind": "User", "name": "friend"}]);
        json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": subjects})
    };
    assert_eq!(
        stage.post(&token, &roles, role("read", "pods")).await.0,
        201
    );
    assert_eq!(
        stage
            .post(&token, &bindings, bind("read", "Role", "read"))
            .await
            .0,
        201
    );
    assert_eq!(
        stage
            .post(&token, &bindings, bind("edit", "ClusterRole", "edit"))
            .await
            .0,
        201
    );
    let refused = stage.post(&token, &roles, role("nodes", "nodes")).await;
    assert_eq!(refused.0, 403);
    let told = "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}";
    assert!(message(&refused).ends_with(told), "{}", message(&refused));
    for binding in [
        bind("all", "ClusterRole", "cluster-admin"),
        bind("lost", "ClusterRole", "not-yet-there"),
    ] {
        let refused = stage.post(&token, &bindings, binding).await;
        assert_eq!(refused.0, 403, "{refused:?}");
    }
    let widened = json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    let path = format!("{roles}/read");
    assert_eq!(
        stage.ask(&token, NONE, "PATCH", &path, &widened).await.0,
        403
    );
    // Whatever does not touch the rules is free, and so is taking away.
    let labelled = json!({"metadata": {"labels": {"team": "shop"}}});
    assert_eq!(
        stage.ask(&token, NONE, "PATCH", &path, &labelled).await.0,
        200
    );
    assert_eq!(stage.delete(&token, &path).await.0, 200);
    let moved = json!({"roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}});
    let refused = stage
        .ask("secret", NONE, "PATCH", &format!("{bindings}/edit"), &moved)
        .await;
    assert_eq!(refused.0, 422);
    assert!(
        message(&refused).contains("cannot change roleRef"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn who_may_bind_a_role_need_not_have_it() {
    let stage = Stage::new();
    let token = stage.account("chief").await;
    stage.give("admin", "chief").await;
    let bindings = format!("{ROLES}/namespaces/default/rolebindings");
    let all = json!({"metadata": {"name": "all"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "friend"}]});
    assert_eq!(stage.post(&token, &bindings, all.clone()).await.0, 403);
    let verbs = json!([{"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"]}]);
    stage
        .made(
            &format!("{ROLES}/clusterroles"),
            json!({"metadata": {"name": "binder"}, "rules": verbs}),
        )
        .await;
    stage.give("binder", "chief").await;
    assert_eq!(stage.post(&token, &bindings, all).await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn roles_are_made_of_others_by_label() {
    let stage = Stage::new();
    let token = stage.account("viewer").await;
    stage.give("view", "viewer").await;
    let things = "/apis/example.com/v1/namespaces/default/things";
    assert_eq!(stage.get(&token, things).await.0, 403);
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let rule = json!({"verbs": ["list"], "apiGroups": ["example.com"], "resources": ["things"]});
    let role = json!({"metadata": {"name": "things-view", "labels": label}, "rules": [rule]});
    stage.made(&format!("{ROLES}/clusterroles"), role).await;
    // No such kind is there, but whoever may see it is told so.
    eventually("the right", async || {
        stage.get(&token, things).await.0 == 404
    })
    .await;
    stage
        .delete("secret", &format!("{ROLES}/clusterroles/things-view"))
        .await;
    eventually("the end of the right", async || {
        stage.get(&token, things).await.0 == 403
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_namespace_has_an_account() {
    let stage = Stage::new();
    stage
        .made("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}))
        .await;
    let path = "/api/v1/namespaces/shop/serviceaccounts/default";
    eventually("the account", async || {
        stage.get("secret", path).await.0 == 200
    })
    .await;
    let (_, first) = stage.get("secret", path).await;
    stage.delete("secret", path).await;
    eventually("another account", async || {
        let (code, now) = stage.get("secret", path).await;
        code == 200 && now["metadata"]["uid"] != first["metadata"]["uid"]
    })
    .await;
}

/// In a runtime of its own, which ends with everything that was started in it: as in a process.
fn on_its_own<T>(act: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(act())
}

#[test]
fn what_is_always_there_comes_back_but_for_what_people_keep() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let role = |name: &str| format!("{ROLES}/clusterroles/{name}");
    on_its_own(async || {
        let stage = Stage::over(Store::open(&path).unwrap());
        stage.delete("secret", &role("system:discovery")).await;
        stage
            .ask(
                "secret",
                NONE,
                "PATCH",
                &role("system:basic-user"),
                &json!({"rules": []}),
            )
            .await;
        let kept = json!({"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
        stage
            .ask(
                "secret",
                NONE,
                "PATCH",
                &role("system:public-info-viewer"),
                &kept,
            )
            .await;
    });
    on_its_own(async || {
        let stage = Stage::over(Store::open(&path).unwrap());
        assert_eq!(stage.get("secret", &role("system:discovery")).await.0, 200);
        let (_, basic) = stage.get("secret", &role("system:basic-user")).await;
        assert_eq!(basic["rules"].as_array().unwrap().len(), 2);
        let (_, public) = stage
            .get("secret", &role("system:public-info-viewer"))
            .await;
        assert_eq!(public["rules"], json!([]));
    });
}
