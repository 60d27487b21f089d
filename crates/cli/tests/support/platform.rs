//! A platform in a directory of its own, on ports that the system chooses.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::time::timeout;

use super::processes::Process;
use super::waiting::{LOOK, PATIENCE, poll};
use super::{program, search_path};

/// Lines of each log that are shown when a test fails.
const TAIL: usize = 40;

/// A running platform. Whatever of it lives when the value goes, after a panic too, is stopped.
pub struct Platform {
    dir: tempfile::TempDir,
}

/// What a command has told, and how it ended.
#[derive(Debug)]
pub struct Told {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Its errors and warnings.
    pub stderr: String,
}

impl Platform {
    /// A platform that is not up yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// A platform that is up, with `arguments` for `serin up`, and its gateway serves.
    pub async fn start(arguments: &[&str]) -> Self {
        let platform = Self::new();
        platform.up(arguments).await;
        platform.gateway().await;
        platform
    }

    /// `serin up --detach`; again after it has ended, too: the API then has another port, the gateway the one it had.
    pub async fn up(&self, arguments: &[&str]) {
        let free = "127.0.0.1:0";
        let mut all = vec!["up", "--detach", "--listen", free, "--gateway-listen", free];
        all.extend(arguments);
        self.serin(&all).await;
    }

    /// The directory of this test; the state directory is in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The file that `serin` and `kubectl` find the API with.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home().join("kubeconfig")
    }

    /// A command that knows this platform and nothing else.
    pub fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.dir.path())
            .env("SERIN_HOME", self.home())
            .env("KUBECONFIG", self.kubeconfig())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null());
        command
    }

    /// What `serin` tells, however it ends.
    pub async fn try_serin(&self, arguments: &[&str]) -> Told {
        let mut command = self.command(env!("CARGO_BIN_EXE_serin"), arguments);
        // Without a kubeconfig of its own it takes that of the state directory, as a person's would.
        command.env_remove("KUBECONFIG");
        run(command).await
    }

    /// The results of `serin`, which must succeed.
    pub async fn serin(&self, arguments: &[&str]) -> String {
        let told = self.try_serin(arguments).await;
        assert_eq!(told.code, Some(0), "serin {arguments:?}: {told:?}");
        told.stdout
    }

    /// What `kubectl` tells, however it ends; `None` where it is not installed.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Option<Told> {
        let kubectl = program("kubectl")?;
        Some(run(self.command(kubectl, arguments)).await)
    }

    /// Applies manifests from text, as `serin apply -f` does.
    pub async fn apply(&self, manifests: &str) {
        let file = tempfile::NamedTempFile::with_suffix_in(".yaml", self.dir.path()).unwrap();
        std::fs::write(file.path(), manifests).unwrap();
        self.apply_file(file.path()).await;
    }

    /// Applies a file or a directory.
    pub async fn apply_file(&self, path: &Path) {
        self.serin(&["apply", "-f", path.to_str().unwrap()]).await;
    }

    /// A client of the API as it is reached now.
    pub async fn client(&self) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// What a process of the platform says of itself: `serin.json` (`pid`, `api`) or `gateway.json` (`pid`, `keeperPid`,
    /// `listen`). Waits for the file.
    pub async fn run_file(&self, name: &str) -> Value {
        let path = self.home().join("run").join(name);
        let look = async || serde_json::from_slice(&std::fs::read(&path).ok()?).ok();
        poll(&format!("run/{name}"), look).await
    }

    /// Where the gateway serves. Waits until it does.
    pub async fn gateway(&self) -> SocketAddr {
        let info = self.run_file("gateway.json").await;
        info["listen"][0].as_str().unwrap().parse().unwrap()
    }

    /// The processes whose command line names this platform: pid and subcommand (`up`, `keeper`, `gateway`, `shim`).
    pub fn processes(&self) -> Vec<(i32, String)> {
        let home = self.home().to_str().unwrap().to_owned();
        let mine = Process::all().filter(|process| process.command.contains(&home));
        let mut found: Vec<_> = mine
            .map(|process| {
                let subcommand = process.command.split(' ').nth(1).unwrap_or_default();
                (process.pid, subcommand.to_owned())
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The processes that work in the state directory: instances, and what came of them.
    fn working(&self) -> Vec<i32> {
        let home = self.home();
        let mine = Process::all().filter(|process| process.directory.starts_with(&home));
        mine.map(|process| process.pid).collect()
    }

    /// The ends of the platform's own logs.
    fn logs(&self) -> String {
        let mut told = String::new();
        for name in ["serin.log", "gateway.log"] {
            let path = self.home().join("logs").join(name);
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let end = &lines[lines.len().saturating_sub(TAIL)..];
            told.push_str(&format!("--- the end of {name}\n{}\n", end.join("\n")));
        }
        told
    }
}

impl Platform {
    /// What the parts of the platform asked and have no right to.
    fn refused(&self) -> Vec<String> {
        let log = self.home().join("logs").join("serin.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let refused = log
            .lines()
            .filter(|line| line.contains("a part of the platform was refused"));
        refused.map(str::to_owned).collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let refused = self.refused();
        if std::thread::panicking() {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{}", self.logs());
        }
        let mut down = self.command(env!("CARGO_BIN_EXE_serin"), &["down", "--grace", "1s"]);
        down.env_remove("KUBECONFIG")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Ok(mut down) = down.spawn() {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE && matches!(down.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ = down.kill();
            let _ = down.wait();
        }
        let own = self.processes().into_iter().map(|(pid, _)| pid);
        for pid in own.chain(self.working()) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        // Every test is one of the roles of the parts, too.
        assert!(
            std::thread::panicking() || refused.is_empty(),
            "{refused:#?}"
        );
    }
}

/// What a command tells, however it ends.
pub async fn run(command: Command) -> Told {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = timeout(2 * PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{shown} did not end"))
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    Told {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
