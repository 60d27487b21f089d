//! The control plane is killed: nobody notices, and it goes on where it was.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use serde_json::json;
use serin_api::analysis::AnalysisRun;
use serin_api::rollout::{Rollout, RolloutStatus};

use crate::apps::{self, is_healthy, rollout_until, served_percent};
use crate::load::Load;
use crate::processes::{kill_control_plane, pid_in, shims};
use crate::support::{Platform, poll};

/// The index of the analysis at the second of four weights.
const ANALYSIS: i32 = 3;

/// The instances: name, address, restarts. A restarted one has another line.
async fn instances(platform: &Platform, revision: &str) -> Vec<String> {
    let pods = apps::pods_of(platform).await.into_iter();
    let mine = pods.filter(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.is_some_and(|all| all.values().any(|value| value == revision))
    });
    let told = mine.map(|pod| {
        let status = pod.status.unwrap();
        let containers = status.container_statuses.unwrap_or_default();
        let restarts: i32 = containers.iter().map(|c| c.restart_count).sum();
        let started = containers[0]
            .state
            .as_ref()
            .and_then(|s| s.running.as_ref()?.started_at.clone());
        format!(
            "{} {:?} {started:?} {restarts}",
            pod.metadata.name.unwrap(),
            status.pod_ip
        )
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

/// The steps and served weights that a Rollout goes through until it is healthy, each once.
async fn followed(platform: &Platform) -> Vec<(Option<i32>, Option<i32>)> {
    let api: Api<Rollout> = Api::default_namespaced(platform.client().await);
    let mut changes = watch_object(api, "shop").default_backoff().boxed();
    let mut seen = Vec::new();
    let follow = async {
        while let Some(change) = changes.next().await {
            let Some(status) = change.ok().flatten().and_then(|rollout| rollout.status) else {
                continue;
            };
            let now = (status.current_step_index, served_percent(&status));
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            if is_healthy(&status) {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(40), follow).await;
    assert!(ended.is_ok(), "{seen:?}");
    seen
}

/// The analysis under way: its uid, and when its first measurement was made. `None` before that.
async fn analysis(platform: &Platform) -> Option<(String, String)> {
    let api: Api<AnalysisRun> = Api::default_namespaced(platform.client().await);
    let runs = api.list(&ListParams::default()).await.unwrap();
    let run = runs.items.into_iter().next()?;
    let status = serde_json::to_value(&run.status).unwrap();
    let first = &status["metricResults"][0]["measurements"][0]["startedAt"];
    Some((run.metadata.uid?, first.as_str()?.to_owned()))
}

#[tokio::test]
async fn a_canary_goes_on_where_it_was() {
    let steps = json!([
        {"setWeight": 10}, {"pause": {"duration": "1s"}},
        {"setWeight": 30}, apps::analysis_step(),
        {"setWeight": 60}, {"pause": {"duration": "1s"}},
        {"setWeight": 100}, {"pause": {"duration": "1s"}},
    ]);
    let platform = apps::started(&apps::rollout(apps::pods("v1", &[]), steps)).await;
    let before = rollout_until(&platform, "v1", is_healthy).await;
    let stable = before.stable_rs.unwrap();
    let stable_before = instances(&platform, &stable).await;
    let gateway = platform.run_file("gateway.json").await;
    let load = Load::start(&platform).await;

    platform
        .serin(&["rollout", "set-image", "shop", "shop=serin.dev/demo:v2"])
        .await;
    let in_analysis = |status: &RolloutStatus| {
        status.current_step_index == Some(ANALYSIS) && served_percent(status) == Some(30)
    };
    rollout_until(&platform, "the analysis at 30 %", in_analysis).await;
    let run_before = poll("a measurement", async || analysis(&platform).await).await;
    let shims_before = shims(&platform);
    kill_control_plane(&platform).await;
    let killed = load.stop().await;
    killed.assert_nothing_lost();
    let away = Load::during(&platform, "3s").await;
    away.assert_nothing_lost();
    let share = away.percent_of("v2");
    assert!(
        (20.0..=40.0).contains(&share),
        "{share} % while nobody steers"
    );
    assert_eq!(shims(&platform), shims_before);

    let load = Load::start(&platform).await;
    platform.up(&[]).await;
    let seen = followed(&platform).await;
    let steps_seen: Vec<_> = seen.iter().filter_map(|(step, _)| *step).collect();
    assert_eq!(
        steps_seen.first(),
        Some(&ANALYSIS),
        "the same step goes on: {seen:?}"
    );
    assert!(steps_seen.is_sorted(), "no step twice: {seen:?}");
    for weight in [30, 60, 100] {
        assert!(
            seen.iter().any(|(_, served)| *served == Some(weight)),
            "{weight} % is left out: {seen:?}"
        );
    }
    assert_eq!(
        analysis(&platform).await.unwrap(),
        run_before,
        "the analysis goes on with what it has measured"
    );
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert!(report.answers_of("v2") > 0);
    assert_eq!(
        platform.run_file("gateway.json").await,
        gateway,
        "the gateway never ended"
    );
    let stable_now = instances(&platform, &stable).await;
    assert!(
        stable_now.iter().all(|one| stable_before.contains(one)),
        "{stable_before:?} {stable_now:?}"
    );
    println!(
        "kill -9 in mid-canary: {}; away: {share:.1} % of 30 %",
        report.told()
    );
}

#[tokio::test]
async fn instances_are_the_same_processes_after_a_restart() {
    let platform = apps::started(&apps::deployment(apps::pods("v1", &[]))).await;
    let before = shims(&platform);
    assert_eq!(before.len(), apps::REPLICAS as usize);
    let load = Load::start(&platform).await;
    for _ in 0..3 {
        kill_control_plane(&platform).await;
        let started = Instant::now();
        platform.up(&[]).await;
        println!(
            "serin up again after {:.0} ms",
            started.elapsed().as_secs_f64() * 1000.0
        );
        apps::healthy(&platform).await;
    }
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert_eq!(shims(&platform), before);
    println!("control plane killed three times: {}", report.told());
}

#[tokio::test]
async fn a_kill_in_every_pause_does_not_keep_a_release_from_its_end() {
    let pause = json!({"pause": {"duration": "3s"}});
    let steps =
        json!([{"setWeight": 20}, pause, {"setWeight": 50}, pause, {"setWeight": 80}, pause]);
    let platform = apps::started(&apps::rollout(apps::pods("v1", &[]), steps)).await;
    let load = Load::start(&platform).await;
    // The first version is replaced in its first pause.
    for (version, pauses) in [("v2", &[1][..]), ("v3", &[1, 3, 5])] {
        let image = format!("shop=serin.dev/demo:{version}");
        platform
            .serin(&["rollout", "set-image", "shop", &image])
            .await;
        for pause in pauses {
            let what = format!("the pause at step {pause} of {version}");
            let come = |status: &RolloutStatus| status.current_step_index >= Some(*pause);
            let status = rollout_until(&platform, &what, come).await;
            assert!(!is_healthy(&status), "{what}: it is over already");
            kill_control_plane(&platform).await;
            platform.up(&[]).await;
        }
    }
    let last_kill = Instant::now();
    rollout_until(&platform, "v3", is_healthy).await;
    let took = last_kill.elapsed();
    let only_v3 = Load::during(&platform, "1s").await;
    assert_eq!(only_v3.answers_of("v3"), only_v3.requests());
    let report = load.stop().await;
    report.assert_nothing_lost();
    println!(
        "a kill in every pause: {}; converged {:.1} s after the last",
        report.told(),
        took.as_secs_f64()
    );
}

#[tokio::test]
async fn a_second_one_is_refused() {
    let platform = Platform::start(&[]).await;
    let pid = pid_in(&platform, "serin.json", "pid").await;
    let before = platform.processes();
    for arguments in [
        &["up", "--listen", "127.0.0.1:0"][..],
        &["up", "--detach", "--listen", "127.0.0.1:0"],
    ] {
        let told = platform.try_serin(arguments).await;
        assert_eq!(told.code, Some(75), "{told:?}");
        assert!(told.stderr.contains(&format!("(pid {pid})")), "{told:?}");
        assert!(told.stderr.contains("serin down"), "{told:?}");
        assert_eq!(platform.processes(), before, "the first is untouched");
        platform.serin(&["get", "namespaces"]).await;
    }
}
