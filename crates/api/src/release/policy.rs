//! The checked form of a policy, with defaults filled in.

use jiff::SignedDuration;

use crate::rollout::AnalysisRef;
use crate::units::CountOrPercent;

/// What governs the releases of a Rollout beyond its spec. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Whether a revision that was taken back is held when it is asked for again.
    pub hold_rejected: bool,
    /// Whether going back to a revision that was promoted before skips all steps.
    pub instant: bool,
    /// The instances of the last good revision that are kept; `None` for none.
    pub warm: Option<Warm>,
    /// How a new revision is watched before the old one goes; `None` for not at all.
    pub bake: Option<Bake>,
}

/// Instances that are kept for going back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warm {
    /// So many.
    pub replicas: CountOrPercent,
    /// For so long from the end of the release.
    pub duration: SignedDuration,
}

/// How a new revision is watched while the old one stands by.
#[derive(Clone, Debug, PartialEq)]
pub struct Bake {
    /// For so long.
    pub duration: SignedDuration,
    /// What is measured; it must be good too.
    pub analysis: Option<AnalysisRef>,
}
