//! The scripts of the user's documents, unmodified, with the newest kubectl of this machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::support::{PATIENCE, Platform, Told, run, skip};

/// What the scripts of rolling updates need of their reader: the Deployment of document 2.2-1, smaller and sooner ready, its Service, and
/// the causes that 8.2-1 shows.
const WEB_APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-app
  annotations: {kubernetes.io/change-cause: Initial deployment}
spec:
  replicas: 2
  selector: {matchLabels: {app: web-app}}
  template:
    metadata: {labels: {app: web-app}}
    spec:
      containers:
      - name: web
        image: nginx:1.20
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /health/ready, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web-app-service}
spec:
  selector: {app: web-app}
  ports: [{port: 80, targetPort: 8080}]
";

struct Desk {
    platform: Platform,
    path: String,
}

impl Desk {
    /// `None` where there is no kubectl.
    async fn new(test: &str) -> Option<Self> {
        let Some(kubectl) = crate::installed().await.pop_last().map(|(_, path)| path) else {
            skip(test, "kubectl is not on the PATH");
            return None;
        };
        let platform = Platform::new();
        let image = "nginx=serin.dev/demo";
        let free = "127.0.0.1:0";
        let up = [
            "up",
            "--detach",
            "--listen",
            free,
            "--no-gateway",
            "--image",
            image,
        ];
        platform.serin(&up).await;
        let path = crate::path_with(&platform, &kubectl);
        Some(Self { platform, path })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.platform.command(program, arguments);
        command.env("PATH", &self.path).env("TERM", "xterm");
        command
    }

    /// Runs a script; every line of it must succeed.
    async fn script(&self, name: &str) -> String {
        let path = document(name);
        let told = run(self.command("bash", &["-e", path.to_str().unwrap()])).await;
        assert_eq!(told.code, Some(0), "{name}: {told:?}");
        told.stdout
    }

    async fn line(&self, line: &str) -> Told {
        run(self.command("bash", &["-c", line])).await
    }

    /// Runs a line that goes on for ever until it has shown all that is wanted.
    async fn shown(&self, line: &str, wanted: &[&str]) {
        let mut command = self.command("bash", &["-c", &format!("exec {line}")]);
        command.stdout(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut shown = Vec::new();
        let look = async {
            loop {
                let text = String::from_utf8_lossy(&shown);
                if wanted.iter().all(|part| text.contains(part)) {
                    return true;
                }
                if stdout.read_buf(&mut shown).await.unwrap() == 0 {
                    return false;
                }
            }
        };
        let all = timeout(PATIENCE, look).await == Ok(true);
        let text = String::from_utf8_lossy(&shown);
        assert!(all, "{line} does not show {wanted:?}: {text}");
        child.kill().await.unwrap();
    }

    async fn value(&self, of: &str, path: &str) -> String {
        self.line(&format!("kubectl get {of} -o jsonpath='{{{path}}}'"))
            .await
            .stdout
    }
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../api/tests/documents")
        .join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_is_made_watched_and_taken_back() {
    let Some(desk) = Desk::new("the scripts of rolling updates").await else {
        return;
    };
    desk.platform.apply(WEB_APP).await;
    desk.platform
        .serin(&["rollout", "status", "web-app", "--timeout", "60s"])
        .await;
    let told = desk.script("2.3-1.sh").await;
    assert!(
        told.contains("successfully rolled out") && told.contains("nginx:1.21"),
        "{told}"
    );
    desk.line("kubectl annotate deployment/web-app kubernetes.io/change-cause='Update to v1.1.0' --overwrite")
        .await;

    let script = fs::read_to_string(document("2.3-2.sh")).unwrap();
    let lines = script
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let lines: Vec<_> = lines.collect();
    let [pods, endpoints, history] = lines[..] else {
        panic!("{lines:?}");
    };
    // The first two go on for ever.
    if crate::support::program("watch").is_some() {
        desk.shown(pods, &["web-app-", "Running"]).await;
    }
    desk.shown(endpoints, &["web-app-service", ":8080"]).await;
    let history = desk.line(history).await.stdout;
    for cause in ["Initial deployment", "Update to v1.1.0"] {
        assert!(history.contains(cause), "{history}");
    }

    let told = desk.script("8.2-1.sh").await;
    assert_eq!(told.matches("rolled back").count(), 2, "{told}");
    let image = desk.value(
        "deployment/web-app",
        ".spec.template.spec.containers[0].image",
    );
    assert_eq!(image.await, "nginx:1.21");
    let history = desk
        .line("kubectl rollout history deployment/web-app")
        .await
        .stdout;
    assert!(
        history.contains("\n4 ") && !history.contains("\n2 "),
        "{history}"
    );
}

/// A desk with both colours of the blue-green document on it; `None` where that cannot be.
async fn two_colours() -> Option<Desk> {
    if let Err(error) = TcpListener::bind("127.0.0.2:80")
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        skip(
            "3.3-1",
            "the document uses port 80, which only root may take",
        );
        return None;
    }
    let desk = Desk::new("3.3-1").await?;
    desk.platform.apply_file(&document("3.2-1.yaml")).await;
    Some(desk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blue_green_deployment_flips_the_selector() {
    let Some(desk) = two_colours().await else {
        return;
    };
    for (active, image) in [("green", "nginx:1.21"), ("blue", "nginx:1.21")] {
        let told = desk.script("3.3-1.sh").await;
        assert!(told.contains("condition met"), "{told}");
        let now = desk
            .value("service/web-app-service", ".spec.selector.version")
            .await;
        assert_eq!(now, active, "{told}");
        let deployment = format!("deployment/web-app-{active}");
        let runs = desk
            .value(&deployment, ".spec.template.spec.containers[0].image")
            .await;
        assert_eq!(runs, image);
    }
}

/// With the errata applied (E-13): every step is bounded, here by the deadline of the Deployments, and its result counts. Without them
/// the document would go on after a failed `rollout status`, and take the old pods of the other colour for the new version.
#[tokio::test(flavor = "multi_thread")]
async fn a_blue_green_deployment_of_a_broken_image_leaves_the_selector() {
    let Some(desk) = two_colours().await else {
        return;
    };
    for colour in ["blue", "green"] {
        let status = format!("kubectl rollout status deployment/web-app-{colour} --timeout=60s");
        assert_eq!(desk.line(&status).await.code, Some(0));
        let deadline = r#"{"spec":{"progressDeadlineSeconds":2}}"#;
        let patch = format!("kubectl patch deployment/web-app-{colour} -p '{deadline}'");
        assert_eq!(desk.line(&patch).await.code, Some(0));
    }
    let script = fs::read_to_string(document("3.3-1.sh")).unwrap();
    let broken = script.replace("nginx:1.21", "no-such-image:1.21");
    assert_ne!(broken, script);
    let path = desk.platform.dir().join("3.3-1-broken.sh");
    fs::write(&path, broken).unwrap();
    let told = run(desk.command("bash", &["-e", path.to_str().unwrap()])).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(
        told.stderr.contains("exceeded its progress deadline"),
        "{told:?}"
    );
    let now = desk.value("service/web-app-service", ".spec.selector.version");
    assert_eq!(now.await, "blue");
    // The users of the active colour have noticed nothing.
    let serve = desk.value("deployment/web-app-blue", ".status.availableReplicas");
    assert_eq!(serve.await, "3");
}
