//! Label and field selectors: which objects a list or a watch is about.

use std::fmt;

use serde_json::Value;

use crate::resource::Resource;
use crate::store::Record;
use crate::tree::Tree;

/// What the labels of an object must be; without any term every object matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<LabelTerm>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct LabelTerm {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let terms = split_terms(text)
            .into_iter()
            .map(str::trim)
            .filter(|t| !t.is_empty());
        let terms: Result<_, String> = terms.map(label_term).collect();
        terms
            .map(Self)
            .map_err(|why| format!("unable to parse requirement: {why}"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.0.iter().all(|term| {
            let found = labels.binary_search_by(|(k, _)| (**k).cmp(&term.key)).ok();
            let value = found.and_then(|i| labels.get(i)).map(|(_, v)| &**v);
            term.test.holds(value)
        })
    }
}

impl LabelTest {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(wanted) => value.is_some_and(|v| wanted.iter().any(|w| w == v)),
            Self::NotIn(unwanted) => value.is_none_or(|v| unwanted.iter().all(|w| w != v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Above(limit) => number().is_some_and(|n| n > *limit),
            Self::Below(limit) => number().is_some_and(|n| n < *limit),
        }
    }
}

/// Splits at the commas that are not inside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn label_term(term: &str) -> Result<LabelTerm, String> {
    if let Some(key) = term.strip_prefix('!') {
        return labelled(key, LabelTest::Absent);
    }
    if let Some((head, list)) = term.split_once('(') {
        let list = list
            .strip_suffix(')')
            .ok_or_else(|| format!("{term:?} has no closing parenthesis"))?;
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => labelled(key, LabelTest::In(values)),
            [key, "notin"] => labelled(key, LabelTest::NotIn(values)),
            _ => Err(format!(
                "{term:?} is not \"key in (a,b)\" or \"key notin (a,b)\""
            )),
        };
    }
    for (sign, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = term.split_once(sign) {
            let value = vec![value.trim().to_owned()];
            let test = if negative {
                LabelTest::NotIn(value)
            } else {
                LabelTest::In(value)
            };
            return labelled(key, test);
        }
    }
    for (sign, test) in [
        (">", LabelTest::Above as fn(i64) -> LabelTest),
        ("<", LabelTest::Below),
    ] {
        if let Some((key, value)) = term.split_once(sign) {
            let limit = value
                .trim()
                .parse()
                .map_err(|_| format!("{value:?} is not a whole number"))?;
            return labelled(key, test(limit));
        }
    }
    labelled(term, LabelTest::Exists)
}

fn labelled(key: &str, test: LabelTest) -> Result<LabelTerm, String> {
    let key = key.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(legal) {
        return Err(format!("{key:?} is not a label key"));
    }
    Ok(LabelTerm {
        key: key.to_owned(),
        test,
    })
}

/// What fields of an object must be, by equality only; without any term every object matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<FieldTerm>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

/// The fields that may be selected by beyond the name and the namespace, of (group, plural).
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "",
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("", "events", EVENT_FIELDS),
    ("", "namespaces", &["status.phase"]),
    ("", "nodes", &["spec.unschedulable"]),
    ("", "secrets", &["type"]),
    ("", "services", &["spec.clusterIP", "spec.type"]),
    ("apps", "replicasets", &["status.replicas"]),
    ("batch", "jobs", &["status.successful"]),
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

