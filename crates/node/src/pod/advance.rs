//! What follows from the state and the time: starts that are due, probes to ask, the order of the end.

use std::time::Duration;

use super::plan::Role;
use super::probe::ProbeKind;
use super::{Action, Ending, HookKind, Mono, Notice, PodState, Run, Stage, Waiting};

/// What an application has between its signal and SIGKILL at the least, also when draining and hooks took all of the grace
/// period. The same as in Kubernetes.
const MIN_SIGNAL_GRACE: Duration = Duration::from_secs(2);
/// How long after SIGKILL a container that still is not gone is asked to end again.
const REPEAT: Duration = Duration::from_secs(5);

impl PodState {
    /// Does what is due.
    pub(super) fn advance(&mut self, now: Mono, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            self.advance_stop(now, actions);
        } else if self.is_complete() {
            self.end_sidecars(now, actions);
        } else {
            self.start_due(now, actions);
            self.ask_probes(now, actions);
        }
        self.advance_endings(now, actions);
        if self.stop.is_some() && !self.is_running() && !self.finished {
            self.finished = true;
            actions.push(Action::Finish);
        }
    }

    /// When time alone will change something.
    pub(super) fn wake_at(&self) -> Option<Mono> {
        let goes_on = self.stop.is_none() && !self.is_complete();
        let mut wakes = Vec::new();
        wakes.extend(self.stop.and_then(|stop| stop.drain_until));
        for (n, container) in self.containers.iter().enumerate() {
            match &container.run {
                Run::Waiting { until, .. } if goes_on && self.may_start(n) => {
                    wakes.push(*until);
                }
                Run::Up(up) => match up.ending {
                    Some(ending) => wakes.push(ending.wake_at()),
                    None if goes_on => {
                        wakes.extend(self.probes_to_ask(n).filter_map(|(_, at)| at));
                    }
                    None => {}
                },
                _ => {}
            }
        }
        wakes.into_iter().min()
    }

    fn start_due(&mut self, now: Mono, actions: &mut Vec<Action>) {
        for n in 0..self.containers.len() {
            let due = self.may_start(n);
            let Some(container) = self.containers.get_mut(n) else {
                continue;
            };
            match &container.run {
                Run::Waiting { why, until } if due && *until <= now => {
                    let run = container.next_run;
                    container.next_run += 1;
                    container.run = Run::Starting {
                        run,
                        why: why.clone(),
                    };
                    actions.push(Action::Start { container: n, run });
                }
                _ => {}
            }
        }
    }

    /// Whether all that must come before a container has come.
    pub(super) fn may_start(&self, n: usize) -> bool {
        self.plan
            .containers
            .iter()
            .zip(&self.containers)
            .take(n)
            .all(|(plan, state)| match plan.role {
                Role::Main => true,
                Role::Sidecar => state.up().is_some_and(|up| up.started && up.hooked),
                Role::Init => matches!(&state.run, Run::Down { end, .. } if end.exit_code == 0),
            })
    }

    /// Sidecars keep no pod alive whose work is done.
    fn end_sidecars(&mut self, now: Mono, actions: &mut Vec<Action>) {
        let deadline = now + self.plan.grace;
        for n in 0..self.containers.len() {
            let message = "The pod is complete";
            self.end_container(n, deadline, message, now, actions);
        }
    }

    /// Whether all that the pod was for has ended for good.
    pub(super) fn is_complete(&self) -> bool {
        let mut pairs = self.plan.containers.iter().zip(&self.containers);
        self.has_failed_to_begin()
            || pairs.all(|(plan, state)| {
                plan.role != Role::Main || matches!(state.run, Run::Down { .. })
            })
    }

    /// Whether an init container has failed for good.
    pub(super) fn has_failed_to_begin(&self) -> bool {
        let mut pairs = self.plan.containers.iter().zip(&self.containers);
        pairs.any(|(plan, state)| {
            plan.role == Role::Init
                && matches!(&state.run, Run::Down { end, .. } if end.exit_code != 0)
        })
    }

    fn ask_probes(&mut self, now: Mono, actions: &mut Vec<Action>) {
        for n in 0..self.containers.len() {
            let due: Vec<usize> = self
                .probes_to_ask(n)
                .filter(|(_, at)| at.is_some_and(|at| at <= now))
                .map(|(position, _)| position)
                .collect();
            let (Some(plan), Some(state)) =
                (self.plan.containers.get(n), self.containers.get_mut(n))
            else {
                continue;
            };
            let Run::Up(up) = &mut state.run else {
                continue;
            };
            for position in due {
                if let (Some(probe), Some(Some(state))) =
                    (plan.probes.get(position), up.probes.get_mut(position))
                {
                    state.launch(probe, now);
                    actions.push(Action::Probe {
                        container: n,
                        run: up.run,
                        kind: probe.kind,
                    });
                }
            }
        }
    }

    /// Until the startup probe has passed only it is asked, and then it no more.
    fn probes_to_ask(&self, n: usize) -> impl Iterator<Item = (usize, Option<Mono>)> {
        let plan = self.plan.containers.get(n);
        let up = self.containers.get(n).and_then(super::ContainerState::up);
        plan.zip(up)
            .filter(|(_, up)| up.ending.is_none() && up.hooked)
            .into_iter()
            .flat_map(|(plan, up)| {
                let probes = plan.probes.iter().zip(&up.probes).enumerate();
                probes.filter_map(|(position, (probe, state))| {
                    let wanted = (probe.kind == ProbeKind::Startup) != up.started;
                    state
                        .as_ref()
                        .filter(|_| wanted)
                        .map(|state| (position, state.due_at()))
                })
            })
    }

    /// Nothing is in flight to a pod that does not run.
    fn serves(&self) -> bool {
        let mut pairs = self.plan.containers.iter().zip(&self.containers);
        pairs.any(|(plan, state)| plan.role == Role::Main && state.up().is_some())
    }

    fn advance_stop(&mut self, now: Mono, actions: &mut Vec<Action>) {
        let over = self.drained || !self.serves();
        let Some(stop) = &mut self.stop else {
            return;
        };
        if stop.drain_until.is_some_and(|until| now < until) && !over {
            return;
        }
        stop.drain_until = None;
        let deadline = stop.deadline;
        for n in 0..self.containers.len() {
            let name = self.plan.containers.get(n).map(|c| c.name.clone());
            let message = format!("Stopping container {}", name.unwrap_or_default());
            self.end_container(n, deadline, &message, now, actions);
        }
    }

    /// Begins the end of a running container, or brings it nearer.
    pub(super) fn end_container(
        &mut self,
        n: usize,
        deadline: Mono,
        message: &str,
        now: Mono,
        actions: &mut Vec<Action>,
    ) {
        let (Some(plan), Some(state)) = (self.plan.containers.get(n), self.containers.get_mut(n))
        else {
            return;
        };
        let Run::Up(up) = &mut state.run else {
            return;
        };
        if let Some(ending) = &mut up.ending {
            let sooner = deadline.max(now + MIN_SIGNAL_GRACE);
            ending.deadline = ending.deadline.min(deadline);
            if let Stage::Signalled { kill_at } = ending.stage
                && sooner < kill_at
            {
                self.signal(n, now, actions);
            }
            return;
        }
        actions.push(Notice::normal("Killing", message.to_owned()));
        up.ending = Some(Ending {
            deadline,
            stage: Stage::Hook,
        });
        let timeout = deadline.saturating_sub(now);
        if plan.pre_stop.is_some() && !timeout.is_zero() {
            actions.push(Action::Hook {
                container: n,
                run: up.run,
                hook: HookKind::PreStop,
                timeout,
            });
        } else {
            self.signal(n, now, actions);
        }
    }

    /// Gives the signal; the shim follows with SIGKILL by itself, whatever becomes of the node.
    pub(super) fn signal(&mut self, n: usize, now: Mono, actions: &mut Vec<Action>) {
        let (Some(plan), Some(state)) = (self.plan.containers.get(n), self.containers.get_mut(n))
        else {
            return;
        };
        let Run::Up(up) = &mut state.run else {
            return;
        };
        let Some(ending) = &mut up.ending else {
            return;
        };
        let grace = ending.deadline.saturating_sub(now).max(MIN_SIGNAL_GRACE);
        ending.stage = Stage::Signalled {
            kill_at: now + grace,
        };
        actions.push(Action::Stop {
            container: n,
            run: up.run,
            signal: plan.stop_signal,
            grace,
        });
    }

    fn advance_endings(&mut self, now: Mono, actions: &mut Vec<Action>) {
        for n in 0..self.containers.len() {
            let Some(Run::Up(up)) = self.containers.get_mut(n).map(|c| &mut c.run) else {
                continue;
            };
            let Some(ending) = &mut up.ending else {
                continue;
            };
            if now < ending.wake_at() {
                continue;
            }
            if ending.stage == Stage::Hook {
                self.signal(n, now, actions);
            } else {
                ending.stage = Stage::Signalled { kill_at: now };
                actions.push(Action::Stop {
                    container: n,
                    run: up.run,
                    signal: rustix::process::Signal::KILL.as_raw(),
                    grace: Duration::ZERO,
                });
            }
        }
    }
}

impl Ending {
    fn wake_at(self) -> Mono {
        match self.stage {
            Stage::Hook => self.deadline,
            Stage::Signalled { kill_at } => kill_at + REPEAT,
        }
    }
}

impl Waiting {
    /// While init containers come first.
    pub(super) fn initializing() -> Self {
        Self {
            reason: "PodInitializing",
            message: None,
        }
    }
}
