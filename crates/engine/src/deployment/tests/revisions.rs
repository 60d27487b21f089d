//! Which ReplicaSet is which version, and what becomes of it.

use expect_test::expect;
use serde_json::json;
use serin_api::keys::condition;

use super::*;

#[test]
fn the_first_version_is_made_whole() {
    let plan = plan(
        &desired(json!({"minReadySeconds": 5})),
        &Observed::default(),
        at(100),
    );
    expect![[r#"
        create as revision 1 with 6
        number 1
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]]
    .assert_eq(&show(&plan));
    let Action::Create(rs) = &plan.actions[0] else {
        panic!("a ReplicaSet must be made");
    };
    expect![[r#"
        {
          "apiVersion": "apps/v1",
          "kind": "ReplicaSet",
          "metadata": {
            "annotations": {
              "deployment.kubernetes.io/desired-replicas": "6",
              "deployment.kubernetes.io/revision": "1",
              "kubernetes.io/change-cause": "faster search"
            },
            "labels": {
              "app": "web",
              "pod-template-hash": "58d5dfc74f"
            },
            "name": "web-58d5dfc74f",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Deployment",
                "name": "web",
                "uid": "d"
              }
            ]
          },
          "spec": {
            "minReadySeconds": 5,
            "replicas": 6,
            "selector": {
              "matchLabels": {
                "app": "web",
                "pod-template-hash": "58d5dfc74f"
              }
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "web",
                  "pod-template-hash": "58d5dfc74f"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "v2",
                    "name": "web"
                  }
                ]
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(rs).unwrap());
}

