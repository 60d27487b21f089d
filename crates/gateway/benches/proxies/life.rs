//! Upgrades, restarts and kills under load: what users lose of each.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serin_gateway::{KeeperConfig, keeper_main, read_endpoint};

use crate::load::{Load, Method};
use crate::options;
use crate::peers::{self, Front};

/// Says to a copy of this program that it is the keeper of that home.
const ROLE: &str = "SERIN_BENCH_KEEPER";
/// Requests a second meanwhile.
const RATE: f64 = 5_000.0;
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the keeper when this process was started to be one.
pub(crate) fn be_keeper() -> bool {
    let Some(home) = std::env::var_os(ROLE) else {
        return false;
    };
    let program = options::program();
    let mut config = KeeperConfig::load(home.as_ref(), program).unwrap();
    config.arguments = vec!["gateway".into(), "--home".into(), home];
    keeper_main(&config).unwrap();
    true
}

/// A keeper with its gateway; both end with this value.
struct Kept {
    keeper: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Kept {
    async fn start(origins: &[SocketAddr; 2]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        peers::write_home(
            directory.path(),
            &serde_json::json!({
            "listen": ["127.0.0.1:0"], "workers": 1, "replacedLeaveMs": 300, "replacedGraceMs": 5_000}),
            origins,
        );
        let keeper = Command::new(std::env::current_exe().unwrap())
            .arg("--program")
            .arg(options::program())
            .env(ROLE, directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut kept = Self {
            keeper,
            directory,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        kept.other_than(0).await;
        kept.address = read_endpoint(kept.directory.path()).unwrap().listen[0];
        kept
    }

    fn gateway(&self) -> u32 {
        read_endpoint(self.directory.path()).map_or(0, |info| info.pid)
    }

    /// Waits until another gateway than `before` serves.
    async fn other_than(&self, before: u32) {
        let give_up = Instant::now() + PATIENCE;
        while [0, before].contains(&self.gateway())
            || !serin_gateway::healthy(self.directory.path()).await
        {
            assert!(Instant::now() < give_up, "no other gateway serves");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        send(self.keeper.id(), Signal::TERM);
        let _ = self.keeper.wait();
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// So many times each, under load.
pub(crate) async fn run(times: usize, origins: &[SocketAddr; 2]) {
    let kept = Kept::start(origins).await;
    println!("life: {times} of each at {RATE:.0} requests/s over {CONNECTIONS} connections");
    for (name, act) in [
        ("upgrade", Signal::HUP),
        ("restart", Signal::TERM),
        ("kill -9", Signal::KILL),
    ] {
        let load = Load {
            address: kept.address,
            front: Front::Plain,
            method: Method::Get,
            path: "/small",
            connections: CONNECTIONS,
            rate_per_second: Some(RATE),
            time: Duration::from_secs(600),
            stop: Arc::default(),
        };
        let stop = Arc::clone(&load.stop);
        let running = tokio::spawn(async move { load.run().await });
        let mut longest = Duration::ZERO;
        for _ in 0..times {
            let before = kept.gateway();
            let began = Instant::now();
            let pid = if act == Signal::HUP {
                kept.keeper.id()
            } else {
                before
            };
            send(pid, act);
            kept.other_than(before).await;
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut measured = running.await.unwrap();
        let p999 = measured.quantile(0.999) / 1e3;
        println!(
            "  {name:8} {:8} answered, {:4} lost, p99.9 {p999:.1} ms, the other one served after {} ms at most",
            measured.micros.len(),
            measured.errors,
            longest.as_millis(),
        );
    }
}
