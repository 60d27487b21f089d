//! Where a workload stands, in one word, the same for Rollouts and Deployments.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use serin_api::conditions;
use serin_api::keys::condition;
use serin_api::rollout::{Rollout, RolloutPhase};
use serin_api::waiting::WaitingOn;

use super::objects::Workload;

/// One word for where a workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The users are on the version that is wanted.
    Healthy,
    /// It gets on.
    Progressing,
    /// It waits for a person or for time.
    Paused,
    /// It does not get on, or was taken back.
    Degraded,
}

impl Health {
    /// As the status of a Rollout spells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Degraded => "Degraded",
        }
    }
}

/// Where a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// In one word.
    pub(crate) health: Health,
    /// Why, for a person.
    pub(crate) message: Option<String>,
    /// Whether the version that is wanted was taken back.
    pub(crate) taken_back: bool,
    /// Whether the controller has not yet looked at the last change; then nothing above is final.
    pub(crate) stale: bool,
}

impl Standing {
    /// Reads it off the status.
    pub(crate) fn of(workload: &Workload) -> Self {
        match workload {
            Workload::Rollout(rollout) => of_rollout(rollout),
            Workload::Deployment(deployment) => of_deployment(deployment),
        }
    }

    fn unseen() -> Self {
        Self {
            health: Health::Progressing,
            message: Some("the controller has not looked at the last change yet".to_owned()),
            taken_back: false,
            stale: true,
        }
    }
}

fn of_rollout(rollout: &Rollout) -> Standing {
    let Some(status) = &rollout.status else {
        return Standing::unseen();
    };
    let generation = rollout.metadata.generation.map(|g| g.to_string());
    let seen = generation.is_none() || status.observed_generation == generation;
    // A retry clears `abort` without a new generation: until the controller has looked, the rest still tells of the abort.
    let retried = !status.abort && matches!(status.waiting_on, Some(WaitingOn::NewRevision { .. }));
    if !seen || retried {
        return Standing::unseen();
    }
    let health = match status.phase {
        Some(RolloutPhase::Healthy) => Health::Healthy,
        Some(RolloutPhase::Degraded) => Health::Degraded,
        Some(RolloutPhase::Paused) => Health::Paused,
        Some(RolloutPhase::Progressing) | None => Health::Progressing,
    };
    Standing {
        health,
        message: status.message.clone().filter(|m| !m.is_empty()),
        taken_back: status.abort,
        stale: false,
    }
}

fn of_deployment(deployment: &Deployment) -> Standing {
    let spec = deployment.spec.as_ref();
    let Some(status) = &deployment.status else {
        return Standing::unseen();
    };
    if status.observed_generation < deployment.metadata.generation {
        return Standing::unseen();
    }
    let told = |health, message: Option<String>| Standing {
        health,
        message,
        taken_back: false,
        stale: false,
    };
    let all = status.conditions.as_deref().unwrap_or_default();
    if let Some(held) = conditions::get(all, condition::HELD).filter(|c| c.status == "True") {
        return Standing {
            taken_back: true,
            ..told(Health::Degraded, held.message.clone())
        };
    }
    let progress = conditions::get(all, "Progressing");
    if let Some(stuck) =
        progress.filter(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
    {
        return told(Health::Degraded, stuck.message.clone());
    }
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    match missing(status, desired) {
        Some(why) if spec.and_then(|spec| spec.paused) == Some(true) => {
            told(Health::Paused, Some(format!("paused: {why}")))
        }
        Some(why) => told(Health::Progressing, Some(why)),
        None => told(Health::Healthy, None),
    }
}

/// What a Deployment still lacks, in the order in which it comes.
fn missing(status: &DeploymentStatus, desired: i32) -> Option<String> {
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let old = status.replicas.unwrap_or(0) - updated;
    if updated < desired {
        Some(format!(
            "{updated} of {desired} instances are of the new version"
        ))
    } else if old > 0 {
        Some(format!("{old} of the old version are still there"))
    } else if available < updated {
        Some(format!(
            "{available} of {updated} new instances are available"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(generation: i64, status: Value) -> Standing {
        let object = json!({"metadata": {"name": "web", "generation": generation},
            "spec": {"replicas": 3, "selector": {}, "template": {}}, "status": status});
        Standing::of(&Workload::Deployment(
            serde_json::from_value(object).unwrap(),
        ))
    }

    fn rollout(generation: i64, status: Value) -> Standing {
        let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "shop", "generation": generation}, "spec": {}, "status": status});
        Standing::of(&Workload::Rollout(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn a_deployment_says_what_it_lacks() {
        let status = |updated, total, available| {
            json!({"observedGeneration": 2, "updatedReplicas": updated, "replicas": total,
                   "availableReplicas": available})
        };
        assert_eq!(deployment(2, status(3, 3, 3)).health, Health::Healthy);
        for (status, why) in [
            (status(1, 4, 3), "1 of 3 instances are of the new version"),
            (status(3, 4, 3), "1 of the old version are still there"),
            (status(3, 3, 2), "2 of 3 new instances are available"),
        ] {
            let standing = deployment(2, status);
            assert_eq!(standing.health, Health::Progressing);
            assert_eq!(standing.message.as_deref(), Some(why));
        }
        assert!(deployment(3, status(3, 3, 3)).stale);
    }

    #[test]
    fn a_stuck_deployment_is_degraded() {
        let standing = deployment(
            2,
            json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False",
                   "reason": "ProgressDeadlineExceeded", "message": "timed out"}]}),
        );
        assert_eq!(standing.health, Health::Degraded);
        assert_eq!(standing.message.as_deref(), Some("timed out"));
    }

    #[test]
    fn a_deployment_whose_version_is_held_is_degraded_and_taken_back() {
        let held =
            json!({"type": "serin.dev/Held", "status": "True", "message": "held: taken back"});
        let standing = deployment(2, json!({"observedGeneration": 2, "conditions": [held]}));
        assert_eq!(
            (standing.health, standing.taken_back),
            (Health::Degraded, true)
        );
        assert_eq!(standing.message.as_deref(), Some("held: taken back"));
    }

    #[test]
    fn a_rollout_that_was_retried_is_not_degraded_any_more() {
        let taken_back = |abort: bool| {
            json!({"observedGeneration": "4", "phase": "Degraded", "abort": abort,
                   "waitingOn": {"type": "NewRevision", "why": "errors"}})
        };
        assert_eq!(rollout(4, taken_back(true)).health, Health::Degraded);
        assert!(rollout(4, taken_back(true)).taken_back);
        assert!(rollout(4, taken_back(false)).stale);
        assert!(rollout(5, taken_back(true)).stale);
    }
}
