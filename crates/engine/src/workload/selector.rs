//! Label selectors, checked once and then only asked.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serin_api::{FieldPath, Problem};

/// A checked label selector. An empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Checks a selector found at `path`.
    ///
    /// # Errors
    /// Every requirement that makes no sense.
    pub fn parse(selector: &LabelSelector, path: &FieldPath) -> Result<Self, Vec<Problem>> {
        let mut parsed = Self::from_labels(selector.match_labels.iter().flatten());
        let mut problems = Vec::new();
        let path = path.field("matchExpressions");
        for (i, raw) in selector.match_expressions.iter().flatten().enumerate() {
            match requirement(raw, &path.index(i)) {
                Ok(requirement) => parsed.requirements.push(requirement),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(parsed)
        } else {
            Err(problems)
        }
    }

    /// The selector of exactly these labels.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = labels.into_iter().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(vec![value.clone()]),
        });
        Self {
            requirements: requirements.collect(),
        }
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|v| values.contains(v)),
                Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }
}

fn requirement(raw: &LabelSelectorRequirement, path: &FieldPath) -> Result<Requirement, Problem> {
    let values = raw.values.clone().unwrap_or_default();
    let operator = raw.operator.as_str();
    let takes_values = matches!(operator, "In" | "NotIn");
    if takes_values && values.is_empty() {
        let why = format!("name at least one value for the operator {operator}");
        return Err(Problem::required(path.field("values"), &why));
    }
    let test = match operator {
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        other => {
            let known = ["In", "NotIn", "Exists", "DoesNotExist"];
            return Err(Problem::not_supported(
                path.field("operator"),
                other,
                &known,
            ));
        }
    };
    Ok(Requirement {
        key: raw.key.clone(),
        test,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Selector, Vec<Problem>> {
        let raw: LabelSelector = serde_json::from_value(value).unwrap();
        Selector::parse(&raw, &FieldPath::new("spec").field("selector"))
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn every_operator_is_asked() {
        let selector = parse(json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "zone", "operator": "NotIn", "values": ["x"]},
                {"key": "version", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        let good = [("app", "web"), ("tier", "b"), ("version", "1")];
        assert!(selector.matches(&labels(&good)));
        for (key, value) in [("app", "api"), ("tier", "c"), ("zone", "x"), ("old", "")] {
            let mut bad = labels(&good);
            bad.insert(key.into(), value.into());
            assert!(!selector.matches(&bad), "{key}");
        }
        assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "a")])));
        assert!(parse(json!({})).unwrap().matches(&labels(&[])));
    }

    #[test]
    fn every_problem_is_named() {
        let problems = parse(json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "b", "operator": "Like", "values": ["c"]},
        ]}))
        .unwrap_err();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            spec.selector.matchExpressions[0].values: Required value: name at least one value for the operator In
            spec.selector.matchExpressions[1].operator: Unsupported value: "Like": supported values: "In", "NotIn", "Exists", "DoesNotExist""#]].assert_eq(&shown.join("\n"));
    }
}
