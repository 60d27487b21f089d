//! A disk without room: writes are refused with the reason, users are served on, and with room it goes on by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apps::{self, pods};
use crate::load::Load;
use crate::processes::{kill_now, pid_in};
use crate::support::{Platform, Told, get, poll, skip};

/// A small disk of its own; unmounted with this value.
#[derive(Default)]
struct SmallDisk {
    at: Option<PathBuf>,
}

impl SmallDisk {
    /// Mounts it; the reason when that is not permitted.
    fn mount(&mut self, at: &Path, size: &str) -> Result<(), String> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "serin-test"])
            .arg(at);
        let output = mount.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        self.at = Some(at.to_owned());
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(at) = &self.at {
            let _ = Command::new("umount").arg("-l").arg(at).status();
            let _ = std::fs::remove_dir_all(at.parent().unwrap());
        }
    }
}

/// Takes all the room that is left; gives the file.
fn fill(home: &Path) -> PathBuf {
    use std::io::Write;
    let path = home.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let chunk = vec![0; size];
        while file.write_all(&chunk).is_ok() {}
    }
    path
}

fn big_object(n: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big-{n}}}\ndata: {{text: {}}}\n",
        "x".repeat(200_000)
    )
}

#[tokio::test]
async fn writes_are_refused_with_the_reason_and_users_are_served_on() {
    // Declared first, so that it goes last: the platform on it is stopped before.
    let mut disk = SmallDisk::default();
    let platform = Platform::new();
    if let Err(reason) = disk.mount(&platform.home(), "32m") {
        skip("full disk", &reason);
        return;
    }
    platform.up(&[]).await;
    platform.gateway().await;
    platform.apply(&apps::deployment(pods("v1", &[]))).await;
    apps::healthy(&platform).await;
    let pid = pid_in(&platform, "serin.json", "pid").await;
    let load = Load::start(&platform).await;

    let filler = fill(&platform.home());
    let told = refusal(&platform).await;
    println!("full disk: {told}");
    assert!(told.contains("no space left on the disk"), "{told}");
    // A release cannot begin.
    let change = platform
        .try_serin(&["rollout", "set-image", "shop", "shop=serin.dev/demo:v2"])
        .await;
    println!("set-image on a full disk: {change:?}");
    Load::during(&platform, "2s").await.assert_nothing_lost();
    assert_whole(&platform, &change).await;
    gateway_restarts(&platform).await;

    std::fs::remove_file(filler).unwrap();
    let report = load.stop().await;
    let works = async || {
        let told = platform
            .try_serin(&["rollout", "set-image", "shop", "shop=serin.dev/demo:v3"])
            .await;
        (told.code == Some(0)).then_some(())
    };
    poll("a write", works).await;
    apps::healthy(&platform).await;
    let gateway = platform.gateway().await;
    assert_eq!(get(gateway, apps::HOST, "/").await.unwrap().version(), "v3");
    assert_eq!(
        pid_in(&platform, "serin.json", "pid").await,
        pid,
        "without a restart"
    );
    println!("full disk: {}", report.told());
    assert!(
        report.lost() <= crate::load::CONNECTIONS,
        "only what was in flight at the kill: {}",
        report.failures()
    );
    platform.serin(&["down"]).await;
}

/// Writes until a write is refused.
async fn refusal(platform: &Platform) -> String {
    let file = platform.dir().join("big.yaml");
    for n in 0..100 {
        std::fs::write(&file, big_object(n)).unwrap();
        let told = platform
            .try_serin(&["apply", "-f", file.to_str().unwrap()])
            .await;
        if told.code != Some(0) {
            assert_eq!(told.code, Some(1), "{told:?}");
            return told.stderr;
        }
    }
    panic!("the disk never was full");
}

/// What cannot be written is not half done: nothing is there of a release that was refused.
async fn assert_whole(platform: &Platform, change: &Told) {
    if change.code == Some(0) {
        // So little may still find room in what the state file has.
        return;
    }
    for kind in ["deployments", "replicasets", "pods"] {
        let there = platform.serin(&["get", kind, "-o", "json"]).await;
        assert!(there.contains("serin.dev/demo:v1"), "{there}");
        assert!(!there.contains("serin.dev/demo:v2"), "{there}");
    }
}

/// The gateway finds its routes again though nothing can be written.
async fn gateway_restarts(platform: &Platform) {
    let gateway = platform.gateway().await;
    kill_now(pid_in(platform, "gateway.json", "pid").await);
    let answered = async || {
        get(gateway, apps::HOST, "/")
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    poll("an answer after the kill", answered).await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_says_so() {
    let mut disk = SmallDisk::default();
    let platform = Platform::new();
    if let Err(reason) = disk.mount(&platform.home(), "1m") {
        skip("start on a full disk", &reason);
        return;
    }
    let filler = fill(&platform.home());
    for arguments in [
        &[
            "up",
            "--listen",
            "127.0.0.1:0",
            "--gateway-listen",
            "127.0.0.1:0",
        ][..],
        &[
            "up",
            "--detach",
            "--listen",
            "127.0.0.1:0",
            "--gateway-listen",
            "127.0.0.1:0",
        ],
    ] {
        let told = platform.try_serin(arguments).await;
        println!("start on a full disk: {told:?}");
        assert_eq!(told.code, Some(73), "{told:?}");
        let clear = ["no space left", "disk is full", "is the disk full"];
        assert!(
            clear
                .iter()
                .any(|words| told.stderr.to_lowercase().contains(words)),
            "{told:?}"
        );
    }
    assert_eq!(platform.processes(), []);
    std::fs::remove_file(filler).unwrap();
    platform
        .serin(&["up", "--detach", "--no-gateway", "--listen", "127.0.0.1:0"])
        .await;
    platform.serin(&["down"]).await;
}
