use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn member(name: &str, standing: Standing) -> Member {
    Member {
        name: name.to_owned(),
        release: None,
        standing,
        taken_back_at: None,
    }
}

#[test]
fn who_is_waited_for() {
    use Place::{Completion, End, Step};
    let standings = [
        Standing::Unseen,
        Standing::Invalid,
        Standing::First,
        Standing::Settled,
        Standing::At(0),
        Standing::At(1),
        Standing::At(2),
        Standing::AtEnd { arrived: false },
        Standing::AtEnd { arrived: true },
        Standing::TakenBack,
    ];
    let lines: Vec<_> = [Step(0), Step(1), End, Completion]
        .into_iter()
        .map(|place| {
            let waits = standings
                .iter()
                .filter(|s| awaited(None, place, &[member("b", **s)]).is_some());
            let waits: Vec<_> = waits.map(|s| format!("{s:?}")).collect();
            format!("{place:?} waits for {}", waits.join(", "))
        })
        .collect();
    expect![[r#"
        Step(0) waits for Unseen, Invalid, First, TakenBack
        Step(1) waits for Unseen, Invalid, First, At(0), TakenBack
        End waits for Unseen, Invalid, First, At(0), At(1), At(2), TakenBack
        Completion waits for Unseen, Invalid, First, At(0), At(1), At(2), AtEnd { arrived: false }, TakenBack"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_named_release_begins_when_all_are_of_it() {
    let mut other = member("b", Standing::Settled);
    other.release = Some("41".into());
    let begins =
        |other: &Member| awaited(Some("42"), Place::Step(0), std::slice::from_ref(other)).is_none();
    assert!(!begins(&other));
    other.release = Some("42".into());
    assert!(begins(&other));
    other.release = None;
    assert!(!begins(&other));
}

#[test]
fn what_is_seen_of_a_rollout() {
    let check = |generation: i64, status: serde_json::Value| {
        let mut rollout: Rollout = serde_json::from_value(json!({
            "metadata": {"name": "api", "generation": generation},
            "spec": {"selector": {}, "strategy": {"canary": {}}},
        }))
        .unwrap();
        rollout.status = Some(serde_json::from_value(status).unwrap());
        Member::of(&rollout).standing
    };
    let at = |index: i32| json!({"observedGeneration": "2", "stableRS": "a", "currentPodHash": "b", "currentStepIndex": index, "releaseGroup": {"steps": 2}});
    assert_eq!(check(3, at(1)), Standing::Unseen);
    assert_eq!(check(2, at(1)), Standing::At(1));
    assert_eq!(check(2, at(2)), Standing::AtEnd { arrived: false });
    assert_eq!(
        check(2, json!({"observedGeneration": "2"})),
        Standing::First
    );
    let settled = json!({"observedGeneration": "2", "stableRS": "a", "currentPodHash": "a"});
    assert_eq!(check(2, settled), Standing::Settled);
    let mut aborted = at(0);
    aborted["abort"] = json!(true);
    assert_eq!(check(2, aborted), Standing::TakenBack);
    let mut invalid = at(0);
    invalid["conditions"] = json!([{"type": "InvalidSpec", "status": "True"}]);
    assert_eq!(check(2, invalid), Standing::Invalid);
}

/// One release of a group: each member with so many steps, as the others see it.
#[derive(Clone, Debug)]
struct Model {
    steps: Vec<usize>,
    members: Vec<Member>,
}

impl Model {
    fn new(steps: Vec<usize>) -> Self {
        let at_first = |steps: &usize| match steps {
            0 => Standing::AtEnd { arrived: false },
            _ => Standing::At(0),
        };
        let members = steps.iter().enumerate();
        let members = members.map(|(i, steps)| member(&i.to_string(), at_first(steps)));
        Self {
            members: members.collect(),
            steps,
        }
    }

    fn others(&self, i: usize) -> Vec<Member> {
        let mut others = self.members.clone();
        others.remove(i);
        others
    }

    /// What member `i` does when it sees the others as they were in `seen`.
    fn act(&mut self, i: usize, seen: &Self) -> bool {
        let others = seen.others(i);
        let began = Timestamp::UNIX_EPOCH;
        let standing = self.members[i].standing;
        if matches!(standing, Standing::Settled | Standing::TakenBack) {
            return false;
        }
        if taken_back_since(began, &others).is_some() {
            self.take_back(i);
            return true;
        }
        let may = |place| awaited(None, place, &others).is_none();
        let next = match standing {
            Standing::At(step) if may(Place::Step(step)) => match step + 1 {
                done if done == self.steps[i] => Standing::AtEnd { arrived: false },
                next => Standing::At(next),
            },
            Standing::AtEnd { arrived: false } if may(Place::End) => {
                Standing::AtEnd { arrived: true }
            }
            Standing::AtEnd { arrived: true } if may(Place::Completion) => Standing::Settled,
            same => same,
        };
        self.members[i].standing = next;
        next != standing
    }

    fn take_back(&mut self, i: usize) {
        self.members[i].standing = Standing::TakenBack;
        self.members[i].taken_back_at = Some(Timestamp::UNIX_EPOCH);
    }

    /// Steps that a member has done; those that have no more are as far as anybody.
    fn done(&self, i: usize) -> Option<usize> {
        match self.members[i].standing {
            Standing::At(step) => Some(step),
            _ => None,
        }
    }

    fn run(&mut self) {
        while (0..self.members.len()).any(|i| {
            let seen = self.clone();
            self.act(i, &seen)
        }) {}
    }
}

proptest! {
    #[test]
    fn no_member_is_more_than_one_step_ahead(
        steps in prop::collection::vec(0_usize..5, 2..5),
        turns in prop::collection::vec((0_usize..5, any::<bool>()), 0..80),
    ) {
        let mut now = Model::new(steps);
        let mut before = now.clone();
        for (i, is_behind) in turns {
            let i = i % now.members.len();
            // A view may lag: it is the one of a turn ago.
            let seen = if is_behind { before.clone() } else { now.clone() };
            before = now.clone();
            now.act(i, &seen);
            let at: Vec<_> = (0..now.members.len()).filter_map(|i| now.done(i)).collect();
            if let (Some(first), Some(last)) = (at.iter().max(), at.iter().min()) {
                prop_assert!(first - last <= 1, "{now:?}");
                let arrived = |m: &Member| matches!(m.standing, Standing::AtEnd { arrived: true } | Standing::Settled);
                prop_assert!(!now.members.iter().any(arrived), "{now:?}");
            }
        }
        // Without an abort all come to the end.
        now.run();
        prop_assert!(now.members.iter().all(|m| m.standing == Standing::Settled), "{now:?}");
    }

    #[test]
    fn an_abort_before_all_have_arrived_reaches_all(
        steps in prop::collection::vec(0_usize..5, 2..5),
        turns in prop::collection::vec(0_usize..5, 0..60),
        who in 0_usize..5,
    ) {
        let mut now = Model::new(steps);
        for i in turns {
            let seen = now.clone();
            now.act(i % seen.members.len(), &seen);
        }
        let who = who % now.members.len();
        let all = now.members.iter().all(|m| matches!(m.standing, Standing::AtEnd { arrived: true } | Standing::Settled));
        prop_assume!(!all);
        now.take_back(who);
        now.run();
        prop_assert!(now.members.iter().all(|m| m.standing == Standing::TakenBack), "{now:?}");
    }
}
