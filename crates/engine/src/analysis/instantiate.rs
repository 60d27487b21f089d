//! From templates and arguments to one run.

use std::collections::BTreeMap;

use serde_json::Value;
use serin_api::analysis::{
    AnalysisRunSpec, AnalysisTemplateSpec, Argument, Metric, MetricProvider, TemplateRef,
};
use serin_api::rollout::AnalysisRef;

use super::run;

/// The templates that exist, by whether they are of the cluster and by name.
pub type TemplateSource = BTreeMap<(bool, String), AnalysisTemplateSpec>;

/// Where the values of arguments come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The hash of the stable revision; empty before there is one.
    pub stable: String,
    /// The hash of the revision that is wanted.
    pub latest: String,
    /// The Rollout as JSON, for `fieldRef`.
    pub object: Value,
}

/// How deep templates may name templates; more is a circle.
const NESTING: usize = 10;

/// Puts the templates of an analysis together with its arguments. All problems are told, one sentence each.
pub fn instantiate(
    analysis: &AnalysisRef,
    templates: &TemplateSource,
    origin: &Origin,
) -> Result<AnalysisRunSpec, Vec<String>> {
    let mut problems = Vec::new();
    let mut run = AnalysisRunSpec {
        dry_run: analysis.dry_run.clone(),
        measurement_retention: analysis.retention.clone(),
        ..AnalysisRunSpec::default()
    };
    collect(
        &analysis.templates,
        templates,
        NESTING,
        &mut run,
        &mut problems,
    );
    for given in &analysis.args {
        let resolved = handed_on(given, origin, &mut problems);
        match run.args.iter_mut().find(|a| a.name == given.name) {
            Some(argument) => *argument = resolved,
            None => run.args.push(resolved),
        }
    }
    for argument in run.args.iter_mut().filter(|a| a.value.is_none()) {
        let given = analysis.args.iter().any(|a| a.name == argument.name);
        if is_secret(argument) || given {
            continue;
        }
        let from_template = argument.value_from.is_some();
        argument.value = value_of(argument, origin, &mut problems);
        if argument.value.is_none() && !from_template {
            problems.push(format!(
                "args.{}: no value is given and the template has no default",
                argument.name
            ));
        }
        argument.value_from = None;
    }
    for metric in &mut run.metrics {
        name_revisions(metric, origin);
    }
    if problems.is_empty() {
        problems = unfit(&run);
    }
    if problems.is_empty() {
        Ok(run)
    } else {
        Err(problems)
    }
}

/// The values of arguments that are handed on: to an experiment, which has no templates of its own.
pub(crate) fn arguments(
    given: &[Argument],
    origin: &Origin,
    problems: &mut Vec<String>,
) -> Vec<Argument> {
    let resolved = given.iter();
    resolved
        .map(|argument| handed_on(argument, origin, problems))
        .collect()
}

/// An argument with its value. That of a secret is read when a measurement is taken, and stands nowhere before.
fn handed_on(given: &Argument, origin: &Origin, problems: &mut Vec<String>) -> Argument {
    if is_secret(given) {
        return given.clone();
    }
    Argument {
        name: given.name.clone(),
        value: value_of(given, origin, problems),
        value_from: None,
    }
}

fn collect(
    refs: &[TemplateRef],
    source: &TemplateSource,
    depth: usize,
    run: &mut AnalysisRunSpec,
    problems: &mut Vec<String>,
) {
    for reference in refs {
        let cluster = reference.cluster_scope.unwrap_or(false);
        let kind = if cluster {
            "ClusterAnalysisTemplate"
        } else {
            "AnalysisTemplate"
        };
        let Some(template) = source.get(&(cluster, reference.template_name.clone())) else {
            problems.push(format!("{kind} {:?} not found", reference.template_name));
            continue;
        };
        if depth == 0 {
            problems.push(format!(
                "{kind} {:?}: templates name each other too deep",
                reference.template_name
            ));
            continue;
        }
        for metric in &template.metrics {
            if run.metrics.iter().any(|m| m.name == metric.name) {
                problems.push(format!(
                    "{kind} {:?}: metric {:?} is there twice",
                    reference.template_name, metric.name
                ));
            } else {
                run.metrics.push(metric.clone());
            }
        }
        for argument in template
            .args
            .iter()
            .filter(|a| !run.args.iter().any(|known| known.name == a.name))
            .collect::<Vec<_>>()
        {
            run.args.push(argument.clone());
        }
        run.dry_run.extend(template.dry_run.iter().cloned());
        run.measurement_retention
            .extend(template.measurement_retention.iter().cloned());
        collect(&template.templates, source, depth - 1, run, problems);
    }
}

