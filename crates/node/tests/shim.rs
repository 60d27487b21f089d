//! The shim from outside: a process, its directory and its socket, with real applications under it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SHIM: &str = env!("CARGO_BIN_EXE_serin-shim-test");
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// A shim that was started; whatever is left of it is ended at the end of the test.
struct Shim {
    process: Child,
    greeting: Value,
    home: Home,
}

impl Shim {
    /// Runs a shell script under a shim.
    fn script(script: &str) -> Self {
        Self::run(&["/bin/sh", "-c", script])
    }

    fn run(argv: &[&str]) -> Self {
        Self::run_with(argv, |_| {})
    }

    fn run_with(argv: &[&str], change: impl FnOnce(&mut Value)) -> Self {
        let home = Home::new();
        let mut spec = spec(home.path(), argv);
        change(&mut spec);
        let mut process = Command::new(SHIM)
            .args(["shim", "--dir"])
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(spec.to_string().as_bytes()).unwrap();
        drop(stdin);
        let stdout = process.stdout.take().unwrap();
        let line = soon("the greeting", move || {
            BufReader::new(stdout).lines().next().unwrap().unwrap()
        });
        Self {
            process,
            greeting: serde_json::from_str(&line).unwrap(),
            home,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("0.log")).unwrap_or_default()
    }

    /// The texts of the log, without times.
    fn lines(&self) -> Vec<String> {
        let log = self.log();
        log.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    fn wait_for_log(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// The record, once it tells the end.
    fn exit(&self) -> Value {
        until("the end of the run", || {
            let record = self.record()?;
            (!record["exit"].is_null()).then(|| record["exit"].clone())
        })
    }

    fn record(&self) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(self.home.path().join("state.json")).ok()?).ok()
    }

    fn say(&self, request: Value) -> Value {
        let mut socket = connect(self.home.path());
        writeln!(socket, "{request}").unwrap();
        let answer = soon("an answer", move || {
            BufReader::new(socket).lines().nth(1).and_then(Result::ok)
        });
        answer.map_or(Value::Null, |line| serde_json::from_str(&line).unwrap())
    }

    fn stop(&self, grace_ms: u64) {
        let mut socket = connect(self.home.path());
        writeln!(
            socket,
            "{}",
            json!({"Stop": {"signal": 15, "grace_ms": grace_ms}})
        )
        .unwrap();
    }

