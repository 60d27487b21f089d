//! The objects of the world, as a person would write them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::json;
use serin_api::release::{self, Policy};
use serin_api::rollout::{RolloutSpec, lower};

use super::{REPLICAS, Scenario, VERSIONS, configuration};
use crate::analysis::TemplateSource;

pub(super) fn version(spec: &RolloutSpec) -> u64 {
    let labels = spec
        .template
        .as_ref()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    labels
        .and_then(|l| l.get("version"))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// The specs of all versions, made once.
pub(super) fn specs(scenario: Scenario) -> &'static [RolloutSpec] {
    static MADE: [OnceLock<Vec<RolloutSpec>>; Scenario::ALL.len()] =
        [const { OnceLock::new() }; Scenario::ALL.len()];
    let make = || {
        (0..=VERSIONS)
            .map(|version| spec(scenario, version))
            .collect()
    };
    let place = MADE.get(scenario as usize);
    place.map_or(&[], |made| made.get_or_init(make).as_slice())
}

fn strategy(scenario: Scenario) -> serde_json::Value {
    let analysis = json!({"templates": [{"templateName": "t"}]});
    match scenario {
        Scenario::Traffic => json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 3,
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            "steps": [{"setWeight": 25}, {"analysis": analysis}, {"pause": {"duration": 3}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 75}],
        }}),
        Scenario::Managed => json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 3,
            "scaleDownDelayRevisionLimit": 1, "minPodsPerReplicaSet": 2,
            "trafficRouting": {
                "managedRoutes": [{"name": "testers"}, {"name": "copies"}],
                "plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}},
            },
            "steps": [
                {"setCanaryScale": {"replicas": 1}},
                {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "1"}}]}, "pause": {"duration": 2}},
                {"setMirrorRoute": {"name": "copies", "match": [{"path": {"prefix": "/"}}], "percentage": 20}},
                {"analysis": analysis, "setWeight": 10, "setCanaryScale": {"matchTrafficWeight": true}},
                {"setHeaderRoute": {"name": "testers"}},
                {"setWeight": 60}, {"pause": {}},
            ],
        }}),
        Scenario::Dynamic => json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "abortScaleDownDelaySeconds": 3, "dynamicStableScale": true,
            "replicaProgressThreshold": {"type": "Percent", "value": 50},
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            "steps": [{"setWeight": 25}, {"analysis": analysis}, {"setWeight": 50}, {"pause": {"duration": 3}}, {"setWeight": 75}, {"pause": {}}],
        }}),
        Scenario::PingPong => json!({"canary": {
            "pingPong": {"pingService": "ping", "pongService": "pong"}, "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 3,
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            "steps": [{"setWeight": 25}, {"analysis": analysis}, {"setWeight": 75}, {"pause": {"duration": 3}}],
        }}),
        Scenario::Experiment => json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 3,
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            "steps": [
                {"experiment": {"duration": "3s", "templates": [{"name": "a", "specRef": "stable"}, {"name": "b", "specRef": "canary"}]}},
                {"setWeight": 25}, {"experiment": {"templates": [{"name": "c", "specRef": "canary"}], "analyses": [
                    {"name": "t", "templateName": "t", "requiredForCompletion": true},
                ]}, "setWeight": 50}, {"pause": {"duration": 3}},
            ],
        }}),
        Scenario::Replicas => json!({"canary": {
            "maxSurge": 1, "maxUnavailable": 1, "stableService": "stable", "canaryService": "canary",
            "steps": [{"setWeight": 25}, {"analysis": analysis}, {"setWeight": 50}, {"pause": {"duration": 3}}],
        }}),
        Scenario::Batches => json!({"canary": {
            "maxSurge": 1, "maxUnavailable": 1, "stableService": "stable", "canaryService": "canary",
        }}),
        Scenario::Configured => json!({"canary": {
            "stableService": "stable", "canaryService": "canary", "scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 3,
            "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            "steps": [{"setWeight": 25}, {"analysis": analysis}, {"setWeight": 50}, {"pause": {"duration": 3}}],
        }}),
        Scenario::BlueGreen => json!({"blueGreen": {
            "activeService": "active", "previewService": "preview", "previewReplicaCount": 1, "scaleDownDelaySeconds": 5,
            "abortScaleDownDelaySeconds": 3, "autoPromotionSeconds": 4, "prePromotionAnalysis": analysis, "postPromotionAnalysis": analysis,
        }}),
    }
}

/// The spec of a version of the Rollout: 1 to 3 are good.
pub fn spec(scenario: Scenario, version: u64) -> RolloutSpec {
    let labels = json!({"app": "web", "version": version.to_string()});
    let mut container = json!({"name": "web", "image": "web"});
    if let (Scenario::Configured, Some(container)) = (scenario, container.as_object_mut()) {
        let from = json!([{"configMapRef": {"name": configuration::NAME}}]);
        container.insert("envFrom".to_owned(), from);
    }
    let value = json!({
        "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy(scenario),
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    });
    let spec: RolloutSpec = serde_json::from_value(value).unwrap_or_default();
    debug_assert!(
        lower(&spec).desired.is_some(),
        "{:?}",
        lower(&spec).problems
    );
    spec
}

/// The AnalysisTemplates that it names.
pub fn templates() -> TemplateSource {
    let template = serde_json::from_value(json!({"metrics": [{"name": "m"}]})).unwrap_or_default();
    BTreeMap::from([((false, "t".to_owned()), template)])
}

/// Policies by number: none but what the scenario is about, and some that go beyond Argo Rollouts.
pub(super) fn policy(scenario: Scenario, number: u64) -> Policy {
    let mut value = match number {
        1 => json!({"rollback": {"holdRejected": true, "instant": true}}),
        2 => {
            json!({"rollback": {"holdRejected": true, "keepWarm": {"replicas": "50%", "duration": 20}}})
        }
        3 => json!({
            "rollback": {"keepWarm": {"duration": 15}},
            "bake": {"duration": 4, "analysis": {"templates": [{"templateName": "t"}]}},
        }),
        4 => json!({"freeze": [{"name": "minute", "schedule": "*/3 * * * *", "duration": 25}]}),
        5 => json!({
            "rollback": {"instant": true},
            "gates": [
                {"name": "begin", "before": "start"}, {"name": "half", "before": "step", "step": 3},
                {"name": "end"},
            ],
        }),
        _ => json!({}),
    };
    let batches =
        json!({"size": 2, "pause": 2, "analysis": {"templates": [{"templateName": "t"}]}});
    let own = match scenario {
        Scenario::Batches => Some(("batches", batches)),
        Scenario::Configured => Some(("configuration", json!({}))),
        _ => None,
    };
    if let (Some((field, own)), Some(value)) = (own, value.as_object_mut()) {
        value.insert(field.to_owned(), own);
    }
    let (policy, problems) = release::lower(&serde_json::from_value(value).unwrap_or_default());
    debug_assert!(problems.is_empty(), "{problems:?}");
    policy
}
