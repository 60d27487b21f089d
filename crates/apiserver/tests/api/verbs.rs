//! The verbs, as a client of this process sees them.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Error, ResourceExt};
use serde_json::json;

use crate::support::{client, config_map, deployment, of, refused};
use crate::waiting::soon;

#[tokio::test]
async fn create_get_replace_delete() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some());
    assert_eq!(made.metadata.generation, None, "as in a cluster");
    assert_eq!(maps.get("a").await.unwrap(), made);
    let (code, reason, message) = refused(
        maps.create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(message, "configmaps \"a\" already exists");

    let mut next = made.clone();
    next.data.as_mut().unwrap().insert("key".into(), "2".into());
    let replaced = maps
        .replace("a", &PostParams::default(), &next)
        .await
        .unwrap();
    assert_ne!(replaced.resource_version(), made.resource_version());
    assert_eq!(replaced.metadata.generation, None);
    let (code, reason, message) = refused(maps.replace("a", &PostParams::default(), &made).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(
        message.starts_with(
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified"
        ),
        "{message}"
    );
    let same = maps
        .replace("a", &PostParams::default(), &replaced)
        .await
        .unwrap();
    assert_eq!(same.resource_version(), replaced.resource_version());

    let other = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("other".into()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(refused(maps.delete("a", &other).await).0, 409);
    assert!(
        maps.delete("a", &DeleteParams::default())
            .await
            .unwrap()
            .is_right()
    );
    let (code, reason, message) = refused(maps.get("a").await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (404, "NotFound", "configmaps \"a\" not found")
    );
}

#[tokio::test]
async fn generated_names_dry_runs_and_missing_namespaces() {
    let client = client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut unnamed = config_map("", "1");
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("conf-".into());
    let made = maps.create(&PostParams::default(), &unnamed).await.unwrap();
    assert!(made.name_any().starts_with("conf-") && made.name_any().len() == 10);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config_map("dry", "1")).await.unwrap();
    assert_eq!(refused(maps.get("dry").await).0, 404);
    let nowhere: Api<ConfigMap> = Api::namespaced(client, "nowhere");
    let (code, _, message) = refused(
        nowhere
            .create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!(
        (code, message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let deployments: Api<Deployment> = Api::default_namespaced(client());
    let made = deployments
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let patch =
        json!({"status": {"replicas": 2, "observedGeneration": 1}, "spec": {"replicas": 9}});
    let status = deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(status.spec.as_ref().unwrap().replicas, Some(2));
    assert_eq!(status.status.as_ref().unwrap().replicas, Some(2));
    assert_eq!(status.metadata.generation, Some(1));
    let patch = json!({"status": {"replicas": 7}, "spec": {"replicas": 3}});
    let main = deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(main.spec.as_ref().unwrap().replicas, Some(3));
    assert_eq!(main.status.as_ref().unwrap().replicas, Some(2));
    assert_eq!(main.metadata.generation, Some(2));
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(&labels))
        .await
        .unwrap();
    assert_eq!(labelled.metadata.generation, Some(2));
    assert_ne!(labelled.resource_version(), made.resource_version());
    let again = deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(&labels))
        .await
        .unwrap();
    assert_eq!(again.resource_version(), labelled.resource_version());
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let deployments: Api<Deployment> = Api::default_namespaced(client());
    let mut applied = serde_json::to_value(deployment("web")).unwrap();
    applied["apiVersion"] = json!("apps/v1");
    applied["kind"] = json!("Deployment");
    let serin = PatchParams::apply("serin");
    let made = deployments
        .patch("web", &serin, &Patch::Apply(&applied))
        .await
        .unwrap();
    let again = deployments
        .patch("web", &serin, &Patch::Apply(&applied))
        .await
        .unwrap();
    assert_eq!(again.resource_version(), made.resource_version());
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}, {"name": "side", "image": "s:1"}]}}}});
    let set = deployments
        .patch("web", &PatchParams::default(), &Patch::Strategic(&image))
        .await
        .unwrap();
    let images: Vec<_> = set
        .spec
        .unwrap()
        .template
        .spec
        .unwrap()
        .containers
        .into_iter()
        .map(|c| c.image.unwrap())
        .collect();
    assert_eq!(images, ["web:2", "s:1"]);
    let operations: json_patch::Patch =
        of(json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]));
    let patched = deployments
        .patch(
            "web",
            &PatchParams::default(),
            &Patch::Json::<()>(operations),
        )
        .await
        .unwrap();
    assert_eq!(patched.spec.unwrap().replicas, Some(5));
    let operations: json_patch::Patch =
        of(json!([{"op": "test", "path": "/spec/replicas", "value": 6}]));
    assert_eq!(
        refused(
            deployments
                .patch(
                    "web",
                    &PatchParams::default(),
                    &Patch::Json::<()>(operations)
                )
                .await
        )
        .0,
        422
    );
}

