//! Nobody gives rights that they do not have: who writes a role must hold all that it lets pass, unless they may `escalate`
//! it; who writes a binding must hold all that the role gives, unless they may `bind` it.

use serde::Deserialize;
use serde_json::Value;

use super::RBAC;
use super::attributes::Attributes;
use super::policy::{Policy, RoleRef};
use super::rule::Rule;
use super::user::User;
use crate::status::Refusal;
use crate::target::Target;

/// A role that falls into more single rights than this is not compared one by one.
const MOST_PARTS: usize = 10_000;
/// So many missing rights are told.
const MOST_TOLD: usize = 20;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    rules: Vec<Rule>,
    aggregation_rule: Option<Value>,
    role_ref: RoleRef,
}

/// Refuses a write of an object of RBAC by which `user` would give away more than they have. `old` is the object before.
pub(crate) fn check(
    policy: &Policy,
    user: &User,
    target: &Target,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Refusal> {
    if target.kind.group != RBAC || user.is_master() {
        return Ok(());
    }
    let read = |value: &Value| -> Written { Written::deserialize(value).unwrap_or_default() };
    let (before, after) = (old.map(read).unwrap_or_default(), read(new));
    let plural = target.kind.plural.as_str();
    match plural {
        "roles" | "clusterroles" => {
            let same = old.is_some()
                && before.rules == after.rules
                && before.aggregation_rule == after.aggregation_rule;
            let escalate = Attributes::on("escalate", RBAC, plural, target.name());
            if same || policy.allows(user, &escalate.within(target.namespace())) {
                return Ok(());
            }
            let everything = Attributes::on("*", "*", "*", "");
            if after.aggregation_rule.is_some() && !policy.allows(user, &everything) {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(Refusal::forbidden(target.subject(), why));
            }
            hold(policy, user, target, &after.rules)
        }
        "rolebindings" | "clusterrolebindings" => {
            let role = &after.role_ref;
            let roles = if role.kind == "ClusterRole" {
                "clusterroles"
            } else {
                "roles"
            };
            let bind = Attributes::on("bind", RBAC, roles, &role.name);
            if policy.allows(user, &bind.within(target.namespace())) {
                return Ok(());
            }
            // A role that is not there yet could become anything.
            let Some(rules) = policy.role(target.namespace(), role) else {
                let why = format!("{roles}.{RBAC} {:?} not found", role.name);
                return Err(Refusal::forbidden(target.subject(), &why));
            };
            hold(policy, user, target, rules)
        }
        _ => Ok(()),
    }
}

fn hold(policy: &Policy, user: &User, target: &Target, given: &[Rule]) -> Result<(), Refusal> {
    let own = policy.rules_for(user, target.namespace());
    let missing = missing(&own, given);
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = missing.iter().take(MOST_TOLD).map(told).collect();
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        told.join("\n")
    );
    Err(Refusal::forbidden(target.subject(), &why))
}

/// What of `given` is not in `own`, in its smallest parts.
fn missing(own: &[Rule], given: &[Rule]) -> Vec<Rule> {
    let covered = |rule: &Rule| own.iter().any(|o| o.covers(rule));
    let mut missing = Vec::new();
    for rule in given.iter().filter(|rule| !covered(rule)) {
        let parts = rule.parts(MOST_PARTS);
        if parts.len() > MOST_PARTS {
            missing.push(rule.clone());
        } else {
            missing.extend(parts.into_iter().filter(|part| !covered(part)));
        }
    }
    missing
}

fn told(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let told = lists.iter().filter(|(_, list)| !list.is_empty());
    let told = told.map(|(name, list)| {
        format!(
            "{name}:{:?}",
            list.iter().take(MOST_TOLD).collect::<Vec<_>>()
        )
    });
    format!("{{{}}}", told.collect::<Vec<_>>().join(", "))
}
