//! Releases as they are foretold.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use serin_api::release;
use serin_api::rollout::RolloutSpec;
use serin_engine::rollout::{Forecast, Governed, Outset, forecast};
use serin_engine::sim::{Leg, Scenario, analysis_templates, course, manifest};

fn spec(version: &str, strategy: Value) -> RolloutSpec {
    let labels = json!({"app": "web"});
    let container = json!({"name": "web", "image": format!("web:{version}")});
    let spec = json!({
        "replicas": 4, "selector": {"matchLabels": labels}, "strategy": strategy,
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    });
    serde_json::from_value(spec).unwrap_or_default()
}

fn foretell(
    stable: Option<&str>,
    strategy: &Value,
    policy: Value,
) -> Result<Forecast, Vec<String>> {
    let wanted = spec("2", strategy.clone());
    let template = json!({"metrics": [{"name": "errors", "interval": "30s", "count": 5, "provider": {"serin": {"metric": "error-ratio"}}}]});
    let template = serde_json::from_value(template).unwrap_or_default();
    let (policy, _) = release::lower(&serde_json::from_value(policy).unwrap_or_default());
    forecast(&Outset {
        name: "web",
        stable: stable.and_then(|version| spec(version, json!({})).template),
        wanted: &wanted,
        object: Value::Null,
        governed: Governed {
            policy,
            ..Governed::default()
        },
        templates: [((false, "errors".to_owned()), template)].into(),
        now: "2026-11-28T12:00:00Z".parse().unwrap_or_default(),
    })
}

fn check(stable: Option<&str>, strategy: &Value, policy: Value, expected: Expect) {
    let text = match foretell(stable, strategy, policy) {
        Err(problems) => problems.join("\n"),
        Ok(told) => shown(&told),
    };
    expected.assert_eq(&text);
}

fn shown(told: &Forecast) -> String {
    let lines = told.stages.iter().map(|s| {
        let waits = s.waits.iter().map(|w| format!("{} {:?}", w.what, w.lasts));
        let waits = waits.collect::<Vec<_>>().join(", ");
        let step = s.step.map_or_else(|| "-".to_owned(), |n| n.to_string());
        format!(
            "+{:?} {step} {}: {}/{} {} % extra {}; {waits}\n",
            s.begins, s.what, s.old, s.new, s.share_percent, s.extra
        )
    });
    let end = format!(
        "{:?}, {} persons, {} extra\n",
        told.shortest, told.persons, told.most_extra
    );
    lines.collect::<String>() + &end
}

fn canary(more: Value) -> Value {
    let steps = json!([
        {"setWeight": 25}, {"analysis": {"templates": [{"templateName": "errors"}]}},
        {"pause": {"duration": "10m"}}, {"setWeight": 50}, {"pause": {}},
    ]);
    let mut canary = json!({"steps": steps});
    if let (Value::Object(canary), Value::Object(more)) = (&mut canary, more) {
        canary.extend(more);
    }
    json!({ "canary": canary })
}

fn routed() -> Value {
    canary(json!({
        "stableService": "stable", "canaryService": "canary",
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
    }))
}

#[test]
fn canaries() {
    check(
        Some("1"),
        &routed(),
        json!({}),
        expect![[r#"
        +0s 1 set weight 25 %: 4/1 25 % extra 1; 
        +0s 2 analysis: 4/1 25 % extra 1; an analysis Some(2m)
        +2m 3 pause 10m: 4/1 25 % extra 1; a pause Some(10m)
        +12m 4 set weight 50 %: 4/2 50 % extra 2; 
        +12m 5 pause: 4/2 50 % extra 2; a pause step None
        +12m - promotion: 4/4 100 % extra 4; 
        12m, 1 persons, 4 extra
    "#]],
    );
    check(
        Some("1"),
        &canary(json!({"maxSurge": 1})),
        json!({}),
        expect![[r#"
            +0s 1 set weight 25 %: 3/1 25 % extra 0; 
            +0s 2 analysis: 3/1 25 % extra 0; an analysis Some(2m)
            +2m 3 pause 10m: 3/1 25 % extra 0; a pause Some(10m)
            +12m 4 set weight 50 %: 2/2 50 % extra 0; 
            +12m 5 pause: 2/2 50 % extra 0; a pause step None
            +12m - promotion: 0/4 100 % extra 0; 
            12m, 1 persons, 0 extra
        "#]],
    );
    check(
        None,
        &routed(),
        json!({}),
        expect![[r#"
            +0s - first release: 0/4 100 % extra 0; 
            0s, 0 persons, 0 extra
        "#]],
    );
    check(
        Some("2"),
        &routed(),
        json!({}),
        expect![[r#"
        0s, 0 persons, 0 extra
    "#]],
    );
}

#[test]
fn a_policy_shows() {
    let policy = json!({
        "bake": {"duration": "15m"}, "gates": [{"name": "board", "before": "start"}],
        "freeze": [{"name": "noon", "schedule": "0 12 * * *", "duration": "1h"}],
    });
    let strategy = json!({"blueGreen": {"activeService": "active", "autoPromotionEnabled": false}});
    check(
        Some("1"),
        &strategy,
        policy,
        expect![[r#"
            +0s - preview: 4/4 0 % extra 4; the end of the freeze "noon" Some(1h), gate "board" None, the switch must be promoted None
            +1h - switch: 4/4 100 % extra 4; the bake Some(15m)
            1h 15m, 2 persons, 4 extra
        "#]],
    );
}

#[test]
fn what_cannot_be_carried_out_is_told() {
    let steps =
        json!({"canary": {"steps": [{"analysis": {"templates": [{"templateName": "no"}]}}]}});
    check(
        Some("1"),
        &steps,
        json!({}),
        expect![[r#"spec.strategy.canary.steps[0].analysis: AnalysisTemplate "no" not found"#]],
    );
    check(
        Some("1"),
        &json!({}),
        json!({}),
        expect!["spec.strategy: Required value: give one of canary and blueGreen"],
    );
}

/// What is foretold is what happens: the numbers of each step are those of a quiet run of the simulator.
#[test]
fn a_forecast_is_what_a_quiet_release_does() {
    for scenario in Scenario::ALL {
        let wanted = manifest(scenario, 2);
        let foretold = forecast(&Outset {
            name: "web",
            stable: manifest(scenario, 1).template,
            wanted: &wanted,
            object: Value::Null,
            governed: Governed {
                policy: scenario.policy(),
                ..Governed::default()
            },
            templates: analysis_templates(),
            now: "2026-11-28T12:00:00Z".parse().unwrap_or_default(),
        });
        let mut foretold: Vec<_> = foretold
            .unwrap_or_default()
            .stages
            .iter()
            .map(|stage| Leg {
                step: stage.step,
                old: stage.old,
                new: stage.new,
                share_percent: stage.share_percent,
            })
            .collect();
        if scenario == Scenario::BlueGreen {
            // Its two stages are one step.
            foretold.remove(0);
        }
        let happens = course(scenario).map_err(|failure| failure.what);
        assert_eq!(Ok(foretold), happens, "{scenario:?}");
    }
}
