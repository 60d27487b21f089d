//! What the gateway measures decides a release: 0.9 % errors go on, 1.5 % are taken back, a P95 that has grown by 60 % asks a person.
//!
//! The application fails exactly so many of its requests, and no verdict is given on few of them, so that no luck is in it.

use serde_json::{Value, json};
use serin_api::rollout::PauseReason;

use crate::apps::{self, HOST, is_healthy, pods, rollout_until, served_percent};
use crate::load::Load;
use crate::support::Visitors;

/// The ratio of errors that is borne.
const BORNE: &str = "0.01";
/// With so many requests of one instance, 0.9 % and 1.5 % are on different sides of 1 % wherever the counting begins.
const ENOUGH: u32 = 1000;

fn template(name: &str, metric: &Value) -> String {
    let spec = json!({"args": [{"name": "revision"}], "metrics": [metric]});
    let template = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": name}, "spec": spec});
    format!("\n---\n{template}")
}

fn errors() -> String {
    let provider = json!({"serin": {
        "metric": "error-ratio", "revision": "{{args.revision}}", "window": "60s", "minRequests": ENOUGH,
    }});
    // Too few requests are no answer: it is asked again.
    let metric = json!({
        "name": "error-ratio", "interval": "1s", "consecutiveSuccessLimit": 3, "inconclusiveLimit": 1000,
        "failureCondition": format!("result > {BORNE}"), "provider": provider,
    });
    template("error-ratio", &metric)
}

fn latency() -> String {
    let provider = json!({"serin": {
        "metric": "latency", "quantile": "0.95", "compare": "stable", "margin": "0.5", "onBad": "decide",
        "revision": "{{args.revision}}", "minRequests": 40,
    }});
    let metric =
        json!({"name": "p95-growth", "interval": "1s", "count": 1000, "provider": provider});
    template("p95-growth", &metric)
}

fn measured(template: &str) -> Value {
    let args = json!([{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}]);
    let analysis = json!({"templates": [{"templateName": template}], "args": args});
    json!([{"setWeight": 50}, {"analysis": analysis}])
}

#[tokio::test]
async fn errors_decide_whether_a_release_goes_on() {
    let manifest = |version: &str, rate: &str| {
        let pods = pods(version, &[("ERROR_RATE", rate)]);
        apps::rollout(pods, measured("error-ratio")) + &errors()
    };
    let platform = apps::started(&manifest("v1", "0")).await;
    let load = Load::start(&platform).await;
    platform.apply(&manifest("v2", "0.009")).await;
    let good = rollout_until(&platform, "all users on v2", |s| is_healthy(s) || s.abort).await;
    assert!(!good.abort, "0.9 %: {:?}", good.message);
    platform.apply(&manifest("v3", "0.015")).await;
    let bad = rollout_until(&platform, "the abort", |s| {
        (s.abort && served_percent(s) == Some(0)) || is_healthy(s)
    })
    .await;
    assert!(bad.abort, "1.5 % went on");
    let why = bad.message.unwrap();
    assert!(why.contains("error-ratio"), "{why}");
    println!("1.5 %: {why}");
    load.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_p95_that_has_grown_too_much_asks_a_person() {
    // 1.6 times as slow, beyond bounds of the histogram that are 1.5 times each other (0.5 and 0.75 s).
    let manifest = |version: &str, millis: &str| {
        let pods = pods(version, &[("LATENCY_MS", millis)]);
        apps::rollout(pods, measured("p95-growth")) + &latency()
    };
    let platform = apps::started(&manifest("v1", "480")).await;
    let visitors = Visitors::start(platform.gateway().await, HOST);
    platform.apply(&manifest("v2", "768")).await;
    let asked = rollout_until(&platform, "a decision", |s| {
        is_healthy(s) || s.abort || s.pause_conditions.is_some()
    })
    .await;
    let reasons = asked.pause_conditions.unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().map(|c| c.reason).collect();
    assert_eq!(reasons, [PauseReason::InconclusiveAnalysisRun]);
    println!("P95 + 60 %: {:?}", asked.message);
    // A person says no.
    platform.serin(&["rollout", "abort", "shop"]).await;
    rollout_until(&platform, "0 %", |s| {
        s.abort && served_percent(s) == Some(0)
    })
    .await;
    visitors.stop().await.assert_none_failed();
}