fn value_of(argument: &Argument, origin: &Origin, problems: &mut Vec<String>) -> Option<String> {
    let Some(from) = &argument.value_from else {
        return argument.value.clone();
    };
    let name = &argument.name;
    if let Some(which) = &from.pod_template_hash_value {
        return match which.as_str() {
            "Stable" => Some(origin.stable.clone()),
            "Latest" => Some(origin.latest.clone()),
            _ => {
                problems.push(format!(
                    "args.{name}: podTemplateHashValue must be Stable or Latest, not {which:?}"
                ));
                None
            }
        };
    }
    if let Some(field) = &from.field_ref {
        let found = field_of(&origin.object, &field.field_path);
        if found.is_none() {
            problems.push(format!(
                "args.{name}: the Rollout has no field {:?}",
                field.field_path
            ));
        }
        return found;
    }
    problems.push(format!(
        "args.{name}: valueFrom must name a podTemplateHashValue, a fieldRef or a secretKeyRef"
    ));
    None
}

/// Whether the value is a key of a Secret.
pub fn is_secret(argument: &Argument) -> bool {
    let from = argument.value_from.as_ref();
    argument.value.is_none() && from.is_some_and(|from| from.secret_key_ref.is_some())
}

/// A judged metric that names no revisions is about the one on trial, and the stable one beside it.
fn name_revisions(metric: &mut Metric, origin: &Origin) {
    let judged = metric
        .provider
        .serin
        .as_mut()
        .filter(|serin| serin.compare.is_some());
    let Some(serin) = judged else { return };
    let named = |hash: &str| (!hash.is_empty()).then(|| hash.to_owned());
    if serin.revision.is_none() {
        serin.revision = named(&origin.latest);
    }
    if serin.baseline.is_none() && serin.compare.as_deref() == Some("stable") {
        serin.baseline = named(&origin.stable);
    }
}

/// What is wrong with the rules and metrics of a run: found when a Rollout is applied, not in the middle of its release.
fn unfit(run: &AnalysisRunSpec) -> Vec<String> {
    let rules = run::rule_problems(run);
    let metrics = run.metrics.iter().flat_map(|metric| {
        let found = match resolve(metric, &run.args) {
            Ok(resolved) => run::problems(&resolved),
            Err(why) => vec![why],
        };
        let name = metric.name.clone();
        found
            .into_iter()
            .map(move |why| format!("metric {name:?}: {why}"))
    });
    rules.into_iter().chain(metrics).collect()
}

