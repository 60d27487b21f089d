//! The checked form of a Rollout's spec: what is wanted, with defaults filled in and nothing contradictory left.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use super::spec::{AntiAffinity, ExperimentStep, PodMetadata};
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
    /// The template as text that is the same for equal ones; empty until the engine has made it.
    pub template_text: String,
    /// A digest of the template that counts no default that is written out; empty until the engine has made it.
    pub template_digest: String,
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
    /// Going back to one of so many of the last revisions skips the steps; 0 for none.
    pub rollback_window: usize,
    /// The workload whose template is used, and when its own instances go; `None` when the template is the Rollout's own.
    pub workload: Option<Workload>,
    /// How many finished AnalysisRuns are kept: good ones, others.
    pub analysis_history: (usize, usize),
    /// The steps of a canary as they are written, as JSON: a change of them begins a release again.
    pub steps_text: String,
    /// How the version comes to the users.
    pub strategy: Strategy,
}

/// Another workload whose template is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its kind: `Deployment`, `ReplicaSet` or `PodTemplate`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When its own instances go.
    pub scale_down: ScaleDown,
}

/// When the instances of a referenced workload go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleDown {
    /// They stay.
    #[default]
    Never,
    /// When the Rollout has its first stable revision.
    OnSuccess,
    /// One by one, as instances of the Rollout become available.
    Progressively,
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
    /// The names of the rules that steps may put before the others of a route, the first first.
    pub managed_routes: Vec<String>,
    /// The sum of the weights on the routes, at least 1; the shares themselves are in percent.
    pub max_traffic_weight: u32,
    /// How the canary Ingresses beside the [`Route::Ingress`]es are made.
    pub ingress: IngressSettings,
    /// The Service of the stable pods; with routes, there is one or there are `subsets`.
    pub stable_service: Option<String>,
    /// The Service of the canary pods; with routes, there is one or there are `subsets`.
    pub canary_service: Option<String>,
    /// The subsets of a DestinationRule that VirtualServices name.
    pub subsets: Option<Subsets>,
    /// Whether the two Services take turns: see [`Desired::take_turns`].
    pub ping_pong: Option<PingPongSides>,
    /// Instances above `replicas`.
    pub max_surge: CountOrPercent,
    /// Instances below `replicas`.
    pub max_unavailable: CountOrPercent,
    /// The least instances of a revision that is not at 0, with routes; 1 says nothing.
    pub min_pods: u32,
    /// Whether the stable instances shrink as their share does.
    pub dynamic_stable_scale: bool,
    /// How many instances of a step must be available for the next; `None` for all.
    pub threshold: Option<Threshold>,
    /// An analysis in the background.
    pub background: Option<BackgroundAnalysis>,
    /// For how long the old instances are kept after the last step, with routes.
    pub scale_down_delay: SignedDuration,
    /// How many old revisions are kept at once for that time; `None` for any number.
    pub delay_revision_limit: Option<usize>,
    /// For how long the canary is kept after an abort, with routes; `None` for ever.
    pub abort_scale_down_delay: Option<SignedDuration>,
    /// Whether new instances keep away from the machines of the stable ones.
    pub anti_affinity: Option<AntiAffinity>,
    /// Labels and annotations of the pods while they are the canary.
    pub canary_metadata: PodMetadata,
    /// Labels and annotations of the pods while they are stable.
    pub stable_metadata: PodMetadata,
}

/// Two subsets of a DestinationRule, in the namespace of the Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// The DestinationRule.
    pub rule: String,
    /// The subset of the stable pods.
    pub stable: String,
    /// The subset of the canary pods.
    pub canary: String,
}

/// One of the two sides of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The revision that the users are on.
    Stable,
    /// The revision on trial.
    Canary,
}

/// What leads to the pods of one revision at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer<'a> {
    /// A Service, by its selector.
    Service(&'a str),
    /// A subset of the DestinationRule of [`Canary::subsets`], by its labels.
    Subset(&'a str),
}

/// How the Ingress of a canary is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressSettings {
    /// What stands before `/canary-weight` in its annotations.
    pub prefix: String,
    /// More annotations, with their whole keys.
    pub annotations: BTreeMap<String, String>,
}

/// Two Services that take turns as stable and canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingPongSides {
    /// Stable at first.
    pub ping: String,
    /// The other.
    pub pong: String,
}

/// How many instances of a step must be available for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many percent of them, rounded up.
    Percent(Weight),
    /// So many, or all of them when they are fewer.
    Pods(u32),
}

impl Canary {
    /// What leads to the pods of a side: its subset, its Service, or both. Routes name the first.
    pub fn pointers(&self, side: Side) -> impl Iterator<Item = Pointer<'_>> + Clone {
        let (service, subset) = match side {
            Side::Stable => (
                &self.stable_service,
                self.subsets.as_ref().map(|s| &s.stable),
            ),
            Side::Canary => (
                &self.canary_service,
                self.subsets.as_ref().map(|s| &s.canary),
            ),
        };
        let subset = subset.map(|name| Pointer::Subset(name));
        let service = service.as_deref().map(Pointer::Service);
        subset.into_iter().chain(service)
    }

    /// A share in percent, from its part of [`Canary::max_traffic_weight`].
    pub fn share_of_parts(&self, parts: i32) -> Weight {
        let percent = i64::from(parts) * 100 / i64::from(self.max_traffic_weight.max(1));
        let percent = i32::try_from(percent.clamp(0, 100));
        percent.ok().and_then(Weight::new).unwrap_or_default()
    }

    /// How many of the `instances` of a step must be available for the next; at least one of them.
    pub fn enough_of(&self, instances: u32) -> u32 {
        let enough = match self.threshold {
            None => instances,
            Some(Threshold::Percent(share)) => share.of_replicas(instances),
            Some(Threshold::Pods(pods)) => pods.min(instances),
        };
        enough.max(instances.min(1))
    }

    /// The instances that a revision has when `instances` of them are needed.
    pub fn at_least_min_pods(&self, instances: u32) -> u32 {
        if instances == 0 || self.routes.is_empty() {
            return instances;
        }
        instances.max(self.min_pods)
    }
}

