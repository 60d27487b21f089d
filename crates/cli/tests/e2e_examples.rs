//! The examples with real servers of the machine: every command of their READMEs is run as it stands there, under constant
//! requests of which none may fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Platform, Visitors, poll, program, run, search_path, skip};

/// Where the commands of the READMEs look for the gateway.
const USUAL_GATEWAY: &str = "127.0.0.1:8080";
/// Says in a README what does the same with kubectl.
const OR: &str = "or: ";

/// One command of a README.
#[derive(Debug)]
struct Step {
    command: String,
    /// For a request: what is answered.
    answer: Option<String>,
    /// What may be typed instead.
    instead: Option<String>,
}

impl Step {
    fn parse(line: &str) -> Self {
        let (command, remark) = line.split_once("  # ").unwrap_or((line, ""));
        let asks = command.starts_with("curl ");
        Self {
            command: command.to_owned(),
            answer: asks.then(|| remark.to_owned()),
            instead: remark.strip_prefix(OR).map(str::to_owned),
        }
    }

    /// Whether it asks as the users do, who shall see what is answered and nothing else.
    fn asks_as_a_user(&self, host: &str) -> bool {
        self.answer.is_some() && self.command.contains(host)
    }
}

/// An example folder, played with one of its servers.
struct Example {
    folder: PathBuf,
    host: String,
    server: &'static str,
}

impl Example {
    fn new(folder: &str, server: &'static str) -> Self {
        Self {
            folder: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../examples")
                .join(folder),
            host: format!("{folder}.example.com"),
            server,
        }
    }

    /// The commands of the README, for this server.
    fn steps(&self) -> Vec<Step> {
        let readme = std::fs::read_to_string(self.folder.join("README.md")).unwrap();
        let block = readme.split("```sh\n").nth(1).unwrap();
        let block = block.split("```").next().unwrap();
        let block = block.replace("nginx", self.server);
        // What runs in the background is the load, which the visitors stand for.
        let waited_for = |line: &&str| !line.ends_with('&');
        block.lines().filter(waited_for).map(Step::parse).collect()
    }

    /// A command line, as a person types it who has `serin` and the platform of this test.
    fn command(&self, platform: &Platform, gateway: SocketAddr, line: &str) -> Command {
        let line = line.replace(USUAL_GATEWAY, &gateway.to_string());
        let mut command = platform.command("sh", &["-c", &line]);
        let serin = Path::new(env!("CARGO_BIN_EXE_serin")).parent().unwrap();
        command
            .env("PATH", format!("{}:{}", serin.display(), search_path()))
            .current_dir(&self.folder);
        command
    }

    async fn play(&self) {
        let platform = Platform::start(&[]).await;
        let gateway = platform.gateway().await;
        let mut visitors = None;
        for step in self.steps() {
            // One server is released by the command itself, the other by what may be typed instead.
            let instead = step.instead.as_ref();
            let instead =
                instead.filter(|_| self.server == "python" && program("kubectl").is_some());
            let line = instead.unwrap_or(&step.command);
            let typed = async || {
                let told = run(self.command(&platform, gateway, line)).await;
                match &step.answer {
                    Some(answer) => (told.stdout.trim() == answer).then_some(()),
                    None if told.code == Some(0) => Some(()),
                    None => panic!("{line}: {told:?}"),
                }
            };
            poll(&format!("{:?} of {line}", step.answer), typed).await;
            let visitors = visitors.get_or_insert_with(|| Visitors::start(gateway, &self.host));
            if let Some(answer) = step
                .answer
                .as_deref()
                .filter(|_| step.asks_as_a_user(&self.host))
            {
                everybody_gets(visitors, answer).await;
            }
        }
        visitors.unwrap().stop().await.assert_none_failed();
    }
}

/// From now on everybody gets one version, once what was asked before has its answer.
async fn everybody_gets(visitors: &Visitors, version: &str) {
    visitors.await_more(20).await;
    visitors.forget().assert_none_failed();
    visitors.await_more(80).await;
    let seen = visitors.forget();
    seen.assert_none_failed();
    assert_eq!(seen.versions.keys().collect::<Vec<_>>(), [version]);
}

async fn play(folder: &str, server: &'static str) {
    let needed = match server {
        "nginx" => ["nginx", "curl"],
        _ => ["python3", "curl"],
    };
    match needed.iter().find(|name| program(name).is_none()) {
        Some(missing) => skip(
            &format!("{folder} of {server}"),
            &format!("{missing} is not installed"),
        ),
        None => Example::new(folder, server).play().await,
    }
}

#[tokio::test]
async fn nginx_rolls() {
    play("rolling", "nginx").await;
}

#[tokio::test]
async fn python_rolls() {
    play("rolling", "python").await;
}

#[tokio::test]
async fn nginx_goes_from_blue_to_green() {
    play("blue-green", "nginx").await;
}

#[tokio::test]
async fn python_goes_from_blue_to_green() {
    play("blue-green", "python").await;
}

#[tokio::test]
async fn nginx_has_a_canary() {
    play("canary", "nginx").await;
}

#[tokio::test]
async fn python_has_a_canary() {
    play("canary", "python").await;
}
