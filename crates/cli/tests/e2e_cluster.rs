//! `serin controller` against an API that has no controllers of Rollouts itself, as a cluster has none.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::net::SocketAddr;
use std::process::Stdio;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use serin_api::rollout::{Rollout, RolloutPhase as Phase};
use support::{PATIENCE, Platform, get, poll, until};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// A controller process; it ends with this value.
struct Controller {
    child: Child,
}

impl Controller {
    fn start(platform: &Platform, identity: &str) -> Self {
        let arguments = [
            "controller",
            "--lease-duration",
            "2s",
            "--identity",
            identity,
        ];
        let command = platform.command(env!("CARGO_BIN_EXE_serin"), &arguments);
        let mut command = tokio::process::Command::from(command);
        command.stderr(Stdio::inherit()).kill_on_drop(true);
        Self {
            child: command.spawn().unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

fn rollout(version: &str) -> String {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": format!("serin.dev/demo:{version}")}]},
            },
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
        },
    })
    .to_string()
}

/// Waits until this process leads.
async fn leads(platform: &Platform, identity: &str) {
    let api: Api<Lease> = Api::default_namespaced(platform.client().await);
    until(&api, "serin-controller", identity, |lease: &Lease| {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|s| s.holder_identity.as_deref());
        holder == Some(identity)
    })
    .await;
}

/// Waits until the Rollout of this version is in this phase.
async fn is(platform: &Platform, version: &str, phase: Phase) {
    let api: Api<Rollout> = Api::default_namespaced(platform.client().await);
    let image = format!("serin.dev/demo:{version}");
    let what = format!("{version} {phase:?}");
    until(&api, "shop", &what, |rollout: &Rollout| {
        let template = serde_json::to_string(&rollout.spec.template).unwrap();
        let status = rollout.status.clone().unwrap_or_default();
        // The API counts in generations; a status of an older one speaks of another version.
        let seen = rollout.metadata.generation.map(|g| g.to_string());
        template.contains(&image)
            && status.observed_generation == seen
            && status.phase == Some(phase)
    })
    .await;
}

#[tokio::test]
async fn the_other_controller_goes_on_when_the_leader_is_stopped() {
    let platform = Platform::start(&["--no-rollouts"]).await;
    platform.apply(&rollout("v1")).await;
    let one = Controller::start(&platform, "one");
    leads(&platform, "one").await;
    let two = Controller::start(&platform, "two");
    is(&platform, "v1", Phase::Healthy).await;

    one.signal(Signal::STOP);
    platform.apply(&rollout("v2")).await;
    is(&platform, "v2", Phase::Paused).await;
    leads(&platform, "two").await;

    // It wakes up with an old view and an old term.
    one.signal(Signal::CONT);
    platform.serin(&["rollout", "promote", "shop"]).await;
    is(&platform, "v2", Phase::Healthy).await;
    leads(&platform, "two").await;

    two.signal(Signal::TERM);
    leads(&platform, "one").await;
}

const SHOP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shop, labels: {app: shop}}
spec: {containers: [{name: shop, image: "serin.dev/demo:v1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {hostnames: [shop.example.com], rules: [{backendRefs: [{name: shop, port: 80}]}]}
"#;

/// A gateway in the foreground, with a state directory of its own.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    async fn start(platform: &Platform, home: &str, arguments: &[&str]) -> Self {
        let home = platform.dir().join(home);
        let mut words = vec!["gateway", "serve", "--listen", "127.0.0.1:0"];
        words.extend(arguments);
        let mut command = platform.command(env!("CARGO_BIN_EXE_serin"), &words);
        command.env("SERIN_HOME", &home);
        let mut command = tokio::process::Command::from(command);
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let file = home.join("run").join("gateway.json");
        let address = poll("where the gateway listens", async || {
            let info: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            info.pointer("/listen/0")?.as_str()?.parse().ok()
        });
        let address = address.await;
        Self { child, address }
    }

    async fn until_it_serves(&self) {
        let served = async || {
            let answer = get(self.address, "shop.example.com", "/").await.ok()?;
            (answer.status == 200).then_some(answer)
        };
        let answer = poll("an answer through the gateway", served).await;
        assert_eq!(answer.version(), "v1");
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }
}

#[tokio::test]
async fn a_gateway_in_the_foreground_takes_connections_for_its_delay_and_ends_without_one() {
    let platform = Platform::new();
    let up = ["up", "--detach", "--listen", "127.0.0.1:0", "--no-gateway"];
    platform.serin(&up).await;
    platform.apply(SHOP).await;

    let mut patient = Gateway::start(&platform, "patient", &["--stop-delay", "10m"]).await;
    patient.until_it_serves().await;
    patient.terminate();
    let told = patient.child.stderr.take().unwrap();
    let mut told = BufReader::new(told).lines();
    let heard = async {
        while let Some(line) = told.next_line().await.unwrap() {
            if line.contains("asked to stop") {
                return;
            }
        }
        panic!("it ended without a word of its delay");
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    // Each on a connection of its own: somebody who has not learnt of the end yet.
    for _ in 0..20 {
        let answer = get(patient.address, "shop.example.com", "/").await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.version(), "v1");
    }

    let mut prompt = Gateway::start(&platform, "prompt", &[]).await;
    prompt.until_it_serves().await;
    prompt.terminate();
    let ended = tokio::time::timeout(PATIENCE, prompt.child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    get(prompt.address, "shop.example.com", "/")
        .await
        .unwrap_err();
}
