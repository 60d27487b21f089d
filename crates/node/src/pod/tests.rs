//! The state machine, played: inputs with their times, and below each what is to be done.

mod found;

use std::time::Duration;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::plan::PodPlan;
use super::probe::{Outcome, ProbeKind};
use super::resume::FoundRun;
use super::status::{Identity, render};
use super::{Action, End, HookKind, Input, Now, PodState, Response, Waiting};
use crate::config::Backoff;

struct Play {
    state: PodState,
    text: String,
    now: f64,
}

fn at(seconds: f64) -> Now {
    let wall = Timestamp::from_second(1_700_000_000).unwrap();
    Now {
        mono: Duration::from_secs_f64(seconds),
        wall: wall + SignedDuration::from_secs_f64(seconds),
    }
}

fn end(exit_code: i32, uptime_seconds: u64) -> End {
    End {
        exit_code,
        signal: None,
        reason: if exit_code == 0 { "Completed" } else { "Error" }.into(),
        message: (exit_code != 0).then(|| "last words".into()),
        started_at: Some(at(0.0).wall),
        finished_at: at(1.0).wall,
        uptime: Duration::from_secs(uptime_seconds),
    }
}

fn plan(spec: &str) -> PodPlan {
    let pod: Pod = serde_json::from_str(&format!(r#"{{"metadata":{{}},"spec":{spec}}}"#)).unwrap();
    PodPlan::of(&pod, true, Backoff::default())
}

impl Play {
    fn new(spec: &str) -> Self {
        let plan = plan(spec);
        let found = vec![None; plan.containers.len()];
        Self::resume(plan, &PodStatus::default(), found)
    }

    fn resume(plan: PodPlan, status: &PodStatus, found: Vec<Option<FoundRun>>) -> Self {
        Self::resume_with(plan, status, found, Input::Tick)
    }

    fn resume_with(
        plan: PodPlan,
        status: &PodStatus,
        found: Vec<Option<FoundRun>>,
        first: Input,
    ) -> Self {
        let (state, response) = PodState::resume(plan, status, found, first, at(0.0));
        let mut play = Self {
            state,
            text: String::new(),
            now: 0.0,
        };
        play.note("begin", &response);
        play
    }

    fn step(&mut self, seconds: f64, what: &str, input: Input) -> &mut Self {
        self.now = seconds;
        let response = self.state.step(input, at(seconds));
        self.note(what, &response);
        self
    }

    fn note(&mut self, what: &str, response: &Response) {
        let actions: Vec<_> = response.actions.iter().map(|a| self.shown(a)).collect();
        let wake = response.wake_at.map_or(String::new(), |at| {
            format!(" (wake at {:.1})", at.as_secs_f64())
        });
        let phase = super::status::phase(&self.state);
        self.text += &format!("{:.1} {what} [{phase}{}]{wake}\n", self.now, self.ready());
        for action in actions {
            self.text += &format!("    {action}\n");
        }
    }

    fn ready(&self) -> &'static str {
        let status = render(&self.state, &identity());
        let ready = status
            .conditions
            .unwrap()
            .into_iter()
            .find(|c| c.type_ == "Ready");
        if ready.unwrap().status == "True" {
            ", ready"
        } else {
            ""
        }
    }

    fn shown(&self, action: &Action) -> String {
        let name = |n: &usize| self.state.plan.containers[*n].name.clone();
        match action {
            Action::Start { container, run } => format!("start {}#{run}", name(container)),
            Action::Probe { kind, .. } => format!("probe {kind:?}"),
            Action::Hook { hook, timeout, .. } => format!("hook {hook:?} within {timeout:?}"),
            Action::Stop {
                container,
                signal,
                grace,
                ..
            } => format!(
                "signal {signal} to {}, kill after {grace:?}",
                name(container)
            ),
            Action::Tell(notice) => format!("event {}: {}", notice.reason, notice.message),
            Action::Finish => "finish".into(),
        }
    }

    fn started(&mut self, seconds: f64, container: usize, run: u32) -> &mut Self {
        let started_at = at(seconds).wall;
        let input = Input::Started {
            container,
            run,
            started_at,
        };
        self.step(seconds, "started", input)
    }

    fn ended(&mut self, seconds: f64, container: usize, run: u32, code: i32, up: u64) -> &mut Self {
        let input = Input::Ended {
            container,
            run,
            end: end(code, up),
        };
        self.step(seconds, &format!("ended with {code}"), input)
    }

    fn tick(&mut self, seconds: f64) -> &mut Self {
        self.step(seconds, "tick", Input::Tick)
    }

    fn probed(&mut self, seconds: f64, run: u32, kind: ProbeKind, good: bool) -> &mut Self {
        let outcome = if good {
            Outcome::Success
        } else {
            Outcome::Failure("503".into())
        };
        let input = Input::Probed {
            container: 0,
            run,
            kind,
            outcome,
        };
        self.step(
            seconds,
            if good { "answer good" } else { "answer bad" },
            input,
        )
    }

    fn observed(&mut self, seconds: f64, deleted: Option<u64>, drained: bool) -> &mut Self {
        let input = Input::Observed {
            deleted: deleted.map(Duration::from_secs),
            drained,
            closed_gates: Vec::new(),
        };
        let what = match (deleted, drained) {
            (None, _) => "seen".to_owned(),
            (Some(left), false) => format!("to be deleted in {left} s"),
            (Some(_), true) => "drained".to_owned(),
        };
        self.step(seconds, &what, input)
    }

    fn hooked(&mut self, seconds: f64, hook: HookKind, error: Option<&str>) -> &mut Self {
        let input = Input::Hooked {
            container: 0,
            run: 0,
            hook,
            error: error.map(str::to_owned),
        };
        self.step(seconds, "hook done", input)
    }

    fn expect(&self, want: Expect) {
        want.assert_eq(&self.text);
    }
}

fn identity() -> Identity {
    Identity {
        uid: "u".into(),
        pod_ip: "127.64.0.1".into(),
        host_ip: "127.0.0.1".into(),
        start_time: at(0.0).wall,
        generation: Some(1),
    }
}

const PLAIN: &str = r#"{"containers":[{"name":"web","image":"host"}]}"#;
const PRE_STOP: &str = r#"{"terminationGracePeriodSeconds":30,"containers":[{"name":"web",
    "lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}"#;

#[test]
fn a_pod_without_probes_is_ready_when_it_runs() {
    Play::new(PLAIN)
        .started(0.2, 0, 0)
        .observed(1.0, None, false)
        .expect(expect![[r#"
            0.0 begin [Pending]
                start web#0
            0.2 started [Running, ready]
                event Started: Started container web
            1.0 seen [Running, ready]
        "#]]);
}

#[test]
fn a_container_that_ends_is_back_at_once_and_then_ever_later() {
    let mut play = Play::new(PLAIN);
    play.started(0.1, 0, 0).ended(1.0, 0, 0, 1, 1);
    play.started(1.1, 0, 1).ended(2.0, 0, 1, 1, 1);
    play.tick(11.9).tick(12.0);
    play.started(12.1, 0, 2).ended(13.0, 0, 2, 1, 1).tick(33.0);
    play.started(33.1, 0, 3).ended(700.0, 0, 3, 0, 667);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.1 started [Running, ready]
            event Started: Started container web
        1.0 ended with 1 [Running]
            start web#1
        1.1 started [Running, ready]
            event Started: Started container web
        2.0 ended with 1 [Running] (wake at 12.0)
            event BackOff: Back-off restarting failed container web
        11.9 tick [Running] (wake at 12.0)
        12.0 tick [Running]
            start web#2
        12.1 started [Running, ready]
            event Started: Started container web
        13.0 ended with 1 [Running] (wake at 33.0)
            event BackOff: Back-off restarting failed container web
        33.0 tick [Running]
            start web#3
        33.1 started [Running, ready]
            event Started: Started container web
        700.0 ended with 0 [Running]
            start web#4
    "#]]);
}

#[test]
fn what_cannot_be_started_is_tried_again_later_and_later() {
    let failed = |reason| {
        move |run| Input::NotStarted {
            container: 0,
            run,
            why: Waiting {
                reason,
                message: Some("no bundle stands for image \"x\"".into()),
            },
        }
    };
    let pull = failed("ErrImagePull");
    let mut play = Play::new(PLAIN);
    play.step(0.1, "no image", pull(0)).tick(10.1);
    play.step(10.2, "no image", pull(1));
    play.step(10.3, "late news of run 0", pull(0));
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.1 no image [Pending] (wake at 10.1)
            event Failed: Error: no bundle stands for image "x"
        10.1 tick [Pending]
            start web#1
        10.2 no image [Pending] (wake at 30.2)
            event Failed: Error: no bundle stands for image "x"
        10.3 late news of run 0 [Pending] (wake at 30.2)
    "#]]);
    let status = render(&play.state, &identity()).container_statuses.unwrap();
    let waiting = status[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ImagePullBackOff"));
}

#[test]
fn the_end_comes_in_order() {
    let mut play = Play::new(PRE_STOP);
    play.started(0.0, 0, 0)
        .observed(100.0, Some(30), false)
        .observed(103.0, Some(27), true)
        .hooked(118.0, HookKind::PreStop, None)
        .tick(119.0)
        .ended(121.0, 0, 0, 0, 121);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.0 started [Running, ready]
            event Started: Started container web
        100.0 to be deleted in 30 s [Running] (wake at 125.0)
        103.0 drained [Running] (wake at 130.0)
            event Killing: Stopping container web
            hook PreStop within 27s
        118.0 hook done [Running] (wake at 135.0)
            signal 15 to web, kill after 12s
        119.0 tick [Running] (wake at 135.0)
        121.0 ended with 0 [Succeeded]
            finish
    "#]]);
}

#[test]
fn draining_and_hooks_are_bounded_and_a_signal_always_has_two_seconds() {
    let mut play = Play::new(PRE_STOP);
    play.started(0.0, 0, 0)
        .observed(100.0, Some(30), false)
        .tick(125.0)
        .tick(130.0)
        .hooked(130.1, HookKind::PreStop, Some("killed"))
        .tick(137.0)
        .ended(137.1, 0, 0, 137, 137);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.0 started [Running, ready]
            event Started: Started container web
        100.0 to be deleted in 30 s [Running] (wake at 125.0)
        125.0 tick [Running] (wake at 130.0)
            event Killing: Stopping container web
            hook PreStop within 5s
        130.0 tick [Running] (wake at 137.0)
            signal 15 to web, kill after 2s
        130.1 hook done [Running] (wake at 137.0)
            event FailedPreStopHook: PreStop hook failed: killed
        137.0 tick [Running] (wake at 142.0)
            signal 9 to web, kill after 0ns
        137.1 ended with 137 [Failed]
            finish
    "#]]);
}

#[test]
fn a_second_deletion_can_only_bring_the_end_nearer() {
    let mut play = Play::new(PLAIN);
    play.started(0.0, 0, 0)
        .observed(100.0, Some(30), true)
        .observed(101.0, Some(5), true)
        .observed(102.0, Some(30), true)
        .ended(104.0, 0, 0, 137, 104);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.0 started [Running, ready]
            event Started: Started container web
        100.0 drained [Running] (wake at 135.0)
            event Killing: Stopping container web
            signal 15 to web, kill after 30s
        101.0 drained [Running] (wake at 111.0)
            signal 15 to web, kill after 5s
        102.0 drained [Running] (wake at 111.0)
        104.0 ended with 137 [Failed]
            finish
    "#]]);
}

#[test]
fn a_pod_that_does_not_run_yet_ends_at_once() {
    let mut play = Play::new(PLAIN);
    play.observed(0.1, Some(30), false).started(0.2, 0, 0);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.1 to be deleted in 30 s [Pending]
        0.2 started [Running] (wake at 35.1)
            event Started: Started container web
            event Killing: Stopping container web
            signal 15 to web, kill after 29.9s
    "#]]);
    let mut play = Play::new(PLAIN);
    play.started(0.1, 0, 0).ended(0.2, 0, 0, 1, 0);
    play.started(0.3, 0, 1)
        .ended(0.4, 0, 1, 1, 0)
        .observed(0.5, Some(30), false);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.1 started [Running, ready]
            event Started: Started container web
        0.2 ended with 1 [Running]
            start web#1
        0.3 started [Running, ready]
            event Started: Started container web
        0.4 ended with 1 [Running] (wake at 10.4)
            event BackOff: Back-off restarting failed container web
        0.5 to be deleted in 30 s [Running]
            finish
    "#]]);
}

#[test]
fn when_the_object_is_gone_nobody_drains_and_the_end_is_still_graceful() {
    let mut play = Play::new(PLAIN);
    play.started(0.0, 0, 0)
        .step(1.0, "removed", Input::Removed)
        .ended(2.0, 0, 0, 0, 2);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.0 started [Running, ready]
            event Started: Started container web
        1.0 removed [Running] (wake at 36.0)
            event Killing: Stopping container web
            signal 15 to web, kill after 30s
        2.0 ended with 0 [Succeeded]
            finish
    "#]]);
}

const PROBES: &str = r#"{"terminationGracePeriodSeconds":20,"containers":[{"name":"web",
    "startupProbe":{"tcpSocket":{"port":80},"periodSeconds":1},
    "livenessProbe":{"tcpSocket":{"port":80},"periodSeconds":10,"failureThreshold":2,"initialDelaySeconds":30},
    "readinessProbe":{"tcpSocket":{"port":80},"periodSeconds":5,"failureThreshold":1}}]}"#;

#[test]
fn probes_open_and_close_the_pod_and_restart_it() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let mut play = Play::new(PROBES);
    play.started(0.0, 0, 0)
        .probed(0.1, 0, Startup, true)
        .probed(0.2, 0, Readiness, true)
        .tick(5.1)
        .probed(5.2, 0, Readiness, false)
        .tick(30.0)
        .probed(30.1, 0, Liveness, false)
        .tick(40.0)
        .probed(40.1, 0, Liveness, false)
        .probed(40.2, 0, Readiness, true)
        .ended(40.3, 0, 0, 143, 40)
        .probed(40.4, 0, Readiness, true);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.0 started [Running]
            event Started: Started container web
            probe Startup
        0.1 answer good [Running] (wake at 30.0)
            probe Readiness
        0.2 answer good [Running, ready] (wake at 5.1)
        5.1 tick [Running, ready] (wake at 30.0)
            probe Readiness
        5.2 answer bad [Running] (wake at 10.1)
            event Unhealthy: Readiness probe failed: 503
        30.0 tick [Running]
            probe Liveness
            probe Readiness
        30.1 answer bad [Running] (wake at 40.0)
            event Unhealthy: Liveness probe failed: 503
        40.0 tick [Running]
            probe Liveness
        40.1 answer bad [Running] (wake at 65.1)
            event Unhealthy: Liveness probe failed: 503
            event Killing: Container web failed liveness probe, will be restarted
            signal 15 to web, kill after 20s
        40.2 answer good [Running] (wake at 65.1)
        40.3 ended with 143 [Running]
            start web#1
        40.4 answer good [Running]
    "#]]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let mut play = Play::new(
        r#"{"restartPolicy":"OnFailure","initContainers":[{"name":"one"},{"name":"side","restartPolicy":"Always"}],
            "containers":[{"name":"work"}]}"#,
    );
    play.started(0.1, 0, 0)
        .ended(1.0, 0, 0, 1, 1)
        .started(1.1, 0, 1)
        .ended(2.0, 0, 1, 0, 1)
        .started(2.1, 1, 0)
        .started(2.2, 2, 0)
        .ended(9.0, 2, 0, 0, 7)
        .ended(9.1, 1, 0, 143, 7);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start one#0
        0.1 started [Pending]
            event Started: Started container one
        1.0 ended with 1 [Pending]
            start one#1
        1.1 started [Pending]
            event Started: Started container one
        2.0 ended with 0 [Pending]
            start side#0
        2.1 started [Pending]
            event Started: Started container side
            start work#0
        2.2 started [Running, ready]
            event Started: Started container work
        9.0 ended with 0 [Running] (wake at 44.0)
            event Killing: The pod is complete
            signal 15 to side, kill after 30s
        9.1 ended with 143 [Succeeded]
    "#]]);
}

