//! What each input changes. What follows from the change and from the time is in `advance`.

use std::time::Duration;

use super::plan::Restart;
use super::probe::{Check, Outcome, ProbeKind, ProbeState, Verdict};
use super::{
    Action, End, HookKind, Input, Mono, Notice, Now, PodState, Response, Run, Stage, Stop, Up,
    Waiting,
};

/// The most of the grace period that is kept back from draining, so that an application with connections that never end
/// (a WebSocket) has time to close them itself.
const MAX_DRAIN_RESERVE: Duration = Duration::from_secs(5);

impl PodState {
    /// Takes in what happened, and decides.
    pub(crate) fn step(&mut self, input: Input, now: Now) -> Response {
        let mut actions = Vec::new();
        self.take(input, now.mono, &mut actions);
        self.advance(now.mono, &mut actions);
        Response {
            actions,
            wake_at: self.wake_at(),
        }
    }

    pub(super) fn take(&mut self, input: Input, now: Mono, actions: &mut Vec<Action>) {
        match input {
            Input::Tick => {}
            Input::Observed {
                deleted,
                drained,
                closed_gates,
            } => {
                self.drained |= drained;
                self.closed_gates = closed_gates;
                if let Some(remaining) = deleted {
                    self.stop_within(remaining, now);
                }
            }
            Input::Removed => {
                self.drained = true;
                self.stop_within(self.plan.grace, now);
            }
            Input::Started {
                container,
                run,
                started_at,
            } => self.started(container, run, started_at, now, actions),
            Input::NotStarted {
                container,
                run,
                why,
            } => self.not_started(container, run, why, now, actions),
            Input::Ended {
                container,
                run,
                end,
            } => self.ended(container, run, end, now, actions),
            Input::Probed {
                container,
                run,
                kind,
                outcome,
            } => self.probed(container, run, kind, outcome, now, actions),
            Input::Hooked {
                container,
                run,
                hook,
                error,
            } => self.hooked(container, run, hook, error, now, actions),
        }
    }

    /// A second wish to end the pod can only bring the end nearer.
    fn stop_within(&mut self, remaining: Duration, now: Mono) {
        let deadline = now + remaining.min(self.plan.grace);
        let deadline = self
            .stop
            .map_or(deadline, |stop| stop.deadline.min(deadline));
        let drains = match self.stop {
            Some(stop) => stop.drain_until.is_some(),
            None => self.plan.drain,
        };
        let reserve = (self.plan.grace / 4).min(MAX_DRAIN_RESERVE);
        self.stop = Some(Stop {
            deadline,
            drain_until: drains.then(|| deadline.saturating_sub(reserve)),
        });
    }

    fn started(
        &mut self,
        container: usize,
        run: u32,
        started_at: jiff::Timestamp,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let (Some(plan), Some(state)) = (
            self.plan.containers.get(container),
            self.containers.get_mut(container),
        ) else {
            return;
        };
        if !matches!(state.run, Run::Starting { run: starting, .. } if starting == run) {
            return;
        }
        state.start_failures = 0;
        let up = Up::new(
            &plan.probes,
            run,
            started_at,
            now,
            Duration::ZERO,
            plan.post_start.is_none(),
        );
        actions.push(Notice::normal(
            "Started",
            format!("Started container {}", plan.name),
        ));
        if plan.post_start.is_some() {
            actions.push(Action::Hook {
                container,
                run,
                hook: HookKind::PostStart,
                timeout: self.plan.grace,
            });
        }
        state.run = Run::Up(Box::new(up));
    }

    fn not_started(
        &mut self,
        container: usize,
        run: u32,
        mut why: Waiting,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.containers.get_mut(container) else {
            return;
        };
        let Run::Starting {
            run: starting,
            why: before,
        } = &state.run
        else {
            return;
        };
        if *starting != run {
            return;
        }
        let message = why.message.clone().unwrap_or_default();
        actions.push(Notice::warning("Failed", format!("Error: {message}")));
        if why.reason == "ErrImagePull"
            && before.reason.ends_with("Pull") | before.reason.ends_with("PullBackOff")
        {
            why.reason = "ImagePullBackOff";
        }
        state.start_failures = state.start_failures.saturating_add(1);
        let until = now + self.plan.backoff.delay(state.start_failures);
        state.run = Run::Waiting { why, until };
    }

