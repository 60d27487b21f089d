//! Whether an object can be taken: its structure and its meaning, with every problem at once, in the words of a cluster.
//!
//! [`check`] is asked of every new object and of every changed one, [`check_update`] of the change itself. Both take JSON
//! as it was sent: absent fields count as their defaults, and a part of the wrong type never hides the problems of another.
//! Absent on purpose: whether other objects that are named exist; only a server knows.

mod analysis;
mod batch;
mod data;
mod experiment;
mod field;
mod gateway;
mod http_route;
mod ingress;
mod istio;
mod metadata;
mod names;
mod pod;
mod probes;
mod rbac;
mod release;
mod resources;
mod scaling;
mod service;
mod update;
mod workload;

use serde_json::Value;

use crate::kinds::Kind;
use crate::problem::ProblemKind;
use crate::{FieldPath, Problem, schema};
use field::Field;

/// More problems of one object are not told: nobody reads them.
const MOST: usize = 200;

/// Every problem of an object, of very many the first ones. Fields that [`crate::defaults`] fills in may be absent.
pub fn check(kind: &Kind, object: &Value) -> Vec<Problem> {
    let mut problems = schema::check(schema::of(kind), object, &FieldPath::root());
    let root = Field::root(object);
    let mut meaning = Vec::new();
    metadata::check(kind, &root, &mut meaning);
    by_kind(kind, &root, &mut meaning);
    for problem in meaning {
        if problems.len() >= MOST {
            break;
        }
        if !problems.iter().any(|known| covers(known, &problem)) {
            problems.push(problem);
        }
    }
    problems
}

/// Every problem of a change from `old`, which is stored, to `new`: fields that may not change.
pub fn check_update(kind: &Kind, old: &Value, new: &Value) -> Vec<Problem> {
    update::check(kind, old, new)
}

/// Every problem of the metadata of an object whose kind is not in the table, and of what else every object has.
pub fn check_metadata(namespaced: bool, object: &Value) -> Vec<Problem> {
    let root = Field::root(object);
    let metadata = root.get("metadata");
    let mut problems = schema::check_metadata(object);
    let mut meaning = Vec::new();
    metadata::check_names(names::subdomain, namespaced, &metadata, &mut meaning);
    problems.extend(
        meaning
            .into_iter()
            .filter(|p| !problems.iter().any(|known| covers(known, p)))
            .collect::<Vec<_>>(),
    );
    problems
}

/// Every problem of a change of what every object has.
pub fn check_metadata_update(old: &Value, new: &Value) -> Vec<Problem> {
    update::check_metadata(old, new)
}

fn by_kind(kind: &Kind, root: &Field<'_>, out: &mut Vec<Problem>) {
    match kind.kind {
        "Pod" => pod::check(root, out),
        "Deployment" => workload::deployment(root, out),
        "ReplicaSet" => workload::replica_set(root, out),
        "Rollout" => workload::rollout(root, out),
        "Job" => batch::job(root, out),
        "CronJob" => batch::cron_job(root, out),
        "HorizontalPodAutoscaler" => scaling::autoscaler(root, out),
        "PodDisruptionBudget" => scaling::disruption_budget(root, out),
        "Service" => service::check(root, out),
        "EndpointSlice" => service::endpoint_slice(root, out),
        "Ingress" => ingress::check(root, out),
        "HTTPRoute" => http_route::check(root, out),
        "ReleasePolicy" => release::policy(root, out),
        "Lease" => lease(root, out),
        "Event" => event(root, out),
        "Gateway" => gateway::check(root, out),
        "GatewayClass" => gateway::class(root, out),
        "ReferenceGrant" => gateway::grant(root, out),
        "VirtualService" => istio::virtual_service(root, out),
        "DestinationRule" => istio::destination_rule(root, out),
        "Role" => rbac::role(root, out),
        "ClusterRole" => rbac::cluster_role(root, out),
        "RoleBinding" => rbac::role_binding(root, out),
        "ClusterRoleBinding" => rbac::cluster_role_binding(root, out),
        "ConfigMap" => data::config_map(root, out),
        "Secret" => data::secret(root, out),
        "AnalysisTemplate" | "ClusterAnalysisTemplate" => analysis::template(root, out),
        "AnalysisRun" => analysis::run(root, out),
        "Experiment" => experiment::check(root, out),
        _ => {}
    }
}

fn lease(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.integer().is_some_and(|n| n <= 0) {
        out.push(seconds.invalid("must be greater than 0"));
    }
    spec.get("leaseTransitions").not_negative(out);
}

fn event(root: &Field<'_>, out: &mut Vec<Problem>) {
    let about = root.at("involvedObject.namespace");
    let own = root.at("metadata.namespace").text_or_empty();
    // Events about objects of the cluster stand in the default namespace.
    let expected = about.text().is_none_or(|about| about == own);
    if !expected && !about.is_empty() && !own.is_empty() {
        out.push(about.invalid("does not match event.namespace"));
    }
}

/// Whether a problem needs not be told, because what is known already is the same or its cause.
fn covers(known: &Problem, problem: &Problem) -> bool {
    if known.path == problem.path {
        return known.kind == problem.kind || known.kind == ProblemKind::Type;
    }
    let below = problem.path.as_str().strip_prefix(known.path.as_str());
    let below = below.is_some_and(|rest| rest.starts_with(['.', '[']));
    below && matches!(known.kind, ProblemKind::Type | ProblemKind::Required) && known.is_error()
}
