//! HorizontalPodAutoscalers between the version that has one metric, in which `kubectl autoscale` up to 1.32 makes them, and the
//! one in which they are stored.
//!
//! What only the second can say goes through the first in an annotation, as it does in a cluster; here it is one of our own, with
//! the very fields of the second version.

use serde_json::{Map, Value, json};
use serin_api::keys::annotation::AUTOSCALING_V2;

use crate::meta;
use crate::tree::Tree;

const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

/// Makes `autoscaling/v1` of `autoscaling/v2`.
pub(super) fn to_v1(object: &mut Value) {
    let mut only_v2 = Map::new();
    let mut part = |of: &mut Map<String, Value>, list: &str, number: [&str; 2]| {
        let mut metrics = taken(of, list);
        let [field, at] = number;
        let cpu = metrics.iter().position(|metric| cpu(metric, at).is_some());
        if let Some(cpu) = cpu.map(|place| metrics.remove(place)) {
            of.insert(field.to_owned(), cpu.at(at).clone());
        }
        if !metrics.is_empty() {
            only_v2.insert(list.to_owned(), metrics.into());
        }
    };
    if object.at("/spec").is_object() {
        part(object.map("spec"), "metrics", [TARGET, TARGET_AT]);
    }
    if object.at("/status").is_object() {
        part(
            object.map("status"),
            "currentMetrics",
            [CURRENT, CURRENT_AT],
        );
    }
    for (place, field) in [("spec", "behavior"), ("status", "conditions")] {
        if object[place].is_object()
            && let Some(value) = object.map(place).remove(field)
        {
            only_v2.insert(field.to_owned(), value);
        }
    }
    if !only_v2.is_empty() {
        let text = Value::Object(only_v2).to_string();
        let annotations = meta::of_mut(object)
            .entry("annotations")
            .or_insert_with(|| json!({}));
        annotations.set(AUTOSCALING_V2, text);
    }
}

/// Makes `autoscaling/v2` of `autoscaling/v1`.
pub(super) fn to_v2(object: &mut Value) {
    let mut only_v2 = annotation(object);
    let mut part = |of: &mut Map<String, Value>, list: &str, [field, key]: [&str; 2]| {
        let cpu = of.remove(field).filter(Value::is_number);
        let cpu = cpu.map(|percent| {
            let utilization = json!({"averageUtilization": percent});
            let mut resource = json!({"name": "cpu", key: utilization});
            if key == "target" {
                resource
                    .map(key)
                    .insert("type".into(), "Utilization".into());
            }
            json!({"type": "Resource", "resource": resource})
        });
        let others = taken(&mut only_v2, list);
        let metrics: Vec<Value> = cpu.into_iter().chain(others).collect();
        if !metrics.is_empty() {
            of.insert(list.to_owned(), metrics.into());
        }
    };
    if object.at("/spec").is_object() {
        part(object.map("spec"), "metrics", [TARGET, "target"]);
    }
    if object.at("/status").is_object() {
        part(object.map("status"), "currentMetrics", [CURRENT, "current"]);
    }
    for (place, field) in [("spec", "behavior"), ("status", "conditions")] {
        if let Some(value) = only_v2.remove(field)
            && object[place].is_object()
        {
            object.map(place).insert(field.to_owned(), value);
        }
    }
}

const TARGET_AT: &str = "/resource/target/averageUtilization";
const CURRENT_AT: &str = "/resource/current/averageUtilization";

/// The share of the CPU that a metric is about; `None` of any other metric.
fn cpu<'a>(metric: &'a Value, at: &str) -> Option<&'a Value> {
    let is_cpu = metric.at("/type") == "Resource" && metric.at("/resource/name") == "cpu";
    Some(metric.at(at)).filter(|share| is_cpu && share.is_number())
}

/// A list that is taken out.
fn taken(of: &mut Map<String, Value>, list: &str) -> Vec<Value> {
    match of.remove(list) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// What the annotation says; it is taken out.
fn annotation(object: &mut Value) -> Map<String, Value> {
    let metadata = meta::of_mut(object);
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else {
        return Map::new();
    };
    let text = annotations.remove(AUTOSCALING_V2);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let text = text.as_ref().and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, percent: u8) -> Value {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        json!({"type": "Resource", "resource": {"name": name, "target": target}})
    }

    #[test]
    fn the_first_version_has_the_share_of_the_cpu() {
        let v2 = json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [metric("cpu", 70)]},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 9}}}]},
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        let v1 = json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70},
            "status": {"currentCPUUtilizationPercentage": 9},
        });
        assert_eq!(object, v1);
        to_v2(&mut object);
        assert_eq!(object, v2);
    }

    #[test]
    fn what_only_the_second_can_say_comes_back() {
        let v2 = json!({
            "metadata": {"name": "a", "annotations": {"own": "1"}},
            "spec": {"maxReplicas": 3, "metrics": [metric("cpu", 70), metric("memory", 50)], "behavior": {"scaleUp": {}}},
            "status": {"conditions": [{"type": "ScalingActive"}]},
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(
            object["spec"],
            json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 70})
        );
        to_v2(&mut object);
        assert_eq!(object, v2);
    }

    #[test]
    fn an_annotation_that_says_nothing_is_dropped() {
        for text in ["", "[]", "{\"metrics\": 1}"] {
            let mut object = json!({"metadata": {"annotations": {AUTOSCALING_V2: text}}, "spec": {"maxReplicas": 1}});
            to_v2(&mut object);
            assert_eq!(object, json!({"metadata": {}, "spec": {"maxReplicas": 1}}));
        }
    }
}