    fn ended(
        &mut self,
        container: usize,
        run: u32,
        end: End,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let last = self.stop.is_some() || self.is_complete();
        let (Some(plan), Some(state)) = (
            self.plan.containers.get(container),
            self.containers.get_mut(container),
        ) else {
            return;
        };
        if state.up().is_none_or(|up| up.run != run) {
            return;
        }
        let again = match plan.restart {
            Restart::Always => true,
            Restart::OnFailure => end.exit_code != 0,
            Restart::Never => false,
        };
        if !again || last {
            state.run = Run::Down { run, end };
            return;
        }
        if end.uptime >= self.plan.backoff.reset_after {
            state.crashes = 0;
        }
        state.crashes = state.crashes.saturating_add(1);
        state.last = Some(end);
        // The first end in a row is forgiven: an instance that was killed is back at once.
        if state.crashes == 1 {
            state.run = Run::Waiting {
                why: Waiting::creating(),
                until: now,
            };
            return;
        }
        let delay = self.plan.backoff.delay(state.crashes - 1);
        let message = format!(
            "back-off {} restarting failed container {}",
            shown(delay),
            plan.name
        );
        actions.push(Notice::warning(
            "BackOff",
            format!("Back-off restarting failed container {}", plan.name),
        ));
        state.run = Run::Waiting {
            why: Waiting {
                reason: "CrashLoopBackOff",
                message: Some(message),
            },
            until: now + delay,
        };
    }

    fn probed(
        &mut self,
        container: usize,
        run: u32,
        kind: ProbeKind,
        outcome: Outcome,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let (Some(plan), Some(state)) = (
            self.plan.containers.get(container),
            self.containers.get_mut(container),
        ) else {
            return;
        };
        let Run::Up(up) = &mut state.run else {
            return;
        };
        let position = plan.probes.iter().position(|p| p.kind == kind);
        let (Some(probe), Some(Some(probed))) = (
            position.and_then(|n| plan.probes.get(n)),
            position.and_then(|n| up.probes.get_mut(n)),
        ) else {
            return;
        };
        if up.run != run || up.ending.is_some() {
            return;
        }
        let verdict = probed.record(probe, outcome, now);
        let word = kind.word();
        match verdict {
            None => {}
            Some(Verdict::Passed) => match kind {
                ProbeKind::Startup => up.started = true,
                ProbeKind::Readiness => up.ready = true,
                ProbeKind::Liveness => {}
            },
            Some(Verdict::Unhealthy(why)) => {
                actions.push(Notice::warning(
                    "Unhealthy",
                    format!("{word} probe failed: {why}"),
                ));
            }
            Some(Verdict::Failed(why)) => {
                actions.push(Notice::warning(
                    "Unhealthy",
                    format!("{word} probe failed: {why}"),
                ));
                if kind == ProbeKind::Readiness {
                    up.ready = false;
                    return;
                }
                let grace = probe.grace.unwrap_or(self.plan.grace);
                let name = &plan.name;
                let message = format!(
                    "Container {name} failed {} probe, will be restarted",
                    word.to_lowercase()
                );
                self.end_container(container, now + grace, &message, now, actions);
            }
        }
    }

    fn hooked(
        &mut self,
        container: usize,
        run: u32,
        hook: HookKind,
        error: Option<String>,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.containers.get_mut(container) else {
            return;
        };
        let Run::Up(up) = &mut state.run else {
            return;
        };
        if up.run != run {
            return;
        }
        match hook {
            HookKind::PostStart => {
                up.hooked = error.is_none();
                if let Some(error) = error {
                    actions.push(Notice::warning(
                        "FailedPostStartHook",
                        format!("PostStart hook failed: {error}"),
                    ));
                    let deadline = now + self.plan.grace;
                    let message = "Container failed its postStart hook, will be restarted";
                    self.end_container(container, deadline, message, now, actions);
                }
            }
            HookKind::PreStop => {
                if let Some(error) = error {
                    actions.push(Notice::warning(
                        "FailedPreStopHook",
                        format!("PreStop hook failed: {error}"),
                    ));
                }
                if up.ending.is_some_and(|ending| ending.stage == Stage::Hook) {
                    self.signal(container, now, actions);
                }
            }
        }
    }
}

impl Up {
    /// A run that is `age` old.
    pub(super) fn new(
        probes: &[super::probe::ProbePlan],
        run: u32,
        started_at: jiff::Timestamp,
        now: Mono,
        age: Duration,
        hooked: bool,
    ) -> Self {
        // What cannot be asked fails closed where that keeps traffic away, and is left out where it would only kill.
        let asked = |probe: &super::probe::ProbePlan| {
            probe.kind == ProbeKind::Readiness || !matches!(probe.check, Check::Unsupported { .. })
        };
        let has = |kind| probes.iter().any(|p| p.kind == kind && asked(p));
        Self {
            run,
            started_at,
            started: !has(ProbeKind::Startup),
            ready: !has(ProbeKind::Readiness),
            hooked,
            probes: probes
                .iter()
                .map(|p| asked(p).then(|| ProbeState::new(p, now, age, None)))
                .collect(),
            ending: None,
        }
    }

    /// Whether the pod may get traffic as far as this container is concerned.
    pub(super) fn is_ready(&self) -> bool {
        self.started && self.hooked && self.ready && self.ending.is_none()
    }
}

impl Waiting {
    /// Before the first start.
    pub(crate) fn creating() -> Self {
        Self {
            reason: "ContainerCreating",
            message: None,
        }
    }
}

fn shown(duration: Duration) -> String {
    let duration = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    serin_api::units::human_duration(duration)
}
