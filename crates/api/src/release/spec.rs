//! The spec of a ReleasePolicy as people write it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rollout::RolloutAnalysis;

/// What goes beyond the contract of Argo Rollouts, for the Rollouts of a namespace that it selects or that name it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "ReleasePolicy",
    namespaced,
    shortname = "rp"
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleasePolicySpec {
    /// The Rollouts that it governs, by their labels; an empty one selects all of the namespace. Absent: only those that name
    /// it in the annotation `serin.dev/release-policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// How a release is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackPolicy>,
    /// How long a new revision is watched while the old one stands by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakePolicy>,
    /// Times in which no release begins or goes on; a way back is never held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<FreezeWindow>,
    /// What a person must approve, each at its place in a release; a way back is never held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateSpec>,
    /// Makes the ConfigMaps and Secrets that a template mounts or reads part of its revision. Absent: a change of one reaches
    /// the instances by itself, past every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationPolicy>,
    /// Replaces instances in batches, with a check after each, where a canary has neither `steps` nor `trafficRouting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchPolicy>,
}

/// How a rolling update goes from batch to batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchPolicy {
    /// Instances of a batch: a number, or a percentage of the replicas, rounded up; at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<IntOrString>,
    /// Seconds, or a duration such as `1m`, for which each batch is watched once it is available; not at all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<IntOrString>,
    /// What is measured after each batch; when it is bad, the release is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<RolloutAnalysis>,
}

/// Which objects that a template mounts or reads are part of its revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigurationPolicy {
    /// `ConfigMap`, `Secret` or both; both when absent. A single object is left out by its annotation
    /// `serin.dev/versioned: "false"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
}

/// Times in which no release begins or goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FreezeWindow {
    /// What it is for, such as `weekend`.
    pub name: String,
    /// When it begins, in the five fields of cron: `0 16 * * fri`.
    pub schedule: String,
    /// Seconds, or a duration such as `64h`; at most 31 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<IntOrString>,
    /// The time zone of the schedule, such as `Europe/Berlin`; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What a person must approve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GateSpec {
    /// Its name, unique in the policy: what is approved.
    pub name: String,
    /// What waits for it: `start` of the release, a `step` of a canary, or the `promotion`, after the last step or before the
    /// switch of a blue-green release; `promotion` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The step, from 1, with `before: step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// A service that is asked, in the place of a person; a person may still answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
}

/// A service that approves or rejects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookSpec {
    /// Where it is asked by a POST: `https://HOST/PATH`.
    pub url: String,
    /// For how long an answer is waited for, from 1 to 60; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Seconds, or a duration such as `1m`, after which it is asked again when it cannot say yet; 30 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntOrString>,
    /// The key with which each question is signed, as Standard Webhooks have it: `whsec_` and base64, or the bytes themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SigningKey>,
}

/// A key of a Secret of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SigningKey {
    /// The Secret.
    pub secret_name: String,
    /// The key in it.
    pub key: String,
}

/// How a release is taken back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RollbackPolicy {
    /// Whether a revision that was taken back is held when it is asked for again, until its template changes or a person
    /// retries; false when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_rejected: Option<bool>,
    /// Whether going back to a revision that was promoted before skips steps, analyses, pauses and gates; true when absent and
    /// `keepWarm` is given, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instant: Option<bool>,
    /// Keeps instances of the last good revision after a release, so that going back to it starts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<KeepWarm>,
}

/// The instances of the last good revision that are kept after a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KeepWarm {
    /// A number, or a percentage of the replicas, rounded up; 100 % when absent. With fewer than all, going back first starts
    /// the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<IntOrString>,
    /// Seconds, or a duration such as `1h`, from the end of the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<IntOrString>,
}

/// How long a new revision is watched after all users are on it, while the old one stands by at full size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BakePolicy {
    /// Seconds, or a duration such as `15m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<IntOrString>,
    /// What is measured meanwhile; when it is bad, the release is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<RolloutAnalysis>,
}