#[test]
fn a_pod_that_is_never_restarted_succeeds_or_fails() {
    let spec = r#"{"restartPolicy":"Never","containers":[{"name":"a"},{"name":"b"}]}"#;
    let mut play = Play::new(spec);
    play.started(0.1, 0, 0).started(0.1, 1, 0);
    play.ended(1.0, 0, 0, 0, 1)
        .ended(2.0, 1, 0, 3, 1)
        .observed(5.0, Some(30), false);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start a#0
            start b#0
        0.1 started [Pending]
            event Started: Started container a
        0.1 started [Running, ready]
            event Started: Started container b
        1.0 ended with 0 [Running]
        2.0 ended with 3 [Failed]
        5.0 to be deleted in 30 s [Failed]
            finish
    "#]]);
}

#[test]
fn hooks_after_the_start_come_before_readiness() {
    let mut play = Play::new(
        r#"{"containers":[{"name":"web","lifecycle":{"postStart":{"exec":{"command":["true"]}}}}]}"#,
    );
    play.started(0.1, 0, 0)
        .hooked(1.0, HookKind::PostStart, None);
    play.expect(expect![[r#"
        0.0 begin [Pending]
            start web#0
        0.1 started [Running]
            event Started: Started container web
            hook PostStart within 30s
        1.0 hook done [Running, ready]
    "#]]);
}
