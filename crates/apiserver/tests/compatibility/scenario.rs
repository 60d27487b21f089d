//! What is done, step by step, and what is seen. Nothing that differs from run to run is told: no uid, version or time.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::runtime::{WatchStreamExt, predicates};
use kube::{Api, Client, CustomResourceExt, Error, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::waiting::soon;
use crate::widget::{self, Widget, WidgetSpec};

/// What is told of a step that the server has switched off.
pub(crate) const SKIPPED: &str = "skipped";
/// Where it all happens.
pub(crate) const NAMESPACE: &str = "serin-compatibility";

/// Runs everything in a namespace of its own, and takes it away again.
pub(crate) async fn run(client: Client) -> Vec<String> {
    let mut seen = Seen(Vec::new());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    clean_up(&namespaces, &definitions).await;
    let namespace = of(json!({"metadata": {"name": NAMESPACE}}));
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    words(&mut seen, &client).await;
    changes(&mut seen, &client).await;
    lists(&mut seen, &client).await;
    watches(&mut seen, &client).await;
    streams(&mut seen, &client).await;
    applies(&mut seen, &client).await;
    leases(&mut seen, &client).await;
    definition(&mut seen, &definitions).await;
    controller(&mut seen, &client).await;
    clean_up(&namespaces, &definitions).await;
    seen.0
}

async fn clean_up(namespaces: &Api<Namespace>, definitions: &Api<CustomResourceDefinition>) {
    let _gone = definitions
        .delete(&Widget::crd().name_any(), &DeleteParams::default())
        .await;
    let _gone = namespaces.delete(NAMESPACE, &DeleteParams::default()).await;
    soon("an empty place", async {
        while namespaces.get_opt(NAMESPACE).await.unwrap().is_some()
            || definitions
                .get_opt(&Widget::crd().name_any())
                .await
                .unwrap()
                .is_some()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

struct Seen(Vec<String>);

impl Seen {
    fn tell(&mut self, step: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{step}: {what}"));
    }

    /// The code and the reason of a refusal, and what it says.
    fn refusal<T: Debug>(&mut self, step: &str, result: Result<T, Error>) {
        match result {
            Err(Error::Api(status)) => {
                let (code, reason) = (status.code, &status.reason);
                self.tell(step, format!("{code} {reason}: {}", status.message));
            }
            other => self.tell(step, format!("no refusal: {other:?}")),
        }
    }
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn map(name: &str, labels: Value) -> ConfigMap {
    of(json!({"metadata": {"name": name, "labels": labels}, "data": {"key": "1"}}))
}

fn names<K: ResourceExt>(items: &[K]) -> String {
    let mut names: Vec<_> = items.iter().map(ResourceExt::name_any).collect();
    names.retain(|name| name != "kube-root-ca.crt");
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(" ")
}

/// Create, get and replace, and how each of them is refused.
async fn words(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let post = PostParams::default();
    seen.refusal("get what is not there", maps.get("a").await);
    let made = maps.create(&post, &map("a", json!({}))).await.unwrap();
    seen.tell(
        "a new object",
        format!("generation {:?}", made.metadata.generation),
    );
    seen.refusal(
        "create it again",
        maps.create(&post, &made_anew(&made)).await,
    );
    let dry = PostParams {
        dry_run: true,
        ..post.clone()
    };
    maps.create(&dry, &map("dry", json!({}))).await.unwrap();
    seen.tell("a dry run", maps.get_opt("dry").await.unwrap().is_some());
    let named = of(json!({"metadata": {"generateName": "made-"}}));
    let named: ConfigMap = maps.create(&post, &named).await.unwrap();
    seen.tell(
        "a made up name",
        format!("{} of {}", &named.name_any()[..5], named.name_any().len()),
    );
    let bad = of(json!({"metadata": {"name": "Not_A_Name"}}));
    // A cluster adds the expression that it checks the name with.
    let bad = maps.create(&post, &bad).await;
    let bad = matches!(bad, Err(Error::Api(s)) if s.code == 422 && s.reason == "Invalid");
    seen.tell("a bad name", bad);
    let mut changed = made.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("key".into(), "2".into());
    maps.replace("a", &post, &changed).await.unwrap();
    seen.refusal(
        "replace a stale one",
        maps.replace("a", &post, &changed).await,
    );
    let same = maps.get("a").await.unwrap();
    let again = maps.replace("a", &post, &same).await.unwrap();
    let unchanged = again.resource_version() == same.resource_version();
    seen.tell("a write that changes nothing keeps the version", unchanged);
    maps.delete(&named.name_any(), &DeleteParams::default())
        .await
        .unwrap();
}

/// Patches and deletes, and how they are refused.
async fn changes(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let test = Patch::Json::<()>(of(
        json!([{"op": "test", "path": "/data/key", "value": "9"}]),
    ));
    let failed = maps.patch("a", &PatchParams::default(), &test).await;
    seen.tell(
        "a JSON patch whose test fails",
        matches!(failed, Err(Error::Api(s)) if s.code == 422),
    );
    let merge = Patch::Merge(json!({"data": {"key": null, "other": "3"}}));
    let merged = maps
        .patch("a", &PatchParams::default(), &merge)
        .await
        .unwrap();
    seen.tell("a merge patch", format!("{:?}", merged.data));
    let other = Preconditions {
        uid: Some("other".into()),
        resource_version: None,
    };
    let deleted = maps
        .delete("a", &DeleteParams::default().preconditions(other))
        .await;
    seen.tell(
        "delete another one of the name",
        matches!(deleted, Err(Error::Api(s)) if s.code == 409),
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    seen.refusal(
        "delete it again",
        maps.delete("a", &DeleteParams::default()).await,
    );
    let strict = json!({"metadata": {"name": "strict"}, "dat": {}}).to_string();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?fieldValidation=Strict");
    let request = http::Request::post(path).header("content-type", "application/json");
    let answer = client
        .request::<Value>(request.body(strict.into_bytes()).unwrap())
        .await;
    seen.tell(
        "an unknown field, strictly",
        matches!(answer, Err(Error::Api(s)) if s.code == 400),
    );
}

fn made_anew(map: &ConfigMap) -> ConfigMap {
    let mut map = map.clone();
    map.metadata.resource_version = None;
    map
}

/// Pages, selectors, metadata alone, deletes of many.
async fn lists(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, tier) in [("l1", "a"), ("l2", "b"), ("l3", "a"), ("l4", "b")] {
        let map = map(name, json!({"set": "lists", "tier": tier}));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let all = ListParams::default().labels("set=lists");
    let first = maps.list(&all.clone().limit(3)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    maps.delete("l4", &DeleteParams::default()).await.unwrap();
    let rest = maps
        .list(&all.clone().limit(3).continue_token(&token))
        .await
        .unwrap();
    seen.tell("the first page", names(&first.items));
    seen.tell(
        "the second page, after one of it was deleted",
        names(&rest.items),
    );
    for labels in [
        "set=lists,tier in (a,c)",
        "set=lists,tier notin (a)",
        "set=lists,!tier",
        "set=lists,tier",
    ] {
        let found = maps
            .list(&ListParams::default().labels(labels))
            .await
            .unwrap();
        seen.tell(labels, names(&found.items));
    }
    let field = ListParams::default().fields("metadata.name=l2");
    seen.tell(
        "metadata.name=l2",
        names(&maps.list(&field).await.unwrap().items),
    );
    let wrong = ListParams::default().fields("data.key=1");
    seen.tell(
        "an unknown field",
        matches!(maps.list(&wrong).await, Err(Error::Api(s)) if s.code == 400),
    );
    let metadata = maps.list_metadata(&all).await.unwrap();
    seen.tell("metadata alone", names(&metadata.items));
    maps.delete_collection(&DeleteParams::default(), &all)
        .await
        .unwrap();
    seen.tell(
        "after all were deleted",
        names(&maps.list(&all).await.unwrap().items),
    );
}

/// What a watcher tells, whichever way it lists.
async fn watches(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for (way, strategy) in [
        ("list and watch", InitialListStrategy::ListWatch),
        ("streaming list", InitialListStrategy::StreamingList),
    ] {
        let there = map("there", json!({"set": "watch"}));
        maps.create(&PostParams::default(), &there).await.unwrap();
        let config = watcher::Config {
            initial_list_strategy: strategy,
            ..watcher::Config::default().labels("set=watch")
        };
        let mut events = watcher::watcher(maps.clone(), config).boxed();
        let mut told = Vec::new();
        loop {
            let event = match soon("an event", events.try_next()).await {
                Err(watcher::Error::WatchStartFailed(Error::Api(status)))
                    if is_switched_off(&status) =>
                {
                    told = vec![format!("{SKIPPED}: {}", status.message)];
                    maps.delete("there", &DeleteParams::default())
                        .await
                        .unwrap();
                    break;
                }
                other => other.unwrap().unwrap(),
            };
            told.push(word(&event));
            match told.len() {
                3 => drop(
                    maps.create(&PostParams::default(), &map("new", json!({"set": "watch"})))
                        .await
                        .unwrap(),
                ),
                4 => drop(
                    maps.patch(
                        "new",
                        &PatchParams::default(),
                        &Patch::Merge(json!({"data": {"key": "2"}})),
                    )
                    .await
                    .unwrap(),
                ),
                // It leaves the selector, and is told as deleted.
                5 => drop(
                    maps.patch(
                        "new",
                        &PatchParams::default(),
                        &Patch::Merge(json!({"metadata": {"labels": null}})),
                    )
                    .await
                    .unwrap(),
                ),
                6 => drop(
                    maps.delete("there", &DeleteParams::default())
                        .await
                        .unwrap(),
                ),
                7 => break,
                _ => {}
            }
        }
        let _gone = maps.delete("new", &DeleteParams::default()).await;
        seen.tell(way, told.join(", "));
    }
}

/// Whether a cluster without the feature `WatchList`, which is off in Kubernetes 1.33 unless asked for, refuses to stream a list.
fn is_switched_off(status: &kube::core::Status) -> bool {
    status.code == 422 && status.message.contains("sendInitialEvents")
}

fn word(event: &Event<ConfigMap>) -> String {
    match event {
        Event::Init => "init".to_owned(),
        Event::InitApply(map) => format!("has {}", map.name_any()),
        Event::InitDone => "done".to_owned(),
        Event::Apply(map) => format!("applied {}", map.name_any()),
        Event::Delete(map) => format!("deleted {}", map.name_any()),
    }
}

/// Watches through the adapters of `WatchStreamExt`.
async fn streams(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let (store, writer) = kube::runtime::reflector::store();
    let config = watcher::Config::default().labels("set=streams");
    let mut objects = watcher::watcher(maps.clone(), config)
        .default_backoff()
        .modify(|map| map.metadata.managed_fields = None)
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::labels, Default::default())
        .boxed();
    maps.create(&PostParams::default(), &map("s", json!({"set": "streams"})))
        .await
        .unwrap();
    let first = soon("the first object", objects.try_next())
        .await
        .unwrap()
        .unwrap();
    for data in ["2", "3"] {
        let change = Patch::Merge(json!({"data": {"key": data}}));
        maps.patch("s", &PatchParams::default(), &change)
            .await
            .unwrap();
    }
    let label = Patch::Merge(json!({"metadata": {"labels": {"step": "4"}}}));
    maps.patch("s", &PatchParams::default(), &label)
        .await
        .unwrap();
    let second = soon("the second object", objects.try_next())
        .await
        .unwrap()
        .unwrap();
    seen.tell(
        "applied objects whose labels changed",
        format!("{:?}, {:?}", first.labels(), second.labels()),
    );
    seen.tell(
        "the reflected store",
        names(
            &store
                .state()
                .iter()
                .map(|m| (**m).clone())
                .collect::<Vec<_>>(),
        ),
    );
    maps.delete("s", &DeleteParams::default()).await.unwrap();
}

/// Server-side apply by two managers.
async fn applies(seen: &mut Seen, client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let config = |data: Value| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data}),
        )
    };
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let both = maps
        .patch("applied", &one, &config(json!({"a": "1", "b": "1"})))
        .await
        .unwrap();
    seen.tell("applied", owners(&both));
    seen.refusal(
        "another value by another",
        maps.patch("applied", &two, &config(json!({"a": "2"})))
            .await,
    );
    let shared = maps
        .patch("applied", &two, &config(json!({"a": "1", "c": "1"})))
        .await
        .unwrap();
    seen.tell("the same value by another", owners(&shared));
    let forced = maps
        .patch("applied", &two.clone().force(), &config(json!({"a": "2"})))
        .await
        .unwrap();
    seen.tell("forced", format!("{:?} {}", forced.data, owners(&forced)));
    let left = maps
        .patch("applied", &one, &config(json!({})))
        .await
        .unwrap();
    seen.tell("left out", format!("{:?} {}", left.data, owners(&left)));
    let merge = PatchParams {
        field_manager: Some("three".into()),
        ..PatchParams::default()
    };
    let taken = maps
        .patch(
            "applied",
            &merge,
            &Patch::Merge(json!({"data": {"a": "3"}})),
        )
        .await
        .unwrap();
    seen.tell("changed by a patch", owners(&taken));
    let nobody = PatchParams::default();
    let apply = maps.patch("applied", &nobody, &config(json!({}))).await;
    seen.tell("an apply by nobody", apply.is_err());
    maps.delete("applied", &DeleteParams::default())
        .await
        .unwrap();
}

/// Who owns what, without versions and times.
fn owners(map: &ConfigMap) -> String {
    let entries = map.metadata.managed_fields.iter().flatten();
    let mut lines: Vec<String> = entries
        .map(|entry| {
            let fields = entry.fields_v1.as_ref().map(|f| f.0.to_string());
            let (manager, operation) = (entry.manager.as_deref(), entry.operation.as_deref());
            format!(
                "{} {} {}",
                manager.unwrap_or_default(),
                operation.unwrap_or_default(),
                fields.unwrap_or_default()
            )
        })
        .collect();
    lines.sort();
    lines.join("; ")
}

/// Two who want to lead.
async fn leases(seen: &mut Seen, client: &Client) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease: Lease = of(
        json!({"metadata": {"name": "lead"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15,
        "renewTime": "2026-01-01T00:00:00.123456Z"}}),
    );
    let held = leases.create(&PostParams::default(), &lease).await.unwrap();
    let renewed = held.spec.as_ref().and_then(|s| s.renew_time.as_ref());
    seen.tell(
        "a lease keeps microseconds",
        renewed.map(|t| t.0.to_string()).unwrap_or_default(),
    );
    let take = |who: &str| {
        let mut lease = held.clone();
        lease.spec.get_or_insert_default().holder_identity = Some(who.into());
        lease
    };
    leases
        .replace("lead", &PostParams::default(), &take("two"))
        .await
        .unwrap();
    seen.refusal(
        "the slower one",
        leases
            .replace("lead", &PostParams::default(), &take("three"))
            .await,
    );
    leases
        .delete("lead", &DeleteParams::default())
        .await
        .unwrap();
}

/// A kind that is installed.
async fn definition(seen: &mut Seen, definitions: &Api<CustomResourceDefinition>) {
    definitions
        .create(&PostParams::default(), &Widget::crd())
        .await
        .unwrap();
    let name = Widget::crd().name_any();
    let established = conditions::is_crd_established();
    let found = soon(
        "the definition",
        await_condition(definitions.clone(), &name, established),
    )
    .await
    .unwrap();
    let status = found.and_then(|d| d.status).unwrap();
    seen.tell("stored versions", format!("{:?}", status.stored_versions));
    let kind = status
        .accepted_names
        .map(|n| format!("{} {:?} {:?}", n.kind, n.list_kind, n.singular));
    seen.tell("accepted names", kind.unwrap_or_default());
}

/// The controller brings what is wanted about, mends it, and lets go in the end.
async fn controller(seen: &mut Seen, client: &Client) {
    let widgets: Api<Widget> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let running = widget::start(client.clone());
    let new = Widget::new(
        "w",
        WidgetSpec {
            size: 3,
            note: None,
        },
    );
    soon("a widget that is taken", async {
        // A definition that is established may still be unknown to a part of a cluster for a moment.
        while widgets.create(&PostParams::default(), &new).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let ready = soon(
        "a ready widget",
        await_condition(widgets.clone(), "w", has(3)),
    )
    .await
    .unwrap()
    .unwrap();
    seen.tell("finalizers", format!("{:?}", ready.finalizers()));
    seen.tell("generation", format!("{:?}", ready.metadata.generation));
    seen.tell(
        "what it made",
        format!("{:?}", maps.get("w").await.unwrap().data),
    );
    maps.delete("w", &DeleteParams::default()).await.unwrap();
    let there = |m: Option<&ConfigMap>| m.is_some_and(|m| m.metadata.deletion_timestamp.is_none());
    soon(
        "what was deleted",
        await_condition(maps.clone(), "w", there),
    )
    .await
    .unwrap();
    seen.tell("what was deleted comes again", true);
    change_widget(seen, &widgets).await;
    let uid = widgets.get("w").await.unwrap().uid().unwrap();
    widgets.delete("w", &DeleteParams::default()).await.unwrap();
    soon(
        "the end of the widget",
        await_condition(widgets.clone(), "w", conditions::is_deleted(&uid)),
    )
    .await
    .unwrap();
    soon("the end of what it owned", async {
        while maps.get_opt("w").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    seen.tell("what it owned went with it", true);
    running.abort();
}

/// Whether the controller has made so many of a Widget.
fn has(size: i32) -> impl Fn(Option<&Widget>) -> bool {
    move |widget| {
        let status = widget.and_then(|widget| widget.status.as_ref());
        status.is_some_and(|status| status.size == size)
    }
}

/// Scales it, and tries what its schema does not allow.
async fn change_widget(seen: &mut Seen, widgets: &Api<Widget>) {
    let patch = PatchParams::default();
    let larger = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scale = widgets.patch_scale("w", &patch, &larger).await.unwrap();
    seen.tell(
        "scaled",
        format!("{:?}", scale.spec.and_then(|s| s.replicas)),
    );
    soon(
        "the scaled widget",
        await_condition(widgets.clone(), "w", has(5)),
    )
    .await
    .unwrap();
    let wrong = Patch::Merge(json!({"spec": {"size": "many"}}));
    let wrong = widgets.patch("w", &patch, &wrong).await;
    seen.refusal("text for a number", wrong);
}
