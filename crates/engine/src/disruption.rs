//! A PodDisruptionBudget: how many of its pods may be evicted now.
//!
//! Absent on purpose: the eviction itself. Whoever evicts takes one off what the status allows, and names the pod there; the
//! pod counts as gone from then on, until it is, or until nobody seems to have deleted it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serin_api::units::{CountOrPercent, Rounding};
use serin_api::{FieldPath, Problem, conditions};

use crate::workload::{PodView, Selector};

/// A pod that was to be evicted and is still there after this is not going.
const EVICTION_WAIT: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// What a budget asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// `metadata.generation`.
    pub generation: i64,
    /// Its pods; `None`: it has none.
    pub selector: Option<Selector>,
    /// What must stay.
    pub bound: Bound,
}

/// How many pods must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// These, or this share of them.
    Available(CountOrPercent),
    /// All but these, or all but this share.
    Unavailable(CountOrPercent),
}

/// Reads a budget. One that says nothing wants one pod to stay.
///
/// # Errors
/// Every problem of its selector.
pub fn lower(budget: &PodDisruptionBudget) -> Result<Desired, Vec<Problem>> {
    let spec = budget.spec.clone().unwrap_or_default();
    let selector = spec.selector.as_ref();
    let selector = selector.map(|s| Selector::parse(s, &FieldPath::new("spec.selector")));
    let most = spec
        .max_unavailable
        .as_ref()
        .and_then(CountOrPercent::parse);
    let least = spec.min_available.as_ref().and_then(CountOrPercent::parse);
    let bound = match (most, least) {
        (Some(most), _) => Bound::Unavailable(most),
        (None, least) => Bound::Available(least.unwrap_or(CountOrPercent::Count(1))),
    };
    Ok(Desired {
        generation: budget.metadata.generation.unwrap_or(0),
        selector: selector.transpose()?,
        bound,
    })
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The pods that the selector takes.
    pub pods: Vec<PodView>,
    /// As many as their controllers want.
    pub expected: u32,
    /// Its status.
    pub status: Option<PodDisruptionBudgetStatus>,
}

/// What to do: only the status changes.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// The status.
    pub status: PodDisruptionBudgetStatus,
    /// When to look again, if nothing changes before.
    pub wake_at: Option<Timestamp>,
}

/// Decides what a budget allows.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let before = observed.status.clone().unwrap_or_default();
    let leaving = still_leaving(&before, observed, now);
    let healthy = observed
        .pods
        .iter()
        .filter(|pod| pod.is_live() && pod.ready && !leaving.contains_key(&pod.name));
    let healthy = u32::try_from(healthy.count()).unwrap_or(u32::MAX);
    let pods = u32::try_from(observed.pods.len()).unwrap_or(u32::MAX);
    let (expected, wanted) = match desired.bound {
        Bound::Available(CountOrPercent::Count(least)) => (pods, least),
        Bound::Available(share) => {
            let wanted = share.resolve(observed.expected, Rounding::Up);
            (observed.expected, wanted)
        }
        Bound::Unavailable(most) => {
            let most = most.resolve(observed.expected, Rounding::Up);
            (observed.expected, observed.expected.saturating_sub(most))
        }
    };
    let allowed = if expected == 0 {
        0
    } else {
        healthy.saturating_sub(wanted)
    };
    let mut all = before.conditions.unwrap_or_default();
    conditions::set(&mut all, condition(allowed, desired.generation, now));
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Plan {
        wake_at: leaving
            .values()
            .filter_map(|since| since.0.checked_add(EVICTION_WAIT).ok())
            .min(),
        status: PodDisruptionBudgetStatus {
            conditions: Some(all),
            current_healthy: number(healthy),
            desired_healthy: number(wanted),
            disruptions_allowed: number(allowed),
            expected_pods: number(expected),
            observed_generation: Some(desired.generation),
            disrupted_pods: Some(leaving).filter(|l| !l.is_empty()),
        },
    }
}

