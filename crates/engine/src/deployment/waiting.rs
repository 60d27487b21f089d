//! What a Deployment waits for, told from its objects alone.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serin_api::waiting::WaitingOn;

use super::revisions::Family;
use super::{Desired, Draft, Observed, lower};
use crate::hash;
use crate::workload::ReplicaSetView;

/// What a Deployment waits for. `replica_sets` are at least its own; others are passed over.
pub fn waiting_on(deployment: &Deployment, replica_sets: &[ReplicaSet]) -> WaitingOn {
    let desired = match lower(deployment) {
        Ok(desired) => desired,
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return WaitingOn::ValidSpec {
                problems: lines.join("\n"),
            };
        }
    };
    let observed = Observed {
        replica_sets: replica_sets
            .iter()
            .map(ReplicaSetView::from_replica_set)
            .collect(),
        ..Observed::default()
    };
    let members = Draft::default().claim(&desired, &observed);
    reason(&desired, &Family::of(&desired, &members))
}

pub(super) fn reason(desired: &Desired, family: &Family<'_>) -> WaitingOn {
    let want = desired.replicas;
    let have = family.new.map_or(0, |rs| rs.available);
    let leaving = family.old.iter().find(|rs| rs.reserved() > 0);
    let is_done = have >= want && leaving.is_none();
    if desired.paused && !is_done {
        return WaitingOn::Paused;
    }
    if have < want || family.new.is_none() {
        let revision = family.new.map_or_else(
            || hash::template_hash(&desired.template, 0),
            |rs| rs.hash.clone(),
        );
        return WaitingOn::Ready {
            revision,
            have,
            want,
        };
    }
    match leaving {
        Some(rs) => WaitingOn::Gone {
            revision: rs.hash.clone(),
            have: rs.reserved(),
            want: 0,
        },
        None => WaitingOn::Nothing,
    }
}
