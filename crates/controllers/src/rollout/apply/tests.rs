//! Every kind of action over the embedded API: it may be done twice, and whoever is killed before or after it and starts again comes
//! to the same end.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serin_api::gateway_api::HTTPRoute;
use serin_api::istio::DestinationRule;
use serin_api::release::{ConfigurationKind, Webhook};
use serin_api::rollout::{ManagedAction, ManagedRule, PodMetadata, Route, TextMatch};
use serin_api::units::Weight;
use serin_apiserver::{ApiServer, Store};
use serin_engine::rollout::configuration::{CopyOf, Reference};
use serin_engine::rollout::{Governed, Question};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::super::configuration::{Content, digest_for};
use super::*;
use crate::clock::Clock;
use crate::shell::{Hub, Kind};
use crate::waiting::soon;
use crate::{Config, Shared, rollouts_of};

/// The name of the kind of an action, and all of these names. A kind that is not in the list does not compile, and one that is
/// has to have an example below.
macro_rules! kinds {
    ($($kind:ident)*) => {
        const KINDS: &[&str] = &[$(stringify!($kind)),*];

        fn kind(action: &Action) -> &'static str {
            match action {
                $(Action::$kind { .. } => stringify!($kind),)*
            }
        }
    };
}

kinds! {
    Create CopyConfiguration DeleteConfiguration Renumber SetMetadata SetMinReady ScaleWorkload Scale KeepUntil Select SelectSubset
    Split StartRun StopRun StartExperiment StopExperiment Restart Ask EndEmergency Remember DeleteRevision DeleteRun
    ReleaseExperiment DeleteExperiment
}

#[tokio::test(start_paused = true)]
async fn every_action_may_be_done_again_whoever_is_killed_around_it() {
    let mut seen = BTreeSet::new();
    for index in 0.. {
        let world = World::new().await;
        let Some(action) = world.examples().await.into_iter().nth(index) else {
            break;
        };
        seen.insert(kind(&action));
        check(&world, &action).await;
    }
    assert_eq!(seen, KINDS.iter().copied().collect());
}

async fn check(world: &World, action: &Action) {
    let before = world.snapshot().await;
    // One that was killed before it has left everything as it was.
    let first = world.controller().await;
    first.apply(action).await;
    let once = world.snapshot().await;
    // A question is a task of its own, which writes when there is an answer.
    let writes = !matches!(action, Action::Ask(_));
    assert_eq!(before != once, writes, "{action}");
    first.apply(action).await;
    assert_eq!(once, world.snapshot().await, "twice: {action}");
    // Killed after it, before anybody has written that it is done.
    drop(first);
    let second = world.controller().await;
    second.apply(action).await;
    assert_eq!(once, world.snapshot().await, "after a new start: {action}");
}

/// The objects of a Rollout in the middle of a release.
struct World {
    client: Client,
}

/// The controller, with caches of its own.
struct Controller {
    rollouts: Rollouts,
    /// The caches end with it.
    _hub: Hub,
}

