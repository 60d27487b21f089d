//! The contract of Argo Rollouts over the embedded API: what clients send, and what becomes of the objects that are named.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use serin_api::conditions;
use serin_api::gateway_api::HTTPRoute;
use serin_api::keys::{annotation, label};
use serin_api::rollout::{Rollout, RolloutPhase, RolloutStatus};
use serin_api::waiting::WaitingOn;

use crate::rollouts::{
    counted, delete, image_counts, is, pausing, release, rollout, route, selected, service, until,
    verb, weights,
};
use crate::world::World;

fn with_steps(steps: Value, more: Value) -> Value {
    let mut strategy = json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "steps": steps,
        "trafficRouting": {"managedRoutes": [{"name": "testers"}], "plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
    }});
    let fields = strategy["canary"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    strategy
}

/// What `kubectl argo rollouts` sends, and nothing else.
#[tokio::test(start_paused = true)]
async fn the_verbs_of_clients_are_plain_patches() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    // abort, retry
    verb(&world, json!({"status": {"abort": true}})).await;
    until(&world, "abort", |s| {
        s.abort && s.updated_replicas == Some(0)
    })
    .await;
    verb(&world, json!({"status": {"abort": false}})).await;
    until(&world, "retry", is(RolloutPhase::Paused)).await;
    // pause, and promote, which resumes both kinds of pause
    world
        .merge::<Rollout>("web", json!({"spec": {"paused": true}}))
        .await;
    until(&world, "pause", |s| s.waiting_on == Some(WaitingOn::Paused)).await;
    world
        .merge::<Rollout>("web", json!({"spec": {"paused": false}}))
        .await;
    verb(&world, json!({"status": {"pauseConditions": null}})).await;
    until(&world, "promote", |s| s.current_step_index == Some(3)).await;
    // promote --skip-current-step
    until(&world, "the last pause", is(RolloutPhase::Paused)).await;
    verb(
        &world,
        json!({"status": {"pauseConditions": null, "currentStepIndex": 4}}),
    )
    .await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:v2", 5)]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn undo_full_promotion_and_restart_are_plain_patches() {
    let world = World::start();
    world.create::<Rollout>(rollout("v2", pausing())).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    // undo is a patch of the template; promote --full
    release(&world, "v1").await;
    until(&world, "undo", is(RolloutPhase::Paused)).await;
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "v1 again", is(RolloutPhase::Healthy)).await;
    assert_eq!(image_counts(&world).await, counted(&[("web:v1", 5)]));
    // restart
    let before = uids(&world).await;
    // Times of pods are whole seconds: what is there now is older than the next one.
    let at = serin_api::conditions::time(world.now() + SignedDuration::from_secs(1));
    world
        .merge::<Rollout>("web", json!({"spec": {"restartAt": at}}))
        .await;
    until(&world, "restart", |s| s.restarted_at.is_some()).await;
    until(&world, "all are back", |s| s.available_replicas == Some(5)).await;
    assert!(uids(&world).await.iter().all(|uid| !before.contains(uid)));
    world.stop().await;
}

/// `kubectl argo rollouts set image` replaces the whole object as it was read, and `status` reads phase and conditions.
#[tokio::test(start_paused = true)]
async fn set_image_replaces_the_object_and_conditions_follow() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    let told = |status: &RolloutStatus, kind: &str| {
        let condition = conditions::get(&status.conditions, kind);
        condition.map(|c| (c.status.clone(), c.reason.clone()))
    };
    let is_told = |status: &RolloutStatus, kind: &str, word: &str| {
        assert_eq!(
            told(status, kind).unwrap().0,
            word,
            "{kind}: {:#?}",
            status.conditions
        );
    };
    let done = until(&world, "v1", is(RolloutPhase::Healthy)).await;
    for kind in ["Available", "Completed", "Healthy", "Progressing"] {
        is_told(&done, kind, "True");
    }
    let read: Rollout = world.get("web").await;
    let mut next = read.clone();
    let pod = next.spec.template.as_mut().unwrap().spec.as_mut().unwrap();
    pod.containers[0].image = Some("web:v2".into());
    let api = world.api::<Rollout>();
    api.replace("web", &PostParams::default(), &next)
        .await
        .unwrap();
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    is_told(&paused, "Completed", "False");
    is_told(&paused, "Paused", "True");
    // Whoever has read an older one is told so, and reads again.
    let stale = api.replace("web", &PostParams::default(), &read).await;
    assert!(matches!(stale, Err(kube::Error::Api(status)) if status.code == 409));
    verb(&world, json!({"status": {"abort": true}})).await;
    let aborted = until(&world, "the abort", |s| {
        s.abort && s.phase == Some(RolloutPhase::Degraded)
    })
    .await;
    let (word, reason) = told(&aborted, "Progressing").unwrap();
    assert_eq!(
        (word.as_str(), reason.as_str()),
        ("False", "RolloutAborted")
    );
    world.stop().await;
}

