//! `workloadRef`: the instances of the workload whose template is used, while the Rollout takes over from it.

use serin_api::rollout::ScaleDown;

use super::Action;
use super::planner::Planner;

impl Planner<'_> {
    /// Scales the referenced workload down as its `scaleDown` says.
    pub(super) fn scale_workload(&mut self) {
        let (Some(wish), Some(seen)) = (&self.desired.workload, &self.observed.workload) else {
            self.next.workload_observed_generation = None;
            return;
        };
        self.next.workload_observed_generation = Some(seen.generation.to_string());
        let Some(has) = seen.replicas.filter(|has| *has > 0) else {
            return;
        };
        let available = self.available(&self.current);
        let to = match wish.scale_down {
            ScaleDown::OnSuccess | ScaleDown::Progressively if self.stable().is_some() => 0,
            // Both together hold what the Rollout wants. Before its first instance is available nothing goes.
            ScaleDown::Progressively if available > 0 => {
                has.min(self.desired.replicas.saturating_sub(available))
            }
            _ => has,
        };
        if to != has {
            self.actions.push(Action::ScaleWorkload { to });
        }
    }
}
