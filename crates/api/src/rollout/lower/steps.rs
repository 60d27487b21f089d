//! The checked form of the steps of a canary.

use std::collections::BTreeMap;

use super::Check;
use super::canary::rank;
use super::routing::Routing;
use crate::problem::{FieldPath, Problem};
use crate::rollout::desired::{CanaryScale, ManagedAction, RequestMatch, Route, Step, TextMatch};
use crate::rollout::spec::{
    CanaryStep, ExperimentStep, RouteMatch, SetCanaryScale, SetHeaderRoute, SetMirrorRoute,
    StringMatch,
};
use crate::units::Weight;

const KINDS: &str = "give one of setWeight, pause, setCanaryScale, analysis, experiment, setHeaderRoute and setMirrorRoute";

/// The parts of all steps, each with the place of its step.
fn parts_of(steps: &[Option<Step>]) -> impl Iterator<Item = (usize, &Step)> {
    let steps = steps.iter().enumerate();
    steps.flat_map(|(i, step)| step.iter().flat_map(Step::parts).map(move |part| (i, part)))
}

impl Check {
    pub(super) fn steps(
        &mut self,
        raw: &[CanaryStep],
        routing: &Routing,
        routed: bool,
        at: &FieldPath,
    ) -> Option<Vec<Step>> {
        let steps: Vec<_> = raw
            .iter()
            .enumerate()
            .map(|(i, step)| self.step(step, routing, &at.index(i)))
            .collect();
        self.scales_carry_their_weights(&steps, routed, at);
        self.experiments_leave_a_share(&steps, routing, at);
        steps.into_iter().collect()
    }

    fn step(&mut self, step: &CanaryStep, routing: &Routing, at: &FieldPath) -> Option<Step> {
        let mut parts = Vec::new();
        let mut given = 0;
        let mut take = |given_here: bool, part: Option<Step>| {
            given += usize::from(given_here);
            parts.extend(part);
        };
        take(
            step.plugin.is_some(),
            step.plugin.as_ref().and_then(|p| self.plugin(p, at)),
        );
        let pause = step.pause.as_ref().map(|pause| {
            let at = at.field("pause").field("duration");
            Step::Pause(pause.duration.as_ref().map(|d| self.duration(d, &at)))
        });
        take(step.pause.is_some(), pause);
        let scale = step.set_canary_scale.as_ref();
        let scale = scale.and_then(|s| self.canary_scale(s, &at.field("setCanaryScale")));
        take(
            step.set_canary_scale.is_some(),
            scale.map(Step::SetCanaryScale),
        );
        let weight = step.set_weight;
        let weight = weight.and_then(|w| self.share(w, routing.max_weight, &at.field("setWeight")));
        take(step.set_weight.is_some(), weight.map(Step::SetWeight));
        let experiment = step.experiment.as_ref();
        let experiment = experiment.map(|e| self.experiment(e, routing, &at.field("experiment")));
        take(step.experiment.is_some(), experiment);
        let analysis = step.analysis.as_ref();
        let analysis = analysis.map(|a| Step::Analysis(self.analysis(a, &at.field("analysis"))));
        take(step.analysis.is_some(), analysis);
        let header = step.set_header_route.as_ref();
        let header = header.and_then(|r| self.header(r, routing, &at.field("setHeaderRoute")));
        take(step.set_header_route.is_some(), header);
        let mirror = step.set_mirror_route.as_ref();
        let mirror = mirror.and_then(|r| self.mirror(r, routing, &at.field("setMirrorRoute")));
        take(step.set_mirror_route.is_some(), mirror);
        if given == 0 {
            self.report(Problem::required(at.clone(), KINDS));
        }
        parts.sort_by_key(rank);
        if parts.len() > 1 {
            return (parts.len() == given).then_some(Step::Mixed(parts));
        }
        parts.pop().filter(|_| given == 1)
    }

    fn plugin(&mut self, plugin: &serde_json::Value, at: &FieldPath) -> Option<Step> {
        let name = plugin.get("name").and_then(|n| n.as_str());
        let instead = format!("take the step of plugin {:?} out", name.unwrap_or_default());
        self.report(Problem::unbuilt(at.field("plugin"), &instead));
        None
    }

