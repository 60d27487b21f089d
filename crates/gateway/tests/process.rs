//! The processes themselves: a keeper with its gateway, killed the hard way, with no control plane anywhere.
//!
//! The programs are this test binary itself, called for one of the two entries below.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serin_gateway::{
    GatewayConfig, GatewayInfo, KeeperConfig, gateway_main, healthy, keeper_main, read_endpoint,
};

const HOME: &str = "SERIN_TEST_HOME";
const ROLE: &str = "SERIN_TEST_ROLE";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
        replaced_leave_ms: 500,
        ..GatewayConfig::load(&home).unwrap()
    };
    gateway_main(&config).unwrap();
}

/// A keeper and what it started; all of it ends with this value.
struct Running {
    home: tempfile::TempDir,
    keeper: Child,
    /// Every gateway that was seen.
    gateways: std::cell::RefCell<Vec<u32>>,
}

impl Running {
    fn start(home: tempfile::TempDir) -> Self {
        let keeper = keeper(home.path());
        Self {
            home,
            keeper,
            gateways: Default::default(),
        }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// The gateway, once it is another one than `before` and answers.
    fn gateway(&self, before: Option<u32>) -> GatewayInfo {
        let info = until(|| {
            let info = read_endpoint(self.home()).filter(|info| Some(info.pid) != before)?;
            is_healthy(self.home()).then_some(info)
        });
        self.gateways.borrow_mut().push(info.pid);
        info
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let gateway = read_endpoint(self.home()).map(|info| info.pid);
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        for gateway in gateway.iter().chain(self.gateways.borrow().iter()) {
            kill(*gateway, Signal::KILL);
        }
    }
}

fn keeper(home: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "entry_of_the_keeper"])
        .env(ROLE, "keeper")
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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

/// Where it is awaited in vain, the place is told.
#[track_caller]
fn until<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(Instant::now() < give_up, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection on which nothing is awaited without end.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn get(address: SocketAddr) -> String {
    let mut stream = connect(address).unwrap();
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
    let ended = until(|| running.keeper.try_wait().unwrap());
    assert!(ended.success());
    until(|| (!lives(info.pid)).then_some(()));
    assert!(TcpStream::connect(info.listen[0]).is_err());
    assert!(!is_healthy(running.home()));
}

#[test]
fn a_gateway_serves_on_when_its_keeper_is_killed() {
    let mut running = Running::start(home_with_routes(application()));
    let info = running.gateway(None);
    running.keeper.kill().unwrap();
    until(|| running.keeper.try_wait().unwrap());
    assert!(get(info.listen[0]).ends_with("hello"));
    assert!(is_healthy(running.home()));
    kill(info.pid, Signal::TERM);
    until(|| (!lives(info.pid)).then_some(()));
}

#[test]
fn a_keeper_that_was_killed_is_replaced_while_its_gateway_lives() {
    let mut running = Running::start(home_with_routes(application()));
    let info = running.gateway(None);
    running.keeper.kill().unwrap();
    until(|| running.keeper.try_wait().unwrap());
    running.keeper = keeper(running.home());
    let next = until(|| {
        read_endpoint(running.home()).filter(|next| next.keeper_pid == Some(running.keeper.id()))
    });
    assert_eq!((next.pid, &next.listen), (info.pid, &info.listen));
    assert!(get(info.listen[0]).ends_with("hello"));
    // It is kept as a child would be.
    kill(info.pid, Signal::KILL);
    until(|| get(info.listen[0]).ends_with("hello").then_some(()));
    let last = running.gateway(Some(info.pid));
    assert_eq!(
        (last.keeper_pid, &last.listen),
        (Some(running.keeper.id()), &info.listen)
    );
}

/// Sends requests over connections that are kept for as long as the gateway keeps them, until told to stop. How many were
/// answered, and what else happened.
fn load(address: SocketAddr, stop: &AtomicBool) -> (u32, Vec<String>) {
    let (mut answered, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = one_connection(address, stop, &mut answered) {
            lost.push(error.to_string());
        }
    }
    (answered, lost)
}

fn one_connection(
    address: SocketAddr,
    stop: &AtomicBool,
    answered: &mut u32,
) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web.default\r\n\r\n")?;
        let mut text = Vec::new();
        let mut byte = [0_u8];
        while !text.ends_with(b"hello") {
            stream.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&text).to_lowercase();
        if !text.starts_with("http/1.1 200 ") {
            return Err(std::io::Error::other(text));
        }
        *answered += 1;
        if text.contains("connection: close") {
            break;
        }
    }
    Ok(())
}

#[test]
fn upgrades_under_load_refuse_and_reset_nobody() {
    others_serve_under_load(|info| kill(info.keeper_pid.unwrap(), Signal::HUP));
}

#[test]
fn a_gateway_that_is_asked_to_end_goes_when_another_one_serves() {
    others_serve_under_load(|info| kill(info.pid, Signal::TERM));
}

/// Ends the loads with this value: a test that fails would wait for them without end.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A few times, after `act`.
fn others_serve_under_load(act: impl Fn(&GatewayInfo)) {
    let running = Running::start(home_with_routes(application()));
    let mut info = running.gateway(None);
    let address = *info.listen.first().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let loads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| load(address, &stop)))
            .collect();
        for _ in 0..3 {
            act(&info);
            let next = running.gateway(Some(info.pid));
            assert!(lives(info.pid), "nobody served for a while");
            assert_eq!(
                (next.keeper_pid, &next.listen),
                (info.keeper_pid, &info.listen)
            );
            let old = std::mem::replace(&mut info, next).pid;
            // The one before answers what it has and goes by itself.
            until(|| is_gone(old).then_some(()));
        }
        drop(stopping);
        for load in loads {
            let (answered, lost) = load.join().unwrap();
            assert_eq!(lost, Vec::<String>::new());
            assert!(answered > 0);
        }
    });
}

/// Whether a process has ended, reaped by its parent or not.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !lives(pid) || stat.contains(") Z ")
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

/// A collector of spans; what is sent to it.
fn collector() -> (SocketAddr, std::sync::mpsc::Receiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, bodies) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        let mut byte = [0_u8];
        loop {
            stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
            let body = text.windows(4).position(|end| end == b"\r\n\r\n");
            let body =
                body.map(|end| serde_json::from_slice(text.get(end + 4..).unwrap_or_default()));
            if let Some(Ok(body)) = body {
                told.send(body).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                return stream.write_all(answer).unwrap();
            }
        }
    });
    (address, bodies)
}

#[test]
fn spans_that_are_left_at_the_end_are_sent() {
    let home = home_with_routes(application());
    let (address, bodies) = collector();
    let settings = serde_json::json!({
        "traceSample": 1,
        "otlp": {"endpoint": format!("http://{address}"), "serviceName": "edge"},
    });
    let path = home.path().join("gateway/config.json");
    std::fs::write(path, settings.to_string()).unwrap();
    let running = Running::start(home);
    let info = running.gateway(None);
    assert!(get(info.listen[0]).ends_with("hello"));
    kill(running.keeper.id(), Signal::TERM);
    let body = bodies.recv_timeout(PATIENCE).unwrap();
    let all = &body["resourceSpans"][0];
    assert_eq!(
        all["resource"]["attributes"][0]["value"]["stringValue"],
        "edge"
    );
    let span = &all["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "GET service/default/web");
    until(|| (!lives(info.pid)).then_some(()));
}
