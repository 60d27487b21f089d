//! The collector: removes what has lost its owner, empties namespaces that end, lets owners go that wait for their
//! dependents, and forgets old events.
//!
//! It looks at keys that changes have made suspect, each anew from the present state; looking twice is harmless.

mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use self::plan::{Remaining, Step, plan};
use crate::access::{self, roles};
use crate::admit::Context;
use crate::meta;
use crate::options::{DeleteOptions, FieldValidation};
use crate::patch::Manager;
use crate::registry::{Registry, definition_of};
use crate::server::{ApiServer, Clock};
use crate::status::Refusal;
use crate::store::{Change, ChangeKind, Key, Record, Shared, WeakStore, prefix};
use crate::target::{Part, Target};
use crate::tree::Tree;
use crate::verbs;

/// As whom the collector writes.
const MANAGER: &str = "serin-collector";
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks at old events.
const TIDY: Duration = Duration::from_secs(600);
/// How long an event is kept after it last happened.
const EVENT_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Collects until the store is closed.
pub(crate) async fn run(store: WeakStore, registry: Registry, clock: Clock) {
    let Some(open) = store.upgrade() else { return };
    let mut committed = open.subscribe("");
    let mut cursor = open.shared().version();
    let mut suspects = everything(open.shared());
    let mut tidy_at = Instant::now();
    drop(open);
    loop {
        let Some(open) = store.upgrade() else { return };
        committed.borrow_and_update();
        match open.shared().changes(cursor, "") {
            Ok((changes, upto)) => {
                cursor = upto;
                changes
                    .iter()
                    .for_each(|c| suspect(open.shared(), c, &mut suspects));
            }
            Err(_) => {
                cursor = open.shared().version();
                suspects.extend(everything(open.shared()));
            }
        }
        let server = ApiServer::new(open).beside(&clock, &registry);
        suspects = look_at_all(&server, suspects).await;
        if Instant::now() >= tidy_at {
            forget_old_events(&server).await;
            tidy_at = Instant::now() + TIDY;
        }
        drop(server);
        let retry_at = Instant::now() + RETRY;
        let wake_at = if suspects.is_empty() {
            tidy_at
        } else {
            retry_at.min(tidy_at)
        };
        tokio::select! {
            changed = committed.changed() => if changed.is_err() { return },
            () = sleep_until(wake_at) => {}
        }
    }
}

/// Every key that may need something: after a start, and after a gap in the changes.
fn everything(shared: &Shared) -> BTreeSet<Key> {
    let records = shared.list("", None).records;
    let suspicious = records.iter().filter(|r| {
        let is_watched = is_namespace(&r.key) || plan::is_cluster_role(&r.key);
        r.facts.deleting || !r.facts.owners.is_empty() || is_watched
    });
    suspicious.map(|r| r.key.clone()).collect()
}

fn is_namespace(key: &Key) -> bool {
    key.group().is_empty() && key.plural() == "namespaces"
}

/// The keys that a change makes suspect.
fn suspect(shared: &Shared, change: &Change, suspects: &mut BTreeSet<Key>) {
    let record = &change.record;
    // Owners that this object has now lost may have waited for just that.
    let before = change.previous.iter().flat_map(|p| p.facts.owners.iter());
    let lost = before
        .filter(|uid| !record.facts.owners.contains(uid) || change.kind == ChangeKind::Deleted);
    suspects.extend(lost.filter_map(|uid| shared.find_uid(uid)));
    if plan::is_cluster_role(&record.key) {
        suspects.extend(plan::aggregated_roles(shared));
    }
    if is_namespace(&record.key) {
        suspects.insert(record.key.clone());
    }
    let namespace = Key::new("", "namespaces", "", record.key.namespace());
    if change.kind == ChangeKind::Deleted {
        suspects.extend(
            shared
                .dependents(&record.facts.uid)
                .iter()
                .map(|r| r.key.clone()),
        );
        suspects.insert(namespace);
        suspects.insert(definition_of(&record.key));
        // Names that a definition had are free for others now.
        let definitions = plan::definitions_beside(shared, &record.key);
        suspects.extend(definitions);
        return;
    }
    if record.facts.deleting || !record.facts.owners.is_empty() {
        suspects.insert(record.key.clone());
    }
    if change.kind == ChangeKind::Added {
        suspects.insert(namespace);
    }
}

