//! Batches: a rolling update that replaces so many instances at a time, each batch a step with its check. Surge and
//! unavailability bound what happens within a batch, as without.

use std::borrow::Cow;

use serin_api::release::Batches;
use serin_api::rollout::{Batch, BatchesStatus, Desired, Step, Strategy};
use serin_api::units::{CountOrPercent, Rounding};

use super::planner::Planner;

/// What is wanted, with the steps that a policy makes of a canary that has none. One that has steps or routes keeps them.
pub(crate) fn batched<'a>(desired: &'a Desired, batches: Option<&Batches>) -> Cow<'a, Desired> {
    let Some(batches) = batches else {
        return Cow::Borrowed(desired);
    };
    let Strategy::Canary(canary) = &desired.strategy else {
        return Cow::Borrowed(desired);
    };
    if !canary.steps.is_empty() || !canary.routes.is_empty() {
        return Cow::Borrowed(desired);
    }
    let mut desired = desired.clone();
    // The number of batches follows the replicas, which may change in mid-release: a batch keeps its number all the same.
    desired.steps_text = match batches.size {
        CountOrPercent::Count(count) => format!("batches of {count}"),
        CountOrPercent::Percent(percent) => format!("batches of {percent} %"),
    };
    let steps = steps(batches, desired.replicas);
    if let Strategy::Canary(canary) = &mut desired.strategy {
        canary.steps = steps;
    }
    Cow::Owned(desired)
}

impl Planner<'_> {
    /// Tells which batches the release has: they are in no spec that a client could read them from.
    pub(super) fn tell_batches(&mut self) {
        let mut parts = self.steps().iter().flat_map(Step::parts);
        let first = parts.find_map(|part| match part {
            Step::Batch(batch) => Some(batch),
            _ => None,
        });
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        self.next.canary.batches = first.map(|batch| BatchesStatus {
            count: number(batch.of),
            size: number(batch.instances),
        });
    }
}

fn steps(batches: &Batches, replicas: u32) -> Vec<Step> {
    let size = batches.size.resolve(replicas, Rounding::Up).max(1);
    let of = replicas.div_ceil(size);
    let step = |number: u32| {
        let batch = Step::Batch(Batch {
            number,
            of,
            instances: number.saturating_mul(size).min(replicas),
        });
        let pause = batches.pause.map(|pause| Step::Pause(Some(pause)));
        let analysis = batches.analysis.clone().map(Step::Analysis);
        let parts = [Some(batch), pause, analysis].into_iter().flatten();
        Step::Mixed(parts.collect())
    };
    (1..=of).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(size: CountOrPercent, replicas: u32) -> Vec<u32> {
        let batches = Batches {
            size,
            pause: None,
            analysis: None,
        };
        let steps = steps(&batches, replicas);
        let parts = steps.iter().flat_map(Step::parts);
        parts
            .map(|part| match part {
                Step::Batch(batch) => batch.instances,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_last_batch_has_what_is_left() {
        use CountOrPercent::{Count, Percent};
        assert_eq!(instances(Count(2), 6), [2, 4, 6]);
        assert_eq!(instances(Count(4), 6), [4, 6]);
        assert_eq!(instances(Count(9), 6), [6]);
        assert_eq!(instances(Percent(25), 6), [2, 4, 6]);
        assert_eq!(instances(Percent(0), 2), [1, 2]);
        assert_eq!(instances(Count(2), 0), [0; 0]);
    }
}
