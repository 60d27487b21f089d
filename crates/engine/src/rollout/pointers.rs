//! What leads to the pods of the two sides of a canary: Services, subsets, or both.

use serin_api::rollout::{Canary, Pointer, Side};
use serin_api::units::RevisionHash;
use serin_api::waiting::WaitingOn;

use super::Action;
use super::observed::ServiceView;
use super::planner::Planner;

impl<'a> Planner<'a> {
    /// What is seen of all that leads to a side.
    fn seen(&self, canary: &Canary, side: Side) -> impl Iterator<Item = &'a ServiceView> + Clone {
        let observed = self.observed;
        let pointers: Vec<_> = canary.pointers(side).collect();
        let seen = pointers.into_iter();
        seen.filter_map(move |pointer| observed.pointer(pointer))
    }

    /// Points a side at a revision that has available instances, and waits until that is served. `true` when it is.
    pub(super) fn select_side(
        &mut self,
        canary: &Canary,
        side: Side,
        revision: &RevisionHash,
    ) -> bool {
        let mut served = true;
        for pointer in canary.pointers(side) {
            served &= match pointer {
                Pointer::Service(name) => self.select(name, revision),
                Pointer::Subset(name) => self.select_subset(canary, name, revision),
            };
        }
        served
    }

    fn select_subset(&mut self, canary: &Canary, name: &str, revision: &RevisionHash) -> bool {
        let seen = self.observed.pointer(Pointer::Subset(name));
        let (Some(seen), Some(subsets)) = (seen, &canary.subsets) else {
            return true;
        };
        if seen.revision.as_ref() != Some(revision) {
            self.actions.push(Action::SelectSubset {
                rule: subsets.rule.clone(),
                subset: name.to_owned(),
                revision: revision.clone(),
            });
        } else if seen.acknowledged {
            return true;
        }
        self.wait(WaitingOn::Acknowledgement {
            kind: "DestinationRule".into(),
            name: subsets.rule.clone(),
        });
        false
    }

    /// Whether all that leads to a side leads to this revision.
    pub(super) fn is_on(&self, canary: &Canary, side: Side, revision: &RevisionHash) -> bool {
        let mut seen = self.seen(canary, side).peekable();
        seen.peek().is_some() && seen.all(|s| s.revision.as_ref() == Some(revision))
    }

    /// Whether anything that leads to a side leads to this revision.
    pub(super) fn reaches(&self, canary: &Canary, side: Side, revision: &RevisionHash) -> bool {
        let mut seen = self.seen(canary, side);
        seen.any(|s| s.revision.as_ref() == Some(revision))
    }

    /// The revision that the routes reach by a side; `None` when it selects none.
    pub(super) fn behind(&self, canary: &Canary, side: Side) -> Option<&'a RevisionHash> {
        self.seen(canary, side).next()?.revision.as_ref()
    }

    /// Whether all that leads to a side is served as it is.
    pub(super) fn side_is_served(&self, canary: &Canary, side: Side) -> bool {
        self.seen(canary, side).all(|s| s.acknowledged)
    }
}
