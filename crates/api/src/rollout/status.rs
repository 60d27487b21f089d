//! The status of a Rollout, field by field as clients of Argo Rollouts read it, and `waitingOn`, which is ours.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::AnalysisPhase;
use crate::waiting::WaitingOn;

/// Where a Rollout stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// Whether the update is taken back; clients set and clear it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub abort: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_at: Option<Time>,
    /// Why it is paused; clients clear it to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_conditions: Option<Vec<PauseCondition>>,
    /// Whether we have paused; with no pause conditions left, a person has resumed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub controller_pause: bool,
    /// The hash of the template that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_pod_hash: Option<String>,
    /// The hash of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step_hash: Option<String>,
    /// The step that is carried out, from 0; as many as there are steps when all are done. Clients set it to skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step_index: Option<i32>,
    /// Instances of all revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Instances of the revision that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,
    /// Ready instances of all revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Available instances of all revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// Hash collisions so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// The generation of the spec that this status speaks of; text, as in Argo Rollouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<String>,
    /// The generation of the referenced workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_observed_generation: Option<String>,
    /// The conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<RolloutCondition>,
    /// Instances that an autoscaler counts.
    #[serde(rename = "HPAReplicas", skip_serializing_if = "Option::is_none")]
    pub hpa_replicas: Option<i32>,
    /// The selector as text, for an autoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The hash of the revision that the users are on.
    #[serde(rename = "stableRS", skip_serializing_if = "Option::is_none")]
    pub stable_rs: Option<String>,
    /// The restart that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// Whether all further steps are skipped; clients set it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub promote_full: bool,
    /// In one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RolloutPhase>,
    /// Why, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a canary.
    #[serde(skip_serializing_if = "CanaryStatus::is_empty")]
    pub canary: CanaryStatus,
    /// Of a blue-green release.
    #[serde(skip_serializing_if = "BlueGreenStatus::is_empty")]
    pub blue_green: BlueGreenStatus,
    /// Who decided on an abort or a retry, and why; clients set it together with `abort`, and it is taken in with it. A field
    /// of Serin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Of the time in which a new revision is watched while the old one stands by. A field of Serin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeStatus>,
    /// What people have said at gates, by the name of the gate; clients set it. A field of Serin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gates: BTreeMap<String, GateAnswer>,
    /// Of a release in a group. A field of Serin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_group: Option<GroupStatus>,
    /// What it waits for, in a form for programs. A field of Serin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
}

/// Of a release that goes step by step with those of other Rollouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupStatus {
    /// When the release began, or began again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// Whether all users are on the new revision, so that only the others are waited for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub arrived: bool,
    /// How many steps it has.
    pub steps: u32,
    /// When it was taken back, or left for the revision that the users were on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_back_at: Option<MicroTime>,
}

/// What a person has said at a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GateAnswer {
    /// The hash of the revision that it is said of; what is said of another one does not count.
    pub revision: String,
    /// Whether the release may go on; otherwise it is taken back.
    pub approved: bool,
    /// Who, as the client told it.
    pub by: String,
    /// Why; empty when nothing was said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Who went back from a revision and why: a client writes it as an annotation in the same write that asks for another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Undo {
    /// The hash of the revision that is left; what is said of another one does not count.
    pub from: String,
    /// Who, as the client told it.
    pub by: String,
    /// Why; empty when nothing was said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Of the time in which a new revision is watched while the old one stands by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BakeStatus {
    /// When all users were on the new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// What is measured meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis_run_status: Option<AnalysisRunRef>,
}

/// What a person has to say to an abort or a retry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Decision {
    /// Who, as the client told it.
    pub by: String,
    /// Why; empty when nothing was said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A Rollout in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// The users are on the version that is wanted.
    Healthy,
    /// They are not, and it does not get on.
    Degraded,
    /// It gets on.
    Progressing,
    /// It waits for a person or for time.
    Paused,
}

/// Why it is paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseCondition {
    /// Why.
    pub reason: PauseReason,
    /// Since when.
    pub start_time: MicroTime,
}

/// Why a Rollout is paused by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PauseReason {
    /// A pause step.
    CanaryPauseStep,
    /// Before a blue-green switch.
    BlueGreenPause,
    /// An analysis that found neither good nor bad.
    InconclusiveAnalysisRun,
    /// An experiment that found neither good nor bad.
    InconclusiveExperiment,
}

/// A condition of a Rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutCondition {
    /// `InvalidSpec`, `Available`, `Progressing`, `ReplicaFailure`, `Paused`, `Completed` or `Healthy`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When anything of it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

/// Of a canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryStatus {
    /// The analysis of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step_analysis_run_status: Option<AnalysisRunRef>,
    /// The analysis in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_background_analysis_run_status: Option<AnalysisRunRef>,
    /// The experiment of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_experiment: Option<String>,
    /// The split as it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<TrafficWeights>,
    /// The step at which it paused, from 0. A field of Serin: a client that skips a step leaves its pause behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_step: Option<i32>,
    /// The batches that a ReleasePolicy makes of the release; its steps are these. A field of Serin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchesStatus>,
    /// Which of the two Services is stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_ping_pong: Option<String>,
    /// Steps of plugins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub step_plugin_statuses: Vec<serde_json::Value>,
}

/// The batches of a rolling update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchesStatus {
    /// How many there are.
    pub count: i32,
    /// Instances of each but the last, which has what is left.
    pub size: i32,
}

impl CanaryStatus {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An analysis of a Rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnalysisRunRef {
    /// The AnalysisRun.
    pub name: String,
    /// Where it stands.
    pub status: AnalysisPhase,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A split of the requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficWeights {
    /// To the canary.
    pub canary: WeightDestination,
    /// To the stable revision.
    pub stable: WeightDestination,
    /// To experiments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional: Vec<WeightDestination>,
    /// Whether the data plane has said that it serves this split; absent when nobody says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

/// Where a share of the requests goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDestination {
    /// In percent.
    pub weight: i32,
    /// The Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_hash: Option<String>,
}

/// Of a blue-green release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BlueGreenStatus {
    /// The revision of the preview Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_selector: Option<String>,
    /// The revision of the active Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_selector: Option<String>,
    /// Whether the preview may grow to full size.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scale_up_preview_check_point: bool,
    /// The analysis before the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis_run_status: Option<AnalysisRunRef>,
    /// The analysis after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis_run_status: Option<AnalysisRunRef>,
}

impl BlueGreenStatus {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
