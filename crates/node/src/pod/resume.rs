//! The state of a pod as it is found: new, or left by a node that is gone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};

use super::plan::{PodPlan, Role};
use super::{ContainerState, End, Input, Now, PodState, Response, Run, Up, Waiting};

/// What the directory of a container tells of its latest run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRun {
    pub(crate) run: u32,
    pub(crate) what: FoundWhat,
}

/// What became of a run while no node looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundWhat {
    /// It runs.
    Alive {
        started_at: Timestamp,
        age: Duration,
    },
    /// It has ended.
    Ended(End),
    /// It never came to run.
    Unused,
}

impl PodState {
    /// A pod with the status it had, the runs that were found (in the order of the plan), and what is seen of it now.
    pub(crate) fn resume(
        plan: PodPlan,
        status: &PodStatus,
        found: Vec<Option<FoundRun>>,
        first: Input,
        now: Now,
    ) -> (Self, Response) {
        let done = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let mut ends = Vec::new();
        let containers = plan
            .containers
            .iter()
            .zip(found)
            .enumerate()
            .map(|(n, (plan, found))| {
                let statuses = if plan.role == Role::Main {
                    &status.container_statuses
                } else {
                    &status.init_container_statuses
                };
                let known = statuses.iter().flatten().find(|s| s.name == plan.name);
                let Some(found) = found else {
                    return ContainerState::without_run(known, done);
                };
                if let FoundWhat::Ended(end) = &found.what {
                    ends.push((n, found.run, end.clone()));
                }
                ContainerState::with_run(&plan.probes, known, &found, now)
            })
            .collect();
        let mut state = Self {
            plan,
            containers,
            stop: None,
            drained: false,
            closed_gates: Vec::new(),
            finished: false,
        };
        // What is known comes first, then what ended meanwhile, through the same transitions as before the eyes of a node; only
        // then is anything decided: a pod that is to be deleted is never started first.
        let mut actions = Vec::new();
        state.take(first, now.mono, &mut actions);
        for (container, run, end) in ends {
            let input = Input::Ended {
                container,
                run,
                end,
            };
            state.take(input, now.mono, &mut actions);
        }
        state.advance(now.mono, &mut actions);
        let response = Response {
            actions,
            wake_at: state.wake_at(),
        };
        (state, response)
    }
}

impl ContainerState {
    /// A container of which nothing is on disk: new, or done, or its record was lost with the machine.
    fn without_run(known: Option<&ContainerStatus>, done: bool) -> Self {
        let run = known.and_then(|k| u32::try_from(k.restart_count).ok());
        let terminated = known
            .and_then(|k| k.state.as_ref())
            .and_then(|s| s.terminated.as_ref());
        let last = known
            .and_then(|k| k.last_state.as_ref())
            .and_then(|s| s.terminated.as_ref());
        let ran = known.is_some_and(|k| k.container_id.is_some());
        let run_state = match (terminated, run) {
            (Some(end), Some(run)) if done => Run::Down {
                run,
                end: End::of_status(end),
            },
            _ => Run::Waiting {
                why: Waiting::creating(),
                until: Duration::ZERO,
            },
        };
        Self {
            run: run_state,
            next_run: run.filter(|_| ran).map_or(0, |run| run + 1),
            crashes: 0,
            start_failures: 0,
            last: terminated.or(last).map(End::of_status),
        }
    }

    fn with_run(
        probes: &[super::probe::ProbePlan],
        known: Option<&ContainerStatus>,
        found: &FoundRun,
        now: Now,
    ) -> Self {
        let same = known.filter(|k| u32::try_from(k.restart_count).ok() == Some(found.run));
        let last = same
            .and_then(|k| k.last_state.as_ref())
            .and_then(|s| s.terminated.as_ref());
        let run = match &found.what {
            FoundWhat::Unused => Run::Waiting {
                why: Waiting::creating(),
                until: now.mono,
            },
            FoundWhat::Alive { started_at, age } => {
                let mut up = Up::new(probes, found.run, *started_at, now.mono, *age, true);
                // What was ready stays ready until a probe says otherwise: a restart of the node is no outage.
                up.ready |= same.is_some_and(|k| k.ready);
                up.started |= same.is_some_and(|k| k.started == Some(true));
                for (plan, state) in probes.iter().zip(&mut up.probes) {
                    let passed = match plan.kind {
                        super::probe::ProbeKind::Startup => up.started,
                        super::probe::ProbeKind::Readiness => up.ready,
                        super::probe::ProbeKind::Liveness => false,
                    };
                    if let Some(state) = state {
                        *state = super::probe::ProbeState::new(
                            plan,
                            now.mono,
                            *age,
                            passed.then_some(true),
                        );
                    }
                }
                Run::Up(Box::new(up))
            }
            FoundWhat::Ended(end) => {
                let started = end.started_at.unwrap_or(end.finished_at);
                Run::Up(Box::new(Up::new(
                    probes, found.run, started, now.mono, end.uptime, true,
                )))
            }
        };
        Self {
            run,
            next_run: found.run + 1,
            crashes: found.run,
            start_failures: 0,
            last: last.map(End::of_status),
        }
    }
}

impl End {
    fn of_status(terminated: &ContainerStateTerminated) -> Self {
        Self {
            exit_code: terminated.exit_code,
            signal: terminated.signal,
            reason: terminated.reason.clone().unwrap_or_default(),
            message: terminated.message.clone(),
            started_at: terminated.started_at.as_ref().map(|t| t.0),
            finished_at: terminated
                .finished_at
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            uptime: Duration::ZERO,
        }
    }
}
