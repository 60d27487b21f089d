//! An object held against its shape.

use serde_json::{Map, Value};

use super::{Fields, Shape};
use crate::units::quantity::{self, Quantity};
use crate::{FieldPath, Problem};

/// How deep below an object a field of the same name is looked for.
const SEARCH_DEPTH: usize = 4;

/// More problems than these are not looked for: nobody reads them, and a file of nonsense must not take long.
const MOST: usize = 100;

/// Every way in which `value`, which stands at `path`, does not have the shape; of very many the first ones. Null stands for
/// an absent field.
pub fn check(shape: &Shape, value: &Value, path: &FieldPath) -> Vec<Problem> {
    let mut check = Check {
        problems: Vec::new(),
        around: Vec::new(),
    };
    check.value(shape, value, path);
    check.problems
}

/// Every way in which the metadata of an object of any kind does not have its shape.
pub(crate) fn check_metadata(object: &Value) -> Vec<Problem> {
    let path = FieldPath::new("metadata");
    let any = crate::kinds::all().first().map(super::of);
    let shape = match any {
        Some(Shape::Object(fields)) => fields.get("metadata"),
        _ => None,
    };
    match (shape, object.get("metadata")) {
        (Some(shape), Some(metadata)) => check(shape, metadata, &path),
        _ => Vec::new(),
    }
}

/// Takes out fields that are null: they mean the same as absent fields, but not to every reader.
pub fn without_nulls(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(map)) => {
            map.retain(|_, value| !value.is_null());
            for (name, value) in map.iter_mut() {
                if let Some(shape) = fields.get(name).or(fields.extra.as_ref()) {
                    without_nulls(shape, value);
                }
            }
        }
        (Shape::Map(entry), Value::Object(map)) => {
            map.values_mut()
                .for_each(|value| without_nulls(entry, value));
        }
        (Shape::Array(item), Value::Array(list)) => {
            list.iter_mut().for_each(|value| without_nulls(item, value));
        }
        _ => {}
    }
}

struct Check<'a> {
    problems: Vec<Problem>,
    /// The objects that the value stands in, from the outermost, with their paths.
    around: Vec<(&'a Fields, FieldPath)>,
}

impl<'a> Check<'a> {
    fn value(&mut self, shape: &'a Shape, value: &Value, path: &FieldPath) {
        if self.problems.len() >= MOST {
            return;
        }
        match (shape, value) {
            (Shape::Object(fields), Value::Object(map)) => self.object(fields, map, path),
            (Shape::Map(entry), Value::Object(map)) => {
                for (key, value) in map {
                    self.value(entry, value, &path.key(key));
                }
            }
            (Shape::Array(item), Value::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    self.value(item, value, &path.index(index));
                }
            }
            (Shape::Enum(words), Value::String(text)) => {
                if !words.iter().any(|word| **word == **text) {
                    let words: Vec<_> = words.iter().map(|word| &**word).collect();
                    let problem = Problem::not_supported(path.clone(), text, &words);
                    self.problems.push(problem);
                }
            }
            _ => self.problems.extend(scalar(shape, value, path)),
        }
    }

    fn object(&mut self, fields: &'a Fields, map: &Map<String, Value>, path: &FieldPath) {
        self.around.push((fields, path.clone()));
        for (name, value) in map {
            let path = path.field(name);
            match fields.get(name).or(fields.extra.as_ref()) {
                Some(_) if value.is_null() => {}
                Some(shape) => self.value(shape, value, &path),
                None if self.problems.len() >= MOST => break,
                None => {
                    let problem = self.unknown(fields, name, path);
                    self.problems.push(problem);
                }
            }
        }
        for name in &fields.required {
            if map.get(&**name).is_none_or(Value::is_null) {
                let problem = Problem::required(path.field(name), "");
                self.problems.push(problem);
            }
        }
        self.around.pop();
    }

    /// A field that is known nearby was put in the wrong place; otherwise it was written wrongly.
    fn unknown(&self, fields: &Fields, name: &str, path: FieldPath) -> Problem {
        let place = self
            .above(name)
            .or_else(|| nearest(name, fields.names()).map(|n| Place::Spelling(n.to_owned())))
            .or_else(|| self.below(fields, name));
        match place {
            Some(Place::Spelling(nearest)) => Problem::unknown(path, Some(&nearest)),
            Some(Place::Path(place)) => {
                let mut problem = Problem::unknown(path, None);
                problem.message = format!("unknown field here, it belongs to {place}");
                problem
            }
            None => Problem::unknown(path, None),
        }
    }

    /// The nearest object around this one that has the field.
    fn above(&self, name: &str) -> Option<Place> {
        let (_, outer) = self.around.split_last()?;
        let (_, path) = outer.iter().rev().find(|(f, _)| f.get(name).is_some())?;
        Some(Place::Path(if path.as_str().is_empty() {
            "the top level of the object".to_owned()
        } else {
            path.to_string()
        }))
    }

    /// The shallowest object inside this one that has the field, when there is only one.
    fn below(&self, fields: &Fields, name: &str) -> Option<Place> {
        let (_, path) = self.around.last()?;
        let mut level = vec![(fields, path.clone())];
        for _ in 0..SEARCH_DEPTH {
            level = level.iter().flat_map(|(f, p)| inside(f, p)).collect();
            let mut having = level.iter().filter(|(f, _)| f.get(name).is_some());
            match (having.next(), having.next()) {
                (Some((_, path)), None) => return Some(Place::Path(path.to_string())),
                (None, _) => {}
                _ => return None,
            }
        }
        None
    }
}

