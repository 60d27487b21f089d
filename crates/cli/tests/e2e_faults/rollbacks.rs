//! The way back of a release that was complete, or is stuck, while users send requests.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::json;

use crate::apps::{self, HOST, healthy, pods, pods_of, rollout_until};
use crate::support::{Visitors, poll};

const WARM: &str = "\n---\n{apiVersion: serin.dev/v1alpha1, kind: ReleasePolicy, metadata: {name: warm}, \
    spec: {selector: {}, rollback: {holdRejected: true, keepWarm: {duration: 1h}}}}";

/// When the last answer of a version came, as seen once none has come for a while.
async fn last_answer(visitors: &Visitors, version: &str) -> Instant {
    const QUIET: Duration = Duration::from_millis(500);
    let mut last = (visitors.seen().of(version), Instant::now());
    let quiet = async || {
        let count = visitors.seen().of(version);
        if count != last.0 {
            last = (count, Instant::now());
        }
        (last.1.elapsed() >= QUIET).then_some(last.1)
    };
    poll("the end of a version", quiet).await
}

#[tokio::test]
async fn a_completed_release_is_undone_in_one_change_and_no_request_is_lost() {
    let manifest =
        |version: &str| apps::rollout(pods(version, &[]), json!([{"setWeight": 50}])) + WARM;
    let platform = apps::started(&manifest("v1")).await;
    platform.apply(&manifest("v2")).await;
    healthy(&platform).await;
    let uids = |pods: Vec<k8s_openapi::api::core::v1::Pod>| -> Vec<_> {
        pods.iter().filter_map(ResourceExt::uid).collect()
    };
    let before = uids(pods_of(&platform).await);
    let visitors = Visitors::start(platform.gateway().await, HOST);
    visitors.await_more(200).await;
    assert_eq!(visitors.seen().of("v1"), 0);

    let asked = Instant::now();
    platform
        .serin(&["rollout", "undo", "shop", "-m", "orders fail"])
        .await;
    let last = last_answer(&visitors, "v2").await;
    let took = last.saturating_duration_since(asked);
    println!(
        "from the command to the last answer of v2: {} ms",
        took.as_millis()
    );
    healthy(&platform).await;
    let seen = visitors.stop().await;
    seen.assert_none_failed();
    assert!(seen.of("v1") > 0, "{seen:#?}");
    let after = uids(pods_of(&platform).await);
    assert!(
        after.iter().all(|uid| before.contains(uid)),
        "something was started"
    );
    // A second undo does not come to the version that the first one left.
    let twice = platform.try_serin(&["rollout", "undo", "shop"]).await;
    assert_eq!(twice.code, Some(1), "{twice:?}");
    let history = platform.serin(&["rollout", "history", "shop"]).await;
    assert!(
        history.contains("undone: back to revision 1: orders fail"),
        "{history}"
    );
}

#[tokio::test]
async fn an_emergency_works_on_a_paused_canary() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let platform = apps::started(&apps::rollout(pods("v1", &[]), steps.clone())).await;
    platform.apply(&apps::rollout(pods("v2", &[]), steps)).await;
    rollout_until(&platform, "the pause", |s| s.controller_pause).await;
    platform.serin(&["rollout", "pause", "shop"]).await;
    let gateway = platform.gateway().await;
    let visitors = Visitors::start(gateway, HOST);
    visitors.await_more(100).await;

    let url = format!("http://{gateway}/");
    let arguments = [
        "rollout",
        "emergency",
        "shop",
        "--url",
        &url,
        "--host",
        HOST,
        "-m",
        "orders fail",
    ];
    let told = platform.serin(&arguments).await;
    println!("{told}");
    for number in 1..=5 {
        assert!(told.contains(&format!("{number}/5 ")), "{told}");
    }
    visitors.assert_answered_by("v1").await;
    visitors.stop().await.assert_none_failed();
    let events = platform.serin(&["get", "events", "-o", "json"]).await;
    assert!(events.contains("EmergencyRollback"), "{events}");
    let rollout = rollout_until(&platform, "the old version", |s| {
        s.current_pod_hash == s.stable_rs
    })
    .await;
    assert!(!rollout.abort);
}

/// Without warm instances the old ones are started first: as many as are promised are available all the time.
#[tokio::test]
async fn an_undo_without_warm_instances_is_never_below_the_bound() {
    let manifest = |version: &str| {
        apps::rollout(pods(version, &[]), json!([]))
            + "\n---\n{apiVersion: serin.dev/v1alpha1, kind: ReleasePolicy, metadata: {name: instant}, \
               spec: {selector: {}, rollback: {instant: true}}}"
    };
    let platform = apps::started(&manifest("v1")).await;
    platform.apply(&manifest("v2")).await;
    healthy(&platform).await;
    let gone = async || (pods_of(&platform).await.len() == apps::REPLICAS as usize).then_some(());
    poll("the end of the old instances", gone).await;
    let visitors = Visitors::start(platform.gateway().await, HOST);
    visitors.await_more(100).await;

    let asked = Instant::now();
    platform.serin(&["rollout", "undo", "shop"]).await;
    let mut fewest = usize::MAX;
    let back = async || {
        let available = pods_of(&platform).await;
        let ready = available.iter().filter(|pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
            let leaves = pod.metadata.deletion_timestamp.is_some();
            !leaves && serin_api::conditions::is_true(conditions.unwrap_or_default(), "Ready")
        });
        fewest = fewest.min(ready.count());
        (visitors.seen().of("v1") > 0).then_some(())
    };
    poll("answers of v1", back).await;
    let last = last_answer(&visitors, "v2").await;
    println!(
        "without warm instances, from the command to the last answer of v2: {} ms",
        last.saturating_duration_since(asked).as_millis()
    );
    assert!(fewest >= apps::REPLICAS as usize, "{fewest} were available");
    visitors.stop().await.assert_none_failed();
}