#[tokio::test]
async fn appliers_own_their_fields() {
    let deployments: Api<Deployment> = Api::default_namespaced(client());
    let mut applied = serde_json::to_value(deployment("web")).unwrap();
    applied["apiVersion"] = json!("apps/v1");
    applied["kind"] = json!("Deployment");
    let serin = PatchParams::apply("serin");
    deployments
        .patch("web", &serin, &Patch::Apply(&applied))
        .await
        .unwrap();
    let patch = json!({"spec": {"replicas": 5}});
    deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    applied["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    let other = PatchParams::apply("other");
    let (_, _, message) = refused(
        deployments
            .patch("web", &other, &Patch::Apply(&applied))
            .await,
    );
    assert!(
        message.starts_with(
            "Apply failed with 1 conflict: conflict with \"unknown\" using apps/v1 at "
        ),
        "{message}"
    );
    let other = other.force();
    let changed = deployments
        .patch("web", &other, &Patch::Apply(&applied))
        .await
        .unwrap();
    assert_eq!(
        changed.spec.unwrap().replicas,
        Some(2),
        "a patch had taken the fields from their applier"
    );
    applied["spec"]["replicas"] = json!(4);
    let (code, reason, message) = refused(
        deployments
            .patch("web", &serin, &Patch::Apply(&applied))
            .await,
    );
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"other\": .spec.replicas"
    );
    deployments
        .patch("web", &serin.force(), &Patch::Apply(&applied))
        .await
        .unwrap();
}

#[tokio::test]
async fn lists_in_pages_and_by_selectors() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    for i in 0..5 {
        let mut map = config_map(&format!("m{i}"), "x");
        map.labels_mut()
            .insert("even".into(), (i % 2 == 0).to_string());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let even = maps
        .list(&ListParams::default().labels("even=true"))
        .await
        .unwrap();
    assert_eq!(even.items.len(), 3);
    let one = maps
        .list(&ListParams::default().fields("metadata.name=m1"))
        .await
        .unwrap();
    assert_eq!(one.items.len(), 1);
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (2, Some(3))
    );
    let token = first.metadata.continue_.unwrap();
    maps.create(&PostParams::default(), &config_map("m9", "late"))
        .await
        .unwrap();
    let second = maps
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(second.items.len(), 3, "made after the first page");
    assert_eq!(
        second.metadata.resource_version,
        first.metadata.resource_version
    );
    assert_eq!(
        refused(maps.list(&ListParams::default().labels("a in (")).await).0,
        400
    );
    assert_eq!(
        refused(maps.list(&ListParams::default().continue_token("x")).await).0,
        400
    );
    assert_eq!(
        refused(maps.list(&ListParams::default().at("999999")).await).0,
        504
    );
    let all = maps
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().labels("even"),
        )
        .await
        .unwrap();
    assert_eq!(all.left().unwrap().items.len(), 5);
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
}

fn word<K>(event: &WatchEvent<K>) -> &'static str {
    match event {
        WatchEvent::Added(_) => "ADDED",
        WatchEvent::Modified(_) => "MODIFIED",
        WatchEvent::Deleted(_) => "DELETED",
        WatchEvent::Bookmark(_) => "BOOKMARK",
        WatchEvent::Error(_) => "ERROR",
    }
}