/// Looks at each key; those that failed come back.
async fn look_at_all(server: &ApiServer, suspects: BTreeSet<Key>) -> BTreeSet<Key> {
    let mut failed = BTreeSet::new();
    for key in suspects {
        let Some(record) = server.store.get(&key) else {
            continue;
        };
        for step in plan(&server.registry, server.store.shared(), &record) {
            match carry_out(server, &step).await {
                Ok(()) => {}
                // Somebody else was faster; the change that did it makes its key suspect again.
                Err(refusal) if matches!(refusal.reason, "NotFound" | "Conflict") => {}
                Err(refusal) => {
                    tracing::warn!(%key, why = refusal.message, "the collector will try again");
                    failed.insert(key.clone());
                }
            }
        }
    }
    failed
}

async fn carry_out(server: &ApiServer, step: &Step) -> Result<(), Refusal> {
    match step {
        Step::Delete {
            key,
            uid,
            propagation,
        } => {
            let options = DeleteOptions {
                uid: Some(uid.to_string()),
                propagation: *propagation,
                ..DeleteOptions::default()
            };
            let target = Target::of_key(&server.registry, key).ok_or_else(Refusal::no_page)?;
            verbs::delete_object(server, &target, &options)
                .await
                .map(drop)
        }
        Step::DropOwners { key, uids } => {
            let forget = |object: &Value| Ok(without_owners(object, uids));
            change(server, key, Part::Main, forget).await
        }
        Step::DropFinalizer { key, finalizer } => {
            let drop_it = |object: &Value| {
                let mut object = object.clone();
                meta::drop_finalizer(&mut object, finalizer);
                Ok(object)
            };
            change(server, key, Part::Main, drop_it).await
        }
        Step::Settle { key } => {
            let kind = server.registry.stored(key.group(), key.plural());
            let kind = kind.ok_or_else(Refusal::no_page)?;
            let settled = |object: &Value| {
                let mut object = object.clone();
                server.registry.settle(&kind, &mut object, server.now());
                Ok(object)
            };
            change(server, key, Part::Status, settled).await
        }
        Step::MakeAccount { namespace } => make_account(server, namespace).await,
        Step::Aggregate { key } => {
            let roles = cluster_roles(server);
            let made = |object: &Value| {
                let selectors = object.at("/aggregationRule/clusterRoleSelectors");
                let own = meta::text(object, "name");
                let others = roles.iter().filter(|r| meta::text(r, "name") != own);
                let rules = roles::aggregate(others, selectors);
                let mut object = object.clone();
                object.set("rules", json!(rules));
                Ok(object)
            };
            change(server, key, Part::Main, made).await
        }
        Step::TellRemaining { key, remaining } => {
            let tell = |object: &Value| Ok(with_remaining(object, remaining, server.now()));
            change(server, key, Part::Status, tell).await
        }
        Step::EndNamespace { key } => {
            let release = |object: &Value| {
                let mut object = object.clone();
                object.map("spec").remove("finalizers");
                Ok(object)
            };
            change(server, key, Part::Finalize, release).await
        }
    }
}

fn cluster_roles(server: &ApiServer) -> Vec<Value> {
    let all = prefix(access::RBAC, "clusterroles", None);
    let records = server.store.shared().list(&all, None).records;
    records.iter().map(|record| record.value()).collect()
}

async fn make_account(server: &ApiServer, namespace: &str) -> Result<(), Refusal> {
    let kind = server.registry.stored("", "serviceaccounts");
    let target = Target {
        kind: kind.ok_or_else(Refusal::no_page)?,
        namespace: Some(namespace.to_owned()),
        name: None,
        part: Part::Main,
        watch: false,
    };
    let account = json!({"metadata": {"name": "default"}});
    match verbs::create_object(server, &target, context(server, ""), false, account).await {
        Err(refusal) if refusal.reason != "AlreadyExists" => Err(refusal),
        _ => Ok(()),
    }
}

