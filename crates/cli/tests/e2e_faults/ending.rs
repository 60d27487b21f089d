//! The end of instances and of platforms: nothing is cut off, nothing is left, nothing foreign is touched.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::apps::{self, HOST, pods, pods_of};
use crate::processes::{
    Stranger, kill, kill_control_plane, kill_now, lives, of_home, pid_in, pids_with, shims,
    with_trace,
};
use crate::support::{Platform, Process, get, poll};

/// Waits until no process has the text in its command line, environment or working directory.
async fn none_left(text: &str) {
    let mut last = Vec::new();
    let gone = async || {
        last = with_trace(text);
        last.is_empty().then_some(())
    };
    poll("the end of all processes", gone).await;
}

#[tokio::test]
async fn an_instance_that_ignores_sigterm_is_killed_at_its_grace_period() {
    let mut template = pods(
        "v1",
        &[("IGNORE_SIGTERM", "true"), ("MARK", "a-deaf-instance")],
    );
    template["spec"]["terminationGracePeriodSeconds"] = 2.into();
    let mark = format!("a-deaf-instance-{}", std::process::id());
    template["spec"]["containers"][0]["env"][1]["value"] = mark.clone().into();
    let platform = apps::started(&apps::deployment(template)).await;
    assert_eq!(with_trace(&mark).len(), apps::REPLICAS as usize);
    let began = Instant::now();
    platform.serin(&["delete", "deployment", "shop"]).await;
    none_left(&mark).await;
    println!(
        "instances that ignore SIGTERM, grace period 2 s: gone after {:?}",
        began.elapsed()
    );
    assert!(began.elapsed().as_secs_f64() > 1.9, "they had their time");
    poll("the end of the pods", async || {
        pods_of(&platform).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_daemon_of_an_instance_is_left() {
    let mark = format!("a-daemon-{}", std::process::id());
    let script = "(setsid sh -c 'trap \"\" TERM; setsid sleep 600 & exec sleep 600' &) ; (sleep 600 &) ; exec sleep 600";
    let mut template = pods("v1", &[("MARK", &mark)]);
    template["spec"]["terminationGracePeriodSeconds"] = 1.into();
    let container = &mut template["spec"]["containers"][0];
    container["image"] = "host".into();
    container["command"] = json!(["/bin/sh", "-c", script]);
    container.as_object_mut().unwrap().remove("readinessProbe");
    let platform = apps::started(&apps::deployment(template)).await;
    let all = 4 * apps::REPLICAS as usize;
    poll("the daemons", async || {
        (with_trace(&mark).len() >= all).then_some(())
    })
    .await;
    platform.serin(&["delete", "deployment", "shop"]).await;
    poll("the end of the pods", async || {
        pods_of(&platform).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(with_trace(&mark), Vec::<String>::new());
}

#[tokio::test]
async fn daemons_of_an_instance_whose_shim_was_killed_are_found() {
    let mark = format!("an-orphan-{}", std::process::id());
    // Each instance has a daemon that left its group and its session, and lost its parent.
    let mut template = pods("v1", &[("MARK", &mark), ("VERSION", "v1")]);
    let container = &mut template["spec"]["containers"][0];
    let serin = env!("CARGO_BIN_EXE_serin");
    let script = format!("(setsid sleep 600 &); exec '{serin}' demo-app");
    container["image"] = "host".into();
    container["command"] = json!(["/bin/sh", "-c", script]);
    let platform = apps::started(&apps::deployment(template)).await;
    let replicas = apps::REPLICAS as usize;
    let (shims_before, before) = (shims(&platform), pids_with(&mark));
    assert_eq!((shims_before.len(), before.len()), (replicas, 2 * replicas));
    for (pid, _) in &shims_before {
        kill(*pid).await;
    }
    let renewed = async || {
        let (shims, now) = (shims(&platform), pids_with(&mark));
        let none_is_left = shims.iter().all(|shim| !shims_before.contains(shim))
            && now.iter().all(|pid| !before.contains(pid));
        (none_is_left && (shims.len(), now.len()) == (replicas, 2 * replicas)).then_some(())
    };
    poll("as many instances as before, each of them new", renewed).await;
    apps::healthy(&platform).await;
    let gateway = platform.gateway().await;
    let serves = async || {
        get(gateway, HOST, "/")
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    poll("an answer", serves).await;
    platform.serin(&["delete", "deployment", "shop"]).await;
    none_left(&mark).await;
}

#[tokio::test]
async fn down_leaves_nothing() {
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    let home = platform.home();
    assert!(
        of_home(&home).len() >= 7,
        "control plane, keeper, gateway, two shims, two instances"
    );
    platform.serin(&["down"]).await;
    none_left(home.to_str().unwrap()).await;

    // The same when nobody is there to be asked.
    platform.up(&[]).await;
    apps::healthy(&platform).await;
    kill_control_plane(&platform).await;
    platform.serin(&["down"]).await;
    none_left(home.to_str().unwrap()).await;
}

#[tokio::test]
async fn stale_files_never_hit_a_stranger() {
    let mut stranger = Stranger::start();
    let platform = apps::started(&apps::deployment(pods("v1", &[]))).await;
    let home = platform.home();
    // A crash of the machine: everything is gone at once, the files are left.
    kill_control_plane(&platform).await;
    let mut all = platform.processes();
    all.sort_by_key(|(_, command)| command != "keeper");
    for (pid, _) in &all {
        kill_now(*pid);
    }
    let instances = Process::all().filter(|process| process.has_trace("POD_UID="));
    for instance in instances.filter(|process| process.has_trace(home.to_str().unwrap())) {
        kill_now(instance.pid);
    }
    poll("the end of all", async || {
        of_home(&home).is_empty().then_some(())
    })
    .await;
    assert_eq!(claim(&platform, stranger.pid()), apps::REPLICAS);

    let told = platform.serin(&["down"]).await;
    assert!(stranger.lives(), "down: {told}");
    claim(&platform, stranger.pid());
    platform.up(&[]).await;
    let other = async || {
        (pid_in(&platform, "gateway.json", "pid").await != stranger.pid().cast_signed())
            .then_some(())
    };
    poll("a gateway in spite of the file", other).await;
    apps::healthy(&platform).await;
    assert!(stranger.lives(), "up");
    claim_gateway(&platform, stranger.pid());
    platform.serin(&["down"]).await;
    assert!(stranger.lives(), "down again");
    poll("the end of all", async || {
        of_home(&home).is_empty().then_some(())
    })
    .await;
}

/// Lets every file that names a process name the stranger. Gives how many of them are records of instances.
fn claim(platform: &Platform, pid: u32) -> u32 {
    claim_gateway(platform, pid);
    let home = platform.home();
    std::fs::write(
        home.join("run/serin.json"),
        json!({"pid": pid, "api": "127.0.0.1:1"}).to_string(),
    )
    .unwrap();
    std::fs::write(home.join("lock"), format!("{pid}\n")).unwrap();
    let mut claimed = 0;
    for pod in std::fs::read_dir(home.join("run/pods")).unwrap().flatten() {
        let record = pod.path().join("shop/0/state.json");
        let Ok(text) = std::fs::read(&record) else {
            continue;
        };
        let Ok(mut state) = serde_json::from_slice::<Value>(&text) else {
            continue;
        };
        if state["app"].is_object() {
            state["app"]["pid"] = pid.into();
            state["exit"] = Value::Null;
            std::fs::write(&record, state.to_string()).unwrap();
            claimed += 1;
        }
    }
    claimed
}

fn claim_gateway(platform: &Platform, pid: u32) {
    let info = json!({"keeperPid": pid, "pid": pid, "listen": ["127.0.0.1:1"]});
    std::fs::write(platform.home().join("run/gateway.json"), info.to_string()).unwrap();
}

#[tokio::test]
async fn a_long_request_outlives_its_version() {
    let slow = pods("v1", &[("LATENCY_MS", "3000")]);
    let platform = apps::started(&apps::deployment(slow)).await;
    let gateway = platform.gateway().await;
    let long = tokio::spawn(async move { get(gateway, HOST, "/").await });
    poll("the request in flight", async || {
        in_flight(&platform).await.then_some(())
    })
    .await;
    platform
        .serin(&["rollout", "set-image", "shop", "shop=serin.dev/demo:v2"])
        .await;
    let rolled_away = async || {
        let pods = pods_of(&platform).await;
        let leaving = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
        (pods.iter().filter(leaving).count() > 0).then_some(())
    };
    poll("the old version to leave", rolled_away).await;
    assert!(!long.is_finished(), "it is in flight");
    let answer = long.await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), answer.version()), (200, "v1"));
    apps::healthy(&platform).await;
}

/// Whether the gateway tells of a request in flight.
async fn in_flight(platform: &Platform) -> bool {
    let socket = platform.home().join("run/gateway.sock");
    let ask = async || {
        let mut stream = UnixStream::connect(&socket).await?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let metrics = ask().await.unwrap_or_default();
    metrics
        .lines()
        .any(|line| line == "serin_gateway_in_flight 1")
}

#[tokio::test]
async fn a_deleted_instance_is_replaced_and_its_requests_end_well() {
    let platform = apps::started(&apps::deployment(pods("v1", &[("LATENCY_MS", "20")]))).await;
    let load = crate::load::Load::start(&platform).await;
    let api: Api<Pod> = Api::default_namespaced(platform.client().await);
    for pod in pods_of(&platform).await {
        let name = pod.metadata.name.unwrap();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        poll("another instance", async || {
            let pods = pods_of(&platform).await;
            let ready = |pod: &&Pod| {
                pod.metadata.deletion_timestamp.is_none()
                    && crate::bad_versions::cause(pod).is_none()
            };
            (pods.iter().all(|p| p.metadata.name.as_ref() != Some(&name))
                && pods.iter().filter(ready).count() == 2)
                .then_some(())
        })
        .await;
        apps::healthy(&platform).await;
    }
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert!(lives(pid_in(&platform, "gateway.json", "pid").await));
    println!("instances deleted one after the other: {}", report.told());
}
