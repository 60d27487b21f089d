//! `serin up` and `serin down` with real processes, on ports of the system's choice.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: serin.dev/demo:v1
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
"#;

/// A platform in a directory of its own; whatever of it lives at the end is stopped.
struct Platform {
    dir: tempfile::TempDir,
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--grace", "1s"]).output();
    }
}

impl Platform {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SERIN_HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    /// The output of a command that must succeed.
    fn serin(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and error of a command that must fail.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stderr, .. } = self.command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn up(&self) -> String {
        let free = "127.0.0.1:0";
        self.serin(&["up", "--detach", "--listen", free, "--gateway-listen", free])
    }

    fn run_file(&self, name: &str) -> serde_json::Value {
        let text = wait_for(|| std::fs::read(self.home().join("run").join(name)).ok());
        serde_json::from_slice(&text).unwrap()
    }

    fn with_web(self) -> Self {
        let manifest = self.dir.path().join("web.yaml");
        std::fs::write(&manifest, WEB).unwrap();
        let applied = self.serin(&["apply", "-f", manifest.to_str().unwrap()]);
        assert_eq!(applied, "deployment.apps/web created\n");
        self.serin(&["rollout", "status", "web", "--timeout", "60s"]);
        self
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "nothing came in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose command line names a directory, with their command.
fn processes_of(home: &Path) -> Vec<(u32, String)> {
    let home = home.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(home) {
            let command = line.split(' ').nth(1).unwrap_or_default().to_owned();
            found.push((pid, command));
        }
    }
    found.sort_unstable();
    found
}

fn kill(pid: &serde_json::Value) {
    let status = Command::new("/bin/kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_platform_starts_once_and_stops_whole() {
    let platform = Platform::new();
    let kubeconfig = platform.home().join("kubeconfig");
    assert_eq!(platform.up().trim(), kubeconfig.to_str().unwrap());
    let running = platform.run_file("serin.json");
    let pid = running["pid"].to_string();

    // A gateway without TLS has no use for certificates.
    let role = ["get", "clusterrole", "system:serin:gateway", "-o", "yaml"];
    let role = platform.serin(&role);
    assert!(
        role.contains("services") && !role.contains("secrets"),
        "{role}"
    );

    let (exit, told) = platform.refused(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(exit, 75, "{told}");
    assert!(told.contains(&format!("(pid {pid})")), "{told}");
    let other = Platform::new();
    let (exit, told) = other.refused(&[
        "up",
        "--detach",
        "--listen",
        running["api"].as_str().unwrap(),
    ]);
    assert_eq!(exit, 75, "{told}");
    assert!(
        told.contains(&format!("serin (pid {pid})")) && told.contains("--listen"),
        "{told}"
    );

    let platform = platform.with_web();
    assert!(
        platform
            .serin(&["rollout", "get", "web"])
            .contains("2/2 available")
    );
    assert!(
        platform
            .serin(&["logs", "deploy/web"])
            .contains("listening on")
    );
    let names = platform.serin(&["get", "pods", "-o", "name"]);
    assert_eq!(names.lines().count(), 2, "{names}");

    let stopped = platform.serin(&["down"]);
    for what in [
        "control plane (pid ",
        "gateway stopped",
        "2 containers stopped",
    ] {
        assert!(stopped.contains(what), "{stopped}");
    }
    // A shim says that its container has ended, and then ends itself.
    wait_for(|| processes_of(&platform.home()).is_empty().then_some(()));
    assert!(platform.serin(&["down"]).starts_with("nothing runs in "));
    platform.serin(&["down", "--delete-data"]);
    assert!(!platform.home().exists());
}

#[test]
fn instances_and_gateway_outlive_the_control_plane() {
    let platform = Platform::new();
    platform.up();
    let platform = platform.with_web();
    let gateway = platform.run_file("gateway.json");
    let before = processes_of(&platform.home());
    let survivors = |all: &[(u32, String)]| -> Vec<(u32, String)> {
        let lives_on = |command: &str| ["shim", "keeper", "gateway"].contains(&command);
        all.iter()
            .filter(|(_, command)| lives_on(command))
            .cloned()
            .collect()
    };
    assert_eq!(survivors(&before).len(), 4, "{before:?}");

    kill(&platform.run_file("serin.json")["pid"]);
    let up_is_gone = || {
        !processes_of(&platform.home())
            .iter()
            .any(|(_, command)| command == "up")
    };
    wait_for(|| up_is_gone().then_some(()));
    platform.up();
    platform.serin(&["rollout", "status", "web", "--timeout", "60s"]);
    assert_eq!(
        survivors(&processes_of(&platform.home())),
        survivors(&before)
    );
    assert_eq!(platform.run_file("gateway.json"), gateway);

    // The keeper starts the gateway again, and the control plane the keeper.
    kill(&gateway["keeperPid"]);
    kill(&gateway["pid"]);
    let again = || {
        Some(platform.run_file("gateway.json"))
            .filter(|now| now["keeperPid"] != gateway["keeperPid"])
    };
    wait_for(again);
}

const WIDGETS: &str = r#"
apiVersion: example.com/v1
kind: Widget
metadata: {name: first}
spec: {size: 3}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer}}}}
"#;

#[test]
fn a_kubeconfig_stays_good_and_every_write_has_its_author() {
    let platform = Platform::new();
    let listen = ["--listen", "127.0.0.1:0", "--no-gateway"];
    let up = |more: &[&str]| platform.serin(&[&["up", "--detach"], &listen[..], more].concat());
    up(&[]);
    let manifest = platform.dir.path().join("widgets.yaml");
    std::fs::write(&manifest, WIDGETS).unwrap();
    let applied = platform.serin(&["apply", "-f", manifest.to_str().unwrap()]);
    assert_eq!(
        applied,
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\nwidget.example.com/first created\n"
    );
    let history = platform.serin(&["history", "widgets", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let first = &history["items"][0];
    assert_eq!(
        (&first["user"], &first["name"], &first["change"]),
        (&"serin:admin".into(), &"first".into(), &"created".into())
    );
    // The authority of before vouches for the certificate of the next start, which has one name more.
    let kept = platform.dir.path().join("kubeconfig");
    let config = std::fs::read_to_string(platform.home().join("kubeconfig")).unwrap();
    platform.serin(&["down"]);
    up(&["--tls-san", "cd.example.com"]);
    let address = |file: &str| platform.run_file(file)["api"].as_str().unwrap().to_owned();
    let server = config
        .lines()
        .find(|line| line.contains("https://"))
        .unwrap();
    let moved = config.replace(
        server
            .rsplit("https://")
            .next()
            .unwrap()
            .trim_end_matches('"'),
        &address("serin.json"),
    );
    std::fs::write(&kept, moved).unwrap();
    let told = platform.serin(&[
        "get",
        "widgets",
        "--kubeconfig",
        kept.to_str().unwrap(),
        "-o",
        "name",
    ]);
    assert_eq!(told, "widget.example.com/first\n");
}
