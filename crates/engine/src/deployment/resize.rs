//! The sizes of the ReplicaSets: how pods move from the old versions to the wanted one.

use serin_api::keys::annotation;

use super::revisions::Family;
use super::spec::Bounds;
use super::{Desired, Draft, Observed, Strategy};
use crate::workload::ReplicaSetView;

impl Draft {
    /// One kind of change each time: make the wanted version, or share out a new number of pods, or grow, or shrink.
    pub(super) fn resize(&mut self, desired: &Desired, observed: &Observed, family: &Family<'_>) {
        let bounds = desired.bounds();
        let settled = family.is_settled();
        if desired.paused || is_rescaled(desired, family) {
            if settled {
                self.set_sizes(desired, &rescaled(desired, family, bounds));
            }
            return;
        }
        match (desired.strategy, family.new) {
            (Strategy::Recreate, _) => self.recreate(desired, observed, family),
            (Strategy::RollingUpdate { .. }, None) => {
                let room = bounds.ceiling.saturating_sub(reserved(family));
                let first = if settled { bounds.want.min(room) } else { 0 };
                self.create(desired, observed, family, first);
            }
            (Strategy::RollingUpdate { .. }, Some(new)) if settled => {
                self.set_sizes(desired, &rolled(family, new, bounds));
            }
            (Strategy::RollingUpdate { .. }, Some(_)) => {}
        }
    }

    /// Ends all old pods, and only then begins new ones.
    fn recreate(&mut self, desired: &Desired, observed: &Observed, family: &Family<'_>) {
        let (mut old_sizes, mut alive) = (0, false);
        for rs in &family.old {
            old_sizes += rs.desired;
            alive |= observed
                .pods
                .iter()
                .any(|p| !p.is_finished() && p.owner_uid.as_ref() == Some(&rs.uid));
        }
        let mut sizes = Sizes::of(family);
        if old_sizes > 0 {
            sizes.old().for_each(|s| s.to = 0);
        } else if !alive && family.old.iter().all(|rs| rs.settled) {
            match family.new {
                None => self.create(desired, observed, family, desired.replicas),
                Some(_) => sizes.wanted().for_each(|s| s.to = desired.replicas),
            }
        }
        self.set_sizes(desired, &sizes);
    }

    fn set_sizes(&mut self, desired: &Desired, sizes: &Sizes<'_>) {
        let total = desired.replicas.to_string();
        for size in sizes.all.iter().filter(|s| !s.rs.deleting) {
            let known = size
                .rs
                .annotations
                .get(annotation::DEPLOYMENT_DESIRED_REPLICAS);
            let outdated = size.to > 0 && known != Some(&total);
            if size.to == size.rs.desired && !outdated {
                continue;
            }
            let update = self.update(size.rs);
            update.replicas = Some(size.to).filter(|to| *to != size.rs.desired);
            update.annotations.insert(
                annotation::DEPLOYMENT_DESIRED_REPLICAS.into(),
                Some(total.clone()),
            );
        }
    }
}

/// What each ReplicaSet is to become; the wanted one first, then the oldest.
struct Sizes<'a> {
    all: Vec<Size<'a>>,
    has_new: bool,
}

struct Size<'a> {
    rs: &'a ReplicaSetView,
    to: u32,
}

impl<'a> Sizes<'a> {
    fn of(family: &Family<'a>) -> Self {
        Self {
            all: family.all().map(|rs| Size { rs, to: rs.desired }).collect(),
            has_new: family.new.is_some(),
        }
    }

    fn wanted(&mut self) -> impl Iterator<Item = &mut Size<'a>> {
        let new = usize::from(self.has_new);
        self.all.iter_mut().take(new)
    }

    fn old(&mut self) -> impl Iterator<Item = &mut Size<'a>> {
        let new = usize::from(self.has_new);
        self.all
            .iter_mut()
            .skip(new)
            .filter(|size| !size.rs.deleting)
    }
}

/// Whether the number of wanted pods changed since the sizes were decided.
fn is_rescaled(desired: &Desired, family: &Family<'_>) -> bool {
    family.all().filter(|rs| rs.desired > 0).any(|rs| {
        rs.annotations
            .get(annotation::DEPLOYMENT_DESIRED_REPLICAS)
            .is_some_and(|total| *total != desired.replicas.to_string())
    })
}

/// Pods that are there or may be made at any moment.
fn reserved(family: &Family<'_>) -> u32 {
    let each = family.all().map(ReplicaSetView::reserved);
    each.fold(0, u32::saturating_add)
}

