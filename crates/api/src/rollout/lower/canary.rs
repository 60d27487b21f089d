//! The checked form of a canary strategy, without its steps.

use jiff::SignedDuration;

use super::Check;
use crate::problem::{FieldPath, Problem};
use crate::rollout::desired::{BackgroundAnalysis, Canary, PingPongSides, Step, Threshold};
use crate::rollout::spec::{
    BackgroundRolloutAnalysis, CanaryStrategy, ReplicaProgressThreshold, RolloutAnalysis,
};
use crate::units::{CountOrPercent, Weight};

impl Check {
    pub(super) fn canary(&mut self, canary: &CanaryStrategy, at: &FieldPath) -> Option<Canary> {
        let routing = canary.traffic_routing.as_ref();
        let routing = routing.map(|r| self.routing(r, &at.field("trafficRouting")));
        let routed = routing.is_some();
        let routing = routing.unwrap_or_default();
        self.services(canary, routing.subsets.is_some(), at);
        let ping_pong = self.ping_pong(canary, &at.field("pingPong"));
        let steps = self.steps(&canary.steps, &routing, routed, &at.field("steps"));
        let max_surge = self.bound(canary.max_surge.as_ref(), &at.field("maxSurge"));
        let max_unavailable =
            self.bound(canary.max_unavailable.as_ref(), &at.field("maxUnavailable"));
        if max_surge == CountOrPercent::Count(0) && max_unavailable == CountOrPercent::Count(0) {
            let why = "may not be 0 when `maxSurge` is 0";
            self.report(Problem::invalid(at.field("maxUnavailable"), 0, why));
        }
        let background = canary
            .analysis
            .as_ref()
            .map(|a| self.background(a, &at.field("analysis")));
        let abort_delay = self.seconds(
            canary.abort_scale_down_delay_seconds,
            30,
            &at.field("abortScaleDownDelaySeconds"),
        );
        let services = match &ping_pong {
            Some(sides) => (Some(sides.ping.clone()), Some(sides.pong.clone())),
            None => (canary.stable_service.clone(), canary.canary_service.clone()),
        };
        Some(Canary {
            steps: steps?,
            routes: routing.routes,
            managed_routes: routing.managed,
            max_traffic_weight: routing.max_weight,
            ingress: routing.ingress,
            stable_service: services.0,
            canary_service: services.1,
            subsets: routing.subsets,
            ping_pong,
            max_surge,
            max_unavailable,
            min_pods: self.min_pods(canary, at),
            dynamic_stable_scale: routed && canary.dynamic_stable_scale == Some(true),
            threshold: canary
                .replica_progress_threshold
                .as_ref()
                .and_then(|t| self.threshold(t, &at.field("replicaProgressThreshold"))),
            background,
            scale_down_delay: self.scale_down_delay(canary, at),
            delay_revision_limit: self.limit(
                canary.scale_down_delay_revision_limit,
                &at.field("scaleDownDelayRevisionLimit"),
            ),
            abort_scale_down_delay: (!abort_delay.is_zero()).then_some(abort_delay),
            anti_affinity: self
                .anti_affinity(canary.anti_affinity.as_ref(), &at.field("antiAffinity")),
            canary_metadata: self
                .metadata(canary.canary_metadata.as_ref(), &at.field("canaryMetadata")),
            stable_metadata: self
                .metadata(canary.stable_metadata.as_ref(), &at.field("stableMetadata")),
        })
    }

    /// Where subsets lead to the pods of each side, the Services may be left out.
    fn services(&mut self, canary: &CanaryStrategy, subsets: bool, at: &FieldPath) {
        let named = [
            ("stableService", &canary.stable_service),
            ("canaryService", &canary.canary_service),
        ];
        if canary.ping_pong.is_some() {
            for (name, _) in named.iter().filter(|(_, service)| service.is_some()) {
                let why = "may not be set together with pingPong, which names both Services";
                self.report(Problem::forbidden(at.field(name), why));
            }
            if subsets {
                let why = "may not be set together with a DestinationRule, whose subsets keep their sides";
                self.report(Problem::forbidden(at.field("pingPong"), why));
            }
            return;
        }
        if canary.traffic_routing.is_some() && !subsets {
            for (name, service) in named {
                if service.as_deref().unwrap_or_default().is_empty() {
                    let hint = "traffic routing needs a Service for each side";
                    self.report(Problem::required(at.field(name), hint));
                }
            }
        }
        if canary.stable_service.is_some() && canary.stable_service == canary.canary_service {
            let name = canary.stable_service.clone().unwrap_or_default();
            let why = "must differ from stableService";
            self.report(Problem::invalid(at.field("canaryService"), name, why));
        }
    }