/// In the status of a Rollout with `pingPong`: the second Service is the stable one.
pub const PONG: &str = "pong";
/// In the status of a Rollout with `pingPong`: the first Service is the stable one.
pub const PING: &str = "ping";

impl Desired {
    /// Gives the two Services of `pingPong` their present sides, of which `stable` (the status) names the stable one.
    pub fn take_turns(&mut self, stable: Option<&str>) {
        let Strategy::Canary(canary) = &mut self.strategy else {
            return;
        };
        let Some(sides) = &canary.ping_pong else {
            return;
        };
        let (ping, pong) = (sides.ping.clone(), sides.pong.clone());
        let (stable, trial) = if stable == Some(PONG) {
            (pong, ping)
        } else {
            (ping, pong)
        };
        canary.stable_service = Some(stable);
        canary.canary_service = Some(trial);
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The share of the canary.
    SetWeight(Weight),
    /// The instances of a batch are replaced, where the numbers of instances carry the split.
    Batch(Batch),
    /// A wait; `None` for a person.
    Pause(Option<SignedDuration>),
    /// The instances of the canary apart from its share.
    SetCanaryScale(CanaryScale),
    /// Versions side by side for a while.
    Experiment(Box<ExperimentStep>),
    /// An analysis that must be good.
    Analysis(AnalysisRef),
    /// A rule before the others of a route; `rule` is `None` to take it away.
    SetRoute {
        /// One of [`Canary::managed_routes`].
        name: String,
        /// What it does.
        rule: Option<ManagedAction>,
    },
    /// Several kinds in one step, carried out one after the other in this order: pause, setCanaryScale, setWeight, experiment,
    /// analysis, setHeaderRoute, setMirrorRoute.
    Mixed(Vec<Step>),
}

/// A batch of a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which, from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// Instances of the new revision after it.
    pub instances: u32,
}

impl Step {
    /// The parts of a step that mixes kinds, or the step itself.
    pub fn parts(&self) -> &[Step] {
        match self {
            Self::Mixed(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }
}

/// A rule that a step has put before the others of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManagedRule {
    /// One of [`Canary::managed_routes`].
    pub name: String,
    /// What it does.
    pub action: ManagedAction,
}

/// What a managed rule does with the requests that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ManagedAction {
    /// Requests that have all these headers go to the canary.
    Header(Vec<(String, TextMatch)>),
    /// Copies of the requests that match any of these go to the canary.
    Mirror {
        /// Any of these; empty for every request.
        matches: Vec<RequestMatch>,
        /// So many percent of them.
        percent: Weight,
    },
}

/// A request: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestMatch {
    /// Its method.
    pub method: Option<TextMatch>,
    /// Its path.
    pub path: Option<TextMatch>,
    /// Its headers.
    pub headers: Vec<(String, TextMatch)>,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TextMatch {
    /// This.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// This regular expression matches it.
    Regex(String),
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

/// An object that carries the split, in the namespace of the Rollout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// An HTTPRoute of the Gateway API.
    HttpRoute(String),
    /// An Ingress of the users, beside which a canary Ingress for ingress-nginx is kept.
    Ingress(String),
    /// A VirtualService of Istio.
    VirtualService {
        /// Its name.
        name: String,
        /// The names of its HTTP routes that split; without any, the one that names both sides.
        http: Vec<String>,
    },
}

impl Route {
    /// The kind of the object.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::HttpRoute(_) => "HTTPRoute",
            Self::Ingress(_) => "Ingress",
            Self::VirtualService { .. } => "VirtualService",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::HttpRoute(name) | Self::Ingress(name) | Self::VirtualService { name, .. } => name,
        }
    }

    /// Whether rules can be put before the others, by header or to mirror.
    pub fn has_managed_rules(&self) -> bool {
        matches!(self, Self::HttpRoute(_) | Self::VirtualService { .. })
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
    /// How many old sets are kept at once for that time; `None` for any number.
    pub delay_revision_limit: Option<usize>,
    /// Instances that may be missing in a restart.
    pub max_unavailable: CountOrPercent,
    /// Whether new instances keep away from the machines of the stable ones.
    pub anti_affinity: Option<AntiAffinity>,
    /// Labels and annotations of the pods that the users reach.
    pub active_metadata: PodMetadata,
    /// Labels and annotations of the pods before the switch.
    pub preview_metadata: PodMetadata,
    /// For how long the new set is kept after an abort; `None` for ever.
    pub abort_scale_down_delay: Option<SignedDuration>,
    /// What must be good before the switch.
    pub pre_promotion: Option<AnalysisRef>,
    /// What must be good after the switch.
    pub post_promotion: Option<AnalysisRef>,
}