#[test]
fn a_rollback_gets_the_next_number() {
    let mut old = rs("v2", 0);
    old.revision = 1;
    old.annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "1".into());
    let mut current = rs("v1", 6);
    current.revision = 3;
    check(
        json!({}),
        vec![old, current],
        &expect![[r#"
            web-v1 taken-back-at=1970-01-01T00:01:40Z taken-back-by=somebody taken-back-why=undone: back to revision 1
            web-v2 0 -> 2 desired-replicas=6 revision=4
            number 4
            waits for 0 of 6 instances of 58d5dfc74f to become available
        "#]],
    );
}

#[test]
fn a_taken_name_is_passed_over() {
    let wanted = desired(json!({}));
    let name = |collisions| format!("web-{}", hash::template_hash(&wanted.template, collisions));
    let observed = Observed {
        taken: BTreeSet::from([name(0), name(1)]),
        ..Observed::default()
    };
    let plan = plan(&wanted, &observed, at(100));
    let Action::Create(rs) = &plan.actions[0] else {
        panic!("a ReplicaSet must be made");
    };
    assert_eq!(rs.metadata.name, Some(name(2)));
    assert_eq!(plan.status.collision_count, Some(2));
}

#[test]
fn replica_sets_are_claimed_by_uid() {
    // Deleted and made again under the same name: the ReplicaSet of the old one is not ours.
    let foreign = ReplicaSetView {
        owner_uid: Some("gone".into()),
        ..rs("v2", 6)
    };
    let orphan = ReplicaSetView {
        owner_uid: None,
        ..rs("v1", 6)
    };
    let stray = ReplicaSetView {
        labels: BTreeMap::new(),
        ..rs("v3", 1)
    };
    check(
        json!({}),
        vec![foreign, rs("v1", 6)],
        &expect![[r#"
        create as revision 2 with 2
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
    // Nothing is made before it is known what the orphan is.
    check(
        json!({}),
        vec![orphan, stray],
        &expect![[r#"
        adopt web-v1
        release web-v3
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

#[test]
fn the_oldest_versions_are_forgotten() {
    let all = || vec![rs("v2", 6), rs("v1", 0), rs("v0", 0), rs("v3", 0)];
    let mut newest = rs("v2", 6);
    newest.revision = 9;
    newest
        .annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "9".into());
    let mut sets = all();
    sets[0] = newest;
    check(
        json!({"revisionHistoryLimit": 1}),
        sets.clone(),
        &expect![[r#"
            web-v2 promoted-at=1970-01-01T00:01:40Z
            number 9
            delete web-v0
            delete web-v1
            waits for nothing
        "#]],
    );
    sets[0].available = 5;
    check(
        json!({"revisionHistoryLimit": 1}),
        sets,
        &expect![[r#"
        number 9
        waits for 5 of 6 instances of 58d5dfc74f to become available
    "#]],
    );
}

/// The one that came up is where a way back leads; one that never did is not.
#[test]
fn a_version_that_is_complete_is_remembered() {
    let promoted = |observed: &Observed| {
        let plan = plan(&desired(json!({})), observed, at(100));
        plan.actions.iter().find_map(|action| match action {
            Action::Update(update) => {
                let note = update.annotations.get(key::PROMOTED_AT)?.clone()?;
                Some((update.target.name.clone(), note))
            }
            _ => None,
        })
    };
    let fresh = |size| {
        let mut new = rs("v2", size);
        new.annotations.remove(key::PROMOTED_AT);
        new
    };
    let noted = Some(("web-v2".to_owned(), at(100).to_string()));
    assert_eq!(promoted(&with(vec![rs("v1", 0), fresh(6)])), noted);
    // Not before all are there, nor while an old one is; and not again.
    assert_eq!(promoted(&with(vec![rs("v1", 1), fresh(6)])), None);
    let mut late = fresh(6);
    late.available = 5;
    assert_eq!(promoted(&with(vec![rs("v1", 0), late])), None);
    assert_eq!(promoted(&with(vec![rs("v1", 0), rs("v2", 6)])), None);
    // An older one that is gone back to was complete last.
    assert_eq!(promoted(&with(vec![rs("v2", 6), rs("v3", 0)])), noted);
}

/// Going back to a version that was complete says that the one that is left was no good; being complete after all takes that back.
#[test]
fn a_version_that_is_gone_back_from_is_remembered_as_taken_back() {
    let mut back = with(vec![rs("v2", 0), rs("v3", 6)]);
    back.annotations
        .insert(key::DEPLOYMENT_REVISION.into(), "3".into());
    let hash = back.replica_sets[1].hash.as_str().to_owned();
    let undo = json!({"from": hash, "by": "anna", "why": "orders fail"});
    back.annotations.insert(key::UNDO.into(), undo.to_string());
    let planned = |observed: &Observed| show(&plan(&desired(json!({})), observed, at(100)));
    expect![[r#"
        web-v3 taken-back-at=1970-01-01T00:01:40Z taken-back-by=anna taken-back-why=undone: back to revision 2: orders fail
        web-v2 0 -> 2 desired-replicas=6 revision=4
        number 4
        waits for 0 of 6 instances of 58d5dfc74f to become available
    "#]]
    .assert_eq(&planned(&back));
    // What is said of another version does not count, and one that never was complete is no place to go back to.
    let other = json!({"from": "another", "by": "anna"});
    back.annotations.insert(key::UNDO.into(), other.to_string());
    assert!(planned(&back).contains("taken-back-by=somebody"));
    back.replica_sets[0].annotations.remove(key::PROMOTED_AT);
    assert!(!planned(&back).contains("taken-back"));
    let mut again = with(vec![rs("v1", 0), rs("v2", 6)]);
    for key in [key::TAKEN_BACK_AT, key::TAKEN_BACK_BY, key::TAKEN_BACK_WHY] {
        let notes = &mut again.replica_sets[1].annotations;
        notes.insert(key.into(), at(50).to_string());
    }
    expect![[r#"
        web-v2 taken-back-at=(none) taken-back-by=(none) taken-back-why=(none)
        number 2
        waits for nothing
    "#]]
    .assert_eq(&planned(&again));
}

#[test]
fn a_version_that_was_taken_back_is_held_where_a_policy_says_so_until_a_retry() {
    let mut observed = with(vec![rs("v1", 6), rs("v2", 0)]);
    for key in [key::TAKEN_BACK_AT, key::TAKEN_BACK_BY, key::TAKEN_BACK_WHY] {
        let notes = &mut observed.replica_sets[1].annotations;
        notes.insert(key.into(), at(50).to_string());
    }
    let planned = |observed: &Observed| plan(&desired(json!({})), observed, at(100));
    let moves = |plan: &Plan| show(plan).contains(" -> ");
    assert!(moves(&planned(&observed)));
    observed.hold_rejected = true;
    let held = planned(&observed);
    assert!(!moves(&held), "{}", show(&held));
    assert!(held.waiting_on.to_string().contains("held: taken back at"));
    let told = held.status.conditions.as_ref().unwrap();
    let told = conditions::get(told, condition::HELD).unwrap();
    assert_eq!(
        (told.status.as_str(), told.reason.as_deref()),
        ("True", Some("TakenBack"))
    );
    observed.status = held.status;
    assert_eq!(planned(&observed).status, observed.status);
    observed
        .annotations
        .insert(key::RETRIED_AT.into(), at(60).to_string());
    let retried = planned(&observed);
    assert!(moves(&retried), "{}", show(&retried));
    let told = retried.status.conditions.unwrap();
    assert!(conditions::get(&told, condition::HELD).is_none());
    // With nobody else to serve it is not held.
    observed.annotations.clear();
    observed.replica_sets[0].available = 0;
    assert!(moves(&planned(&observed)));
}