async fn uids(world: &World) -> Vec<String> {
    let pods = world.list::<Pod>().await.into_iter();
    let staying = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying.filter_map(|pod| pod.uid()).collect()
}

/// A release that takes this step, gives testers a route of their own and pauses.
async fn release_to_testers(world: &World, step: Value) {
    let header = json!({"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "1"}}]});
    let steps = json!([step, {"setHeaderRoute": header}, {"pause": {}}]);
    world
        .create::<Rollout>(rollout("v1", with_steps(steps, json!({}))))
        .await;
    until(world, "v1", is(RolloutPhase::Healthy)).await;
    release(world, "v2").await;
    until(world, "the pause", is(RolloutPhase::Paused)).await;
}

#[tokio::test(start_paused = true)]
async fn a_header_route_is_there_for_its_steps() {
    let world = World::start();
    route(&world).await;
    release_to_testers(&world, json!({"setCanaryScale": {"replicas": 1}})).await;
    let seen: HTTPRoute = world.get("web").await;
    let first = &seen.spec.rules[0];
    assert_eq!(first.name.as_deref(), Some("testers"));
    assert_eq!(
        first
            .backend_refs
            .iter()
            .map(|b| b.name.as_str())
            .collect::<Vec<_>>(),
        ["canary"]
    );
    assert_eq!(first.matches[0].headers[0].value, "1");
    verb(&world, json!({"status": {"abort": true}})).await;
    until(&world, "the abort", |s| {
        s.abort && s.updated_replicas == Some(1)
    })
    .await;
    assert_eq!(weights(&world).await, [100, 0]);
    world.stop().await;
}

/// A release that sends 20 % to the canary by an Ingress.
async fn release_by_ingress(world: &World) {
    service(world, "stable").await;
    service(world, "canary").await;
    let backend = json!({"service": {"name": "stable", "port": {"number": 80}}});
    let rules = json!([{"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]);
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "users"}, "spec": {"rules": rules}});
    world.create::<Ingress>(ingress).await;
    let routing = json!({"trafficRouting": {"nginx": {"stableIngress": "users"}}});
    let strategy = with_steps(json!([{"setWeight": 20}, {"pause": {}}]), routing);
    world.create::<Rollout>(rollout("v1", strategy)).await;
    until(world, "v1", is(RolloutPhase::Healthy)).await;
    release(world, "v2").await;
    until(world, "the pause", is(RolloutPhase::Paused)).await;
    let trial: Ingress = world.get("web-users-canary").await;
    assert_eq!(canary_weight(&trial), Some("20"));
}

fn canary_weight(ingress: &Ingress) -> Option<&str> {
    let key = "nginx.ingress.kubernetes.io/canary-weight";
    ingress.annotations().get(key).map(String::as_str)
}

#[tokio::test(start_paused = true)]
async fn an_ingress_carries_the_split() {
    let world = World::start();
    release_by_ingress(&world).await;
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    let trial: Ingress = world.get("web-users-canary").await;
    assert_eq!(canary_weight(&trial), Some("0"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_deleted_leaves_nobody_to_its_canary_ingress() {
    for while_away in [false, true] {
        let mut world = World::start();
        release_by_ingress(&world).await;
        let orphan = DeleteParams {
            propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        delete(&mut world, &orphan, while_away).await;
        let free = |ingress: Option<&Ingress>| {
            ingress.is_some_and(|i| {
                let key = annotation::MANAGED_BY_ROLLOUTS;
                canary_weight(i) == Some("0") && !i.annotations().contains_key(key)
            })
        };
        world.until("web-users-canary", "let go", free).await;
        world.stop().await;
    }
    let mut world = World::start();
    release_by_ingress(&world).await;
    delete(&mut world, &DeleteParams::default(), false).await;
    let gone = |ingress: Option<&Ingress>| ingress.is_none();
    world.until("web-users-canary", "gone", gone).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_takes_over_from_a_deployment() {
    let world = World::start();
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:v1"}]},
    });
    let spec =
        json!({"replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let old = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "old"}, "spec": spec});
    world.create::<Deployment>(old).await;
    let mut object = rollout("v1", pausing());
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "old", "scaleDown": "onsuccess"}));
    world.create::<Rollout>(object).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let scaled = |d: Option<&Deployment>| {
        d.and_then(|d| d.spec.as_ref())
            .is_some_and(|s| s.replicas == Some(0))
    };
    world
        .until::<Deployment>("old", "scaled to 0", scaled)
        .await;
    // A change of the Deployment is a release of the Rollout.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:v2"}]}}}});
    world.merge::<Deployment>("old", image).await;
    until(&world, "the pause", |s| {
        s.phase == Some(RolloutPhase::Paused)
    })
    .await;
    let params = PatchParams::default();
    let twice = json!({"spec": {"template": template}});
    let refused = world
        .api::<Rollout>()
        .patch("web", &params, &Patch::Merge(twice))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("spec.template: Forbidden")
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_labelled_while_their_revision_plays_a_part() {
    let world = World::start();
    let labels = |role: &str| json!({"labels": {"role": role}});
    let mut strategy = pausing();
    strategy["canary"]["canaryMetadata"] = labels("canary");
    strategy["canary"]["stableMetadata"] = labels("stable");
    world.create::<Rollout>(rollout("v1", strategy)).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    assert_eq!(
        roles(&world).await,
        [("web:v1".to_owned(), "stable".to_owned())]
    );
    release(&world, "v2").await;
    until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let both = [
        ("web:v1".to_owned(), "stable".to_owned()),
        ("web:v2".to_owned(), "canary".to_owned()),
    ];
    assert_eq!(roles(&world).await, both);
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    until(&world, "v2", is(RolloutPhase::Healthy)).await;
    let carries = |pod: Option<&Pod>| {
        pod.is_none_or(|pod| {
            let leaves = pod.metadata.deletion_timestamp.is_some();
            leaves || pod.labels().get("role").map(String::as_str) == Some("stable")
        })
    };
    for pod in world.list::<Pod>().await {
        world.until::<Pod>(&pod.name_any(), "stable", carries).await;
    }
    world.stop().await;
}

/// Image and role of the pods that stay.
async fn roles(world: &World) -> Vec<(String, String)> {
    let pods = world.list::<Pod>().await.into_iter();
    let staying = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let roles = staying.map(|pod| {
        let role = pod.labels().get("role").cloned().unwrap_or_default();
        (pod.spec.unwrap().containers[0].image.clone().unwrap(), role)
    });
    let roles: std::collections::BTreeSet<_> = roles.collect();
    roles.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_scales_a_rollout() {
    let world = World::start();
    world.create::<Rollout>(rollout("v1", pausing())).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    let api = world.api::<Rollout>();
    let scale = api.get_scale("web").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!(
        (status.replicas, status.selector.as_deref()),
        (5, Some("app=web"))
    );
    let patch = Patch::Merge(json!({"spec": {"replicas": 7}}));
    api.patch_scale("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    until(&world, "7 instances", |s| {
        s.hpa_replicas == Some(7) && s.phase == Some(RolloutPhase::Healthy)
    })
    .await;
    world.stop().await;
}

/// A client whose patches of the pods of a ReplicaSet never come to an end.
fn without_pods_of(set: &str, client: &Client) -> Client {
    let (client, pods) = (client.clone(), format!("/pods/{set}-"));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let client = client.clone();
        let is_held =
            request.method() == http::Method::PATCH && request.uri().path().contains(&pods);
        async move {
            if is_held {
                std::future::pending::<()>().await;
            }
            client.send(request).await
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn labels_that_were_for_a_time_go_also_when_the_controllers_are_killed_between() {
    let mut world = World::start();
    let mut strategy = with_steps(json!([{"setWeight": 20}, {"pause": {}}]), json!({}));
    strategy["canary"]["canaryMetadata"] = json!({"labels": {"on-trial": "yes"}});
    strategy["canary"]["stableMetadata"] = json!({"labels": {"proven": "yes"}});
    route(&world).await;
    world.create::<Rollout>(rollout("v1", strategy)).await;
    until(&world, "v1", is(RolloutPhase::Healthy)).await;
    release(&world, "v2").await;
    let paused = until(&world, "the pause", is(RolloutPhase::Paused)).await;
    let on_trial = format!("web-{}", paused.current_pod_hash.unwrap());
    world.kill_controllers().await;
    world.start_controllers_with(without_pods_of(&on_trial, &world.client));
    verb(&world, json!({"status": {"promoteFull": true}})).await;
    // The template has them already, the pods have not.
    let half = |set: Option<&ReplicaSet>| {
        let template = set.and_then(|set| set.spec.as_ref()?.template.as_ref());
        json!(template)["metadata"]["labels"]["proven"] == "yes"
    };
    world.until(&on_trial, "half done", half).await;
    world.kill_controllers().await;
    world.start_controllers();
    until(&world, "v2", |s| {
        s.phase == Some(RolloutPhase::Healthy) && s.replicas == Some(5)
    })
    .await;
    let is_proven = |pod: Option<&Pod>| {
        pod.is_none_or(|pod| {
            let has = |label: &str| pod.labels().contains_key(label);
            let leaves = pod.metadata.deletion_timestamp.is_some();
            leaves || (has("proven") && !has("on-trial"))
        })
    };
    for pod in world.list::<Pod>().await {
        world
            .until::<Pod>(&pod.name_any(), "proven", is_proven)
            .await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_rollout_lets_its_services_go() {
    for while_away in [false, true] {
        let mut world = World::start();
        route(&world).await;
        world
            .create::<Rollout>(rollout("v1", with_steps(json!([]), json!({}))))
            .await;
        until(&world, "v1", is(RolloutPhase::Healthy)).await;
        assert!(selected(&world, "stable").await.is_some());
        delete(&mut world, &DeleteParams::default(), while_away).await;
        for name in ["stable", "canary"] {
            let free = |service: Option<&Service>| {
                let selector = service.and_then(|s| s.spec.as_ref()?.selector.as_ref());
                selector.is_some_and(|s| {
                    !s.contains_key(label::ROLLOUT_POD_TEMPLATE_HASH) && s["app"] == "web"
                })
            };
            world.until::<Service>(name, "without a hash", free).await;
        }
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_deleted_leaves_nothing_in_a_route() {
    for while_away in [false, true] {
        let mut world = World::start();
        route(&world).await;
        let before: HTTPRoute = world.get("web").await;
        release_to_testers(&world, json!({"setWeight": 20})).await;
        let split: HTTPRoute = world.get("web").await;
        assert_eq!(split.spec.rules.len(), before.spec.rules.len() + 1);
        delete(&mut world, &DeleteParams::default(), while_away).await;
        let clean = |route: Option<&HTTPRoute>| {
            route.is_some_and(|r| {
                let names = r.spec.rules.iter().filter_map(|rule| rule.name.as_ref());
                r.annotations().is_empty() && !names.into_iter().any(|name| name == "testers")
            })
        };
        world.until("web", "clean", clean).await;
        assert_eq!(weights(&world).await, [100, 0]);
        world.stop().await;
    }
}
