//! From the raw spec of a Rollout to the checked one, with every problem at once.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::desired::{
    AnalysisRef, BackgroundAnalysis, BlueGreen, Canary, CanaryScale, Desired, Route, Step, Strategy,
};
use super::routing::TrafficRouting;
use super::spec::{
    BackgroundRolloutAnalysis, BlueGreenStrategy, CanaryStep, CanaryStrategy, RolloutAnalysis,
    RolloutSpec, RolloutStrategy, SetCanaryScale,
};
use crate::problem::{FieldPath, Problem, Severity};
use crate::units::{CountOrPercent, DURATION_EXPECTED, Weight, parse_duration};

/// The key of the Gateway API router under `trafficRouting.plugins`, which is built in here.
const GATEWAY_API: &str = "argoproj-labs/gatewayAPI";

/// The outcome of [`lower`].
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// `None` when a problem stops the spec.
    pub desired: Option<Desired>,
    /// Every problem and warning, in the order of the fields.
    pub problems: Vec<Problem>,
}

/// Checks a spec and fills in its defaults.
pub fn lower(spec: &RolloutSpec) -> Lowered {
    let mut check = Check {
        problems: Vec::new(),
    };
    let root = FieldPath::new("spec");
    let desired = check.spec(spec, &root);
    let stopped = check
        .problems
        .iter()
        .any(|p| p.severity != Severity::Warning);
    Lowered {
        desired: desired.filter(|_| !stopped),
        problems: check.problems,
    }
}

/// Checks an analysis that stands outside the spec of a Rollout.
pub fn lower_analysis(analysis: &RolloutAnalysis, at: &FieldPath) -> (AnalysisRef, Vec<Problem>) {
    let mut check = Check {
        problems: Vec::new(),
    };
    let lowered = check.analysis(analysis, at);
    (lowered, check.problems)
}

