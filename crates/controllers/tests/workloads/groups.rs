//! Release groups and batches, over the embedded API, on a virtual clock.

use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin_api::release::ReleasePolicy;
use serin_api::rollout::{Rollout, RolloutPhase, RolloutStatus};
use serin_api::waiting::WaitingOn;

use crate::rollouts::until_status;
use crate::world::World;

fn member(name: &str, version: &str, steps: &Value, release: &str) -> Value {
    let labels = json!({"app": name});
    let container = json!({"name": "a", "image": format!("{name}:{version}")});
    json!({
        "metadata": {"name": name, "annotations": {"serin.dev/release-group": "shop", "serin.dev/release": release}},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": labels}, "strategy": {"canary": {"steps": steps}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

fn is_healthy(status: &RolloutStatus) -> bool {
    status.phase == Some(RolloutPhase::Healthy)
}

fn waits_for(member: &str) -> impl Fn(&RolloutStatus) -> bool {
    move |status| matches!(&status.waiting_on, Some(WaitingOn::Group { member: m, .. }) if m == member)
}

async fn status(world: &World, name: &str, patch: Value) {
    let api = world.api::<Rollout>();
    let patch = Patch::Merge(patch);
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Two members at their first version: one with a pause for a person after its first step, one without.
async fn group() -> (World, Value, Value) {
    let world = World::start();
    let asking = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}]);
    let quick = json!([{"setWeight": 25}, {"setWeight": 50}, {"setWeight": 75}]);
    world
        .create::<Rollout>(member("api", "v1", &asking, "1"))
        .await;
    world
        .create::<Rollout>(member("web", "v1", &quick, "1"))
        .await;
    for name in ["api", "web"] {
        until_status(&world, name, "v1", is_healthy).await;
    }
    (world, asking, quick)
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_step_by_step_together() {
    let (world, asking, quick) = group().await;
    // One is of the next release already, and waits for the other without a single new instance.
    world
        .merge::<Rollout>("web", member("web", "v2", &quick, "2"))
        .await;
    let early = until_status(&world, "web", "a wait for api", waits_for("api")).await;
    assert_eq!(
        (early.current_step_index, early.updated_replicas),
        (Some(0), Some(0))
    );
    world
        .merge::<Rollout>("api", member("api", "v2", &asking, "2"))
        .await;
    until_status(&world, "api", "its pause", |s| s.controller_pause).await;
    let ahead = until_status(&world, "web", "a wait at its third step", |s| {
        s.current_step_index == Some(2) && waits_for("api")(s)
    })
    .await;
    assert_eq!(ahead.updated_replicas, Some(2));
    status(&world, "api", json!({"status": {"pauseConditions": null}})).await;
    for name in ["api", "web"] {
        until_status(&world, name, "v2", |s| {
            is_healthy(s) && s.updated_replicas == Some(4)
        })
        .await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_of_one_takes_all_back_and_a_retry_begins_together() {
    let (world, asking, quick) = group().await;
    world
        .merge::<Rollout>("api", member("api", "v2", &asking, "2"))
        .await;
    world
        .merge::<Rollout>("web", member("web", "v2", &quick, "2"))
        .await;
    until_status(&world, "api", "its pause", |s| s.controller_pause).await;
    let decision = json!({"by": "anna", "why": "orders fail"});
    status(
        &world,
        "api",
        json!({"status": {"abort": true, "decision": decision}}),
    )
    .await;
    let web = until_status(&world, "web", "the way back", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;
    assert_eq!(
        web.message.as_deref(),
        Some("taken back: api was taken back")
    );
    until_status(&world, "api", "the way back", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;

    status(&world, "web", json!({"status": {"abort": false}})).await;
    until_status(&world, "web", "a wait for api", |s| {
        !s.abort && waits_for("api")(s)
    })
    .await;
    status(&world, "api", json!({"status": {"abort": false}})).await;
    until_status(&world, "api", "its pause", |s| s.controller_pause).await;
    status(&world, "api", json!({"status": {"pauseConditions": null}})).await;
    for name in ["api", "web"] {
        until_status(&world, name, "v2", |s| {
            is_healthy(s) && s.updated_replicas == Some(4)
        })
        .await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn six_instances_go_in_three_batches_with_a_check_after_each() {
    let world = World::start();
    let spec = json!({"selector": {}, "batches": {"size": 2, "pause": "30s"}});
    let policy = json!({"metadata": {"name": "rolling"}, "spec": spec});
    world.create::<ReleasePolicy>(policy).await;
    let rolling = |version: &str| {
        let mut object = member("web", version, &json!([]), "1");
        object["spec"]["replicas"] = json!(6);
        object["spec"]["strategy"] = json!({"canary": {"maxSurge": 1, "maxUnavailable": 0}});
        object
    };
    world.create::<Rollout>(rolling("v1")).await;
    until_status(&world, "web", "v1", is_healthy).await;
    world.watch_bounds();
    world.merge::<Rollout>("web", rolling("v2")).await;
    for (index, instances) in [(0, 2), (1, 4), (2, 6)] {
        let what = format!("batch {}", index + 1);
        let paused = until_status(&world, "web", &what, |s| {
            s.controller_pause && s.current_step_index == Some(index)
        })
        .await;
        assert_eq!(paused.updated_replicas, Some(instances));
    }
    until_status(&world, "web", "v2", is_healthy).await;
    let bounds = world.bounds();
    assert!(
        bounds.most <= 7 && bounds.fewest_available >= 6 && bounds.events > 0,
        "{bounds:?}"
    );
    let mut batches: Vec<_> = world.list::<Event>().await.into_iter().collect();
    batches.retain(|event| event.reason.as_deref() == Some("RolloutStepCompleted"));
    batches.sort_by_key(|event| event.first_timestamp.clone());
    let told: Vec<_> = batches
        .into_iter()
        .filter_map(|event| event.message)
        .collect();
    assert_eq!(
        told,
        [
            "step 1/3 (batch 1 of 3: 2 new instances, pause 30s) is done",
            "step 2/3 (batch 2 of 3: 4 new instances, pause 30s) is done",
            "step 3/3 (batch 3 of 3: 6 new instances, pause 30s) is done",
        ]
    );
    world.stop().await;
}
