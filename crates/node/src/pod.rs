//! The life of a pod as a state machine: what happened goes in, what is to be done comes out.
//!
//! [`PodState::step`] is the one transition. It is total (news of a run that is over are ignored), knows the time only as a
//! value, and says when it wants to be asked again. The actor carries out its [`Action`]s and brings back what came of them.
//!
//! Absent on purpose: this folder starts nothing, speaks with nobody and reads no clock.

mod advance;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod resume;
pub(crate) mod status;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use plan::PodPlan;
use probe::{Outcome, ProbeKind, ProbeState};

/// A moment on the monotonic clock, as the time since the actor of the pod began.
pub(crate) type Mono = Duration;

/// The time at which something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For everything that is counted.
    pub(crate) mono: Mono,
    /// For everything that is shown.
    pub(crate) wall: Timestamp,
}

/// A pod on this node.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    pub(crate) plan: PodPlan,
    /// In the order of the plan.
    pub(crate) containers: Vec<ContainerState>,
    /// Once the pod is to end.
    pub(crate) stop: Option<Stop>,
    /// Whether the gateway has said that no request is in flight.
    pub(crate) drained: bool,
    /// The readiness gates that are not true.
    pub(crate) closed_gates: Vec<String>,
    /// Whether [`Action::Finish`] was given.
    pub(crate) finished: bool,
}

/// The end of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// When SIGKILL is due.
    pub(crate) deadline: Mono,
    /// Until when the gateway is waited for at most; `None` once that is over.
    pub(crate) drain_until: Option<Mono>,
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct ContainerState {
    pub(crate) run: Run,
    /// The number of the next run, from 0.
    pub(crate) next_run: u32,
    /// Ends in a row that count for the back-off.
    pub(crate) crashes: u32,
    /// Starts in a row that failed.
    pub(crate) start_failures: u32,
    /// The last end before the present run.
    pub(crate) last: Option<End>,
}

/// Where a container is.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// It is to be started, not before `until`.
    Waiting { why: Waiting, until: Mono },
    /// It is being started; what it waited for before is shown until it runs.
    Starting { run: u32, why: Waiting },
    /// It runs.
    Up(Box<Up>),
    /// It has ended and stays so.
    Down { run: u32, end: End },
}

/// Why a container does not run yet, as its status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: Option<String>,
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub(crate) run: u32,
    pub(crate) started_at: Timestamp,
    /// Whether its startup probe has passed, or it has none.
    pub(crate) started: bool,
    /// Whether its readiness probe passes, or it has none.
    pub(crate) ready: bool,
    /// Whether its postStart hook is done, or it has none.
    pub(crate) hooked: bool,
    /// By position in the plan; `None` for one that is not asked.
    pub(crate) probes: Vec<Option<ProbeState>>,
    pub(crate) ending: Option<Ending>,
}

/// A container that is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) deadline: Mono,
    pub(crate) stage: Stage,
}

/// How far the end of a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its preStop hook runs.
    Hook,
    /// It has its signal; its shim sends SIGKILL at `kill_at`.
    Signalled { kill_at: Mono },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    /// The last lines of its output, when it failed.
    pub(crate) message: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
    pub(crate) uptime: Duration,
}

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HookKind {
    PostStart,
    PreStop,
}

/// What happened. `container` is a position in the plan.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The object was seen.
    Observed {
        /// When it is to be deleted: what is left of its grace period.
        deleted: Option<Duration>,
        /// Whether the gateway has said that no request is in flight.
        drained: bool,
        /// The readiness gates that are not true.
        closed_gates: Vec<String>,
    },
    /// The object is gone.
    Removed,
    /// A run was started.
    Started {
        container: usize,
        run: u32,
        started_at: Timestamp,
    },
    /// A run could not be started.
    NotStarted {
        container: usize,
        run: u32,
        why: Waiting,
    },
    /// A run has ended, and everything that came of it.
    Ended {
        container: usize,
        run: u32,
        end: End,
    },
    /// A probe was answered.
    Probed {
        container: usize,
        run: u32,
        kind: ProbeKind,
        outcome: Outcome,
    },
    /// A hook is done; `error` when it failed.
    Hooked {
        container: usize,
        run: u32,
        hook: HookKind,
        error: Option<String>,
    },
    /// Nothing but time has passed.
    Tick,
}

/// What is to be done. `container` is a position in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a run; comes back as [`Input::Started`] or [`Input::NotStarted`], and then as [`Input::Ended`].
    Start { container: usize, run: u32 },
    /// Ask a probe; comes back as [`Input::Probed`].
    Probe {
        container: usize,
        run: u32,
        kind: ProbeKind,
    },
    /// Run a hook; comes back as [`Input::Hooked`].
    Hook {
        container: usize,
        run: u32,
        hook: HookKind,
        timeout: Duration,
    },
    /// Ask a run to end: `signal` now, SIGKILL after `grace`.
    Stop {
        container: usize,
        run: u32,
        signal: i32,
        grace: Duration,
    },
    /// Write an event.
    Tell(Notice),
    /// Nothing of the pod runs any more and it is to be deleted: delete the object and everything on disk.
    Finish,
}

/// An event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What comes out of a step.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// In order.
    pub(crate) actions: Vec<Action>,
    /// When to come back with [`Input::Tick`] if nothing happens; `None`: no need to.
    pub(crate) wake_at: Option<Mono>,
}

impl PodState {
    /// Whether anything of it runs, or may.
    pub(crate) fn is_running(&self) -> bool {
        self.containers
            .iter()
            .any(|c| matches!(c.run, Run::Starting { .. } | Run::Up(_)))
    }
}

impl ContainerState {
    fn up(&self) -> Option<&Up> {
        match &self.run {
            Run::Up(up) => Some(up),
            _ => None,
        }
    }
}

impl Notice {
    fn normal(reason: &'static str, message: String) -> Action {
        Action::Tell(Self {
            warning: false,
            reason,
            message,
        })
    }

    fn warning(reason: &'static str, message: String) -> Action {
        Action::Tell(Self {
            warning: true,
            reason,
            message,
        })
    }
}
