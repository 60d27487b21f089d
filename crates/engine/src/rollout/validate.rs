//! The objects that a spec names: whether they exist and can do what is asked of them.

use serin_api::rollout::{AnalysisRef, Desired, Step, Strategy};

use super::observed::Observed;
use crate::analysis::{Origin, instantiate};

/// One sentence for each object that is missing or unfit, with the path of the field that names it.
pub(super) fn references(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, service) in services(&desired.strategy) {
        if !observed.services.contains_key(service) {
            problems.push(format!(
                "{path}: Invalid value: {service:?}: service {service:?} not found"
            ));
        }
    }
    if let Strategy::Canary(canary) = &desired.strategy {
        for route in &canary.routes {
            let (kind, name) = (route.kind(), route.name());
            let path =
                "spec.strategy.canary.trafficRouting.plugins[argoproj-labs/gatewayAPI].httpRoute";
            match observed.routes.get(route) {
                None => problems.push(format!(
                    "{path}: Invalid value: {name:?}: {kind} {name:?} not found"
                )),
                Some(view) if view.canary.is_none() => {
                    let why = format!(
                        "{kind} {name:?} has no rule whose backendRefs name both stableService and canaryService"
                    );
                    problems.push(format!("{path}: Invalid value: {name:?}: {why}"));
                }
                Some(_) => {}
            }
        }
    }
    for (path, analysis) in analyses(&desired.strategy) {
        let origin = Origin {
            object: observed.object.clone(),
            ..Origin::default()
        };
        let found = instantiate(analysis, &observed.templates, &origin)
            .err()
            .unwrap_or_default();
        problems.extend(found.into_iter().map(|why| format!("{path}: {why}")));
    }
    problems
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

fn analyses(strategy: &Strategy) -> Vec<(String, &AnalysisRef)> {
    match strategy {
        Strategy::Canary(canary) => {
            let steps = canary
                .steps
                .iter()
                .enumerate()
                .filter_map(|(i, step)| match step {
                    Step::Analysis(analysis) => Some((
                        format!("spec.strategy.canary.steps[{i}].analysis"),
                        analysis,
                    )),
                    _ => None,
                });
            let background = canary
                .background
                .as_ref()
                .map(|b| ("spec.strategy.canary.analysis".to_owned(), &b.analysis));
            steps.chain(background).collect()
        }
        Strategy::BlueGreen(blue_green) => {
            let pre = blue_green
                .pre_promotion
                .as_ref()
                .map(|a| ("spec.strategy.blueGreen.prePromotionAnalysis".to_owned(), a));
            let post = blue_green.post_promotion.as_ref().map(|a| {
                (
                    "spec.strategy.blueGreen.postPromotionAnalysis".to_owned(),
                    a,
                )
            });
            pre.into_iter().chain(post).collect()
        }
    }
}
