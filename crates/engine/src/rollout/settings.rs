//! What every revision carries beside its template: how long an instance must be ready, and the labels and annotations that
//! its pods have for a time.

use serin_api::rollout::{PodMetadata, Strategy};
use serin_api::units::RevisionHash;

use super::Action;
use super::observed::Revision;
use super::planner::Planner;

impl Planner<'_> {
    /// Carries changed settings to the revisions that are there, old ones too.
    pub(super) fn carry_settings(&mut self) {
        let observed = self.observed;
        let seconds = u32::try_from(self.desired.min_ready.as_secs()).unwrap_or(u32::MAX);
        for revision in &observed.revisions {
            if revision.min_ready_seconds != seconds {
                self.actions.push(Action::SetMinReady {
                    revision: revision.hash.clone(),
                    seconds,
                });
            }
            let metadata = self.metadata_of(revision);
            if revision.metadata.as_ref() != Some(&metadata) {
                self.actions.push(Action::SetMetadata {
                    revision: revision.hash.clone(),
                    metadata,
                });
            }
        }
    }

    /// The labels and annotations of a revision for the part that it plays. What its template says itself stays.
    fn metadata_of(&self, revision: &Revision) -> PodMetadata {
        let (on_trial, stable) = match &self.desired.strategy {
            Strategy::Canary(canary) => (&canary.canary_metadata, &canary.stable_metadata),
            Strategy::BlueGreen(sides) => (&sides.preview_metadata, &sides.active_metadata),
        };
        let users = self.stable().unwrap_or_else(|| self.current.clone());
        let mut metadata = if revision.hash == users {
            stable.clone()
        } else if revision.hash == self.current {
            on_trial.clone()
        } else {
            PodMetadata::default()
        };
        if let Some(own) = &revision.template.metadata {
            let labels = own.labels.iter().flatten();
            labels.for_each(|(key, _)| drop(metadata.labels.remove(key)));
            let annotations = own.annotations.iter().flatten();
            annotations.for_each(|(key, _)| drop(metadata.annotations.remove(key)));
        }
        metadata
    }

    /// The revision from whose machines a new one keeps away, when the strategy asks for it.
    pub(super) fn apart_from(&self) -> Option<RevisionHash> {
        let wished = match &self.desired.strategy {
            Strategy::Canary(canary) => canary.anti_affinity.is_some(),
            Strategy::BlueGreen(sides) => sides.anti_affinity.is_some(),
        };
        self.stable()
            .filter(|stable| wished && *stable != self.current)
    }
}
