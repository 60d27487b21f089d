//! Experiments.

use super::field::{Field, unique};
use super::{analysis, names, workload};

pub(super) fn check(root: &Field<'_>, out: &mut Vec<crate::Problem>) {
    let spec = root.get("spec");
    let versions = spec.get("templates");
    versions.require("give at least one version", out);
    for version in versions.items() {
        let name = version.get("name");
        if name.require("", out) {
            is_part_of_a_name(&name, out);
        }
        workload::workload(&version, "experiment", out);
    }
    unique(versions.items().map(|version| version.get("name")), out);
    let analyses = spec.get("analyses");
    for one in analyses.items() {
        let name = one.get("name");
        if name.require("", out) {
            is_part_of_a_name(&name, out);
        }
        one.get("templateName").require("", out);
    }
    unique(analyses.items().map(|one| one.get("name")), out);
    analysis::duration(&spec.get("duration"), out);
    spec.get("progressDeadlineSeconds").not_negative(out);
    spec.get("scaleDownDelaySeconds").not_negative(out);
}

/// The names of objects that belong to the experiment end with it.
fn is_part_of_a_name(name: &Field<'_>, out: &mut Vec<crate::Problem>) {
    if let Some(why) = name.text().and_then(names::subdomain) {
        out.push(name.invalid(why));
    }
}
