//! The status of a Pod object, as it follows from the state.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState as StateOfApi, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serin_api::conditions;

use super::plan::{ContainerPlan, Role};
use super::{ContainerState, End, PodState, Run, Waiting};

/// What the status tells beside the state.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: String,
    pub(crate) pod_ip: String,
    pub(crate) host_ip: String,
    /// When the node first saw the pod.
    pub(crate) start_time: Timestamp,
    /// The generation of the object that was seen.
    pub(crate) generation: Option<i64>,
}

/// The part of the status that the node writes. Its conditions have no transition times yet: [`merge`] gives them.
pub(crate) fn render(state: &PodState, identity: &Identity) -> PodStatus {
    let pairs = || state.plan.containers.iter().zip(&state.containers);
    let statuses = |main: bool| -> Vec<ContainerStatus> {
        pairs()
            .enumerate()
            .filter(|(_, (plan, _))| (plan.role == Role::Main) == main)
            .map(|(n, (plan, container))| {
                container_status(plan, container, state.may_start(n), &identity.uid)
            })
            .collect()
    };
    let init = statuses(false);
    PodStatus {
        phase: Some(phase(state).to_owned()),
        conditions: Some(pod_conditions(state)),
        container_statuses: Some(statuses(true)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        pod_ip: Some(identity.pod_ip.clone()),
        pod_ips: Some(vec![PodIP {
            ip: identity.pod_ip.clone(),
        }]),
        host_ip: Some(identity.host_ip.clone()),
        host_ips: Some(vec![HostIP {
            ip: identity.host_ip.clone(),
        }]),
        qos_class: Some("BestEffort".into()),
        observed_generation: identity.generation,
        start_time: Some(time(identity.start_time)),
        ..PodStatus::default()
    }
}

/// Puts what the node wrote into a status that others write too: their conditions stay, and so do the times of conditions whose
/// status did not change.
pub(crate) fn merge(ours: &PodStatus, base: &PodStatus, now: Timestamp) -> PodStatus {
    let mut all = base.conditions.clone().unwrap_or_default();
    for condition in ours.conditions.iter().flatten() {
        let mut condition = condition.clone();
        condition.last_transition_time = Some(time(now));
        conditions::set(&mut all, condition);
    }
    PodStatus {
        conditions: Some(all),
        start_time: base.start_time.clone().or_else(|| ours.start_time.clone()),
        qos_class: base.qos_class.clone().or_else(|| ours.qos_class.clone()),
        ephemeral_container_statuses: base.ephemeral_container_statuses.clone(),
        nominated_node_name: base.nominated_node_name.clone(),
        ..ours.clone()
    }
}

/// The phase of a pod, as Kubernetes defines it.
pub(crate) fn phase(state: &PodState) -> &'static str {
    let mut pairs = state.plan.containers.iter().zip(&state.containers);
    if is_over(state) {
        // A sidecar is ended by a signal once the others are done, which says nothing of their work.
        let failed = pairs.any(|(plan, c)| {
            plan.role != Role::Sidecar
                && matches!(&c.run, Run::Down { end, .. } if end.exit_code != 0)
        });
        return if failed { "Failed" } else { "Succeeded" };
    }
    let all_ran = pairs
        .filter(|(plan, _)| plan.role == Role::Main)
        .all(|(_, c)| c.last.is_some() || matches!(c.run, Run::Up(_) | Run::Down { .. }));
    if all_ran { "Running" } else { "Pending" }
}

/// Whether nothing comes after this. A pod whose work is done has its sidecars to end first; one whose work cannot begin has failed.
fn is_over(state: &PodState) -> bool {
    let runs = |c: &ContainerState| matches!(c.run, Run::Up(_) | Run::Starting { .. });
    let is_done = state.is_complete() && !state.containers.iter().any(runs);
    !state.containers.is_empty() && (is_done || state.has_failed_to_begin())
}