/// Collects problems while the parts of a spec are lowered. A method gives `None` only after it has reported why.
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn spec(&mut self, spec: &RolloutSpec, at: &FieldPath) -> Option<Desired> {
        let replicas = self.count(spec.replicas, 1, &at.field("replicas"));
        self.selector(&spec.selector, &at.field("selector"));
        let template = self.template(spec, at);
        if spec.rollback_window.is_some() {
            self.report(Problem::warning(
                at.field("rollbackWindow"),
                "not carried out yet: every release goes through its steps",
            ));
        }
        let deadline = self.count(
            spec.progress_deadline_seconds,
            600,
            &at.field("progressDeadlineSeconds"),
        );
        let history = spec.analysis.clone().unwrap_or_default();
        let analysis = at.field("analysis");
        let good = self.count(
            history.successful_run_history_limit,
            5,
            &analysis.field("successfulRunHistoryLimit"),
        );
        let bad = self.count(
            history.unsuccessful_run_history_limit,
            5,
            &analysis.field("unsuccessfulRunHistoryLimit"),
        );
        let min_ready = self.seconds(spec.min_ready_seconds, 0, &at.field("minReadySeconds"));
        let limit = self.count(
            spec.revision_history_limit,
            10,
            &at.field("revisionHistoryLimit"),
        );
        let strategy = self.strategy(&spec.strategy, &at.field("strategy"));
        Some(Desired {
            replicas,
            selector: spec.selector.clone(),
            template: template?,
            min_ready,
            revision_history_limit: limit as usize,
            paused: spec.paused.unwrap_or(false),
            progress_deadline: (deadline > 0)
                .then(|| SignedDuration::from_secs(i64::from(deadline))),
            progress_deadline_abort: spec.progress_deadline_abort.unwrap_or(false),
            restart_at: spec.restart_at.as_ref().map(|t| t.0),
            analysis_history: (good as usize, bad as usize),
            steps_text: steps_text(&spec.strategy),
            strategy: strategy?,
        })
    }

    fn selector(&mut self, selector: &LabelSelector, at: &FieldPath) {
        let empty = selector.match_labels.as_ref().is_none_or(|l| l.is_empty());
        if empty
            && selector
                .match_expressions
                .as_ref()
                .is_none_or(Vec::is_empty)
        {
            self.report(Problem::required(
                at.clone(),
                "name the labels of the template's pods in matchLabels",
            ));
        }
    }

    fn template(&mut self, spec: &RolloutSpec, at: &FieldPath) -> Option<PodTemplateSpec> {
        if spec.workload_ref.is_some() {
            self.report(Problem::unbuilt(
                at.field("workloadRef"),
                "write the pod template under spec.template",
            ));
            return None;
        }
        let Some(template) = &spec.template else {
            self.report(Problem::required(at.field("template"), ""));
            return None;
        };
        let at = at.field("template");
        let labels = template
            .metadata
            .as_ref()
            .and_then(|m| m.labels.clone())
            .unwrap_or_default();
        let wanted = spec.selector.match_labels.iter().flatten();
        if !wanted
            .clone()
            .all(|(key, value)| labels.get(key) == Some(value))
        {
            let why = "`selector` does not match template `labels`";
            self.report(Problem::invalid(
                at.field("metadata").field("labels"),
                format!("{labels:?}"),
                why,
            ));
        }
        if template
            .spec
            .as_ref()
            .is_none_or(|s| s.containers.is_empty())
        {
            self.report(Problem::required(at.field("spec").field("containers"), ""));
        }
        Some(template.clone())
    }

    fn strategy(&mut self, strategy: &RolloutStrategy, at: &FieldPath) -> Option<Strategy> {
        match (&strategy.canary, &strategy.blue_green) {
            (Some(canary), None) => self
                .canary(canary, &at.field("canary"))
                .map(Strategy::Canary),
            (None, Some(blue_green)) => self
                .blue_green(blue_green, &at.field("blueGreen"))
                .map(Strategy::BlueGreen),
            (None, None) => {
                self.report(Problem::required(
                    at.clone(),
                    "give one of canary and blueGreen",
                ));
                None
            }
            (Some(_), Some(_)) => {
                self.report(Problem::invalid(
                    at.clone(),
                    "canary and blueGreen",
                    "give only one of them",
                ));
                None
            }
        }
    }

    fn canary(&mut self, canary: &CanaryStrategy, at: &FieldPath) -> Option<Canary> {
        let routes = canary
            .traffic_routing
            .as_ref()
            .map(|r| self.routing(r, &at.field("trafficRouting")))
            .unwrap_or_default();
        if canary.traffic_routing.is_some() {
            for (name, service) in [
                ("stableService", &canary.stable_service),
                ("canaryService", &canary.canary_service),
            ] {
                if service.as_deref().unwrap_or_default().is_empty() {
                    self.report(Problem::required(
                        at.field(name),
                        "traffic routing needs a Service for each side",
                    ));
                }
            }
        }
        if canary.stable_service.is_some() && canary.stable_service == canary.canary_service {
            let name = canary.stable_service.clone().unwrap_or_default();
            self.report(Problem::invalid(
                at.field("canaryService"),
                name,
                "must differ from stableService",
            ));
        }
        self.unbuilt_canary_fields(canary, at);
        let steps_at = at.field("steps");
        let steps: Vec<_> = canary
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| self.step(step, &steps_at.index(i)))
            .collect();
        self.scales_carry_their_weights(canary, &steps, &steps_at);
        let max_surge = self.bound(canary.max_surge.as_ref(), &at.field("maxSurge"));
        let max_unavailable =
            self.bound(canary.max_unavailable.as_ref(), &at.field("maxUnavailable"));
        if max_surge == CountOrPercent::Count(0) && max_unavailable == CountOrPercent::Count(0) {
            self.report(Problem::invalid(
                at.field("maxUnavailable"),
                0,
                "may not be 0 when `maxSurge` is 0",
            ));
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
        Some(Canary {
            steps: steps.into_iter().collect::<Option<_>>()?,
            routes,
            stable_service: canary.stable_service.clone(),
            canary_service: canary.canary_service.clone(),
            max_surge,
            max_unavailable,
            background,
            scale_down_delay: self.seconds(
                canary.scale_down_delay_seconds,
                30,
                &at.field("scaleDownDelaySeconds"),
            ),
            abort_scale_down_delay: (!abort_delay.is_zero()).then_some(abort_delay),
        })
    }

    /// Instances apart from the share need a route, and a share needs instances.
    fn scales_carry_their_weights(
        &mut self,
        canary: &CanaryStrategy,
        steps: &[Option<Step>],
        at: &FieldPath,
    ) {
        let mut nobody = false;
        for (i, step) in steps.iter().enumerate() {
            match step {
                Some(Step::SetCanaryScale(_)) if canary.traffic_routing.is_none() => {
                    let why = "needs trafficRouting: without it the instances are the split";
                    self.report(Problem::forbidden(at.index(i).field("setCanaryScale"), why));
                }
                Some(Step::SetCanaryScale(scale)) => {
                    let none = [CanaryScale::Replicas(0), CanaryScale::Weight(Weight::ZERO)];
                    nobody = none.contains(scale);
                }
                Some(Step::SetWeight(weight)) if nobody && *weight > Weight::ZERO => {
                    let why = "the setCanaryScale before it leaves no instance to answer";
                    let at = at.index(i).field("setWeight");
                    self.report(Problem::invalid(at, weight.percent(), why));
                }
                _ => {}
            }
        }
    }

    fn unbuilt_canary_fields(&mut self, canary: &CanaryStrategy, at: &FieldPath) {
        if canary.ping_pong.is_some() {
            self.report(Problem::unbuilt(
                at.field("pingPong"),
                "use stableService and canaryService",
            ));
        }
        if canary.dynamic_stable_scale == Some(true) && canary.scale_down_delay_seconds.is_some() {
            let why = "cannot be used together with scaleDownDelaySeconds";
            self.report(Problem::invalid(at.field("dynamicStableScale"), true, why));
        }
        let passed_over = [
            (
                "dynamicStableScale",
                canary.dynamic_stable_scale == Some(true),
            ),
            ("antiAffinity", canary.anti_affinity.is_some()),
            ("canaryMetadata", canary.canary_metadata.is_some()),
            ("stableMetadata", canary.stable_metadata.is_some()),
            (
                "scaleDownDelayRevisionLimit",
                canary.scale_down_delay_revision_limit.is_some(),
            ),
            (
                "minPodsPerReplicaSet",
                canary.min_pods_per_replica_set.is_some(),
            ),
            (
                "replicaProgressThreshold",
                canary.replica_progress_threshold.is_some(),
            ),
        ];
        self.passed_over(&passed_over, at);
    }

    fn passed_over(&mut self, fields: &[(&str, bool)], at: &FieldPath) {
        for (name, _) in fields.iter().filter(|(_, given)| *given) {
            self.report(Problem::warning(
                at.field(name),
                "not carried out yet: the release goes on without it",
            ));
        }
    }

    fn routing(&mut self, routing: &TrafficRouting, at: &FieldPath) -> Vec<Route> {
        let instead = "use plugins.argoproj-labs/gatewayAPI with an HTTPRoute";
        let others = [
            ("istio", routing.istio.is_some()),
            ("nginx", routing.nginx.is_some()),
            ("alb", routing.alb.is_some()),
            ("smi", routing.smi.is_some()),
            ("ambassador", routing.ambassador.is_some()),
            ("traefik", routing.traefik.is_some()),
            ("apisix", routing.apisix.is_some()),
            ("appMesh", routing.app_mesh.is_some()),
            (
                "maxTrafficWeight",
                routing.max_traffic_weight.is_some_and(|w| w != 100),
            ),
        ];
        for (name, _) in others.iter().filter(|(_, given)| *given) {
            self.report(Problem::unbuilt(at.field(name), instead));
        }
        if !routing.managed_routes.is_empty() {
            self.passed_over(&[("managedRoutes", true)], at);
        }
        let plugins = at.field("plugins");
        let mut routes = Vec::new();
        for (name, config) in &routing.plugins {
            if name == GATEWAY_API {
                routes.extend(self.gateway_api(config, &plugins.key(name)));
            } else {
                self.report(Problem::unbuilt(plugins.key(name), instead));
            }
        }
        if routing.plugins.is_empty() && !others.iter().any(|(_, given)| *given) {
            self.report(Problem::required(
                at.clone(),
                "name who splits the requests, such as plugins.argoproj-labs/gatewayAPI",
            ));
        }
        routes
    }

    fn gateway_api(&mut self, config: &serde_json::Value, at: &FieldPath) -> Vec<Route> {
        let one = config.get("httpRoute").and_then(|v| v.as_str());
        let many = config
            .get("httpRoutes")
            .and_then(|v| v.as_array())
            .into_iter()
            .flatten();
        let many = many.filter_map(|route| route.get("name").and_then(|n| n.as_str()));
        let routes: Vec<_> = one
            .into_iter()
            .chain(many)
            .map(|name| Route::HttpRoute(name.to_owned()))
            .collect();
        let known = ["httpRoute", "httpRoutes", "namespace"];
        for name in config
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys())
        {
            if !known.contains(&name.as_str()) {
                self.passed_over(&[(name.as_str(), true)], at);
            }
        }
        if routes.is_empty() {
            self.report(Problem::required(
                at.field("httpRoute"),
                "name the HTTPRoute whose weights are set",
            ));
        }
        routes
    }

    fn step(&mut self, step: &CanaryStep, at: &FieldPath) -> Option<Step> {
        let unbuilt = [
            ("setHeaderRoute", step.set_header_route.is_some()),
            ("setMirrorRoute", step.set_mirror_route.is_some()),
            ("experiment", step.experiment.is_some()),
            ("plugin", step.plugin.is_some()),
        ];
        let mut found = Vec::new();
        let mut kinds = 0;
        for (name, _) in unbuilt.iter().filter(|(_, given)| *given) {
            kinds += 1;
            self.report(Problem::unbuilt(at.field(name), "take the step out"));
        }
        if let Some(percent) = step.set_weight {
            kinds += 1;
            found.extend(
                self.weight(percent, &at.field("setWeight"))
                    .map(Step::SetWeight),
            );
        }
        if let Some(pause) = &step.pause {
            kinds += 1;
            let at = at.field("pause").field("duration");
            found.push(Step::Pause(
                pause.duration.as_ref().map(|d| self.duration(d, &at)),
            ));
        }
        if let Some(scale) = &step.set_canary_scale {
            kinds += 1;
            found.extend(
                self.canary_scale(scale, &at.field("setCanaryScale"))
                    .map(Step::SetCanaryScale),
            );
        }
        if let Some(analysis) = &step.analysis {
            kinds += 1;
            found.push(Step::Analysis(
                self.analysis(analysis, &at.field("analysis")),
            ));
        }
        match kinds {
            0 => self.report(Problem::required(
                at.clone(),
                "give one of setWeight, pause, setCanaryScale and analysis",
            )),
            1 => {}
            _ => self.report(Problem::invalid(
                at.clone(),
                format!("{kinds} kinds"),
                "a step has one kind; make several steps of it",
            )),
        }
        found.pop().filter(|_| kinds == 1)
    }

    fn canary_scale(&mut self, scale: &SetCanaryScale, at: &FieldPath) -> Option<CanaryScale> {
        match (
            scale.replicas,
            scale.weight,
            scale.match_traffic_weight.unwrap_or(false),
        ) {
            (Some(_), None, false) => Some(CanaryScale::Replicas(self.count(
                scale.replicas,
                0,
                &at.field("replicas"),
            ))),
            (None, Some(percent), false) => self
                .weight(percent, &at.field("weight"))
                .map(CanaryScale::Weight),
            (None, None, true) => Some(CanaryScale::MatchTraffic),
            _ => {
                self.report(Problem::invalid(
                    at.clone(),
                    "setCanaryScale",
                    "give one of replicas, weight and matchTrafficWeight",
                ));
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

    fn analysis(&mut self, analysis: &RolloutAnalysis, at: &FieldPath) -> AnalysisRef {
        if analysis.templates.is_empty() {
            self.report(Problem::required(
                at.field("templates"),
                "name an AnalysisTemplate",
            ));
        }
        for (i, template) in analysis.templates.iter().enumerate() {
            if template.template_name.is_empty() {
                let at = at.field("templates").index(i).field("templateName");
                self.report(Problem::required(at, ""));
            }
        }
        if analysis.analysis_run_metadata.is_some() {
            self.passed_over(&[("analysisRunMetadata", true)], at);
        }
        AnalysisRef {
            templates: analysis.templates.clone(),
            args: analysis.args.clone(),
            dry_run: analysis.dry_run.clone(),
            retention: analysis.measurement_retention.clone(),
        }
    }

    fn blue_green(&mut self, strategy: &BlueGreenStrategy, at: &FieldPath) -> Option<BlueGreen> {
        if strategy.active_service.is_empty() {
            self.report(Problem::required(
                at.field("activeService"),
                "name the Service of the users",
            ));
        }
        if strategy.preview_service.as_deref() == Some(&strategy.active_service) {
            let why = "must differ from activeService";
            self.report(Problem::invalid(
                at.field("previewService"),
                &strategy.active_service,
                why,
            ));
        }
        let passed_over = [
            ("maxUnavailable", strategy.max_unavailable.is_some()),
            ("antiAffinity", strategy.anti_affinity.is_some()),
            ("activeMetadata", strategy.active_metadata.is_some()),
            ("previewMetadata", strategy.preview_metadata.is_some()),
            (
                "scaleDownDelayRevisionLimit",
                strategy.scale_down_delay_revision_limit.is_some(),
            ),
        ];
        self.passed_over(&passed_over, at);
        let preview = strategy.preview_replica_count.map(|_| {
            self.count(
                strategy.preview_replica_count,
                0,
                &at.field("previewReplicaCount"),
            )
        });
        let after = strategy.auto_promotion_seconds.unwrap_or(0);
        let after = self.seconds(Some(after), 0, &at.field("autoPromotionSeconds"));
        let abort_delay = self.seconds(
            strategy.abort_scale_down_delay_seconds,
            30,
            &at.field("abortScaleDownDelaySeconds"),
        );
        let pre = strategy.pre_promotion_analysis.as_ref();
        let post = strategy.post_promotion_analysis.as_ref();
        Some(BlueGreen {
            active_service: strategy.active_service.clone(),
            preview_service: strategy.preview_service.clone(),
            preview_replicas: preview.filter(|count| *count > 0),
            auto_promotion: strategy.auto_promotion_enabled.unwrap_or(true),
            auto_promotion_after: (!after.is_zero()).then_some(after),
            scale_down_delay: self.seconds(
                strategy.scale_down_delay_seconds,
                30,
                &at.field("scaleDownDelaySeconds"),
            ),
            abort_scale_down_delay: (!abort_delay.is_zero()).then_some(abort_delay),
            pre_promotion: pre.map(|a| self.analysis(a, &at.field("prePromotionAnalysis"))),
            post_promotion: post.map(|a| self.analysis(a, &at.field("postPromotionAnalysis"))),
        })
    }

    fn count(&mut self, value: Option<i32>, default: u32, at: &FieldPath) -> u32 {
        let Some(value) = value else { return default };
        u32::try_from(value).unwrap_or_else(|_| {
            self.report(Problem::invalid(
                at.clone(),
                value,
                "must be greater than or equal to 0",
            ));
            default
        })
    }

    fn seconds(&mut self, value: Option<i32>, default: u32, at: &FieldPath) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.count(value, default, at)))
    }

    fn weight(&mut self, percent: i32, at: &FieldPath) -> Option<Weight> {
        let weight = Weight::new(percent);
        if weight.is_none() {
            self.report(Problem::invalid(
                at.clone(),
                percent,
                "must be between 0 and 100",
            ));
        }
        weight
    }

    fn duration(&mut self, value: &IntOrString, at: &FieldPath) -> SignedDuration {
        parse_duration(value).unwrap_or_else(|| {
            self.report(Problem::invalid(
                at.clone(),
                shown(value),
                DURATION_EXPECTED,
            ));
            SignedDuration::ZERO
        })
    }

    fn bound(&mut self, value: Option<&IntOrString>, at: &FieldPath) -> CountOrPercent {
        const DEFAULT: CountOrPercent = CountOrPercent::Percent(25);
        let Some(value) = value else { return DEFAULT };
        CountOrPercent::parse(value).unwrap_or_else(|| {
            self.report(Problem::invalid(
                at.clone(),
                shown(value),
                CountOrPercent::EXPECTED,
            ));
            DEFAULT
        })
    }
}

