//! The processes themselves: a keeper with its gateway, killed the hard way, with no control plane anywhere.
//!
//! The programs are this test binary itself, called for one of the two entries below.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serin_gateway::{
    GatewayConfig, GatewayInfo, KeeperConfig, gateway_main, healthy, keeper_main, read_endpoint,
};

const HOME: &str = "SERIN_TEST_HOME";
const ROLE: &str = "SERIN_TEST_ROLE";

fn home_of(role: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == role).then(|| PathBuf::from(std::env::var_os(HOME).unwrap()))
}

/// Not a test: the entry of the keeper process.
#[test]
fn entry_of_the_keeper() {
    let Some(home) = home_of("keeper") else {
        return;
    };
    let config = KeeperConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        program: "/usr/bin/env".into(),
        arguments: [
            format!("{ROLE}=gateway"),
            std::env::current_exe().unwrap().display().to_string(),
            "--exact".into(),
            "entry_of_the_gateway".into(),
        ]
        .map(Into::into)
        .into(),
        ..KeeperConfig::load(&home, PathBuf::new()).unwrap()
    };
    keeper_main(&config).unwrap();
}

/// Not a test: the entry of the gateway process.
#[test]
fn entry_of_the_gateway() {
    let Some(home) = home_of("gateway") else {
        return;
    };
    let config = GatewayConfig {
        workers: Some(2),
        stop_grace_ms: 2_000,
        ..GatewayConfig::load(&home).unwrap()
    };
    gateway_main(&config).unwrap();
}

/// A keeper and what it started; all of it ends with this value.
struct Running {
    home: tempfile::TempDir,
    keeper: Child,
}

impl Running {
    fn start(home: tempfile::TempDir) -> Self {
        let keeper = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "entry_of_the_keeper"])
            .env(ROLE, "keeper")
            .env(HOME, home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { home, keeper }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// The gateway, once it is another one than `before` and answers.
    fn gateway(&self, before: Option<u32>) -> GatewayInfo {
        until(|| {
            let info = read_endpoint(self.home()).filter(|info| Some(info.pid) != before)?;
            is_healthy(self.home()).then_some(info)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let gateway = read_endpoint(self.home()).map(|info| info.pid);
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        if let Some(gateway) = gateway {
            kill(gateway, Signal::KILL);
        }
    }
}

fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

fn lives(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

fn is_healthy(home: &Path) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(healthy(home))
}

fn until<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(Instant::now() < give_up, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: web.default\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

/// An application that answers `hello` until the test ends.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0_u8];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
            );
        }
    });
    address
}

/// A home whose last good routes send `web.default` to `application`.
fn home_with_routes(application: SocketAddr) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let routes = serde_json::json!({"format": 1, "table": {"rules": [], "routes": {}, "services": {"default/web": {
        "ports": [{"port": 80, "endpoints": [{"address": application, "instance": "pod-1", "revision": "v1"}]}]}}}});
    std::fs::create_dir(home.path().join("gateway")).unwrap();
    std::fs::write(home.path().join("gateway/routes.json"), routes.to_string()).unwrap();
    home
}

#[test]
fn a_killed_gateway_is_back_with_its_routes_and_no_connection_is_refused() {
    let running = Running::start(home_with_routes(application()));
    let mut info = running.gateway(None);
    assert_eq!(info.keeper_pid, Some(running.keeper.id()));
    let address = info.listen[0];
    assert!(get(address).ends_with("hello"));
    for _ in 0..3 {
        kill(info.pid, Signal::KILL);
        // Whoever comes while it is down waits and is answered.
        until(|| get(address).ends_with("hello").then_some(()));
        info = running.gateway(Some(info.pid));
        assert_eq!(info.listen, [address]);
    }
}

#[test]
fn a_stopped_keeper_stops_its_gateway() {
    let mut running = Running::start(home_with_routes(application()));
    let info = running.gateway(None);
    kill(running.keeper.id(), Signal::TERM);
    assert!(running.keeper.wait().unwrap().success());
    until(|| (!lives(info.pid)).then_some(()));
    assert!(TcpStream::connect(info.listen[0]).is_err());
    assert!(!is_healthy(running.home()));
}

#[test]
fn a_gateway_serves_on_when_its_keeper_is_killed() {
    let mut running = Running::start(home_with_routes(application()));
    let info = running.gateway(None);
    running.keeper.kill().unwrap();
    running.keeper.wait().unwrap();
    assert!(get(info.listen[0]).ends_with("hello"));
    assert!(is_healthy(running.home()));
    kill(info.pid, Signal::TERM);
    until(|| (!lives(info.pid)).then_some(()));
}

#[test]
fn corrupt_routes_are_no_reason_not_to_start() {
    let home = home_with_routes(application());
    std::fs::write(home.path().join("gateway/routes.json"), b"{\"format\":1,").unwrap();
    let running = Running::start(home);
    let info = running.gateway(None);
    let text = get(info.listen[0]);
    assert!(
        text.starts_with("HTTP/1.1 404 ") && text.contains("x-serin-gateway: no-route"),
        "{text}"
    );
}
