//! Eviction of a Pod: a delete that a PodDisruptionBudget can refuse.

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use super::delete::delete_object;
use super::pods::{main_of, success};
use super::write::modify;
use crate::admit::Context;
use crate::body;
use crate::meta;
use crate::options::{DeleteOptions, FieldValidation};
use crate::patch::Manager;
use crate::selector::{LabelSelector, selector_text};
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::store::{Record, prefix};
use crate::target::{Part, Target};
use crate::tree::Tree;

/// As whom the server takes an eviction off a budget.
const MANAGER: &str = "serin-eviction";

pub(super) async fn answer(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    if call.method != Method::POST {
        return Err(Refusal::method(&call.method));
    }
    let eviction = body::object(&call.headers, &call.body)?;
    let options = DeleteOptions::parse(&call.parameters, Some(eviction.at("/deleteOptions")))?;
    let pod = main_of(&call.target);
    let record = server.store.get(&pod.key());
    let record = record.ok_or_else(|| Refusal::not_found(pod.subject()))?;
    if let Some(budget) = budget_of(server, &record)? {
        take_one(server, &budget, &record, options.dry_run).await?;
    }
    delete_object(server, &pod, &options).await?;
    Ok(success())
}

/// The budget that the pod falls under, if it counts there.
fn budget_of(server: &ApiServer, pod: &Record) -> Result<Option<Target>, Refusal> {
    let value = pod.value();
    let phase = value.at("/status/phase").as_str();
    if pod.facts.deleting || matches!(phase, Some("Succeeded" | "Failed" | "Pending")) {
        return Ok(None);
    }
    let all = prefix("policy", "poddisruptionbudgets", Some(pod.key.namespace()));
    let budgets = server.store.shared().list(&all, None).records;
    let takes = |budget: &Value| match budget.at("/spec/selector") {
        Value::Null => false,
        selector => LabelSelector::parse(&selector_text(selector))
            .is_ok_and(|selector| selector.matches(&pod.facts.labels)),
    };
    let mut found = budgets.iter().filter(|budget| takes(&budget.value()));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Refusal::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
        (Some(budget), None) => {
            let target = Target::of_key(&server.registry, &budget.key);
            Ok(target.map(|target| Target {
                part: Part::Status,
                ..target
            }))
        }
        (None, _) => Ok(None),
    }
}

/// Takes one off what the budget allows, and names the pod there.
async fn take_one(
    server: &ApiServer,
    budget: &Target,
    pod: &Record,
    dry_run: bool,
) -> Result<(), Refusal> {
    let context = Context {
        now: server.now(),
        fields: FieldValidation::Ignore,
        manager: Some(Manager {
            name: MANAGER,
            subresource: "status",
        }),
    };
    let value = pod.value();
    let since = meta::seconds(context.now);
    let take = |old: &Value| {
        if may_go_unhealthy(old, &value) {
            return Ok(old.clone());
        }
        let allowed = allowed(old)?;
        let mut new = old.clone();
        let status = new.map("status");
        status.insert("disruptionsAllowed".into(), (allowed - 1).into());
        let named = status.entry("disruptedPods").or_insert_with(|| json!({}));
        named.set(pod.key.name(), since.as_str());
        Ok(new)
    };
    modify(server, budget, context, dry_run, take)
        .await
        .map(drop)
}

/// Whether the pod does not count, because it is not ready and the budget lets such pods go.
fn may_go_unhealthy(budget: &Value, pod: &Value) -> bool {
    let conditions = pod.at("/status/conditions").as_array();
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.any(|c| c.at("/type") == "Ready" && c.at("/status") == "True");
    let number = |pointer: &str| budget.at(pointer).as_i64().unwrap_or(0);
    let healthy = number("/status/currentHealthy") >= number("/status/desiredHealthy");
    let always = budget.at("/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
    !ready && (always || healthy && number("/status/desiredHealthy") > 0)
}

/// How many pods may go: at least one, or why none may.
fn allowed(budget: &Value) -> Result<i64, Refusal> {
    let number = |pointer: &str| budget.at(pointer).as_i64().unwrap_or(0);
    let name = meta::text(budget, "name");
    if number("/status/observedGeneration") < number("/metadata/generation") {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Refusal::disruption(&why, 10));
    }
    let allowed = number("/status/disruptionsAllowed");
    if allowed > 0 {
        return Ok(allowed);
    }
    let (wanted, healthy) = (
        number("/status/desiredHealthy"),
        number("/status/currentHealthy"),
    );
    let why = format!(
        "The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
    );
    Err(Refusal::disruption(&why, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_budget_says() {
        let budget =
            |status: Value| json!({"metadata": {"name": "web", "generation": 2}, "status": status});
        let told = |status: Value| {
            allowed(&budget(status))
                .map_err(|r| r.details.unwrap_or_default()["causes"][0]["message"].clone())
        };
        assert_eq!(
            told(json!({"observedGeneration": 2, "disruptionsAllowed": 1})),
            Ok(1)
        );
        let new = told(json!({"observedGeneration": 1, "disruptionsAllowed": 1}));
        assert_eq!(
            new,
            Err(json!(
                "The disruption budget web is still being processed by the server."
            ))
        );
        let full = told(json!({"observedGeneration": 2, "desiredHealthy": 2, "currentHealthy": 2}));
        assert_eq!(
            full,
            Err(json!(
                "The disruption budget web needs 2 healthy pods and has 2 currently"
            ))
        );
    }

    #[test]
    fn pods_that_are_not_ready_may_go_while_enough_others_are() {
        let pod =
            |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let budget = |healthy: i64, policy: &str| {
            json!({"spec": {"unhealthyPodEvictionPolicy": policy},
            "status": {"currentHealthy": healthy, "desiredHealthy": 2}})
        };
        assert!(may_go_unhealthy(
            &budget(2, "IfHealthyBudget"),
            &pod("False")
        ));
        assert!(!may_go_unhealthy(
            &budget(1, "IfHealthyBudget"),
            &pod("False")
        ));
        assert!(may_go_unhealthy(&budget(1, "AlwaysAllow"), &pod("False")));
        assert!(!may_go_unhealthy(&budget(2, "AlwaysAllow"), &pod("True")));
    }
}
