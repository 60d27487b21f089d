//! The numbers that the scale subresource reads and writes, in the objects of a kind that has one.

use serde_json::Value;
use serin_api::{FieldPath, Problem};

use crate::resource::ScalePaths;

/// Every problem of the numbers. They are looked at for themselves, beside the schema, as in a cluster: without one of them right,
/// an object could be stored that cannot be scaled.
pub(super) fn problems(paths: &ScalePaths, object: &Value) -> Vec<Problem> {
    let pointers = [&paths.spec_replicas, &paths.status_replicas];
    let told = pointers.map(|pointer| {
        let (number, why) = wrong(pointer, object.pointer(pointer)?)?;
        let path = FieldPath::new(dotted(pointer));
        Some(Problem::invalid(path, number, &why))
    });
    told.into_iter().flatten().collect()
}

/// The number that is read, and what is wrong with it.
fn wrong(pointer: &str, value: &Value) -> Option<(i64, String)> {
    let Some(number) = value.as_i64() else {
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let (path, type_) = (dotted(pointer), type_in_go(value));
        let why = format!("{path} accessor error: {shown} is of the type {type_}, expected int64");
        return Some((0, why));
    };
    if number < 0 {
        return Some((number, "should be a non-negative integer".into()));
    }
    let most = i32::MAX;
    let too_large = number > i64::from(most);
    too_large.then(|| (number, format!("should be less than or equal to {most}")))
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

/// As a cluster names it.
fn type_in_go(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_whole_and_small_and_not_negative() {
        let paths = ScalePaths {
            spec_replicas: "/spec/size".into(),
            status_replicas: "/status/size".into(),
            selector: None,
        };
        let told = |object: Value| {
            let problems = problems(&paths, &object);
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            told.join("; ")
        };
        for good in [
            json!({}),
            json!({"spec": {"size": 0}, "status": {"size": i32::MAX}}),
        ] {
            assert_eq!(told(good), "");
        }
        for (size, why) in [
            (
                json!("many"),
                ".spec.size: Invalid value: 0: .spec.size accessor error: many is of the type string, expected int64",
            ),
            (
                json!(1.5),
                ".spec.size: Invalid value: 0: .spec.size accessor error: 1.5 is of the type float64, expected int64",
            ),
            (
                json!(-1),
                ".spec.size: Invalid value: -1: should be a non-negative integer",
            ),
            (
                json!(1_i64 << 31),
                ".spec.size: Invalid value: 2147483648: should be less than or equal to 2147483647",
            ),
        ] {
            assert_eq!(told(json!({"spec": {"size": size}})), why);
        }
        let status = ".status.size: Invalid value: -1: should be a non-negative integer";
        assert_eq!(told(json!({"status": {"size": -1}})), status);
    }
}