/// As the collector, to a part of an object.
fn context<'a>(server: &ApiServer, subresource: &'a str) -> Context<'a> {
    Context {
        now: server.now(),
        fields: FieldValidation::Ignore,
        manager: Some(Manager {
            name: MANAGER,
            subresource,
        }),
    }
}

async fn change(
    server: &ApiServer,
    key: &Key,
    part: Part,
    change: impl Fn(&Value) -> Result<Value, Refusal>,
) -> Result<(), Refusal> {
    let context = context(server, part.name());
    let target = Target {
        part,
        ..Target::of_key(&server.registry, key).ok_or_else(Refusal::no_page)?
    };
    verbs::modify(server, &target, context, false, change)
        .await
        .map(drop)
}

/// A namespace with the conditions that say what it waits for. The kinds of this server are always known, and a deletion that
/// fails is tried again, so that the first three never hold; clients of a cluster look for them.
fn with_remaining(namespace: &Value, remaining: &Remaining, now: Timestamp) -> Value {
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            ["ResourcesDiscovered", "DiscoveryFailed"],
            ["All resources successfully discovered", ""],
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ["ParsedGroupVersions", "GroupVersionParsingFailed"],
            ["All legacy kube types successfully parsed", ""],
        ),
        (
            "NamespaceDeletionContentFailure",
            ["ContentDeleted", "ContentDeletionFailed"],
            [
                "All content successfully deleted, may be waiting on finalization",
                "",
            ],
        ),
        (
            "NamespaceContentRemaining",
            ["ContentRemoved", "SomeResourcesRemain"],
            [
                "All content successfully removed",
                remaining.content.as_str(),
            ],
        ),
        (
            "NamespaceFinalizersRemaining",
            ["ContentHasNoFinalizers", "SomeFinalizersRemain"],
            [
                "All content-preserving finalizers finished",
                remaining.finalizers.as_str(),
            ],
        ),
    ];
    let before = namespace.at("/status/conditions").as_array();
    let before = before.map(Vec::as_slice).unwrap_or_default();
    let conditions = conditions.map(|(kind, [clear, held], [done, waits])| {
        let (status, reason, message) = match waits {
            "" => ("False", clear, done),
            waits => ("True", held, waits),
        };
        let known = before.iter().find(|c| c["type"] == kind);
        let known = known.filter(|c| c["status"] == status);
        let since = known.map_or_else(
            || meta::seconds(now).into(),
            |c| c["lastTransitionTime"].clone(),
        );
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    });
    let mut namespace = namespace.clone();
    namespace
        .map("status")
        .insert("conditions".into(), json!(conditions));
    namespace
}

fn without_owners(object: &Value, uids: &[Box<str>]) -> Value {
    let mut object = object.clone();
    if let Some(Value::Array(owners)) = meta::of_mut(&mut object).get_mut("ownerReferences") {
        owners.retain(|o| !uids.iter().any(|uid| o.at("/uid").as_str() == Some(uid)));
    }
    object
}

/// Removes events that have not happened again for a while.
async fn forget_old_events(server: &ApiServer) {
    let oldest = server.now() - EVENT_AGE;
    let events = server
        .store
        .shared()
        .list(&prefix("", "events", None), None)
        .records;
    let is_old = |record: &&std::sync::Arc<Record>| {
        let event = record.value();
        let times = [
            event.at("/series/lastObservedTime"),
            event.at("/lastTimestamp"),
            event.at("/eventTime"),
            event.at("/metadata/creationTimestamp"),
        ];
        let last = times
            .iter()
            .find_map(|t| t.as_str())
            .and_then(|t| t.parse::<jiff::Timestamp>().ok());
        last.is_some_and(|last| last < oldest)
    };
    for record in events.iter().filter(is_old) {
        if let Some(target) = Target::of_key(&server.registry, &record.key) {
            // One that could not be removed is removed the next time.
            let _tried = verbs::delete_object(server, &target, &DeleteOptions::default()).await;
        }
    }
}
