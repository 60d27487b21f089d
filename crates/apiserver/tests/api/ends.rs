//! How objects end: grace, finalizers, owners, namespaces.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::{client, config_map, eventually, of, pod, refused};

#[tokio::test]
async fn pods_end_gracefully() {
    let client = client();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.create(&PostParams::default(), &pod("a"))
        .await
        .unwrap();
    let gone = pods.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(gone.is_left(), "the last state of a pod that ran nowhere");
    assert_eq!(refused(pods.get("a").await).0, 404);

    pods.create(&PostParams::default(), &pod("b"))
        .await
        .unwrap();
    bind(&client, "b").await;
    let bound = pods.get("b").await.unwrap();
    assert_eq!(
        bound.spec.as_ref().unwrap().node_name.as_deref(),
        Some("local")
    );
    pods.delete("b", &DeleteParams::default().grace_period(7))
        .await
        .unwrap();
    let ending = pods.get("b").await.unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(7));
    // Writes to it do not end it.
    let patch = json!({"status": {"phase": "Running"}});
    pods.patch_status("b", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    pods.delete("b", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(refused(pods.get("b").await).0, 404);
}

async fn bind(client: &Client, pod: &str) {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": "local"}});
    let request = ::http::Request::post(format!("/api/v1/namespaces/default/pods/{pod}/binding"))
        .body(serde_json::to_vec(&binding).unwrap());
    client.request::<Value>(request.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_tells_of_a_pod_at_once_and_the_binding_do_not_move_conditions() {
    let client = client();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for (name, told) in [
        (
            "early",
            json!([{"type": "PodScheduled", "status": "False"}, {"type": "Ready", "status": "False"}]),
        ),
        ("late", json!([{"type": "Ready", "status": "False"}])),
    ] {
        pods.create(&PostParams::default(), &pod(name))
            .await
            .unwrap();
        let patch = json!({"status": {"conditions": told}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
        bind(&client, name).await;
        let conditions = pods.get(name).await.unwrap().status.unwrap().conditions;
        let conditions = conditions.into_iter().flatten();
        let told: Vec<_> = conditions.map(|c| (c.type_, c.status)).collect();
        let want = [("PodScheduled", "True"), ("Ready", "False")];
        assert_eq!(
            told,
            want.map(|(t, s)| (t.to_owned(), s.to_owned())),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_last_finalizer_holds_an_object() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let mut map = config_map("a", "1");
    map.finalizers_mut().push("serin.dev/test".into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(
        maps.delete("a", &DeleteParams::default())
            .await
            .unwrap()
            .is_left()
    );
    let held = maps.get("a").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["serin.dev/test", "serin.dev/late"]}});
    assert_eq!(
        refused(
            maps.patch("a", &PatchParams::default(), &Patch::Merge(&more))
                .await
        )
        .0,
        422
    );
    let operations: json_patch::Patch = of(json!([
        {"op": "test", "path": "/metadata/finalizers/0", "value": "serin.dev/test"}, {"op": "remove", "path": "/metadata/finalizers/0"}]));
    maps.patch("a", &PatchParams::default(), &Patch::Json::<()>(operations))
        .await
        .unwrap();
    assert_eq!(refused(maps.get("a").await).0, 404);
}

async fn owned(maps: &Api<ConfigMap>, name: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let mut map = config_map(name, "x");
    map.metadata.owner_references = Some(owners.iter().map(|o| {
        of(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o.name_any(), "uid": o.uid(), "blockOwnerDeletion": true}))
    }).collect());
    maps.create(&PostParams::default(), &map).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_has_lost_all_its_owners_goes() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let a = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let b = maps
        .create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    let child = owned(&maps, "child", &[&a]).await;
    owned(&maps, "grandchild", &[&child]).await;
    owned(&maps, "both", &[&a, &b]).await;
    maps.delete("a", &DeleteParams::background()).await.unwrap();
    eventually("the end of what is owned", || async {
        maps.get_opt("child").await.unwrap().is_none()
            && maps.get_opt("grandchild").await.unwrap().is_none()
    })
    .await;
    eventually("one owner alone", || async {
        maps.get("both").await.unwrap().owner_references().len() == 1
    })
    .await;
    // One that comes too late for its owner goes as well.
    owned(&maps, "late", &[&a]).await;
    eventually("the end of the late one", || async {
        maps.get_opt("late").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn foreground_and_orphan() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client());
    let a = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let held = owned(&maps, "held", &[&a]).await;
    let hold = json!({"metadata": {"finalizers": ["serin.dev/test"]}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&hold))
        .await
        .unwrap();
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    eventually("the deletion of what is held", || async {
        maps.get("held")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    })
    .await;
    assert_eq!(
        maps.get("a").await.unwrap().finalizers(),
        ["foregroundDeletion"]
    );
    let release = json!({"metadata": {"finalizers": null}});
    maps.patch(
        &held.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&release),
    )
    .await
    .unwrap();
    eventually("the end of a", || async {
        maps.get_opt("a").await.unwrap().is_none()
    })
    .await;

    let b = maps
        .create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    owned(&maps, "kept", &[&b]).await;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    maps.delete("b", &orphan).await.unwrap();
    eventually("the end of b", || async {
        maps.get_opt("b").await.unwrap().is_none()
    })
    .await;
    assert!(
        maps.get("kept")
            .await
            .unwrap()
            .owner_references()
            .is_empty()
    );
}

/// What a namespace says that waits for one ConfigMap with a finalizer.
const HELD: [&str; 5] = [
    "NamespaceDeletionDiscoveryFailure=False: All resources successfully discovered",
    "NamespaceDeletionGroupVersionParsingFailure=False: All legacy kube types successfully parsed",
    "NamespaceDeletionContentFailure=False: All content successfully deleted, may be waiting on finalization",
    "NamespaceContentRemaining=True: Some resources are remaining: configmaps. has 1 resource instances",
    "NamespaceFinalizersRemaining=True: Some content in the namespace has finalizers remaining: serin.dev/test in 1 resource instances",
];

async fn conditions(namespaces: &Api<Namespace>, name: &str) -> Vec<String> {
    let status = namespaces.get(name).await.unwrap().status.unwrap();
    let conditions = status.conditions.unwrap_or_default();
    let told = conditions.iter().map(|c| {
        let message = c.message.as_deref().unwrap_or_default();
        format!("{}={}: {message}", c.type_, c.status)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_its_content_with_it() {
    let client = client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let space: Namespace =
        of(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    namespaces
        .create(&PostParams::default(), &space)
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
    let mut map = config_map("a", "1");
    map.finalizers_mut().push("serin.dev/test".into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    maps.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    // A manifest that says nothing of what holds the namespace does not let it go.
    let mut bare = namespaces.get("team").await.unwrap();
    bare.spec = None;
    namespaces
        .replace("team", &PostParams::default(), &bare)
        .await
        .unwrap();
    namespaces
        .delete("team", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        namespaces
            .get("team")
            .await
            .unwrap()
            .status
            .unwrap()
            .phase
            .as_deref(),
        Some("Terminating")
    );
    eventually("the end of b", || async {
        maps.get_opt("b").await.unwrap().is_none()
    })
    .await;
    eventually("the conditions of the namespace", || async {
        conditions(&namespaces, "team").await == HELD
    })
    .await;
    assert_eq!(
        refused(
            maps.create(&PostParams::default(), &config_map("c", "1"))
                .await
        )
        .0,
        403
    );
    let release = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&release))
        .await
        .unwrap();
    eventually("the end of the namespace", || async {
        namespaces.get_opt("team").await.unwrap().is_none()
    })
    .await;
    let (code, _, message) = refused(namespaces.delete("default", &DeleteParams::default()).await);
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}
