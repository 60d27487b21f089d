//! What scales workloads, and what guards them from being thinned out.

use super::field::Field;
use super::metadata;
use crate::Problem;
use crate::units::CountOrPercent;

pub(super) fn autoscaler(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if !spec.require("", out) {
        return;
    }
    for name in ["kind", "name"] {
        spec.get("scaleTargetRef").get(name).require("", out);
    }
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let bounds = (least.integer().unwrap_or(1), most.integer());
    if bounds.0 < 1 {
        out.push(least.invalid("must be greater than or equal to 1"));
    }
    match bounds {
        (_, Some(..=0)) => out.push(most.invalid("must be greater than 0")),
        (least, Some(number)) if number < least => {
            out.push(most.invalid("must be greater than or equal to `minReplicas`"));
        }
        _ => {}
    }
    out.push(Problem::unbuilt(
        spec.path,
        "set the replicas of the workload",
    ));
}

pub(super) fn disruption_budget(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_there() && most.is_there() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        out.push(Problem::invalid(spec.path.clone(), "both", why));
    }
    for bound in [&least, &most] {
        let Some(value) = bound.value else { continue };
        let parsed = serde_json::from_value(value.clone()).ok();
        let parsed = parsed.and_then(|value| CountOrPercent::parse(&value));
        let marked = bound.text().is_none_or(|text| text.ends_with('%'));
        match parsed.filter(|_| marked) {
            None => out.push(bound.invalid(CountOrPercent::EXPECTED)),
            Some(CountOrPercent::Percent(101..)) => {
                out.push(bound.invalid("must not be greater than 100%"));
            }
            Some(_) => {}
        }
    }
    metadata::selector(&spec.get("selector"), out);
}
