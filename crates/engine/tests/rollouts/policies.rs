//! What a ReleasePolicy adds, each point on a view: what is planned in it.

use serde_json::{Value, json};
use serin_api::release::{self, ConfigurationKind};
use serin_api::rollout::{RolloutCondition, RolloutSpec};
use serin_api::waiting::WaitingOn;
use serin_engine::invariants::{self, Violation};
use serin_engine::rollout::configuration::{CopyOf, CopyView, Reference};
use serin_engine::rollout::group::{Group, Member, Standing};
use serin_engine::rollout::{Observed, Plan, plan, refused};

use crate::views::{hash, now, revision, routed, settled, shown, spec, view};

fn govern(observed: &mut Observed, policy: Value) {
    let (policy, problems) = release::lower(&serde_json::from_value(policy).unwrap());
    assert_eq!(problems, []);
    observed.governed.policy = policy;
}

fn sound(spec: &RolloutSpec, observed: &Observed) -> Plan {
    let plan = plan(spec, observed, now());
    assert_eq!(invariants::check(spec, observed, &plan), []);
    plan
}

/// v1 is stable with 4 instances, v2 has one on trial at the end of its only step.
fn on_trial() -> (RolloutSpec, RolloutSpec, Observed) {
    let strategy = routed(json!([{"setWeight": 25}]));
    let (v1, v2) = (spec("1", 4, strategy.clone()), spec("2", 4, strategy));
    let revisions = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 1, 1)];
    let services = [("stable", &v1), ("canary", &v2)];
    let mut observed = view(revisions, &v1, &services, 25);
    observed.status = plan(&v2, &observed, now()).status;
    (v1, v2, observed)
}

fn map(name: &str) -> Reference {
    Reference {
        kind: ConfigurationKind::ConfigMap,
        name: name.to_owned(),
    }
}