/// The text at `metadata.labels['region']`, `metadata.name` or `spec.replicas`.
fn field_of(object: &Value, path: &str) -> Option<String> {
    let (path, key) = match path.split_once("['") {
        Some((path, key)) => (path, Some(key.strip_suffix("']")?)),
        None => (path, None),
    };
    let parent = path
        .split('.')
        .filter(|part| !part.is_empty())
        .try_fold(object, |value, part| value.get(part))?;
    let value = match key {
        Some(key) => parent.get(key)?,
        None => parent,
    };
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Fills the arguments into a metric: `{{args.NAME}}` in any text of it. Those whose values are secret stay as they are in the
/// provider, for whoever asks it; anywhere else they are refused, as the text would be shown.
///
/// # Errors
/// The sentence for the person when an argument has no value.
pub fn resolve(metric: &Metric, args: &[Argument]) -> Result<Metric, String> {
    let mut fields = serde_json::to_value(metric).map_err(|e| e.to_string())?;
    let value_of = |name: &str, in_provider: bool| {
        let Some(argument) = args.iter().find(|a| a.name == name) else {
            return Err(format!("the argument {name:?} has no value"));
        };
        match &argument.value {
            Some(value) => Ok(Some(value.clone())),
            None if is_secret(argument) && in_provider => Ok(None),
            None if is_secret(argument) => Err(format!(
                "the argument {name:?} is secret: it can be used in the provider only"
            )),
            None => Err(format!("the argument {name:?} has no value")),
        }
    };
    let mut provider = fields
        .as_object_mut()
        .and_then(|fields| fields.remove("provider"));
    fill(&mut fields, &|name| value_of(name, false))?;
    if let Some(provider) = &mut provider {
        fill(provider, &|name| value_of(name, true))?;
    }
    if let (Some(fields), Some(provider)) = (fields.as_object_mut(), provider) {
        fields.insert("provider".to_owned(), provider);
    }
    serde_json::from_value(fields).map_err(|e| format!("with its arguments it cannot be read: {e}"))
}

/// Fills the values of secrets into a provider, right before it is asked.
///
/// # Errors
/// The sentence for the person when a value is missing.
pub fn reveal(
    provider: &MetricProvider,
    secrets: &BTreeMap<String, String>,
) -> Result<MetricProvider, String> {
    let mut fields = serde_json::to_value(provider).map_err(|e| e.to_string())?;
    fill(&mut fields, &|name| {
        let value = secrets.get(name).cloned().map(Some);
        value.ok_or_else(|| format!("the argument {name:?} has no value"))
    })?;
    serde_json::from_value(fields).map_err(|_| "with its secrets it cannot be read".to_owned())
}

/// The value of an argument by its name; `None` leaves the place as it is.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, String>;

fn fill(value: &mut Value, lookup: Lookup<'_>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            *text = filled(text, lookup)?;
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, lookup)),
        Value::Object(fields) => fields
            .values_mut()
            .try_for_each(|field| fill(field, lookup)),
        _ => Ok(()),
    }
}

