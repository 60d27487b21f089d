use super::*;
use crate::workload::Phase;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn job(spec: Value) -> Job {
    let mut job = json!({"metadata": {"name": "sum", "uid": "u1"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}});
    merge(&mut job, spec);
    serde_json::from_value(job).unwrap()
}

fn merge(into: &mut Value, spec: Value) {
    for (name, value) in spec.as_object().unwrap() {
        into["spec"][name] = value.clone();
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A Job whose pods do what a test says.
struct Story {
    job: Job,
    observed: Observed,
    lines: Vec<String>,
}

impl Story {
    fn new(spec: Value) -> Self {
        Self {
            job: job(spec),
            observed: Observed::default(),
            lines: Vec::new(),
        }
    }

    /// Plans, carries out, and notes what happened.
    fn pass(&mut self, now: i64) -> &mut Self {
        let plan = plan(&lower(&self.job), &self.observed, at(now));
        let mut did = Vec::new();
        for action in &plan.actions {
            match action {
                Action::Create(pod) => {
                    let made = JobPod::from_pod(pod);
                    let index = made.index.map_or(String::new(), |i| format!("#{i}"));
                    did.push(format!("+{index}"));
                    self.observed.pods.push(made);
                }
                Action::Delete { name, .. } => {
                    did.push("-".to_owned());
                    self.observed.pods.retain(|p| p.view.name != *name);
                }
                Action::Forget => did.push("forget".to_owned()),
            }
        }
        let status = &plan.status;
        let conditions = status.conditions.iter().flatten();
        let conditions = conditions.filter(|c| c.status == "True");
        let conditions: Vec<_> = conditions
            .map(|c| format!("{} {}", c.type_, c.reason.as_deref().unwrap_or_default()))
            .collect();
        self.lines.push(format!(
            "{now}: {} active {} succeeded {} failed {} [{}] {}wake {:?}",
            did.join(" "),
            status.active.unwrap_or(0),
            status.succeeded.unwrap_or(0),
            status.failed.unwrap_or(0),
            conditions.join(", "),
            status
                .completed_indexes
                .iter()
                .map(|i| format!("done {i} "))
                .collect::<String>(),
            plan.wake_at.map(Timestamp::as_second),
        ));
        self.observed.status = plan.status;
        self
    }

    fn ends(&mut self, place: usize, phase: Phase, now: i64) -> &mut Self {
        let mut live = self.observed.pods.iter_mut().filter(|p| p.view.is_live());
        let pod = live.nth(place).unwrap();
        pod.view.phase = phase;
        pod.finished = Some(at(now));
        self
    }

    fn told(&self, want: Expect) {
        want.assert_eq(&self.lines.join("\n"));
    }
}

#[test]
fn so_many_pods_end_well_a_few_at_a_time() {
    let mut story = Story::new(json!({"completions": 3, "parallelism": 2}));
    story.pass(0).ends(0, Phase::Succeeded, 5).pass(5);
    story
        .ends(0, Phase::Succeeded, 6)
        .pass(6)
        .ends(0, Phase::Succeeded, 7)
        .pass(7)
        .pass(8);
    story.told(expect![[r#"
        0: + + active 2 succeeded 0 failed 0 [] wake None
        5: + active 2 succeeded 1 failed 0 [] wake None
        6:  active 1 succeeded 2 failed 0 [] wake None
        7:  active 0 succeeded 3 failed 0 [Complete CompletionsReached] wake None
        8:  active 0 succeeded 3 failed 0 [Complete CompletionsReached] wake None"#]]);
}

#[test]
fn failures_are_tried_again_later_each_time_until_the_limit() {
    let mut story = Story::new(json!({"completions": 1, "backoffLimit": 2}));
    story.pass(0).ends(0, Phase::Failed, 1).pass(1).pass(11);
    story
        .ends(0, Phase::Failed, 12)
        .pass(12)
        .pass(32)
        .ends(0, Phase::Failed, 33)
        .pass(33);
    story.told(expect![[r#"
        0: + active 1 succeeded 0 failed 0 [] wake None
        1:  active 0 succeeded 0 failed 1 [] wake Some(11)
        11: + active 1 succeeded 0 failed 1 [] wake None
        12:  active 0 succeeded 0 failed 2 [] wake Some(32)
        32: + active 1 succeeded 0 failed 2 [] wake None
        33:  active 0 succeeded 0 failed 3 [Failed BackoffLimitExceeded] wake None"#]]);
}

#[test]
fn each_index_is_done_once() {
    let mut story =
        Story::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    story
        .pass(0)
        .ends(1, Phase::Succeeded, 1)
        .pass(1)
        .ends(0, Phase::Failed, 2)
        .pass(2)
        .pass(12);
    story
        .ends(0, Phase::Succeeded, 13)
        .ends(0, Phase::Succeeded, 13)
        .pass(13)
        .ends(0, Phase::Succeeded, 14)
        .pass(14);
    story.told(expect![[r#"
        0: +#0 +#1 active 2 succeeded 0 failed 0 [] wake None
        1: +#2 active 2 succeeded 1 failed 0 [] done 1 wake None
        2:  active 1 succeeded 1 failed 1 [] done 1 wake Some(12)
        12: +#0 active 2 succeeded 1 failed 1 [] done 1 wake None
        13: +#3 active 1 succeeded 3 failed 1 [] done 0-2 wake None
        14:  active 0 succeeded 4 failed 1 [Complete CompletionsReached] done 0-3 wake None"#]]);
}

#[test]
fn a_deadline_ends_it_and_its_time_after_the_end_forgets_it() {
    let mut story = Story::new(
        json!({"activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 60, "completions": 1}),
    );
    story.pass(0).pass(30).pass(89).pass(90);
    story.told(expect![[r#"
        0: + active 1 succeeded 0 failed 0 [] wake Some(30)
        30: - active 0 succeeded 0 failed 0 [Failed DeadlineExceeded] wake Some(90)
        89:  active 0 succeeded 0 failed 0 [Failed DeadlineExceeded] wake Some(90)
        90: forget active 0 succeeded 0 failed 0 [Failed DeadlineExceeded] wake None"#]]);
}

#[test]
fn a_suspended_job_has_no_pods_and_begins_anew() {
    let mut story = Story::new(json!({"completions": 1, "suspend": true}));
    story.pass(0);
    story.job.spec.as_mut().unwrap().suspend = Some(false);
    story.pass(5);
    story.job.spec.as_mut().unwrap().suspend = Some(true);
    story.pass(9);
    story.told(expect![[r#"
        0:  active 0 succeeded 0 failed 0 [Suspended JobSuspended] wake None
        5: + active 1 succeeded 0 failed 0 [] wake None
        9: - active 0 succeeded 0 failed 0 [Suspended JobSuspended] wake None"#]]);
}

#[test]
fn a_queue_is_over_when_one_has_ended_well_and_all_have_ended() {
    let mut story = Story::new(json!({"parallelism": 2}));
    story
        .pass(0)
        .ends(0, Phase::Succeeded, 5)
        .pass(5)
        .ends(0, Phase::Succeeded, 6)
        .pass(6);
    story.told(expect![[r#"
        0: + + active 2 succeeded 0 failed 0 [] wake None
        5:  active 1 succeeded 1 failed 0 [] wake None
        6:  active 0 succeeded 2 failed 0 [Complete CompletionsReached] wake None"#]]);
}

#[test]
fn a_plan_that_is_made_again_makes_the_same_pods() {
    let desired = lower(&job(json!({"completions": 2, "parallelism": 2})));
    let names = |observed: &Observed| -> Vec<String> {
        let plan = plan(&desired, observed, at(0));
        let created = plan.actions.iter().filter_map(|a| match a {
            Action::Create(pod) => pod.metadata.name.clone(),
            _ => None,
        });
        created.collect()
    };
    let first = names(&Observed::default());
    assert_eq!(names(&Observed::default()), first);
    let begun = Observed {
        taken: first[..1].iter().cloned().collect(),
        ..Observed::default()
    };
    assert!(!names(&begun).contains(&first[0]));
}
