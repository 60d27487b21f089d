//! From templates and arguments to one run.

use std::collections::BTreeMap;

use serde_json::Value;
use serin_api::analysis::{AnalysisRunSpec, AnalysisTemplateSpec, Argument, Metric, TemplateRef};
use serin_api::rollout::AnalysisRef;

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
        let resolved = Argument {
            name: given.name.clone(),
            value: value_of(given, origin, &mut problems),
            value_from: None,
        };
        match run.args.iter_mut().find(|a| a.name == given.name) {
            Some(argument) => *argument = resolved,
            None => run.args.push(resolved),
        }
    }
    for argument in run.args.iter_mut().filter(|a| a.value.is_none()) {
        let from_template = argument.value_from.is_some();
        argument.value = value_of(argument, origin, &mut problems);
        if argument.value.is_none()
            && !from_template
            && !analysis.args.iter().any(|a| a.name == argument.name)
        {
            problems.push(format!(
                "args.{}: no value is given and the template has no default",
                argument.name
            ));
        }
        argument.value_from = None;
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
    let resolved = given.iter().map(|argument| Argument {
        name: argument.name.clone(),
        value: value_of(argument, origin, problems),
        value_from: None,
    });
    resolved.collect()
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
    if from.secret_key_ref.is_some() {
        problems.push(format!(
            "args.{name}: secretKeyRef is not carried out by this version of Serin"
        ));
    }
    None
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

/// Fills the arguments into a metric: `{{args.NAME}}` in any text of it.
///
/// # Errors
/// The sentence for the person when an argument has no value.
pub fn resolve(metric: &Metric, args: &[Argument]) -> Result<Metric, String> {
    let mut value =
        serde_json::to_value(metric).map_err(|e| format!("metric {:?}: {e}", metric.name))?;
    fill(&mut value, args)?;
    serde_json::from_value(value).map_err(|e| format!("metric {:?}: {e}", metric.name))
}

fn fill(value: &mut Value, args: &[Argument]) -> Result<(), String> {
    match value {
        Value::String(text) => {
            *text = filled(text, args)?;
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, args)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill(field, args)),
        _ => Ok(()),
    }
}

fn filled(text: &str, args: &[Argument]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}") else {
            break;
        };
        out.push_str(before);
        match name.trim().strip_prefix("args.") {
            Some(name) => {
                let value = args
                    .iter()
                    .find(|a| a.name == name)
                    .and_then(|a| a.value.as_deref());
                out.push_str(value.ok_or_else(|| format!("the argument {name:?} has no value"))?);
            }
            // Not ours: a query may have double braces of its own.
            None => {
                out.push_str("{{");
                out.push_str(name);
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
        let filled = resolve(
            &metric,
            &[arg("n", "3"), arg("max", "0.5"), arg("job", "web")],
        )
        .unwrap();
        assert_eq!(filled.success_condition.as_deref(), Some("result < 0.5"));
        let query = filled.provider.prometheus.unwrap().query.unwrap();
        assert_eq!(query, "sum({job=\"web\"}) {{other}}");
        assert!(resolve(&metric, &[]).unwrap_err().contains("has no value"));
    }
}