fn steps_text(strategy: &RolloutStrategy) -> String {
    let steps = strategy.canary.as_ref().map(|canary| &canary.steps);
    serde_json::to_string(&steps).unwrap_or_default()
}

fn shown(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(strategy: serde_json::Value, expected: Expect) {
        let spec = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
            "strategy": strategy,
        });
        let lowered = lower(&serde_json::from_value(spec).unwrap());
        let mut lines: Vec<_> = lowered
            .problems
            .iter()
            .map(|p| format!("{:?} {p}", p.severity))
            .collect();
        lines.push(format!("carried out: {}", lowered.desired.is_some()));
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let strategy = json!({"canary": {
            "maxSurge": 0, "maxUnavailable": 0, "stableService": "web",
            "trafficRouting": {"nginx": {"stableIngress": "web"}},
            "steps": [{"setWeight": 101}, {}, {"setWeight": 5, "pause": {"duration": "soon"}}, {"analysis": {}}],
        }});
        check(
            strategy,
            expect![[r#"
                Unbuilt spec.strategy.canary.trafficRouting.nginx: not carried out by this version of Serin; use plugins.argoproj-labs/gatewayAPI with an HTTPRoute
                Error spec.strategy.canary.canaryService: Required value: traffic routing needs a Service for each side
                Error spec.strategy.canary.steps[0].setWeight: Invalid value: 101: must be between 0 and 100
                Error spec.strategy.canary.steps[1]: Required value: give one of setWeight, pause, setCanaryScale and analysis
                Error spec.strategy.canary.steps[2].pause.duration: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
                Error spec.strategy.canary.steps[2]: Invalid value: 2 kinds: a step has one kind; make several steps of it
                Error spec.strategy.canary.steps[3].analysis.templates: Required value: name an AnalysisTemplate
                Error spec.strategy.canary.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
                carried out: false"#]],
        );
    }

    #[test]
    fn a_field_that_is_not_built_yet_is_never_silent() {
        let strategy =
            json!({"canary": {"dynamicStableScale": true, "steps": [{"setWeight": 20}]}});
        check(
            strategy,
            expect![[r#"
                Warning spec.strategy.canary.dynamicStableScale: not carried out yet: the release goes on without it
                carried out: true"#]],
        );
    }

    #[test]
    fn exactly_one_strategy() {
        check(
            json!({}),
            expect![[r#"
                Error spec.strategy: Required value: give one of canary and blueGreen
                carried out: false"#]],
        );
        check(
            json!({"canary": {}, "blueGreen": {"activeService": "a"}}),
            expect![[r#"
                Error spec.strategy: Invalid value: canary and blueGreen: give only one of them
                carried out: false"#]],
        );
    }
}