    /// How many processes carry the mark of this test.
    fn processes(&self) -> usize {
        marked(self.home.path()).len()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Ok(mut socket) = UnixStream::connect(self.home.path().join("s")) {
            let _ = writeln!(socket, "{}", json!({"Stop": {"signal": 9, "grace_ms": 0}}));
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The directory of a test. What still runs in it at the end, after a panic too, is killed.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in named(self.path()).into_iter().chain(marked(self.path())) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn spec(home: &Path, argv: &[&str]) -> Value {
    json!({
        "argv": argv,
        "env": [["PATH", "/usr/bin:/bin"], ["MARK", home]],
        "cwd": home,
        "log": {
            "path": home.join("0.log"),
            "max_bytes": 1 << 20,
            "max_files": 3,
            "max_bytes_per_second": 1 << 20,
        },
    })
}

fn connect(dir: &Path) -> UnixStream {
    until("the socket", || UnixStream::connect(dir.join("s")).ok())
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// What a call gives that may block.
fn soon<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(call()));
    let taken = take.recv_timeout(PATIENCE);
    taken.unwrap_or_else(|error| panic!("waited in vain for {what}: {error}"))
}

fn ended(process: &mut Child) -> ExitStatus {
    until("the end of a process", || process.try_wait().unwrap())
}

/// The applications of a test.
fn marked(home: &Path) -> Vec<Pid> {
    let mark = format!("MARK={}", home.display());
    having("environ", |variable| variable == mark.as_bytes())
}

/// The processes whose command line names the directory of a test: shims, and who starts them.
fn named(home: &Path) -> Vec<Pid> {
    let home = home.to_str().unwrap().as_bytes();
    having("cmdline", |argument| argument.starts_with(home))
}

/// The processes with a text in a list that `/proc` has of them.
fn having(list: &str, is_it: impl Fn(&[u8]) -> bool) -> Vec<Pid> {
    let has = |pid: &i32| {
        fs::read(format!("/proc/{pid}/{list}"))
            .is_ok_and(|texts| texts.split(|byte| *byte == 0).any(&is_it))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has).filter_map(Pid::from_raw).collect()
}

#[test]
fn output_and_exit_code_are_kept() {
    let mut shim = Shim::script("echo out; echo err >&2; printf end; exit 7");
    assert!(shim.greeting["Started"]["app"]["pid"].is_number());
    let exit = shim.exit();
    assert_eq!((&exit["code"], &exit["signal"]), (&json!(7), &Value::Null));
    let mut lines = shim.lines();
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F end", "stdout F out"]);
    assert!(
        ended(&mut shim.process).success(),
        "it ends once the end is written down"
    );
}

#[test]
fn an_application_that_ignores_the_signal_is_killed_at_its_grace_period() {
    let shim = Shim::script("trap '' TERM; echo ready; while true; do sleep 1; done");
    shim.wait_for_log("ready");
    shim.stop(300);
    let exit = shim.exit();
    assert_eq!(exit["signal"], json!(9));
    assert_eq!(shim.processes(), 0);
}

#[test]
fn an_application_that_obeys_ends_by_itself() {
    let shim =
        Shim::script("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.05; done");
    shim.wait_for_log("ready");
    shim.stop(60_000);
    assert_eq!(shim.exit()["code"], json!(0));
    assert!(shim.log().contains("bye"));
}

#[test]
fn what_was_daemonised_ends_with_the_container() {
    // The inner shells leave the group and the session, lose their parents and ignore the signal.
    let shim = Shim::script(
        "setsid sh -c 'trap \"\" TERM; (sleep 1000; true) & (sleep 1000; true) & exit 0' & \
         while true; do sleep 0.05; done",
    );
    until("two daemons with a child each", || {
        (shim.processes() >= 5).then_some(())
    });
    shim.stop(100);
    shim.exit();
    assert_eq!(shim.processes(), 0);
}

#[test]
fn when_the_application_ends_nothing_of_it_stays() {
    let shim = Shim::script(
        "setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & echo up; exit 0",
    );
    assert_eq!(shim.exit()["code"], json!(0));
    assert_eq!(shim.processes(), 0);
}

#[test]
fn a_flood_neither_blocks_the_application_nor_fills_the_disk() {
    let shim =
        Shim::script("head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo done >&2");
    assert_eq!(shim.exit()["code"], json!(0));
    let total: u64 = fs::read_dir(shim.home.path())
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("0.log"))
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert!(total <= 3 << 20, "{total} bytes are kept");
    assert!(
        shim.log()
            .contains("were not kept: more than 1048576 bytes a second")
    );
}

#[test]
fn on_a_full_disk_only_the_log_is_lost() {
    let script = "head -c 10000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo done >&2; exit 4";
    let shim = Shim::run_with(&["/bin/sh", "-c", script], |spec| {
        spec["log"]["path"] = json!("/dev/full");
    });
    assert_eq!(shim.exit()["code"], json!(4));
}

#[test]
fn any_bytes_are_kept_as_they_are() {
    let shim =
        Shim::script("printf '\\033[31m\\377\\n'; head -c 40000 /dev/zero | tr '\\0' 'y'; echo");
    shim.exit();
    let log = fs::read(shim.home.path().join("0.log")).unwrap();
    assert!(log.windows(7).any(|w| w == b"\x1b[31m\xff\n"));
    let tags = log
        .split(|b| *b == b'\n')
        .skip(1)
        .filter_map(|l| l.get(38).copied());
    assert_eq!(tags.collect::<Vec<_>>(), b"PPF");
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    for (argv, want) in [
        (
            ["/no/such/program"],
            "exec /no/such/program: No such file or directory (os error 2)",
        ),
        (
            ["/etc/passwd"],
            "exec /etc/passwd: Permission denied (os error 13)",
        ),
        (
            ["no-such-program"],
            "exec no-such-program: no such program in PATH (/usr/bin:/bin): No such file or directory",
        ),
    ] {
        let mut shim = Shim::run(&argv);
        assert_eq!(shim.greeting["Failed"]["message"], json!(want));
        assert!(!ended(&mut shim.process).success());
    }
}

#[test]
fn commands_run_beside_the_application() {
    let shim = Shim::script("echo ready; sleep 1000");
    shim.wait_for_log("ready");
    let exec = |argv: &[&str], timeout_ms: u64| {
        shim.say(json!({"Exec": {"id": 5, "argv": argv, "timeout_ms": timeout_ms}}))
    };
    assert_eq!(
        exec(&["sh", "-c", "echo $MARK; exit 3"], 10_000),
        json!({"Executed": {"id": 5, "outcome": {"Exited": {
            "code": 3, "output": format!("{}\n", shim.home.path().display()),
        }}}})
    );
    assert_eq!(
        exec(&["sleep", "1000"], 50),
        json!({"Executed": {"id": 5, "outcome": "Killed"}})
    );
    assert!(exec(&["no-such"], 50)["Executed"]["outcome"]["NotStarted"].is_object());
    assert_eq!(shim.processes(), 2, "the shell and its sleep");
}

#[test]
fn a_shim_survives_its_starter_and_is_found_again() {
    // A deep directory, too: far beyond what the path of a socket may have.
    let home = Home::new();
    let dir: PathBuf = home.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&dir).unwrap();
    let file = home.path().join("spec.json");
    let mut spec = spec(home.path(), &["/bin/sleep", "1000"]);
    spec["log"]["path"] = json!(dir.join("0.log"));
    fs::write(&file, spec.to_string()).unwrap();
    // The starter ends, with all that is in its group, as soon as the shim has greeted.
    let mut starter = Command::new("/bin/sh")
        .arg("-c")
        .arg("\"$0\" shim --dir \"$1\" < \"$2\" > \"$2.out\" & while ! [ -s \"$2.out\" ]; do sleep 0.01; done; kill -9 0")
        .arg(SHIM)
        .arg(&dir)
        .arg(&file)
        .process_group_of_its_own()
        .spawn()
        .unwrap();
    assert!(!ended(&mut starter).success(), "it was killed");
    assert_eq!(marked(home.path()).len(), 1);
    std::os::unix::fs::symlink(&dir, home.path().join("short")).unwrap();
    let mut socket = connect(&home.path().join("short"));
    writeln!(
        socket,
        "{}",
        json!({"Stop": {"signal": 15, "grace_ms": 5000}})
    )
    .unwrap();
    let last = soon("the end of the socket", move || {
        let lines = BufReader::new(socket).lines();
        lines.map_while(Result::ok).last().unwrap()
    });
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["Status"]["exit"]["signal"], json!(15));
    assert_eq!(marked(home.path()), []);
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
