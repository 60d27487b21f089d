//! From the raw spec of a Rollout to the checked one, with every problem at once.

mod blue_green;
mod canary;
mod routing;
mod steps;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::desired::{AnalysisRef, Desired, ScaleDown, Strategy, Workload};
use super::spec::{AntiAffinity, PodMetadata, RolloutAnalysis, RolloutSpec, RolloutStrategy};
use crate::problem::{FieldPath, Problem, Severity};
use crate::units::{CountOrPercent, DURATION_EXPECTED, Weight, parse_duration};

/// The outcome of [`lower`].
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// `None` when a problem stops the spec, and while a template is referenced that is not there.
    pub desired: Option<Desired>,
    /// Every problem and warning, in the order of the fields.
    pub problems: Vec<Problem>,
}

/// Checks a spec and fills in its defaults. A spec with a `workloadRef` is carried out once the template of that workload
/// stands in its place.
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

/// The problem of a spec that a person has sent with a template and with a reference to one.
pub(crate) fn template_is_not_referenced_and_written(spec: &RolloutSpec) -> Option<Problem> {
    let why = "may not be set together with workloadRef, which names the template";
    let twice = spec.workload_ref.is_some() && spec.template.is_some();
    twice.then(|| Problem::forbidden(FieldPath::new("spec.template"), why))
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
        let workload = self.workload(spec, &at.field("workloadRef"));
        let window = spec.rollback_window.as_ref().and_then(|w| w.revisions);
        let window = self.count(window, 0, &at.field("rollbackWindow").field("revisions"));
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
            template_text: String::new(),
            template_digest: String::new(),
            min_ready,
            revision_history_limit: limit as usize,
            paused: spec.paused.unwrap_or(false),
            progress_deadline: (deadline > 0)
                .then(|| SignedDuration::from_secs(i64::from(deadline))),
            progress_deadline_abort: spec.progress_deadline_abort.unwrap_or(false),
            rollback_window: window as usize,
            workload,
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
        let Some(template) = &spec.template else {
            if spec.workload_ref.is_none() {
                self.report(Problem::required(at.field("template"), ""));
            }
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

    fn workload(&mut self, spec: &RolloutSpec, at: &FieldPath) -> Option<Workload> {
        let reference = spec.workload_ref.as_ref()?;
        let kind = reference.kind.clone().unwrap_or_default();
        let api = reference.api_version.as_deref().unwrap_or_default();
        let known = [
            ("Deployment", "apps/v1"),
            ("ReplicaSet", "apps/v1"),
            ("PodTemplate", "v1"),
        ];
        match known.iter().find(|(name, _)| *name == kind) {
            Some((_, version)) if *version == api => {}
            Some((_, version)) => {
                let at = at.field("apiVersion");
                self.report(Problem::not_supported(at, api, &[version]));
            }
            None => {
                let names = known.map(|(name, _)| name);
                self.report(Problem::not_supported(at.field("kind"), &kind, &names));
            }
        }
        let name = reference.name.clone().unwrap_or_default();
        if name.is_empty() {
            let hint = "name the workload whose template is used";
            self.report(Problem::required(at.field("name"), hint));
        }
        let scale_down = match reference.scale_down.as_deref().unwrap_or("never") {
            "never" => ScaleDown::Never,
            "onsuccess" => ScaleDown::OnSuccess,
            "progressively" => ScaleDown::Progressively,
            other => {
                let known = ["never", "onsuccess", "progressively"];
                self.report(Problem::not_supported(at.field("scaleDown"), other, &known));
                ScaleDown::Never
            }
        };
        Some(Workload {
            kind,
            name,
            scale_down,
        })
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

    /// What a pod is labelled with for a time; a key that the template has is the template's.
    fn metadata(&mut self, metadata: Option<&PodMetadata>, at: &FieldPath) -> PodMetadata {
        let metadata = metadata.cloned().unwrap_or_default();
        for key in [
            crate::keys::label::ROLLOUT_POD_TEMPLATE_HASH,
            crate::keys::label::POD_TEMPLATE_HASH,
        ] {
            if metadata.labels.contains_key(key) {
                let why = "is the label by which the pods of a revision are found";
                self.report(Problem::forbidden(at.field("labels").key(key), why));
            }
        }
        metadata
    }

    fn anti_affinity(
        &mut self,
        wish: Option<&AntiAffinity>,
        at: &FieldPath,
    ) -> Option<AntiAffinity> {
        let wish = wish?;
        let preferred = wish
            .preferred_during_scheduling_ignored_during_execution
            .as_ref();
        let required = wish
            .required_during_scheduling_ignored_during_execution
            .is_some();
        if preferred.is_some() == required {
            let why = "give one of preferredDuringSchedulingIgnoredDuringExecution and \
                       requiredDuringSchedulingIgnoredDuringExecution";
            self.report(Problem::invalid(at.clone(), "antiAffinity", why));
        }
        if let Some(preferred) = preferred {
            let weight = preferred.weight.unwrap_or(0);
            if !(1..=100).contains(&weight) {
                let at = at
                    .field("preferredDuringSchedulingIgnoredDuringExecution")
                    .field("weight");
                self.report(Problem::invalid(at, weight, "must be in the range 1-100"));
            }
        }
        Some(wish.clone())
    }

    fn limit(&mut self, value: Option<i32>, at: &FieldPath) -> Option<usize> {
        value.map(|_| self.count(value, 0, at) as usize)
    }

    fn passed_over(&mut self, fields: &[(&str, bool)], at: &FieldPath) {
        for (name, _) in fields.iter().filter(|(_, given)| *given) {
            self.report(Problem::warning(
                at.field(name),
                "not carried out yet: the release goes on without it",
            ));
        }
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
mod tests;
