//! The gateway and its keeper are killed.

use std::time::{Duration, Instant};

use crate::apps::{self, HOST};
use crate::load::{CONNECTIONS, Load};
use crate::processes::{kill, kill_control_plane, kill_now, lives, pid_in};
use crate::support::{Platform, get, poll};

/// Kills the gateway and asks until an answer comes; gives how long that took.
async fn killed_and_back(platform: &Platform) -> Duration {
    let address = platform.gateway().await;
    let pid = pid_in(platform, "gateway.json", "pid").await;
    kill_now(pid);
    let killed = Instant::now();
    let answered = async || {
        get(address, HOST, "/")
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    let answer = poll("an answer after the kill", answered).await;
    let took = killed.elapsed();
    assert_eq!(answer.version(), "v1");
    let other = async || (pid_in(platform, "gateway.json", "pid").await != pid).then_some(());
    poll("another gateway", other).await;
    took
}

/// A gateway that is to be killed once more has served before.
async fn serves(platform: &Platform) {
    let address = platform.gateway().await;
    for _ in 0..20 {
        let answer = get(address, HOST, "/").await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.version()), (200, "v1"));
    }
}

#[tokio::test]
async fn a_killed_gateway_is_back_with_its_routes() {
    let platform = apps::started(&apps::deployment(apps::pods("v1", &[]))).await;
    let keeper = pid_in(&platform, "gateway.json", "keeperPid").await;
    // Routes are saved a moment after they are served: what is killed here is a gateway that has come to it.
    let saved = platform.home().join("gateway").join("routes.json");
    let has_instance = async || {
        let text = std::fs::read_to_string(&saved).ok()?;
        text.contains(":8080").then_some(())
    };
    poll("the routes on disk", has_instance).await;
    for control_plane in [true, false] {
        if !control_plane {
            kill_control_plane(&platform).await;
        }
        let load = Load::start(&platform).await;
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(killed_and_back(&platform).await);
            serves(&platform).await;
        }
        let report = load.stop().await;
        println!(
            "gateway killed five times, control plane {control_plane}: back after {times:?}; {}\n{}",
            report.told(),
            report.failures()
        );
        assert_eq!(report.faults("connect-error"), 0, "nobody is refused");
        assert_eq!(
            report.faults("gateway-answer"),
            0,
            "the routes are there at once"
        );
        assert!(
            report.lost() <= 5 * CONNECTIONS,
            "only what was in flight: {}",
            report.failures()
        );
        assert!(lives(keeper));
    }
}

#[tokio::test]
async fn a_killed_keeper_costs_nothing() {
    let platform = apps::started(&apps::deployment(apps::pods("v1", &[]))).await;
    let address = platform.gateway().await;
    let gateway = pid_in(&platform, "gateway.json", "pid").await;
    let keeper = pid_in(&platform, "gateway.json", "keeperPid").await;
    let load = Load::start(&platform).await;
    kill(keeper).await;
    let orphaned = Load::during(&platform, "2s").await;
    orphaned.assert_nothing_lost();
    assert!(lives(gateway), "it serves on without its keeper");
    kill_control_plane(&platform).await;
    platform.up(&[]).await;
    apps::healthy(&platform).await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    println!(
        "keeper killed, control plane killed and started: {}",
        report.told()
    );

    // Both are gone: the control plane starts them again where they were.
    kill_now(pid_in(&platform, "gateway.json", "pid").await);
    let killed = Instant::now();
    let answered = async || {
        get(address, HOST, "/")
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    poll("an answer at the same address", answered).await;
    println!(
        "gateway killed after its keeper: back after {:?}",
        killed.elapsed()
    );
    let other = pid_in(&platform, "gateway.json", "keeperPid").await;
    assert_ne!(other, keeper);
}
