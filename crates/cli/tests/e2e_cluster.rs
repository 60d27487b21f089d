//! `serin controller` against an API that has no controllers of Rollouts itself, as a cluster has none.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::process::Stdio;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use serin_api::rollout::{Rollout, RolloutPhase as Phase};
use support::{Platform, until};
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
