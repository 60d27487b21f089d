//! What every plan of an experiment keeps: checked in the property tests and, in production, before a plan is applied.

use serin_api::analysis::AnalysisPhase;

use super::{Action, Observed, Plan};

/// Every rule that a plan would break, in words; empty for a sound plan.
#[must_use]
pub fn broken_rules(observed: &Observed, plan: &Plan) -> Vec<String> {
    let ended = |phase: Option<AnalysisPhase>| phase.is_some_and(AnalysisPhase::is_completed);
    let (was_over, is_over) = (ended(observed.status.phase), ended(plan.status.phase));
    let mut broken = Vec::new();
    for action in &plan.actions {
        match action {
            Action::CreateSet(_) | Action::CreateService(_) if was_over => {
                broken.push("a version would be started after the end".to_owned());
            }
            Action::StartRun { name, .. } if was_over => {
                broken.push(format!("analysis {name} would be started after the end"));
            }
            Action::StartRun { name, .. } if plan.status.available_at.is_none() => {
                let why = "would be started before all versions are available";
                broken.push(format!("analysis {name} {why}"));
            }
            Action::DeleteService { name } if !is_over => {
                broken.push(format!("Service {name} would go before the end"));
            }
            _ => {}
        }
    }
    broken
}