    fn ping_pong(&mut self, canary: &CanaryStrategy, at: &FieldPath) -> Option<PingPongSides> {
        let sides = canary.ping_pong.as_ref()?;
        if canary.traffic_routing.is_none() {
            let why = "needs trafficRouting: the Services take turns behind its routes";
            self.report(Problem::forbidden(at.clone(), why));
        }
        for (name, service) in [
            ("pingService", &sides.ping_service),
            ("pongService", &sides.pong_service),
        ] {
            if service.is_empty() {
                self.report(Problem::required(at.field(name), "name the Service"));
            }
        }
        if sides.ping_service == sides.pong_service && !sides.ping_service.is_empty() {
            let why = "must differ from pingService";
            self.report(Problem::invalid(
                at.field("pongService"),
                &sides.pong_service,
                why,
            ));
        }
        Some(PingPongSides {
            ping: sides.ping_service.clone(),
            pong: sides.pong_service.clone(),
        })
    }

    fn min_pods(&mut self, canary: &CanaryStrategy, at: &FieldPath) -> u32 {
        let at = at.field("minPodsPerReplicaSet");
        let pods = self.count(canary.min_pods_per_replica_set, 1, &at);
        if pods == 0 {
            self.report(Problem::invalid(at, 0, "must be greater than 0"));
        }
        pods.max(1)
    }

    fn scale_down_delay(&mut self, canary: &CanaryStrategy, at: &FieldPath) -> SignedDuration {
        let dynamic = canary.dynamic_stable_scale == Some(true);
        let given = canary.scale_down_delay_seconds;
        if dynamic && given.is_some() {
            let why = "cannot be used together with scaleDownDelaySeconds";
            self.report(Problem::invalid(at.field("dynamicStableScale"), true, why));
        }
        // With a dynamic scale the old instances have gone before the end.
        let default = if dynamic { 0 } else { 30 };
        self.seconds(given, default, &at.field("scaleDownDelaySeconds"))
    }

    fn threshold(
        &mut self,
        threshold: &ReplicaProgressThreshold,
        at: &FieldPath,
    ) -> Option<Threshold> {
        let value = at.field("value");
        match threshold.type_.as_str() {
            "Percent" => match Weight::new(threshold.value).filter(|w| *w > Weight::ZERO) {
                Some(share) => Some(Threshold::Percent(share)),
                None => {
                    let why = "must be between 1 and 100";
                    self.report(Problem::invalid(value, threshold.value, why));
                    None
                }
            },
            "Pods" => match u32::try_from(threshold.value).ok().filter(|n| *n > 0) {
                Some(pods) => Some(Threshold::Pods(pods)),
                None => {
                    let why = "must be greater than 0";
                    self.report(Problem::invalid(value, threshold.value, why));
                    None
                }
            },
            other => {
                let at = at.field("type");
                self.report(Problem::not_supported(at, other, &["Percent", "Pods"]));
                None
            }
        }
    }

    fn background(
        &mut self,
        analysis: &BackgroundRolloutAnalysis,
        at: &FieldPath,
    ) -> BackgroundAnalysis {
        let starting_step = self.count(analysis.starting_step, 0, &at.field("startingStep"));
        let plain = RolloutAnalysis {
            templates: analysis.templates.clone(),
            args: analysis.args.clone(),
            dry_run: analysis.dry_run.clone(),
            measurement_retention: analysis.measurement_retention.clone(),
            analysis_run_metadata: analysis.analysis_run_metadata.clone(),
        };
        BackgroundAnalysis {
            analysis: self.analysis(&plain, at),
            starting_step: starting_step as usize,
        }
    }
}

/// The kinds in which the parts of a mixed step are carried out.
pub(super) fn rank(step: &Step) -> usize {
    match step {
        Step::Pause(_) => 0,
        Step::SetCanaryScale(_) => 1,
        Step::SetWeight(_) | Step::Batch(_) => 2,
        Step::Experiment(_) => 3,
        Step::Analysis(_) => 4,
        Step::SetRoute { .. } | Step::Mixed(_) => 5,
    }
}