/// The pods that were to be evicted and may still go.
fn still_leaving(
    before: &PodDisruptionBudgetStatus,
    observed: &Observed,
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let named = before.disrupted_pods.clone().unwrap_or_default();
    let goes = |name: &String, since: &Time| {
        let there = observed.pods.iter().any(|p| p.name == *name && p.is_live());
        let until = since.0.checked_add(EVICTION_WAIT);
        there && until.is_ok_and(|until| until > now)
    };
    named
        .into_iter()
        .filter(|(name, since)| goes(name, since))
        .collect()
}

fn condition(allowed: u32, generation: i64, now: Timestamp) -> Condition {
    let reason = if allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    Condition {
        type_: ALLOWED.into(),
        status: conditions::word(allowed > 0),
        reason: reason.into(),
        message: String::new(),
        observed_generation: Some(generation),
        last_transition_time: conditions::time(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(number: usize, ready: bool) -> PodView {
        let status = if ready { "True" } else { "False" };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": format!("p{number}")},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
        .unwrap();
        PodView::from_pod(&pod)
    }

    fn check(spec: Value, ready: usize, others: usize, status: Value, want: Expect) {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"generation": 2}, "spec": spec})).unwrap();
        let pods = (0..ready + others).map(|i| pod(i, i < ready)).collect();
        let observed = Observed {
            pods,
            expected: 4,
            status: serde_json::from_value(status).unwrap(),
        };
        let plan = plan(
            &lower(&budget).unwrap(),
            &observed,
            Timestamp::from_second(1000).unwrap(),
        );
        let status = plan.status;
        want.assert_eq(&format!(
            "{} of {} healthy, {} wanted, {} allowed, leaving {:?}, wake {:?}",
            status.current_healthy,
            status.expected_pods,
            status.desired_healthy,
            status.disruptions_allowed,
            status
                .disrupted_pods
                .map(|p| p.into_keys().collect::<Vec<_>>()),
            plan.wake_at.map(Timestamp::as_second),
        ));
    }

    #[test]
    fn what_may_go() {
        let none = || json!(null);
        check(
            json!({"minAvailable": 3}),
            4,
            0,
            none(),
            expect!["4 of 4 healthy, 3 wanted, 1 allowed, leaving None, wake None"],
        );
        check(
            json!({"minAvailable": 3}),
            2,
            2,
            none(),
            expect!["2 of 4 healthy, 3 wanted, 0 allowed, leaving None, wake None"],
        );
        check(
            json!({"minAvailable": "60%"}),
            4,
            0,
            none(),
            expect!["4 of 4 healthy, 3 wanted, 1 allowed, leaving None, wake None"],
        );
        check(
            json!({"maxUnavailable": 1}),
            4,
            0,
            none(),
            expect!["4 of 4 healthy, 3 wanted, 1 allowed, leaving None, wake None"],
        );
        check(
            json!({"maxUnavailable": "30%"}),
            3,
            1,
            none(),
            expect!["3 of 4 healthy, 2 wanted, 1 allowed, leaving None, wake None"],
        );
        check(
            json!({}),
            1,
            0,
            none(),
            expect!["1 of 1 healthy, 1 wanted, 0 allowed, leaving None, wake None"],
        );
    }

    #[test]
    fn what_was_evicted_counts_as_gone_for_a_while() {
        let evicted = |since: i64| {
            let since = Timestamp::from_second(since).unwrap().to_string();
            json!({"disruptionsAllowed": 0, "currentHealthy": 4, "desiredHealthy": 3, "expectedPods": 4,
                "disruptedPods": {"p0": since, "gone": since}})
        };
        check(
            json!({"maxUnavailable": 1}),
            4,
            0,
            evicted(950),
            expect![[
                r#"3 of 4 healthy, 3 wanted, 0 allowed, leaving Some(["p0"]), wake Some(1070)"#
            ]],
        );
        check(
            json!({"maxUnavailable": 1}),
            4,
            0,
            evicted(800),
            expect!["4 of 4 healthy, 3 wanted, 1 allowed, leaving None, wake None"],
        );
    }
}
