//! Decides what a delete makes of an object: gone, or marked and waiting for its grace period or its finalizers.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::admit::{self, Next};
use crate::meta;
use crate::options::{DeleteOptions, Propagation};
use crate::status::Refusal;
use crate::target::Target;
use crate::tree::Tree;

/// Holds an owner until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Holds an owner until its dependents have forgotten it.
pub(crate) const ORPHAN: &str = "orphan";
/// Seconds, when a Pod does not say.
const POD_GRACE: i64 = 30;
/// Not even on purpose.
const LASTING_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// What a delete makes of `old`.
pub(crate) fn delete(
    target: &Target,
    options: &DeleteOptions,
    old: &Value,
    now: Timestamp,
) -> Result<Next, Refusal> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    admit::preconditions(target, old, &text(&options.uid), &text(&options.version))?;
    let is_namespace = target.kind.is("", "Namespace");
    if is_namespace && LASTING_NAMESPACES.contains(&target.name()) {
        return Err(Refusal::forbidden(
            target.subject(),
            "this namespace may not be deleted",
        ));
    }
    let mut new = old.clone();
    hold_for_dependents(&mut new, options.propagation);
    let grace = if target.kind.graceful() {
        grace_of_pod(old, options.grace)
    } else {
        0
    };
    if meta::is_deleting(old) {
        shorten(&mut new, grace);
    } else {
        mark(target, &mut new, grace, now);
    }
    if is_namespace {
        new.map("status")
            .insert("phase".into(), "Terminating".into());
    }
    Ok(if admit::is_done(&new) {
        Next::Remove(new)
    } else if new == *old {
        Next::Same
    } else {
        Next::Put(new)
    })
}

fn mark(target: &Target, object: &mut Value, grace: i64, now: Timestamp) {
    let at = now
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(now);
    let generation = object.at("/metadata/generation").as_i64().unwrap_or(0) + 1;
    let metadata = meta::of_mut(object);
    metadata.insert("deletionTimestamp".into(), meta::seconds(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if target.kind.has_generation() {
        metadata.insert("generation".into(), generation.into());
    }
}

/// A second delete may end an object sooner, never later.
fn shorten(object: &mut Value, grace: i64) {
    let before = object
        .at("/metadata/deletionGracePeriodSeconds")
        .as_i64()
        .unwrap_or(0);
    if grace >= before {
        return;
    }
    let at = meta::text(object, "deletionTimestamp")
        .parse::<Timestamp>()
        .ok();
    let sooner = at.and_then(|at| {
        at.checked_sub(SignedDuration::from_secs(before - grace))
            .ok()
    });
    let metadata = meta::of_mut(object);
    if let Some(sooner) = sooner {
        metadata.insert("deletionTimestamp".into(), meta::seconds(sooner).into());
    }
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
}

/// Seconds that a Pod gets. One that runs nowhere, or runs no more, has nothing to end.
fn grace_of_pod(pod: &Value, asked: Option<i64>) -> i64 {
    let bound = pod
        .at("/spec/nodeName")
        .as_str()
        .is_some_and(|n| !n.is_empty());
    let finished = matches!(
        pod.at("/status/phase").as_str(),
        Some("Succeeded" | "Failed")
    );
    if !bound || finished {
        return 0;
    }
    match asked.or_else(|| pod.at("/spec/terminationGracePeriodSeconds").as_i64()) {
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
        None => POD_GRACE,
    }
}

fn hold_for_dependents(object: &mut Value, propagation: Option<Propagation>) {
    let (add, remove): (Option<&str>, &[&str]) = match propagation {
        None => return,
        Some(Propagation::Background) => (None, &[FOREGROUND, ORPHAN]),
        Some(Propagation::Foreground) => (Some(FOREGROUND), &[ORPHAN]),
        Some(Propagation::Orphan) => (Some(ORPHAN), &[FOREGROUND]),
    };
    for finalizer in remove {
        meta::drop_finalizer(object, finalizer);
    }
    if let Some(add) = add
        && !meta::finalizers(object).contains(&add)
    {
        let list = meta::of_mut(object)
            .entry("finalizers")
            .or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(add.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(extra: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": "3", "generation": 1},
            "spec": {"nodeName": "local", "terminationGracePeriodSeconds": 20}, "status": {"phase": "Running"}});
        json_patch::merge(&mut pod, &extra);
        pod
    }

    fn deleted(pod: &Value, options: &DeleteOptions) -> Next {
        let target = crate::target::tests::target("", "v1", "namespaces/default/pods/p");
        delete(&target, options, pod, now()).unwrap()
    }

    fn marked(next: &Next) -> (&str, i64) {
        let Next::Put(pod) = next else {
            panic!("{next:?}");
        };
        let grace = pod["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap();
        (meta::text(pod, "deletionTimestamp"), grace)
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions {
            grace: Some(seconds),
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn a_running_pod_gets_its_grace() {
        let next = deleted(&pod(json!({})), &DeleteOptions::default());
        assert_eq!(marked(&next), ("2026-01-01T00:00:20Z", 20));
        let Next::Put(waiting) = next else {
            unreachable!()
        };
        assert_eq!(deleted(&waiting, &DeleteOptions::default()), Next::Same);
        assert_eq!(
            marked(&deleted(&waiting, &grace(5))),
            ("2026-01-01T00:00:05Z", 5)
        );
        assert!(matches!(deleted(&waiting, &grace(0)), Next::Remove(_)));
        assert_eq!(deleted(&waiting, &grace(60)), Next::Same);
    }

    #[test]
    fn a_pod_with_nothing_to_end_goes_at_once() {
        for extra in [
            json!({"spec": {"nodeName": null}}),
            json!({"status": {"phase": "Succeeded"}}),
            json!({"status": {"phase": "Failed"}}),
        ] {
            assert!(matches!(
                deleted(&pod(extra), &DeleteOptions::default()),
                Next::Remove(_)
            ));
        }
    }

    #[test]
    fn finalizers_hold_an_object() {
        let held = pod(json!({"metadata": {"finalizers": ["x"]}}));
        assert_eq!(marked(&deleted(&held, &grace(0))).1, 0);
        let foreground = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..grace(0)
        };
        let Next::Put(waiting) = deleted(&pod(json!({})), &foreground) else {
            panic!("not held");
        };
        assert_eq!(meta::finalizers(&waiting), [FOREGROUND]);
    }

    #[test]
    fn preconditions_are_held() {
        let target = crate::target::tests::target("", "v1", "namespaces/default/pods/p");
        let other = DeleteOptions {
            uid: Some("other".into()),
            ..DeleteOptions::default()
        };
        let refusal = delete(&target, &other, &pod(json!({})), now()).unwrap_err();
        assert_eq!(refusal.reason, "Conflict");
    }
}