fn revision(name: &str) -> RevisionHash {
    RevisionHash::new(name)
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl World {
    async fn new() -> Self {
        let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
        let world = Self { client };
        let labels = json!({"app": "web"});
        let pods = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "web:1"}]}});
        let gateway_api = json!({"argoproj-labs/gatewayAPI": {"httpRoute": "web"}});
        world.create::<Rollout>(json!({
            "metadata": {"name": "web", "annotations": {annotation::EMERGENCY: "a"}},
            "spec": {"replicas": 4, "selector": {"matchLabels": labels}, "template": pods, "strategy": {"canary": {
                "stableService": "stable", "canaryService": "canary",
                "trafficRouting": {"managedRoutes": [{"name": "testers"}], "plugins": gateway_api},
            }}},
        }))
        .await;
        for name in ["stable", "canary", "extra"] {
            let spec = json!({"selector": labels, "ports": [{"port": 80}]});
            world
                .create::<Service>(json!({"metadata": {"name": name}, "spec": spec}))
                .await;
        }
        let backends = json!([{"name": "stable", "port": 80, "weight": 100}, {"name": "canary", "port": 80, "weight": 0}]);
        let rules = json!({"rules": [{"backendRefs": backends}]});
        world
            .create::<HTTPRoute>(json!({"metadata": {"name": "web"}, "spec": rules}))
            .await;
        let subsets = json!([{"name": "stable", "labels": labels}, {"name": "canary"}]);
        let rule = json!({"host": "web", "subsets": subsets});
        world
            .create::<DestinationRule>(json!({"metadata": {"name": "web"}, "spec": rule}))
            .await;
        let old = json!({"replicas": 4, "selector": {"matchLabels": labels}, "template": pods});
        world
            .create::<Deployment>(json!({"metadata": {"name": "old"}, "spec": old}))
            .await;
        let settings = json!({"metadata": {"name": "settings"}, "data": {"greeting": "hello"}});
        world.create::<ConfigMap>(settings).await;
        world.begin_release().await;
        world
    }

    /// What the controller has made by now.
    async fn begin_release(&self) {
        let controller = self.controller().await;
        for (number, name) in [(1, "a"), (2, "b")] {
            controller.apply(&made(name, number)).await;
        }
        for action in [self.copied("kept").await, run("run"), experiment("trial")] {
            controller.apply(&action).await;
        }
        let set: ReplicaSet = self.api().get("web-a").await.unwrap();
        let owner = set.controller_owner_ref(&());
        let pods = json!({"containers": [{"name": "a", "image": "web:1"}]});
        self.create::<Pod>(json!({
            "metadata": {"name": "web-a-1", "labels": set.labels(), "ownerReferences": [owner]}, "spec": pods,
        }))
        .await;
    }

    async fn examples(&self) -> Vec<Action> {
        let mut all = of_revisions();
        all.extend(of_routes());
        all.extend(of_trials());
        let pod: Pod = self.api().get("web-a-1").await.unwrap();
        let kept = Reference {
            kind: ConfigurationKind::ConfigMap,
            name: "kept".into(),
        };
        let webhook = Webhook {
            url: "http://127.0.0.1:1/".into(),
            deadline: SignedDuration::from_secs(1),
            interval: SignedDuration::from_secs(1),
            signing_key: None,
        };
        all.extend([
            self.copied("copy").await,
            Action::DeleteConfiguration(kept),
            Action::ScaleWorkload { to: 2 },
            Action::Restart {
                pod: "web-a-1".into(),
                uid: pod.uid().unwrap(),
            },
            Action::Ask(Question {
                gate: "board".into(),
                revision: revision("a"),
                stable: None,
                step: None,
                webhook,
            }),
            Action::EndEmergency,
        ]);
        all
    }

    async fn copied(&self, name: &str) -> Action {
        let source: ConfigMap = self.api().get("settings").await.unwrap();
        let rollout: Rollout = self.api().get("web").await.unwrap();
        Action::CopyConfiguration(CopyOf {
            source: Reference {
                kind: ConfigurationKind::ConfigMap,
                name: "settings".into(),
            },
            digest: digest_for(&rollout, &source.digest().unwrap()),
            name: name.into(),
        })
    }

    async fn controller(&self) -> Controller {
        let shutdown = CancellationToken::new();
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let namespace = Some("default".into());
        let mut hub = Hub::new(self.client.clone(), clock, namespace, 1, shutdown);
        let config = Config::default();
        let shared = Shared::watch(&mut hub, &config);
        let rollouts = rollouts_of(&mut hub, &config, &shared);
        for listed in [
            rollouts.rollouts.listed(),
            rollouts.replica_sets.listed(),
            rollouts.pods.listed(),
            rollouts.services.listed(),
            rollouts.deployments.listed(),
            rollouts.routes.listed(),
            rollouts.destination_rules.listed(),
            rollouts.runs.listed(),
            rollouts.experiments.listed(),
            rollouts.config_maps.listed(),
            rollouts.secrets.listed(),
        ] {
            soon("a list", listed.cancelled()).await;
        }
        Controller {
            rollouts,
            _hub: hub,
        }
    }

    fn api<K: Kind>(&self) -> Api<K> {
        Api::default_namespaced(self.client.clone())
    }

    async fn create<K: Kind + Serialize>(&self, object: Value) {
        let object = of(object);
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    /// All objects, but for what each write changes.
    async fn snapshot(&self) -> Vec<Value> {
        let mut all = Vec::new();
        self.list::<Rollout>(&mut all).await;
        self.list::<ReplicaSet>(&mut all).await;
        self.list::<Pod>(&mut all).await;
        self.list::<Service>(&mut all).await;
        self.list::<Deployment>(&mut all).await;
        self.list::<HTTPRoute>(&mut all).await;
        self.list::<DestinationRule>(&mut all).await;
        self.list::<AnalysisRun>(&mut all).await;
        self.list::<Experiment>(&mut all).await;
        self.list::<ConfigMap>(&mut all).await;
        all
    }

    async fn list<K: Kind + Serialize>(&self, into: &mut Vec<Value>) {
        let found = self.api::<K>().list(&ListParams::default()).await.unwrap();
        for mut object in found.items {
            let meta = object.meta_mut();
            (meta.resource_version, meta.managed_fields) = (None, None);
            into.push(serde_json::to_value(object).unwrap());
        }
    }
}

