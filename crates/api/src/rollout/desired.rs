//! The checked form of a Rollout's spec: what is wanted, with defaults filled in and nothing contradictory left.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::analysis::{Argument, DryRun, MeasurementRetention, TemplateRef};
use crate::units::{CountOrPercent, Weight};

/// What a Rollout wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Instances.
    pub replicas: u32,
    /// Its pods.
    pub selector: LabelSelector,
    /// The pods of the version that is wanted.
    pub template: PodTemplateSpec,
    /// For how long an instance must be ready to be available.
    pub min_ready: SignedDuration,
    /// Old ReplicaSets that are kept.
    pub revision_history_limit: usize,
    /// Whether nothing goes on.
    pub paused: bool,
    /// In which time an update must get on; `None` for any.
    pub progress_deadline: Option<SignedDuration>,
    /// Whether an update that does not get on in time is taken back.
    pub progress_deadline_abort: bool,
    /// Pods that were made before are replaced.
    pub restart_at: Option<Timestamp>,
    /// How many finished AnalysisRuns are kept: good ones, others.
    pub analysis_history: (usize, usize),
    /// The steps of a canary as they are written, as JSON: a change of them begins a release again.
    pub steps_text: String,
    /// How the version comes to the users.
    pub strategy: Strategy,
}

/// How a version comes to the users.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// A growing share of the requests.
    Canary(Canary),
    /// Two full sets and one switch.
    BlueGreen(BlueGreen),
}

/// A growing share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// The steps.
    pub steps: Vec<Step>,
    /// The routes that carry the split; empty when the numbers of instances do.
    pub routes: Vec<Route>,
    /// The Service of the stable pods; always there with routes.
    pub stable_service: Option<String>,
    /// The Service of the canary pods; always there with routes.
    pub canary_service: Option<String>,
    /// Instances above `replicas`.
    pub max_surge: CountOrPercent,
    /// Instances below `replicas`.
    pub max_unavailable: CountOrPercent,
    /// An analysis in the background.
    pub background: Option<BackgroundAnalysis>,
    /// For how long the old instances are kept after the last step, with routes.
    pub scale_down_delay: SignedDuration,
    /// For how long the canary is kept after an abort, with routes; `None` for ever.
    pub abort_scale_down_delay: Option<SignedDuration>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The share of the canary.
    SetWeight(Weight),
    /// A wait; `None` for a person.
    Pause(Option<SignedDuration>),
    /// The instances of the canary apart from its share.
    SetCanaryScale(CanaryScale),
    /// An analysis that must be good.
    Analysis(AnalysisRef),
}

/// The instances of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryScale {
    /// So many.
    Replicas(u32),
    /// So many percent of `replicas`.
    Weight(Weight),
    /// As the share of the requests says.
    MatchTraffic,
}

/// A route that carries the split.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// An HTTPRoute in the namespace of the Rollout.
    HttpRoute(String),
}

impl Route {
    /// The kind of the object.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::HttpRoute(_) => "HTTPRoute",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::HttpRoute(name) => name,
        }
    }
}

/// An analysis: templates put together, with arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnalysisRef {
    /// The templates; at least one.
    pub templates: Vec<TemplateRef>,
    /// The arguments.
    pub args: Vec<Argument>,
    /// Metrics whose result does not count.
    pub dry_run: Vec<DryRun>,
    /// How many measurements are kept.
    pub retention: Vec<MeasurementRetention>,
}

/// An analysis in the background of the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct BackgroundAnalysis {
    /// What is analysed.
    pub analysis: AnalysisRef,
    /// The step at which it begins.
    pub starting_step: usize,
}

/// Two full sets and one switch.
#[derive(Clone, Debug, PartialEq)]
pub struct BlueGreen {
    /// The Service of the users.
    pub active_service: String,
    /// The Service of the testers.
    pub preview_service: Option<String>,
    /// Instances before the switch; `None` for all.
    pub preview_replicas: Option<u32>,
    /// Whether the switch comes by itself.
    pub auto_promotion: bool,
    /// How long until it does.
    pub auto_promotion_after: Option<SignedDuration>,
    /// For how long the old set is kept.
    pub scale_down_delay: SignedDuration,
    /// For how long the new set is kept after an abort; `None` for ever.
    pub abort_scale_down_delay: Option<SignedDuration>,
    /// What must be good before the switch.
    pub pre_promotion: Option<AnalysisRef>,
    /// What must be good after the switch.
    pub post_promotion: Option<AnalysisRef>,
}