impl FieldSelector {
    /// Reads `metadata.name=web,status.phase!=Running` for a kind.
    pub(crate) fn parse(text: &str, kind: &Resource) -> Result<Self, String> {
        let terms = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        let selector = Self(terms.map(field_term).collect::<Result<_, String>>()?);
        let special = FIELDS
            .iter()
            .find(|(group, plural, _)| kind.group == *group && kind.plural == *plural);
        let special = special.map_or(&[][..], |(_, _, fields)| *fields);
        let known = |path: &str| {
            matches!(path, "metadata.name" | "metadata.namespace")
                || special.contains(&path)
                || kind.selectable.iter().any(|known| known == path)
        };
        match selector.0.iter().find(|t| !known(&t.path)) {
            Some(term) => Err(format!("field label not supported: {}", term.path)),
            None => Ok(selector),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        let mut parsed: Option<Value> = None;
        self.0.iter().all(|term| {
            let found = match term.path.as_str() {
                "metadata.name" => record.key.name().to_owned(),
                "metadata.namespace" => record.key.namespace().to_owned(),
                path => field(parsed.get_or_insert_with(|| record.value()), path),
            };
            (found == term.value) == term.equal
        })
    }
}

fn field_term(term: &str) -> Result<FieldTerm, String> {
    let split = |sign, equal| {
        term.split_once(sign)
            .map(|(path, value)| (path, value, equal))
    };
    let (path, value, equal) = split("!=", false)
        .or_else(|| split("==", true))
        .or_else(|| split("=", true))
        .ok_or_else(|| format!("invalid selector: {term:?}; can't understand {term:?}"))?;
    Ok(FieldTerm {
        path: path.trim().to_owned(),
        value: value.trim().to_owned(),
        equal,
    })
}

/// The text of a field; empty when absent, as Kubernetes compares it.
fn field(object: &Value, path: &str) -> String {
    // The source of an event was an object once, and is still selected by its component.
    let path = if path == "source" {
        "source.component"
    } else {
        path
    };
    match path.split('.').fold(object, |at, step| &at[step]) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Both selectors of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selector {
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.labels.matches(&record.facts.labels) && self.fields.matches(record)
    }
}

/// The text form of an object's `LabelSelector` field (`matchLabels`, `matchExpressions`) or of a plain map of labels.
pub(crate) fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let is_plain =
        selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let equal = labels
        .as_object()
        .filter(|_| is_plain || selector.get("matchLabels").is_some());
    let equal = equal
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    let expressions = selector
        .at("/matchExpressions")
        .as_array()
        .into_iter()
        .flatten();
    let terms: Vec<String> = equal
        .chain(expressions.map(|e| Expression(e).to_string()))
        .collect();
    terms.join(",")
}

struct Expression<'a>(&'a Value);

impl fmt::Display for Expression<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.at("/key").as_str().unwrap_or_default();
        let values = self.0.at("/values").as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        match self.0.at("/operator").as_str().unwrap_or_default() {
            "In" => write!(f, "{key} in ({})", values.join(",")),
            "NotIn" => write!(f, "{key} notin ({})", values.join(",")),
            "DoesNotExist" => write!(f, "!{key}"),
            _ => f.write_str(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::of_kind;
    use crate::store::{Draft, Key};
    use serde_json::json;

    fn record() -> Record {
        let object = json!({
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web", "n": "5", "empty": ""}},
            "spec": {"nodeName": "local"}, "status": {"phase": "Running"}
        });
        Draft::new(&object).seal(Key::new("", "pods", "default", "web-1"), 3)
    }

    #[test]
    fn label_selectors() {
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , n", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (api, web)", true),
            ("app in (api)", false),
            ("app notin (api,x)", true),
            ("other notin (web)", true),
            ("app,!other", true),
            ("!app", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("empty=", true),
            ("app=", false),
        ];
        for (text, want) in table {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.matches(&record().facts.labels), want, "{text}");
        }
        for text in ["app in web", "app in (a", "=x", "a b", "n>x"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors() {
        let table = [
            ("metadata.name=web-1", true),
            ("metadata.name!=web-1", false),
            ("metadata.namespace=default,status.phase=Running", true),
            ("status.phase==Failed", false),
            ("spec.nodeName!=", true),
            ("status.podIP=", true),
        ];
        for (text, want) in table {
            let selector = FieldSelector::parse(text, &of_kind("Pod")).unwrap();
            assert_eq!(selector.matches(&record()), want, "{text}");
        }
        assert_eq!(
            FieldSelector::parse("spec.x=1", &of_kind("Pod")).unwrap_err(),
            "field label not supported: spec.x"
        );
        assert!(FieldSelector::parse("metadata.name", &of_kind("Pod")).is_err());
    }

    #[test]
    fn text_of_selectors() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "Exists"}]});
        assert_eq!(selector_text(&selector), "a=b,c in (d,e),f");
        assert_eq!(selector_text(&json!({"a": "b"})), "a=b");
    }
}
