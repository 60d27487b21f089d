//! How a Rollout of the simulator is released.

use serin_api::release::Policy;

use super::objects::policy;

/// How a Rollout of the simulator is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A canary with a route.
    Traffic,
    /// A canary by numbers of instances.
    Replicas,
    /// Blue-green.
    BlueGreen,
    /// A canary with a route that steps put rules before, instances apart from the share, and steps of several kinds.
    Managed,
    /// A canary with a route whose stable instances shrink with their share.
    Dynamic,
    /// A canary with a route whose two Services take turns.
    PingPong,
    /// A canary with a route and an experiment between its steps.
    Experiment,
    /// A rolling update in batches, each with its check.
    Batches,
    /// A canary with a route whose instances read a ConfigMap, which is part of its revisions.
    Configured,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Traffic,
        Self::Replicas,
        Self::BlueGreen,
        Self::Managed,
        Self::Dynamic,
        Self::PingPong,
        Self::Experiment,
        Self::Batches,
        Self::Configured,
    ];

    /// What it asks for beyond its spec.
    pub fn policy(self) -> Policy {
        policy(self, 0)
    }

    pub(super) fn is_routed(self) -> bool {
        !self.is_by_replicas() && self != Self::BlueGreen
    }

    /// Whether the numbers of instances make the split.
    pub(super) fn is_by_replicas(self) -> bool {
        matches!(self, Self::Replicas | Self::Batches)
    }
}
