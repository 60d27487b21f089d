//! The real kubectl against the real listener. Skipped, with a word, where kubectl is not installed; the variable `KUBECTL`
//! names another one.

mod rights;

use std::process::Stdio;
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::json;
use serin_apiserver::{ApiServer, Store, serve_over};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::waiting::soon;

fn kubectl() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}

/// kubectl sends no token over anything less than TLS.
fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)
        .unwrap();
    Arc::new(config).into()
}

fn kubeconfig(address: std::net::SocketAddr) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("https://{address}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "test", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    config.to_string()
}

/// A listening server, and a kubectl with nothing of its environment but that server.
struct Stage {
    directory: tempfile::TempDir,
    api: axum::Router,
    stop: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Stage {
    /// `None` where there is no kubectl.
    async fn new() -> Option<Self> {
        let mut version = Command::new(kubectl());
        version.args(["version", "--client"]).kill_on_drop(true);
        let found = soon("kubectl version", version.output()).await;
        if !found.is_ok_and(|o| o.status.success()) {
            println!("skipped: kubectl is not on the PATH");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let server = ApiServer::new(Store::open(&directory.path().join("state.db")).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = kubeconfig(listener.local_addr().unwrap());
        std::fs::write(directory.path().join("kubeconfig"), config).unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let router = server.guarded_router("secret");
        let tls = acceptor();
        let handshake = move |stream| {
            let tls = tls.clone();
            async move { tls.accept(stream).await }
        };
        let shutdown = async move { stopped.notified().await };
        let serving = tokio::spawn(serve_over(listener, handshake, router, shutdown));
        Some(Self {
            directory,
            api: server.router(),
            stop,
            serving,
        })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(kubectl());
        command.args(arguments.split_whitespace());
        // Where the documents of the users are.
        command.current_dir(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../api/tests/documents"
        ));
        command.env("HOME", self.directory.path());
        command.env("KUBECONFIG", self.directory.path().join("kubeconfig"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What kubectl prints, and its exit code when that is not 0.
    async fn kubectl(&self, arguments: &str) -> String {
        let output = soon(arguments, self.command(arguments).output())
            .await
            .unwrap();
        let mut told = String::from_utf8(output.stdout).unwrap()
            + std::str::from_utf8(&output.stderr).unwrap();
        if !output.status.success() {
            told += &format!("exit code {}\n", output.status.code().unwrap());
        }
        told
    }

    async fn check(&self, arguments: &str, want: Expect) {
        want.assert_eq(&self.kubectl(arguments).await);
    }

    /// Checks the part of what kubectl prints that does not depend on its version, or on the words of our rules.
    async fn tells(&self, arguments: &str, wanted: &[&str]) {
        let told = self.kubectl(arguments).await;
        for wanted in wanted {
            assert!(
                told.contains(wanted),
                "{arguments}: {wanted:?} is not in {told}"
            );
        }
    }

    async fn end(self) {
        self.stop.notify_one();
        soon("the end of the server", self.serving).await.unwrap();
    }

    fn client(&self) -> kube::Client {
        kube::Client::new(self.api.clone(), "default")
    }
}

#[tokio::test]
async fn documents_apply_unmodified() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage
        .check(
            "apply -f 2.2-1.yaml",
            expect![[r#"
        deployment.apps/web-app created
    "#]],
        )
        .await;
    stage
        .check(
            "apply -f 2.2-1.yaml",
            expect![[r#"
        deployment.apps/web-app unchanged
    "#]],
        )
        .await;
    for document in ["3.2-1", "4.3-1", "8.4-1"] {
        let told = stage.kubectl(&format!("apply -f {document}.yaml")).await;
        assert!(
            told.contains(" created\n") && !told.contains("exit code"),
            "{document}: {told}"
        );
    }
    stage
        .check(
            "get deployments,services,ingresses,rollouts -o name",
            expect![[r#"
        deployment.apps/web-app
        deployment.apps/web-app-blue
        deployment.apps/web-app-green
        service/web-app-service
        ingress.networking.k8s.io/web-app-canary
        ingress.networking.k8s.io/web-app-main
        rollout.argoproj.io/web-app-rollout
    "#]],
        )
        .await;
    stage.end().await;
}

#[tokio::test]
async fn both_mistakes_of_a_document_are_told() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage
        .tells(
            "apply -f 6.2-1.yaml",
            &[
                r#"The Deployment "web-app" is invalid"#,
                "* spec.selector: Required value",
                "* spec.template.spec.containers[0].terminationGracePeriodSeconds: unknown field",
                "exit code 1",
            ],
        )
        .await;
    stage
        .check(
            "apply --server-side -f 2.2-1.yaml",
            expect![[r#"
        deployment.apps/web-app serverside-applied
    "#]],
        )
        .await;
    stage
        .check(
            "get deployment web-app -o jsonpath={.metadata.generation}",
            expect!["1"],
        )
        .await;
    stage.end().await;
}

#[tokio::test]
async fn changes_of_a_deployment() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage.kubectl("apply -f 2.2-1.yaml").await;
    for command in [
        "set image deployment/web-app web=nginx:1.22",
        "scale deployment/web-app --replicas=2",
        "patch deployment web-app --type=json -p [{\"op\":\"add\",\"path\":\"/spec/paused\",\"value\":true}]",
        "label deployment web-app tier=front",
        "annotate deployment web-app note=x",
        "rollout resume deployment/web-app",
        "rollout restart deployment/web-app",
        "autoscale deployment/none --max=3",
    ] {
        let told = stage.kubectl(command).await;
        assert_eq!(
            told.contains("exit code"),
            command.starts_with("autoscale"),
            "{command}: {told}"
        );
    }
    let now = "get deployment web-app -o jsonpath={.spec.replicas},{.spec.template.spec.containers[0].image},{.metadata.labels.tier},{.metadata.generation}";
    stage.check(now, expect!["2,nginx:1.22,front,6"]).await;
    let described = stage.kubectl("describe deployment web-app").await;
    assert!(described.contains("nginx:1.22"), "{described}");
    let wide = stage.kubectl("get deployments -o wide").await;
    assert!(
        wide.starts_with("NAME      READY   UP-TO-DATE   AVAILABLE   AGE"),
        "{wide}"
    );
    stage
        .check(
            "get deployment nope",
            expect![[r#"
        Error from server (NotFound): deployments.apps "nope" not found
        exit code 1
    "#]],
        )
        .await;
    stage
        .check(
            "get pods",
            expect![[r#"
        No resources found in default namespace.
    "#]],
        )
        .await;
    let explained = stage
        .kubectl("explain rollout.spec.strategy.canary.steps")
        .await;
    assert!(explained.contains("setWeight"), "{explained}");
    stage.end().await;
}

#[tokio::test]
async fn history_is_read_and_taken_back() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage.kubectl("apply -f 2.2-1.yaml").await;
    let deployments: kube::Api<k8s_openapi::api::apps::v1::Deployment> =
        kube::Api::default_namespaced(stage.client());
    let sets: kube::Api<k8s_openapi::api::apps::v1::ReplicaSet> =
        kube::Api::default_namespaced(stage.client());
    let deployment = deployments.get("web-app").await.unwrap();
    for (revision, image) in [("1", "nginx:1.19"), ("2", "nginx:1.20")] {
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {
            "name": format!("web-app-{revision}"), "labels": {"app": "web-app", "pod-template-hash": revision},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-app", "controller": true,
                "uid": deployment.metadata.uid}]},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web-app", "pod-template-hash": revision}},
                "template": {"metadata": {"labels": {"app": "web-app", "pod-template-hash": revision}},
                    "spec": {"containers": [{"name": "web", "image": image}]}}}});
        sets.create(&Default::default(), &serde_json::from_value(set).unwrap())
            .await
            .unwrap();
    }
    stage
        .kubectl("annotate deployment web-app deployment.kubernetes.io/revision=2")
        .await;
    stage
        .check(
            "rollout history deployment/web-app",
            expect![[r#"
        deployment.apps/web-app 
        REVISION  CHANGE-CAUSE
        1         <none>
        2         <none>

    "#]],
        )
        .await;
    stage
        .tells(
            "rollout undo deployment/web-app --to-revision=1",
            &["deployment.apps/web-app rolled back"],
        )
        .await;
    stage
        .check(
            "get deployment web-app -o jsonpath={.spec.template.spec.containers[0].image}",
            expect!["nginx:1.19"],
        )
        .await;
    stage.end().await;
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

async fn next(lines: &mut Lines) -> String {
    let line = soon("a line of kubectl", lines.next_line()).await;
    line.unwrap().unwrap()
}

#[tokio::test]
async fn get_watches_and_delete_waits() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage.kubectl("apply -f 2.2-1.yaml").await;
    let mut watching = stage
        .command("get deployments -w --no-headers")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let first = next(&mut lines).await;
    assert!(first.starts_with("web-app   0/6"), "{first}");
    stage.kubectl("scale deployment/web-app --replicas=2").await;
    let second = next(&mut lines).await;
    assert!(second.starts_with("web-app   0/2"), "{second}");
    watching.kill().await.unwrap();
    stage
        .tells(
            "delete -f 2.2-1.yaml",
            &[r#"deployment.apps "web-app" deleted"#],
        )
        .await;
    stage
        .check(
            "wait --for=delete deployment/web-app --timeout=5s",
            expect![[r#""#]],
        )
        .await;
    stage.end().await;
}

/// Where the files of these tests are.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

#[tokio::test]
async fn a_kind_is_installed_used_and_taken_away() {
    let Some(stage) = Stage::new().await else {
        return;
    };
    stage
        .tells(
            &format!("apply -f {DATA}/widgets.yaml"),
            &["customresourcedefinition.apiextensions.k8s.io/widgets.example.com created"],
        )
        .await;
    stage
        .tells(
            "wait --for=condition=established crd/widgets.example.com",
            &["condition met"],
        )
        .await;
    stage
        .tells(
            &format!("apply -f {DATA}/widget.yaml"),
            &["widget.example.com/first created"],
        )
        .await;
    stage.tells("get wd", &["NAME", "SIZE", "first", "3"]).await;
    stage
        .tells("explain widget.spec.size", &["How large it is."])
        .await;
    stage
        .tells(
            &format!("apply -f {DATA}/widget.yaml"),
            &["widget.example.com/first unchanged"],
        )
        .await;
    stage
        .tells("scale widget/first --replicas=5", &["scaled"])
        .await;
    stage
        .tells("get widget/first -o jsonpath={.spec.size}", &["5"])
        .await;
    stage
        .tells("delete crd widgets.example.com", &["deleted"])
        .await;
    stage.end().await;
}