/// Where an unknown field was meant to stand.
enum Place {
    /// Here, with this name.
    Spelling(String),
    /// In another object.
    Path(String),
}

/// The objects right inside an object; `status` is nothing to write into.
fn inside<'a>(fields: &'a Fields, path: &FieldPath) -> Vec<(&'a Fields, FieldPath)> {
    let objects = fields.fields.iter().filter(|(name, _)| &**name != "status");
    objects
        .filter_map(|(name, shape)| match &**shape {
            Shape::Object(fields) => Some((fields, path.field(name))),
            Shape::Array(item) => match &**item {
                Shape::Object(fields) => {
                    Some((fields, FieldPath::new(format!("{}[]", path.field(name)))))
                }
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// The candidate that is nearest to a name, when it is near enough to be a slip: another case, or a third of the letters.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    // A name as long as a page would take as long to compare.
    if name.len() > 100 {
        return None;
    }
    let lower = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let bound = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn scalar(shape: &Shape, value: &Value, path: &FieldPath) -> Option<Problem> {
    let want = match (shape, value) {
        (Shape::Any | Shape::Number, Value::Number(_)) | (Shape::Any, _) => return None,
        (Shape::String | Shape::IntOrString, Value::String(_)) => return None,
        (Shape::Boolean, Value::Bool(_)) | (Shape::Quantity, Value::Number(_)) => return None,
        (Shape::Quantity, Value::String(text)) => return amount(text, path),
        (Shape::Time, Value::String(text)) => return time(text, path),
        (Shape::Bytes, Value::String(text)) => return bytes(text, path),
        (Shape::Integer { min, max }, Value::Number(number)) => match whole(number) {
            Some(number) => return range(number, *min, *max, path),
            None => "integer",
        },
        (Shape::IntOrString, Value::Number(number)) => match whole(number) {
            Some(number) => return range(number, i64::from(i32::MIN), i64::from(i32::MAX), path),
            None => "integer or string",
        },
        (Shape::Object(_) | Shape::Map(_), _) => "object",
        (Shape::Array(_), _) => "list",
        (Shape::String | Shape::Enum(_) | Shape::Time | Shape::Bytes, _) => "string",
        (Shape::Integer { .. }, _) => "integer",
        (Shape::Number, _) => "number",
        (Shape::Boolean, _) => "boolean",
        (Shape::IntOrString, _) => "integer or string",
        (Shape::Quantity, _) => "quantity such as \"500m\" or \"1Gi\"",
    };
    let found = format!("{}{}", found(value), remedy(want, value));
    Some(Problem::wrong_type(path.clone(), want, &found))
}

/// A whole number, also when it is written as `3.0`.
fn whole(number: &serde_json::Number) -> Option<i128> {
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let float = number
        .as_f64()
        .filter(|f| f.fract() == 0.0 && f.abs() < 1e15)?;
    format!("{float:.0}").parse().ok()
}

fn range(number: i128, min: i64, max: i64, path: &FieldPath) -> Option<Problem> {
    let outside = number < i128::from(min) || number > i128::from(max);
    let why = format!("must be between {min} and {max}");
    outside.then(|| Problem::invalid(path.clone(), number, &why))
}

fn time(text: &str, path: &FieldPath) -> Option<Problem> {
    let wrong = text.parse::<jiff::Timestamp>().is_err();
    let why = "must be a time such as \"2026-01-31T12:00:00Z\"";
    wrong.then(|| Problem::invalid(path.clone(), format!("{text:?}"), why))
}

fn amount(text: &str, path: &FieldPath) -> Option<Problem> {
    let wrong = Quantity::parse(text).is_none();
    wrong.then(|| Problem::invalid(path.clone(), format!("{text:?}"), quantity::EXPECTED))
}

fn bytes(text: &str, path: &FieldPath) -> Option<Problem> {
    let why = "must be base64; plain text goes to stringData";
    // The text itself may be a secret: it is never repeated.
    (!is_base64(text)).then(|| Problem::invalid(path.clone(), "(not shown)", why))
}

/// Whether text is padded base64 of the standard alphabet. Line breaks are allowed, as in a cluster.
fn is_base64(text: &str) -> bool {
    let letters: Vec<u8> = text
        .bytes()
        .filter(|b| !matches!(b, b'\n' | b'\r'))
        .collect();
    let end = letters
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |last| last + 1);
    let (body, padding) = letters.split_at(end);
    letters.len().is_multiple_of(4)
        && padding.len() <= 2
        && body
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean {value}"),
        Value::Number(number) => format!("number {number}"),
        Value::String(text) if text.chars().count() > 40 => "string".to_owned(),
        Value::String(text) => format!("string {text:?}"),
        Value::Array(_) => "list".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn remedy(want: &str, value: &Value) -> &'static str {
    match (want, value) {
        ("string", Value::Bool(_) | Value::Number(_)) => "; put it in quotes",
        ("string", Value::Null) => "; write \"\" for an empty text",
        ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => "; take the quotes away",
        ("boolean", Value::String(text)) if matches!(text.as_str(), "true" | "false") => {
            "; take the quotes away"
        }
        ("boolean", Value::String(text)) if matches!(text.as_str(), "yes" | "on") => "; write true",
        ("boolean", Value::String(text)) if matches!(text.as_str(), "no" | "off") => {
            "; write false"
        }
        ("list", Value::Object(_)) => "; begin each element with a dash",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use crate::schema::of;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn problems(object: &Value, expected: Expect) {
        let kind = kinds::of(object).unwrap();
        let problems = check(of(kind), object, &FieldPath::root());
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn every_slip_is_named_with_its_remedy() {
        problems(
            &json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "replicas": 3, "Spec": {},
                "metadata": {"name": "web", "creationTimestamp": "yesterday", "annotations": {"on": true, "size": 3, "none": null}},
                "spec": {
                    "replicas": "3", "minReadySeconds": 1.5, "progressDeadlineSeconds": 99999999999_i64, "paused": "no",
                    "containers": [], "imagePullPolicy": "Always",
                    "template": {"spec": {"containers": [{
                        "name": "web", "terminationGracePeriodSeconds": 30, "ports": {"containerPort": 80},
                        "redinessProbe": {}, "livenessProbe": {"httpGet": {"path": "/", "portt": 80}}, "nonsense": 1,
                        "resources": {"limits": {"cpu": 1, "memory": true}},
                    }, "nginx"]}},
                },
            }),
            expect![[r#"
                Spec: unknown field, did you mean "spec"?
                metadata.annotations[none]: expected string, found null; write "" for an empty text
                metadata.annotations[on]: expected string, found boolean true; put it in quotes
                metadata.annotations[size]: expected string, found number 3; put it in quotes
                metadata.creationTimestamp: Invalid value: "yesterday": must be a time such as "2026-01-31T12:00:00Z"
                replicas: unknown field here, it belongs to spec
                spec.containers: unknown field here, it belongs to spec.template.spec
                spec.imagePullPolicy: unknown field
                spec.minReadySeconds: expected integer, found number 1.5
                spec.paused: expected boolean, found string "no"; write false
                spec.progressDeadlineSeconds: Invalid value: 99999999999: must be between -2147483648 and 2147483647
                spec.replicas: expected integer, found string "3"; take the quotes away
                spec.template.spec.containers[0].livenessProbe.httpGet.portt: unknown field, did you mean "port"?
                spec.template.spec.containers[0].livenessProbe.httpGet.port: Required value
                spec.template.spec.containers[0].nonsense: unknown field
                spec.template.spec.containers[0].ports: expected list, found object; begin each element with a dash
                spec.template.spec.containers[0].redinessProbe: unknown field, did you mean "readinessProbe"?
                spec.template.spec.containers[0].resources.limits[memory]: expected quantity such as "500m" or "1Gi", found boolean true
                spec.template.spec.containers[0].terminationGracePeriodSeconds: unknown field here, it belongs to spec.template.spec
                spec.template.spec.containers[1]: expected object, found string "nginx"
                spec.selector: Required value"#]],
        );
    }

    #[test]
    fn null_is_an_absent_field() {
        problems(
            &json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "creationTimestamp": null},
                "spec": {"replicas": null, "selector": null, "template": {"spec": {"containers": [null]}}},
            }),
            expect![[r#"
                spec.template.spec.containers[0]: expected object, found null
                spec.selector: Required value"#]],
        );
    }

    #[test]
    fn words_and_bytes() {
        problems(
            &json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "aGVsbG8=", "b": "hello!", "c": "aGVsbG8", "d": ""}}),
            expect![[r#"
                data[b]: Invalid value: (not shown): must be base64; plain text goes to stringData
                data[c]: Invalid value: (not shown): must be base64; plain text goes to stringData"#]],
        );
        problems(
            &json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun", "status": {"phase": "Good"}}),
            expect![[r#"
                status.phase: Unsupported value: "Good": supported values: "Pending", "Running", "Successful", "Failed", "Error", "Inconclusive"
                spec: Required value"#]],
        );
    }

    #[test]
    fn nulls_are_taken_out_of_fields_alone() {
        let mut rollout = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "spec": {"replicas": null, "strategy": {"canary": {"steps": null, "trafficRouting": {"plugins": {"x": {"y": null}}}}}},
        });
        without_nulls(of(kinds::of(&rollout).unwrap()), &mut rollout);
        let left =
            json!({"strategy": {"canary": {"trafficRouting": {"plugins": {"x": {"y": null}}}}}});
        assert_eq!(rollout["spec"], left);
    }
}
