//! The checked form of a Deployment's spec.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::units::{CountOrPercent, Rounding};
use serin_api::{FieldPath, Problem};

use crate::workload::{Selector, count};

const DEFAULT_BOUND: CountOrPercent = CountOrPercent::Percent(25);
const DEFAULT_HISTORY: i32 = 10;
const DEFAULT_DEADLINE_SECONDS: i32 = 600;

/// What a Deployment wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.annotations`: a ReplicaSet keeps those of its version.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is being deleted: its ReplicaSets are then the business of the garbage collector.
    pub deleting: bool,
    /// Pods.
    pub replicas: u32,
    /// `spec.selector`, from which those of the ReplicaSets are made.
    pub selector: LabelSelector,
    /// The same, checked.
    pub pods: Selector,
    /// The pods of the version that is wanted.
    pub template: PodTemplateSpec,
    /// For how long a pod must be ready to be available.
    pub min_ready_seconds: i32,
    /// How one version follows the other.
    pub strategy: Strategy,
    /// Old ReplicaSets that are kept for a way back.
    pub history_limit: usize,
    /// Whether a new template waits.
    pub paused: bool,
    /// In which time an update must get on; `None` for any.
    pub progress_deadline: Option<SignedDuration>,
}

/// How one version follows the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Step by step.
    RollingUpdate {
        /// Pods above `replicas`.
        max_surge: CountOrPercent,
        /// Pods below `replicas` that may be unavailable.
        max_unavailable: CountOrPercent,
    },
    /// All old pods end before the first new one begins.
    Recreate,
}

/// Between what the numbers of pods stay during an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Pods that are wanted in the end.
    pub(super) want: u32,
    /// At most so many pods.
    pub(super) ceiling: u32,
    /// At least so many available pods.
    pub(super) floor: u32,
}

impl Desired {
    /// The surge is rounded up and the unavailable pods down. When both come to 0 nothing could ever move, so one pod may be
    /// unavailable.
    pub(super) fn bounds(&self) -> Bounds {
        let want = self.replicas;
        let (surge, unavailable) = match self.strategy {
            Strategy::Recreate => (0, want),
            Strategy::RollingUpdate {
                max_surge,
                max_unavailable,
            } => {
                let surge = max_surge.resolve(want, Rounding::Up);
                let unavailable = max_unavailable.resolve(want, Rounding::Down);
                if surge == 0 && unavailable == 0 {
                    (0, 1)
                } else {
                    (surge, unavailable)
                }
            }
        };
        Bounds {
            want,
            ceiling: want.saturating_add(surge),
            floor: want.saturating_sub(unavailable),
        }
    }
}

/// Checks a Deployment and fills in its defaults.
///
/// # Errors
/// Every problem of its spec.
pub fn lower(deployment: &Deployment) -> Result<Desired, Vec<Problem>> {
    let root = FieldPath::new("spec");
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut problems = Vec::new();
    let pods = selector(&spec, &root).unwrap_or_else(|found| {
        problems.extend(found);
        Selector::default()
    });
    let strategy = strategy(&spec, &root.field("strategy")).unwrap_or_else(|found| {
        problems.extend(found);
        Strategy::Recreate
    });
    let deadline = spec
        .progress_deadline_seconds
        .unwrap_or(DEFAULT_DEADLINE_SECONDS);
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    if deadline <= min_ready_seconds {
        let path = root.field("progressDeadlineSeconds");
        let why = "must be greater than minReadySeconds, or no version is ever in time";
        problems.push(Problem::invalid(path, deadline, why));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let meta = &deployment.metadata;
    let history = spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY);
    Ok(Desired {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
        annotations: meta.annotations.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        replicas: spec.replicas.map_or(1, count),
        selector: spec.selector,
        pods,
        template: spec.template,
        min_ready_seconds,
        strategy,
        history_limit: count(history) as usize,
        paused: spec.paused.unwrap_or(false),
        progress_deadline: (deadline != i32::MAX)
            .then(|| SignedDuration::from_secs(i64::from(deadline))),
    })
}

fn selector(spec: &DeploymentSpec, root: &FieldPath) -> Result<Selector, Vec<Problem>> {
    let path = root.field("selector");
    let selector = Selector::parse(&spec.selector, &path)?;
    if selector.is_empty() {
        let hint = "an empty one would select every pod; name the labels of the template's pods in matchLabels";
        return Err(vec![Problem::required(path, hint)]);
    }
    let labels = spec.template.metadata.as_ref();
    let labels = labels.and_then(|m| m.labels.clone()).unwrap_or_default();
    if !selector.matches(&labels) {
        let path = root.field("template").field("metadata").field("labels");
        let shown = serde_json::to_string(&labels).unwrap_or_default();
        let why = "`selector` does not match template `labels`";
        return Err(vec![Problem::invalid(path, shown, why)]);
    }
    Ok(selector)
}

fn strategy(spec: &DeploymentSpec, at: &FieldPath) -> Result<Strategy, Vec<Problem>> {
    let DeploymentStrategy {
        rolling_update,
        type_,
    } = spec.strategy.clone().unwrap_or_default();
    let at_rolling = at.field("rollingUpdate");
    match type_.as_deref().unwrap_or("RollingUpdate") {
        "RollingUpdate" => {
            let rolling = rolling_update.unwrap_or_default();
            let mut problems = Vec::new();
            let mut read = |value: Option<&IntOrString>, name| {
                let parsed = value.map_or(Some(DEFAULT_BOUND), CountOrPercent::parse);
                parsed.unwrap_or_else(|| {
                    let shown = value.map(|v| serde_json::to_string(v).unwrap_or_default());
                    let path = at_rolling.field(name);
                    let shown = shown.unwrap_or_default();
                    problems.push(Problem::invalid(path, shown, CountOrPercent::EXPECTED));
                    DEFAULT_BOUND
                })
            };
            let max_surge = read(rolling.max_surge.as_ref(), "maxSurge");
            let max_unavailable = read(rolling.max_unavailable.as_ref(), "maxUnavailable");
            if is_zero(max_surge) && is_zero(max_unavailable) {
                let path = at_rolling.field("maxUnavailable");
                let why = "may not be 0 when `maxSurge` is 0";
                problems.push(Problem::invalid(path, 0, why));
            }
            if !problems.is_empty() {
                return Err(problems);
            }
            Ok(Strategy::RollingUpdate {
                max_surge,
                max_unavailable,
            })
        }
        "Recreate" if rolling_update.is_some() => {
            let why = "may not be given when strategy `type` is Recreate";
            Err(vec![Problem::forbidden(at_rolling, why)])
        }
        "Recreate" => Ok(Strategy::Recreate),
        other => {
            let known = ["RollingUpdate", "Recreate"];
            Err(vec![Problem::not_supported(
                at.field("type"),
                other,
                &known,
            )])
        }
    }
}

fn is_zero(bound: CountOrPercent) -> bool {
    matches!(bound, CountOrPercent::Count(0) | CountOrPercent::Percent(0))
}
