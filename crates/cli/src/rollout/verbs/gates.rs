//! Answers at the gates of a release.

use serde_json::json;
use serin_api::rollout::{Decision, GateAnswer};
use serin_api::waiting::WaitingOn;

use super::{Change, current_status, rollout, status};
use crate::error::CliError;
use crate::rollout::objects::Workload;

/// Approves or rejects the release at a gate; without a name at the one that it waits for.
pub(crate) fn answer_gate(
    workload: &Workload,
    gate: Option<&str>,
    approved: bool,
    decision: &Decision,
) -> Result<Change, CliError> {
    let verb = if approved { "approve" } else { "reject" };
    let rollout = rollout(workload, verb, "`serin rollout pause` holds it")?;
    let name = workload.reference();
    let now = current_status(rollout);
    let waits_at = match &now.waiting_on {
        Some(WaitingOn::Gate { name }) => Some(name.clone()),
        _ => None,
    };
    let Some(gate) = gate.map(str::to_owned).or(waits_at) else {
        return Err(CliError::failed(format!(
            "{name} waits at no gate: there is nothing to {verb}"
        ))
        .hint("name the gate to answer before it is reached"));
    };
    let Some(revision) = now.current_pod_hash else {
        return Err(CliError::failed(format!("{name} has no revision yet")));
    };
    let answer = GateAnswer {
        revision,
        approved,
        by: decision.by.clone(),
        why: decision.why.clone(),
    };
    let done = if approved { "approved" } else { "rejected" };
    Ok(Change::new(
        vec![status(json!({"gates": {&gate: answer}}))],
        format!("{done} at {gate}"),
    ))
}