fn pod_conditions(state: &PodState) -> Vec<PodCondition> {
    let condition = |kind: &str, why: Option<(&str, String)>| PodCondition {
        type_: kind.into(),
        status: conditions::word(why.is_none()),
        reason: why.as_ref().map(|(reason, _)| (*reason).to_owned()),
        message: why.map(|(_, message)| message).filter(|m| !m.is_empty()),
        ..PodCondition::default()
    };
    let initialized = uninitialized(state);
    let containers = unready(state);
    let ready = if state.stop.is_some() {
        Some(("PodTerminating", "the pod is to be deleted".to_owned()))
    } else if containers.is_some() || state.closed_gates.is_empty() {
        containers.clone()
    } else {
        let gates = state.closed_gates.join(" ");
        Some((
            "ReadinessGatesNotReady",
            format!("readiness gates that are not True: [{gates}]"),
        ))
    };
    vec![
        condition("PodScheduled", None),
        condition("Initialized", initialized),
        condition("ContainersReady", containers),
        condition("Ready", ready),
    ]
}

fn uninitialized(state: &PodState) -> Option<(&'static str, String)> {
    let first_main = state
        .plan
        .containers
        .iter()
        .position(|c| c.role == Role::Main);
    if first_main.is_none_or(|n| state.may_start(n)) {
        return None;
    }
    Some((
        "ContainersNotInitialized",
        "containers with incomplete status: init".into(),
    ))
}

fn unready(state: &PodState) -> Option<(&'static str, String)> {
    if is_over(state) {
        return Some(("PodCompleted", String::new()));
    }
    let names: Vec<_> = state
        .plan
        .containers
        .iter()
        .zip(&state.containers)
        .filter(|(plan, c)| plan.role != Role::Init && !c.up().is_some_and(super::Up::is_ready))
        .map(|(plan, _)| plan.name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    Some((
        "ContainersNotReady",
        format!("containers with unready status: [{}]", names.join(" ")),
    ))
}

fn container_status(
    plan: &ContainerPlan,
    container: &ContainerState,
    may_start: bool,
    uid: &str,
) -> ContainerStatus {
    let id = |run: u32| format!("serin://{uid}/{}/{run}", plan.name);
    let (state, run) = match &container.run {
        Run::Waiting { .. } if !may_start => (waiting(&Waiting::initializing()), None),
        Run::Waiting { why, .. } => (waiting(why), container.next_run.checked_sub(1)),
        Run::Starting { run, why } => (waiting(why), Some(*run)),
        Run::Up(up) => {
            let running = ContainerStateRunning {
                started_at: Some(time(up.started_at)),
            };
            let state = StateOfApi {
                running: Some(running),
                ..StateOfApi::default()
            };
            (state, Some(up.run))
        }
        Run::Down { run, end } => (terminated(end, id(*run)), Some(*run)),
    };
    let last_run = run.and_then(|run| match container.run {
        Run::Waiting { .. } => Some(run),
        _ => run.checked_sub(1),
    });
    ContainerStatus {
        name: plan.name.clone(),
        image: plan.image.clone(),
        image_id: plan.image.clone(),
        container_id: run
            .filter(|_| {
                container.last.is_some()
                    || container.up().is_some()
                    || matches!(container.run, Run::Down { .. })
            })
            .map(id),
        ready: match &container.run {
            Run::Up(up) => up.is_ready(),
            // An init container that is done counts as ready, as in Kubernetes.
            Run::Down { end, .. } => plan.role == Role::Init && end.exit_code == 0,
            _ => false,
        },
        started: Some(container.up().is_some_and(|up| up.started && up.hooked)),
        restart_count: run.and_then(|run| i32::try_from(run).ok()).unwrap_or(0),
        state: Some(state),
        last_state: container
            .last
            .as_ref()
            .map(|end| terminated(end, last_run.map(id).unwrap_or_default())),
        ..ContainerStatus::default()
    }
}

fn waiting(why: &Waiting) -> StateOfApi {
    StateOfApi {
        waiting: Some(ContainerStateWaiting {
            reason: Some(why.reason.to_owned()),
            message: why.message.clone(),
        }),
        ..StateOfApi::default()
    }
}

fn terminated(end: &End, id: String) -> StateOfApi {
    StateOfApi {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id),
            exit_code: end.exit_code,
            signal: end.signal,
            reason: Some(end.reason.clone()),
            message: end.message.clone(),
            started_at: end.started_at.map(time),
            finished_at: Some(time(end.finished_at)),
        }),
        ..StateOfApi::default()
    }
}

/// Objects carry whole seconds; anything finer would look like a change each time.
fn time(at: Timestamp) -> Time {
    conditions::time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