/// Available pods that stay when nothing more is decided.
fn lasting(family: &Family<'_>) -> u32 {
    let each = family.all().map(ReplicaSetView::lasting);
    each.fold(0, u32::saturating_add)
}

/// One step of a rolling update: up if there is room, else down as far as the floor allows.
fn rolled<'a>(family: &Family<'a>, new: &'a ReplicaSetView, bounds: Bounds) -> Sizes<'a> {
    let mut sizes = Sizes::of(family);
    let room = bounds.ceiling.saturating_sub(reserved(family));
    if new.desired > bounds.want || (new.desired < bounds.want && room > 0) {
        let to = bounds.want.min(new.desired.saturating_add(room));
        sizes.wanted().for_each(|s| s.to = to);
        return sizes;
    }
    // Unavailable old pods first: they serve nobody. But no more than could be missed if they came back and the new ones did
    // not, so that a bad new version does not use up a good old one that is not ready for a moment.
    let old_sizes = sizes.old().fold(0, |sum: u32, s| sum.saturating_add(s.to));
    let mut unhealthy = old_sizes
        .saturating_add(new.lasting())
        .saturating_sub(bounds.floor);
    for size in sizes.old() {
        let gone = unhealthy.min(size.to.saturating_sub(size.rs.lasting()));
        size.to -= gone;
        unhealthy -= gone;
    }
    let mut spare = lasting(family).saturating_sub(bounds.floor);
    for size in sizes.old() {
        let gone = spare.min(size.to);
        size.to -= gone;
        spare -= gone;
    }
    sizes
}

/// The sizes for a new number of wanted pods. In the middle of an update every version gets its share, as nobody knows yet
/// which one is good.
fn rescaled<'a>(desired: &Desired, family: &Family<'a>, bounds: Bounds) -> Sizes<'a> {
    let mut sizes = Sizes::of(family);
    let active = sizes.all.iter().filter(|s| s.to > 0).count();
    let rolling = desired.strategy != Strategy::Recreate;
    if active == 0 && rolling {
        // With `Recreate` pods of another version may still be there.
        let newest = sizes.all.iter_mut().max_by_key(|s| s.rs.revision);
        newest.into_iter().for_each(|s| s.to = bounds.want);
    } else if active == 1 {
        let only = sizes.all.iter_mut().filter(|s| s.to > 0);
        only.for_each(|s| s.to = bounds.want);
    } else if rolling && is_rescaled(desired, family) {
        share_out(&mut sizes.all, bounds, lasting(family));
    }
    if rolling {
        grow_within(
            &mut sizes.all,
            bounds.ceiling.saturating_sub(reserved(family)),
        );
    }
    sizes
}

/// Lets sizes grow by no more than there is room for now: the pods of those that shrink are still there. The update goes on from
/// whatever sizes it finds.
fn grow_within(sizes: &mut [Size<'_>], mut room: u32) {
    for size in sizes.iter_mut() {
        let grown = size.to.saturating_sub(size.rs.desired);
        size.to -= grown.saturating_sub(room);
        room = room.saturating_sub(grown);
    }
}

/// Shares `bounds.ceiling` out in proportion to the sizes, but gives up no available pod below the floor.
fn share_out(sizes: &mut [Size<'_>], bounds: Bounds, lasting: u32) {
    let total: u64 = sizes.iter().map(|s| u64::from(s.to)).sum();
    if total == 0 {
        return;
    }
    let room = if bounds.want == 0 { 0 } else { bounds.ceiling };
    let mut left = room;
    for size in sizes.iter_mut() {
        let share = u64::from(size.to) * u64::from(room) / total;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        left = left.saturating_sub(share);
        size.to = share;
    }
    // What rounding left goes to the largest, as its share was cut the least in proportion.
    let largest = sizes.iter_mut().rev().max_by_key(|s| s.rs.desired);
    if let Some(size) = largest {
        size.to = size.to.saturating_add(left);
    }
    let lost = |s: &Size<'_>| s.rs.lasting().saturating_sub(s.to);
    let losses: u32 = sizes.iter().map(lost).fold(0, u32::saturating_add);
    let mut excess = losses.saturating_sub(lasting.saturating_sub(bounds.floor));
    let mut owed = excess;
    for size in sizes.iter_mut() {
        let kept = excess.min(lost(size));
        size.to += kept;
        excess -= kept;
    }
    for size in sizes.iter_mut() {
        let gone = owed.min(size.to.saturating_sub(size.rs.lasting()));
        size.to -= gone;
        owed -= gone;
    }
}