#[tokio::test(start_paused = true)]
async fn watches_tell_when_an_object_enters_and_leaves_the_selector() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let mut map = config_map("a", "1");
    map.labels_mut().insert("on".into(), "no".into());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let params = WatchParams::default().labels("on=yes").timeout(5);
    let events = maps
        .watch(&params, &made.resource_version().unwrap())
        .await
        .unwrap();
    for on in ["yes", "no", "yes"] {
        let patch = json!({"metadata": {"labels": {"on": on}}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    let patch = json!({"data": {"key": "2"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let words = events.map_ok(|e| word(&e)).try_collect();
    let words: Vec<_> = soon("the end of the watch", words).await.unwrap();
    assert_eq!(
        words,
        [
            "ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED", "BOOKMARK"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_names_the_version_of_now_also_when_only_other_kinds_have_changed() {
    let client = client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let params = WatchParams::default().timeout(5);
    let events = secrets.watch(&params, "0").await.unwrap();
    let map = config_map("a", "1");
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let events = soon("the end of the watch", events.try_collect());
    let events: Vec<_> = events.await.unwrap();
    let [WatchEvent::Bookmark(bookmark)] = events.as_slice() else {
        panic!("{events:?}");
    };
    let version = bookmark.metadata.resource_version.clone();
    assert_eq!(Some(version), made.resource_version());
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_version_that_is_not_known_is_told_to_list_again() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let events = maps.watch(&WatchParams::default(), "999999").await.unwrap();
    let events = soon("the end of the watch", events.try_collect());
    let events: Vec<_> = events.await.unwrap();
    let [WatchEvent::Error(status)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn both_kinds_of_watchers_follow() {
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let maps: Api<ConfigMap> = Api::default_namespaced(client());
        maps.create(&PostParams::default(), &config_map("a", "1"))
            .await
            .unwrap();
        let mut events = std::pin::pin!(watcher(maps.clone(), config).default_backoff());
        let mut told = Vec::new();
        while told.len() < 3 {
            let event = soon("the list", events.next()).await;
            told.push(match event.unwrap().unwrap() {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(o) => format!("present {}", o.name_any()),
                watcher::Event::InitDone => "done".to_owned(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(told, ["init", "present a", "done"]);
        maps.create(&PostParams::default(), &config_map("b", "1"))
            .await
            .unwrap();
        assert!(
            matches!(soon("b", events.next()).await, Some(Ok(watcher::Event::Apply(o))) if o.name_any() == "b")
        );
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(
            matches!(soon("the end of a", events.next()).await, Some(Ok(watcher::Event::Delete(o))) if o.name_any() == "a")
        );
    }
}

#[tokio::test]
async fn scale_is_a_part_of_its_own() {
    let deployments: Api<Deployment> = Api::default_namespaced(client());
    deployments
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=web"));
    let patch = json!({"spec": {"replicas": 4}});
    deployments
        .patch_scale("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let scaled = deployments.get("web").await.unwrap();
    assert_eq!(
        (scaled.spec.unwrap().replicas, scaled.metadata.generation),
        (Some(4), Some(2))
    );
    let patch = json!({"spec": {"replicas": -1}});
    assert_eq!(
        refused(
            deployments
                .patch_scale("web", &PatchParams::default(), &Patch::Merge(&patch))
                .await
        )
        .0,
        422
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_on_an_old_version_wins_only_once() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    maps.create(&PostParams::default(), &config_map("count", "0"))
        .await
        .unwrap();
    let bump = |maps: Api<ConfigMap>| async move {
        loop {
            let mut map = maps.get("count").await.unwrap();
            let value = map.data.as_mut().unwrap().get_mut("key").unwrap();
            *value = (value.parse::<u32>().unwrap() + 1).to_string();
            match maps.replace("count", &PostParams::default(), &map).await {
                Ok(_) => return,
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    futures::future::join_all((0..20).map(|_| bump(maps.clone()))).await;
    assert_eq!(maps.get("count").await.unwrap().data.unwrap()["key"], "20");
}