impl Controller {
    /// Does it as a pass would: not before its own last writes are seen.
    async fn apply(&self, action: &Action) {
        let api: Api<Rollout> = Api::default_namespaced(self.rollouts.client.clone());
        let mut rollout = api.get("web").await.unwrap();
        let owner = uid(&rollout);
        soon("the own writes", async {
            while !self.rollouts.sees_own_writes(&owner) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let observing = self.rollouts.observe(&rollout, None, Governed::default());
        let observed = observing.await.unwrap();
        rollout.spec.workload_ref =
            of(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "old"}));
        let done = self.rollouts.apply(&rollout, &observed, action).await;
        done.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

fn of_revisions() -> Vec<Action> {
    let a = || revision("a");
    let at = Timestamp::UNIX_EPOCH;
    let metadata = PodMetadata {
        labels: [("role".to_owned(), "canary".to_owned())].into(),
        ..PodMetadata::default()
    };
    vec![
        made("c", 3),
        Action::Renumber {
            revision: a(),
            number: 3,
        },
        Action::SetMetadata {
            revision: a(),
            metadata,
        },
        Action::SetMinReady {
            revision: a(),
            seconds: 5,
        },
        Action::Scale {
            revision: a(),
            to: 3,
        },
        Action::KeepUntil {
            revision: a(),
            until: Some(at),
        },
        Action::Remember {
            revision: a(),
            event: Event::Promoted { at },
        },
        Action::DeleteRevision {
            revision: revision("b"),
        },
    ]
}

fn of_routes() -> Vec<Action> {
    let exact = TextMatch::Exact("1".into());
    let testers = ManagedRule {
        name: "testers".into(),
        action: ManagedAction::Header(vec![("x-tester".into(), exact)]),
    };
    vec![
        Action::Select {
            service: "stable".into(),
            revision: revision("a"),
        },
        Action::SelectSubset {
            rule: "web".into(),
            subset: "stable".into(),
            revision: revision("a"),
        },
        Action::Split {
            route: Route::HttpRoute("web".into()),
            canary: Weight::new(20).unwrap(),
            additional: vec![("extra".into(), Weight::new(10).unwrap())],
            managed: vec![testers],
        },
    ]
}

fn of_trials() -> Vec<Action> {
    let name = |name: &str| name.to_owned();
    vec![
        run("another-run"),
        Action::StopRun { name: name("run") },
        Action::DeleteRun { name: name("run") },
        experiment("another-trial"),
        Action::StopExperiment {
            name: name("trial"),
        },
        Action::ReleaseExperiment {
            name: name("trial"),
        },
        Action::DeleteExperiment {
            name: name("trial"),
        },
    ]
}

fn made(name: &str, number: u64) -> Action {
    Action::Create {
        revision: revision(name),
        number,
        apart_from: None,
    }
}

fn run(name: &str) -> Action {
    let provider = json!({"serin": {"metric": "error-ratio"}});
    Action::StartRun {
        name: name.into(),
        role: Role::Step(0),
        revision: revision("a"),
        spec: of(json!({"metrics": [{"name": "errors", "provider": provider}]})),
    }
}

fn experiment(name: &str) -> Action {
    let labels = json!({"app": "trial"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "web:1"}]}});
    let version = json!({"name": "a", "selector": {"matchLabels": labels}, "template": template});
    Action::StartExperiment {
        name: name.into(),
        revision: revision("a"),
        in_routes: true,
        spec: of(json!({"templates": [version]})),
    }
}

#[test]
fn a_replica_set_selects_its_own_pods_only() {
    let spec = json!({
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
    });
    let rollout = Rollout::new("web", serde_json::from_value(spec).unwrap());
    let set = replica_set(&rollout, &RevisionHash::new("abc"), 3, None);
    let spec = set.spec.as_ref().unwrap();
    let selected = spec.selector.match_labels.as_ref().unwrap();
    assert_eq!(
        selected
            .get(label::ROLLOUT_POD_TEMPLATE_HASH)
            .map(String::as_str),
        Some("abc")
    );
    let labels = spec
        .template
        .as_ref()
        .unwrap()
        .metadata
        .as_ref()
        .unwrap()
        .labels
        .as_ref()
        .unwrap();
    assert!(selected.iter().all(|(k, v)| labels.get(k) == Some(v)));
    assert_eq!(
        (set.name_any().as_str(), spec.replicas),
        ("web-abc", Some(0))
    );
}