    /// A weight as a share in percent; `max` is the sum of the weights.
    fn share(&mut self, weight: i32, max: u32, at: &FieldPath) -> Option<Weight> {
        let max = i64::from(max.max(1));
        let weight64 = i64::from(weight);
        let percent = weight64 * 100 / max;
        if !(0..=max).contains(&weight64) {
            let why = format!("must be between 0 and {max}");
            self.report(Problem::invalid(at.clone(), weight, &why));
            return None;
        }
        if percent * max != weight64 * 100 {
            let instead = format!("use a weight that is a whole percentage of {max}");
            self.report(Problem::unbuilt(at.clone(), &instead));
            return None;
        }
        i32::try_from(percent).ok().and_then(Weight::new)
    }

    fn canary_scale(&mut self, scale: &SetCanaryScale, at: &FieldPath) -> Option<CanaryScale> {
        let matching = scale.match_traffic_weight.unwrap_or(false);
        match (scale.replicas, scale.weight, matching) {
            (Some(_), None, false) => {
                let replicas = self.count(scale.replicas, 0, &at.field("replicas"));
                Some(CanaryScale::Replicas(replicas))
            }
            (None, Some(percent), false) => self
                .weight(percent, &at.field("weight"))
                .map(CanaryScale::Weight),
            (None, None, true) => Some(CanaryScale::MatchTraffic),
            _ => {
                let why = "give one of replicas, weight and matchTrafficWeight";
                self.report(Problem::invalid(at.clone(), "setCanaryScale", why));
                None
            }
        }
    }

    /// Instances apart from the share need a route, and a share needs instances.
    fn scales_carry_their_weights(&mut self, steps: &[Option<Step>], routed: bool, at: &FieldPath) {
        let mut nobody = false;
        for (i, part) in parts_of(steps) {
            match part {
                Step::SetCanaryScale(_) if !routed => {
                    let why = "needs trafficRouting: without it the instances are the split";
                    self.report(Problem::forbidden(at.index(i).field("setCanaryScale"), why));
                }
                Step::SetCanaryScale(scale) => {
                    let none = [CanaryScale::Replicas(0), CanaryScale::Weight(Weight::ZERO)];
                    nobody = none.contains(scale);
                }
                Step::SetWeight(weight) if nobody && *weight > Weight::ZERO => {
                    let why = "the setCanaryScale before it leaves no instance to answer";
                    let at = at.index(i).field("setWeight");
                    self.report(Problem::invalid(at, weight.percent(), why));
                }
                _ => {}
            }
        }
    }

    /// The shares of an experiment and of the canary are taken from the stable revision.
    fn experiments_leave_a_share(
        &mut self,
        steps: &[Option<Step>],
        routing: &Routing,
        at: &FieldPath,
    ) {
        let mut canary = Weight::ZERO;
        for (i, part) in parts_of(steps) {
            match part {
                Step::SetWeight(weight) => canary = *weight,
                Step::Experiment(experiment) => {
                    let max = i64::from(routing.max_weight);
                    let weights = experiment.templates.iter().filter_map(|t| t.weight);
                    let asked: i64 = weights.map(i64::from).sum();
                    let left = i64::from(canary.complement().percent()) * max / 100;
                    if asked > left {
                        let why = format!(
                            "the weights add up to more than {left}, which the canary leaves"
                        );
                        let at = at.index(i).field("experiment").field("templates");
                        self.report(Problem::invalid(at, asked, &why));
                    }
                }
                _ => {}
            }
        }
    }

    /// The share of a version of an experiment.
    fn experiment_weight(&mut self, weight: i32, routing: &Routing, at: &FieldPath) {
        let able = |route: &Route| route.has_managed_rules();
        if routing.routes.is_empty() || !routing.routes.iter().all(able) {
            let why = "needs trafficRouting with HTTPRoutes or VirtualServices";
            self.report(Problem::forbidden(at.clone(), why));
        }
        self.share(weight, routing.max_weight, at);
    }

