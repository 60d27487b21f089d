//! The node against a real API server and real processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conversations;
#[cfg(test)]
#[path = "../../../apiserver/tests/support/waiting.rs"]
mod waiting;
mod world;

use std::net::TcpListener;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, PodStatus, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use serin_node::{LogOptions, stop_all};

use world::{
    World, condition, container, free_port, get, merge, until_absent, waits, web, work_file,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_runs_gets_ready_and_survives_the_node() {
    let mut world = World::new(false);
    let port = free_port();
    let pod = world.create("web", web(port)).await;
    let status = world.until_ready("web").await;
    let ip = status.pod_ip.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(get(&ip, port, "/env/VERSION").await, "1.20");
    assert_eq!(get(&ip, port, "/env/POD_NAME").await, "web");
    assert_eq!(get(&ip, port, "/env/PORT_HTTP").await, port.to_string());
    assert_eq!(
        get(&ip, port, "/env/CARGO_MANIFEST_DIR").await,
        "",
        "a clean environment"
    );
    // Readiness follows the probe.
    std::fs::write(work_file(&world, &pod, "ready"), "503").unwrap();
    world
        .until("web", "not Ready", |_, s| {
            (condition(s, "Ready") == "False").then_some(())
        })
        .await;
    std::fs::remove_file(work_file(&world, &pod, "ready")).unwrap();
    let before = world.until_ready("web").await;
    // The node ends and comes back: same process, same address, never unready.
    let resource_version = |pod: Pod| pod.metadata.resource_version;
    world.stop().await;
    assert_eq!(
        get(&ip, port, "/env/POD_NAME").await,
        "web",
        "it serves without a node"
    );
    let version = resource_version(world.pods().get("web").await.unwrap());
    world.start();
    let second = world.script("other", "sleep 1000", json!({})).await;
    world.until_ready("other").await;
    let after = world.pods().get("web").await.unwrap();
    assert_eq!(after.status.clone().unwrap(), before);
    assert_eq!(resource_version(after), version, "nothing was written anew");
    assert_ne!(
        world
            .pods()
            .get("other")
            .await
            .unwrap()
            .status
            .unwrap()
            .pod_ip,
        Some(ip)
    );
    // And it can still be ended.
    world.delete("web").await;
    world.until_gone("web").await;
    until_absent(&work_file(&world, &pod, "")).await;
    assert!(work_file(&world, &second, "").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_is_registered_and_tells_what_it_does() {
    let world = World::new(false);
    world.script("one", "sleep 1000", json!({})).await;
    world.until_ready("one").await;
    let node = Api::<Node>::all(world.client.clone())
        .get("local")
        .await
        .unwrap();
    let ready = &node.status.unwrap().conditions.unwrap()[0];
    assert_eq!(
        (ready.type_.as_str(), ready.status.as_str()),
        ("Ready", "True")
    );
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        let event = world.until_event(reason, "").await;
        assert_eq!(event.involved_object.name.as_deref(), Some("one"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_drains_then_runs_its_hook_then_gets_its_signal() {
    let world = World::new(true);
    let hook = json!({"containers": [{"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> order"]}}}}]});
    let script = "trap 'echo signal >> order; cp order \"$HOME/order-$POD_NAME\"; exit 0' TERM; echo up; while true; do sleep 0.05; done";
    let home = world.home.path().to_owned();
    let script = format!("HOME={}; {script}", home.display());
    let pod = world.script("web", &script, hook).await;
    world.until_logged(&pod, "up").await;
    world.delete("web").await;
    world
        .until("web", "Ready=False", |_, s| {
            (condition(s, "Ready") == "False").then_some(())
        })
        .await;
    // The node has had time for all that it does by itself once another pod is ready.
    world.script("other", "sleep 1000", json!({})).await;
    world.until_ready("other").await;
    assert!(
        !work_file(&world, &pod, "order").exists() && !home.join("order-web").exists(),
        "it waits for the gateway"
    );
    let drained =
        json!({"status": {"conditions": [{"type": "serin.dev/Drained", "status": "True"}]}});
    let patch = Patch::Strategic(drained);
    world
        .pods()
        .patch_status("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    world.until_gone("web").await;
    let order = std::fs::read_to_string(home.join("order-web")).unwrap();
    assert_eq!(order, "hook\nsignal\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_shows_the_code_and_the_last_lines() {
    let world = World::new(false);
    let script = "echo run; echo 'cannot find the database' >&2; exit 3";
    let pod = world.script("bad", script, json!({})).await;
    let status = world
        .until("bad", "CrashLoopBackOff", |_, s| {
            (waits(s)?.0 == "CrashLoopBackOff").then(|| s.clone())
        })
        .await;
    let last = container(&status).last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert!(last.message.unwrap().contains("cannot find the database"));
    assert!(container(&status).restart_count >= 1);
    assert_eq!(condition(&status, "Ready"), "False");
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert!(world.logs(&pod, previous).await.unwrap().contains("run\n"));
    world.until_event("BackOff", "").await;
    world.delete("bad").await;
    world.until_gone("bad").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_why() {
    let world = World::new(false);
    let held = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let me = format!("process {} (", std::process::id());
    for (name, more, reason, message) in [
        (
            "image",
            json!({"image": "redis:7"}),
            "Pull",
            "serin up --image redis=BUNDLE".to_owned(),
        ),
        (
            "program",
            json!({"command": ["/no/such/program"]}),
            "RunContainerError",
            "exec /no/such/program: No such file".into(),
        ),
        (
            "config",
            json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "CreateContainerConfigError",
            "Secret s not found".into(),
        ),
        (
            "port",
            json!({"ports": [{"containerPort": port}]}),
            "CreateContainerError",
            me,
        ),
        (
            "none",
            json!({"command": null}),
            "CreateContainerError",
            "set command".into(),
        ),
    ] {
        world
            .script(name, "sleep 1000", json!({"containers": [more]}))
            .await;
        let what = format!("{reason} and {message}");
        world
            .until(name, &what, |_, s| {
                let (shown, why) = waits(s)?;
                (shown.contains(reason) && why.contains(&message)).then_some(())
            })
            .await;
        assert_eq!(
            condition(
                &world.pods().get(name).await.unwrap().status.unwrap(),
                "Ready"
            ),
            "False"
        );
    }
    // The cause goes away, and the pod starts; the foreigner was left alone.
    drop(held);
    world.until_ready("port").await;
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}, "data": {"k": "dg=="}}),
    )
    .unwrap();
    Api::<Secret>::default_namespaced(world.client.clone())
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    world.until_ready("config").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liveness_probe_restarts_and_a_config_map_reaches_the_container() {
    let world = World::new(false);
    let map: ConfigMap = serde_json::from_value(
        json!({"metadata": {"name": "conf"}, "data": {"GREETING": "hello"}}),
    )
    .unwrap();
    Api::<ConfigMap>::default_namespaced(world.client.clone())
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
    let port = free_port();
    let mut spec = web(port);
    merge(
        &mut spec,
        json!({"containers": [{
            "envFrom": [{"configMapRef": {"name": "conf"}}],
            "env": [{"name": "TEXT", "value": "$(GREETING) from $(POD_NAME)"}],
            "livenessProbe": {"exec": {"command": ["test", "!", "-e", "dead"]}, "periodSeconds": 1, "failureThreshold": 1},
        }]}),
    );
    let pod = world.create("web", spec).await;
    let ip = world.until_ready("web").await.pod_ip.unwrap();
    assert_eq!(get(&ip, port, "/env/TEXT").await, "hello from web");
    std::fs::write(work_file(&world, &pod, "dead"), "").unwrap();
    world
        .until("web", "a restart", |_, s| {
            (container(s).restart_count >= 1).then_some(())
        })
        .await;
    let why = "Liveness probe failed: command exited with 1";
    world.until_event("Unhealthy", why).await;
    std::fs::remove_file(work_file(&world, &pod, "dead")).unwrap();
    world.until_ready("web").await;
    assert_eq!(
        world
            .pods()
            .get("web")
            .await
            .unwrap()
            .status
            .unwrap()
            .pod_ip,
        Some(ip),
        "the address stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_and_its_log_is_followed_to_the_end() {
    let world = World::new(false);
    let script = "echo one; while ! [ -e go ]; do sleep 0.02; done; echo two";
    let pod = world
        .script("job", script, json!({"restartPolicy": "Never"}))
        .await;
    world.until_logged(&pod, "one").await;
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let (log, ()) = tokio::join!(world.logs(&pod, options), async {
        std::fs::write(work_file(&world, &pod, "go"), "").unwrap();
    });
    assert_eq!(log.unwrap(), "one\ntwo\n");
    let phase = |_: &Pod, s: &PodStatus| (s.phase.as_deref() == Some("Succeeded")).then_some(());
    world.until("job", "Succeeded", phase).await;
    world.delete("job").await;
    world.until_gone("job").await;
    let gone = world.until_no_log(&pod).await;
    assert_eq!(
        gone,
        "container \"main\" in pod \"job\" is waiting to start: it has no output yet"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_no_longer_knows_is_ended() {
    let mut world = World::new(false);
    let pod = world.script("web", "sleep 1000", json!({})).await;
    world.until_ready("web").await;
    world.stop().await;
    // The object goes while no node looks.
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.until_gone("web").await;
    assert!(work_file(&world, &pod, "").exists());
    world.start();
    until_absent(&work_file(&world, &pod, "")).await;
    assert_eq!(
        stop_all(world.home.path(), Duration::ZERO).await,
        0,
        "nothing runs any more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_takes_its_application_along_and_the_pod_is_back() {
    let world = World::new(false);
    let pod = world
        .script("web", "echo $$; sleep 1000; true", json!({}))
        .await;
    let first = world.until_ready("web").await;
    let uid = pod.metadata.uid.clone().unwrap();
    let mark = format!("POD_UID={uid}");
    let of_pod = || -> Vec<i32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter(|e| {
            std::fs::read(e.path().join("environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == mark.as_bytes()))
        })
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
    };
    let before = of_pod();
    assert!(!before.is_empty());
    let parent = std::fs::read_to_string(format!("/proc/{}/stat", before[0])).unwrap();
    let shim = before
        .iter()
        .find_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent: i32 = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            (!before.contains(&parent)).then_some(parent)
        })
        .unwrap_or_else(|| panic!("no parent in {parent}"));
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let status = world
        .until("web", "a second run", |_, s| {
            (container(s).restart_count == 1 && condition(s, "Ready") == "True").then(|| s.clone())
        })
        .await;
    let last = container(&status).last_state.unwrap().terminated.unwrap();
    assert_eq!(last.reason.as_deref(), Some("ContainerStatusUnknown"));
    assert_eq!(status.pod_ip, first.pod_ip);
    assert!(
        of_pod().iter().all(|pid| !before.contains(pid)),
        "nothing of the first run is left"
    );
}