fn filled(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, tail)) = after.split_once("}}") else {
            break;
        };
        out.push_str(before);
        let name = inside.trim().strip_prefix("args.");
        match name.map(lookup).transpose()?.flatten() {
            Some(value) => out.push_str(&value),
            // Not ours, as a query may have double braces of its own; or not yet.
            None => {
                out.push_str("{{");
                out.push_str(inside);
                out.push_str("}}");
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(templates: Value) -> TemplateSource {
        let map: BTreeMap<String, AnalysisTemplateSpec> =
            serde_json::from_value(templates).unwrap();
        map.into_iter()
            .map(|(name, spec)| ((false, name), spec))
            .collect()
    }

    fn analysis(names: &[&str], args: Value) -> AnalysisRef {
        let templates = names
            .iter()
            .map(|n| TemplateRef {
                template_name: (*n).into(),
                cluster_scope: None,
            })
            .collect();
        AnalysisRef {
            templates,
            args: serde_json::from_value(args).unwrap(),
            ..AnalysisRef::default()
        }
    }

    #[test]
    fn arguments_come_from_everywhere_they_may() {
        let source = source(
            json!({"t": {"args": [{"name": "a"}, {"name": "b", "value": "default"}, {"name": "c"}], "metrics": [{"name": "m"}]}}),
        );
        let args = json!([
            {"name": "a", "valueFrom": {"podTemplateHashValue": "Latest"}},
            {"name": "c", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['region']"}}},
        ]);
        let origin = Origin {
            stable: "s".into(),
            latest: "l".into(),
            object: json!({"metadata": {"labels": {"region": "bj"}}}),
        };
        let run = instantiate(&analysis(&["t"], args), &source, &origin).unwrap();
        let values: Vec<_> = run
            .args
            .iter()
            .map(|a| (a.name.as_str(), a.value.as_deref().unwrap()))
            .collect();
        assert_eq!(values, [("a", "l"), ("b", "default"), ("c", "bj")]);
    }

    #[test]
    fn every_problem_is_told() {
        let source = source(
            json!({"t": {"args": [{"name": "a"}], "templates": [{"templateName": "t"}], "metrics": [{"name": "m"}]}}),
        );
        let problems = instantiate(
            &analysis(&["t", "gone"], json!([])),
            &source,
            &Origin::default(),
        )
        .unwrap_err();
        assert!(
            problems.iter().any(|p| p.contains("\"gone\" not found")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|p| p.contains("args.a: no value")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|p| p.contains("too deep")),
            "{problems:?}"
        );
    }

    #[test]
    fn arguments_fill_every_text_and_leave_foreign_braces() {
        let metric: Metric = serde_json::from_value(json!({
            "name": "m", "count": "{{args.n}}", "successCondition": "result < {{ args.max }}",
            "provider": {"prometheus": {"query": "sum({job=\"{{args.job}}\"}) {{other}}"}},
        }))
        .unwrap();
        let arg = |name: &str, value: &str| Argument {
            name: name.into(),
            value: Some(value.into()),
            value_from: None,
        };
        let resolved = resolve(
            &metric,
            &[arg("n", "3"), arg("max", "0.5"), arg("job", "web")],
        )
        .unwrap();
        assert_eq!(resolved.success_condition.as_deref(), Some("result < 0.5"));
        let query = resolved.provider.prometheus.unwrap().query.unwrap();
        assert_eq!(query, "sum({job=\"web\"}) {{other}}");
        assert!(resolve(&metric, &[]).unwrap_err().contains("has no value"));
    }

    #[test]
    fn secrets_stand_nowhere_until_the_provider_is_asked() {
        let source = source(json!({"t": {
            "args": [{"name": "token", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "metrics": [{"name": "m", "provider": {"web": {"url": "https://a", "headers": [
                {"key": "Authorization", "value": "Bearer {{args.token}}"}]}}}],
        }}));
        let run = instantiate(&analysis(&["t"], json!([])), &source, &Origin::default()).unwrap();
        assert!(is_secret(&run.args[0]));
        let metric = resolve(&run.metrics[0], &run.args).unwrap();
        let header =
            |provider: &MetricProvider| provider.web.clone().unwrap().headers[0].value.clone();
        assert_eq!(header(&metric.provider), "Bearer {{args.token}}");
        let secrets = BTreeMap::from([("token".to_owned(), "x".to_owned())]);
        assert_eq!(
            header(&reveal(&metric.provider, &secrets).unwrap()),
            "Bearer x"
        );
        assert!(reveal(&metric.provider, &BTreeMap::new()).is_err());
        let told = Metric {
            success_condition: Some("result == '{{args.token}}'".into()),
            ..metric
        };
        assert!(resolve(&told, &run.args).unwrap_err().contains("is secret"));
    }

    #[test]
    fn what_is_wrong_with_a_metric_is_told_before_the_release() {
        let source = source(json!({"t": {
            "args": [{"name": "n", "value": "many"}],
            "dryRun": [{"metricName": "gone"}], "measurementRetention": [{"metricName": "(", "limit": 3}],
            "metrics": [{"name": "m", "count": "{{args.n}}", "interval": "soon", "successCondition": "reslut > 1"}],
        }}));
        let problems = instantiate(&analysis(&["t"], json!([])), &source, &Origin::default());
        expect_test::expect![[r#"
            dryRun[0].metricName "gone" matches no metric
            measurementRetention[0].metricName "(" is no regular expression
            metric "m": successCondition `reslut > 1`: at column 1 ("reslut > 1"): there is no "reslut" here: the measured value is `result`
            metric "m": count must be a number from 0
            metric "m": interval "soon" is no time such as 30s or 5m"#]].assert_eq(&problems.unwrap_err().join("\n"));
    }

    #[test]
    fn a_judged_metric_is_about_the_revisions_of_its_release() {
        let source = source(json!({"t": {"metrics": [
            {"name": "m", "provider": {"serin": {"metric": "error-ratio", "compare": "stable"}}},
            {"name": "n", "provider": {"serin": {"metric": "error-ratio"}}},
        ]}}));
        let origin = Origin {
            stable: "s".into(),
            latest: "l".into(),
            object: json!({}),
        };
        let run = instantiate(&analysis(&["t"], json!([])), &source, &origin).unwrap();
        let named = |i: usize| {
            let serin = run.metrics[i].provider.serin.clone().unwrap();
            (serin.revision, serin.baseline)
        };
        assert_eq!(named(0), (Some("l".into()), Some("s".into())));
        assert_eq!(named(1), (None, None));
    }
}
