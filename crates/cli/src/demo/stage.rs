//! Where the demo plays: a temporary state directory with a platform of its own, raised and cleared away.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Catalog, Client, FIELD_MANAGER, KubeconfigChoice, PatchKind};
use crate::context::Context;
use crate::down;
use crate::error::CliError;
use crate::home::{DirVariables, Home};
use crate::platform::{Holder, Processes, serving};
use crate::printer::Printer;

/// How long the platform may take until it answers; it takes far less.
const RAISE_DEADLINE: Duration = Duration::from_secs(30);
/// How long instances may take to end when everything is cleared away.
const CLEAR_GRACE: Duration = Duration::from_secs(5);

pub(super) struct Stage {
    home: Home,
    printer: Printer,
    client: Option<Client>,
    gateway: Option<SocketAddr>,
}

impl Stage {
    /// Makes the directory, which nobody else can read.
    pub(super) fn new(context: &Context) -> Result<Self, CliError> {
        let root =
            std::env::temp_dir().join(format!("serin-demo-{}", uuid::Uuid::new_v4().simple()));
        let home = Home::resolve(Some(&root), &DirVariables::of_process())?;
        Ok(Self {
            home,
            printer: context.printer,
            client: None,
            gateway: None,
        })
    }

    /// Starts the platform, as a person would: `serin up --detach`.
    pub(super) async fn raise(&mut self) -> Result<(), CliError> {
        let program = std::env::current_exe()
            .map_err(|e| CliError::failed(format!("cannot find the program that runs: {e}")))?;
        let mut up = Command::new(program);
        up.arg("up")
            .arg("--detach")
            .arg("--home")
            .arg(self.home.root());
        up.args(["--listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"]);
        let started = up
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let started = timeout(RAISE_DEADLINE, started)
            .await
            .map_err(|_| CliError::failed("the platform did not start in time"))?;
        let started = started
            .map_err(|e| CliError::failed(format!("the platform cannot be started: {e}")))?;
        if !started.status.success() {
            let told = String::from_utf8_lossy(&started.stderr).into_owned();
            return Err(CliError::failed(format!(
                "the platform did not start: {}",
                told.trim()
            )));
        }
        let choice = KubeconfigChoice::Flag(self.home.kubeconfig());
        self.client = Some(Client::connect(&choice, None).await?);
        self.gateway = Some(self.await_gateway().await?);
        Ok(())
    }

    async fn await_gateway(&self) -> Result<SocketAddr, CliError> {
        let until = Instant::now() + RAISE_DEADLINE;
        while Instant::now() < until {
            if let Some(address) = serving(&self.home)
                .await
                .and_then(|info| info.listen.first().copied())
            {
                return Ok(address);
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(CliError::failed("the gateway does not serve").hint(format!(
            "see {}",
            self.home.logs().join("gateway.log").display()
        )))
    }

    pub(super) fn client(&self) -> Result<&Client, CliError> {
        self.client
            .as_ref()
            .ok_or_else(|| CliError::failed("the platform is not up"))
    }

    pub(super) fn gateway(&self) -> Result<SocketAddr, CliError> {
        self.gateway
            .ok_or_else(|| CliError::failed("the gateway is not up"))
    }

    /// Applies objects as `serin apply` does.
    pub(super) async fn apply(&self, objects: &[Value]) -> Result<(), CliError> {
        let client = self.client()?;
        let catalog = Catalog::load(client).await?;
        for object in objects {
            let text = |pointer: &str| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let (api_version, kind, name) =
                (text("/apiVersion"), text("/kind"), text("/metadata/name"));
            let resource = catalog.by_kind(&api_version, &kind).ok_or_else(|| {
                CliError::failed(format!(
                    "the platform does not serve {kind} of {api_version}"
                ))
            })?;
            let path = resource.path("default", &name);
            let query = format!("?fieldManager={FIELD_MANAGER}&force=true");
            client
                .patch(&path, PatchKind::Apply, &query, object)
                .await?;
        }
        Ok(())
    }

    /// Resident memory in MiB: of the control plane, and of the gateway with its keeper.
    pub(super) fn memory_mib(&self) -> (f64, f64) {
        let control_plane =
            Holder::of(&self.home.lock()).map_or(0.0, |holder| resident_mib(holder.pid()));
        let processes = Processes::of(&self.home);
        let gateway = [processes.keeper, processes.gateway].into_iter().flatten();
        (
            control_plane,
            gateway.map(|process| resident_mib(process.pid())).sum(),
        )
    }

    /// Leaves everything running, and says how to look at it and how to end it.
    pub(super) fn keep(&self) {
        let root = self.home.root().display();
        let kubeconfig = self.home.kubeconfig();
        self.printer.progress(format!(
            "\nthe platform lives on:\n  export KUBECONFIG={}\n  serin rollout get shop\n  serin down --home {root} --delete-data",
            kubeconfig.display()
        ));
    }

    /// What the platform said last, for whoever looks for the reason.
    pub(super) fn tell_logs(&self) {
        for file in ["serin.log", "gateway.log"] {
            let path: PathBuf = self.home.logs().join(file);
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let lines: Vec<_> = text.lines().collect();
            let last = lines
                .iter()
                .skip(lines.len().saturating_sub(15))
                .copied()
                .collect::<Vec<_>>()
                .join("\n  ");
            if !last.is_empty() {
                self.printer
                    .progress(format!("the end of {file}:\n  {last}"));
            }
        }
    }

    /// Stops everything and deletes the directory.
    pub(super) async fn clear(&mut self) {
        self.client = None;
        if !self.home.root().is_dir() {
            return;
        }
        let stopped = down::stop_all(&self.home, CLEAR_GRACE).await;
        if stopped.and_then(|_| down::delete_data(&self.home)).is_err() {
            self.printer.warning(format!(
                "{} is left behind; `serin down --home` ends what runs there",
                self.home.root().display()
            ));
        }
    }
}

/// From `/proc`; 0 for a process that is gone.
fn resident_mib(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}