#[test]
fn the_content_is_kept_before_anything_starts_with_it() {
    let v1 = spec("1", 4, routed(json!([])));
    let mut observed = Observed::default();
    for name in ["stable", "canary"] {
        observed
            .services
            .insert(name.into(), serin_engine::rollout::ServiceView::default());
    }
    observed.routes = on_trial().2.routes;
    observed.configuration.wanted = vec![CopyOf {
        source: map("app"),
        digest: "aa".into(),
        name: "app-aa".into(),
    }];
    let first = shown(&sound(&v1, &observed));
    let make = format!("make {} as revision 1", hash(&v1));
    assert_eq!(first, [r#"copy ConfigMap "app" as "app-aa""#, &make]);

    observed.configuration.missing = vec![map("more")];
    let held = sound(&v1, &observed);
    assert_eq!(held.actions, []);
    let message = held.status.message.unwrap();
    assert!(
        message.contains(r#"ConfigMap "more" not found"#),
        "{message}"
    );
}

#[test]
fn a_content_that_no_revision_names_is_forgotten() {
    let mut v1 = spec("1", 4, json!({"canary": {}}));
    let pod = v1.template.as_mut().unwrap().spec.as_mut().unwrap();
    let read = json!([{"configMapRef": {"name": "app-aa"}}]);
    pod.containers[0].env_from = serde_json::from_value(read).unwrap();
    let mut observed = view(vec![revision(&v1, 1, 4, 4)], &v1, &[], 0);
    observed.configuration.copies = ["app-aa", "app-bb"]
        .map(|name| CopyView {
            copy: map(name),
            of: "app".into(),
        })
        .into();
    let last = settled(&v1, &mut observed, now());
    assert_eq!(shown(&last), [r#"forget ConfigMap "app-bb""#]);
}

#[test]
fn a_freeze_does_not_hold_what_a_person_promotes_in_full() {
    let (_, v2, mut observed) = on_trial();
    let always = json!([{"name": "always", "schedule": "* * * * *", "duration": "1h"}]);
    govern(&mut observed, json!({"freeze": always}));
    let held = sound(&v2, &observed);
    assert!(
        matches!(held.waiting_on, WaitingOn::Freeze { .. }),
        "{:?}",
        held.waiting_on
    );
    observed.status.promote_full = true;
    assert_eq!(
        shown(&sound(&v2, &observed)),
        [format!("scale {} to 4", hash(&v2))]
    );
}

#[test]
fn the_service_of_a_gate_is_asked_while_it_is_shut() {
    let (_, v2, mut observed) = on_trial();
    observed.status.current_step_index = Some(1);
    let hook = json!({"url": "https://gates.example.com/budget"});
    govern(
        &mut observed,
        json!({"gates": [{"name": "budget", "webhook": hook}]}),
    );
    let ask = format!("ask whether {} may pass budget", hash(&v2));
    let held = sound(&v2, &observed);
    assert!(shown(&held).contains(&ask), "{:?}", shown(&held));
    let answer = json!({"revision": hash(&v2).as_str(), "approved": true, "by": "webhook gates"});
    let answer = serde_json::from_value(answer).unwrap();
    observed.status.gates.insert("budget".into(), answer);
    assert!(!shown(&sound(&v2, &observed)).contains(&ask));
    // Nobody is asked on the way back.
    observed.status.gates.clear();
    observed.status.abort = true;
    assert!(!shown(&sound(&v2, &observed)).contains(&ask));
}

#[test]
fn an_emergency_ends_once_it_is_carried_out() {
    let (v1, _, _) = on_trial();
    let mut observed = view(
        vec![revision(&v1, 1, 4, 4)],
        &v1,
        &[("stable", &v1), ("canary", &v1)],
        0,
    );
    observed.governed.emergency = Some(hash(&v1));
    assert_eq!(
        shown(&settled(&v1, &mut observed, now())),
        ["the emergency is over"]
    );
    observed.governed.emergency = None;
    assert_eq!(shown(&settled(&v1, &mut observed, now())), [""; 0]);
}

#[test]
fn a_refused_plan_is_told_in_the_status_until_one_is_sound() {
    let (_, v2, mut observed) = on_trial();
    let broken = [Violation::ForgotInUse {
        revision: hash(&v2),
    }];
    let is_told =
        |c: &RolloutCondition| c.type_ == "PlanRefused" && c.message.contains("is in use");
    observed.status = refused(&observed, &broken, now());
    assert!(observed.status.conditions.iter().any(is_told));
    // Told once: a second time changes nothing.
    assert_eq!(refused(&observed, &broken, now()), observed.status);
    assert!(!sound(&v2, &observed).status.conditions.iter().any(is_told));
}

#[test]
fn a_member_of_a_group_waits_and_its_way_back_does_not() {
    let (_, v2, mut observed) = on_trial();
    let other = |standing| Group {
        name: "shop".into(),
        release: None,
        others: vec![Member {
            name: "api".into(),
            release: None,
            standing,
            taken_back_at: None,
        }],
    };
    observed.status.current_step_index = Some(1);
    observed.group = Some(other(Standing::At(2)));
    let held = sound(&v2, &observed);
    assert_eq!(
        held.waiting_on.to_string(),
        "api of the release group shop, which is at step 3"
    );
    observed.group = Some(other(Standing::AtEnd { arrived: false }));
    assert_eq!(
        shown(&sound(&v2, &observed)),
        [format!("scale {} to 4", hash(&v2))]
    );
    observed.group = Some(other(Standing::Unseen));
    observed.status.abort = true;
    let back = sound(&v2, &observed);
    assert!(shown(&back).contains(&"send 0 % of web to the canary".to_owned()));
    // And one that is taken back takes this one with it.
    observed.status.abort = false;
    observed.status.aborted_at = None;
    let mut taken_back = other(Standing::TakenBack);
    taken_back.others[0].taken_back_at = Some(now());
    observed.group = Some(taken_back);
    let followed = sound(&v2, &observed);
    assert!(followed.status.abort);
    assert_eq!(
        followed.status.message.as_deref(),
        Some("taken back: api was taken back")
    );
}
