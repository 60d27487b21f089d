//! The objects that a spec names: whether they exist and can do what is asked of them.

use serin_api::analysis::AnalysisRunSpec;
use serin_api::rollout::{AnalysisRef, Canary, Desired, Route, Step, Strategy};

use super::observed::{Observed, ServiceView};
use crate::analysis::{Origin, instantiate, is_endless, resolve};

/// One sentence for each object that is missing or unfit, with the path of the field that names it.
pub(super) fn references(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut problems = observed.governed.problems.clone();
    if let Some(other) = &observed.overlaps {
        problems.push(format!(
            "spec.selector: Invalid value: Rollout {other:?}, which is older, selects the same pods; give each Rollout labels of its own"
        ));
    }
    let missing = observed.configuration.missing.iter();
    problems.extend(missing.map(|reference| {
        let name = &reference.name;
        format!("spec.template: Invalid value: {name:?}: {reference} not found")
    }));
    for (path, service) in services(&desired.strategy) {
        let why = match observed.services.get(service) {
            None => format!("service {service:?} not found"),
            Some(seen) => match &seen.taken_by {
                Some(other) => format!(
                    "Rollout {other:?} already sets this Service; give each Rollout its own"
                ),
                None => continue,
            },
        };
        problems.push(format!("{path}: Invalid value: {service:?}: {why}"));
    }
    if let Strategy::Canary(canary) = &desired.strategy {
        problems.extend(subsets(canary, observed));
        problems.extend(
            canary
                .routes
                .iter()
                .flat_map(|r| route(r, canary, observed)),
        );
    }
    let bake = observed.governed.policy.bake.as_ref();
    let bake = bake.and_then(|b| b.analysis.as_ref());
    let bake = bake.map(|a| ("ReleasePolicy spec.bake.analysis".to_owned(), a, true));
    for (path, analysis, waits) in analyses(&desired.strategy).into_iter().chain(bake) {
        let origin = Origin {
            object: observed.object.clone(),
            ..Origin::default()
        };
        match instantiate(analysis, &observed.templates, &origin) {
            Err(found) => problems.extend(found.into_iter().map(|why| format!("{path}: {why}"))),
            Ok(run) if waits => problems.extend(endless(&run).map(|why| format!("{path}: {why}"))),
            Ok(_) => {}
        }
    }
    problems
}

/// What is wrong with a route that is named.
fn route(route: &Route, canary: &Canary, observed: &Observed) -> Vec<String> {
    let (kind, name) = (route.kind(), route.name());
    let why = match observed.routes.get(route) {
        None => vec!["not found".to_owned()],
        Some(view) if !view.problems.is_empty() => view.problems.clone(),
        Some(view) if view.canary.is_none() => vec![names_no_sides(route, canary).to_owned()],
        Some(_) => Vec::new(),
    };
    let path = path_of(route);
    let said = why.iter();
    said.map(|why| format!("{path}: Invalid value: {name:?}: {kind} {name:?} {why}"))
        .collect()
}

fn names_no_sides(route: &Route, canary: &Canary) -> &'static str {
    match route {
        Route::HttpRoute(_) => {
            "has no rule whose backendRefs name both stableService and canaryService"
        }
        Route::Ingress(_) => "has no rule whose backend names stableService",
        Route::VirtualService { .. } if canary.subsets.is_some() => {
            "has no HTTP route whose destinations name both subsets of the DestinationRule"
        }
        Route::VirtualService { .. } => {
            "has no HTTP route whose destinations name both stableService and canaryService"
        }
    }
}

/// The field that names a route.
fn path_of(route: &Route) -> &'static str {
    match route {
        Route::HttpRoute(_) => {
            "spec.strategy.canary.trafficRouting.plugins[argoproj-labs/gatewayAPI].httpRoute"
        }
        Route::Ingress(_) => "spec.strategy.canary.trafficRouting.nginx.stableIngress",
        Route::VirtualService { .. } => {
            "spec.strategy.canary.trafficRouting.istio.virtualService.name"
        }
    }
}

/// What is wrong with the DestinationRule that is named.
fn subsets(canary: &Canary, observed: &Observed) -> Vec<String> {
    const AT: &str = "spec.strategy.canary.trafficRouting.istio.destinationRule";
    let Some(named) = &canary.subsets else {
        return Vec::new();
    };
    let rule = &named.rule;
    let Some(seen) = &observed.subsets else {
        return vec![format!(
            "{AT}.name: Invalid value: {rule:?}: DestinationRule {rule:?} not found"
        )];
    };
    let both = [
        ("stableSubsetName", &named.stable),
        ("canarySubsetName", &named.canary),
    ];
    let problems = both.into_iter().filter_map(|(field, subset)| {
        let why = match seen.get(subset) {
            None => format!("DestinationRule {rule:?} has no such subset"),
            Some(ServiceView {
                taken_by: Some(other),
                ..
            }) => format!(
                "Rollout {other:?} already sets DestinationRule {rule:?}; give each Rollout its own"
            ),
            Some(_) => return None,
        };
        Some(format!("{AT}.{field}: Invalid value: {subset:?}: {why}"))
    });
    problems.collect()
}

/// A release that waits for a metric without end would never go on.
fn endless(run: &AnalysisRunSpec) -> impl Iterator<Item = String> + '_ {
    // The arguments decide it: a count may be one.
    let resolved = run
        .metrics
        .iter()
        .filter_map(|m| resolve(m, &run.args).ok());
    let endless = resolved.filter(is_endless);
    endless.map(|m| format!("metric {:?} is measured for ever: give it a count", m.name))
}

fn services(strategy: &Strategy) -> Vec<(&'static str, &String)> {
    let named = match strategy {
        Strategy::Canary(canary) => vec![
            (
                "spec.strategy.canary.stableService",
                canary.stable_service.as_ref(),
            ),
            (
                "spec.strategy.canary.canaryService",
                canary.canary_service.as_ref(),
            ),
        ],
        Strategy::BlueGreen(blue_green) => vec![
            (
                "spec.strategy.blueGreen.activeService",
                Some(&blue_green.active_service),
            ),
            (
                "spec.strategy.blueGreen.previewService",
                blue_green.preview_service.as_ref(),
            ),
        ],
    };
    named
        .into_iter()
        .filter_map(|(path, service)| service.map(|s| (path, s)))
        .collect()
}

/// The analyses with their paths, and whether the release waits for their end.
fn analyses(strategy: &Strategy) -> Vec<(String, &AnalysisRef, bool)> {
    match strategy {
        Strategy::Canary(canary) => {
            let steps = canary
                .steps
                .iter()
                .enumerate()
                .flat_map(|(i, step)| step.parts().iter().map(move |part| (i, part)))
                .filter_map(|(i, part)| match part {
                    Step::Analysis(analysis) => Some((
                        format!("spec.strategy.canary.steps[{i}].analysis"),
                        analysis,
                        true,
                    )),
                    _ => None,
                });
            let background = canary.background.as_ref();
            let background = background.map(|b| {
                (
                    "spec.strategy.canary.analysis".to_owned(),
                    &b.analysis,
                    false,
                )
            });
            steps.chain(background).collect()
        }
        Strategy::BlueGreen(blue_green) => {
            let at = |name: &str| format!("spec.strategy.blueGreen.{name}");
            let pre = blue_green
                .pre_promotion
                .as_ref()
                .map(|a| (at("prePromotionAnalysis"), a, true));
            let post = blue_green
                .post_promotion
                .as_ref()
                .map(|a| (at("postPromotionAnalysis"), a, true));
            pre.into_iter().chain(post).collect()
        }
    }
}