    fn experiment(
        &mut self,
        experiment: &ExperimentStep,
        routing: &Routing,
        at: &FieldPath,
    ) -> Step {
        if experiment.templates.is_empty() {
            let hint = "give at least one version";
            self.report(Problem::required(at.field("templates"), hint));
        }
        for (i, template) in experiment.templates.iter().enumerate() {
            let at = at.field("templates").index(i);
            if template.name.is_empty() {
                self.report(Problem::required(at.field("name"), ""));
            }
            if !["canary", "stable"].contains(&template.spec_ref.as_str()) {
                let at = at.field("specRef");
                let known = ["canary", "stable"];
                self.report(Problem::not_supported(at, &template.spec_ref, &known));
            }
            self.count(template.replicas, 1, &at.field("replicas"));
            if let Some(weight) = template.weight {
                self.experiment_weight(weight, routing, &at.field("weight"));
            }
        }
        for (i, analysis) in experiment.analyses.iter().enumerate() {
            let at = at.field("analyses").index(i);
            for (name, text) in [
                ("name", &analysis.name),
                ("templateName", &analysis.template_name),
            ] {
                if text.is_empty() {
                    self.report(Problem::required(at.field(name), ""));
                }
            }
        }
        if let Some(duration) = &experiment.duration {
            let value =
                k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(duration.clone());
            self.duration(&value, &at.field("duration"));
        }
        Step::Experiment(Box::new(experiment.clone()))
    }

    /// Whether a step may change a managed route of this name.
    fn is_managed(&mut self, name: &str, routing: &Routing, at: &FieldPath) -> bool {
        let able = routing.routes.iter().any(Route::has_managed_rules);
        if !able {
            let why = "needs trafficRouting with an HTTPRoute or a VirtualService";
            self.report(Problem::forbidden(at.clone(), why));
        } else if name.is_empty() {
            self.report(Problem::required(at.field("name"), ""));
        } else if !routing.managed.iter().any(|known| known == name) {
            let why = "is not in trafficRouting.managedRoutes, which gives the order of the rules";
            self.report(Problem::invalid(at.field("name"), format!("{name:?}"), why));
        }
        able
    }

    fn header(
        &mut self,
        route: &SetHeaderRoute,
        routing: &Routing,
        at: &FieldPath,
    ) -> Option<Step> {
        let able = self.is_managed(&route.name, routing, at);
        let mut headers = Vec::new();
        for (i, one) in route.match_.iter().enumerate() {
            let at = at.field("match").index(i);
            if one.header_name.is_empty() {
                self.report(Problem::required(at.field("headerName"), ""));
            }
            let value = one.header_value.clone().unwrap_or_default();
            let value = self.text_match(&value, &at.field("headerValue"));
            headers.extend(value.map(|value| (one.header_name.clone(), value)));
        }
        let rule = (!route.match_.is_empty()).then_some(ManagedAction::Header(headers));
        let name = route.name.clone();
        able.then_some(Step::SetRoute { name, rule })
    }

    fn mirror(
        &mut self,
        route: &SetMirrorRoute,
        routing: &Routing,
        at: &FieldPath,
    ) -> Option<Step> {
        let able = self.is_managed(&route.name, routing, at);
        let percent = route.percentage.unwrap_or(100);
        let percent = self.weight(percent, &at.field("percentage"));
        let matches = route.match_.iter().enumerate();
        let matches = matches
            .map(|(i, one)| self.request_match(one, &at.field("match").index(i)))
            .collect();
        let rule = (!route.match_.is_empty()).then_some(ManagedAction::Mirror {
            matches,
            percent: percent?,
        });
        let name = route.name.clone();
        able.then_some(Step::SetRoute { name, rule })
    }

    fn request_match(&mut self, raw: &RouteMatch, at: &FieldPath) -> RequestMatch {
        let headers: &BTreeMap<_, _> = &raw.headers;
        RequestMatch {
            method: raw
                .method
                .as_ref()
                .and_then(|m| self.text_match(m, &at.field("method"))),
            path: raw
                .path
                .as_ref()
                .and_then(|p| self.text_match(p, &at.field("path"))),
            headers: headers
                .iter()
                .filter_map(|(name, value)| {
                    let at = at.field("headers").key(name);
                    Some((name.clone(), self.text_match(value, &at)?))
                })
                .collect(),
        }
    }

    fn text_match(&mut self, raw: &StringMatch, at: &FieldPath) -> Option<TextMatch> {
        match (&raw.exact, &raw.prefix, &raw.regex) {
            (Some(text), None, None) => Some(TextMatch::Exact(text.clone())),
            (None, Some(text), None) => Some(TextMatch::Prefix(text.clone())),
            (None, None, Some(text)) => Some(TextMatch::Regex(text.clone())),
            _ => {
                let hint = "give one of exact, prefix and regex";
                self.report(Problem::required(at.clone(), hint));
                None
            }
        }
    }
}
